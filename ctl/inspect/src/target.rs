//! Which pod, and which of its containers, a command line means.

use crate::dig;
use coxctl_kit::files::FileArgs;
use coxctl_kit::pick::Pick;
use coxctl_kit::{Call, Cluster, Error, Kind, ListOptions, Result, out};
use futures::StreamExt;
use serde_json::Value;
use std::cmp::Reverse;
use std::time::Duration;

/// The annotation that says which container is meant when none is named.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The kind of pods, which every server has.
pub fn pods() -> Kind {
    Kind {
        version: "v1".into(),
        kind: "Pod".into(),
        plural: "pods".into(),
        singular: "pod".into(),
        namespaced: true,
        ..Kind::default()
    }
}

/// Reads the object that `POD`, `TYPE/NAME` or `TYPE NAME` (as two words) names, in the namespace of the command line.
///
/// # Errors
/// Unknown kinds, malformed names and what the server says.
pub async fn object(cluster: &Cluster, words: &[String]) -> Result<Value> {
    let (kind, name) = match words {
        [kind, name] => (cluster.kind(kind).await?, name.as_str()),
        [word] => named(cluster, word).await?,
        _ => return Err(Error::message("expected a resource")),
    };
    let mut object = cluster.get(&kind, Some(&cluster.namespace), name, None).await?;
    object["kind"] = kind.kind.clone().into();
    object["apiVersion"] = kind.api_version().into();
    Ok(object)
}

/// The object that files name, as the files have it.
///
/// # Errors
/// As [`object`], and when they name several.
pub async fn in_files(cluster: &Cluster, files: &[String]) -> Result<Value> {
    let files = FileArgs { filename: files.to_vec(), ..FileArgs::default() };
    let mut items = Pick { files, ..Pick::default() }.items(cluster, false).await?.all()?;
    match (items.pop().and_then(|item| item.object), items.is_empty()) {
        (Some(object), true) => Ok(object),
        (None, _) => Err(Error::message("expected a resource")),
        (Some(_), false) => Err(Error::message("cannot exec into multiple objects at a time")),
    }
}

async fn named<'a>(cluster: &Cluster, word: &'a str) -> Result<(Kind, &'a str)> {
    match word.split('/').collect::<Vec<_>>().as_slice() {
        [name] => Ok((pods(), *name)),
        [kind, name] if kind.is_empty() || name.is_empty() => {
            Err(Error::message("arguments in resource/name form must have a single resource and name"))
        }
        [kind, name] => Ok((cluster.kind(kind).await?, *name)),
        _ => Err(Error::message("arguments in resource/name form may not have more than one slash")),
    }
}

/// In what order pods come into question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To read logs: those that were restarted most first, other things being equal.
    Logs,
    /// To attach: those that were restarted least first.
    Attach,
}

/// The pods an object stands for, the best one first: itself, or those its selector selects. While there are none, they
/// are waited for.
///
/// # Errors
/// Kinds without pods; `timed out waiting for the condition`.
pub async fn pods_of(cluster: &Cluster, object: &Value, order: Order, wait: Duration) -> Result<Vec<Value>> {
    let selector = selector(object, order)?;
    let namespace = dig::text(object, "metadata.namespace");
    let options = ListOptions { labels: Some(selector.clone()), limit: 0, ..ListOptions::default() };
    let mut list = cluster.list(&pods(), Some(namespace), &options).await?;
    let version = dig::text(&list, "metadata.resourceVersion").to_string();
    let mut found = coxctl_kit::cluster::take_items(&mut list, &pods());
    if found.is_empty() {
        found.push(first_to_come(cluster, namespace, &selector, &version, wait).await?);
    }
    sort(&mut found, order);
    Ok(found)
}

async fn first_to_come(
    cluster: &Cluster,
    namespace: &str,
    labels: &str,
    version: &str,
    wait: Duration,
) -> Result<Value> {
    let call = Call::get(pods().path(Some(namespace), None, None))
        .query("labelSelector", labels)
        .query("resourceVersion", version);
    let work = async {
        let mut events = cluster.watch(call).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            if ["ADDED", "MODIFIED"].contains(&event.what.as_str()) {
                return Ok(event.object);
            }
        }
        Err(timed_out())
    };
    tokio::time::timeout(wait, work).await.unwrap_or_else(|_| Err(timed_out()))
}

/// What a wait that took too long is called.
pub fn timed_out() -> Error {
    Error::message("timed out waiting for the condition")
}

/// The pod to attach to or to run a command in.
///
/// # Errors
/// As [`pods_of`].
pub async fn pod(cluster: &Cluster, object: Value, wait: Duration) -> Result<Value> {
    if dig::text(&object, "kind") == "Pod" {
        return Ok(object);
    }
    let pods = pods_of(cluster, &object, Order::Attach, wait).await?;
    pods.into_iter().next().ok_or_else(timed_out)
}

/// The selector of an object's pods.
fn selector(object: &Value, order: Order) -> Result<String> {
    let kind = dig::text(object, "kind");
    let name = dig::text(object, "metadata.name");
    let before = match order {
        Order::Logs => "cannot get the logs from",
        Order::Attach => "cannot attach to",
    };
    let version = dig::text(object, "apiVersion").rsplit('/').next().unwrap_or_default();
    let wrong = |why: String| Error::message(format!("{before} *{version}.{kind}: {why}"));
    match kind {
        "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Deployment" | "Job" => {
            dig::selector(&object["spec"]["selector"])
                .map_err(|error| wrong(format!("invalid label selector: {error}")))
        }
        "ReplicationController" | "Service" => {
            let labels = dig::strings(object, "spec.selector");
            if labels.is_empty() {
                return Err(wrong(format!(
                    "invalid service '{name}': Service is defined without a selector"
                )));
            }
            Ok(labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
        }
        _ => Err(wrong(format!("selector for *{version}.{kind} not implemented"))),
    }
}

fn sort(pods: &mut [Value], order: Order) {
    pods.sort_by_key(|pod| {
        let restarts = dig::items(pod, "status.containerStatuses")
            .iter()
            .map(|status| dig::int(status, "restartCount"))
            .max();
        let restarts = restarts.unwrap_or_default();
        let ready = ready_since(pod);
        (
            dig::text(pod, "spec.nodeName").is_empty(),
            ["Running", "Unknown", "Pending"]
                .iter()
                .position(|phase| *phase == dig::text(pod, "status.phase"))
                .unwrap_or(0),
            ready.is_none(),
            ready,
            if order == Order::Logs { Reverse(restarts) } else { Reverse(-restarts) },
            dig::moment(pod, "metadata.creationTimestamp"),
        )
    });
}

fn ready_since(pod: &Value) -> Option<jiff::Timestamp> {
    let ready = |one: &&Value| dig::text(one, "type") == "Ready" && dig::text(one, "status") == "True";
    dig::items(pod, "status.conditions")
        .iter()
        .find(ready)
        .and_then(|one| dig::moment(one, "lastTransitionTime"))
}

/// The three lists of containers of a pod: field, and what is put behind the names of its containers.
const LISTS: [(&str, &str); 3] =
    [("containers", ""), ("ephemeralContainers", " (ephem)"), ("initContainers", " (init)")];

/// The container of that name, and the list it is in.
pub fn container<'a>(pod: &'a Value, name: &str) -> Option<(&'a Value, &'static str)> {
    LISTS.iter().find_map(|(list, _)| {
        let found = dig::items(&pod["spec"], list).iter().find(|one| dig::text(one, "name") == name)?;
        Some((found, *list))
    })
}

/// All names of containers, as they are listed for choice.
pub fn container_names(pod: &Value) -> String {
    let of = |(list, kind): &(&str, &str)| -> Vec<String> {
        dig::items(&pod["spec"], list).iter().map(|one| format!("{}{kind}", dig::text(one, "name"))).collect()
    };
    LISTS.iter().flat_map(of).collect::<Vec<_>>().join(", ")
}

/// The named container, else the one the pod prefers, else the first; where that is a choice it is said so.
///
/// # Errors
/// When the pod has no container of that name.
pub fn choose<'a>(pod: &'a Value, name: Option<&str>, quiet: bool) -> Result<&'a Value> {
    let preferred = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str();
    if let Some(name) = name.filter(|name| !name.is_empty()).or(preferred).filter(|name| !name.is_empty()) {
        let missing = || {
            Error::message(format!("container {name} not found in pod {}", dig::text(pod, "metadata.name")))
        };
        return container(pod, name).map(|(container, _)| container).ok_or_else(missing);
    }
    let first = dig::items(pod, "spec.containers").first().ok_or_else(|| {
        let (namespace, name) = (dig::text(pod, "metadata.namespace"), dig::text(pod, "metadata.name"));
        Error::message(format!("pod {namespace}/{name} does not have any containers"))
    })?;
    if !quiet {
        say_default(pod, dig::text(first, "name"));
    }
    Ok(first)
}

/// Says which container was taken, if there was a choice.
pub fn say_default(pod: &Value, name: &str) {
    if let Some(text) = default_note(pod, name) {
        out::note(&text);
    }
}

/// What is said when a container was taken for want of a name, if there was a choice and no preference.
pub fn default_note(pod: &Value, name: &str) -> Option<String> {
    let preferred =
        pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str().is_some_and(|name| !name.is_empty());
    let count: usize = LISTS.iter().map(|(list, _)| dig::items(&pod["spec"], list).len()).sum();
    (count > 1 && !preferred)
        .then(|| format!("Defaulted container {name:?} out of: {}", container_names(pod)))
}

/// A duration as the command line has it, in Go's spelling.
///
/// # Errors
/// As kubectl words a flag's value that isn't one.
pub fn duration(verb: &str, flag: &str, text: &str) -> Result<Duration> {
    let why = match text.parse::<f64>() {
        Ok(_) => "missing unit in",
        Err(_) => "invalid",
    };
    out::go_duration(text).ok_or_else(|| {
        Error::message(format!(
            "invalid argument {text:?} for \"--{flag}\" flag: time: {why} duration {text:?}\nSee 'coxctl {verb} --help' for usage."
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_best_pod_comes_first() {
        let pod = |name: &str, node: &str, phase: &str, ready: &str, restarts: i64| {
            json!({"metadata": {"name": name}, "spec": {"nodeName": node}, "status": {"phase": phase,
                "containerStatuses": [{"restartCount": restarts}],
                "conditions": [{"type": "Ready", "status": if ready.is_empty() { "False" } else { "True" }, "lastTransitionTime": ready}]}})
        };
        let mut pods = vec![
            pod("unassigned", "", "Pending", "", 0),
            pod("pending", "n", "Pending", "", 0),
            pod("unready", "n", "Running", "", 0),
            pod("restarted", "n", "Running", "", 3),
            pod("young", "n", "Running", "2026-01-02T00:00:00Z", 0),
            pod("old", "n", "Running", "2026-01-01T00:00:00Z", 0),
        ];
        let names = |pods: &[Value]| {
            pods.iter().map(|pod| dig::text(pod, "metadata.name").to_string()).collect::<Vec<_>>()
        };
        sort(&mut pods, Order::Logs);
        assert_eq!(names(&pods), ["old", "young", "restarted", "unready", "pending", "unassigned"]);
        sort(&mut pods, Order::Attach);
        assert_eq!(names(&pods), ["old", "young", "unready", "restarted", "pending", "unassigned"]);
    }

    #[test]
    fn containers_are_chosen() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container_names(&pod), "a, b, i (init)");
        assert_eq!(choose(&pod, Some("b"), true).ok(), Some(&json!({"name": "b"})));
        assert_eq!(choose(&pod, None, true).ok(), Some(&json!({"name": "a"})));
        assert!(choose(&pod, Some("x"), true).is_err());
        assert_eq!(container(&pod, "i").map(|(_, list)| list), Some("initContainers"));
    }
}
