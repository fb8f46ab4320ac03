//! Defaults of the smaller groups.

use super::Fill;
use crate::registry::val::{Obj, if_nil, if_zero, is_zero, sub};
use serde_json::{Value, json};

/// The defaults of one type of these areas.
pub fn fill(group: &str, kind: &str) -> Option<Fill> {
    let group = group.strip_prefix("io.k8s.api.").unwrap_or(group);
    Some(match (group, kind) {
        ("autoscaling.v1", "HorizontalPodAutoscaler") => scaler_v1,
        ("autoscaling.v2", "HorizontalPodAutoscaler") => scaler,
        ("networking.v1", "NetworkPolicy") => network_policy,
        ("networking.v1", "NetworkPolicyPort") => |m| if_nil(m, "protocol", "TCP"),
        ("networking.v1", "IngressClassParametersReference") => |m| if_nil(m, "scope", "Cluster"),
        ("rbac.v1", "RoleBinding" | "ClusterRoleBinding") => role_binding,
        ("rbac.v1", "Subject") => subject,
        ("flowcontrol.v1", "FlowSchemaSpec") => |m| if_zero(m, "matchingPrecedence", 1000),
        ("flowcontrol.v1", "ExemptPriorityLevelConfiguration") => exempt,
        ("flowcontrol.v1", "LimitedPriorityLevelConfiguration") => limited,
        ("flowcontrol.v1", "QueuingConfiguration") => queuing,
        ("authentication.v1", "TokenRequestSpec") => |m| if_nil(m, "expirationSeconds", 3600),
        ("scheduling.v1", "PriorityClass") => |m| if_nil(m, "preemptionPolicy", "PreemptLowerPriority"),
        ("certificates.v1beta1", "PodCertificateRequestSpec") => |m| if_nil(m, "maxExpirationSeconds", 86400),
        ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1", "CustomResourceDefinition") => {
            definition
        }
        ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1", "ServiceReference") => {
            |m| if_nil(m, "port", 443)
        }
        ("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1", "ServiceReference") => {
            |m| if_nil(m, "port", 443)
        }
        _ if group.starts_with("resource.") => return device(kind),
        _ => return None,
    })
}

fn scaler_v1(m: &mut Obj) {
    let spec = sub(m, "spec");
    if_nil(spec, "minReplicas", 1);
    let metrics = m
        .get("metadata")
        .and_then(|v| v.get("annotations"))
        .and_then(|a| a.get("autoscaling.alpha.kubernetes.io/metrics"));
    if metrics.is_none() {
        if_nil(sub(m, "spec"), "targetCPUUtilizationPercentage", 80);
    }
}

fn scaler(m: &mut Obj) {
    let spec = sub(m, "spec");
    if_nil(spec, "minReplicas", 1);
    let cpu = json!([{"type": "Resource", "resource":
        {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
    if_zero(spec, "metrics", cpu);
    let Some(Value::Object(behavior)) = spec.get_mut("behavior") else { return };
    let by_percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let by_pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let up = sub(behavior, "scaleUp");
    if_nil(up, "stabilizationWindowSeconds", 0);
    if_nil(up, "selectPolicy", "Max");
    if_nil(up, "policies", json!([by_pods, by_percent.clone()]));
    let down = sub(behavior, "scaleDown");
    if_nil(down, "selectPolicy", "Max");
    if_nil(down, "policies", json!([by_percent]));
}

fn network_policy(m: &mut Obj) {
    let spec = sub(m, "spec");
    let egress = spec.get("egress").is_some_and(|e| !is_zero(e));
    let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    if_zero(spec, "policyTypes", types);
}

fn role_binding(m: &mut Obj) {
    if_zero(sub(m, "roleRef"), "apiGroup", "rbac.authorization.k8s.io");
}

fn subject(m: &mut Obj) {
    if matches!(m.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
        if_zero(m, "apiGroup", "rbac.authorization.k8s.io");
    }
}

fn exempt(m: &mut Obj) {
    if_nil(m, "nominalConcurrencyShares", 0);
    if_nil(m, "lendablePercent", 0);
}

fn limited(m: &mut Obj) {
    if_nil(m, "nominalConcurrencyShares", 30);
    if_nil(m, "lendablePercent", 0);
}

fn queuing(m: &mut Obj) {
    if_zero(m, "handSize", 8);
    if_zero(m, "queues", 64);
    if_zero(m, "queueLengthLimit", 50);
}

/// Names a definition leaves out follow from its kind, and so does the list of stored versions.
fn definition(m: &mut Obj) {
    let spec = sub(m, "spec");
    let storage = storage_version(spec);
    let names = sub(spec, "names");
    let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !kind.is_empty() {
        if_zero(names, "singular", kind.to_lowercase());
        if_zero(names, "listKind", format!("{kind}List"));
    }
    if_nil(spec, "conversion", json!({"strategy": "None"}));
    if let Some(version) = storage {
        if_zero(sub(m, "status"), "storedVersions", json!([version]));
    }
}

fn storage_version(spec: &Obj) -> Option<String> {
    let versions = spec.get("versions")?.as_array()?;
    let stored = versions.iter().find(|v| v.get("storage") == Some(&Value::Bool(true)))?;
    Some(stored.get("name")?.as_str()?.to_owned())
}

/// Device requests, taints and tolerations; the same in every version of the group.
fn device(kind: &str) -> Option<Fill> {
    Some(match kind {
        "ExactDeviceRequest" | "DeviceSubRequest" => request,
        "DeviceRequest" => |m| {
            if m.get("deviceClassName").is_some_and(|v| !is_zero(v)) {
                request(m);
            }
        },
        "DeviceTaint" => |m| if_nil(m, "timeAdded", machinery::time::now_rfc3339()),
        "DeviceToleration" => |m| if_zero(m, "operator", "Equal"),
        "ResourcePoolStatusRequestSpec" => |m| if_nil(m, "limit", 100),
        _ => return None,
    })
}

fn request(m: &mut Obj) {
    if_zero(m, "allocationMode", "ExactCount");
    if m.get("allocationMode") == Some(&json!("ExactCount")) {
        if_zero(m, "count", 1);
    }
}
