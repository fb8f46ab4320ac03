//! `apply --prune`: objects that were applied once and are in no file any more.

use super::Context;
use crate::annotation::last_applied;
use crate::flags::{DryRun, error};
use crate::output::Printer;
use anyhow::Result;
use coxctl_kit::{Cluster, Kind, ListOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What applying has touched.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// UIDs of the applied objects.
    pub seen: BTreeSet<String>,
    /// Namespaces of the applied objects.
    pub namespaces: BTreeSet<String>,
}

impl Scope {
    /// Remembers where an object was applied.
    pub fn visit(&mut self, namespace: Option<&str>) {
        self.namespaces.extend(namespace.map(str::to_string));
    }
}

/// Kinds that are pruned unless others are named, in kubectl's order: `group/version/kind`.
const ALLOWED: [&str; 16] = [
    "core/v1/ConfigMap",
    "core/v1/Endpoints",
    "core/v1/Namespace",
    "core/v1/PersistentVolumeClaim",
    "core/v1/PersistentVolume",
    "core/v1/Pod",
    "core/v1/ReplicationController",
    "core/v1/Secret",
    "core/v1/Service",
    "batch/v1/Job",
    "batch/v1/CronJob",
    "networking.k8s.io/v1/Ingress",
    "apps/v1/DaemonSet",
    "apps/v1/Deployment",
    "apps/v1/ReplicaSet",
    "apps/v1/StatefulSet",
];

async fn kinds(cluster: &Cluster, named: &[String]) -> Result<Vec<Kind>> {
    let listed: Vec<&str> =
        if named.is_empty() { ALLOWED.to_vec() } else { named.iter().map(String::as_str).collect() };
    let mut out = Vec::new();
    for text in listed {
        let parts: Vec<&str> = text.split('/').collect();
        let [group, version, kind] = parts.as_slice() else {
            return Err(error(format!(
                "invalid GroupVersionKind format: {text}, please follow <group/version/kind>"
            )));
        };
        let group = if *group == "core" { "" } else { group };
        let api_version = machinery::kinds::api_version(group, version);
        out.push(cluster.kind_of(&api_version, kind).await?);
    }
    Ok(out)
}

/// Deletes what is to go: namespaced kinds where something was applied, cluster-wide kinds anywhere.
pub async fn prune(context: &Context<'_>, printer: &Printer, scope: &Scope) -> Result<()> {
    let kinds = kinds(context.cluster, &context.flags.prune_allowlist).await?;
    for namespace in &scope.namespaces {
        for kind in kinds.iter().filter(|kind| kind.namespaced) {
            prune_kind(context, printer, scope, kind, Some(namespace)).await?;
        }
    }
    for kind in kinds.iter().filter(|kind| !kind.namespaced) {
        prune_kind(context, printer, scope, kind, None).await?;
    }
    Ok(())
}

/// The objects of a list that apply made and no file names.
pub fn doomed<'a>(items: &'a [Value], scope: &'a Scope) -> impl Iterator<Item = &'a Value> {
    items
        .iter()
        .filter(|item| last_applied(item).is_some() && !scope.seen.contains(machinery::meta::uid(item)))
}

async fn prune_kind(
    context: &Context<'_>,
    printer: &Printer,
    scope: &Scope,
    kind: &Kind,
    namespace: Option<&str>,
) -> Result<()> {
    let labels = Some(context.flags.selector.clone()).filter(|s| !s.is_empty());
    let options = ListOptions { labels, limit: 0, ..ListOptions::default() };
    let items = context.cluster.items(kind, namespace, &options).await?;
    for item in doomed(&items, scope) {
        delete(context, kind, item).await?;
        printer.done(item, "pruned")?;
    }
    Ok(())
}

async fn delete(context: &Context<'_>, kind: &Kind, item: &Value) -> Result<()> {
    if context.dry == DryRun::Client {
        return Ok(());
    }
    let mut options =
        json!({"propagationPolicy": super::super::delete::propagation(&context.flags.cascade)?});
    if context.flags.grace_period >= 0 {
        options["gracePeriodSeconds"] = json!(context.flags.grace_period);
    }
    if context.dry == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    let namespace = item["metadata"]["namespace"].as_str();
    match context.cluster.delete(kind, namespace, machinery::meta::name(item), &options).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotation::with_last_applied;

    #[test]
    fn only_applied_and_unseen_ones_go() {
        let scope = Scope { seen: ["1".to_string()].into(), ..Scope::default() };
        let object = |uid: &str| json!({"metadata": {"uid": uid}});
        let items = [with_last_applied(object("1"), "{}"), with_last_applied(object("2"), "{}"), object("3")];
        let gone: Vec<&str> = doomed(&items, &scope).map(machinery::meta::uid).collect();
        assert_eq!(gone, ["2"]);
    }
}
