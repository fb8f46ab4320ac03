//! cloud-controller-manager: initialises nodes, removes those whose instance is gone, and keeps load balancers and routes,
//! by way of a provider.
//!
//! The provider is a trait ([`provider`]); `coxswain`, the one built in, needs no cloud: it gives Services addresses from
//! pools, which the nodes' network agents answer for. A room observes caches, plans (pure), and applies.

pub mod flags;
pub mod metrics;
pub mod provider;
pub mod rooms;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use control::cache::Options;
use control::lease::Config as LeaseConfig;
use control::{Cache, Caches, LeaderElector};
use daemon::delegated::Delegated;
use daemon::fence::Fence;
use daemon::health::Health;
use daemon::serving::Serving;
use daemon::tasks::Tasks;
use daemon::tls::ServerTls;
use k8s_openapi::api::core::v1::{Node, Service, ServiceSpec};
use tokio_util::sync::CancellationToken;

pub use flags::Config;

use metrics::Tally;
use provider::Provider;

const AGENT: &str = concat!("cloud-controller-manager/", env!("CARGO_PKG_VERSION"));
/// Time for the tasks to end.
const DRAIN: Duration = Duration::from_secs(5);
/// Longest wait for the caches' first listing before the controllers start anyway.
const SYNC_DEADLINE: Duration = Duration::from_secs(30);

/// Everything a controller or a provider works with.
#[derive(Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub client: kube::Client,
    pub caches: Caches,
    pub nodes: Cache<Node>,
    pub services: Cache<Service>,
    pub provider: Arc<dyn Provider>,
    pub tally: Arc<Tally>,
    pub tasks: Tasks,
}

/// Runs until `stop` is cancelled or leadership is lost (which is an error).
///
/// # Errors
/// A provider that is not known, a configuration that is wrong, a kubeconfig or certificate that can't be read, a port that
/// is taken, lost leadership.
pub async fn run(config: Config, stop: CancellationToken) -> Result<()> {
    let provider = provider(&config)?;
    let config = Arc::new(config);
    let fence = Fence::default();
    let client = client(&config, AGENT, &fence).await?;
    let tasks = Tasks::new(stop.child_token());
    let health = Health::new();
    let tally = Tally::new();
    // The port is held until the lease is released: the identity in the lease rests on it.
    let closing = CancellationToken::new();
    serve(&config, &client, &health, &tally, &tasks, &closing).await?;
    daemon::notify::serving(&stop);
    let caches = Caches::new(client.clone(), tasks.clone());
    let nodes = caches.with(|| Options::default().trim(trim_node));
    let services = caches.with(|| Options::default().trim(trim_service));
    let context = Context {
        config: config.clone(),
        client,
        caches,
        nodes,
        services,
        provider,
        tally,
        tasks: tasks.clone(),
    };
    let outcome = match config.leader_elect {
        true => lead(&context, &health, &fence).await,
        false => {
            rooms::start(&context).await;
            tasks.token().cancelled().await;
            Ok(())
        }
    };
    closing.cancel();
    tasks.drain(DRAIN).await;
    if outcome.is_ok() && !stop.is_cancelled() {
        return Err(anyhow!("a task failed"));
    }
    outcome
}

fn provider(config: &Config) -> Result<Arc<dyn Provider>> {
    let provider = provider::open(&config.cloud_provider, config.cloud_config.as_deref())?;
    if !provider.has_cluster_id() {
        let told = "the provider can't tell this cluster from another (no ClusterID found)";
        anyhow::ensure!(config.allow_untagged_cloud, "{told}; --allow-untagged-cloud runs it all the same");
        tracing::warn!("{told}");
    }
    Ok(provider.into())
}

async fn client(config: &Config, agent: &str, fence: &Fence) -> Result<kube::Client> {
    match &config.kubeconfig {
        Some(path) => daemon::client::fenced(path, agent, fence).await,
        None => {
            daemon::init_crypto();
            kube::Client::try_default().await.context("no --kubeconfig and no service account")
        }
    }
}

/// Stands for election; controllers run in a tree of their own that ends before the lease is released.
async fn lead(context: &Context, health: &Arc<Health>, fence: &Fence) -> Result<()> {
    let (config, tasks) = (&context.config, &context.tasks);
    // Connections of its own: a renewal must not wait behind other calls.
    let agent = concat!("cloud-controller-manager/", env!("CARGO_PKG_VERSION"), " leader-election");
    let free = Fence::default();
    let election = client(config, agent, &free);
    let elector =
        LeaderElector::new(election.await?, lease(config)).metrics(&context.tally.metrics).fence(fence);
    let begin = async |work: Tasks| {
        let context = Context { tasks: work, ..context.clone() };
        let token = context.tasks.token().clone();
        token.run_until_cancelled(rooms::start(&context)).await;
        Ok(())
    };
    control::lead(elector, tasks, health, DRAIN, begin).await
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

/// The secure port.
async fn serve(
    config: &Config,
    client: &kube::Client,
    health: &Arc<Health>,
    tally: &Arc<Tally>,
    tasks: &Tasks,
    closing: &CancellationToken,
) -> Result<()> {
    if config.secure_port == 0 {
        return Ok(());
    }
    let tls = match (&config.tls_cert_file, &config.tls_private_key_file) {
        (Some(cert), Some(key)) => ServerTls::from_files(cert, key, config.client_ca_file.as_deref())?,
        _ => ServerTls::self_signed_with_ca("cloud-controller-manager", config.client_ca_file.as_deref())?,
    };
    let guard = match config.authentication_kubeconfig.as_ref().or(config.authorization_kubeconfig.as_ref()) {
        Some(path) if Some(path) != config.kubeconfig.as_ref() => {
            daemon::client::from_kubeconfig(path, AGENT).await?
        }
        _ => client.clone(),
    };
    let addr = SocketAddr::new(config.bind_address, config.secure_port);
    let listener = tokio::net::TcpListener::bind(addr).await.with_context(|| format!("listen on {addr}"))?;
    let serving = Serving::new(addr, Some(tls))
        .health(health.clone())
        .metrics(tally.metrics.clone())
        .guard(Arc::new(Delegated::new(guard)));
    tasks.spawn_result("serving", serving.run_on(listener, closing.clone()));
    Ok(())
}

/// Images and volumes are most of a Node, and nobody here reads them.
fn trim_node(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
        status.volumes_attached = None;
        status.volumes_in_use = None;
        status.capacity = None;
        status.allocatable = None;
    }
}

/// Of Services without a load balancer the name and the type are enough.
fn trim_service(service: &mut Service) {
    if !rooms::service::plan::wants(service) && !rooms::service::plan::has_finalizer(service) {
        let type_ = service.spec.take().and_then(|s| s.type_);
        service.spec = Some(ServiceSpec { type_, ..ServiceSpec::default() });
        service.status = None;
        service.metadata.labels = None;
        service.metadata.annotations = None;
    }
}
