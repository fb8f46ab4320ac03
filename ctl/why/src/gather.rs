//! Reading: each question's lists at the same time, then what the pods found make necessary.

use std::collections::BTreeSet;

use coxctl_kit::{Call, Cluster, Error, Kind, ListOptions, dig};
use futures::StreamExt;
use serde_json::Value;

use crate::case;
use crate::facts::{self, Facts};
use crate::fit::holds_room;
use crate::subjects::Subject;

/// How many requests are under way at the same time.
const AT_ONCE: usize = 16;
/// More nodes than this are read as a list.
const NODES: usize = 8;
/// How many containers' last lines are read.
const LOGS: usize = 6;
/// Reads that follow from what was read end after so many rounds.
const ROUNDS: usize = 3;
/// Kinds that are no content of a namespace of their own.
const LEFT_OUT: [&str; 2] = ["Event", "Endpoints"];
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// What a kind's question reads.
#[derive(Clone, Copy, Debug)]
pub enum Want {
    /// A kind in the object's namespace.
    Here(&'static str),
    /// A kind in the namespace the object is.
    Inside(&'static str),
    /// What its selector selects.
    Selected(&'static str),
    /// A kind in the whole cluster.
    Everywhere(&'static str),
    /// What an autoscaler scales.
    Target,
    /// A node's lease.
    Lease,
    /// The pods on a node.
    OnNode,
    /// Whatever is left in a namespace that is being deleted.
    Remains,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    List { kind: String, namespace: String, labels: String, fields: String },
    One { kind: String, namespace: String, name: String },
    Log { namespace: String, pod: String, container: String, previous: bool },
    Remains { namespace: String },
}

/// Kinds, where they are, and whether their metadata is enough.
const PLACES: [(&str, &str, &str, bool); 24] = [
    ("Pod", "/api/v1", "pods", false),
    ("Event", "/api/v1", "events", false),
    ("Node", "/api/v1", "nodes", false),
    ("Namespace", "/api/v1", "namespaces", false),
    ("Service", "/api/v1", "services", false),
    ("ConfigMap", "/api/v1", "configmaps", true),
    ("Secret", "/api/v1", "secrets", true),
    ("ResourceQuota", "/api/v1", "resourcequotas", false),
    ("PersistentVolume", "/api/v1", "persistentvolumes", false),
    ("PersistentVolumeClaim", "/api/v1", "persistentvolumeclaims", false),
    ("ReplicationController", "/api/v1", "replicationcontrollers", false),
    ("Deployment", "/apis/apps/v1", "deployments", false),
    ("ReplicaSet", "/apis/apps/v1", "replicasets", false),
    ("StatefulSet", "/apis/apps/v1", "statefulsets", false),
    ("DaemonSet", "/apis/apps/v1", "daemonsets", false),
    ("Job", "/apis/batch/v1", "jobs", false),
    ("CronJob", "/apis/batch/v1", "cronjobs", false),
    ("HorizontalPodAutoscaler", "/apis/autoscaling/v2", "horizontalpodautoscalers", false),
    ("StorageClass", "/apis/storage.k8s.io/v1", "storageclasses", false),
    ("CSINode", "/apis/storage.k8s.io/v1", "csinodes", false),
    ("EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices", false),
    ("PodDisruptionBudget", "/apis/policy/v1", "poddisruptionbudgets", false),
    ("Lease", "/apis/coordination.k8s.io/v1", "leases", false),
    ("APIService", "/apis/apiregistration.k8s.io/v1", "apiservices", true),
];

/// Kinds without a namespace, and without Namespace itself: what lies in one may depend on them.
const WIDE: [&str; 5] = ["PersistentVolume", "StorageClass", "CSINode", "Node", "APIService"];

/// What a question about one object needs.
pub async fn one(cluster: &Cluster, subject: &Subject, kind: &str, object: &Value) -> Facts {
    let mut facts = Facts::default();
    // The kind counts as read only where a list of it is.
    let first: Vec<Read> = subject.wants.iter().flat_map(|want| reads(*want, object)).collect();
    let pods: BTreeSet<String> =
        if kind == "Pod" { [facts::name(object).to_string()].into() } else { BTreeSet::new() };
    if kind == "Pod" {
        facts.take("Pod", vec![object.clone()]);
    }
    let scope = Scope { namespace: facts::namespace(object), only: pods };
    follow_up(cluster, &mut facts, first, &scope).await;
    facts
}

/// What is needed to tell about everything in a namespace, or in all where it is empty.
pub async fn everything(cluster: &Cluster, namespace: &str) -> Facts {
    let mut facts = Facts::default();
    let here = crate::subjects::SUBJECTS
        .iter()
        .map(|subject| subject.kind)
        .filter(|kind| !matches!(*kind, "Node" | "Namespace"));
    let beside = ["Event", "EndpointSlice", "ResourceQuota"];
    let more: &[&str] = if namespace.is_empty() { &["Namespace", "Lease"] } else { &[] };
    let all = |kind: &str| Read::List {
        kind: kind.into(),
        namespace: namespace.into(),
        labels: String::new(),
        fields: String::new(),
    };
    let wide = WIDE.iter().chain(more).map(|kind| list(kind, ""));
    let first = here.chain(beside).map(all).chain(wide).collect();
    follow_up(cluster, &mut facts, first, &Scope { namespace, only: BTreeSet::new() }).await;
    facts
}

/// Which pods matter.
struct Scope<'a> {
    /// Empty for all.
    namespace: &'a str,
    /// Names; empty for all.
    only: BTreeSet<String>,
}

impl Scope<'_> {
    fn has(&self, pod: &Value) -> bool {
        (self.namespace.is_empty() || facts::namespace(pod) == self.namespace)
            && (self.only.is_empty() || self.only.contains(facts::name(pod)))
    }
}

async fn follow_up(cluster: &Cluster, facts: &mut Facts, first: Vec<Read>, scope: &Scope<'_>) {
    let mut done: BTreeSet<Read> = BTreeSet::new();
    let mut wanted: Vec<Read> = first.into_iter().chain(following(facts, scope)).collect();
    for _ in 0..ROUNDS {
        wanted.retain(|read| !covered(&done, read));
        wanted.sort();
        wanted.dedup();
        if wanted.is_empty() {
            return;
        }
        let answers: Vec<(Read, Result<Vec<Value>, Error>)> = futures::stream::iter(wanted.clone())
            .map(|read| async move { (read.clone(), ask(cluster, &read).await) })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (read, answer) in answers {
            take(facts, read, answer);
        }
        done.extend(wanted);
        wanted = following(facts, scope);
    }
}

/// Whether a request has been made, or a wider one that contains it.
fn covered(done: &BTreeSet<Read>, read: &Read) -> bool {
    let (Read::One { kind: wanted, .. } | Read::List { kind: wanted, .. }) = read else {
        return done.contains(read);
    };
    let wider = |made: &Read| match made {
        Read::List { kind, namespace, labels, fields } => {
            kind == wanted
                && namespace.is_empty()
                && labels.is_empty()
                && (fields.is_empty() || fields == UNFINISHED)
        }
        _ => false,
    };
    done.contains(read) || done.iter().any(wider)
}

fn take(facts: &mut Facts, read: Read, answer: Result<Vec<Value>, Error>) {
    match (read, answer) {
        (Read::Log { namespace, pod, container, .. }, Ok(text)) => {
            let text = text.first().and_then(Value::as_str).unwrap_or_default();
            facts.take_log(&namespace, &pod, &container, text.into());
        }
        (Read::Remains { .. }, Ok(objects)) => facts.take_remains(objects),
        (Read::List { kind, .. } | Read::One { kind, .. }, Ok(objects)) => facts.take(&kind, objects),
        (Read::One { kind, .. }, Err(error)) if error.is_not_found() => facts.take(&kind, Vec::new()),
        (Read::List { kind, .. } | Read::One { kind, .. }, Err(error)) => {
            facts.refuse(&kind, error.to_string())
        }
        (_, Err(_)) => {}
    }
}

/// A whole list; of the pods of all namespaces those that are at their end are of no interest.
fn list(kind: &str, namespace: &str) -> Read {
    let fields = if kind == "Pod" && namespace.is_empty() { UNFINISHED } else { "" };
    Read::List {
        kind: kind.into(),
        namespace: namespace.into(),
        labels: String::new(),
        fields: fields.into(),
    }
}

fn reads(want: Want, object: &Value) -> Vec<Read> {
    let namespace = facts::namespace(object);
    match want {
        // What is said of an object without a namespace is kept in the default one.
        Want::Here(kind) if namespace.is_empty() => {
            vec![list(kind, if kind == "Event" { "default" } else { "" })]
        }
        Want::Here(kind) => vec![list(kind, namespace)],
        Want::Inside(kind) => vec![list(kind, facts::name(object))],
        Want::Everywhere(kind) => vec![list(kind, "")],
        Want::Selected(kind) => {
            let labels = labels(object);
            vec![Read::List { kind: kind.into(), namespace: namespace.into(), labels, fields: String::new() }]
        }
        Want::OnNode => {
            let fields = format!("spec.nodeName={},{UNFINISHED}", facts::name(object));
            let (kind, namespace) = ("Pod".to_string(), String::new());
            vec![Read::List { kind, namespace, labels: String::new(), fields }]
        }
        Want::Target => {
            let kind = dig::text(object, "spec.scaleTargetRef.kind");
            if place(kind).is_some() { vec![list(kind, namespace)] } else { Vec::new() }
        }
        Want::Lease => {
            let name = facts::name(object).to_string();
            vec![Read::One { kind: "Lease".into(), namespace: "kube-node-lease".into(), name }]
        }
        Want::Remains if dig::has(object, "metadata.deletionTimestamp") => {
            vec![Read::Remains { namespace: facts::name(object).into() }]
        }
        Want::Remains => Vec::new(),
    }
}

/// A workload's selector as a query.
fn labels(object: &Value) -> String {
    match dig::text(object, "kind") {
        "ReplicationController" => {
            let pairs = dig::strings(object, "spec.selector");
            pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
        }
        _ => dig::selector(dig::at(object, "spec.selector")).unwrap_or_default(),
    }
}

/// What the pods that are not well make necessary.
fn following(facts: &Facts, scope: &Scope<'_>) -> Vec<Read> {
    let single = !scope.only.is_empty();
    let matters = |pod: &&Value| {
        let well = case::is(pod, "Ready", "True") && !dig::has(pod, "metadata.deletionTimestamp");
        scope.has(pod) && dig::text(pod, "status.phase") != "Succeeded" && (single || !well)
    };
    let pods: Vec<&Value> = facts.all("Pod").filter(matters).collect();
    let mut reads: Vec<Read> = pods.iter().flat_map(|pod| for_pod(pod)).collect();
    reads.extend(nodes(&pods));
    reads.extend(pods.iter().flat_map(|pod| logs(pod)).take(LOGS));
    reads.extend(budgets(facts, &pods));
    reads.extend(missing(facts, &pods));
    reads
}

fn for_pod(pod: &Value) -> Vec<Read> {
    let namespace = facts::namespace(pod);
    let volumes = dig::items(pod, "spec.volumes").iter();
    let claims = volumes.filter(|v| dig::has(v, "persistentVolumeClaim") || dig::has(v, "ephemeral")).count();
    let mut reads = Vec::new();
    if claims > 0 {
        reads.push(list("PersistentVolumeClaim", namespace));
    }
    let waits =
        dig::text(pod, "spec.nodeName").is_empty() && dig::items(pod, "spec.schedulingGates").is_empty();
    if waits && dig::text(pod, "status.phase") != "Failed" {
        reads.extend([list("Node", ""), list("Pod", "")]);
        if claims > 0 {
            reads.extend(["PersistentVolume", "StorageClass", "CSINode"].map(|kind| list(kind, "")));
        }
        if dig::at(pod, "spec.affinity").to_string().contains("namespaceSelector") {
            reads.push(list("Namespace", ""));
        }
    }
    reads
}

fn nodes(pods: &[&Value]) -> Vec<Read> {
    let names: BTreeSet<&str> =
        pods.iter().map(|pod| dig::text(pod, "spec.nodeName")).filter(|n| !n.is_empty()).collect();
    if names.len() > NODES {
        return vec![list("Node", "")];
    }
    names
        .into_iter()
        .map(|name| Read::One { kind: "Node".into(), namespace: String::new(), name: name.into() })
        .collect()
}

fn logs(pod: &Value) -> Vec<Read> {
    let lists = ["status.initContainerStatuses", "status.containerStatuses"];
    let all = lists.iter().flat_map(|list| dig::items(pod, list));
    all.filter_map(|status| {
        let now = dig::at(status, "state.terminated");
        let ended = if now.is_null() { dig::at(status, "lastState.terminated") } else { now };
        let quiet =
            ended.is_null() || dig::int(ended, "exitCode") == 0 || !dig::text(ended, "message").is_empty();
        (!quiet).then(|| Read::Log {
            namespace: facts::namespace(pod).into(),
            pod: facts::name(pod).into(),
            container: dig::text(status, "name").into(),
            // A container that waits for its next start has its last end as the current instance.
            previous: dig::has(status, "state.running"),
        })
    })
    .collect()
}

fn budgets(facts: &Facts, pods: &[&Value]) -> Vec<Read> {
    let cordoned = |pod: &&&Value| {
        let node = facts.find("Node", "", dig::text(pod, "spec.nodeName"));
        holds_room(pod) && node.is_some_and(|node| dig::flag(node, "spec.unschedulable"))
    };
    pods.iter().filter(cordoned).map(|pod| list("PodDisruptionBudget", facts::namespace(pod))).collect()
}

/// ConfigMaps and Secrets are only looked at where one is said to be missing.
fn missing(facts: &Facts, pods: &[&Value]) -> Vec<Read> {
    let mut reads = Vec::new();
    for pod in pods {
        let namespace = facts::namespace(pod);
        let waiting = dig::items(pod, "status.containerStatuses")
            .iter()
            .chain(dig::items(pod, "status.initContainerStatuses"));
        let said = waiting.map(|s| dig::text(s, "state.waiting.message"));
        let events = facts
            .within("Event", namespace)
            .filter(|e| dig::text(e, "involvedObject.name") == facts::name(pod));
        let said: Vec<&str> =
            said.chain(events.map(|e| dig::text(e, "message"))).filter(|m| m.contains("not found")).collect();
        for (kind, mark) in [("ConfigMap", "configmap \""), ("Secret", "secret \"")] {
            if said.iter().any(|message| message.contains(mark)) {
                reads.push(list(kind, namespace));
            }
        }
    }
    reads
}

fn place(kind: &str) -> Option<&'static (&'static str, &'static str, &'static str, bool)> {
    PLACES.iter().find(|(known, ..)| *known == kind)
}

async fn ask(cluster: &Cluster, read: &Read) -> Result<Vec<Value>, Error> {
    match read {
        Read::List { kind, namespace, labels, fields } => {
            let (_, _, _, bare) = place(kind).ok_or_else(|| Error::message("unknown kind"))?;
            let options = ListOptions {
                labels: Some(labels.clone()),
                fields: Some(fields.clone()),
                accept: bare.then(|| METADATA.into()),
                ..ListOptions::default()
            };
            cluster.items(&at(kind)?, Some(namespace.as_str()), &options).await
        }
        Read::One { kind, namespace, name } => {
            Ok(vec![cluster.get(&at(kind)?, Some(namespace), name, None).await?])
        }
        Read::Log { namespace, pod, container, previous } => {
            let call = Call::get(at("Pod")?.path(Some(namespace), Some(pod), Some("log")))
                .query("container", container)
                .query("tailLines", "4")
                .query_some("previous", previous.then_some("true"));
            Ok(vec![Value::String(cluster.send(call).await?.text())])
        }
        Read::Remains { namespace } => remains(cluster, namespace).await,
    }
}

fn at(kind: &str) -> Result<Kind, Error> {
    let (kind, root, plural, _) = place(kind).ok_or_else(|| Error::message("unknown kind"))?;
    let version = root.trim_start_matches("/apis/").trim_start_matches("/api/");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Ok(Kind {
        group: group.into(),
        version: version.into(),
        kind: (*kind).into(),
        plural: (*plural).into(),
        namespaced: !WIDE.contains(kind) && *kind != "Namespace",
        ..Kind::default()
    })
}

/// All that is left in a namespace, by its metadata.
async fn remains(cluster: &Cluster, namespace: &str) -> Result<Vec<Value>, Error> {
    let discovery = cluster.discovery().await?;
    let kinds: Vec<Kind> = discovery
        .preferred()
        .into_iter()
        .filter(|kind| {
            kind.namespaced
                && kind.can("list")
                && kind.can("delete")
                && !LEFT_OUT.contains(&kind.kind.as_str())
        })
        .cloned()
        .collect();
    let options = ListOptions { accept: Some(METADATA.into()), ..ListOptions::default() };
    let lists = futures::stream::iter(&kinds).map(|kind| async {
        let mut objects = cluster.items(kind, Some(namespace), &options).await.unwrap_or_default();
        for object in objects.iter_mut().filter_map(Value::as_object_mut) {
            object.insert("kind".into(), kind.kind.clone().into());
        }
        objects
    });
    Ok(lists.buffered(AT_ONCE).collect::<Vec<_>>().await.into_iter().flatten().collect())
}

/// The kinds that can be read.
#[cfg(test)]
pub fn kinds() -> impl Iterator<Item = &'static str> {
    PLACES.iter().map(|(kind, ..)| *kind)
}
