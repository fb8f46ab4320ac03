//! The kubelet's process: flags, logs, signals.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a.starts_with("--version")) {
        println!("Kubernetes {}", kubelet::node::VERSION);
        return ExitCode::SUCCESS;
    }
    let config = match kubelet::config::flags::load(&args) {
        Ok(config) => config,
        Err(e) => {
            eprintln!("Error: {e:#}");
            return ExitCode::FAILURE;
        }
    };
    daemon::init_crypto();
    daemon::logging::init("kubelet", config.verbosity);
    for flag in &config.ignored {
        tracing::info!(%flag, "flag is known but has no effect");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|rt| {
        let outcome = rt.block_on(async { kubelet::run(config, daemon::signal::shutdown()).await });
        // probes and pulls under way are not worth waiting for
        rt.shutdown_timeout(std::time::Duration::from_secs(1));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!(error = %format!("{e:#}"), "kubelet failed");
            ExitCode::FAILURE
        }
    }
}
