//! coxswain-dns's command line.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use coxswain_dns::config::Flags;
use coxswain_dns::forward::{Forwarder, resolvers};
use coxswain_dns::metrics::Metrics;
use coxswain_dns::resolve::Zone;
use coxswain_dns::server::{Resolver, Sockets, serve};
use coxswain_dns::watch;
use daemon::serving::{Handler, Serving, text};
use hyper::StatusCode;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USER_AGENT: &str = concat!("coxswain-dns/", env!("CARGO_PKG_VERSION"));

/// Threads when not told otherwise: on a machine of many processors more would only hold memory.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let flags = Flags::parse();
    daemon::logging::init("coxswain-dns", flags.v);
    match threads(&flags).and_then(|runtime| runtime.block_on(start(flags))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn workers(flags: &Flags) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    flags.workers.unwrap_or_else(processors).max(1)
}

fn threads(flags: &Flags) -> Result<tokio::runtime::Runtime> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers(flags)).enable_all().build();
    runtime.context("start threads")
}

async fn start(flags: Flags) -> Result<()> {
    daemon::init_crypto();
    let client = match &flags.kubeconfig {
        Some(path) => daemon::client::from_kubeconfig(path, USER_AGENT).await?,
        None => kube::Client::try_default().await.context("no --kubeconfig and no service account")?,
    };
    let metrics = Metrics::new(daemon::metrics::Metrics::new());
    let synced = Arc::new(AtomicBool::new(false));
    let catalog = Arc::default();
    let zone = Zone::new(&flags.cluster_domain, flags.ttl).context("--cluster-domain")?;
    let forwarder = Forwarder::new(upstreams(&flags), metrics.clone());
    let resolver = Resolver::new(zone, Arc::clone(&catalog), forwarder, synced.clone(), metrics.clone());
    let sockets = Sockets::bind(flags.listen, workers(&flags))?;
    let (stop, end) = (daemon::signal::shutdown(), CancellationToken::new());
    daemon::notify::serving(&stop);
    let draining = Arc::new(AtomicBool::new(false));
    status(&flags, &synced, &draining, metrics, &end);
    let answering = tokio::spawn(serve(sockets, resolver, end.clone()));
    tokio::select! {
        result = watch::run(client, catalog, synced) => result?,
        () = stop.cancelled() => {}
    }
    // Whoever still has this address goes on being answered while the news of the end spreads
    draining.store(true, Ordering::Release);
    tokio::time::sleep(flags.lameduck).await;
    end.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(2), answering).await;
    Ok(())
}

fn upstreams(flags: &Flags) -> Vec<std::net::SocketAddr> {
    if !flags.upstream.is_empty() {
        return flags.upstream.clone();
    }
    let text = std::fs::read_to_string(&flags.resolv_conf).unwrap_or_default();
    let found = resolvers(&text, &flags.cluster_dns);
    if found.is_empty() {
        tracing::warn!(file = %flags.resolv_conf.display(), "no resolvers: names outside the cluster will fail");
    }
    found
}

/// Health, readiness and metrics on ports of their own, as in CoreDNS.
fn status(
    flags: &Flags,
    synced: &Arc<AtomicBool>,
    draining: &Arc<AtomicBool>,
    metrics: Metrics,
    end: &CancellationToken,
) {
    let answer = |good: Box<dyn Fn() -> bool + Send + Sync>| -> Handler {
        Arc::new(move |_, _| {
            let answer = match good() {
                true => text(StatusCode::OK, "OK"),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            };
            Box::pin(std::future::ready(answer))
        })
    };
    let (drain, ready, drain2) = (draining.clone(), synced.clone(), draining.clone());
    let health = answer(Box::new(move || !drain.load(Ordering::Acquire)));
    let ready = answer(Box::new(move || ready.load(Ordering::Acquire) && !drain2.load(Ordering::Acquire)));
    let servers = [
        Serving::new(flags.health_address, None).route("/health", health),
        Serving::new(flags.ready_address, None).route("/ready", ready),
        Serving::new(flags.metrics_address, None).metrics(metrics.registry()),
    ];
    for server in servers {
        let end = end.clone();
        tokio::spawn(async move {
            if let Err(error) = server.run(end).await {
                tracing::error!("{error:#}");
            }
        });
    }
}
