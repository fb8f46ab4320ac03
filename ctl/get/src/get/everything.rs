//! Every kind the server can list: what `get all` doesn't show.

use coxctl_kit::{Cluster, Kind, Result, Wanted};

/// Kinds that only repeat others, or aren't kept.
const LEFT_OUT: &[&str] =
    &["componentstatuses", "events.events.k8s.io", "nodes.metrics.k8s.io", "pods.metrics.k8s.io"];

/// Lists of all kinds: of one namespace, or with `everywhere` of all and those outside namespaces.
pub async fn wanted(cluster: &Cluster, everywhere: bool) -> Result<Vec<Wanted>> {
    let discovery = cluster.discovery().await?;
    let shown = |kind: &&Kind| {
        kind.can("list")
            && (everywhere || kind.namespaced)
            && !LEFT_OUT.contains(&kind.group_resource().as_str())
    };
    let namespace = (!everywhere).then(|| cluster.namespace.clone());
    let list = |kind: &Kind| Wanted::List {
        namespace: namespace.clone().filter(|_| kind.namespaced),
        kind: kind.clone(),
    };
    Ok(discovery.preferred().into_iter().filter(shown).map(list).collect())
}
