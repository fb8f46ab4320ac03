//! Defaults of pods and of what pod templates are made of. The rows of `Pod` itself hold for pods alone; everything
//! below `PodSpec` also holds in templates.

use super::Fill;
use crate::registry::val::{Obj, if_nil, if_zero, items_mut, members, obj_mut, s, sub};
use machinery::quantity::Quantity;
use serde_json::{Value, json};

/// The defaults of one type of this area.
pub fn fill(group: &str, kind: &str) -> Option<Fill> {
    if group != "io.k8s.api.core.v1" {
        return None;
    }
    Some(match kind {
        "Pod" => pod,
        "PodSpec" => pod_spec,
        "Container" | "EphemeralContainer" => container,
        "ContainerPort" => port,
        "Probe" => probe,
        "HTTPGetAction" => http_get,
        "GRPCAction" => |m| if_nil(m, "service", ""),
        "ResourceRequirements" | "VolumeResourceRequirements" => resources,
        "Volume" => volume,
        "SecretVolumeSource"
        | "ConfigMapVolumeSource"
        | "DownwardAPIVolumeSource"
        | "ProjectedVolumeSource" => |m| if_nil(m, "defaultMode", 0o644),
        "ServiceAccountTokenProjection" => |m| if_nil(m, "expirationSeconds", 3600),
        "HostPathVolumeSource" => |m| if_nil(m, "type", ""),
        "ISCSIVolumeSource" | "ISCSIPersistentVolumeSource" => |m| if_zero(m, "iscsiInterface", "default"),
        "RBDVolumeSource" | "RBDPersistentVolumeSource" => rbd,
        "AzureDiskVolumeSource" => azure_disk,
        "ScaleIOVolumeSource" | "ScaleIOPersistentVolumeSource" => scale_io,
        "ObjectFieldSelector" => |m| if_zero(m, "apiVersion", "v1"),
        _ => return None,
    })
}

fn pod(m: &mut Obj) {
    let Some(spec) = m.get_mut("spec") else { return };
    let host_network = super::super::val::b(spec, "hostNetwork");
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list) {
            requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
    pod_level_resources(spec);
    if let Some(spec) = spec.as_object_mut() {
        if_nil(spec, "enableServiceLinks", true);
    }
}

/// A limit without a request is also the request.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = obj_mut(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).filter(|l| !l.is_empty()).cloned()
    else {
        return;
    };
    let requests = sub(resources, "requests");
    for (name, quantity) in limits {
        requests.entry(name).or_insert(quantity);
    }
}

fn host_ports(container: &mut Value) {
    for port in items_mut(container, "ports") {
        let number = port.get("containerPort").cloned().unwrap_or(json!(0));
        if let Some(port) = port.as_object_mut() {
            if_zero(port, "hostPort", number);
        }
    }
}

/// Pod level requests: what the containers ask for together, else the pod level limit.
fn pod_level_resources(spec: &mut Value) {
    let Some(limits) =
        spec.get("resources").and_then(|r| r.get("limits")).and_then(Value::as_object).cloned()
    else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    let summed = crate::registry::resources::pod_requests(spec);
    let Some(resources) = obj_mut(spec, "resources") else { return };
    let requests = sub(resources, "requests");
    for (name, quantity) in summed {
        let known = name == "cpu" || name == "memory" || name.starts_with("hugepages-");
        if known && !name.starts_with("hugepages-") {
            requests.entry(name).or_insert_with(|| Value::String(quantity.to_string()));
        }
    }
    for (name, quantity) in limits {
        requests.entry(name).or_insert(quantity);
    }
}

fn pod_spec(m: &mut Obj) {
    if_zero(m, "dnsPolicy", "ClusterFirst");
    if_zero(m, "restartPolicy", "Always");
    if_nil(m, "securityContext", json!({}));
    if_nil(m, "terminationGracePeriodSeconds", 30);
    if_zero(m, "schedulerName", "default-scheduler");
    service_account(m);
}

/// Two names for one thing: the new one wins, and the old one always repeats it.
fn service_account(m: &mut Obj) {
    let account = |m: &Obj, key: &str| m.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut name = account(m, "serviceAccountName");
    if name.is_empty() {
        name = account(m, "serviceAccount");
    }
    if !name.is_empty() {
        m.insert("serviceAccountName".into(), Value::String(name.clone()));
        m.insert("serviceAccount".into(), Value::String(name));
    }
}

fn container(m: &mut Obj) {
    if m.get("imagePullPolicy").is_none_or(super::super::val::is_zero) {
        let policy = pull_policy(m.get("image").and_then(Value::as_str).unwrap_or_default());
        m.insert("imagePullPolicy".into(), policy.into());
    }
    if_zero(m, "terminationMessagePath", "/dev/termination-log");
    if_zero(m, "terminationMessagePolicy", "File");
    if_nil(m, "resources", json!({}));
}

/// Always for the tag `latest` (also when neither tag nor digest is given), else IfNotPresent.
fn pull_policy(image: &str) -> &'static str {
    if image_tag(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

/// The tag of an image reference; `latest` when there is neither tag nor digest, none when it cannot be parsed.
fn image_tag(image: &str) -> Option<&str> {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let path_start = rest.rfind('/').map_or(0, |i| i + 1);
    let (name_end, tag) = match rest.get(path_start..)?.find(':') {
        Some(i) => (path_start + i, rest.get(path_start + i + 1..)),
        None => (rest.len(), None),
    };
    let name = rest.get(..name_end)?;
    let last = name.get(path_start..)?;
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    if last.is_empty() || !last.chars().all(ok) || name.chars().any(|c| c.is_whitespace() || !c.is_ascii()) {
        return None;
    }
    match (tag, digest) {
        (Some(tag), _) => Some(tag),
        (None, Some(_)) => Some(""),
        (None, None) => Some("latest"),
    }
}

fn port(m: &mut Obj) {
    if_zero(m, "protocol", "TCP");
}

fn probe(m: &mut Obj) {
    if_zero(m, "timeoutSeconds", 1);
    if_zero(m, "periodSeconds", 10);
    if_zero(m, "successThreshold", 1);
    if_zero(m, "failureThreshold", 3);
}

fn http_get(m: &mut Obj) {
    if_zero(m, "path", "/");
    if_zero(m, "scheme", "HTTP");
}

fn resources(m: &mut Obj) {
    for list in ["limits", "requests"] {
        round_up(m.get_mut(list));
    }
}

/// Quantities of a resource list are kept to a thousandth, rounded up.
pub fn round_up(list: Option<&mut Value>) {
    let Some(list) = list.and_then(Value::as_object_mut) else { return };
    for quantity in list.values_mut() {
        let Some(text) = quantity.as_str().filter(|t| finer_than_milli(t)) else { continue };
        if let Ok(q) = text.parse::<Quantity>() {
            *quantity = Value::String(Quantity::from_milli(q.milli_value(), q.format()).to_string());
        }
    }
}

/// Only a nano or micro suffix, or a fraction of more than three digits, can be finer than a thousandth.
fn finer_than_milli(text: &str) -> bool {
    text.ends_with(['n', 'u']) || text.split_once('.').is_some_and(|(_, f)| f.len() > 3)
}

/// Every kind of volume, by the member that holds its source.
pub const VOLUME_SOURCES: &[&str] = &[
    "hostPath",
    "emptyDir",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "persistentVolumeClaim",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "downwardAPI",
    "fc",
    "azureFile",
    "configMap",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "projected",
    "portworxVolume",
    "scaleIO",
    "storageos",
    "csi",
    "ephemeral",
    "image",
];

fn volume(m: &mut Obj) {
    if !VOLUME_SOURCES.iter().any(|k| m.get(*k).is_some_and(|v| !v.is_null())) {
        m.insert("emptyDir".into(), json!({}));
    }
    if let Some(image) = m.get_mut("image").filter(|v| v.is_object()) {
        let policy = pull_policy(s(image, "reference"));
        if_zero(members(image), "pullPolicy", policy);
    }
}

fn rbd(m: &mut Obj) {
    if_zero(m, "pool", "rbd");
    if_zero(m, "user", "admin");
    if_zero(m, "keyring", "/etc/ceph/keyring");
}

fn azure_disk(m: &mut Obj) {
    if_nil(m, "cachingMode", "ReadWrite");
    if_nil(m, "kind", "Shared");
    if_nil(m, "fsType", "ext4");
    if_nil(m, "readOnly", false);
}

fn scale_io(m: &mut Obj) {
    if_zero(m, "storageMode", "ThinProvisioned");
    if_zero(m, "fsType", "xfs");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:v1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("nginx:latest@sha256:0123", "Always"),
            ("Not An Image", "IfNotPresent"),
            ("", "IfNotPresent"),
        ];
        for (image, policy) in cases {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
