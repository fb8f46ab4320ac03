//! Container images from local files, without a network and without an engine.
//!
//! An image is one layer in a docker-archive, which containerd's importer takes. The same input gives the same bytes, so an
//! image that did not change is not loaded twice.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// What goes into one image.
#[derive(Debug, Default, Clone)]
pub struct Recipe {
    /// Full references, such as `coxswain.local/pause:1`.
    pub tags: Vec<String>,
    /// `SRC:DEST` of files; directories are not taken.
    pub files: Vec<(PathBuf, String)>,
    /// Adds the static busybox of this machine with all its applets.
    pub busybox: bool,
    /// Adds the shared libraries that the files need, found by `ldd`.
    pub libraries: bool,
    /// The command that runs.
    pub entrypoint: Vec<String>,
    /// Its default arguments, or the command where there is no entry point.
    pub cmd: Vec<String>,
    /// `uid[:gid]`, empty for root.
    pub user: String,
}

/// Writes the archive of `recipe` to `out`.
///
/// # Errors
/// When a file is missing, or `out` can't be written.
pub fn pack(recipe: &Recipe, out: &Path) -> Result<()> {
    ensure!(!recipe.tags.is_empty(), "an image needs a tag");
    let layer = layer(recipe)?;
    let config = config(recipe, &layer)?;
    let (config_name, layer_name) = (format!("{}.json", digest(&config)), format!("{}.tar", digest(&layer)));
    let manifest = serde_json::to_vec(
        &json!([{"Config": config_name, "RepoTags": recipe.tags, "Layers": [layer_name]}]),
    )?;
    let mut archive = Layer::new();
    archive.file(&layer_name, &layer, 0o644)?;
    archive.file(&config_name, &config, 0o644)?;
    archive.file("manifest.json", &manifest, 0o644)?;
    crate::pki::write_file(out, &archive.finish()?, 0o644)
}

fn config(recipe: &Recipe, layer: &[u8]) -> Result<Vec<u8>> {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    Ok(serde_json::to_vec(&json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": recipe.entrypoint, "Cmd": recipe.cmd, "Env": [path], "User": recipe.user, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))]},
    }))?)
}

fn layer(recipe: &Recipe) -> Result<Vec<u8>> {
    let mut layer = Layer::new();
    layer.dir("tmp", 0o1777)?;
    layer.dir("etc", 0o755)?;
    layer.dir("root", 0o700)?;
    layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644)?;
    layer.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)?;
    if recipe.busybox {
        add_busybox(&mut layer)?;
    }
    let mut files = recipe.files.clone();
    if recipe.libraries {
        files.extend(libraries(&recipe.files)?);
    }
    for (source, dest) in files {
        let data = std::fs::read(&source).with_context(|| format!("reading {}", source.display()))?;
        layer.file(dest.trim_start_matches('/'), &data, 0o755)?;
    }
    layer.finish()
}

fn add_busybox(layer: &mut Layer) -> Result<()> {
    let data = std::fs::read("/bin/busybox").context("reading /bin/busybox (Debian's busybox-static)")?;
    layer.file("bin/busybox", &data, 0o755)?;
    for applet in output("/bin/busybox", &["--list"])?.lines().filter(|a| *a != "busybox") {
        layer.link(&format!("bin/{applet}"), "busybox")?;
    }
    Ok(())
}

/// The libraries that `ldd` names for the given programs, each to the place the loader looks in.
fn libraries(files: &[(PathBuf, String)]) -> Result<Vec<(PathBuf, String)>> {
    let mut found = BTreeSet::new();
    for (source, _) in files {
        let text = output("ldd", &[&source.display().to_string()])?;
        let paths = text.split_whitespace().filter(|w| w.starts_with('/'));
        found.extend(paths.map(str::to_string));
    }
    Ok(found.into_iter().map(|p| (PathBuf::from(&p), p)).collect())
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program).args(args).output().with_context(|| format!("running {program}"))?;
    if !out.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn digest(data: &[u8]) -> String {
    hex::encode(Sha256::digest(data))
}

/// A tar under construction, with parents made on the way and fixed owners and times.
struct Layer {
    tar: tar::Builder<Vec<u8>>,
    made: BTreeSet<String>,
}

impl Layer {
    fn new() -> Self {
        Self { tar: tar::Builder::new(Vec::new()), made: BTreeSet::new() }
    }

    fn dir(&mut self, path: &str, mode: u32) -> Result<()> {
        if self.made.insert(path.to_string()) {
            self.append(path, EntryType::Directory, mode, &[], None)?;
        }
        Ok(())
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        let ends: Vec<usize> = path.match_indices('/').map(|(i, _)| i).collect();
        ends.into_iter().try_for_each(|end| self.dir(&path[..end], 0o755))
    }

    fn file(&mut self, path: &str, data: &[u8], mode: u32) -> Result<()> {
        self.parents(path)?;
        self.append(path, EntryType::Regular, mode, data, None)
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.parents(path)?;
        self.append(path, EntryType::Symlink, 0o777, &[], Some(target))
    }

    fn append(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        data: &[u8],
        link: Option<&str>,
    ) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        match link {
            Some(target) => self.tar.append_link(&mut header, path, target)?,
            None => self.tar.append_data(&mut header, path, data)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.tar.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_recipe_gives_the_same_bytes_and_names_its_layer() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("prog"), b"#!/bin/sh\n").unwrap();
        let recipe = Recipe {
            tags: vec!["coxswain.local/x:1".into()],
            files: vec![(dir.path().join("prog"), "/opt/bin/prog".into())],
            entrypoint: vec!["/opt/bin/prog".into()],
            ..Recipe::default()
        };
        let (a, b) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
        pack(&recipe, &a).unwrap();
        pack(&recipe, &b).unwrap();
        let bytes = std::fs::read(&a).unwrap();
        assert_eq!(bytes, std::fs::read(&b).unwrap());
        let names: Vec<String> = tar::Archive::new(&bytes[..])
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names.len(), 3);
        assert_eq!(names[2], "manifest.json");
    }

    #[test]
    fn a_missing_file_is_named() {
        let recipe = Recipe {
            tags: vec!["x/y:1".into()],
            files: vec![("/nonexistent/prog".into(), "/prog".into())],
            ..Recipe::default()
        };
        let err = pack(&recipe, Path::new("/tmp/never.tar")).unwrap_err().to_string();
        assert!(err.contains("/nonexistent/prog"), "{err}");
    }
}
