//! Puts the daemon together and runs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser as _;
use control::cache::Caches;
use control::events::Recorder;
use control::lease::{self, LeaderElector, Leadership};
use daemon::delegated::Delegated;
use daemon::direct::Direct;
use daemon::fence::Fence;
use daemon::health::Health;
use daemon::metrics::Metrics;
use daemon::serving::Serving;
use daemon::tasks::Tasks;
use daemon::tls::ServerTls;
use tokio::task::JoinSet;
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

/// How long tasks may take to end.
const DRAIN: Duration = Duration::from_secs(10);

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
    let tasks = Tasks::new(token.clone());
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
        lead(&flags, election, (&metrics, &fence), &caches, scheduler, &token).await
    } else {
        act(&caches, scheduler, &token).await;
        Ok(())
    };
    closing.cancel();
    token.cancel();
    tasks.drain(DRAIN).await;
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

async fn act(caches: &Caches, scheduler: Arc<Scheduler>, token: &CancellationToken) {
    if token.run_until_cancelled(caches.synced()).await.is_none() {
        return;
    }
    // On a worker of the runtime: what the loop starts is then taken up without waking another thread.
    let mut running = JoinSet::new();
    running.spawn(scheduler.run(token.clone()));
    match running.join_next().await {
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        _ => {}
    }
}

/// Acts only while leading; returns an error when leadership is lost.
async fn lead(
    flags: &Flags,
    client: kube::Client,
    (metrics, fence): (&Metrics, &Fence),
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
    let elector = LeaderElector::new(client, config).metrics(metrics).fence(fence);
    let mut state = elector.leadership();
    let work = token.child_token();
    let election = CancellationToken::new();
    let running = tokio::spawn(elector.run(election.clone()));
    let leading = until_done(state.clone(), caches, scheduler, &work);
    // Told to end, the work ends by itself, and the lease is held until it has: two must never act at once.
    let result = tokio::select! {
        lost = state.wait_for(|s| *s == Leadership::Lost) => lost.is_ok(),
        () = leading => false,
    };
    work.cancel();
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
    let leads = state.wait_for(|s| *s == Leadership::Leading);
    // What it yields locks the state against the elector: it must be gone before the work begins.
    let leading = work.run_until_cancelled(leads).await.is_some_and(|seen| seen.is_ok());
    if leading {
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
