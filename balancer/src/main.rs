//! coxswain-balancer's command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use coxswain_balancer::config::Config;
use coxswain_balancer::run::run;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Passes this node's connections on to a living API server
#[derive(Parser)]
#[command(name = "coxswain-balancer", version)]
struct Flags {
    /// Configuration file
    #[arg(long, default_value = "/etc/kubernetes/balancer.yaml")]
    config: PathBuf,
    /// Log level
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    v: u8,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    daemon::logging::init("coxswain-balancer", flags.v);
    match start(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(flags: Flags) -> Result<()> {
    let config = Config::read(&flags.config)?;
    let token = daemon::signal::shutdown();
    run(config, Some(flags.config), token).await
}
