//! The whole node status, and what of it has to be written. Pure.

use super::machine::Facts;
use super::{addresses, conditions};
use crate::context::{NodeView, Pressure, RuntimeHealth};
use crate::runtime::cri;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Most names written for one image.
const IMAGE_NAMES: usize = 5;

/// What a status is made from.
pub struct Inputs<'a> {
    /// the machine
    pub facts: &'a Facts,
    /// addresses, capacity, the Node as it was
    pub view: &'a NodeView,
    /// the runtime
    pub health: &'a RuntimeHealth,
    /// pressure
    pub pressure: Pressure,
    /// local images, as they are to be listed
    pub images: &'a [ContainerImage],
    /// host name for status.addresses
    pub hostname: &'a str,
    /// whose business status.addresses are
    pub source: addresses::Source,
    /// port of the kubelet server
    pub port: i32,
    /// cores and memory must be there for the node to be ready
    pub now: Timestamp,
}

/// The status as it should be.
pub fn build(inputs: &Inputs<'_>) -> NodeStatus {
    let old = inputs.view.node.as_ref().and_then(|n| n.status.clone()).unwrap_or_default();
    let mut info = inputs.facts.info.clone();
    info.container_runtime_version = inputs.health.runtime_version.clone();
    if info.container_runtime_version.is_empty() {
        info.container_runtime_version =
            old.node_info.as_ref().map(|i| i.container_runtime_version.clone()).unwrap_or_default();
    }
    let endpoint = DaemonEndpoint { port: inputs.port };
    NodeStatus {
        addresses: inputs.source.choose(old.addresses.clone(), &inputs.view.addresses, inputs.hostname),
        capacity: Some(with_extended(&inputs.view.capacity, old.capacity.as_ref())),
        allocatable: Some(with_extended(&inputs.view.allocatable, old.allocatable.as_ref())),
        conditions: Some(conditions_of(inputs, old.conditions.as_deref().unwrap_or_default())),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(endpoint) }),
        images: Some(inputs.images.to_vec()),
        node_info: Some(info),
        runtime_handlers: Some(handlers(&inputs.health.handlers)).filter(|h| !h.is_empty()),
        ..Default::default()
    }
}

fn conditions_of(inputs: &Inputs<'_>, old: &[NodeCondition]) -> Vec<NodeCondition> {
    conditions::compute(inputs.health, inputs.pressure, old, inputs.now)
}

/// Resources somebody else put there (with a domain in the name) stay.
fn with_extended(
    own: &BTreeMap<String, Quantity>,
    old: Option<&BTreeMap<String, Quantity>>,
) -> BTreeMap<String, Quantity> {
    let foreign = old.into_iter().flatten().filter(|(n, _)| n.contains('/') && !own.contains_key(*n));
    own.iter().chain(foreign).map(|(n, q)| (n.clone(), q.clone())).collect()
}

fn handlers(known: &[(String, bool, bool)]) -> Vec<NodeRuntimeHandler> {
    known
        .iter()
        .map(|(name, read_only, user_ns)| NodeRuntimeHandler {
            name: Some(name.clone()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(*read_only),
                user_namespaces: Some(*user_ns),
            }),
        })
        .collect()
}

/// The biggest images, `most` of them (-1: all), each with a few of its names.
pub fn images(mut all: Vec<cri::Image>, most: i32) -> Vec<ContainerImage> {
    all.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    all.into_iter()
        .take(most)
        .map(|i| {
            let names = i.repo_digests.into_iter().chain(i.repo_tags).take(IMAGE_NAMES).collect();
            ContainerImage { names: Some(names), size_bytes: i64::try_from(i.size).ok() }
        })
        .collect()
}

/// The patch that makes `old` into `new`; None when only heartbeats differ. With `beat` the conditions are always
/// written.
pub fn patch(old: &NodeStatus, new: &NodeStatus, beat: bool) -> Option<Value> {
    let (old, new) = (fields(old), fields(new));
    let mut out = Map::new();
    for (name, value) in &new {
        let before = old.get(name).unwrap_or(&Value::Null);
        match name.as_str() {
            "conditions" if beat || differ(before, value) => {
                out.insert(name.clone(), value.clone());
            }
            "conditions" => {}
            _ if before == value => {}
            "addresses" => {
                out.insert(name.clone(), replaced(value));
            }
            _ => {
                out.insert(name.clone(), with_nulls(before, value));
            }
        }
    }
    (!out.is_empty()).then(|| json!({ "status": out }))
}

fn fields(status: &NodeStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Do our conditions differ in more than the heartbeat?
fn differ(old: &Value, new: &Value) -> bool {
    let find = |kind: &Value| old.as_array().into_iter().flatten().find(|c| c.get("type") == Some(kind));
    let same = |c: &Value| {
        c.get("type")
            .and_then(find)
            .is_some_and(|o| ["status", "reason", "message"].iter().all(|f| o.get(f) == c.get(f)))
    };
    !new.as_array().into_iter().flatten().all(same)
}

/// Several addresses may have one type, which is the merge key: the list is replaced as a whole.
fn replaced(list: &Value) -> Value {
    let mut out = vec![json!({ "$patch": "replace" })];
    out.extend(list.as_array().into_iter().flatten().cloned());
    out.into()
}

/// Keys of a map that are gone are set to null, so that a merge removes them.
fn with_nulls(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let gone = old.keys().filter(|k| !new.contains_key(*k)).map(|k| (k.clone(), Value::Null));
    let kept = new.iter().map(|(k, v)| {
        let v = old.get(k).map_or_else(|| v.clone(), |o| with_nulls(o, v));
        (k.clone(), v)
    });
    kept.chain(gone).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Node;
    use std::sync::Arc;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    fn make(view: &NodeView, health: &RuntimeHealth, now: i64) -> NodeStatus {
        build(&Inputs {
            facts: &Facts::default(),
            view,
            health,
            pressure: Pressure::default(),
            images: &[],
            hostname: "h",
            source: addresses::Source::Kubelet,
            port: 10250,
            now: at(now),
        })
    }

    fn view() -> NodeView {
        let q = |t: &str| Quantity(t.into());
        NodeView {
            addresses: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
            capacity: BTreeMap::from([("cpu".into(), q("2"))]),
            allocatable: BTreeMap::from([("cpu".into(), q("2"))]),
            ..Default::default()
        }
    }

    fn known(view: &NodeView, status: NodeStatus) -> NodeView {
        let node = Node { status: Some(status), ..Default::default() };
        NodeView { node: Some(Arc::new(node)), ..view.clone() }
    }

    #[test]
    fn nothing_but_heartbeats_is_no_patch() {
        let health =
            RuntimeHealth { seen: true, runtime_version: "containerd://1".into(), ..Default::default() };
        let first = make(&view(), &health, 1);
        let known = known(&view(), first.clone());
        let second = make(&known, &health, 11);
        assert_eq!(patch(&first, &second, false), None);
        let beat = patch(&first, &second, true).unwrap();
        let fields: Vec<&String> = beat["status"].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["conditions"]);
    }

    #[test]
    fn a_lost_runtime_changes_ready_and_keeps_its_version() {
        let health =
            RuntimeHealth { seen: true, runtime_version: "containerd://1".into(), ..Default::default() };
        let first = make(&view(), &health, 1);
        let sick = RuntimeHealth { seen: true, runtime_error: Some("gone".into()), ..Default::default() };
        let second = make(&known(&view(), first.clone()), &sick, 11);
        let got = patch(&first, &second, false).unwrap();
        assert_eq!(got["status"].as_object().unwrap().len(), 1, "{got}");
        assert_eq!(got["status"]["conditions"][3]["message"], "gone");
    }

    #[test]
    fn maps_lose_keys_addresses_are_replaced_foreign_resources_stay() {
        let health = RuntimeHealth { seen: true, ..Default::default() };
        let mut first = make(&view(), &health, 1);
        let capacity = first.capacity.as_mut().unwrap();
        capacity.insert("hugepages-2Mi".into(), Quantity("0".into()));
        capacity.insert("example.com/gpu".into(), Quantity("1".into()));
        let mut moved = known(&view(), first.clone());
        moved.addresses.pop();
        let got = patch(&first, &make(&moved, &health, 2), false).unwrap();
        assert_eq!(
            got["status"]["capacity"],
            json!({ "cpu": "2", "example.com/gpu": "1", "hugepages-2Mi": null })
        );
        assert_eq!(got["status"]["addresses"][0], json!({ "$patch": "replace" }));
        assert_eq!(got["status"]["addresses"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn the_biggest_images_are_listed() {
        let image = |size: u64, tags: usize| cri::Image {
            id: size.to_string(),
            size,
            repo_tags: (0..tags).map(|i| format!("t{i}")).collect(),
            repo_digests: vec!["d".into()],
            ..Default::default()
        };
        let got = images(vec![image(1, 1), image(3, 9), image(2, 0)], 2);
        assert_eq!(got.iter().map(|i| i.size_bytes.unwrap()).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(got[0].names.as_ref().unwrap().len(), 5);
        assert_eq!(images(vec![image(1, 1), image(3, 9)], -1).len(), 2);
    }
}
