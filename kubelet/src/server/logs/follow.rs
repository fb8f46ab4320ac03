//! Waiting for a log file to change, by inotify, and for its container to end.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Tells whether the container still runs. Both are asked in turn: `ended`, then `changed` to wait.
pub trait Follow: Send {
    /// Has the container ended, as known now?
    fn ended(&mut self) -> bool;
    /// Returns when `ended` may answer differently.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// A container that never ends (or a reader that does not follow).
pub struct Never;

impl Follow for Never {
    fn ended(&mut self) -> bool {
        false
    }

    async fn changed(&mut self) {
        std::future::pending().await
    }
}

/// AsyncFd wants the raw descriptor, nix gives only the safe one.
struct Watcher(Inotify);

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// An inotify watch on a file and on its directory, where a rotation shows.
pub struct FileWatch {
    inotify: AsyncFd<Watcher>,
}

impl FileWatch {
    /// Begins to watch.
    // The newer constructor is unsafe; Watcher owns its descriptor, which is all it asks for.
    #[allow(deprecated)]
    pub fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut watch = Self { inotify: AsyncFd::with_interest(Watcher(inotify), Interest::READABLE)? };
        watch.renew(path)?;
        Ok(watch)
    }

    /// Watches the file that the path names now. Adding a watch twice changes nothing.
    pub fn renew(&mut self, path: &Path) -> io::Result<()> {
        // A link (as dockerd's logs are) is followed to where the writing happens; the link's directory counts too.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
        let inotify = &self.inotify.get_ref().0;
        inotify.add_watch(&real, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE)?;
        let created = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        for dir in [real.parent(), path.parent()].into_iter().flatten() {
            inotify.add_watch(dir, created)?;
        }
        Ok(())
    }

    /// Returns after something happened. What happened is for the caller to see.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.try_io(|fd| fd.get_ref().0.read_events().map_err(io::Error::from)) {
                Ok(events) => return events.map(|_| ()),
                Err(_would_block) => {}
            }
        }
    }
}
