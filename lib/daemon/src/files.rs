//! Waiting for files to change, by inotify.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime, to wait until it can be read.
///
/// # Errors
/// When the kernel cannot wait on this kind of descriptor.
#[allow(unsafe_code)]
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same until it is dropped, which is all that is asked for.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Tells that something in a directory came, went or was written. Replacing a file by renaming another over it shows
/// too, and so does a mounted ConfigMap's change, which swaps a symbolic link beside the file.
pub struct DirWatch {
    inotify: Inotify,
    ready: AsyncFd<OwnedFd>,
}

impl DirWatch {
    /// Watches from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the directory is not there or the machine has no watches left.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let what = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(dir, what)?;
        let ready = readable(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { inotify, ready })
    }

    /// Waits for the next change; all that happened up to now count as one.
    ///
    /// # Errors
    /// When the directory itself is gone, and with it the watch.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.ready.readable().await?;
            match ready.try_io(|_| Ok(self.inotify.read_events()?)) {
                Ok(Ok(events)) => return alive(&events),
                Ok(Err(e)) if e.raw_os_error() == Some(Errno::EINTR as i32) => {}
                Ok(Err(e)) => return Err(e),
                Err(_not_yet) => {}
            }
        }
    }
}

/// Waits until there is something at `path`, which may be a while: directories on the way to it need not be there yet.
///
/// # Errors
/// When a directory that is there cannot be watched.
pub async fn appear(path: &Path) -> io::Result<()> {
    loop {
        let dir = nearest(path);
        let watch = DirWatch::new(&dir)?;
        if path.exists() {
            return Ok(());
        }
        if nearest(path) == dir {
            // An error means that this directory went; then another one is the nearest
            let _ = watch.changed().await;
        }
    }
}

/// The directory that is there and closest to the file.
fn nearest(path: &Path) -> PathBuf {
    let mut above = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty());
    above.find(|p| p.is_dir()).unwrap_or(Path::new(".")).to_owned()
}

fn alive(events: &[InotifyEvent]) -> io::Result<()> {
    if events.iter().any(|e| e.mask.contains(AddWatchFlags::IN_IGNORED)) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the watched directory is gone"));
    }
    Ok(())
}

/// Tells that a file's content became another than it was at the beginning.
pub struct FileWatch {
    path: PathBuf,
    content: Option<Vec<u8>>,
    dir: DirWatch,
}

impl FileWatch {
    /// Reads the file and watches its directory.
    ///
    /// # Errors
    /// When the directory cannot be watched.
    pub fn new(path: &Path) -> io::Result<Self> {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Watched first, so that no change falls between
        let dir = DirWatch::new(parent)?;
        Ok(Self { path: path.to_owned(), content: std::fs::read(path).ok(), dir })
    }

    /// Waits for other content. A file that is missing for a while is not a change.
    ///
    /// # Errors
    /// When its directory is gone.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            self.dir.changed().await?;
            let now = std::fs::read(&self.path).ok();
            if now.is_some() && now != self.content {
                self.content = now;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_replaced_file_is_noticed_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, "a").unwrap();
        let mut watch = FileWatch::new(&path).unwrap();
        std::fs::write(dir.path().join("other"), "x").unwrap();
        std::fs::write(&path, "a").unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), watch.changed()).await.is_err());
        std::fs::write(dir.path().join("new"), "b").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_file_is_awaited_through_directories_to_come() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pki/deep/current.pem");
        let awaited = path.clone();
        let waiting = tokio::spawn(async move { appear(&awaited).await });
        tokio::task::yield_now().await;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        tokio::task::yield_now().await;
        std::fs::write(path.with_file_name("real.pem"), "x").unwrap();
        assert!(!waiting.is_finished());
        std::os::unix::fs::symlink("real.pem", &path).unwrap();
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
        appear(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_directory_that_goes_ends_the_watch() {
        let dir = tempfile::tempdir().unwrap();
        let watch = DirWatch::new(dir.path()).unwrap();
        drop(dir);
        let end = async { while watch.changed().await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(5), end).await.unwrap();
        assert!(DirWatch::new(Path::new("/nonexistent")).is_err());
    }
}
