//! LimitRanger: a namespace's ranges fill in and bound what pods and claims ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::quantity::Quantity;
use machinery::status::Status;
use serde_json::{Map, Value, json};

use super::{Attributes, Operation, Plugin, pods};
use crate::authn::lookup::{Lookup, items, text};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The plugin.
pub struct LimitRanger {
    /// Where ranges are looked up.
    pub objects: Arc<dyn Lookup>,
}

fn is_claims(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "persistentvolumeclaims"
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        let pods = pods::is_pods(resource)
            && (op == Operation::Create && subresource.is_empty() || subresource == "resize");
        let claims = is_claims(resource) && subresource.is_empty();
        matches!(op, Operation::Create | Operation::Update) && (pods || claims)
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if a.op != Operation::Create || !pods::is_pods(a.resource) || !a.subresource.is_empty() {
            return Ok(());
        }
        let ranges = self.objects.list("limitranges", a.namespace);
        if let Some(pod) = a.object.as_deref_mut() {
            ranges.iter().for_each(|range| fill(pod, range));
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let Some(object) = a.object.as_deref() else { return Ok(()) };
        let faults: Vec<String> = self
            .objects
            .list("limitranges", a.namespace)
            .iter()
            .flat_map(|range| {
                if pods::is_pods(a.resource) {
                    pod_faults(object, range)
                } else {
                    claim_faults(object, range)
                }
            })
            .collect();
        match faults.as_slice() {
            [] => Ok(()),
            [one] => Err(a.forbidden(one)),
            many => Err(a.forbidden(format!("[{}]", many.join(", ")))),
        }
    }
}

fn limits<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    items(range, "/spec/limits").filter(move |l| text(l, "/type") == kind)
}

fn map<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    value.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// Puts default limits and requests where a container has none, and says so in an annotation.
fn fill(pod: &mut Value, range: &Value) {
    let (mut limit, mut request) = (Map::new(), Map::new());
    for item in limits(range, "Container") {
        limit.extend(map(item, "default").map(|(k, v)| (k.clone(), v.clone())));
        request.extend(map(item, "defaultRequest").map(|(k, v)| (k.clone(), v.clone())));
    }
    let mut said = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pods::members_mut(pod, list) {
            let name = text(container, "/name").to_owned();
            for (field, one, defaults) in [("requests", "request", &request), ("limits", "limit", &limit)] {
                let set = fill_one(container, field, defaults);
                if !set.is_empty() {
                    said.push(format!("{} {one} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        let text = format!("LimitRanger plugin set: {}", said.join("; "));
        machinery::meta::set_annotation(pod, ANNOTATION, &text);
    }
}

/// The resources that were filled in.
fn fill_one(container: &mut Value, field: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let missing = |k: &&String| {
        container.pointer(&format!("/resources/{field}")).and_then(|m| m.get(k.as_str())).is_none()
    };
    let set: Vec<String> = defaults.keys().filter(missing).cloned().collect();
    if set.is_empty() {
        return set;
    }
    let resources = machinery::meta::member_mut(container, "resources");
    let amounts = resources.entry(field).or_insert_with(|| json!({}));
    if amounts.is_null() {
        *amounts = json!({});
    }
    if let Some(amounts) = amounts.as_object_mut() {
        for key in &set {
            amounts.insert(key.clone(), defaults[key].clone());
        }
    }
    set
}

fn quantity(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

/// Amounts by resource.
type Amounts = BTreeMap<String, Quantity>;

fn amounts(container: &Value, field: &str) -> Amounts {
    let list = container.get("resources").map(|r| map(r, field)).into_iter().flatten();
    list.filter_map(|(k, v)| Some((k.clone(), quantity(v)?))).collect()
}

/// What one range says against requests and limits of a container, pod or claim.
fn check(item: &Value, kind: &str, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, bound) in map(item, "min").filter_map(|(k, v)| Some((k, quantity(v)?))) {
        faults.extend(min_fault(key, kind, &bound, requests.get(key), limits.get(key)));
    }
    for (key, bound) in map(item, "max").filter_map(|(k, v)| Some((k, quantity(v)?))) {
        faults.extend(max_fault(key, kind, &bound, requests.get(key), limits.get(key)));
    }
    for (key, bound) in map(item, "maxLimitRequestRatio").filter_map(|(k, v)| Some((k, quantity(v)?))) {
        faults.extend(ratio_fault(key, kind, &bound, requests.get(key), limits.get(key)));
    }
    faults
}

fn min_fault(
    key: &str,
    kind: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    match (request, limit) {
        (None, _) => Some(format!("minimum {key} usage per {kind} is {bound}.  No request is specified")),
        (Some(r), _) if r < bound => {
            Some(format!("minimum {key} usage per {kind} is {bound}, but request is {r}"))
        }
        (_, Some(l)) if l < bound => {
            Some(format!("minimum {key} usage per {kind} is {bound}, but limit is {l}"))
        }
        _ => None,
    }
}

fn max_fault(
    key: &str,
    kind: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    match (request, limit) {
        (_, None) => Some(format!("maximum {key} usage per {kind} is {bound}.  No limit is specified")),
        (_, Some(l)) if l > bound => {
            Some(format!("maximum {key} usage per {kind} is {bound}, but limit is {l}"))
        }
        (Some(r), _) if r > bound => {
            Some(format!("maximum {key} usage per {kind} is {bound}, but request is {r}"))
        }
        _ => None,
    }
}

fn ratio_fault(
    key: &str,
    kind: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let say =
        |what: &str| Some(format!("{key} max limit to request ratio per {kind} is {bound}, but {what}"));
    match (request.filter(|r| !r.is_zero()), limit.filter(|l| !l.is_zero())) {
        (None, _) => say("no request is specified or request is 0"),
        (_, None) => say("no limit is specified or limit is 0"),
        (Some(r), Some(l)) if l.as_f64() / r.as_f64() > bound.as_f64() => {
            say(&format!("provided ratio is {:.6}", l.as_f64() / r.as_f64()))
        }
        _ => None,
    }
}

fn pod_faults(pod: &Value, range: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for item in limits(range, "Container") {
        for container in items(pod, "/spec/containers").chain(items(pod, "/spec/initContainers")) {
            faults.extend(check(
                item,
                "Container",
                &amounts(container, "requests"),
                &amounts(container, "limits"),
            ));
        }
    }
    for item in limits(range, "Pod") {
        faults.extend(check(item, "Pod", &pod_amounts(pod, "requests"), &pod_amounts(pod, "limits")));
    }
    faults
}

/// A pod needs the sum of its containers, or the largest of its init containers if that is more.
fn pod_amounts(pod: &Value, field: &str) -> Amounts {
    let (mut total, mut largest) = (Amounts::new(), Amounts::new());
    let mut restartable = Amounts::new();
    for container in items(pod, "/spec/containers") {
        amounts(container, field).into_iter().for_each(|(k, v)| add(&mut total, k, v));
    }
    for container in items(pod, "/spec/initContainers") {
        if text(container, "/restartPolicy") == "Always" {
            for (key, amount) in amounts(container, field) {
                add(&mut total, key.clone(), amount);
                add(&mut restartable, key, amount);
            }
            restartable.iter().for_each(|(k, v)| raise(&mut largest, k.clone(), *v));
        } else {
            for (key, amount) in amounts(container, field) {
                let beside = restartable.get(&key).map_or(amount, |r| r.add(&amount));
                raise(&mut largest, key, beside);
            }
        }
    }
    largest.into_iter().for_each(|(k, v)| raise(&mut total, k, v));
    for (key, amount) in pod.get("spec").map(|s| map(s, "overhead")).into_iter().flatten() {
        if let (Some(amount), true) = (quantity(amount), total.contains_key(key)) {
            add(&mut total, key.clone(), amount);
        }
    }
    total
}

fn add(into: &mut Amounts, key: String, amount: Quantity) {
    let sum = into.get(&key).map_or(amount, |held| held.add(&amount));
    into.insert(key, sum);
}

fn raise(into: &mut Amounts, key: String, amount: Quantity) {
    if into.get(&key).is_none_or(|held| *held < amount) {
        into.insert(key, amount);
    }
}

fn claim_faults(claim: &Value, range: &Value) -> Vec<String> {
    let spec = claim.get("spec").unwrap_or(&Value::Null);
    let (requests, none) = (amounts(spec, "requests"), Amounts::new());
    let mut faults = Vec::new();
    for item in limits(range, "PersistentVolumeClaim") {
        for (key, bound) in map(item, "min").filter_map(|(k, v)| Some((k, quantity(v)?))) {
            faults.extend(min_fault(key, "PersistentVolumeClaim", &bound, requests.get(key), none.get(key)));
        }
        for (key, bound) in map(item, "max").filter_map(|(k, v)| Some((k, quantity(v)?))) {
            if let Some(asked) = requests.get(key).filter(|r| **r > bound) {
                faults.push(format!(
                    "maximum {key} usage per PersistentVolumeClaim is {bound}, but request is {asked}"
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(kind: &str, rest: Value) -> Value {
        let mut item = rest;
        item["type"] = json!(kind);
        json!({"spec": {"limits": [item]}})
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn defaults_are_filled_in_and_told() {
        let range = range(
            "Container",
            json!({"default": {"cpu": "1"}, "defaultRequest": {"cpu": "100m", "memory": "1Gi"}}),
        );
        let mut bare = pod(json!({}));
        fill(&mut bare, &range);
        assert_eq!(
            bare["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1"}})
        );
        assert_eq!(
            machinery::meta::annotation(&bare, ANNOTATION),
            Some("LimitRanger plugin set: cpu, memory request for container c; cpu limit for container c")
        );
        let mut own = pod(json!({"requests": {"cpu": "5", "memory": "1"}, "limits": {"cpu": "6"}}));
        let before = own.clone();
        fill(&mut own, &range);
        assert_eq!(own, before);
    }

    #[test]
    fn bounds() {
        for (kind, bound, resources, fault) in [
            (
                "Container",
                json!({"max": {"cpu": "1"}}),
                json!({"limits": {"cpu": "2"}}),
                "maximum cpu usage per Container is 1, but limit is 2",
            ),
            (
                "Container",
                json!({"max": {"cpu": "1"}}),
                json!({}),
                "maximum cpu usage per Container is 1.  No limit is specified",
            ),
            (
                "Container",
                json!({"min": {"cpu": "1"}}),
                json!({"requests": {"cpu": "500m"}}),
                "minimum cpu usage per Container is 1, but request is 500m",
            ),
            ("Container", json!({"min": {"cpu": "1"}}), json!({"requests": {"cpu": "1000m"}}), ""),
            (
                "Pod",
                json!({"max": {"memory": "1Gi"}}),
                json!({"limits": {"memory": "2Gi"}}),
                "maximum memory usage per Pod is 1Gi, but limit is 2Gi",
            ),
            (
                "Container",
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
            ("PersistentVolumeClaim", json!({"max": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}}), ""),
        ] {
            let faults = pod_faults(&pod(resources), &range(kind, bound));
            assert_eq!(faults.join("; "), fault);
        }
        let claim = json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}});
        let faults =
            claim_faults(&claim, &range("PersistentVolumeClaim", json!({"max": {"storage": "1Gi"}})));
        assert_eq!(faults, ["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 5Gi"]);
    }

    #[test]
    fn init_containers_count_by_their_largest() {
        let with = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let pod =
            json!({"spec": {"containers": [with("1"), with("1")], "initContainers": [with("3"), with("2")]}});
        assert_eq!(pod_amounts(&pod, "requests")["cpu"], Quantity::parse("3").expect("quantity"));
    }
}
