//! kube-apiserver.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let (config, ignored) = match kube_apiserver::config::parse(std::env::args()) {
        Ok(parsed) => parsed,
        Err(error) => error.exit(),
    };
    daemon::logging::init("kube-apiserver", config.v);
    daemon::init_crypto();
    if !ignored.is_empty() {
        tracing::info!(flags = ignored.join(","), "flags without effect are ignored");
    }
    match kube_apiserver::server::run(config, daemon::signal::shutdown()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
