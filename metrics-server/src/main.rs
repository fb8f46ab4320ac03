//! metrics-server's command line.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use metrics_server::flags::{self, Flags};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One thread does it: a scrape is waiting, and the reading of a few kilobytes.
fn main() -> ExitCode {
    let (args, ignored) = daemon::flags::split_accepted(std::env::args().collect(), flags::IGNORED);
    let flags = Flags::parse_from(args);
    daemon::logging::init("metrics-server", flags.v);
    ignored.iter().for_each(|flag| tracing::info!(flag, "this flag is known and has no effect"));
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> Result<()> {
    flags.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("start a thread")?.block_on(metrics_server::run::run(flags))
}
