//! kube-scheduler, the program.

use clap::Parser;
use kube_scheduler::config::{ACCEPTED, Flags};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let (args, ignored) = daemon::flags::split_accepted(std::env::args().collect(), ACCEPTED);
    let flags = Flags::parse_from(args);
    daemon::init_crypto();
    daemon::logging::init("kube-scheduler", flags.v);
    if !ignored.is_empty() {
        tracing::info!(flags = ignored.join(","), "accepted without effect");
    }
    match kube_scheduler::run::run(flags, daemon::signal::shutdown()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
