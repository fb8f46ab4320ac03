//! Unpacking an archive as it comes from a container.

use super::paths::{self, Spec};
use super::{Copy, Far, Note, far};
use crate::channels::Streams;
use crate::exec;
use crate::terminal;
use coxctl_kit::{Cluster, Error, Result, out};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use tar::{Archive, Entry, EntryType};

/// Pieces of the archive that may wait to be unpacked.
const WAITING: usize = 16;

/// Copies a file or directory of a container to a path.
///
/// # Errors
/// As kubectl's.
pub async fn download(cluster: &Cluster, args: &Copy, from: &Spec, to: &Path) -> Result<()> {
    let far = far(cluster, args, from, Note::Out).await?;
    let source = paths::remote(&from.file);
    let job = Unpacking {
        prefix: paths::without_shortcuts(&paths::clean(source.trim_start_matches('/'))),
        to: to.to_path_buf(),
        hint: format!(
            "(consider using \"coxctl exec -n {:?} {:?} -- tar cf - {source:?} | tar xf -\")",
            from.namespace, from.pod
        ),
    };
    let (pieces, archive) = mpsc::sync_channel(WAITING);
    let unpacking = tokio::task::spawn_blocking(move || job.run(Pieces { archive, rest: Vec::new(), at: 0 }));
    let sending = send(cluster, args, &far, &source, pieces);
    tokio::pin!(sending, unpacking);
    let unpacked = tokio::select! {
        // The end of the archive is the end of the copy, however the far program ends after it.
        unpacked = &mut unpacking => unpacked,
        sent = &mut sending => match sent {
            Err((error @ Error::Code(..), 0)) => return Err(error),
            Err((Error::Code(..), _)) | Ok(_) => unpacking.await,
            Err((error, _)) => return Err(error),
        }
    };
    let failed = |error: &dyn std::fmt::Display| Error::message(error.to_string());
    unpacked.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

/// Has the archive packed and sent; when that breaks off, from where it broke off, as often as wished. How many bytes
/// arrived is told either way.
async fn send(
    cluster: &Cluster,
    args: &Copy,
    far: &Far,
    source: &str,
    pieces: SyncSender<Vec<u8>>,
) -> Result<u64, (Error, u64)> {
    let counted = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut tries = 0;
    loop {
        let sent = counted.load(std::sync::atomic::Ordering::Relaxed);
        let command = match args.retries {
            0 => ["tar", "cf", "-", source].map(str::to_string).to_vec(),
            _ => vec!["sh".into(), "-c".into(), format!("tar cf - {source} | tail -c+{}", sent + 1)],
        };
        let call = exec::call(&far.pod, &far.container, &command, false, false);
        let (pieces, counter) = (pieces.clone(), counted.clone());
        let stdout: crate::channels::Write = Box::new(move |data| {
            counter.fetch_add(data.len() as u64, std::sync::atomic::Ordering::Relaxed);
            // Nobody takes pieces any more once the archive has ended.
            let _ = pieces.send(data.to_vec());
            Ok(())
        });
        let streams = Streams { stdin: None, stdout, stderr: terminal::stdout(), sizes: None };
        match exec::pipe(cluster, &call, streams).await {
            Err(error @ (Error::Unreachable(_) | Error::Message(_)))
                if args.retries < 0 || tries < args.retries =>
            {
                tries += 1;
                let sent = counted.load(std::sync::atomic::Ordering::Relaxed);
                out::line(&format!("Resuming copy at {sent} bytes, retry {tries}/{}", args.retries));
                tracing::debug!("the copy broke off: {error}");
            }
            ended => {
                let sent = counted.load(std::sync::atomic::Ordering::Relaxed);
                return ended.map(|()| sent).map_err(|error| (error, sent));
            }
        }
    }
}

/// The archive as a reader.
struct Pieces {
    archive: Receiver<Vec<u8>>,
    rest: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.rest.len() {
            let Ok(piece) = self.archive.recv() else { return Ok(0) };
            (self.rest, self.at) = (piece, 0);
        }
        let rest = self.rest.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

struct Unpacking {
    /// What all names in the archive begin with.
    prefix: String,
    to: PathBuf,
    hint: String,
}

impl Unpacking {
    fn run(&self, archive: impl Read) -> io::Result<()> {
        let mut archive = Archive::new(archive);
        let mut warned = false;
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            let Some(rest) = name.strip_prefix(&self.prefix) else {
                return Err(io::Error::other("tar contents corrupted"));
            };
            let inner = paths::clean(&format!("./{}", rest.trim_start_matches('/')));
            if inner == ".." || inner.starts_with("../") {
                let shown = self.to.join(&inner);
                out::note(&format!(
                    "warning: file {:?} is outside target destination, skipping",
                    shown.display().to_string()
                ));
                continue;
            }
            let place = if inner == "." { self.to.clone() } else { self.to.join(inner) };
            self.place(&mut entry, &place, &mut warned)?;
        }
        Ok(())
    }

    fn place<R: Read>(&self, entry: &mut Entry<'_, R>, place: &Path, warned: &mut bool) -> io::Result<()> {
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(|cause| named("mkdir", parent, &cause))?;
        }
        match entry.header().entry_type() {
            EntryType::Directory => {
                std::fs::create_dir_all(place).map_err(|cause| named("mkdir", place, &cause))
            }
            EntryType::Symlink => {
                let link = entry.link_name()?.map(|link| link.display().to_string()).unwrap_or_default();
                let hint = if *warned { String::new() } else { format!(" {}", self.hint) };
                *warned = true;
                out::note(&format!(
                    "warning: skipping symlink: {:?} -> {link:?}{hint}",
                    place.display().to_string()
                ));
                Ok(())
            }
            _ => {
                let mut file = std::fs::File::create(place).map_err(|cause| named("open", place, &cause))?;
                io::copy(entry, &mut file).map(|_| ())
            }
        }
    }
}

/// A failure with what was tried, as Go words it.
fn named(verb: &str, path: &Path, cause: &io::Error) -> io::Error {
    let why = match cause.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(errno) => errno.desc().to_lowercase(),
        None => cause.to_string(),
    };
    io::Error::other(format!("{verb} {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)]) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            // set_path refuses what a hostile archive may hold.
            let bytes = name.as_bytes();
            header.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
            header.set_cksum();
            archive.append(&header, text.as_bytes())?;
        }
        archive.into_inner()
    }

    #[test]
    fn only_what_belongs_there_is_written() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let job = |prefix: &str| Unpacking {
            prefix: prefix.into(),
            to: dir.path().join("out"),
            hint: String::new(),
        };
        job("etc/conf").run(
            archive(&[("etc/conf/a", "1"), ("etc/conf/b/c", "2"), ("etc/conf/../../../evil", "3")])?
                .as_slice(),
        )?;
        assert_eq!(std::fs::read_to_string(dir.path().join("out/a"))?, "1");
        assert_eq!(std::fs::read_to_string(dir.path().join("out/b/c"))?, "2");
        assert!(!dir.path().join("evil").exists());
        let other = job("etc/conf").run(archive(&[("other", "x")])?.as_slice());
        assert_eq!(other.map_err(|error| error.to_string()), Err("tar contents corrupted".into()));
        Ok(())
    }

    #[test]
    fn a_single_file_takes_the_name_given() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let job = Unpacking { prefix: "etc/hosts".into(), to: dir.path().join("here"), hint: String::new() };
        job.run(archive(&[("etc/hosts", "text")])?.as_slice())?;
        assert_eq!(std::fs::read_to_string(dir.path().join("here"))?, "text");
        Ok(())
    }
}
