//! Offline bundles: programs, units and images of one version in one archive with checksums.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::Made;

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
    anyhow::bail!("{}: not yet", file.display())
}

/// Writes a bundle; the same input gives the same bytes.
///
/// # Errors
/// When a file can't be read or written.
pub fn pack(spec: &Spec) -> Result<Index> {
    anyhow::bail!("{}: not yet", spec.out.display())
}

/// Unpacks the programs into their version's directory, whole or not at all, and returns it. Does not switch to it.
///
/// # Errors
/// When it can't be unpacked.
pub fn install(bundle: &Bundle, made: &mut Made) -> Result<PathBuf> {
    let _ = made;
    anyhow::bail!("{}: not yet", bundle.file.display())
}

/// Makes `version` the one in use, in one step; returns the one that was.
///
/// # Errors
/// When it isn't installed or the link can't be turned.
pub fn switch(version: &str, made: &mut Made) -> Result<Option<String>> {
    let _ = (version, made);
    Ok(None)
}

/// The version in use, by the link.
pub fn current() -> Option<String> {
    None
}

/// Brings the bundle's images into containerd, those that are there already aside; returns what was brought.
///
/// # Errors
/// When containerd refuses or takes too long.
pub async fn import_images(bundle: &Bundle, socket: &str) -> Result<Vec<String>> {
    let _ = (bundle, socket);
    Ok(Vec::new())
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
    let _ = command;
    Ok(0)
}
