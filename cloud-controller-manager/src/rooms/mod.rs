//! The controllers, in the order in which they start.

pub mod lifecycle;
pub mod node;
pub mod route;
pub mod service;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;

use crate::{Context, SYNC_DEADLINE};

/// Name of the node controller, and its old name.
const NODE: (&str, &str) = ("cloud-node-controller", "cloud-node");
const LIFECYCLE: (&str, &str) = ("cloud-node-lifecycle-controller", "cloud-node-lifecycle");
const SERVICE: (&str, &str) = ("service-lb-controller", "service");
const ROUTE: (&str, &str) = ("node-route-controller", "route");
/// Time for one call of the API server or the provider.
const CALL: Duration = Duration::from_secs(30);

/// Starts the controllers that are enabled and for which the provider has something.
pub async fn start(context: &Context) {
    let on = |(name, old): (&str, &str)| context.config.enabled(name, old);
    if tokio::time::timeout(SYNC_DEADLINE, context.caches.synced()).await.is_err() {
        tracing::warn!("some caches are not filled yet");
    }
    context.provider.start(context);
    let has = (context.provider.instances().is_some(), context.provider.load_balancers().is_some());
    tracing::info!(
        provider = context.provider.name(),
        instances = has.0,
        load_balancers = has.1,
        "starting controllers"
    );
    if has.0 && on(NODE) {
        node::start(context);
    }
    if has.0 && on(LIFECYCLE) {
        lifecycle::start(context);
    }
    if has.1 && on(SERVICE) {
        service::start(context);
    }
    if on(ROUTE) {
        route::start(context);
    }
}

/// A call with its deadline.
async fn within<T, E>(what: &str, call: impl Future<Output = Result<T, E>>) -> Result<T>
where
    E: Into<anyhow::Error>,
{
    let answer = tokio::time::timeout(CALL, call).await;
    answer.with_context(|| format!("{what}: no answer within {} s", CALL.as_secs()))?.map_err(Into::into)
}

/// An object's name.
fn name(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// How long a node has been there, in seconds.
fn age(node: &Node) -> f64 {
    let made = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
    made.map_or(0.0, |made| (Timestamp::now() - made).get_milliseconds().max(0) as f64 / 1000.0)
}

/// Does a node have this taint?
pub(crate) fn tainted(node: &Node, key: &str) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    taints.into_iter().flatten().any(|t| t.key == key)
}

/// The status of a node's condition Ready.
pub(crate) fn ready(node: &Node) -> &str {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let found = conditions.into_iter().flatten().find(|c| c.type_ == "Ready");
    found.map_or("Unknown", |c| c.status.as_str())
}

pub(crate) fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}
