//! The core group, pods, nodes and events apart.

use super::Printer;
use super::access::{Cells, UNKNOWN, UNSET, condition, labels_text, or_none, text};
use serde_json::Value;

pub fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "ComponentStatus" => component_status,
        "ConfigMap" => config_map,
        "Endpoints" => endpoints,
        "Namespace" => namespace,
        "PersistentVolume" => volume,
        "PersistentVolumeClaim" => claim,
        "PodTemplate" => pod_template,
        "ReplicationController" => replication_controller,
        "ResourceQuota" => quota,
        "Secret" => secret,
        "Service" => service,
        "ServiceAccount" => service_account,
        _ => return None,
    })
}

fn component_status(c: &Cells<'_>) -> Vec<Value> {
    let healthy = condition(c.list("conditions"), "Healthy");
    let status = match healthy.map(|h| text(h, "status")) {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    };
    let member = |name| healthy.map(|h| text(h, name)).unwrap_or_default();
    vec![c.name(), status.into(), member("message").into(), member("error").into()]
}

fn config_map(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), (c.count("data") + c.count("binaryData")).to_string().into(), c.age()]
}

fn secret(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.text("type").into(), c.count("data").to_string().into(), c.age()]
}

fn namespace(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.text("status.phase").into(), c.age()]
}

fn service_account(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.age()]
}

/// At most three endpoints, then how many more there are.
fn endpoints(c: &Cells<'_>) -> Vec<Value> {
    let mut shown: Vec<String> = Vec::new();
    for subset in c.list("subsets") {
        let part = |name: &str| subset.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let (addresses, ports) = (part("addresses"), part("ports"));
        for address in &addresses {
            let ip = text(address, "ip");
            if ports.is_empty() {
                shown.push(ip.to_string());
            }
            shown.extend(
                ports
                    .iter()
                    .map(|p| host_port(ip, p.get("port").and_then(Value::as_i64).unwrap_or_default())),
            );
        }
    }
    let more = shown.len().saturating_sub(3);
    shown.truncate(3);
    let mut text = or_none(shown.join(","));
    if more > 0 {
        text = format!("{text} + {more} more...");
    }
    vec![c.name(), text.into(), c.age()]
}

fn host_port(ip: &str, port: i64) -> String {
    match ip.contains(':') {
        true => format!("[{ip}]:{port}"),
        false => format!("{ip}:{port}"),
    }
}

/// RWO, ROX, RWX, RWOP in a fixed order, each once.
fn access_modes(modes: &[Value]) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |name: &str| modes.iter().any(|m| m.as_str() == Some(name));
    let listed: Vec<&str> = SHORT.iter().filter(|(long, _)| has(long)).map(|(_, short)| *short).collect();
    listed.join(",")
}

fn storage_class<'a>(c: &Cells<'a>) -> &'a str {
    match c
        .map("metadata.annotations")
        .and_then(|a| a.get("volume.beta.kubernetes.io/storage-class"))
        .and_then(Value::as_str)
    {
        Some(class) => class,
        None => c.text("spec.storageClassName"),
    }
}

fn phase<'a>(c: &Cells<'a>) -> &'a str {
    match c.get("metadata.deletionTimestamp") {
        Some(_) => "Terminating",
        None => c.text("status.phase"),
    }
}

fn volume(c: &Cells<'_>) -> Vec<Value> {
    let claim = match c.text("spec.claimRef.name") {
        "" => String::new(),
        name => format!("{}/{name}", c.text("spec.claimRef.namespace")),
    };
    vec![
        c.name(),
        c.text("spec.capacity.storage").into(),
        access_modes(c.list("spec.accessModes")).into(),
        c.text("spec.persistentVolumeReclaimPolicy").into(),
        phase(c).into(),
        claim.into(),
        storage_class(c).into(),
        c.text_or("spec.volumeAttributesClassName", UNSET).into(),
        c.text("status.reason").into(),
        c.age(),
        c.text_or("spec.volumeMode", UNSET).into(),
    ]
}

fn claim(c: &Cells<'_>) -> Vec<Value> {
    let bound = !c.text("spec.volumeName").is_empty();
    let (capacity, modes) = match bound {
        true => (c.text("status.capacity.storage"), access_modes(c.list("status.accessModes"))),
        false => ("", String::new()),
    };
    vec![
        c.name(),
        phase(c).into(),
        c.text("spec.volumeName").into(),
        capacity.into(),
        modes.into(),
        storage_class(c).into(),
        c.text_or("spec.volumeAttributesClassName", UNSET).into(),
        c.age(),
        c.text_or("spec.volumeMode", UNSET).into(),
    ]
}

fn pod_template(c: &Cells<'_>) -> Vec<Value> {
    let [names, images] = c.containers("template.spec.containers");
    vec![c.name(), names, images, c.labels("template.metadata.labels")]
}

fn replication_controller(c: &Cells<'_>) -> Vec<Value> {
    let [names, images] = c.containers("spec.template.spec.containers");
    vec![
        c.name(),
        c.int("spec.replicas").into(),
        c.int("status.replicas").into(),
        c.int("status.readyReplicas").into(),
        c.age(),
        names,
        images,
        c.labels("spec.selector"),
    ]
}

/// Requests and limits as `resource: used/hard`.
fn quota(c: &Cells<'_>) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in c.map("status.hard").into_iter().flatten() {
        let used = c.map("status.used").and_then(|u| u.get(resource)).and_then(Value::as_str).unwrap_or("0");
        let text = format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default());
        if resource.starts_with("limits") { limits.push(text) } else { requests.push(text) }
    }
    vec![c.name(), requests.join(", ").into(), limits.join(", ").into(), c.age()]
}

fn service(c: &Cells<'_>) -> Vec<Value> {
    let cluster_ip =
        c.list("spec.clusterIPs").first().and_then(Value::as_str).unwrap_or_else(|| c.text("spec.clusterIP"));
    let ports: Vec<String> = c.list("spec.ports").iter().map(port).collect();
    vec![
        c.name(),
        c.text("spec.type").into(),
        or_none(cluster_ip.to_string()).into(),
        external_ip(c).into(),
        or_none(ports.join(",")).into(),
        c.age(),
        or_none(labels_text(c.map("spec.selector"))).into(),
    ]
}

fn port(port: &Value) -> String {
    let number = |name: &str| port.get(name).and_then(Value::as_i64).unwrap_or_default();
    match number("nodePort") {
        0 => format!("{}/{}", number("port"), text(port, "protocol")),
        node => format!("{}:{node}/{}", number("port"), text(port, "protocol")),
    }
}

fn external_ip(c: &Cells<'_>) -> String {
    let external: Vec<&str> = c.list("spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match c.text("spec.type") {
        "ExternalName" => c.text("spec.externalName").to_string(),
        "LoadBalancer" => {
            let balancer = load_balancer(c);
            match (balancer.is_empty(), external.is_empty()) {
                (true, true) => "<pending>".to_string(),
                (true, false) => external.join(","),
                (false, true) => balancer,
                (false, false) => format!("{balancer},{}", external.join(",")),
            }
        }
        "ClusterIP" | "NodePort" => or_none(external.join(",")),
        _ => UNKNOWN.to_string(),
    }
}

/// Addresses of a load balancer status, sorted, each once.
pub fn load_balancer(c: &Cells<'_>) -> String {
    let address = |i: &Value| match text(i, "ip") {
        "" => text(i, "hostname").to_string(),
        ip => ip.to_string(),
    };
    let mut list: Vec<String> =
        c.list("status.loadBalancer.ingress").iter().map(address).filter(|a| !a.is_empty()).collect();
    list.sort();
    list.dedup();
    list.join(",")
}
