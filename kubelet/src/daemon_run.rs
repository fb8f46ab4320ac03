//! Building the kubelet out of its parts, and running it.

use crate::cgroups::{Cgroups, Layout};
use crate::config::Config;
use crate::context::Context;
use crate::images::Images;
use crate::pods::host::{Host, now_ns};
use crate::pods::manager::{self, Inputs, Message};
use crate::pods::static_pods::{self, Mirrors};
use crate::runtime::cri_client::CriRuntime;
use crate::runtime::relist::Relist;
use crate::volumes::objects::Objects;
use crate::volumes::tokens::Tokens;
use crate::{certs, gc, node, runtime, server};
use anyhow::{Context as _, Result, bail};
use control::cache::{Cache, Options};
use daemon::tasks::Tasks;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long the runtime may take to answer for the first time.
const RUNTIME_WAIT: Duration = Duration::from_secs(30);

/// Runs a kubelet with the CRI runtime of its configuration until `cancel`.
pub async fn run(config: Config, cancel: CancellationToken) -> Result<()> {
    preflight(&config)?;
    if config.kubeconfig.as_ref().is_some_and(|path| !path.exists()) {
        daemon::notify::waiting("a client certificate");
    }
    certs::client::bootstrap(&config).await.context("TLS bootstrap")?;
    let client = match &config.kubeconfig {
        Some(path) => Some(daemon::client::from_kubeconfig(path, "kubelet/v1.36.2").await?),
        None => {
            tracing::info!("no --kubeconfig: standalone mode");
            None
        }
    };
    let f = &config.file;
    let cri = CriRuntime::new(
        &f.container_runtime_endpoint,
        &f.image_service_endpoint,
        f.runtime_request_timeout.0,
    )?;
    let ctx = Context::new(Arc::new(config), client, Arc::new(cri), cancel);
    let tls = certs::serving::tls(&ctx)?;
    start(&ctx).await?;
    daemon::notify::serving(&ctx.cancel);
    tokio::select! {
        () = ctx.cancel.cancelled() => Ok(()),
        ended = certs::client::rotate(ctx.clone()) => ended,
        ended = server::run(ctx.clone(), tls) => ended.context("kubelet server"),
    }
}

/// What makes no sense to start with.
fn preflight(config: &Config) -> Result<()> {
    std::fs::create_dir_all(config.pods_dir())
        .with_context(|| format!("making {}", config.pods_dir().display()))?;
    let v1 = !Cgroups::detect().v2;
    if v1 && config.file.fail_cgroup_v1 {
        bail!(
            "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is deprecated: set failCgroupV1 to false to start anyway"
        );
    }
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    if config.file.fail_swap_on && swaps.lines().count() > 1 {
        bail!(
            "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false"
        );
    }
    lower_oom_score(config.file.oom_score_adj);
    Ok(())
}

/// Without CAP_SYS_RESOURCE the score can only be raised: said once, survived.
fn lower_oom_score(score: i32) {
    if let Err(e) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::warn!(score, error = %e, "oom_score_adj not set, going on without");
    }
}

/// Starts everything but the server; returns once the pods are being looked after.
pub async fn start(ctx: &Arc<Context>) -> Result<Arc<Host>> {
    let services = ctx.client.clone().map(|c| services(c, &Tasks::new(ctx.cancel.clone())));
    start_with(ctx, services).await
}

/// The cluster's services, as far as a pod's environment needs them.
pub fn services(client: kube::Client, tasks: &Tasks) -> Cache<Service> {
    let options = Options::<Service>::default().trim(|s: &mut Service| {
        s.metadata.managed_fields = None;
        s.metadata.annotations = None;
        s.status = None;
    });
    Cache::start(Api::all(client), options, tasks)
}

/// As [`start`], with a cache of services that several kubelets of one process may share.
pub async fn start_with(ctx: &Arc<Context>, services: Option<Cache<Service>>) -> Result<Arc<Host>> {
    let (orphan_tx, orphans) = mpsc::unbounded_channel();
    let relist = Relist::new(ctx.runtime.clone(), orphan_tx);
    ctx.spawn("runtime health", runtime::health::run(ctx.clone(), relist.clone()));
    let mut health = ctx.health.subscribe();
    // the answer is a read lock: it must not live on
    let answered = tokio::time::timeout(RUNTIME_WAIT, health.wait_for(|h| h.seen)).await.is_ok();
    if !answered {
        let why = ctx.health.borrow().runtime_error.clone().unwrap_or_default();
        bail!("container runtime did not answer within {}s: {why}", RUNTIME_WAIT.as_secs());
    }
    // What runs must be known before the node speaks: a node that comes back is never unready for want of a look.
    if let Err(error) = relist.relist(ctx).await {
        tracing::warn!(%error, "first look at the runtime's pods");
    }
    runtime::health::refresh(ctx, &relist);
    node::start(ctx).await?;
    let host = build_host(ctx, relist.clone(), services).await;
    ctx.spawn("relist", relist.run(ctx.clone()));
    start_pods(ctx, &host, orphans);
    Ok(host)
}

async fn build_host(ctx: &Arc<Context>, relist: Arc<Relist>, services: Option<Cache<Service>>) -> Arc<Host> {
    let tasks = Tasks::new(ctx.cancel.clone());
    let f = &ctx.config.file;
    let from_runtime = ctx.runtime.systemd_cgroups().await.ok().flatten();
    let layout = Layout {
        systemd: from_runtime.unwrap_or(f.cgroup_driver == "systemd"),
        root: f.cgroup_root.clone(),
        per_qos: f.cgroups_per_qos,
    };
    let host = Arc::new(Host {
        ctx: ctx.clone(),
        relist,
        images: Images::new(ctx.runtime.clone(), &ctx.config),
        objects: Objects::new(ctx.client.clone(), tasks.child()),
        tokens: Tokens::default(),
        services,
        // A hollow node has no processes, and the machine's cgroups are not its own to fill.
        cgroups: if ctx.config.hollow.is_some() { Cgroups::default() } else { Cgroups::detect() },
        layout,
        gate: crate::pods::gate::Gate::default(),
        started_at: now_ns(),
    });
    node_cgroups(&host);
    host
}

/// The node and QoS levels, with memory and shares of what pods may have in all.
fn node_cgroups(host: &Host) {
    use crate::cgroups::Limits;
    use crate::pods::resources::{self, Qos};
    if !host.layout.per_qos {
        return;
    }
    let node = host.ctx.node.borrow().clone();
    let enforce = host.ctx.config.file.enforce_node_allocatable.iter().any(|e| e == "pods");
    let cpu = node.allocatable.get("cpu").map_or(0, resources::milli);
    let limits = Limits {
        shares: (cpu > 0).then(|| resources::shares(cpu)),
        memory: node.capacity.get("memory").map(resources::value).filter(|m| enforce && *m > 0),
        ..Default::default()
    };
    for (level, limits) in [
        (None, limits),
        (Some(Qos::Burstable), Limits { shares: Some(2), ..Default::default() }),
        (Some(Qos::BestEffort), Limits { shares: Some(2), ..Default::default() }),
    ] {
        let path = host.layout.level(level);
        if let Err(e) = host.cgroups.ensure(&path, &limits) {
            tracing::warn!(%path, error = %e, "cgroup level not set up");
        }
    }
}

fn start_pods(
    ctx: &Arc<Context>,
    host: &Arc<Host>,
    orphans: mpsc::UnboundedReceiver<Arc<crate::pods::table::PodView>>,
) {
    let (tx, messages) = mpsc::unbounded_channel::<Message>();
    let mirrors = Arc::new(Mirrors::default());
    let cache = ctx.client.clone().map(|client| {
        let options = Options::<Pod>::default()
            .fields(format!("spec.nodeName={}", ctx.config.node_name))
            .trim(|p: &mut Pod| p.metadata.managed_fields = None);
        let cache = Cache::start(Api::all(client), options, &Tasks::new(ctx.cancel.clone()));
        manager::forward(&cache, tx.clone());
        cache
    });
    let manifests = (!ctx.config.file.static_pod_path.is_empty()).then(|| {
        let (tx, rx) = mpsc::channel(4);
        ctx.spawn("static pods", static_pods::watch(ctx.clone(), tx));
        rx
    });
    ctx.spawn("mirror pods", mirrors.clone().run(ctx.clone()));
    if ctx.config.hollow.is_none() {
        gc::start(ctx, host, tx);
    }
    let inputs = Inputs { messages, manifests, orphans, cache };
    ctx.spawn("pod manager", manager::run(host.clone(), mirrors, inputs));
    ctx.spawn("qos cgroups", qos_shares(host.clone()));
}

/// Keeps the Burstable level's shares at the sum of what its pods request.
async fn qos_shares(host: Arc<Host>) {
    use crate::cgroups::Limits;
    use crate::pods::resources::{self, Qos};
    if !host.layout.per_qos {
        return;
    }
    let path = host.layout.level(Some(Qos::Burstable));
    let mut last = None;
    let mut changes = host.ctx.pods.subscribe();
    while changes.changed().await.is_ok() {
        let entries = host.ctx.pods.list();
        let burstable = entries.iter().filter(|e| !e.finished && resources::qos(&e.pod) == Qos::Burstable);
        let sum: i64 =
            burstable.map(|e| resources::pod_requests(&e.pod).get("cpu").copied().unwrap_or(0)).sum();
        let shares = resources::shares(sum);
        if last != Some(shares) {
            last = Some(shares);
            let _ = host.cgroups.ensure(&path, &Limits { shares: Some(shares), ..Default::default() });
        }
        // a burst of changes is one update
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
