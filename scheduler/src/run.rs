//! Puts the daemon together and runs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser as _;
use control::cache::Caches;
use control::events::Recorder;
use control::lease::{self, LeaderElector};
use daemon::delegated::Delegated;
use daemon::direct::Direct;
use daemon::fence::Fence;
use daemon::health::Health;
use daemon::metrics::Metrics;
use daemon::serving::Serving;
use daemon::tasks::Tasks;
use daemon::tls::ServerTls;
use tokio_util::sync::CancellationToken;

use crate::binder::Binder;
use crate::config::Flags;
use crate::configuration::Configuration;
use crate::extender;
use crate::follow::follow;
use crate::metrics::Counts;
use crate::queue::Queue;
use crate::schedule::Scheduler;
use crate::state::State;

/// How long tasks may take to end: longer than the scheduling's last writes.
const DRAIN: Duration = Duration::from_secs(12);

/// Runs until `token` is cancelled, or leadership is lost.
///
/// # Errors
/// When the configuration is wrong, the port is taken, or leadership was lost: the supervisor starts a new process then.
pub async fn run(mut flags: Flags, token: CancellationToken) -> Result<()> {
    let config = flags.config.as_deref().map(Configuration::read).transpose()?.unwrap_or_default();
    config.election.settle(&mut flags, &Flags::parse_from(["kube-scheduler"]));
    let path = flags.kubeconfig.clone().or_else(|| config.kubeconfig.clone());
    let path = path.context("no --kubeconfig is given")?;
    let fence = Fence::default();
    let (client, direct) = daemon::client::fenced_direct(&path, "kube-scheduler", &fence).await?;
    let tasks = Tasks::new(token.child_token());
    let (health, metrics) = (Health::new(), Metrics::new());
    // The port is held until the lease is released: the identity in the lease rests on it.
    let closing = CancellationToken::new();
    serve(&flags, &health, &metrics, &tasks, &closing).await?;
    daemon::notify::serving(&token);

    let caches = Caches::new(client.clone(), tasks.clone());
    let scheduler = assemble(config, (&client, direct), &metrics, &tasks).await?;
    if let Some(whole) = follow(&scheduler, &caches) {
        scheduler.keep(whole);
    }
    let outcome = if flags.leader_elect {
        // Connections of its own: a renewal must not wait behind thousands of bindings.
        let election = daemon::client::from_kubeconfig(&path, "kube-scheduler leader-election").await?;
        let elector = elector(&flags, election, &metrics, &fence);
        let start = async |work: Tasks| {
            begin(&work, &caches, scheduler);
            Ok(())
        };
        control::lead(elector, &tasks, &health, DRAIN, start).await
    } else {
        begin(&tasks, &caches, scheduler);
        tasks.token().cancelled().await;
        Ok(())
    };
    let asked = token.is_cancelled();
    closing.cancel();
    token.cancel();
    tasks.drain(DRAIN).await;
    anyhow::ensure!(asked || outcome.is_err(), "a task failed");
    outcome
}

async fn assemble(
    config: Configuration,
    (client, direct): (&kube::Client, Direct),
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Result<Arc<Scheduler>> {
    let (first, last) = config.backoff;
    let profiles = Arc::new(config.profiles);
    let state = State::new(Queue::new(first, last), profiles.clone());
    let recorder = |name: &str| Recorder::start_by(direct.clone(), client.clone(), name, None, tasks);
    let events = profiles.iter().map(|p| (p.name.clone(), recorder(&p.name))).collect();
    let mut extenders = Vec::new();
    for extender in config.extenders {
        extenders.push(extender::client::Client::new(extender).await?);
    }
    let binder = Binder::new(client.clone(), events).by(direct);
    Ok(Scheduler::new(state, profiles, binder, Counts::register(metrics), extenders))
}

/// Begins to schedule, as soon as the caches are filled.
fn begin(work: &Tasks, caches: &Caches, scheduler: Arc<Scheduler>) {
    let (caches, token) = (caches.clone(), work.token().clone());
    // It ends by itself when told to, once its writes have been answered.
    work.spawn_result("scheduling", async move {
        if token.run_until_cancelled(caches.synced()).await.is_some() {
            scheduler.run(token).await;
        }
        Ok(())
    });
}

fn elector(flags: &Flags, client: kube::Client, metrics: &Metrics, fence: &Fence) -> LeaderElector {
    let mut config = lease::Config::new(
        &flags.leader_elect_resource_namespace,
        &flags.leader_elect_resource_name,
        &lease::identity(Some(SocketAddr::new(flags.bind_address, flags.secure_port))),
    );
    config.lease = flags.leader_elect_lease_duration;
    config.renew = flags.leader_elect_renew_deadline;
    config.retry = flags.leader_elect_retry_period;
    LeaderElector::new(client, config).metrics(metrics).fence(fence)
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
