//! What a pod asks for as a whole, and the quality of service that follows from it.

use super::val::{at, entries, list, s};
use super::validate::resources::quantity;
use machinery::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// Quantities by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// What the containers of a pod spec request together: the sum of the containers and of the init containers that
/// keep running, or what one init container needs beside those started before it, whichever is more.
pub fn pod_requests(spec: &Value) -> Amounts {
    aggregate(spec, "requests")
}

fn aggregate(spec: &Value, which: &str) -> Amounts {
    let mut total = Amounts::new();
    for container in list(spec, "containers") {
        add(&mut total, container, which);
    }
    let mut sidecars = Amounts::new();
    let mut highest = Amounts::new();
    for container in list(spec, "initContainers") {
        let mut now = sidecars.clone();
        add(&mut now, container, which);
        if s(container, "restartPolicy") == "Always" {
            add(&mut total, container, which);
            sidecars = now.clone();
        }
        raise(&mut highest, now);
    }
    raise(&mut total, highest);
    total
}

fn add(to: &mut Amounts, container: &Value, which: &str) {
    let Some(resources) = container.get("resources") else { return };
    for (name, value) in entries(resources, which) {
        let Some(q) = quantity(value) else { continue };
        match to.get_mut(name) {
            Some(sum) => *sum = sum.add(&q),
            None => {
                to.insert(name.to_owned(), q);
            }
        }
    }
}

fn raise(to: &mut Amounts, other: Amounts) {
    for (name, q) in other {
        match to.get_mut(&name) {
            Some(have) if *have >= q => {}
            Some(have) => *have = q,
            None => {
                to.insert(name, q);
            }
        }
    }
}

/// The quality of service class of a pod: Guaranteed when every container limits cpu and memory and asks for all of
/// it, BestEffort when none asks for either, Burstable otherwise. Resources of the pod level, when set, decide alone.
pub fn qos_class(spec: &Value) -> &'static str {
    if let Some(resources) = spec.get("resources").filter(|r| asks(r)) {
        return if guaranteed(resources) { "Guaranteed" } else { "Burstable" };
    }
    let all: Vec<&Value> = list(spec, "containers").iter().chain(list(spec, "initContainers")).collect();
    let none = Value::Null;
    let of = |c: &&Value| -> Value { c.get("resources").unwrap_or(&none).clone() };
    if !all.iter().any(|c| c.get("resources").is_some_and(asks)) {
        "BestEffort"
    } else if all.iter().all(|c| guaranteed(&of(c))) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn asks(resources: &Value) -> bool {
    ["requests", "limits"]
        .iter()
        .any(|l| ["cpu", "memory"].iter().any(|r| positive(resources, l, r).is_some()))
}

fn positive(resources: &Value, list: &str, name: &str) -> Option<Quantity> {
    at(resources, &[list, name]).and_then(quantity).filter(|q| q.sign() > 0)
}

fn guaranteed(resources: &Value) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let limit = positive(resources, "limits", name);
        let request = positive(resources, "requests", name);
        limit.is_some() && (request.is_none() || request == limit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn class(containers: Value) -> &'static str {
        qos_class(&json!({"containers": containers}))
    }

    #[test]
    fn classes() {
        let full = json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}});
        let part = json!({"resources": {"requests": {"cpu": "1"}}});
        let gpu = json!({"resources": {"limits": {"x.com/gpu": "1"}}});
        assert_eq!(class(json!([full])), "Guaranteed");
        assert_eq!(class(json!([full, part])), "Burstable");
        assert_eq!(class(json!([full, {}])), "Burstable");
        assert_eq!(class(json!([{}])), "BestEffort");
        assert_eq!(class(json!([gpu])), "BestEffort");
    }

    #[test]
    fn pod_sum() {
        let c = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}});
        let spec = json!({"containers": [c("1"), c("500m")], "initContainers": [sidecar, c("2")]});
        assert_eq!(pod_requests(&spec)["cpu"].to_string(), "2100m");
    }
}
