//! What objects use of a resource quota. The API server decides by it, the controller counts by it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::quantity::{Format, Quantity};

/// Amounts by the name a quota has for them.
pub type Amounts = BTreeMap<String, Quantity>;

const CLASS_STORAGE: &str = ".storageclass.storage.k8s.io/requests.storage";
const CLASS_CLAIMS: &str = ".storageclass.storage.k8s.io/persistentvolumeclaims";
const CLASS_DEVICES: &str = ".deviceclass.resource.k8s.io/devices";
/// A request for all devices there are counts as this many.
const ALL_DEVICES: i64 = 32;
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Core kinds that may be counted by their bare name.
const BARE: [&str; 4] = ["configmaps", "secrets", "resourcequotas", "replicationcontrollers"];
/// What no quota is about.
const IGNORED: [(&str, &str); 8] = [
    ("", "events"),
    ("events.k8s.io", "events"),
    ("", "bindings"),
    ("", "componentstatuses"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
];

/// Whether objects of a resource are never counted.
pub fn ignored(group: &str, plural: &str) -> bool {
    IGNORED.contains(&(group, plural))
}

fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// The resource a quota's name is about, as group and plural.
pub fn resource_of(name: &str) -> Option<(String, String)> {
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return Some((group.into(), plural.into()));
    }
    let core = |plural: &str| Some((String::new(), plural.to_string()));
    let kinds = [
        ("", "services"),
        ("", "persistentvolumeclaims"),
        ("resource.k8s.io", "resourceclaims"),
        ("", "pods"),
    ];
    if BARE.contains(&name) {
        return core(name);
    }
    let found = kinds.into_iter().find(|(group, plural)| covers(group, plural, name))?;
    Some((found.0.into(), found.1.into()))
}

/// Whether a quota's name is about objects of a resource.
pub fn covers(group: &str, plural: &str, name: &str) -> bool {
    if name == count_name(group, plural) {
        return true;
    }
    match (group, plural) {
        ("", "pods") => pod_name(name),
        ("", "services") => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
        ("", "persistentvolumeclaims") => {
            matches!(name, "persistentvolumeclaims" | "requests.storage")
                || name.ends_with(CLASS_STORAGE)
                || name.ends_with(CLASS_CLAIMS)
        }
        ("resource.k8s.io", "resourceclaims") => name.ends_with(CLASS_DEVICES),
        ("", other) => BARE.contains(&other) && name == other,
        _ => false,
    }
}

fn pod_name(name: &str) -> bool {
    let bare = name.strip_prefix("requests.").unwrap_or(name);
    let limited = name.strip_prefix("limits.").unwrap_or(bare);
    name == "pods"
        || COMPUTE.contains(&limited)
        || bare.starts_with("hugepages-")
        || (bare != name && is_extended(bare))
}

fn is_extended(name: &str) -> bool {
    name.contains('/')
        && !name.split('/').next().is_some_and(|d| d == "kubernetes.io" || d.ends_with(".kubernetes.io"))
}

/// What an object uses, zeros included where the kind has such a name.
pub fn usage(group: &str, plural: &str, object: &Value, now: Timestamp) -> Amounts {
    let mut used = Amounts::new();
    put(&mut used, &count_name(group, plural), 1);
    match (group, plural) {
        ("", "pods") if charged(object, now) => pod(object, &mut used),
        ("", "services") => service(object, &mut used),
        ("", "persistentvolumeclaims") => claim(object, &mut used),
        ("resource.k8s.io", "resourceclaims") => devices(object, &mut used),
        ("", other) if BARE.contains(&other) => put(&mut used, other, 1),
        _ => {}
    }
    used
}

fn put(used: &mut Amounts, name: &str, count: i64) {
    used.insert(name.into(), Quantity::new(count, Format::DecimalSi));
}

/// Adds amounts up.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let total = sum.get(name).map_or_else(|| *amount, |a| a.add(amount));
        sum.insert(name.clone(), total);
    }
}

/// `a` less `b`; what only `b` has becomes negative.
pub fn subtract(a: &Amounts, b: &Amounts) -> Amounts {
    let mut rest = a.clone();
    add(&mut rest, &b.iter().map(|(k, v)| (k.clone(), v.neg())).collect());
    rest
}

/// Reads a map of quantities; what is none is left out.
pub fn amounts(map: Option<&Value>) -> Amounts {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(k, v)| Some((k.clone(), quantity(v)?))).collect()
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        other => Quantity::parse(&other.to_string()).ok().filter(|_| other.is_number()),
    }
}

/// `a=1,b=2`.
pub fn pretty(amounts: &Amounts) -> String {
    amounts.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a pod counts for more than itself: one that has ended does not, nor one long past its deletion.
pub fn charged(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(pod, "/status/phase"), "Failed" | "Succeeded") {
        return false;
    }
    let at = text(pod, "/metadata/deletionTimestamp").parse::<Timestamp>();
    let grace = pod.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    let (Ok(at), Some(grace)) = (at, grace) else { return true };
    at.checked_add(SignedDuration::from_secs(grace)).map_or(true, |end| now <= end)
}

fn pod(pod: &Value, used: &mut Amounts) {
    put(used, "pods", 1);
    let (requests, limits) = (total(pod, "requests"), total(pod, "limits"));
    compute(&requests, &limits, used);
}

/// The names a quota has for requests and limits.
fn compute(requests: &Amounts, limits: &Amounts, used: &mut Amounts) {
    for (name, amount) in requests {
        if COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-") {
            used.insert(name.clone(), *amount);
            used.insert(format!("requests.{name}"), *amount);
        } else if is_extended(name) {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(n, _)| COMPUTE.contains(&n.as_str())) {
        used.insert(format!("limits.{name}"), *amount);
    }
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

/// What a pod asks for in all: containers and sidecars together, or an init container with the sidecars before it if
/// that is more; then the overhead. Amounts set for the whole pod stand for those of its containers.
fn total(pod: &Value, which: &str) -> Amounts {
    let mut sum = Amounts::new();
    for container in list(pod, "/spec/containers") {
        add(&mut sum, &asked(pod, container, which));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in list(pod, "/spec/initContainers") {
        let mut own = asked(pod, container, which);
        if is_sidecar(container) {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        at_least(&mut peak, &own);
    }
    at_least(&mut sum, &peak);
    sum.extend(amounts(pod.pointer(&format!("/spec/resources/{which}"))));
    let mut overhead = amounts(pod.pointer("/spec/overhead"));
    if which == "limits" {
        overhead.retain(|name, _| sum.get(name).is_some_and(|q| !q.is_zero()));
    }
    add(&mut sum, &overhead);
    sum
}

fn at_least(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if sum.get(name).is_none_or(|have| have < amount) {
            sum.insert(name.clone(), *amount);
        }
    }
}

/// What a container asks for, or still holds from before it was resized.
fn asked(pod: &Value, container: &Value, which: &str) -> Amounts {
    let mut own = amounts(container.pointer(&format!("/resources/{which}")));
    let name = text(container, "/name");
    for kind in ["/status/containerStatuses", "/status/initContainerStatuses"] {
        for status in list(pod, kind).filter(|s| text(s, "/name") == name) {
            at_least(&mut own, &amounts(status.pointer(&format!("/resources/{which}"))));
            if which == "requests" {
                at_least(&mut own, &amounts(status.pointer("/allocatedResources")));
            }
        }
    }
    own
}

fn service(service: &Value, used: &mut Amounts) {
    let ports = list(service, "/spec/ports").count() as i64;
    let with_node_port =
        || list(service, "/spec/ports").filter(|p| p["nodePort"].as_i64().unwrap_or(0) != 0).count();
    let unallocated = service.pointer("/spec/allocateLoadBalancerNodePorts") == Some(&Value::Bool(false));
    let (node_ports, balancers) = match text(service, "/spec/type") {
        "NodePort" => (ports, 0),
        "LoadBalancer" if unallocated => (with_node_port() as i64, 1),
        "LoadBalancer" => (ports, 1),
        _ => (0, 0),
    };
    put(used, "services", 1);
    put(used, "services.nodeports", node_ports);
    put(used, "services.loadbalancers", balancers);
}

fn claim(claim: &Value, used: &mut Amounts) {
    put(used, "persistentvolumeclaims", 1);
    let beta = claim.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    let class = beta.and_then(Value::as_str).unwrap_or_else(|| text(claim, "/spec/storageClassName"));
    if !class.is_empty() {
        put(used, &format!("{class}{CLASS_CLAIMS}"), 1);
    }
    let mut size = amounts(claim.pointer("/spec/resources/requests"));
    at_least(&mut size, &amounts(claim.pointer("/status/allocatedResources")));
    if let Some(storage) = size.remove("storage") {
        if !class.is_empty() {
            used.insert(format!("{class}{CLASS_STORAGE}"), storage);
        }
        used.insert("requests.storage".into(), storage);
    }
}

fn devices(claim: &Value, used: &mut Amounts) {
    let one = |request: &Value| {
        let class = text(request, "/deviceClassName").to_string();
        let all = text(request, "/allocationMode") == "All";
        let count = if all { ALL_DEVICES } else { request["count"].as_i64().unwrap_or(1) };
        (class, count)
    };
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for request in list(claim, "/spec/devices/requests") {
        let mut worst: BTreeMap<String, i64> = BTreeMap::new();
        let choices = request.get("exactly").into_iter().chain(list(request, "/firstAvailable"));
        for (class, count) in choices.map(one) {
            let most = worst.entry(class).or_default();
            *most = count.max(*most);
        }
        worst.into_iter().for_each(|(class, count)| *sums.entry(class).or_default() += count);
    }
    sums.into_iter().for_each(|(class, count)| put(used, &format!("{class}{CLASS_DEVICES}"), count));
}

/// Whether an object is among those a quota (its spec) is about.
pub fn in_scope(spec: &Value, group: &str, plural: &str, object: &Value) -> bool {
    let plain = list(spec, "/scopes")
        .filter_map(Value::as_str)
        .all(|s| scope(s, "Exists", &[], group, plural, object));
    plain
        && list(spec, "/scopeSelector/matchExpressions").all(|e| {
            let values: Vec<&str> = list(e, "/values").filter_map(Value::as_str).collect();
            scope(text(e, "/scopeName"), text(e, "/operator"), &values, group, plural, object)
        })
}

fn scope(name: &str, operator: &str, values: &[&str], group: &str, plural: &str, object: &Value) -> bool {
    match (group, plural, name) {
        ("", "pods", "Terminating") => terminating(object),
        ("", "pods", "NotTerminating") => !terminating(object),
        ("", "pods", "BestEffort") => best_effort(object),
        ("", "pods", "NotBestEffort") => !best_effort(object),
        ("", "pods", "PriorityClass") => chosen(operator, values, text(object, "/spec/priorityClassName")),
        ("", "pods", "CrossNamespacePodAffinity") => reaches_out(object),
        ("", "persistentvolumeclaims", "VolumeAttributesClass") => {
            let wanted = text(object, "/spec/volumeAttributesClassName");
            let current = text(object, "/status/currentVolumeAttributesClassName");
            chosen(operator, values, wanted) || (!current.is_empty() && chosen(operator, values, current))
        }
        _ => false,
    }
}

fn chosen(operator: &str, values: &[&str], value: &str) -> bool {
    match operator {
        "In" => !value.is_empty() && values.contains(&value),
        "NotIn" => value.is_empty() || !values.contains(&value),
        "DoesNotExist" => value.is_empty(),
        _ => !value.is_empty(),
    }
}

/// Whether a pod is to end at some time.
pub fn terminating(pod: &Value) -> bool {
    pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|s| s >= 0)
}

fn best_effort(pod: &Value) -> bool {
    let holders =
        list(pod, "/spec/containers").chain(list(pod, "/spec/initContainers")).chain(pod.get("spec"));
    let asks = |holder: &Value, which: &str| {
        let own = amounts(holder.pointer(&format!("/resources/{which}")));
        ["cpu", "memory"].iter().any(|r| own.get(*r).is_some_and(|q| !q.is_zero()))
    };
    !holders.into_iter().any(|h| asks(h, "requests") || asks(h, "limits"))
}

fn reaches_out(pod: &Value) -> bool {
    let mut terms = Vec::new();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let base = format!("/spec/affinity/{kind}");
        terms.extend(list(pod, &format!("{base}/requiredDuringSchedulingIgnoredDuringExecution")));
        let preferred = list(pod, &format!("{base}/preferredDuringSchedulingIgnoredDuringExecution"));
        terms.extend(preferred.filter_map(|p| p.get("podAffinityTerm")));
    }
    terms.iter().any(|t| {
        list(t, "/namespaces").next().is_some() || t.get("namespaceSelector").is_some_and(|s| !s.is_null())
    })
}

/// What a pod must say and does not, given the names a quota limits: `must specify cpu for: c; ...`.
pub fn unsaid(pod: &Value, required: &[String]) -> Option<String> {
    let strict = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    let whole = |which: &str| amounts(pod.pointer(&format!("/spec/resources/{which}")));
    let (pod_requests, pod_limits) = (whole("requests"), whole("limits"));
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in list(pod, "/spec/containers").chain(list(pod, "/spec/initContainers")) {
        let said = |which: &str, whole: &Amounts| {
            let mut said = amounts(container.pointer(&format!("/resources/{which}")));
            said.extend(whole.clone());
            said
        };
        let mut used = Amounts::new();
        compute(&said("requests", &pod_requests), &said("limits", &pod_limits), &mut used);
        for name in required.iter().filter(|r| strict.contains(&r.as_str()) && !used.contains_key(*r)) {
            missing.entry(name).or_default().insert(text(container, "/name"));
        }
    }
    if missing.is_empty() {
        return None;
    }
    let words = missing
        .iter()
        .map(|(name, of)| format!("{name} for: {}", of.iter().copied().collect::<Vec<_>>().join(",")));
    Some(format!("must specify {}", words.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T10:00:00Z".parse().unwrap()
    }

    fn used(plural: &str, object: Value) -> String {
        pretty(&usage("", plural, &object, now()))
    }

    #[test]
    fn pods() {
        let ask = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let pod = json!({"spec": {
            "overhead": {"cpu": "10m"},
            "initContainers": [
                {"name": "i", "resources": ask("2")},
                {"name": "s", "restartPolicy": "Always", "resources": ask("500m")},
                {"name": "j", "resources": ask("1800m")}],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "1", "hugepages-2Mi": "4Mi", "x.io/gpu": "2"}, "limits": {"memory": "1Gi"}}},
                {"name": "b", "resources": ask("250m")}]}});
        assert_eq!(
            used("pods", pod.clone()),
            "count/pods=1,cpu=2310m,hugepages-2Mi=4Mi,limits.memory=1Gi,pods=1,requests.cpu=2310m,requests.hugepages-2Mi=4Mi,requests.x.io/gpu=2"
        );
        let mut ended = pod.clone();
        ended["status"] = json!({"phase": "Succeeded"});
        assert_eq!(used("pods", ended), "count/pods=1");
        let mut stuck = pod.clone();
        stuck["metadata"] =
            json!({"deletionTimestamp": "2026-01-01T09:59:00Z", "deletionGracePeriodSeconds": 30});
        assert_eq!(used("pods", stuck.clone()), "count/pods=1");
        stuck["metadata"]["deletionGracePeriodSeconds"] = 90.into();
        assert!(used("pods", stuck).contains(",pods=1"));
        let mut resized = pod.clone();
        resized["status"] =
            json!({"containerStatuses": [{"name": "b", "resources": {"requests": {"cpu": "1250m"}}}]});
        assert!(used("pods", resized).contains("requests.cpu=2760m"));
        let mut whole = pod;
        whole["spec"]["resources"] = json!({"requests": {"cpu": "3"}});
        assert!(used("pods", whole).contains("requests.cpu=3010m"));
    }

    #[test]
    fn other_kinds() {
        let service = |spec: Value| used("services", json!({"spec": spec}));
        let ports = json!([{"port": 1, "nodePort": 30001}, {"port": 2}]);
        assert_eq!(
            service(json!({"type": "NodePort", "ports": ports})),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2"
        );
        assert_eq!(
            service(json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports})),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1"
        );
        let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}, "status": {"allocatedResources": {"storage": "2Gi"}}});
        assert_eq!(
            used("persistentvolumeclaims", claim),
            "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/requests.storage=2Gi,persistentvolumeclaims=1,requests.storage=2Gi"
        );
        assert_eq!(used("secrets", json!({})), "count/secrets=1,secrets=1");
        assert_eq!(pretty(&usage("apps", "deployments", &json!({}), now())), "count/deployments.apps=1");
        let devices = json!({"spec": {"devices": {"requests": [
            {"exactly": {"deviceClassName": "a", "count": 2}}, {"exactly": {"deviceClassName": "b", "allocationMode": "All"}},
            {"firstAvailable": [{"deviceClassName": "a", "count": 3}, {"deviceClassName": "a", "count": 1}]}]}}});
        assert_eq!(
            pretty(&usage("resource.k8s.io", "resourceclaims", &devices, now())),
            "a.deviceclass.resource.k8s.io/devices=5,b.deviceclass.resource.k8s.io/devices=32,count/resourceclaims.resource.k8s.io=1"
        );
    }

    #[test]
    fn names() {
        for (name, want) in [
            ("pods", ("", "pods")),
            ("limits.memory", ("", "pods")),
            ("requests.x.io/gpu", ("", "pods")),
            ("hugepages-2Mi", ("", "pods")),
            ("requests.storage", ("", "persistentvolumeclaims")),
            ("fast.storageclass.storage.k8s.io/requests.storage", ("", "persistentvolumeclaims")),
            ("services.nodeports", ("", "services")),
            ("count/jobs.batch", ("batch", "jobs")),
            ("count/pods", ("", "pods")),
            ("secrets", ("", "secrets")),
            ("gpu.deviceclass.resource.k8s.io/devices", ("resource.k8s.io", "resourceclaims")),
        ] {
            assert_eq!(resource_of(name), Some((want.0.into(), want.1.into())), "{name}");
            assert!(covers(want.0, want.1, name), "{name}");
        }
        assert_eq!(resource_of("nonsense"), None);
    }

    #[test]
    fn scopes() {
        let pod = |spec: Value| json!({"spec": spec});
        let plain = pod(json!({"containers": [{"name": "c"}]}));
        let busy = pod(
            json!({"activeDeadlineSeconds": 5, "priorityClassName": "high", "containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}],
            "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaceSelector": {}}}]}}}),
        );
        let is = |spec: Value| [&plain, &busy].map(|p| in_scope(&spec, "", "pods", p));
        let one = |name: &str| is(json!({"scopes": [name]}));
        assert_eq!(one("Terminating"), [false, true]);
        assert_eq!(one("NotTerminating"), [true, false]);
        assert_eq!(one("BestEffort"), [true, false]);
        assert_eq!(one("NotBestEffort"), [false, true]);
        assert_eq!(one("PriorityClass"), [false, true]);
        assert_eq!(one("CrossNamespacePodAffinity"), [false, true]);
        let class = |operator: &str, values: &[&str]| {
            is(
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}}),
            )
        };
        assert_eq!(class("In", &["high", "low"]), [false, true]);
        assert_eq!(class("NotIn", &["high"]), [true, false]);
        assert_eq!(class("Exists", &[]), [false, true]);
        assert_eq!(class("DoesNotExist", &[]), [true, false]);
        assert!(!in_scope(&json!({"scopes": ["BestEffort"]}), "", "services", &json!({})));
        assert!(in_scope(&json!({}), "", "services", &json!({})));
    }

    #[test]
    fn what_must_be_said() {
        let pod = json!({"spec": {"containers": [{"name": "b", "resources": {"requests": {"cpu": "1"}}}, {"name": "a"}], "initContainers": [{"name": "i"}]}});
        let required: Vec<String> =
            ["limits.memory", "requests.cpu", "pods", "requests.x.io/gpu"].map(String::from).into();
        assert_eq!(
            unsaid(&pod, &required).unwrap(),
            "must specify limits.memory for: a,b,i; requests.cpu for: a,i"
        );
        let mut whole = pod;
        whole["spec"]["resources"] = json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}});
        assert_eq!(unsaid(&whole, &required), None);
    }
}
