//! `lab status`: each node's daemons, whether they run, how often they were restarted and why.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use comfy_table::{Table, presets};
use k8s_openapi::api::core::v1::Node;

use super::node;
use super::spec::{Lab, NodeSpec, Spec};
use coxctl_machine::supervisor::State;

/// Whether the node's Ready condition is True.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// Prints the lab's state; says whether all of it runs.
///
/// # Errors
/// When there is no such lab.
pub fn print(lab: &Lab) -> Result<bool> {
    let spec = lab.require()?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "NODE",
        "ADDRESS",
        "DAEMON",
        "PID",
        "MEMORY",
        "RESTARTS",
        "LAST EXIT",
    ]);
    let mut good = super::forward::running(lab);
    for node in &spec.nodes {
        good &= rows(lab, node, &mut table);
    }
    println!("{table}");
    summary(&spec, good);
    Ok(good)
}

fn summary(spec: &Spec, good: bool) {
    println!("API server: https://127.0.0.1:{} (context {})", spec.api_port, spec.context());
    for publish in &spec.publish {
        println!("Published: 127.0.0.1:{} -> {}:{}", publish.host_port, publish.node, publish.port);
    }
    if !good {
        println!("Not all of the lab runs; `coxctl lab up` mends it.");
    }
}

fn rows(lab: &Lab, node: &NodeSpec, table: &mut Table) -> bool {
    let ip = node.ip().to_string();
    let Some(init) = node::init_pid(lab, node) else {
        table.add_row([node.name.as_str(), &ip, "-", "down", "", "", ""]);
        return false;
    };
    let text = fs::read(lab.node_dir(node).join("run/coxswain/supervisor.json")).unwrap_or_default();
    let daemons: BTreeMap<String, State> = serde_json::from_slice(&text).unwrap_or_default();
    let outside = pids_outside(init);
    for (name, state) in &daemons {
        let pid = outside.get(&state.pid).copied().unwrap_or_default();
        let shown = if state.pid == 0 { "down".to_string() } else { pid.to_string() };
        table.add_row([
            &node.name,
            &ip,
            name,
            &shown,
            &memory(pid),
            &state.restarts.to_string(),
            &state.last_exit,
        ]);
    }
    !daemons.is_empty() && daemons.values().all(|s| s.pid > 0)
}

/// The host's process ids of the node's processes, by their ids inside.
fn pids_outside(init: i32) -> BTreeMap<i32, i32> {
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap_or_default();
    let inside = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
        Some((line.split_whitespace().last()?.parse().ok()?, pid))
    };
    children.split_whitespace().filter_map(|p| p.parse().ok()).filter_map(inside).collect()
}

/// Resident memory as `12.3 MiB`.
fn memory(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|v| v.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|k| format!("{:.1} MiB", k / 1024.0)).unwrap_or_default()
}
