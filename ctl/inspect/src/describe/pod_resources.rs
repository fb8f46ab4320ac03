//! What a pod asks for and may use in all: its containers, the needs of its start, its own fields and its overhead.

use crate::dig;
use machinery::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// Amounts by the names of resources.
pub type Amounts = BTreeMap<String, Quantity>;

/// Adds to amounts.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or_else(|| *amount, |held| held.add(amount));
        to.insert(name.clone(), sum);
    }
}

/// Raises amounts to others.
fn raise(to: &mut Amounts, others: &Amounts) {
    for (name, amount) in others {
        if to.get(name).is_none_or(|held| held < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

fn amounts(value: &Value, path: &str) -> Amounts {
    dig::entries(value, path).into_iter().map(|(name, value)| (name.into(), dig::quantity(value))).collect()
}

/// What a pod asks for. With `by_status` what its containers have been given counts where that is more.
pub fn requests(pod: &Value, by_status: bool) -> Amounts {
    let mut all = of_containers(pod, "requests", by_status);
    all.extend(of_pod(pod, "spec.resources.requests"));
    add(&mut all, &amounts(pod, "spec.overhead"));
    all
}

/// What a pod may use at most.
pub fn limits(pod: &Value, by_status: bool) -> Amounts {
    let mut all = of_containers(pod, "limits", by_status);
    all.extend(of_pod(pod, "spec.resources.limits"));
    let overhead: Amounts =
        amounts(pod, "spec.overhead").into_iter().filter(|(name, _)| all.contains_key(name)).collect();
    add(&mut all, &overhead);
    all
}

/// Amounts set for the pod as a whole, of the resources that can be.
fn of_pod(pod: &Value, path: &str) -> Amounts {
    let known = |name: &str| ["cpu", "memory"].contains(&name) || name.starts_with("hugepages-");
    amounts(pod, path).into_iter().filter(|(name, _)| known(name)).collect()
}

fn of_containers(pod: &Value, list: &str, by_status: bool) -> Amounts {
    let mut all = Amounts::new();
    for container in dig::items(pod, "spec.containers") {
        add(&mut all, &of_container(pod, container, "status.containerStatuses", list, by_status));
    }
    // A container that runs before the others has those to itself that were started before it and stay.
    let (mut staying, mut starting) = (Amounts::new(), Amounts::new());
    for container in dig::items(pod, "spec.initContainers") {
        let mut needs = of_container(pod, container, "status.initContainerStatuses", list, by_status);
        if dig::text(container, "restartPolicy") == "Always" {
            add(&mut all, &needs);
            add(&mut staying, &needs);
            needs = staying.clone();
        } else {
            add(&mut needs, &staying);
        }
        raise(&mut starting, &needs);
    }
    raise(&mut all, &starting);
    all
}

fn of_container(pod: &Value, container: &Value, statuses: &str, list: &str, by_status: bool) -> Amounts {
    let mut needs = amounts(&container["resources"], list);
    let name = dig::text(container, "name");
    let status = dig::items(pod, statuses).iter().find(|status| dig::text(status, "name") == name);
    if let Some(status) = status.filter(|status| by_status && dig::has(status, "resources")) {
        raise(&mut needs, &amounts(&status["resources"], list));
        if list == "requests" {
            raise(&mut needs, &amounts(status, "allocatedResources"));
        }
    }
    needs
}
