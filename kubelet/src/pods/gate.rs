//! How many pods are being started, and sandboxes taken down, at once.
//!
//! A runtime that is asked for a hundred sandboxes at the same time makes none of them soon. So this takes turns; but
//! a turn lasts no longer than [`TURN`], for a pull, a hook or a hung call of one pod must not hold up the others.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

/// Longest time a start counts.
const TURN: Duration = Duration::from_secs(2);
/// Starts at once, per processor: making a sandbox is half waiting.
const PER_CPU: usize = 4;

/// The gate of a node.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

/// A turn; it ends when dropped, or by the clock.
#[derive(Debug)]
pub struct Turn(AbortHandle);

impl Default for Gate {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        Self(Arc::new(Semaphore::new(cpus * PER_CPU)))
    }
}

impl Gate {
    /// Waits for a turn, first come first served.
    pub async fn enter(&self) -> Turn {
        let permit = self.0.clone().acquire_owned().await.ok();
        Turn(tokio::spawn(hold(permit)).abort_handle())
    }
}

async fn hold(_permit: Option<OwnedSemaphorePermit>) {
    tokio::time::sleep(TURN).await;
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_end_when_dropped_or_by_the_clock() {
        let gate = Gate(Arc::new(Semaphore::new(1)));
        let first = gate.enter().await;
        let soon = Duration::from_millis(100);
        assert!(tokio::time::timeout(soon, gate.enter()).await.is_err());
        drop(first);
        let hung = tokio::time::timeout(soon, gate.enter()).await;
        assert!(hung.is_ok());
        assert!(tokio::time::timeout(TURN * 2, gate.enter()).await.is_ok());
    }
}
