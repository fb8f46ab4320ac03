//! Puts the daemon together and runs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use control::cache::{Caches, Options};
use control::events::Recorder;
use control::lease::{self, LeaderElector, Leadership};
use daemon::delegated::Delegated;
use daemon::health::Health;
use daemon::metrics::Metrics;
use daemon::serving::Serving;
use daemon::tasks::Tasks;
use daemon::tls::ServerTls;
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::binder::Binder;
use crate::config::{File, Flags, ProfileFile};
use crate::framework::profile::Profile;
use crate::metrics::Counts;
use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;
use crate::plugins;
use crate::queue::Queue;
use crate::schedule::Scheduler;
use crate::state::State;

/// How long tasks may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs until `token` is cancelled, or leadership is lost.
///
/// # Errors
/// When the configuration is wrong, the port is taken, or leadership was lost: the supervisor starts a new process then.
pub async fn run(flags: Flags, token: CancellationToken) -> Result<()> {
    let file = flags.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
    let path = flags.kubeconfig.clone().or_else(|| file.client_connection.kubeconfig.clone());
    let path = path.context("no --kubeconfig is given")?;
    let client = daemon::client::from_kubeconfig(&path, "kube-scheduler").await?;
    let tasks = Tasks::new(token.clone());
    let (health, metrics) = (Health::new(), Metrics::new());
    // The port is held until the lease is released: the identity in the lease rests on it.
    let closing = CancellationToken::new();
    serve(&flags, &health, &metrics, &tasks, &closing).await?;
    daemon::notify::serving(&token);

    let caches = Caches::new(client.clone(), tasks.clone());
    let scheduler = assemble(&file, &client, &metrics, &tasks);
    follow(&scheduler, &caches);
    let elect = file.leader_election.leader_elect.unwrap_or(flags.leader_elect);
    let outcome = if elect {
        // Connections of its own: a renewal must not wait behind thousands of bindings.
        let election = daemon::client::from_kubeconfig(&path, "kube-scheduler leader-election").await?;
        lead(&flags, election, &caches, scheduler, &token).await
    } else {
        act(&caches, scheduler, &token).await;
        Ok(())
    };
    closing.cancel();
    token.cancel();
    tasks.drain(DRAIN).await;
    outcome
}

fn assemble(file: &File, client: &kube::Client, metrics: &Arc<Metrics>, tasks: &Tasks) -> Arc<Scheduler> {
    let profiles = Arc::new(profiles(file));
    let (first, last) = file.backoff();
    let state = State::new(Queue::new(first, last), profiles.clone());
    let events = Recorder::start(client.clone(), "default-scheduler", None, tasks);
    Scheduler::new(state, profiles, Binder::new(client.clone(), events), Counts::register(metrics))
}

fn profiles(file: &File) -> Vec<Profile> {
    let one = |p: &ProfileFile| Profile {
        name: p.scheduler_name.clone().unwrap_or_else(|| plugins::DEFAULT_SCHEDULER.into()),
        percentage: p.percentage_of_nodes_to_score.or(file.percentage_of_nodes_to_score).unwrap_or(0),
        ..plugins::default_profile()
    };
    if file.profiles.is_empty() {
        vec![one(&ProfileFile::default())]
    } else {
        file.profiles.iter().map(one).collect()
    }
}

/// Feeds the state from the caches. A standby follows too, so that it can take over at once.
fn follow(scheduler: &Arc<Scheduler>, caches: &Caches) {
    let me = scheduler.clone();
    caches.with::<Node>(|| Options::default().trim(trim_node)).handle(move |event| {
        let node = event.new.as_deref().map(NodeSpec::of);
        me.state.lock().node_changed(&event.key.name, node, Instant::now());
        me.wake.notify_one();
    });
    let me = scheduler.clone();
    caches.with::<Pod>(|| Options::default().trim(trim_pod)).handle(move |event| {
        let uid = |p: &Arc<Pod>| p.metadata.uid.clone().unwrap_or_default();
        let mut state = me.state.lock();
        // A pod of the same name but another uid replaced the old one.
        if let Some(old) = event.old.as_ref().filter(|o| event.new.as_ref().is_none_or(|n| uid(n) != uid(o)))
        {
            state.pod_gone(&uid(old), Instant::now());
        }
        if let Some(pod) = &event.new {
            state.pod_seen(Arc::new(PodInfo::of(pod)), Instant::now());
        }
        drop(state);
        me.wake.notify_one();
    });
}

/// Drops what no plugin reads.
fn trim_node(node: &mut Node) {
    node.metadata.annotations = None;
}

fn trim_pod(pod: &mut Pod) {
    pod.metadata.annotations = None;
    pod.metadata.owner_references = None;
    if let Some(spec) = &mut pod.spec {
        spec.volumes = None;
        spec.containers.iter_mut().for_each(trim_container);
        spec.init_containers.iter_mut().flatten().for_each(trim_container);
    }
    if let Some(status) = &mut pod.status {
        status.container_statuses = None;
        status.init_container_statuses = None;
        status.ephemeral_container_statuses = None;
    }
}

fn trim_container(container: &mut Container) {
    *container = Container {
        name: std::mem::take(&mut container.name),
        image: container.image.take(),
        ports: container.ports.take(),
        resources: container.resources.take(),
        restart_policy: container.restart_policy.take(),
        ..Container::default()
    };
}

async fn act(caches: &Caches, scheduler: Arc<Scheduler>, token: &CancellationToken) {
    if token.run_until_cancelled(caches.synced()).await.is_some() {
        scheduler.run(token.clone()).await;
    }
}

/// Acts only while leading; returns an error when leadership is lost.
async fn lead(
    flags: &Flags,
    client: kube::Client,
    caches: &Caches,
    scheduler: Arc<Scheduler>,
    token: &CancellationToken,
) -> Result<()> {
    let mut config = lease::Config::new(
        &flags.leader_elect_resource_namespace,
        &flags.leader_elect_resource_name,
        &lease::identity(Some(SocketAddr::new(flags.bind_address, flags.secure_port))),
    );
    config.lease = flags.leader_elect_lease_duration;
    config.renew = flags.leader_elect_renew_deadline;
    config.retry = flags.leader_elect_retry_period;
    let elector = LeaderElector::new(client, config);
    let mut state = elector.leadership();
    let work = CancellationToken::new();
    let election = CancellationToken::new();
    let running = tokio::spawn(elector.run(election.clone()));
    let leading = until_done(state.clone(), caches, scheduler, &work);
    let result = tokio::select! {
        lost = state.wait_for(|s| *s == Leadership::Lost) => lost.map(|_| true).unwrap_or(false),
        () = leading => false,
        () = token.cancelled() => false,
    };
    work.cancel();
    // The lease is released only after the work has ended, so that two never act at once.
    election.cancel();
    let _ = running.await;
    if result { bail!("leader election lost") } else { Ok(()) }
}

async fn until_done(
    mut state: tokio::sync::watch::Receiver<Leadership>,
    caches: &Caches,
    scheduler: Arc<Scheduler>,
    work: &CancellationToken,
) {
    if state.wait_for(|s| *s == Leadership::Leading).await.is_ok() {
        act(caches, scheduler, work).await;
    }
}

async fn serve(
    flags: &Flags,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
    closing: &CancellationToken,
) -> Result<()> {
    if flags.secure_port == 0 {
        return Ok(());
    }
    let ca = flags.client_ca_file.as_deref();
    let tls = match (&flags.tls_cert_file, &flags.tls_private_key_file) {
        (Some(cert), Some(key)) => ServerTls::from_files(cert, key, ca)?,
        _ => ServerTls::self_signed_with_ca("localhost", ca)?,
    };
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let mut serving = Serving::new(address, Some(tls)).health(health.clone()).metrics(metrics.clone());
    if let Some(path) = delegate(flags) {
        let client = daemon::client::from_kubeconfig(&path, "kube-scheduler").await?;
        serving = serving.guard(Arc::new(Delegated::new(client)));
    }
    let listener =
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    tasks.spawn_result("secure port", serving.run_on(listener, closing.clone()));
    Ok(())
}

fn delegate(flags: &Flags) -> Option<PathBuf> {
    flags
        .authorization_kubeconfig
        .clone()
        .or_else(|| flags.authentication_kubeconfig.clone())
        .or_else(|| flags.kubeconfig.clone())
}
