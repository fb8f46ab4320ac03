//! Namespaces being deleted: everything in them goes, pods first, then they are let go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, ListParams, PartialObjectMeta};
use kube::core::DynamicObject;
use serde_json::json;

use crate::kit::discovery::{self, Found, Resource};
use crate::kit::meta::{name, namespace, until};
use crate::kit::write::Verb;
use crate::kit::{Context, Kind, Write};

const FINALIZER: &str = "kubernetes";
/// How long after the first sign a namespace is emptied: caches of other controllers learn of it meanwhile.
const GRACE: Duration = Duration::from_secs(1);
/// Resources that are not kept, or go with something else.
const SKIPPED: [&str; 2] = ["bindings", "localsubjectaccessreviews"];
/// Assumed wait when finalizers hold something back.
const FINALIZER_ESTIMATE: i64 = 15;
const SHORTEST_WAIT: Duration = Duration::from_millis(500);

/// Starts the controller.
pub fn start(context: Context) {
    let namespaces: Cache<Namespace> = context.caches.of();
    let queue: Queue<Key> = Queue::with_backoff(Duration::from_millis(100), Duration::from_secs(60));
    let q = queue.clone();
    namespaces.handle(move |event| {
        if event.new.as_ref().is_some_and(|n| n.metadata.deletion_timestamp.is_some()) {
            q.add_after(event.key.clone(), GRACE);
        }
    });
    let workers = context.config.workers("namespace", 10);
    let room = Arc::new((context.clone(), namespaces));
    context.run(Options::new("namespace-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { sync(&room.0, &room.1, &key).await }
    });
}

async fn sync(context: &Context, namespaces: &Cache<Namespace>, key: &Key) -> Outcome {
    let Some(namespace) = namespaces.get_key(key) else { return Ok(None) };
    if namespace.metadata.deletion_timestamp.is_none() || finalizers(&namespace).is_empty() {
        return Ok(None);
    }
    let found = discovery::preferred(&context.root).await?;
    let emptied = empty(context, name(&namespace.metadata), &found).await;
    // The status is written over what is there now: several looks may follow each other quickly.
    let api: Api<Namespace> = Api::all(context.writer.client());
    let Some(live) = api.get_opt(name(&namespace.metadata)).await? else { return Ok(None) };
    if live.metadata.uid != namespace.metadata.uid {
        return Ok(None);
    }
    let live = write_status(context, live, &found, &emptied).await?;
    if !emptied.remaining.is_empty() || !emptied.failures.is_empty() {
        let since = namespace.metadata.deletion_timestamp.as_ref().map_or_else(Timestamp::now, |t| t.0);
        return Ok(Some(emptied.wait(until(Timestamp::now(), since))));
    }
    anyhow::ensure!(found.failed.is_empty(), "not all resources are known: {}", found.failed.join("; "));
    finalize(context, live).await
}

fn finalizers(namespace: &Namespace) -> Vec<String> {
    namespace.spec.clone().unwrap_or_default().finalizers.unwrap_or_default()
}

async fn finalize(context: &Context, mut namespace: Namespace) -> Outcome {
    let left: Vec<String> = finalizers(&namespace).into_iter().filter(|f| f != FINALIZER).collect();
    namespace.spec.get_or_insert_default().finalizers = Some(left);
    match context.writer.send(&Write::update(&namespace).subresource("finalize")).await {
        Err(failure) if failure.not_found() => Ok(None),
        Err(failure) => Err(failure.into()),
        Ok(_) => Ok(None),
    }
}

/// What came of deleting everything.
#[derive(Debug, Default)]
struct Emptied {
    /// Instances left, per `resource.group`.
    remaining: BTreeMap<String, usize>,
    /// Instances left that carry a finalizer, per finalizer.
    finalizers: BTreeMap<String, usize>,
    failures: Vec<String>,
    /// Seconds until what is left should be gone.
    estimate: i64,
}

impl Emptied {
    /// Half of the estimate, as upstream, but never more than a quarter of what the deletion has taken so far: what
    /// goes soon is noticed soon, and looks become rare by themselves.
    fn wait(&self, taken: Duration) -> Duration {
        let estimated = Duration::from_millis((self.estimate.clamp(0, 600) as u64) * 500 + 500);
        estimated.min((taken / 4).max(SHORTEST_WAIT))
    }

    fn count(&mut self, resource: &Resource, left: &[ObjectMeta], now: Timestamp) {
        if left.is_empty() {
            return;
        }
        self.remaining.insert(resource.dotted(), left.len());
        for meta in left {
            for finalizer in meta.finalizers.iter().flatten() {
                *self.finalizers.entry(finalizer.clone()).or_insert(0) += 1;
                self.estimate = self.estimate.max(FINALIZER_ESTIMATE);
            }
            let passed = meta.deletion_timestamp.as_ref().map_or(0, |t| now.duration_since(t.0).as_secs());
            self.estimate = self.estimate.max((-passed).max(0));
        }
    }
}

/// Deletes pods; when there are none left, everything else.
async fn empty(context: &Context, namespace: &str, found: &Found) -> Emptied {
    let mut emptied = Emptied::default();
    let deletable =
        |r: &&Resource| r.namespaced && r.can("delete") && !SKIPPED.contains(&r.kind.plural.as_ref());
    let (pods, others): (Vec<&Resource>, Vec<&Resource>) = found
        .resources
        .iter()
        .filter(deletable)
        .partition(|r| r.kind.plural == "pods" && r.kind.group.is_empty());
    for resource in pods {
        purge(context, namespace, resource, &mut emptied).await;
    }
    if !emptied.remaining.is_empty() || !emptied.failures.is_empty() {
        return emptied;
    }
    for resource in others {
        purge(context, namespace, resource, &mut emptied).await;
    }
    emptied
}

async fn purge(context: &Context, namespace: &str, resource: &Resource, emptied: &mut Emptied) {
    let outcome = async {
        let present = list(context, namespace, resource).await?;
        if present.is_empty() {
            return Ok(present);
        }
        delete_all(context, namespace, resource, &present).await?;
        list(context, namespace, resource).await
    };
    match outcome.await {
        Ok(left) => emptied.count(resource, &left, Timestamp::now()),
        Err(error) => emptied.failures.push(format!("{}: {error:#}", resource.dotted())),
    }
}

async fn list(context: &Context, namespace: &str, resource: &Resource) -> Result<Vec<ObjectMeta>> {
    if !resource.can("list") {
        return Ok(Vec::new());
    }
    let kind = &resource.kind;
    let dynamic = kind.dynamic();
    let api: Api<DynamicObject> = Api::namespaced_with(context.writer.client(), namespace, &dynamic);
    match api.list_metadata(&ListParams::default()).await {
        Ok(list) => {
            Ok(list.items.into_iter().map(|o: PartialObjectMeta<DynamicObject>| o.metadata).collect())
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => Ok(Vec::new()),
        Err(error) => Err(error).context("list"),
    }
}

async fn delete_all(context: &Context, ns: &str, resource: &Resource, present: &[ObjectMeta]) -> Result<()> {
    if resource.can("deletecollection") {
        match context.writer.send_as::<serde_json::Value>(&delete(&resource.kind, ns, "")).await {
            Ok(_) => return Ok(()),
            Err(failure) if matches!(failure.code, 404 | 405) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    for meta in present.iter().filter(|m| m.deletion_timestamp.is_none()) {
        let write = delete(&resource.kind, namespace(meta), name(meta));
        match context.writer.send_as::<serde_json::Value>(&write).await {
            Err(failure) if failure.not_found() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

fn delete(kind: &Kind, namespace: &str, name: &str) -> Write {
    Write {
        verb: Verb::Delete,
        kind: kind.clone(),
        namespace: namespace.into(),
        name: name.into(),
        subresource: "",
        body: json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}),
        query: "",
        note: String::new(),
    }
}

async fn write_status(
    context: &Context,
    mut live: Namespace,
    found: &Found,
    emptied: &Emptied,
) -> Result<Namespace> {
    let mut status = live.status.clone().unwrap_or_default();
    status.phase = Some("Terminating".into());
    let mut list = status.conditions.take().unwrap_or_default();
    conditions(found, emptied).into_iter().for_each(|c| put(&mut list, c));
    status.conditions = Some(list);
    if live.status.as_ref() == Some(&status) {
        return Ok(live);
    }
    live.status = Some(status);
    Ok(context.writer.send_as::<Namespace>(&Write::update_status(&live)).await?)
}

/// The five conditions: True names a problem.
fn conditions(found: &Found, emptied: &Emptied) -> Vec<NamespaceCondition> {
    let make = |kind: &str, problem: Option<String>, bad: &str, good: &str, fine: &str| NamespaceCondition {
        type_: kind.into(),
        status: if problem.is_some() { "True" } else { "False" }.into(),
        reason: Some(if problem.is_some() { bad } else { good }.into()),
        message: Some(problem.unwrap_or_else(|| fine.into())),
        last_transition_time: Some(Time(Timestamp::now())),
    };
    let listed = |map: &BTreeMap<String, usize>, what: &str| {
        let parts: Vec<String> =
            map.iter().map(|(k, n)| format!("{k} {what} {n} resource instances")).collect();
        parts.join(", ")
    };
    let unknown = (!found.failed.is_empty()).then(|| {
        format!(
            "Discovery failed for some groups, {} failing: {}",
            found.failed.len(),
            found.failed.join(", ")
        )
    });
    let failed = (!emptied.failures.is_empty()).then(|| {
        format!(
            "Failed to delete all resource types, {} remaining: {}",
            emptied.failures.len(),
            emptied.failures.join(", ")
        )
    });
    let remaining = (!emptied.remaining.is_empty())
        .then(|| format!("Some resources are remaining: {}", listed(&emptied.remaining, "has")));
    let held = (!emptied.finalizers.is_empty()).then(|| {
        format!(
            "Some content in the namespace has finalizers remaining: {}",
            listed(&emptied.finalizers, "in")
        )
    });
    vec![
        make(
            "NamespaceDeletionDiscoveryFailure",
            unknown,
            "DiscoveryFailed",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        make(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "GroupVersionParsingFailed",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        make(
            "NamespaceDeletionContentFailure",
            failed,
            "ContentDeletionFailed",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        make(
            "NamespaceContentRemaining",
            remaining,
            "SomeResourcesRemain",
            "ContentRemoved",
            "All content successfully removed",
        ),
        make(
            "NamespaceFinalizersRemaining",
            held,
            "SomeFinalizersRemain",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ]
}

fn put(list: &mut Vec<NamespaceCondition>, mut new: NamespaceCondition) {
    if let Some(old) = list.iter_mut().find(|c| c.type_ == new.type_) {
        if old.status == new.status {
            new.last_transition_time = old.last_transition_time.clone();
        }
        *old = new;
        return;
    }
    list.push(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(plural: &'static str, group: &'static str) -> Resource {
        let kind =
            Kind { group: group.into(), version: "v1".into(), plural: plural.into(), kind: "X".into() };
        Resource { kind, namespaced: true, verbs: vec!["list".into(), "delete".into()] }
    }

    #[test]
    fn what_is_left_is_told_in_upstreams_words() {
        let mut emptied = Emptied::default();
        let held = ObjectMeta { finalizers: Some(vec!["x/y".into()]), ..Default::default() };
        let now = Timestamp::now();
        emptied.count(&resource("pods", ""), &[ObjectMeta::default(), held], now);
        emptied.count(&resource("deployments", "apps"), &[ObjectMeta::default()], now);
        let all = conditions(&Found::default(), &emptied);
        let message =
            |kind: &str| all.iter().find(|c| c.type_ == kind).and_then(|c| c.message.clone()).unwrap();
        assert_eq!(
            message("NamespaceContentRemaining"),
            "Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource instances"
        );
        assert_eq!(
            message("NamespaceFinalizersRemaining"),
            "Some content in the namespace has finalizers remaining: x/y in 1 resource instances"
        );
        let waits = [0, 10, 3600].map(|taken| emptied.wait(Duration::from_secs(taken)).as_millis());
        assert_eq!(waits, [500, 2500, 8000]);
    }

    #[test]
    fn a_condition_keeps_its_date_while_it_stands() {
        let mut list = conditions(&Found::default(), &Emptied::default());
        let date = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
        list[0].last_transition_time = date.clone();
        for c in conditions(&Found::default(), &Emptied::default()) {
            put(&mut list, c);
        }
        assert_eq!((list.len(), &list[0].last_transition_time), (5, &date));
    }
}
