//! Images inside a bundle: which they are, and bringing them into containerd.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::{Bundle, Member, check, walk};
use crate::cri;

/// Time containerd has for one archive.
const IMPORT: Duration = Duration::from_secs(180);
/// Descriptions inside an archive are small.
const TEXT_LIMIT: u64 = 4 << 20;

/// Brings the bundle's images into containerd, those that are there already aside; returns what was brought.
///
/// # Errors
/// When containerd refuses or takes too long.
pub async fn import_images(bundle: &Bundle, socket: &str) -> Result<Vec<String>> {
    let mut wanted = Vec::new();
    for member in bundle.index.files.iter().filter(|m| m.path.starts_with("images/")) {
        if !all_there(socket, member).await? {
            wanted.push(member.path.clone());
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = cri::version(socket).await?;
    ensure!(
        runtime.name == "containerd",
        "images of a bundle can be brought into containerd only, not into {}: load {} by its own means",
        runtime.name,
        wanted.join(", ")
    );
    let (file, address) = (bundle.file.clone(), cri::path(socket));
    tokio::task::spawn_blocking(move || import(&file, &address, &wanted))
        .await
        .context("the import was given up")?
}

async fn all_there(socket: &str, member: &Member) -> Result<bool> {
    for (reference, id) in &member.images {
        if cri::image_id(socket, reference).await?.as_ref() != Some(id) {
            return Ok(false);
        }
    }
    Ok(!member.images.is_empty())
}

fn import(bundle: &Path, address: &Path, wanted: &[String]) -> Result<Vec<String>> {
    let mut brought = Vec::new();
    walk(bundle, |member, data| {
        if wanted.contains(&member.path) {
            let mut command = Command::new("ctr");
            command.arg("--address").arg(address).args(["--namespace", "k8s.io", "images", "import", "-"]);
            feed(command, member, data, IMPORT).with_context(|| format!("importing {}", member.path))?;
            brought.extend(member.images.keys().cloned());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(brought)
}

/// Feeds a member to a program; kills it when it takes too long.
fn feed(mut command: Command, member: &Member, data: &mut dyn Read, limit: Duration) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {name}"))?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let late = waits.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        late
    });
    let mut input = child.stdin.take().context("no way to feed it")?;
    let fed = check(member, data, &mut input);
    drop(input);
    let output = child.wait_with_output();
    drop(done);
    if watch.join().unwrap_or_default() {
        bail!("{name} took longer than {limit:?}");
    }
    let output = output?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    fed
}

/// References and image ids (checksum of the configuration) in an archive of `docker save` or of the OCI.
///
/// # Errors
/// When it is no image archive.
pub fn of_archive(path: &Path) -> Result<BTreeMap<String, String>> {
    let what = || format!("{} is not an image archive", path.display());
    let texts = texts(path).with_context(what)?;
    let images = match texts.get("manifest.json") {
        Some(manifest) => docker(manifest, &texts),
        None => oci(&texts),
    };
    let images = images.with_context(what)?;
    ensure!(!images.is_empty(), "{} names no image", path.display());
    Ok(images)
}

/// All small members.
fn texts(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut archive = tar::Archive::new(file);
    let mut all = BTreeMap::new();
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        if entry.size() > TEXT_LIMIT || !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path()?.display().to_string().trim_start_matches("./").to_string();
        let mut text = Vec::new();
        entry.read_to_end(&mut text)?;
        // A layer may be small too, but nobody asks for it by name.
        all.insert(name, text);
    }
    Ok(all)
}

fn id_of(config: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest(&SHA256, config)))
}

fn docker(manifest: &[u8], texts: &BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, String>> {
    let images: Vec<Value> = serde_json::from_slice(manifest).context("manifest.json")?;
    let mut all = BTreeMap::new();
    for image in &images {
        let config = image["Config"]
            .as_str()
            .and_then(|name| texts.get(name))
            .context("its configuration is missing")?;
        let tags = image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.extend(tags.map(|tag| (tag.to_string(), id_of(config))));
    }
    Ok(all)
}

fn oci(texts: &BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, String>> {
    let index: Value =
        serde_json::from_slice(texts.get("index.json").context("no manifest.json and no index.json")?)?;
    let mut all = BTreeMap::new();
    for manifest in index["manifests"].as_array().into_iter().flatten() {
        let notes = &manifest["annotations"];
        let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
            .iter()
            .find_map(|n| notes[n].as_str());
        let (Some(name), Some(digest)) = (name, manifest["digest"].as_str()) else { continue };
        let text =
            texts.get(&format!("blobs/{}", digest.replace(':', "/"))).context("a manifest is missing")?;
        let inner: Value = serde_json::from_slice(text)?;
        all.insert(name.to_string(), inner["config"]["digest"].as_str().unwrap_or_default().to_string());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &str)]) -> Result<tempfile::NamedTempFile> {
        let file = tempfile::NamedTempFile::new()?;
        let mut builder = tar::Builder::new(file.reopen()?);
        for (name, text) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_entry_type(tar::EntryType::Regular);
            builder.append_data(&mut header, name, text.as_bytes())?;
        }
        builder.finish()?;
        Ok(file)
    }

    #[test]
    fn references_and_ids() -> Result<()> {
        let file = archive(&[
            ("layer.tar", "x"),
            ("config.json", "{}"),
            (
                "manifest.json",
                r#"[{"Config":"config.json","RepoTags":["a/b:1","a/c:2"],"Layers":["layer.tar"]}]"#,
            ),
        ])?;
        let id = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".to_string();
        let want = BTreeMap::from([("a/b:1".to_string(), id.clone()), ("a/c:2".to_string(), id)]);
        assert_eq!(of_archive(file.path())?, want);
        let file = archive(&[
            (
                "index.json",
                r#"{"manifests":[{"digest":"sha256:m","annotations":{"io.containerd.image.name":"x/y:1"}}]}"#,
            ),
            ("blobs/sha256/m", r#"{"config":{"digest":"sha256:c"}}"#),
        ])?;
        assert_eq!(of_archive(file.path())?, BTreeMap::from([("x/y:1".to_string(), "sha256:c".to_string())]));
        let file = archive(&[("readme", "hello")])?;
        assert!(of_archive(file.path()).is_err());
        Ok(())
    }

    #[test]
    fn feeding_says_what_went_wrong() -> Result<()> {
        let member = |text: &str| Member {
            path: "images/a.tar".into(),
            sha256: hex::encode(digest(&SHA256, text.as_bytes())),
            ..Member::default()
        };
        let run = |script: &str, limit| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            feed(command, &member("data"), &mut "data".as_bytes(), limit).map_err(|e| format!("{e:#}"))
        };
        let long = Duration::from_secs(20);
        assert_eq!(run("cat > /dev/null", long), Ok(()));
        assert_eq!(run("cat > /dev/null; echo no room >&2; exit 1", long), Err("/bin/sh: no room".into()));
        let error = run("exec sleep 60", Duration::from_millis(20)).unwrap_err();
        assert!(error.contains("took longer than 20ms"), "{error}");
        Ok(())
    }
}
