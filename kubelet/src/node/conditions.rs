//! The node's conditions from what is known. Pure.

use crate::context::{Pressure, RuntimeHealth};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Conditions now, in upstream's order. Transition times are kept from `old` where the status did not change.
pub fn compute(
    health: &RuntimeHealth,
    pressure: Pressure,
    old: &[NodeCondition],
    now: Timestamp,
) -> Vec<NodeCondition> {
    let memory = if pressure.memory {
        ("True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available".to_owned())
    } else {
        ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available".to_owned())
    };
    let disk = if pressure.disk {
        ("True", "KubeletHasDiskPressure", "kubelet has disk pressure".to_owned())
    } else {
        ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure".to_owned())
    };
    let pid = if pressure.pid {
        ("True", "KubeletHasInsufficientPID", "kubelet has insufficient PID available".to_owned())
    } else {
        ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available".to_owned())
    };
    [("MemoryPressure", memory), ("DiskPressure", disk), ("PIDPressure", pid), ("Ready", ready(health))]
        .into_iter()
        .map(|(kind, (status, reason, message))| condition(kind, status, reason, message, old, now))
        .collect()
}

/// Is a condition of the node one that this kubelet writes?
pub fn is_ours(kind: &str) -> bool {
    matches!(kind, "MemoryPressure" | "DiskPressure" | "PIDPressure" | "Ready")
}

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    old: &[NodeCondition],
    now: Timestamp,
) -> NodeCondition {
    let same = old.iter().find(|c| c.type_ == kind && c.status == status);
    NodeCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
    }
}

fn ready(health: &RuntimeHealth) -> (&'static str, &'static str, String) {
    let mut errors: Vec<String> = Vec::new();
    if !health.seen && health.runtime_error.is_none() {
        errors.push("container runtime status check may not have completed yet".into());
    }
    errors.extend(health.runtime_error.clone());
    errors.extend(health.network_error.clone());
    errors.extend(health.pleg_error.clone());
    match errors.as_slice() {
        [] => ("True", "KubeletReady", "kubelet is posting ready status".into()),
        [one] => ("False", "KubeletNotReady", one.clone()),
        many => ("False", "KubeletNotReady", format!("[{}]", many.join(", "))),
    }
}

/// Events to tell for the change from `old` to `new`: reasons, as upstream names them.
pub fn events(old: &[NodeCondition], new: &[NodeCondition]) -> Vec<&'static str> {
    let status = |all: &[NodeCondition], kind: &str| {
        all.iter().find(|c| c.type_ == kind).map(|c| c.status.clone()).unwrap_or_default()
    };
    const NAMES: [(&str, &str, &str); 4] = [
        ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
        ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
        ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
        ("Ready", "NodeReady", "NodeNotReady"),
    ];
    NAMES
        .iter()
        .filter_map(|(kind, when_true, when_false)| {
            let (before, after) = (status(old, kind), status(new, kind));
            // A node that begins unready is no news.
            let quiet = before == after || (*kind == "Ready" && before.is_empty() && after == "False");
            (!quiet).then_some(if after == "True" { *when_true } else { *when_false })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> RuntimeHealth {
        RuntimeHealth { seen: true, ..Default::default() }
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    fn text(c: &NodeCondition) -> String {
        format!("{} {} {} {}", c.type_, c.status, c.reason.as_deref().unwrap(), c.message.as_deref().unwrap())
    }

    #[test]
    fn words() {
        let good = compute(&well(), Pressure::default(), &[], at(1));
        let want = "MemoryPressure False KubeletHasSufficientMemory kubelet has sufficient memory available
DiskPressure False KubeletHasNoDiskPressure kubelet has no disk pressure
PIDPressure False KubeletHasSufficientPID kubelet has sufficient PID available
Ready True KubeletReady kubelet is posting ready status";
        assert_eq!(good.iter().map(text).collect::<Vec<_>>().join("\n"), want);
        let pressure = Pressure { memory: true, disk: true, pid: true };
        let bad = compute(&RuntimeHealth::default(), pressure, &[], at(1));
        assert!(bad.iter().take(3).all(|c| c.status == "True"));
        assert_eq!(
            text(&bad[3]),
            "Ready False KubeletNotReady container runtime status check may not have completed yet"
        );
    }

    #[test]
    fn several_reasons_are_listed() {
        let mut health = well();
        health.network_error = Some("net".into());
        assert_eq!(ready(&health).2, "net");
        health.pleg_error = Some("pleg".into());
        assert_eq!(ready(&health).2, "[net, pleg]");
    }

    #[test]
    fn transitions_are_kept_and_told() {
        let first = compute(&well(), Pressure::default(), &[], at(1));
        assert_eq!(
            events(&[], &first),
            ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"]
        );
        let mut health = well();
        health.runtime_error = Some("gone".into());
        let second = compute(&health, Pressure::default(), &first, at(9));
        assert_eq!(events(&first, &second), ["NodeNotReady"]);
        assert_eq!(second[0].last_transition_time, Some(Time(at(1))));
        assert_eq!(second[0].last_heartbeat_time, Some(Time(at(9))));
        assert_eq!(second[3].last_transition_time, Some(Time(at(9))));
        let fresh = compute(&health, Pressure::default(), &[], at(9));
        assert!(!events(&[], &fresh).contains(&"NodeNotReady"));
    }
}
