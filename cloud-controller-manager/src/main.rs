//! cloud-controller-manager: flags, logs, run, drain.

use cloud_controller_manager::flags;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One thread: the work is waiting for the API server and the provider.
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let (config, ignored) = flags::parse(std::env::args().collect());
    daemon::logging::init("cloud-controller-manager", config.verbosity);
    if !ignored.is_empty() {
        tracing::info!(flags = ?ignored, "flags accepted and without effect here");
    }
    match cloud_controller_manager::run(config, daemon::signal::shutdown()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
