//! Nodes.

use super::node_resources;
use super::page::Page;
use super::subject::Subject;
use crate::dig;
use crate::put;
use serde_json::Value;
use std::collections::BTreeMap;

/// Pools of devices shown at most.
const POOLS_SHOWN: usize = 10;

/// Writes a node.
pub fn page(subject: &Subject, page: &mut Page) {
    let node = &subject.object;
    page.name(node);
    page.field(0, "Roles", dig::or_none(&roles(node).join(",")));
    page.labels_and_annotations(node);
    page.field(0, "CreationTimestamp", dig::date(node, "metadata.creationTimestamp"));
    taints(node, page);
    page.field(0, "Unschedulable", dig::flag(node, "spec.unschedulable"));
    lease(subject, page);
    conditions(node, page);
    page.put(0, "Addresses:\n");
    for address in dig::items(node, "status.addresses") {
        page.field(1, dig::text(address, "type"), dig::text(address, "address"));
    }
    amounts(node, page);
    devices(&subject.resource_slices, page);
    system(node, page);
    network(node, page);
    match subject.refused {
        Some(_) => page.field(0, "Pods", "not authorized"),
        None => node_resources::tables(subject, page),
    }
    subject.events(page);
}

fn roles(node: &Value) -> Vec<&str> {
    let labels = dig::strings(node, "metadata.labels");
    let mut roles: Vec<&str> = labels
        .into_iter()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then_some(value),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn taints(node: &Value, page: &mut Page) {
    let mut taints: Vec<_> = dig::items(node, "spec.taints").iter().collect();
    taints.sort_by_key(|taint| format!("{},{}", dig::text(taint, "effect"), dig::text(taint, "key")));
    let lines: Vec<_> = taints.into_iter().map(taint).collect();
    page.lines("", "Taints", &lines);
}

fn taint(taint: &Value) -> String {
    let (key, value, effect) =
        (dig::text(taint, "key"), dig::text(taint, "value"), dig::text(taint, "effect"));
    match (value, effect) {
        ("", "") => key.into(),
        ("", _) => format!("{key}:{effect}"),
        (_, "") => format!("{key}={value}:"),
        _ => format!("{key}={value}:{effect}"),
    }
}

fn lease(subject: &Subject, page: &mut Page) {
    let lease = match &subject.lease {
        None => return,
        Some(Err(error)) => return page.field(0, "Lease", format!("Failed to get lease: {error}")),
        Some(Ok(lease)) => lease,
    };
    page.put(0, "Lease:\n");
    let holder = dig::at(lease, "spec.holderIdentity").as_str().unwrap_or("<unset>");
    page.field(1, "HolderIdentity", holder);
    for (title, path) in [("AcquireTime", "spec.acquireTime"), ("RenewTime", "spec.renewTime")] {
        let date = dig::has(lease, path).then(|| dig::date(lease, path));
        page.field(1, title, date.as_deref().unwrap_or("<unset>"));
    }
}

fn conditions(node: &Value, page: &mut Page) {
    let conditions = dig::items(node, "status.conditions");
    if conditions.is_empty() {
        return;
    }
    page.put(0, "Conditions:\n  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage\n");
    page.put(1, "----\t------\t-----------------\t------------------\t------\t-------\n");
    for condition in conditions {
        let text = |field| dig::text(condition, field);
        let (beat, changed) =
            (dig::date(condition, "lastHeartbeatTime"), dig::date(condition, "lastTransitionTime"));
        put!(
            page,
            1,
            "{} \t{} \t{beat} \t{changed} \t{} \t{}\n",
            text("type"),
            text("status"),
            text("reason"),
            text("message")
        );
    }
}

fn amounts(node: &Value, page: &mut Page) {
    for (title, path) in [("Capacity", "status.capacity"), ("Allocatable", "status.allocatable")] {
        let amounts = dig::entries(node, path);
        if amounts.is_empty() {
            continue;
        }
        put!(page, 0, "{title}:\n");
        for (name, amount) in amounts {
            page.field(1, name, dig::quantity(amount));
        }
    }
}

/// Devices of this node alone: how many slices and devices every pool has.
fn devices(slices: &[Value], page: &mut Page) {
    let mut pools: BTreeMap<String, (&str, &str, usize, usize)> = BTreeMap::new();
    for slice in slices {
        let (driver, pool) = (dig::text(slice, "spec.driver"), dig::text(slice, "spec.pool.name"));
        let entry = pools.entry(format!("{driver}/{pool}")).or_insert((driver, pool, 0, 0));
        entry.2 += 1;
        entry.3 += dig::items(slice, "spec.devices").len();
    }
    if pools.is_empty() {
        return;
    }
    page.put(0, "Node-Local ResourceSlices:\n");
    page.put(1, "Driver\tPool\tSlices\tDevices\n");
    page.put(1, "------\t----\t------\t-------\n");
    for (driver, pool, slices, devices) in pools.values().take(POOLS_SHOWN) {
        put!(page, 1, "{driver}\t{pool}\t{slices}\t{devices}\n");
    }
    if pools.len() > POOLS_SHOWN {
        put!(page, 1, "...and {} more pools\n", pools.len() - POOLS_SHOWN);
    }
}

fn system(node: &Value, page: &mut Page) {
    page.put(0, "System Info:\n");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        page.field(1, title, dig::text(&node["status"]["nodeInfo"], field));
    }
}

fn network(node: &Value, page: &mut Page) {
    let lines = [
        ("PodCIDR", dig::text(node, "spec.podCIDR").to_string()),
        ("PodCIDRs", dig::texts(node, "spec.podCIDRs").join(",")),
        ("ProviderID", dig::text(node, "spec.providerID").to_string()),
    ];
    for (title, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        page.field(0, title, value);
    }
}
