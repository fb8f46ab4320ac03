//! Objects the server keeps of its own accord: namespaces, bootstrap roles, priority classes and the like.

pub mod objects;
pub mod policy;
pub mod reconcile;

use std::sync::Arc;
use std::time::Duration;

use daemon::files::FileWatch;
use futures::{StreamExt, TryStreamExt, stream};
use machinery::status::Status;
use rand::Rng;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::App;
use crate::health::Health;
use crate::internal;

const RBAC: &str = "rbac.authorization.k8s.io";
/// Writes under way at a time.
const AT_ONCE: usize = 16;
const HOOKS: [&str; 7] = [
    "start-system-namespaces-controller",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "start-cluster-authentication-info-controller",
    "start-kubernetes-service-cidr-controller",
    AUTOREGISTRATION,
];
const AUTOREGISTRATION: &str = "kube-apiserver-autoregistration";
/// Says that the registered APIServices are in place.
const REGISTERED: &str = "autoregister-completion";

/// Names the hooks in the health checks before anybody asks: a server is not ready until all are done.
pub fn announce(health: &Health) {
    for hook in HOOKS {
        health.set(&format!("poststarthook/{hook}"), Err("not finished".into()));
    }
    health.set(REGISTERED, Err("missing APIService".into()));
}

/// Runs for as long as the server does; marks each hook in `app.health` as `poststarthook/NAME` when it is done.
pub async fn run(app: Arc<App>, cancel: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        () = start(&app) => {}
    }
    info!("bootstrap objects are in place");
    tokio::select! {
        () = cancel.cancelled() => {}
        () = keep_namespaces(&app) => {}
        () = keep_authentication_info(&app) => {}
    }
    Ok(())
}

/// Publishes the CA bundles anew when their files change.
async fn keep_authentication_info(app: &Arc<App>) {
    let files = [&app.config.client_ca_file, &app.config.requestheader_client_ca_file];
    let mut watches: Vec<FileWatch> =
        files.into_iter().flatten().filter_map(|f| FileWatch::new(f).ok()).collect();
    while !watches.is_empty() {
        let changes = watches.iter_mut().map(|watch| Box::pin(watch.changed()));
        let (changed, index, _) = futures::future::select_all(changes).await;
        if changed.is_err() {
            drop(watches.remove(index));
        }
        until_done(app, HOOKS[4]).await;
    }
    std::future::pending().await
}

async fn start(app: &Arc<App>) {
    app.reader.synced().await;
    for hook in HOOKS {
        until_done(app, hook).await;
        app.health.set(&format!("poststarthook/{hook}"), Ok(()));
    }
    app.health.set(REGISTERED, Ok(()));
}

/// Tries a hook until it succeeds, with a growing, jittered pause: the store may be away.
async fn until_done(app: &Arc<App>, hook: &str) {
    let mut pause = Duration::from_millis(100);
    while let Err(status) = perform(app, hook).await {
        warn!(hook, error = %status.message, "bootstrap step failed, trying again");
        let jitter = rand::rng().random_range(0.5..1.5);
        tokio::time::sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

async fn perform(app: &Arc<App>, hook: &str) -> Result<(), Status> {
    match hook {
        "start-system-namespaces-controller" => namespaces(app).await,
        "rbac/bootstrap-roles" => roles(app).await,
        "scheduling/bootstrap-system-priority-classes" => {
            create_missing(app, "scheduling.k8s.io/v1", "priorityclasses", objects::priority_classes()).await
        }
        "priority-and-fairness-config-producer" => flow_control(app).await,
        "start-cluster-authentication-info-controller" => authentication_info(app).await,
        AUTOREGISTRATION => crate::aggregator::local::register(app).await,
        _ => {
            create_missing(
                app,
                "networking.k8s.io/v1",
                "servicecidrs",
                vec![objects::service_cidr(&app.config)],
            )
            .await
        }
    }
}

fn group_resource(group_version: &str, plural: &str) -> String {
    match group_version.split_once('/') {
        Some((group, _)) => format!("{plural}.{group}"),
        None => plural.to_owned(),
    }
}

/// Another server may have been quicker, or the cache behind: both mean that the object is there.
fn created(result: Result<Value, Status>) -> Result<(), Status> {
    match result {
        Err(status) if !status.is("AlreadyExists") => Err(status),
        _ => Ok(()),
    }
}

async fn create_missing(
    app: &Arc<App>,
    group_version: &str,
    plural: &str,
    all: Vec<Value>,
) -> Result<(), Status> {
    let resource = group_resource(group_version, plural);
    let missing = all.into_iter().filter(|object| {
        let (namespace, name) = (machinery::meta::namespace(object), machinery::meta::name(object));
        internal::get(app, &resource, namespace, name).is_none()
    });
    let creations = missing.map(|object| async move {
        let namespace = machinery::meta::namespace(&object).to_owned();
        created(internal::create(app, group_version, plural, &namespace, object).await)
    });
    together(creations).await
}

/// Several writes share one of etcd's commits to disk; until the roles are there, everybody is refused.
async fn together<W: Future<Output = Result<(), Status>>>(
    writes: impl Iterator<Item = W>,
) -> Result<(), Status> {
    stream::iter(writes).buffer_unordered(AT_ONCE).try_for_each(|()| std::future::ready(Ok(()))).await
}

async fn namespaces(app: &Arc<App>) -> Result<(), Status> {
    create_missing(app, "v1", "namespaces", objects::NAMESPACES.map(objects::namespace).into()).await
}

/// Brings deleted system namespaces back.
async fn keep_namespaces(app: &Arc<App>) {
    let Some(mut changed) = app.reader.changed("namespaces") else { return std::future::pending().await };
    loop {
        until_done(app, HOOKS[0]).await;
        if changed.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn flow_control(app: &Arc<App>) -> Result<(), Status> {
    let version = "flowcontrol.apiserver.k8s.io/v1";
    create_missing(app, version, "prioritylevelconfigurations", objects::priority_levels()).await?;
    create_missing(app, version, "flowschemas", objects::flow_schemas()).await
}

async fn roles(app: &Arc<App>) -> Result<(), Status> {
    together(policy::all().into_iter().map(|wanted| role(app, wanted))).await
}

async fn role(app: &Arc<App>, wanted: policy::Bootstrap) -> Result<(), Status> {
    let resource = format!("{}.{RBAC}", wanted.plural);
    let object = wanted.object();
    match internal::get(app, &resource, &wanted.namespace, &wanted.name) {
        None => {
            let version = format!("{RBAC}/v1");
            created(internal::create(app, &version, wanted.plural, &wanted.namespace, object).await)
        }
        Some(stored) => reconcile_one(app, &wanted, &stored, object).await,
    }
}

async fn reconcile_one(
    app: &Arc<App>,
    wanted: &policy::Bootstrap,
    stored: &Value,
    object: Value,
) -> Result<(), Status> {
    let (version, plural, namespace) = (format!("{RBAC}/v1"), wanted.plural, wanted.namespace.as_str());
    match reconcile::step(stored, &object) {
        reconcile::Step::Nothing => Ok(()),
        reconcile::Step::Update(new) => {
            internal::update(app, &version, plural, namespace, *new).await.map(|_| ())
        }
        reconcile::Step::Recreate => {
            internal::delete(app, &version, plural, namespace, &wanted.name).await?;
            created(internal::create(app, &version, plural, namespace, object).await)
        }
    }
}

async fn authentication_info(app: &Arc<App>) -> Result<(), Status> {
    let wanted = objects::extension_authentication(&app.config).map_err(Status::internal)?;
    let (namespace, name) = ("kube-system", "extension-apiserver-authentication");
    match internal::get(app, "configmaps", namespace, name) {
        None => created(internal::create(app, "v1", "configmaps", namespace, wanted).await),
        Some(stored) if stored.get("data") == wanted.get("data") => Ok(()),
        Some(mut stored) => {
            stored["data"] = wanted["data"].clone();
            internal::update(app, "v1", "configmaps", namespace, stored).await.map(|_| ())
        }
    }
}
