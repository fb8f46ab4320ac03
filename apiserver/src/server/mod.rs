//! The server around the REST path: connections, filters, and what it does of its own accord.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use daemon::tasks::Tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::aggregator::{self, Aggregator};
use crate::alloc::ports::Ports;
use crate::app::App;
use crate::cache::Cache;
use crate::config::Config;
use crate::health::{Health, Scope};
use crate::kinds::Kinds;
use crate::reader::Reader;
use crate::storage::Storage;
use crate::storage::etcd::{Etcd, Options};
use crate::{admission, authn, authz, bootstrap};

pub mod connection;
pub mod endpoints;
pub mod filters;
pub mod gzip;
pub mod health;
pub mod info;
pub mod legacy_tokens;
pub mod routes;
pub mod seats;
pub mod tls;
pub mod upkeep;
pub mod version;

/// Makes the server's parts over etcd as the flags say. Nothing runs yet.
pub async fn build(config: Config) -> Result<Arc<App>> {
    anyhow::ensure!(!config.etcd_servers.is_empty(), "--etcd-servers must be specified");
    let options = Options {
        endpoints: config.etcd_servers.clone(),
        ca: config.etcd_cafile.clone(),
        cert: config.etcd_certfile.clone(),
        key: config.etcd_keyfile.clone(),
    };
    let storage = Etcd::connect(&options, &config.etcd_prefix).await?;
    build_over(config, Arc::new(storage))
}

/// The same over any store.
pub fn build_over(config: Config, storage: Arc<dyn Storage>) -> Result<Arc<App>> {
    let kinds = Kinds::builtin(&config.runtime_config);
    let cache = Cache::new(storage.clone(), config.etcd_prefix.trim_end_matches('/'));
    for resource in machinery::kinds::builtin().iter().filter(|r| r.is_stored()) {
        cache.add(resource);
    }
    let reader = Reader::new(cache.clone());
    let authenticator = authn::build(&config, &reader).context("authentication")?;
    let authorizer = authz::build(&config, &reader).context("authorisation")?;
    let admission = admission::plugins(&config, &reader).context("admission")?;
    let aggregator = Aggregator::new(&config, &reader).context("aggregation")?;
    let (health, metrics) = (Arc::new(Health::default()), Arc::default());
    for check in ["ping", "log"] {
        health.set(check, Ok(()));
    }
    health.set("etcd", Err("not reached yet".into()));
    health.set_scoped("etcd-readiness", Scope::Ready, Err("not reached yet".into()));
    health.set_scoped("informer-sync", Scope::Ready, Err("not synced yet".into()));
    let node_ports = Ports::new(storage.clone(), &config.etcd_prefix, config.service_node_port_range);
    Ok(Arc::new(App {
        seats: seats::Seats::new(&config),
        config,
        kinds,
        storage,
        cache,
        reader,
        authenticator,
        authorizer,
        admission,
        health,
        metrics,
        node_ports,
        aggregator,
        closing: CancellationToken::new(),
        leaving: Default::default(),
    }))
}

/// Starts what runs beside the requests: the feed of the cache, health, compaction, the objects the server keeps.
pub fn start(app: &Arc<App>, tasks: &Tasks) {
    bootstrap::announce(&app.health);
    let cancel = tasks.token().clone();
    tasks.spawn("watch-cache", app.cache.clone().feed(cancel.clone()));
    tasks.spawn("etcd-health", upkeep::watch_health(app.clone()));
    if !app.config.etcd_compaction_interval.is_zero() {
        tasks.spawn("compaction", upkeep::compact(app.clone()));
    }
    tasks.spawn("service-allocations", crate::alloc::repair::run(app.clone(), cancel.clone()));
    let (one, stop) = (app.clone(), cancel.clone());
    tasks.spawn_result("bootstrap", async move {
        tokio::select! {
            () = one.reader.synced() => bootstrap::run(one, stop).await,
            () = stop.cancelled() => Ok(()),
        }
    });
    tasks.spawn("aggregator", aggregator::keeper::run(app.clone()));
    tasks.spawn("legacy-tokens", legacy_tokens::run(app.clone()));
    tasks.spawn("endpoint-reconciler", endpoints::run(app.clone()));
}

/// Runs the server until cancelled, then drains it.
pub async fn run(config: Config, cancel: CancellationToken) -> Result<()> {
    let address = SocketAddr::new(config.bind_address, config.secure_port);
    let delay = config.shutdown_delay_duration;
    let tls = tls::server_config(&config)?;
    let app = build(config).await?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    tracing::info!(%address, "serving");
    let tasks = Tasks::new(CancellationToken::new());
    start(&app, &tasks);
    daemon::notify::serving(&cancel);
    let stop = app.closing.clone();
    let serving = tokio::spawn(connection::accept(app.clone(), listener, tls, stop.clone()));
    tokio::select! {
        () = cancel.cancelled() => {}
        () = tasks.token().cancelled() => {}
    }
    // Others are told first and new requests are still served for a while: balancers need time to see it.
    app.health.stop();
    app.leaving.leave().await;
    tokio::time::sleep(delay).await;
    stop.cancel();
    let _ = serving.await;
    tasks.drain(Duration::from_secs(5)).await;
    Ok(())
}
