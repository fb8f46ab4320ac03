//! Backups of etcd: a snapshot streamed into a file, checked by the checksum at its end, then given its name.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::Client;
use sha2::{Digest, Sha256};

/// No part of a snapshot takes longer.
const PART: Duration = Duration::from_secs(30);
/// etcd's pages are this large, so a file with a checksum is this much longer than a number of pages.
const PAGE: u64 = 512;
const CHECKSUM: usize = 32;

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes, with the checksum.
    pub size: u64,
    /// The checksum, in hex.
    pub sha256: String,
}

/// Writes a snapshot of all data to `file`, readable by root alone. Until it is whole and verified it is called
/// `FILE.part`; what was there before stays until then.
///
/// # Errors
/// When etcd or the disk fails, or the checksum is wrong.
pub async fn save(client: &mut Client, file: &Path) -> Result<Snapshot> {
    let part = part_of(file);
    let written = stream(client, &part).await.and_then(|()| verify(&part));
    let snapshot = match written {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let _ = std::fs::remove_file(&part);
            return Err(error);
        }
    };
    std::fs::rename(&part, file).with_context(|| format!("naming {}", file.display()))?;
    sync_dir(file)?;
    Ok(snapshot)
}

fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

async fn stream(client: &mut Client, part: &Path) -> Result<()> {
    let _ = std::fs::remove_file(part);
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)
        .with_context(|| format!("writing {}", part.display()))?;
    let mut parts =
        super::client::within(PART, client.snapshot()).await.context("asking etcd for a snapshot")?;
    loop {
        let next = super::client::within(PART, parts.message()).await.context("reading the snapshot")?;
        let Some(next) = next else { break };
        out.write_all(next.blob()).with_context(|| format!("writing {}", part.display()))?;
    }
    out.sync_all().with_context(|| format!("writing {}", part.display()))
}

fn sync_dir(file: &Path) -> Result<()> {
    let dir = file.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("writing {}", dir.display()))
}

/// Checks a snapshot by the checksum at its end.
///
/// # Errors
/// When it can't be read, has no checksum, or is damaged.
pub fn verify(file: &Path) -> Result<Snapshot> {
    let what = || file.display().to_string();
    let mut input = File::open(file).with_context(what)?;
    let size = input.metadata().with_context(what)?.len();
    ensure!(
        size > PAGE && size % PAGE == CHECKSUM as u64,
        "{} is no whole snapshot of etcd ({size} bytes, without the checksum at its end)",
        file.display()
    );
    let sha256 = hex::encode(checksum(&mut input, size - CHECKSUM as u64).with_context(what)?);
    let mut wanted = [0u8; CHECKSUM];
    input.read_exact(&mut wanted).with_context(what)?;
    ensure!(
        sha256 == hex::encode(wanted),
        "{} is damaged: its checksum is not that of its content",
        file.display()
    );
    Ok(Snapshot { size, sha256 })
}

fn checksum(input: &mut File, length: u64) -> std::io::Result<[u8; CHECKSUM]> {
    let (mut hash, mut left) = (Sha256::new(), length);
    let mut buffer = vec![0u8; 1 << 20];
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (part, _) = buffer.split_at_mut(want);
        input.read_exact(part)?;
        hash.update(&*part);
        left -= want as u64;
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_snapshots_pass() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s");
        let mut data = vec![7u8; 4096];
        std::fs::write(&file, &data).unwrap();
        assert!(verify(&file).unwrap_err().to_string().contains("no whole snapshot"));
        data.extend(Sha256::digest(&data));
        std::fs::write(&file, &data).unwrap();
        assert_eq!(verify(&file).unwrap().size, 4096 + 32);
        data[100] = 0;
        std::fs::write(&file, &data).unwrap();
        assert!(verify(&file).unwrap_err().to_string().contains("damaged"));
        data.truncate(2048);
        std::fs::write(&file, &data).unwrap();
        assert!(verify(&file).is_err());
    }

    #[test]
    fn the_unfinished_file_has_another_name() {
        assert_eq!(part_of(Path::new("/b/etcd.db")), Path::new("/b/etcd.db.part"));
    }
}
