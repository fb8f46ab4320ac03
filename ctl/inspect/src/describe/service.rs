//! Services, endpoints and endpoint slices.

use super::page::Page;
use super::subject::Subject;
use crate::dig;
use crate::put;
use serde_json::Value;

/// Addresses shown of one port.
const SHOWN: usize = 3;

/// Writes a service.
pub fn page(subject: &Subject, page: &mut Page) {
    let service = &subject.object;
    let spec = &service["spec"];
    page.name(service);
    page.namespace(service);
    page.labels_and_annotations(service);
    page.field(0, "Selector", dig::one_line(&dig::strings(spec, "selector")));
    page.field(0, "Type", dig::text(spec, "type"));
    said(spec, "IP Family Policy", "ipFamilyPolicy", page);
    page.field(0, "IP Families", dig::or_none(&dig::texts(spec, "ipFamilies").join(",")));
    page.field(0, "IP", dig::text(spec, "clusterIP"));
    page.field(0, "IPs", dig::or_none(&dig::texts(spec, "clusterIPs").join(",")));
    joined(spec, "External IPs", "externalIPs", page);
    said(spec, "Desired LoadBalancer IP", "loadBalancerIP", page);
    said(spec, "External Name", "externalName", page);
    ingress(dig::items(service, "status.loadBalancer.ingress"), page);
    let slices =
        subject.slices.get(subject.name()).and_then(|slices| slices.as_deref().ok()).unwrap_or_default();
    dig::items(spec, "ports").iter().for_each(|one| port(one, slices, page));
    traffic(spec, page);
    subject.events(page);
}

fn said(spec: &Value, title: &str, field: &str, page: &mut Page) {
    let text = dig::text(spec, field);
    if !text.is_empty() {
        page.field(0, title, text);
    }
}

fn joined(spec: &Value, title: &str, field: &str, page: &mut Page) {
    let list = dig::texts(spec, field);
    if !list.is_empty() {
        page.field(0, title, list.join(","));
    }
}

fn ingress(ingress: &[Value], page: &mut Page) {
    if ingress.is_empty() {
        return;
    }
    let one = |point: &Value| match (dig::text(point, "ip"), dig::text(point, "ipMode")) {
        ("", _) => dig::text(point, "hostname").to_string(),
        (ip, "") => ip.to_string(),
        (ip, mode) => format!("{ip} ({mode})"),
    };
    page.field(0, "LoadBalancer Ingress", ingress.iter().map(one).collect::<Vec<_>>().join(", "));
}

fn port(port: &Value, slices: &[Value], page: &mut Page) {
    let name = dig::text(port, "name");
    let (shown, protocol) = (if name.is_empty() { "<unset>" } else { name }, dig::text(port, "protocol"));
    put!(page, 0, "Port:\t{shown}\t{}/{protocol}\n", dig::int(port, "port"));
    put!(page, 0, "TargetPort:\t{}/{protocol}\n", dig::int_or_string(&port["targetPort"]));
    if dig::has(port, "appProtocol") {
        page.field(0, "AppProtocol", dig::text(port, "appProtocol"));
    }
    if dig::int(port, "nodePort") != 0 {
        put!(page, 0, "NodePort:\t{shown}\t{}/{protocol}\n", dig::int(port, "nodePort"));
    }
    page.field(0, "Endpoints", endpoints(slices, name));
}

fn traffic(spec: &Value, page: &mut Page) {
    page.field(0, "Session Affinity", dig::text(spec, "sessionAffinity"));
    said(spec, "External Traffic Policy", "externalTrafficPolicy", page);
    said(spec, "Internal Traffic Policy", "internalTrafficPolicy", page);
    if dig::int(spec, "healthCheckNodePort") != 0 {
        page.field(0, "HealthCheck NodePort", dig::int(spec, "healthCheckNodePort"));
    }
    joined(spec, "LoadBalancer Source Ranges", "loadBalancerSourceRanges", page);
    said(spec, "Traffic Distribution", "trafficDistribution", page);
}

/// The ready addresses behind the port of that name: a few, and how many there are beyond.
pub fn endpoints(slices: &[Value], name: &str) -> String {
    if slices.is_empty() {
        return "<none>".into();
    }
    let mut all: Vec<String> = Vec::new();
    // Whether anything, ready or not, came after the last shown address.
    let mut more = false;
    for slice in slices {
        let ports = dig::items(slice, "ports");
        let wanted = ports.iter().filter(|port| dig::text(port, "name") == name).map(Some);
        let bare = ports.is_empty().then_some(None);
        for port in wanted.chain(bare) {
            for endpoint in dig::items(slice, "endpoints") {
                more |= all.len() >= SHOWN;
                if endpoint["conditions"]["ready"] != Value::Bool(false) {
                    all.push(address(endpoint, port));
                }
            }
        }
    }
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    match more {
        true => format!("{shown} + {} more...", all.len() - SHOWN),
        false => shown,
    }
}

fn address(endpoint: &Value, port: Option<&Value>) -> String {
    let ip = dig::texts(endpoint, "addresses").first().copied().unwrap_or_default();
    match port.map(|port| dig::int(port, "port")) {
        Some(port) if ip.contains(':') => format!("[{ip}]:{port}"),
        Some(port) => format!("{ip}:{port}"),
        None => ip.into(),
    }
}

/// Writes endpoints.
pub fn endpoints_page(subject: &Subject, page: &mut Page) {
    let object = &subject.object;
    page.name(object);
    page.namespace(object);
    page.labels_and_annotations(object);
    page.put(0, "Subsets:\n");
    for subset in dig::items(object, "subsets") {
        for (title, field) in [("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")] {
            let ips: Vec<_> =
                dig::items(subset, field).iter().map(|address| dig::text(address, "ip")).collect();
            page.field(1, title, dig::or_none(&ips.join(",")));
        }
        let ports = dig::items(subset, "ports");
        if !ports.is_empty() {
            port_table(1, ports, page);
        }
        page.put(0, "\n");
    }
    subject.events(page);
}

fn port_table(level: usize, ports: &[Value], page: &mut Page) {
    page.put(level, "Ports:\n");
    page.put(level + 1, "Name\tPort\tProtocol\n");
    page.put(level + 1, "----\t----\t--------\n");
    for port in ports {
        let name = match dig::text(port, "name") {
            "" => "<unset>",
            name => name,
        };
        let number = port["port"].as_i64().map_or("<unset>".into(), |number| number.to_string());
        put!(page, level + 1, "{name}\t{number}\t{}\n", dig::text(port, "protocol"));
    }
}

/// Writes an endpoint slice.
pub fn slice_page(subject: &Subject, page: &mut Page) {
    let slice = &subject.object;
    page.name(slice);
    page.namespace(slice);
    page.labels_and_annotations(slice);
    page.field(0, "AddressType", dig::text(slice, "addressType"));
    match dig::items(slice, "ports") {
        [] => page.put(0, "Ports: <unset>\n"),
        ports => port_table(0, ports, page),
    }
    match dig::items(slice, "endpoints") {
        [] => page.put(0, "Endpoints: <none>\n"),
        endpoints => {
            page.put(0, "Endpoints:\n");
            endpoints.iter().for_each(|one| endpoint(one, page));
        }
    }
    subject.events(page);
}

fn endpoint(endpoint: &Value, page: &mut Page) {
    let or_unset =
        |value: &Value| if value.is_null() { "<unset>".to_string() } else { dig::int_or_string(value) };
    page.field(1, "- Addresses", dig::or_none(&dig::texts(endpoint, "addresses").join(", ")));
    page.put(2, "Conditions:\n");
    page.field(3, "Ready", or_unset(&endpoint["conditions"]["ready"]));
    page.field(2, "Hostname", or_unset(&endpoint["hostname"]));
    if dig::has(endpoint, "targetRef") {
        let target = &endpoint["targetRef"];
        page.field(2, "TargetRef", format!("{}/{}", dig::text(target, "kind"), dig::text(target, "name")));
    }
    page.field(2, "NodeName", or_unset(&endpoint["nodeName"]));
    page.field(2, "Zone", or_unset(&endpoint["zone"]));
}
