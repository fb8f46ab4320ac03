//! The quality of service class of a pod.

use crate::dig;
use serde_json::Value;

/// What the status says, else what follows from the requests and limits of cpu and memory.
pub fn class(pod: &Value) -> &str {
    match dig::text(pod, "status.qosClass") {
        "" => computed(pod),
        class => class,
    }
}

fn computed(pod: &Value) -> &'static str {
    let all = || dig::items(pod, "spec.containers").iter().chain(dig::items(pod, "spec.initContainers"));
    let amount =
        |container: &Value, list: &str, name: &str| dig::quantity(&container["resources"][list][name]);
    let named = ["cpu", "memory"];
    let any = |container: &Value| {
        named.iter().any(|name| {
            !amount(container, "limits", name).is_zero() || !amount(container, "requests", name).is_zero()
        })
    };
    let full = |container: &Value| {
        named.iter().all(|name| {
            let (limit, request) = (amount(container, "limits", name), amount(container, "requests", name));
            !limit.is_zero() && (request.is_zero() || request == limit)
        })
    };
    if !all().any(any) {
        "BestEffort"
    } else if all().all(full) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
