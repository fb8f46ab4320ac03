//! Keeps the status of APIServices: one task for each that another server serves, woken by changes of what it leads to,
//! and now and then of itself, since a server may go away without a word.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use machinery::status::Status;
use serde_json::Value;
use tokio::task::AbortHandle;

use super::health::{self, Verdict};
use super::{GROUP_VERSION, RESOURCE, Remote};
use crate::app::App;
use crate::registry::val::{at, s_at};
use crate::request::Ctx;
use crate::{internal, rest};

/// How long after a check that passed the next one follows.
const AGAIN: Duration = Duration::from_secs(30);
/// The first pause after a failed check; it doubles up to [`AGAIN`].
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// How often a server is asked what it serves.
const RELEARN: Duration = Duration::from_secs(60);
/// A server's deadline for saying what it serves.
const PROBE: Duration = Duration::from_secs(5);
/// How often a server is asked before it counts as failing.
const ATTEMPTS: usize = 5;

/// The health checks of what runs here.
const HOOKS: [&str; 6] = [
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
];

struct Worker {
    remote: Arc<Remote>,
    task: AbortHandle,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs for as long as the server does.
pub async fn run(app: Arc<App>) {
    app.reader.synced().await;
    for hook in HOOKS {
        app.health.set(&format!("poststarthook/{hook}"), Ok(()));
    }
    let mut changes = app.aggregator.changes();
    let mut workers: AHashMap<String, Worker> = AHashMap::default();
    loop {
        changes.borrow_and_update();
        hire(&app, &mut workers);
        local_ones(&app).await;
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// A worker for each remote server as it is now.
fn hire(app: &Arc<App>, workers: &mut AHashMap<String, Worker>) {
    let all = app.aggregator.all();
    workers.retain(|_, worker| all.iter().any(|r| Arc::ptr_eq(r, &worker.remote)));
    for remote in all.iter() {
        if !workers.contains_key(&remote.spec.name) {
            let task = tokio::spawn(attend(app.clone(), remote.clone())).abort_handle();
            workers.insert(remote.spec.name.clone(), Worker { remote: remote.clone(), task });
        }
    }
}

/// What this server serves itself is available.
async fn local_ones(app: &Arc<App>) {
    for entry in app.reader.list(RESOURCE, "") {
        let object = entry.parsed();
        let local = at(&object, &["spec", "service"]).is_none_or(Value::is_null);
        let wrong = local && health::with_verdict(&object, &Verdict::local()).is_some();
        if wrong && let Err(status) = write(app, entry.name(), &Verdict::local()).await {
            tracing::info!(apiservice = entry.name(), error = %status.message, "status not written");
        }
    }
}

async fn attend(app: Arc<App>, remote: Arc<Remote>) {
    let mut pause = FIRST_RETRY;
    loop {
        let settled = round(&app, &remote).await;
        let wait = if settled { AGAIN } else { pause };
        pause = if settled { FIRST_RETRY } else { (pause * 2).min(AGAIN) };
        tokio::select! {
            () = remote.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Looks once and says what was found; whether that will do for a while. What is served is known before the status
/// invites requests.
async fn round(app: &Arc<App>, remote: &Remote) -> bool {
    let verdict = check(app, remote).await;
    let learnt = learn(app, remote, &verdict).await;
    let written = write(app, &remote.spec.name, &verdict).await;
    if let Err(status) = &written {
        tracing::info!(apiservice = remote.spec.name, error = %status.message, "status not written");
    }
    // What only the stored objects tell wakes us when it changes.
    learnt && written.is_ok() && verdict.reason != "FailedDiscoveryCheck"
}

/// Asks an available server what it serves, now and then; of one that is away, what is known is old.
async fn learn(app: &App, remote: &Remote, verdict: &Verdict) -> bool {
    let fresh = remote.known.asked().is_some_and(|asked| asked.elapsed() < RELEARN);
    if verdict.available && fresh {
        return true;
    }
    let outcome = match verdict.available {
        false => Err(verdict.message.clone()),
        true => match tokio::time::timeout(PROBE, app.aggregator.learn(remote)).await {
            Ok(outcome) => outcome,
            Err(_) => Err("request timed out".to_owned()),
        },
    };
    let news = match &outcome {
        Ok(news) => *news,
        Err(why) => {
            tracing::debug!(apiservice = remote.spec.name, why, "what it serves is not known");
            remote.known.stale()
        }
    };
    let documents = match outcome.is_ok() {
        true => tokio::time::timeout(PROBE, app.aggregator.learn_openapi(remote)).await.unwrap_or(false),
        false => false,
    };
    if news || documents {
        app.aggregator.touch();
    }
    // Of one that is away, it is the status that is looked after again.
    outcome.is_ok() || !verdict.available
}

async fn check(app: &App, remote: &Remote) -> Verdict {
    let spec = &remote.spec;
    let service = app.reader.get("services", &spec.namespace, &spec.service).map(|e| e.parse());
    let slices = app.aggregator.slices(spec);
    if let Some(verdict) = health::judge(spec, service.as_ref(), &slices) {
        return verdict;
    }
    match probe(app, remote).await {
        Ok(()) => Verdict::passed(),
        Err(why) => Verdict::failed_discovery(why),
    }
}

/// One answer of several is enough: one endpoint of many may be ill. The first is asked alone, as it mostly does.
async fn probe(app: &App, remote: &Remote) -> Result<(), String> {
    let once = || async {
        match tokio::time::timeout(PROBE, app.aggregator.probe(remote)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(timed_out(app, remote)),
        }
    };
    let mut last = once().await;
    if last.is_err() {
        let others = futures::future::join_all((1..ATTEMPTS).map(|_| once())).await;
        last = others.into_iter().reduce(Result::or).unwrap_or(last);
    }
    last
}

fn timed_out(app: &App, remote: &Remote) -> String {
    let authority = app.aggregator.authority(&remote.spec).unwrap_or_default();
    let url = format!("https://{authority}{}", remote.spec.path());
    format!(
        "failing or missing response from {url}: Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    )
}

/// Writes a verdict into the status of an APIService, unless it stands there already.
async fn write(app: &Arc<App>, name: &str, verdict: &Verdict) -> Result<(), Status> {
    let Some(stored) = internal::get(app, RESOURCE, "", name) else { return Ok(()) };
    let Some(new) = health::with_verdict(&stored, verdict) else { return Ok(()) };
    let (available, reason) = (verdict.available, verdict.reason);
    if health::says_available(&stored) != available {
        tracing::info!(apiservice = name, available, reason, "availability changed");
    }
    let target = rest::Target::named(app, GROUP_VERSION, "apiservices", "", name)?.with_subresource("status");
    let written = rest::update::update_value(&Ctx::internal(app.clone()), &target, new).await?;
    if !available {
        app.aggregator.losses.add(name, reason);
    }
    // The table follows the cache, and so must the next look at the stored status.
    let version = s_at(&written, &["metadata", "resourceVersion"]).parse().unwrap_or(0);
    app.cache.wait_for(version).await
}
