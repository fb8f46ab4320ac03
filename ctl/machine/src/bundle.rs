//! Offline bundles: programs, units and images of one version in one archive with checksums.

mod images;
mod install;
mod pack;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use flate2::read::GzDecoder;
use ring::digest::{Context as Hash, SHA256};
use serde::{Deserialize, Serialize};

pub use images::import_images;
pub use install::{current, install, switch, versions};
pub use pack::pack;

/// Name of the first member.
const INDEX: &str = "bundle.json";
/// An index is small; a larger one is not ours.
const INDEX_LIMIT: u64 = 4 << 20;

/// What a bundle holds, its first member `bundle.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Our own version, by which bundles are compared.
    pub version: String,
    /// The Kubernetes version it serves.
    pub kubernetes: String,
    /// Every member but the index.
    pub files: Vec<Member>,
    /// References of the images inside.
    pub images: Vec<String>,
}

/// One member of a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `bin/NAME`, `units/NAME.service` or `images/NAME.tar`.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// Checksum in hex.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Of an image archive: references and the image's id (checksum of its configuration).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
}

/// A bundle whose checksums were verified.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The archive.
    pub file: PathBuf,
    /// What is inside.
    pub index: Index,
}

/// What to make a bundle of.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Directory of programs.
    pub bin_dir: PathBuf,
    /// Directory of image archives (`*.tar`).
    pub images: Option<PathBuf>,
    /// Version of ours.
    pub version: String,
    /// The Kubernetes version.
    pub kubernetes: String,
    /// Archive to write.
    pub out: PathBuf,
}

/// Opens and verifies every member's checksum.
///
/// # Errors
/// When it can't be read or a member is damaged, naming it.
pub fn open(file: &Path) -> Result<Bundle> {
    let index = verify(file).with_context(|| format!("bundle {}", file.display()))?;
    Ok(Bundle { file: file.into(), index })
}

/// Calls `each` for the members in order until it says that it has enough.
fn walk(
    file: &Path,
    mut each: impl FnMut(&Member, &mut dyn Read) -> Result<ControlFlow<()>>,
) -> Result<Index> {
    let opened = File::open(file).context("opening it")?;
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::with_capacity(1 << 18, opened)));
    let mut entries = archive.entries().context("it is not a bundle")?;
    let first =
        entries.next().context("it is empty")?.context("it is not a bundle, or its beginning is damaged")?;
    let index = read_index(first)?;
    let mut last = INDEX.to_string();
    for entry in entries {
        let mut entry = entry.with_context(|| format!("damaged or cut off after {last}"))?;
        last = entry.path().context("a member without a name")?.display().to_string();
        let member = index.files.iter().find(|m| m.path == last);
        let member = member.with_context(|| format!("{last} is not in its index"))?;
        if each(member, &mut entry)?.is_break() {
            break;
        }
    }
    Ok(index)
}

fn read_index(entry: tar::Entry<'_, impl Read>) -> Result<Index> {
    ensure!(
        entry.path().is_ok_and(|p| p.as_os_str() == INDEX),
        "it is not a bundle: it does not begin with {INDEX}"
    );
    let mut text = Vec::new();
    entry.take(INDEX_LIMIT).read_to_end(&mut text).with_context(|| format!("{INDEX} is damaged"))?;
    let index: Index = serde_json::from_slice(&text).with_context(|| format!("{INDEX} is damaged"))?;
    ensure!(is_version(&index.version), "{:?} is not a version", index.version);
    for member in &index.files {
        ensure!(is_member(&member.path), "{:?} may not be in a bundle", member.path);
    }
    Ok(index)
}

/// A version becomes the name of a directory.
fn is_version(version: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".+-_".contains(c);
    !version.is_empty()
        && version.len() < 100
        && version.chars().all(plain)
        && !version.starts_with(['.', '-'])
}

/// A directory that we know, and a plain name.
fn is_member(path: &str) -> bool {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    let known = ["bin", "units", "images"];
    match parts.as_slice() {
        [Component::Normal(dir), Component::Normal(name)] => {
            let name = name.to_string_lossy();
            known.iter().any(|k| dir == k) && !name.starts_with('.') && path.matches('/').count() == 1
        }
        _ => false,
    }
}

fn verify(file: &Path) -> Result<Index> {
    let mut seen = BTreeSet::new();
    let index = walk(file, |member, data| {
        check(member, data, &mut std::io::sink())?;
        seen.insert(member.path.clone());
        Ok(ControlFlow::Continue(()))
    })?;
    match index.files.iter().find(|m| !seen.contains(&m.path)) {
        Some(gone) => bail!("{} is missing: the archive was cut off", gone.path),
        None => Ok(index),
    }
}

/// Copies a member and compares its checksum.
fn check(member: &Member, data: &mut dyn Read, to: &mut dyn std::io::Write) -> Result<()> {
    let mut hash = Hash::new(&SHA256);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length =
            data.read(&mut buffer).with_context(|| format!("{} is damaged or cut off", member.path))?;
        let Some(part) = buffer.get(..length).filter(|p| !p.is_empty()) else { break };
        hash.update(part);
        to.write_all(part).with_context(|| format!("writing {}", member.path))?;
    }
    let sum = hex::encode(hash.finish());
    ensure!(sum == member.sha256, "{} is damaged: its checksum is {sum}, not {}", member.path, member.sha256);
    Ok(())
}

/// Bundles for machines without internet
#[derive(Debug, Clone, Subcommand)]
pub enum BundleCommand {
    /// Write a bundle
    Create {
        /// Directory of the programs
        #[arg(long)]
        bin_dir: PathBuf,
        /// Directory of image archives
        #[arg(long)]
        images: Option<PathBuf>,
        /// Version of the bundle [default: this program's]
        #[arg(long)]
        version: Option<String>,
        /// Kubernetes version of the daemons inside
        #[arg(long, default_value = "v1.36.2")]
        kubernetes_version: String,
        /// Archive to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Check every checksum
    Verify { file: PathBuf },
    /// List what is inside
    List { file: PathBuf },
}

/// Runs a bundle command; the exit code is what is returned.
///
/// # Errors
/// In a sentence for the user.
pub async fn run(command: BundleCommand) -> Result<i32> {
    tokio::task::spawn_blocking(move || run_blocking(command)).await.context("the work was given up")?
}

fn run_blocking(command: BundleCommand) -> Result<i32> {
    match command {
        BundleCommand::Create { bin_dir, images, version, kubernetes_version, out } => {
            let version = version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_string());
            let index =
                pack(&Spec { bin_dir, images, version, kubernetes: kubernetes_version, out: out.clone() })?;
            println!("{}: {}", out.display(), summary(&index));
        }
        BundleCommand::Verify { file } => {
            let bundle = open(&file)?;
            println!("{}: {}; all checksums are right", file.display(), summary(&bundle.index));
        }
        BundleCommand::List { file } => {
            let bundle = open(&file)?;
            for member in &bundle.index.files {
                println!("{:<44} {:>11} {}", member.path, member.size, member.sha256);
            }
            bundle.index.images.iter().for_each(|image| println!("image {image}"));
        }
    }
    Ok(0)
}

fn summary(index: &Index) -> String {
    let size: u64 = index.files.iter().map(|m| m.size).sum();
    format!(
        "version {}, Kubernetes {}, {} files, {} images, {} MB unpacked",
        index.version,
        index.kubernetes,
        index.files.len(),
        index.images.len(),
        size >> 20
    )
}

#[cfg(test)]
mod tests;
