//! Kinds, and the names of live objects.

use coxctl_kit::{Cluster, Kind, ListOptions};

use crate::{Answer, Directive};

/// Names are all that is wanted of objects.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// `TYPE NAME...` and `TYPE/NAME...`, given what stands there already.
pub async fn named(
    cluster: &Cluster,
    offered: &[&str],
    many: bool,
    words: &[String],
    prefix: &str,
) -> Answer {
    let Some(first) = words.first() else {
        return match (prefix.split_once('/'), prefix.rsplit_once(',')) {
            (Some((kind, _)), _) => Answer::values(typed(cluster, kind).await),
            (None, Some((before, _))) if offered.is_empty() => {
                let kinds = kinds(cluster).await;
                Answer::values(kinds.into_iter().map(|kind| format!("{before},{kind}")))
            }
            (None, _) => Answer::values(types(cluster, offered).await),
        };
    };
    match (first.contains('/'), prefix.split_once('/')) {
        (true, _) if !many => Answer::nothing(),
        (true, Some((kind, _))) => without(typed(cluster, kind).await, words),
        (true, None) => {
            let kinds = types(cluster, offered).await;
            let answer = Answer::values(kinds.into_iter().map(|kind| format!("{kind}/")));
            answer.directed(Directive::NO_FILES | Directive::NO_SPACE)
        }
        (false, _) if many || words.len() == 1 => without(names(cluster, first).await, &words[1..]),
        (false, _) => Answer::nothing(),
    }
}

fn without(names: Vec<String>, given: &[String]) -> Answer {
    Answer::values(names.into_iter().filter(|name| !given.contains(name)))
}

async fn types(cluster: &Cluster, offered: &[&str]) -> Vec<String> {
    if offered.is_empty() {
        return kinds(cluster).await;
    }
    offered.iter().map(|kind| kind.to_string()).collect()
}

/// Every kind whose objects can be read, by plural and group, the core group first.
pub async fn kinds(cluster: &Cluster) -> Vec<String> {
    let Ok(discovery) = cluster.discovery().await else { return Vec::new() };
    let mut kinds: Vec<&Kind> = discovery.preferred().into_iter().filter(|kind| kind.can("get")).collect();
    kinds.sort_by_key(|kind| (&kind.group, &kind.plural));
    kinds.into_iter().map(Kind::group_resource).collect()
}

/// `KIND/NAME` of all objects of the kinds a word means, the word kept as it is.
pub async fn typed(cluster: &Cluster, word: &str) -> Vec<String> {
    names(cluster, word).await.into_iter().map(|name| format!("{word}/{name}")).collect()
}

/// The names of all objects of the kinds a word means: `po`, `pods,svc`, `all`.
pub async fn names(cluster: &Cluster, word: &str) -> Vec<String> {
    let mut kinds = Vec::new();
    for part in word.split(',').filter(|part| !part.is_empty()) {
        kinds.extend(meant(cluster, part).await);
    }
    let listed = kinds.iter().map(|kind| list(cluster, kind));
    futures::future::join_all(listed).await.into_iter().flatten().collect()
}

async fn meant(cluster: &Cluster, word: &str) -> Vec<Kind> {
    let Ok(discovery) = cluster.discovery().await else { return Vec::new() };
    let category: Vec<Kind> = discovery.category(word).into_iter().cloned().collect();
    if !category.is_empty() {
        return category;
    }
    cluster.kind(word).await.into_iter().collect()
}

async fn list(cluster: &Cluster, kind: &Kind) -> Vec<String> {
    if !kind.can("list") {
        return Vec::new();
    }
    let options = ListOptions { accept: Some(METADATA.into()), ..ListOptions::default() };
    let items = cluster.items(kind, Some(&cluster.namespace), &options).await.unwrap_or_default();
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).map(str::to_string).collect()
}
