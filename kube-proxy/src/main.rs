//! kube-proxy's command line.

use std::process::ExitCode;

use anyhow::{Context, Result};
use kube_proxy::config::{Config, Flags};
use kube_proxy::metrics::Metrics;
use kube_proxy::{run, sysctl};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USER_AGENT: &str = concat!("kube-proxy/", env!("CARGO_PKG_VERSION"));

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let flags = Flags::read(std::env::args().collect());
    daemon::logging::init("kube-proxy", flags.verbosity());
    match start(&flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(flags: &Flags) -> Result<()> {
    let config = Config::from_flags(flags)?;
    if !flags.ignored().is_empty() {
        tracing::info!(flags = ?flags.ignored(), "flags without effect here");
    }
    if config.cleanup {
        return run::cleanup(&config);
    }
    if !matches!(config.mode.as_str(), "" | "nftables") {
        tracing::warn!(mode = config.mode, "only nftables is implemented, using it");
    }
    sysctl::apply(&sysctl::wanted(&config.conntrack, sysctl::processors()));
    if config.init_only {
        return Ok(());
    }
    sysctl::oom_score(config.oom_score_adj);
    daemon::init_crypto();
    let client = match &config.kubeconfig {
        Some(path) => daemon::client::once_identified(path, USER_AGENT).await?,
        None => kube::Client::try_default().await.context("no --kubeconfig and no service account")?,
    };
    let metrics = Metrics::new(daemon::metrics::Metrics::new());
    let token = daemon::signal::shutdown();
    run::run(config, client, metrics, token).await
}
