//! Packing local files into an archive as it is sent.

use std::io::{self, Write};
use std::path::Path;
use tar::{Builder, EntryType, Header};
use tokio::sync::{mpsc, oneshot};

/// Pieces of the archive that may wait to be sent.
const WAITING: usize = 16;

/// Packs a file or directory under a name, in a thread of its own. The pieces come on the channel; then the outcome.
pub fn start(path: &str, name: &str) -> (mpsc::Receiver<Vec<u8>>, oneshot::Receiver<io::Result<()>>) {
    let (sender, pieces) = mpsc::channel(WAITING);
    let (done, outcome) = oneshot::channel();
    let (path, name) = (path.to_string(), name.to_string());
    std::thread::spawn(move || {
        let mut archive = Builder::new(io::BufWriter::with_capacity(32 * 1024, Pieces(sender)));
        let packed = pack(Path::new(&path), &name, &mut archive).and_then(|()| archive.into_inner()?.flush());
        // Nobody waits any more when the far end has given up.
        let _ = done.send(packed);
    });
    (pieces, outcome)
}

struct Pieces(mpsc::Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(data.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Directories have entries of their own only when they are empty. Links stay links.
fn pack<W: Write>(path: &Path, name: &str, archive: &mut Builder<W>) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        let mut entries = std::fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        if entries.is_empty() {
            return archive.append_dir(name, path);
        }
        for entry in entries {
            pack(&entry.path(), &format!("{name}/{}", entry.file_name().to_string_lossy()), archive)?;
        }
        return Ok(());
    }
    let mut header = Header::new_gnu();
    header.set_metadata(&metadata);
    if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        return archive.append_link(&mut header, name, std::fs::read_link(path)?);
    }
    archive.append_data(&mut header, name, std::fs::File::open(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_packed() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir_all(dir.path().join("a/empty"))?;
        std::fs::write(dir.path().join("a/f"), "text")?;
        std::os::unix::fs::symlink("f", dir.path().join("a/l"))?;
        let mut archive = Builder::new(Vec::new());
        pack(&dir.path().join("a"), "to", &mut archive)?;
        let bytes = archive.into_inner()?;
        let mut names = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries()? {
            let entry = entry?;
            names.push((entry.path()?.display().to_string(), entry.header().entry_type()));
        }
        let wanted =
            [("to/empty", EntryType::Directory), ("to/f", EntryType::Regular), ("to/l", EntryType::Symlink)];
        assert_eq!(
            names.iter().map(|(name, kind)| (name.trim_end_matches('/'), *kind)).collect::<Vec<_>>(),
            wanted
        );
        Ok(())
    }
}
