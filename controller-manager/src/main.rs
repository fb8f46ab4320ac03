//! kube-controller-manager: flags, logs, run, drain.

use kube_controller_manager::flags;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let (config, ignored) = flags::parse(std::env::args().collect());
    daemon::logging::init("kube-controller-manager", config.verbosity);
    if !ignored.is_empty() {
        tracing::info!(flags = ?ignored, "flags accepted and without effect here");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(config.threads()).enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async { kube_controller_manager::run(config, daemon::signal::shutdown()).await })
    });
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended");
            std::process::ExitCode::FAILURE
        }
    }
}
