//! coxswain-local-path's command line.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use coxswain_local_path::config::Flags;
use coxswain_local_path::room;
use daemon::tasks::Tasks;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USER_AGENT: &str = concat!("coxswain-local-path/", env!("CARGO_PKG_VERSION"));

/// It waits for the API server and the disk, one thing after the other: one thread is enough.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    daemon::logging::init("coxswain-local-path", flags.v);
    match start(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(flags: Flags) -> Result<()> {
    daemon::init_crypto();
    let client = match &flags.kubeconfig {
        Some(path) => daemon::client::from_kubeconfig(path, USER_AGENT).await?,
        None => kube::Client::try_default().await.context("no --kubeconfig and no service account")?,
    };
    let stop = daemon::signal::shutdown();
    let tasks = Tasks::new(stop.child_token());
    room::start(flags, client, &tasks).await?;
    tasks.token().cancelled().await;
    tasks.drain(Duration::from_secs(10)).await;
    anyhow::ensure!(stop.is_cancelled(), "a task failed");
    Ok(())
}
