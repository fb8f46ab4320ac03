//! Pods, the workloads that stand for one, their containers and ports, and what `cp` copies.

use coxctl_kit::{Cluster, ListOptions};
use serde_json::Value;

use crate::line::Line;
use crate::words::Then;
use crate::{Answer, Directive, objects};

/// Kinds whose pods can be meant by `KIND/NAME`.
const WORKLOADS: [&str; 8] = [
    "daemonsets/",
    "deployments/",
    "pods/",
    "jobs/",
    "replicasets/",
    "replicationcontrollers/",
    "services/",
    "statefulsets/",
];

/// `POD` or `TYPE/NAME`, and what follows.
pub async fn pod(cluster: &Cluster, then: Then, words: &[String], prefix: &str) -> Answer {
    match (words, then) {
        ([], _) => first(cluster, prefix).await,
        ([pod], Then::Container) => Answer::values(containers(cluster, pod).await),
        ([pod], Then::Ports) => Answer::values(pairs(&ports(cluster, pod).await, prefix)),
        _ => Answer::nothing(),
    }
}

async fn first(cluster: &Cluster, prefix: &str) -> Answer {
    if let Some((kind, _)) = prefix.split_once('/') {
        return Answer::values(objects::typed(cluster, kind).await);
    }
    let pods = objects::names(cluster, "pods").await.into_iter();
    let all = pods.chain(WORKLOADS.iter().map(|kind| kind.to_string()));
    let fitting: Vec<String> = all.filter(|word| word.starts_with(prefix)).collect();
    // A single kind is only the beginning of a word.
    match fitting.as_slice() {
        [one] if one.ends_with('/') => {
            Answer::values(fitting).directed(Directive::NO_FILES | Directive::NO_SPACE)
        }
        _ => Answer::values(fitting),
    }
}

/// The names of the containers of what a word means, first those that run first.
pub async fn containers(cluster: &Cluster, word: &str) -> Vec<String> {
    let Some(object) = object(cluster, word).await else { return Vec::new() };
    let pod = match object["kind"] == "Service" {
        true => behind(cluster, &object).await.unwrap_or_default(),
        false => object,
    };
    let spec = pod_spec(&pod);
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let all = lists.iter().flat_map(|list| spec[*list].as_array().into_iter().flatten());
    all.filter_map(|container| container["name"].as_str()).map(str::to_string).collect()
}

/// The first pod of a Service.
async fn behind(cluster: &Cluster, service: &Value) -> Option<Value> {
    let selector = service["spec"]["selector"].as_object()?;
    let pairs = selector.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let options = ListOptions { labels: Some(pairs.collect::<Vec<_>>().join(",")), ..ListOptions::default() };
    let kind = cluster.kind("pods").await.ok()?;
    cluster.items(&kind, Some(&cluster.namespace), &options).await.ok()?.into_iter().next()
}

async fn ports(cluster: &Cluster, word: &str) -> Vec<u64> {
    let Some(object) = object(cluster, word).await else { return Vec::new() };
    let containers = pod_spec(&object)["containers"].as_array().into_iter().flatten();
    let of_pod = containers.flat_map(|one| one["ports"].as_array().into_iter().flatten());
    let of_service = object["spec"]["ports"].as_array().into_iter().flatten();
    let all = of_pod.chain(of_service).filter(|port| port["protocol"] != "UDP");
    let mut numbers: Vec<u64> =
        all.filter_map(|port| port["containerPort"].as_u64().or_else(|| port["port"].as_u64())).collect();
    numbers.dedup();
    numbers
}

/// `LOCAL:REMOTE`, the local port being what is written already.
fn pairs(ports: &[u64], prefix: &str) -> Vec<String> {
    let local = prefix.split(':').next().unwrap_or_default();
    let of = |port: &u64| match prefix.is_empty() {
        true => format!("{port}:{port}"),
        false => format!("{local}:{port}"),
    };
    ports.iter().map(of).collect()
}

/// The object a word means: a pod's name, or `TYPE/NAME`.
async fn object(cluster: &Cluster, word: &str) -> Option<Value> {
    let (kind, name) = word.split_once('/').unwrap_or(("pods", word));
    let kind = cluster.kind(kind).await.ok()?;
    cluster.get(&kind, Some(&cluster.namespace), name, None).await.ok()
}

/// Where an object has the containers: a pod in itself, others in a template.
fn pod_spec(object: &Value) -> &Value {
    let spec = &object["spec"];
    if spec["containers"].is_array() {
        return spec;
    }
    let template = &spec["template"];
    let template = if template.is_null() { &spec["jobTemplate"]["spec"]["template"] } else { template };
    &template["spec"]
}

/// Whether what is being written for `cp` can only be a path, of this machine or of a pod.
pub fn is_path(line: &Line) -> bool {
    !line.words.is_empty() || line.prefix.starts_with(['/', '.', '~']) || line.prefix.contains(':')
}

/// What `cp` copies: `NAMESPACE/POD:`, `POD:`, or a file.
pub async fn copy(cluster: &Cluster, prefix: &str) -> Answer {
    let mut all = Vec::new();
    if let Some((namespace, _)) = prefix.split_once('/') {
        let mut there = cluster.clone();
        there.namespace = namespace.into();
        let pods = objects::names(&there, "pods").await;
        all.extend(pods.into_iter().map(|pod| format!("{namespace}/{pod}:")));
        return Answer::values(all).directed(Directive::NO_SPACE);
    }
    let names = [objects::names(cluster, "namespaces").await, objects::names(cluster, "pods").await];
    for (names, ending) in names.into_iter().zip(['/', ':']) {
        all.extend(names.into_iter().map(|name| format!("{name}{ending}")));
    }
    all.retain(|word| word.starts_with(prefix));
    match prefix.is_empty() {
        true => all.extend(["./".to_string(), "/".to_string()]),
        // The shell looks for files only where there are no candidates.
        false if !all.is_empty() => all.extend(files(prefix)),
        false => {}
    }
    Answer::values(all).directed(Directive::NO_SPACE)
}

fn files(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(".").into_iter().flatten().flatten();
    let named = entries.map(|entry| {
        let ending = if entry.path().is_dir() { "/" } else { "" };
        format!("{}{ending}", entry.file_name().to_string_lossy())
    });
    let mut found: Vec<String> = named.filter(|name| name.starts_with(prefix)).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_paired_with_what_is_written() {
        let table: &[(&str, &[&str])] = &[
            ("", &["53:53", "80:80"]),
            ("8", &["8:53", "8:80"]),
            (":", &[":53", ":80"]),
            ("9:5", &["9:53", "9:80"]),
        ];
        for (prefix, wanted) in table {
            assert_eq!(pairs(&[53, 80], prefix), *wanted, "{prefix}");
        }
    }

    #[test]
    fn the_containers_are_found_in_every_kind() {
        let spec = json!({"containers": [{"name": "a"}]});
        let objects = [
            json!({"spec": spec}),
            json!({"spec": {"template": {"spec": spec}}}),
            json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}),
        ];
        for object in &objects {
            assert_eq!(pod_spec(object), &spec);
        }
    }
}
