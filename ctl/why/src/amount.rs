//! Amounts of resources, as people write them.

use std::collections::BTreeMap;

use coxctl_kit::dig;
use machinery::quantity::Quantity;
use serde_json::Value;

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// An amount without the resource's name: `0.5`, `512Mi`, `3`.
pub fn bare(resource: &str, amount: &Quantity) -> String {
    match resource.rsplit('.').next().unwrap_or_default() {
        "cpu" => decimal(amount.milli_value() as f64 / 1000.0, 3),
        "memory" | "ephemeral-storage" | "storage" => bytes(amount.value()),
        _ if resource.starts_with("hugepages-") => bytes(amount.value()),
        _ => amount.canonical(),
    }
}

/// An amount with the resource's name: `0.5 CPU`, `512Mi memory`, `3 nvidia.com/gpu`.
pub fn named(resource: &str, amount: &Quantity) -> String {
    format!("{} {}", bare(resource, amount), title(resource))
}

/// How a resource is called.
pub fn title(resource: &str) -> &str {
    if resource == "cpu" { "CPU" } else { resource }
}

fn bytes(n: i64) -> String {
    const UNITS: [(&str, i64); 4] = [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    match UNITS.iter().find(|(_, size)| n.abs() >= *size) {
        Some((unit, size)) => format!("{}{unit}", decimal(n as f64 / *size as f64, 1)),
        None => n.to_string(),
    }
}

fn decimal(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// Reads a map of amounts.
pub fn read(map: &Value) -> Amounts {
    map.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), dig::quantity(value))).collect()
}

/// Adds amounts.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (key, amount) in more {
        let known = sum.get(key).map_or(*amount, |known| known.add(amount));
        sum.insert(key.clone(), known);
    }
}

/// Takes the larger of each.
fn largest(sum: &mut Amounts, other: &Amounts) {
    for (key, amount) in other {
        if sum.get(key).is_none_or(|known| known < amount) {
            sum.insert(key.clone(), *amount);
        }
    }
}

/// What a pod asks of its node: containers and sidecars together, or an init container's more, the pod's own figures
/// before those, and the overhead.
pub fn requests(pod: &Value) -> Amounts {
    let mut sum = Amounts::new();
    for container in dig::items(pod, "spec.containers") {
        add(&mut sum, &read(dig::at(container, "resources.requests")));
    }
    let (mut sidecars, mut start) = (Amounts::new(), Amounts::new());
    for container in dig::items(pod, "spec.initContainers") {
        let own = read(dig::at(container, "resources.requests"));
        let mut beside = sidecars.clone();
        add(&mut beside, &own);
        largest(&mut start, &beside);
        if dig::text(container, "restartPolicy") == "Always" {
            add(&mut sidecars, &own);
        }
    }
    add(&mut sum, &sidecars);
    largest(&mut sum, &start);
    sum.extend(read(dig::at(pod, "spec.resources.requests")));
    add(&mut sum, &read(dig::at(pod, "spec.overhead")));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures() {
        let table = [
            ("cpu", "500m", "0.5 CPU"),
            ("cpu", "2", "2 CPU"),
            ("requests.cpu", "1250m", "1.25 requests.cpu"),
            ("memory", "512Mi", "512Mi memory"),
            ("memory", "1536Mi", "1.5Gi memory"),
            ("memory", "100", "100 memory"),
            ("pods", "3", "3 pods"),
        ];
        for (resource, amount, wanted) in table {
            let amount = Quantity::parse(amount).expect("a quantity");
            assert_eq!(named(resource, &amount), wanted);
        }
    }

    #[test]
    fn init_containers_count_alone_and_sidecars_with_the_rest() {
        let ask = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = ask("100m");
        sidecar["restartPolicy"] = "Always".into();
        let pod = json!({"spec": {"containers": [ask("1"), ask("2")], "initContainers": [sidecar, ask("4")], "overhead": {"cpu": "1"}}});
        assert_eq!(requests(&pod)["cpu"].canonical(), "5100m");
        let pod = json!({"spec": {"containers": [ask("1"), ask("2")], "initContainers": [ask("2")]}});
        assert_eq!(requests(&pod)["cpu"].canonical(), "3");
    }
}
