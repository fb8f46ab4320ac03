//! route: one of the provider's routes per node and pod network, and the node's condition NetworkUnavailable by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use control::Recorder;
use control::backoff::jitter;
use futures::future::join_all;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::{name, within};
use crate::Context;
use crate::provider::{Route, Routes};

/// Routes made or removed at a time.
const PARALLEL: usize = 200;

/// What is to be done about routes, and which nodes are without one.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub delete: Vec<Route>,
    pub create: Vec<Route>,
    /// Nodes that have all their routes already.
    pub complete: BTreeSet<String>,
}

/// Pods' networks of a node.
fn networks(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    match spec.pod_cidrs.as_deref().unwrap_or_default() {
        [] => spec.pod_cidr.iter().cloned().collect(),
        all => all.to_vec(),
    }
}

/// Compares what there is with what nodes need. Routes outside the cluster's networks are not ours.
pub fn plan(nodes: &[Arc<Node>], routes: &[Route], cluster: &[IpNet]) -> Plan {
    let wanted: BTreeMap<&str, Vec<String>> =
        nodes.iter().map(|n| (name(&n.metadata), networks(n))).collect();
    let needs = |r: &Route| wanted.get(r.node.as_str()).is_some_and(|all| all.contains(&r.destination));
    let ours = |r: &&Route| {
        let network = r.destination.parse::<IpNet>();
        network.is_ok_and(|n| cluster.iter().any(|c| c.contains(&n)))
    };
    let good = |r: &&Route| !r.blackhole && needs(r);
    let have: BTreeSet<(&str, &str)> =
        routes.iter().filter(good).map(|r| (r.node.as_str(), r.destination.as_str())).collect();
    let mut plan = Plan {
        delete: routes.iter().filter(ours).filter(|r| !good(r)).cloned().collect(),
        ..Plan::default()
    };
    for (node, all) in wanted.iter().filter(|(_, all)| !all.is_empty()) {
        let lacking = all.iter().filter(|cidr| !have.contains(&(*node, cidr.as_str())));
        let lacking: Vec<Route> = lacking
            .map(|cidr| Route {
                name: String::new(),
                node: (*node).into(),
                destination: cidr.clone(),
                blackhole: false,
            })
            .collect();
        if lacking.is_empty() {
            plan.complete.insert((*node).into());
        }
        plan.create.extend(lacking);
    }
    plan
}

/// Does the node's condition say otherwise than it is?
pub fn wrong(node: &Node, routed: bool) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let found = conditions.into_iter().flatten().find(|c| c.type_ == "NetworkUnavailable");
    found.is_none_or(|c| c.status != if routed { "False" } else { "True" })
}

/// Starts the controller where the provider has routes and the cluster gives networks to nodes.
pub fn start(context: &Context) {
    if context.provider.routes().is_none() {
        tracing::debug!("the provider has no routes");
        return;
    }
    let config = &context.config;
    if !config.allocate_node_cidrs || !config.configure_cloud_routes {
        tracing::info!(
            "routes are left alone: that takes --allocate-node-cidrs and --configure-cloud-routes"
        );
        return;
    }
    let cluster: Vec<IpNet> = config.cluster_cidr.iter().filter_map(|c| c.parse().ok()).collect();
    let recorder = Recorder::start(context.client.clone(), "route_controller", None, &context.tasks);
    let room = Room { context: context.clone(), recorder, cluster };
    context.tasks.spawn("node-route-controller", async move {
        loop {
            if let Err(error) = room.look().await {
                tracing::warn!("{error:#}");
            }
            tokio::time::sleep(jitter(room.context.config.route_reconciliation_period)).await;
        }
    });
}

struct Room {
    context: Context,
    recorder: Recorder,
    cluster: Vec<IpNet>,
}

impl Room {
    async fn look(&self) -> Result<()> {
        self.context.tally.route_syncs.inc();
        let Some(routes) = self.context.provider.routes() else { return Ok(()) };
        let cluster = &self.context.config.cluster_name;
        let there = within("routes", routes.list(cluster)).await.context("error listing routes")?;
        let nodes = self.context.nodes.list();
        let plan = plan(&nodes, &there, &self.cluster);
        // Those in the way first: a network may have moved from one node to another.
        for some in plan.delete.chunks(PARALLEL) {
            join_all(some.iter().map(|route| remove(routes, cluster, route))).await;
        }
        let mut made: Vec<(String, bool)> = Vec::new();
        for some in plan.create.chunks(PARALLEL) {
            made.extend(join_all(some.iter().map(|route| self.create(routes, &nodes, route))).await);
        }
        for node in &nodes {
            let name = name(&node.metadata);
            let tried = made.iter().any(|(n, _)| n == name);
            let routed = plan.complete.contains(name)
                || tried && made.iter().filter(|(n, _)| n == name).all(|(_, done)| *done);
            if (tried || routed) && wrong(node, routed) {
                self.condition(name, routed).await?;
            }
        }
        Ok(())
    }

    async fn create(&self, routes: &dyn Routes, nodes: &[Arc<Node>], route: &Route) -> (String, bool) {
        let node = nodes.iter().find(|n| name(&n.metadata) == route.node);
        let hint = node.and_then(|n| n.metadata.uid.clone()).unwrap_or_default();
        let created = within("route", routes.create(&self.context.config.cluster_name, &hint, route)).await;
        if let (Err(error), Some(node)) = (&created, node) {
            let message = format!(
                "Could not create route {hint} {} for node {}: {error:#}",
                route.destination, route.node
            );
            self.recorder.warning(&control::events::reference(&**node), "FailedToCreateRoute", message);
        }
        (route.node.clone(), created.is_ok())
    }

    async fn condition(&self, node: &str, routed: bool) -> Result<()> {
        let (status, reason, message) = match routed {
            true => ("False", "RouteCreated", "RouteController created a route"),
            false => ("True", "NoRouteCreated", "RouteController failed to create a route"),
        };
        let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let body = json!({"status": {"conditions": [{
            "type": "NetworkUnavailable", "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }]}});
        let api: Api<Node> = Api::all(self.context.client.clone());
        let params = PatchParams::default();
        within("node condition", api.patch_status(node, &params, &Patch::Strategic(body))).await.map(drop)
    }
}

async fn remove(routes: &dyn Routes, cluster: &str, route: &Route) {
    if let Err(error) = within("route", routes.delete(cluster, route)).await {
        tracing::warn!(route = route.destination, "could not delete the route: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, cidrs: &[&str]) -> Arc<Node> {
        let value = json!({"metadata": {"name": name}, "spec": {"podCIDRs": cidrs}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn route(node: &str, destination: &str, blackhole: bool) -> Route {
        Route {
            name: format!("r-{destination}"),
            node: node.into(),
            destination: destination.into(),
            blackhole,
        }
    }

    #[test]
    fn routes_follow_nodes() {
        let nodes = [node("a", &["10.1.0.0/24"]), node("b", &["10.1.1.0/24", "fd00::/64"]), node("c", &[])];
        let cluster = ["10.1.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()];
        let there = [
            route("a", "10.1.0.0/24", false),
            route("b", "10.1.1.0/24", true),
            route("gone", "10.1.9.0/24", false),
            route("gone", "192.168.0.0/24", false),
        ];
        let plan = plan(&nodes, &there, &cluster);
        let list =
            |all: &[Route]| all.iter().map(|r| format!("{} {}", r.node, r.destination)).collect::<Vec<_>>();
        assert_eq!(list(&plan.delete), ["b 10.1.1.0/24", "gone 10.1.9.0/24"]);
        assert_eq!(list(&plan.create), ["b 10.1.1.0/24", "b fd00::/64"]);
        assert_eq!(plan.complete, BTreeSet::from(["a".to_string()]));
    }

    #[test]
    fn the_condition_is_written_when_it_is_wrong() {
        let with = |status: &str| -> Node {
            let value = json!({"metadata": {}, "status": {"conditions": [{"type": "NetworkUnavailable", "status": status}]}});
            serde_json::from_value(value).unwrap()
        };
        assert!(wrong(&Node::default(), true) && wrong(&with("True"), true) && wrong(&with("False"), false));
        assert!(!wrong(&with("False"), true) && !wrong(&with("True"), false));
    }
}
