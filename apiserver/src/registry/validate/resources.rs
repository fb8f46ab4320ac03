//! Resource names and quantities.

use crate::registry::errs::{At, Errs};
use crate::registry::val::{entries, get, has, list, s};
use machinery::names;
use machinery::quantity::Quantity;
use serde_json::Value;

const CONTAINER_RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Resources that have a meaning elsewhere, though a container can't ask for them.
const STANDARD_RESOURCES: [&str; 17] = [
    "storage",
    "pods",
    "resourcequotas",
    "services",
    "services.nodeports",
    "services.loadbalancers",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "requests.storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// Resources that come in whole pieces.
pub fn is_integer_resource(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "services"
            | "replicationcontrollers"
            | "resourcequotas"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || name.starts_with("count/")
        || is_extended(name)
}

/// A resource of someone else's domain.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.")
}

/// A resource of the system itself.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Huge pages of some size.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether requests of a resource may be lower than its limit.
fn overcommittable(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// The name of something a container can ask for.
pub fn container_resource_name(name: &str, at: &At<'_>, errs: &mut Errs) {
    let wrong = names::is_qualified_name(name);
    if !wrong.is_empty() {
        errs.invalid_each(at, name, wrong);
    } else if !name.contains('/') {
        if !CONTAINER_RESOURCES.contains(&name) && !is_huge_page(name) {
            if !STANDARD_RESOURCES.contains(&name) {
                errs.invalid(at, name, "must be a standard resource type or fully qualified");
            }
            errs.invalid(at, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errs.invalid(at, name, "doesn't follow extended resource name standard");
    }
}

/// The quantity of a value, when it is one.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(n) => n.to_string().parse().ok(),
        _ => None,
    }
}

/// A quantity is not negative, and whole where the resource comes in pieces.
pub fn resource_quantity(name: &str, value: &Value, at: &At<'_>, errs: &mut Errs) {
    let Some(q) = quantity(value) else {
        return errs.invalid(at, value.clone(), "must be a quantity");
    };
    if q.sign() < 0 {
        errs.invalid(at, q.to_string(), "must be greater than or equal to 0");
    }
    if is_integer_resource(name) && q.milli_value() % 1000 != 0 {
        errs.invalid(at, q.to_string(), "must be an integer");
    }
}

/// A container's resources; `claims` are the names of the pod's resource claims.
pub fn requirements(resources: &Value, claims: &[&str], at: &At<'_>, errs: &mut Errs) {
    let (limits, requests) = (at.f("limits"), at.f("requests"));
    let mut huge = false;
    let mut cpu_or_memory = false;
    for (list, path) in [("limits", &limits), ("requests", &requests)] {
        for (name, value) in entries(resources, list) {
            let at = path.k(name);
            container_resource_name(name, &at, errs);
            resource_quantity(name, value, &at, errs);
            huge |= is_huge_page(name);
            cpu_or_memory |= matches!(name, "cpu" | "memory");
            if is_huge_page(name) {
                whole_pages(name, value, &at, errs);
            }
        }
    }
    against_limits(resources, &limits, &requests, errs);
    if huge && !cpu_or_memory {
        errs.forbidden(at, "HugePages require cpu or memory");
    }
    self::claims(resources, claims, at, errs);
}

fn whole_pages(name: &str, value: &Value, at: &At<'_>, errs: &mut Errs) {
    let page: Option<Quantity> = name.strip_prefix("hugepages-").and_then(|size| size.parse().ok());
    let (Some(page), Some(q)) = (page, quantity(value)) else { return };
    if page.value() > 0 && q.value() % page.value() != 0 {
        errs.invalid(at, q.to_string(), "must be a multiple of the page size");
    }
}

fn against_limits(resources: &Value, limits: &At<'_>, requests: &At<'_>, errs: &mut Errs) {
    for (name, value) in entries(resources, "requests") {
        let Some(request) = quantity(value) else { continue };
        let limit = get(resources, "limits").and_then(|l| l.get(name)).and_then(quantity);
        match limit {
            Some(limit) if !overcommittable(name) && limit != request => {
                errs.invalid(
                    requests,
                    request.to_string(),
                    format!("must be equal to {name} limit of {limit}"),
                );
            }
            Some(limit) if request > limit => {
                errs.invalid(
                    requests,
                    request.to_string(),
                    format!("must be less than or equal to {name} limit of {limit}"),
                );
            }
            None if !overcommittable(name) => {
                errs.required(limits, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
}

fn claims(resources: &Value, known: &[&str], at: &At<'_>, errs: &mut Errs) {
    let at = at.f("claims");
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, claim) in list(resources, "claims").iter().enumerate() {
        let at = at.i(index);
        let (name, request) = (s(claim, "name"), s(claim, "request"));
        if name.is_empty() {
            errs.required(&at, "");
        } else if seen
            .iter()
            .any(|(n, r)| *n == name && (r == &request || r.is_empty() || request.is_empty()))
        {
            let shown = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            errs.duplicate(&at, shown);
        } else if !known.contains(&name) {
            errs.not_found(&at, name);
        }
        if !request.is_empty() {
            errs.invalid_each(&at.f("request"), request, names::is_dns1123_label(request));
        }
        seen.push((name, request));
    }
}

/// The resources of the pod as a whole: only some can be set there, and they may not be below the containers' sum.
pub fn pod_level(spec: &Value, at: &At<'_>, errs: &mut Errs) {
    let Some(resources) = get(spec, "resources") else { return };
    let at = at.f("resources");
    if has(resources, "claims") {
        errs.forbidden(&at.f("claims"), "claims may not be set for Resources at pod-level");
    }
    let (limits, requests) = (at.f("limits"), at.f("requests"));
    for (list, path) in [("limits", &limits), ("requests", &requests)] {
        for (name, value) in entries(resources, list) {
            let at = path.k(name);
            if !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
                errs.not_supported(&at, name, &["cpu", "hugepages-", "memory"]);
            }
            resource_quantity(name, value, &at, errs);
        }
    }
    against_limits(resources, &limits, &requests, errs);
    let summed = crate::registry::resources::pod_requests(spec);
    for (name, value) in entries(resources, "requests") {
        let (Some(request), Some(sum)) = (quantity(value), summed.get(name)) else { continue };
        if *sum > request {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errs.invalid(&requests.k(name), request.to_string(), why);
        }
    }
}
