//! The daemon: takes connections in and joins each to a server; learns and checks servers beside.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use daemon::files::FileWatch;
use daemon::health::Health;
use daemon::serving::{Handler, Serving, text};
use daemon::tasks::Tasks;
use http::StatusCode;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::pool::{Charge, Pool, State};
use crate::probe::Checker;
use crate::splice::{self, End};
use crate::{connect, learn, probe};

const USER_AGENT: &str = concat!("coxswain-balancer/", env!("CARGO_PKG_VERSION"));
/// For connections under way to come to a pause when the process ends.
const DRAIN: Duration = Duration::from_secs(5);
/// Connections at once, if the process may open files for them.
const MOST: usize = 10_000;
/// Connections that wait to be taken.
const BACKLOG: u32 = 1024;
/// Descriptors for everything but connections, which take two each.
const RESERVED: usize = 64;
/// With no server at all, how often and how long a client's connection is tried.
const PATIENCE: (u32, Duration) = (3, Duration::from_millis(200));

/// The parts that the accepting, learning and checking tasks share.
#[derive(Clone)]
struct Shared {
    pool: Pool,
    checker: Arc<Checker>,
    metrics: Arc<Metrics>,
    /// All tasks; their token's end is that of the process.
    tasks: Tasks,
}

/// Runs until cancelled. `file` is followed for other servers; what else it says counts from the next start.
///
/// # Errors
/// When the ports are taken, or the configuration makes no sense.
pub async fn run(config: Config, file: Option<PathBuf>, token: CancellationToken) -> Result<()> {
    let listener = listen(config.listen).with_context(|| format!("listen on {}", config.listen))?;
    run_on(config, file, listener, token).await
}

/// With room for all clients of a node that come back at once.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// As [`run`], on a listener of the caller's.
///
/// # Errors
/// As of [`run`].
pub async fn run_on(
    config: Config,
    file: Option<PathBuf>,
    listener: TcpListener,
    token: CancellationToken,
) -> Result<()> {
    // A task that fails takes the process down with it, in good order
    let tasks = Tasks::new(token.child_token());
    let shared = Shared {
        pool: Pool::new(tasks.token().clone()),
        checker: Checker::new(config.ca_file.as_deref(), &config.server_name)?,
        metrics: Metrics::new(daemon::metrics::Metrics::new()),
        tasks: tasks.clone(),
    };
    shared.look_after(shared.pool.configure(&config.prefer, &config.seeds()));
    shared.look_after(shared.pool.learn(&learn::recall(&config.state)));
    tracing::info!(listen = ?config.listen, servers = ?shared.pool.order(), "balancing");
    tasks.spawn_result("health", shared.serving(&config).run(tasks.token().clone()));
    tasks.spawn("learn", shared.clone().learning(config));
    tasks.spawn("configuration", shared.clone().following(file));
    daemon::notify::serving(&token);
    shared.accepting(listener).await;
    tasks.drain(DRAIN).await;
    anyhow::ensure!(token.is_cancelled(), "a task failed");
    Ok(())
}

impl Shared {
    fn look_after(&self, charges: Vec<Charge>) {
        for charge in charges {
            let name = format!("check {}", charge.name);
            let check = probe::watch(charge, self.pool.clone(), self.checker.clone());
            self.tasks.spawn_result(name, async {
                check.await;
                Ok(())
            });
        }
    }

    /// Takes connections until cancelled, then lets those under way come to a pause.
    async fn accepting(&self, listener: TcpListener) {
        let token = self.tasks.token();
        let tracker = TaskTracker::new();
        let room = Arc::new(Semaphore::new(most()));
        while let Some(permit) = token.run_until_cancelled(room.clone().acquire_owned()).await {
            match token.run_until_cancelled(listener.accept()).await {
                None => break,
                Some(Ok((client, _))) => {
                    let shared = self.clone();
                    tracker.spawn(async move {
                        shared.serve(client).await;
                        drop(permit);
                    });
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        tracker.close();
        let _ = tokio::time::timeout(DRAIN, tracker.wait()).await;
    }

    async fn serve(&self, client: TcpStream) {
        self.metrics.accepted();
        let _ = client.set_nodelay(true);
        let Some((server, stream)) = self.find().await else {
            self.metrics.unserved();
            tracing::warn!("no API server takes connections");
            return;
        };
        let Some(lease) = self.pool.lease(&server) else { return };
        let end = splice::join(client, stream, lease.cut(), self.tasks.token()).await;
        if end == End::ServerBroke {
            // It may be the end of the server itself
            self.pool.suspect(lease.server());
        }
    }

    /// A server for a client, who is made to wait a moment rather than sent away.
    async fn find(&self) -> Option<(String, TcpStream)> {
        for round in 1..=PATIENCE.0 {
            let failed = |server: &str, error: &std::io::Error| {
                tracing::debug!(server, %error, "no connection");
                self.metrics.failed(server);
            };
            let found = connect::first(&self.pool, failed).await;
            if found.is_some() || round == PATIENCE.0 || self.tasks.token().is_cancelled() {
                return found;
            }
            tokio::time::sleep(PATIENCE.1).await;
        }
        None
    }

    /// Learns who serves, with the identity in the kubeconfig once that is there.
    async fn learning(self, config: Config) {
        let Some(kubeconfig) = &config.kubeconfig else { return std::future::pending().await };
        let client = match daemon::client::once_identified(kubeconfig, USER_AGENT).await {
            Ok(client) => client,
            Err(error) => {
                tracing::error!("nothing will be learned: {error:#}");
                return std::future::pending().await;
            }
        };
        learn::follow(client, |servers| {
            tracing::info!(?servers, "the cluster's API servers");
            self.look_after(self.pool.learn(&servers));
            if let Err(error) = learn::remember(&config.state, &servers) {
                tracing::warn!("{error:#}");
            }
        })
        .await;
        tracing::error!("the watch of API servers ended");
        std::future::pending().await
    }

    /// Takes over other servers from the configuration.
    async fn following(self, file: Option<PathBuf>) {
        let Some(path) = file else { return std::future::pending().await };
        if let Err(error) = self.follow(&path).await {
            tracing::warn!(%error, "changes of the configuration will not be noticed");
        }
        std::future::pending().await
    }

    async fn follow(&self, path: &std::path::Path) -> std::io::Result<()> {
        let mut watch = FileWatch::new(path)?;
        loop {
            watch.changed().await?;
            match Config::read(path) {
                Ok(config) => {
                    let charges = self.pool.configure(&config.prefer, &config.seeds());
                    tracing::info!(servers = ?config.seeds(), prefer = config.prefer, "configuration changed");
                    self.look_after(charges);
                }
                Err(error) => tracing::warn!("keeping the previous configuration: {error:#}"),
            }
        }
    }

    fn serving(&self, config: &Config) -> Serving {
        let (pool, metrics) = (self.pool.clone(), self.metrics.clone());
        let numbers: Handler = Arc::new(move |_, _| {
            let mut answer = text(StatusCode::OK, metrics.encode(&pool));
            let kind = http::HeaderValue::from_static(daemon::metrics::CONTENT_TYPE);
            answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
            Box::pin(async { answer })
        });
        let pool = self.pool.clone();
        let ready: Handler = Arc::new(move |_, _| {
            let any = pool.shown().iter().any(|s| s.state == State::Healthy);
            let answer = match any {
                true => text(StatusCode::OK, "ok"),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "no healthy API server\n"),
            };
            Box::pin(async { answer })
        });
        let pool = self.pool.clone();
        let servers: Handler = Arc::new(move |_, _| {
            let shown = serde_json::to_string_pretty(&pool.shown()).unwrap_or_default();
            Box::pin(async { text(StatusCode::OK, shown + "\n") })
        });
        Serving::new(config.health, None)
            .health(Health::new())
            .route("/metrics", numbers)
            .route("/readyz", ready)
            .route("/servers", servers)
    }
}

/// Connections that fit into the process's limit of open files, which is raised as far as it goes.
fn most() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard);
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, limit, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    (usize::try_from(limit).unwrap_or(MOST).saturating_sub(RESERVED) / 2).clamp(16, MOST)
}
