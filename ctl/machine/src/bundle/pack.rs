//! Writing a bundle.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::digest::{Context as Hash, SHA256};

use super::{INDEX, Index, Member, Spec, images, is_version};
use crate::files;
use crate::services::UNITS;

/// Programs a bundle must hold.
const PROGRAMS: [&str; 8] = [
    "coxctl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coxswain-network",
    "coxswain-balancer",
];
/// Programs it holds when they are there; without them the machine's own are used.
const OPTIONAL: [&str; 5] = ["etcd", "etcdctl", "etcdutl", "coxswain-dns", "cloud-controller-manager"];

/// Where a member's bytes come from.
enum Source {
    File(PathBuf),
    Text(&'static str),
}

/// Writes a bundle; the same input gives the same bytes.
///
/// # Errors
/// When a program is missing or a file can't be read or written.
pub fn pack(spec: &Spec) -> Result<Index> {
    ensure!(
        is_version(&spec.version),
        "{:?} can't be a version: letters, digits and .+-_ only",
        spec.version
    );
    let sources = sources(spec)?;
    let mut index =
        Index { version: spec.version.clone(), kubernetes: spec.kubernetes.clone(), ..Index::default() };
    for (path, source) in &sources {
        index.files.push(describe(path, source)?);
    }
    index.images = index.files.iter().flat_map(|m| m.images.keys().cloned()).collect();
    let partial = files::partial(&spec.out);
    write(&partial, &index, &sources).with_context(|| format!("writing {}", spec.out.display()))?;
    fs::rename(&partial, &spec.out).with_context(|| format!("writing {}", spec.out.display()))?;
    Ok(index)
}

/// All members, in the order in which they are written: what is needed first comes first.
fn sources(spec: &Spec) -> Result<Vec<(String, Source)>> {
    let mut all = Vec::new();
    for name in PROGRAMS {
        let path = spec.bin_dir.join(name);
        ensure!(path.is_file(), "{name} is missing in {}", spec.bin_dir.display());
        all.push((format!("bin/{name}"), Source::File(path)));
    }
    let optional =
        OPTIONAL.iter().map(|name| (name, spec.bin_dir.join(name))).filter(|(_, path)| path.is_file());
    all.extend(optional.map(|(name, path)| (format!("bin/{name}"), Source::File(path))));
    all.extend(UNITS.iter().map(|(name, text)| (format!("units/{name}.service"), Source::Text(text))));
    if let Some(dir) = &spec.images {
        ensure!(dir.is_dir(), "there is no directory {}", dir.display());
        let archives = files::names(dir)?.into_iter().filter(|n| n.ends_with(".tar") && !n.starts_with('.'));
        all.extend(archives.map(|n| (format!("images/{n}"), Source::File(dir.join(n)))));
    }
    Ok(all)
}

fn reader(source: &Source) -> Result<(Box<dyn Read>, u64)> {
    match source {
        Source::Text(text) => Ok((Box::new(text.as_bytes()), text.len() as u64)),
        Source::File(path) => {
            let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
            let size = file.metadata()?.len();
            Ok((Box::new(BufReader::with_capacity(1 << 18, file)), size))
        }
    }
}

fn describe(path: &str, source: &Source) -> Result<Member> {
    let (mut data, size) = reader(source)?;
    let mut hash = Hash::new(&SHA256);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = data.read(&mut buffer).with_context(|| format!("reading {path}"))?;
        let Some(part) = buffer.get(..length).filter(|p| !p.is_empty()) else { break };
        hash.update(part);
    }
    let images = match source {
        Source::File(file) if path.starts_with("images/") => images::of_archive(file)?,
        _ => BTreeMap::new(),
    };
    let mode = if path.starts_with("bin/") { 0o755 } else { 0o644 };
    Ok(Member { path: path.into(), mode, sha256: hex::encode(hash.finish()), size, images })
}

fn write(out: &Path, index: &Index, sources: &[(String, Source)]) -> Result<()> {
    let file = BufWriter::with_capacity(1 << 18, File::create(out)?);
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let text = serde_json::to_vec_pretty(index)?;
    append(&mut archive, INDEX, 0o644, text.len() as u64, &mut text.as_slice())?;
    for ((path, source), member) in sources.iter().zip(&index.files) {
        let (mut data, size) = reader(source)?;
        ensure!(size == member.size, "{path} changed while it was read");
        append(&mut archive, path, member.mode, size, &mut data)?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok(())
}

/// No time and no owner, so that the same input gives the same bytes.
fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    mode: u32,
    size: u64,
    data: &mut dyn Read,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, path, data).with_context(|| format!("packing {path}"))
}
