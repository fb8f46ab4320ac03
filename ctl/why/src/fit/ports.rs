//! NodePorts: host ports that are taken.

use coxctl_kit::dig;
use serde_json::Value;

use super::{Help, Obstacle, Spot, World};
use crate::facts;
use crate::finding::evidence;

pub fn obstacles(world: &World<'_>, spot: &Spot<'_>) -> Vec<Obstacle> {
    let wanted = host_ports(world.pod);
    wanted.iter().filter_map(|port| taken(spot, port)).collect()
}

fn taken(spot: &Spot<'_>, wanted: &Port<'_>) -> Option<Obstacle> {
    let holder = spot.pods.iter().find(|pod| host_ports(pod).iter().any(|port| port.clashes(wanted)))?;
    let (number, holder) = (wanted.number, facts::name(holder));
    Some(Obstacle {
        plugin: "NodePorts",
        text: format!("has its port {number} taken by pod {holder}"),
        alike: format!("port {number}"),
        help: Help {
            gap: 0,
            cost: 3,
            text: format!("use another hostPort than {number}, or none and a Service instead"),
        },
        evidence: vec![evidence("Pod", holder, "spec.containers.ports.hostPort", number)],
    })
}

struct Port<'a> {
    number: i64,
    protocol: &'a str,
    address: &'a str,
}

impl Port<'_> {
    fn clashes(&self, other: &Port<'_>) -> bool {
        let everywhere = |port: &Port<'_>| matches!(port.address, "" | "0.0.0.0" | "::");
        self.number == other.number
            && self.protocol == other.protocol
            && (everywhere(self) || everywhere(other) || self.address == other.address)
    }
}

fn host_ports(pod: &Value) -> Vec<Port<'_>> {
    let sidecar = |c: &&Value| dig::text(c, "restartPolicy") == "Always";
    let containers = dig::items(pod, "spec.containers").iter();
    let containers = containers.chain(dig::items(pod, "spec.initContainers").iter().filter(sidecar));
    let ports = containers.flat_map(|container| dig::items(container, "ports"));
    let port = |port| Port {
        number: dig::int(port, "hostPort"),
        protocol: if dig::text(port, "protocol").is_empty() { "TCP" } else { dig::text(port, "protocol") },
        address: dig::text(port, "hostIP"),
    };
    ports.map(port).filter(|port| port.number > 0).collect()
}
