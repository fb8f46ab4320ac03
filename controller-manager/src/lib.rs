//! kube-controller-manager: every controller of the cluster in one process, over shared watch caches.
//!
//! A room observes caches, plans (pure), and applies. One process leads by Lease; a standby keeps its caches warm.

pub mod controllers;
pub mod flags;
pub mod kit;
pub mod rooms;
#[cfg(test)]
pub(crate) mod testing;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use control::lease::Config as LeaseConfig;
use control::{Caches, LeaderElector, Recorder};
use daemon::delegated::Delegated;
use daemon::fence::Fence;
use daemon::health::Health;
use daemon::metrics::Metrics;
use daemon::serving::Serving;
use daemon::tasks::Tasks;
use daemon::tls::ServerTls;
use tokio_util::sync::CancellationToken;

pub use flags::Config;

use kit::identity::Identities;
use kit::{Context, Writer};

const AGENT: &str = concat!("kube-controller-manager/", env!("CARGO_PKG_VERSION"));
/// Longest wait for the caches' first listing before the controllers start anyway; a kind that cannot be listed
/// must not keep all the others from working.
const SYNC_DEADLINE: Duration = Duration::from_secs(30);

/// How the API server is reached: the kubeconfig, a client of it, and what holds back the writes of both.
type Server<'a> = (&'a Path, &'a kube::Client, &'a Fence);

/// Runs until `stop` is cancelled or leadership is lost (which is an error).
pub async fn run(config: Config, stop: CancellationToken) -> Result<()> {
    let config = Arc::new(config);
    let path = config.kubeconfig.clone().ok_or_else(|| anyhow!("--kubeconfig is required"))?;
    let fence = Fence::default();
    let client = daemon::client::fenced(&path, AGENT, &fence).await?;
    let tasks = Tasks::new(stop.child_token());
    let (health, metrics) = (Health::new(), Metrics::new());
    // The port is held until the lease is released: the identity in the lease rests on it.
    let closing = CancellationToken::new();
    serve(&config, &client, (&health, &metrics), &tasks, &closing).await?;
    daemon::notify::serving(&stop);
    let caches = Caches::new(client.clone(), tasks.clone());
    warm(&caches);
    let outcome = match config.leader_elect {
        true => lead(&config, (&path, &client, &fence), &caches, (&health, &metrics), &tasks).await,
        false => {
            start(&config, (&path, &client, &fence), &caches, &metrics, &tasks).await?;
            tasks.token().cancelled().await;
            Ok(())
        }
    };
    closing.cancel();
    tasks.drain(config.controller_shutdown_timeout).await;
    if outcome.is_ok() && !stop.is_cancelled() {
        return Err(anyhow!("a task failed"));
    }
    outcome
}

/// Stands for election; controllers run in a tree of their own that ends before the lease is released.
async fn lead(
    config: &Arc<Config>,
    server: Server<'_>,
    caches: &Caches,
    (health, metrics): (&Arc<Health>, &Arc<Metrics>),
    tasks: &Tasks,
) -> Result<()> {
    // Connections of its own: a renewal must not wait behind thousands of writes and lists.
    let election = daemon::client::from_kubeconfig(
        server.0,
        concat!("kube-controller-manager/", env!("CARGO_PKG_VERSION"), " leader-election"),
    );
    let elector = LeaderElector::new(election.await?, lease(config)).metrics(metrics).fence(server.2);
    let begin = async |work: Tasks| start(config, server, caches, metrics, &work).await;
    control::lead(elector, tasks, health, config.controller_shutdown_timeout, begin).await
}

fn lease(config: &Config) -> LeaseConfig {
    let port = Some(SocketAddr::new(config.bind_address, config.secure_port));
    LeaseConfig {
        namespace: config.leader_elect_resource_namespace.clone(),
        name: config.leader_elect_resource_name.clone(),
        identity: control::lease::identity(port),
        lease: config.leader_elect_lease_duration,
        renew: config.leader_elect_renew_deadline,
        retry: config.leader_elect_retry_period,
    }
}

/// Starts every enabled controller.
async fn start(
    config: &Arc<Config>,
    (path, client, fence): Server<'_>,
    caches: &Caches,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Result<()> {
    let target = if config.use_service_account_credentials {
        Some(daemon::client::target(path)?.fenced(fence))
    } else {
        None
    };
    let identities = Identities::new(client.clone(), target, tasks.clone());
    let enabled: Vec<_> =
        controllers::all().into_iter().filter(|c| controllers::enabled(c, &config.controllers)).collect();
    tracing::info!(controllers = ?enabled.iter().map(|c| c.name).collect::<Vec<_>>(), "starting controllers");
    if tokio::time::timeout(SYNC_DEADLINE, caches.synced()).await.is_err() {
        tracing::warn!("some caches are not filled yet");
    }
    for controller in enabled {
        let (config, caches, tasks, identities) =
            (config.clone(), caches.clone(), tasks.clone(), identities.clone());
        let (root, metrics) = (client.clone(), metrics.clone());
        tokio::spawn(async move {
            let name = controller.name;
            let token = tasks.token().clone();
            token
                .run_until_cancelled(async move {
                    let client = identities.client(controller.account).await;
                    let recorder = Recorder::start(client.clone(), controller.name, None, &tasks);
                    let writer = Writer::new(client);
                    let context = Context { name, config, caches, root, writer, recorder, metrics, tasks };
                    (controller.start)(context).await;
                })
                .await;
        });
    }
    Ok(())
}

/// Opens the caches the controllers read, so that a standby is ready when its time comes.
fn warm(caches: &Caches) {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use k8s_openapi::api::storage::v1::StorageClass;
    use k8s_openapi::api::{apps::v1 as apps, core::v1 as core};
    caches.with::<core::Pod>(|| control::cache::Options::default().trim(kit::pods::trim));
    caches.with::<core::Node>(|| control::cache::Options::default().trim(kit::context::trim_node));
    caches.of::<core::Namespace>();
    caches.of::<core::Service>();
    caches.of::<core::ServiceAccount>();
    caches.of::<core::Endpoints>();
    caches.of::<core::ReplicationController>();
    caches.of::<EndpointSlice>();
    caches.of::<apps::Deployment>();
    caches.of::<apps::ReplicaSet>();
    caches.of::<apps::StatefulSet>();
    caches.of::<apps::DaemonSet>();
    caches.of::<apps::ControllerRevision>();
    caches.of::<core::PersistentVolumeClaim>();
    caches.of::<core::PersistentVolume>();
    caches.of::<StorageClass>();
    caches.of::<CertificateSigningRequest>();
}

/// The secure port.
async fn serve(
    config: &Config,
    client: &kube::Client,
    (health, metrics): (&Arc<Health>, &Arc<Metrics>),
    tasks: &Tasks,
    closing: &CancellationToken,
) -> Result<()> {
    if config.secure_port == 0 {
        return Ok(());
    }
    let tls = match (&config.tls_cert_file, &config.tls_private_key_file) {
        (Some(cert), Some(key)) => ServerTls::from_files(cert, key, config.client_ca_file.as_deref())?,
        _ => ServerTls::self_signed_with_ca("kube-controller-manager", config.client_ca_file.as_deref())?,
    };
    let guard = match config.authentication_kubeconfig.as_ref().or(config.authorization_kubeconfig.as_ref()) {
        Some(path) => daemon::client::from_kubeconfig(path, AGENT).await?,
        None => client.clone(),
    };
    let addr = SocketAddr::new(config.bind_address, config.secure_port);
    let listener = tokio::net::TcpListener::bind(addr).await.with_context(|| format!("listen on {addr}"))?;
    let serving = Serving::new(addr, Some(tls))
        .health(health.clone())
        .metrics(metrics.clone())
        .guard(Arc::new(Delegated::new(guard)));
    tasks.spawn_result("serving", serving.run_on(listener, closing.clone()));
    Ok(())
}
