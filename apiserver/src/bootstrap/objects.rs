//! Objects other than RBAC that the server keeps: namespaces, priority classes, the service range, flow control.

use serde_json::{Value, json};

use crate::config::Config;

/// Namespaces that always exist.
pub const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// One of them.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}})
}

/// The two classes of system pods.
pub fn priority_classes() -> Vec<Value> {
    let class = |name: &str, value: i64, what: &str| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
            "preemptionPolicy": "PreemptLowerPriority",
            "description": what})
    };
    vec![
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

/// The default range of service addresses.
pub fn service_cidr(config: &Config) -> Value {
    let cidrs: Vec<String> = config.service_cluster_ip_range.iter().map(|n| n.trunc().to_string()).collect();
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}})
}

/// What extension API servers need to trust this one: CAs and header names, as text.
pub fn extension_authentication(config: &Config) -> std::io::Result<Value> {
    let mut data = serde_json::Map::new();
    if let Some(file) = &config.client_ca_file {
        data.insert("client-ca-file".into(), json!(std::fs::read_to_string(file)?));
    }
    if let Some(file) = &config.requestheader_client_ca_file {
        data.insert("requestheader-client-ca-file".into(), json!(std::fs::read_to_string(file)?));
        for (key, list) in [
            ("requestheader-allowed-names", &config.requestheader_allowed_names),
            ("requestheader-username-headers", &config.requestheader_username_headers),
            ("requestheader-group-headers", &config.requestheader_group_headers),
            ("requestheader-uid-headers", &config.requestheader_uid_headers),
            ("requestheader-extra-headers-prefix", &config.requestheader_extra_headers_prefix),
        ] {
            data.insert(key.into(), json!(json!(list).to_string()));
        }
    }
    Ok(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}}))
}

/// Priority levels: name, shares, lendable percent, and queues, hand size and queue length (no queues: reject).
const LEVELS: &[(&str, i64, i64, Option<(i64, i64, i64)>)] = &[
    ("catch-all", 5, 0, None),
    ("global-default", 20, 50, Some((128, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("system", 30, 33, Some((64, 6, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
];

fn flow_object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}})
}

/// The priority levels of a new cluster.
pub fn priority_levels() -> Vec<Value> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let mut out = vec![flow_object("PriorityLevelConfiguration", "exempt", exempt)];
    for (name, shares, lendable, queuing) in LEVELS {
        let response = match queuing {
            None => json!({"type": "Reject"}),
            Some((queues, hand, length)) => {
                json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}})
            }
        };
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
        out.push(flow_object(
            "PriorityLevelConfiguration",
            name,
            json!({"type": "Limited", "limited": limited}),
        ));
    }
    out
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn accounts(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}})
}

fn rule(subjects: Vec<Value>, resources: Value, urls: Value) -> Value {
    let mut rule = json!({"subjects": subjects});
    for (key, list) in [("resourceRules", resources), ("nonResourceRules", urls)] {
        if list.as_array().is_some_and(|l| !l.is_empty()) {
            rule[key] = list;
        }
    }
    rule
}

fn any_resource() -> Value {
    json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}])
}

fn any_url() -> Value {
    json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}])
}

fn anything(subjects: Vec<Value>) -> Vec<Value> {
    vec![rule(subjects, any_resource(), any_url())]
}

fn schema(name: &str, precedence: i64, level: &str, distinguisher: &str, rules: Vec<Value>) -> Value {
    let mut spec = json!({"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level}, "rules": rules});
    if !distinguisher.is_empty() {
        spec["distinguisherMethod"] = json!({"type": distinguisher});
    }
    flow_object("FlowSchema", name, spec)
}

/// The flow schemas of a new cluster.
pub fn flow_schemas() -> Vec<Value> {
    let (by_user, by_ns) = ("ByUser", "ByNamespace");
    let everyone = || vec![group("system:unauthenticated"), group("system:authenticated")];
    let leases = json!([{"verbs": ["get", "create", "update"], "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"], "namespaces": ["*"]}]);
    let leaders = vec![
        user("system:kube-controller-manager"),
        user("system:kube-scheduler"),
        accounts("kube-system", "*"),
    ];
    let node_high = json!([
        {"verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "clusterScope": true, "namespaces": ["*"]},
        {"verbs": ["*"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["*"]},
    ]);
    let probes = json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]);
    vec![
        schema("exempt", 1, "exempt", "", anything(vec![group("system:masters")])),
        schema("probes", 2, "exempt", "", vec![rule(everyone(), json!([]), probes)]),
        schema(
            "system-leader-election",
            100,
            "leader-election",
            by_user,
            vec![rule(leaders, leases, json!([]))],
        ),
        schema(
            "system-node-high",
            400,
            "node-high",
            by_user,
            vec![rule(vec![group("system:nodes")], node_high, json!([]))],
        ),
        schema("system-nodes", 500, "system", by_user, anything(vec![group("system:nodes")])),
        schema(
            "kube-controller-manager",
            800,
            "workload-high",
            by_ns,
            anything(vec![user("system:kube-controller-manager")]),
        ),
        schema("kube-scheduler", 800, "workload-high", by_ns, anything(vec![user("system:kube-scheduler")])),
        schema(
            "kube-system-service-accounts",
            900,
            "workload-high",
            by_ns,
            anything(vec![accounts("kube-system", "*")]),
        ),
        schema(
            "service-accounts",
            9000,
            "workload-low",
            by_user,
            anything(vec![group("system:serviceaccounts")]),
        ),
        schema("global-default", 9900, "global-default", by_user, anything(everyone())),
        schema("catch-all", 10000, "catch-all", by_user, anything(everyone())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_has_its_level() {
        let levels: Vec<String> =
            priority_levels().iter().map(|l| machinery::meta::name(l).to_owned()).collect();
        for schema in flow_schemas() {
            let level =
                schema["spec"]["priorityLevelConfiguration"]["name"].as_str().expect("level").to_owned();
            assert!(levels.contains(&level), "{level}");
        }
        assert_eq!((levels.len(), flow_schemas().len()), (8, 11));
    }
}
