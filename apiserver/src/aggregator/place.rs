//! Where the service of an APIService is reached.

use serde_json::Value;

use crate::registry::val::{get, i, list, s};

/// Label that ties a slice to its service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

fn host_port(host: &str, port: i64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The service's port of this number.
pub fn port_of(service: &Value, port: u16) -> Option<&Value> {
    list(get(service, "spec")?, "ports").iter().find(|p| i(p, "port") == Some(i64::from(port)))
}

fn named_port(service: &Value, port: u16) -> Result<&Value, String> {
    let name = machinery::meta::name(service);
    port_of(service, port).ok_or_else(|| format!("no service port {port} found for service {name:?}"))
}

/// The address of a service, which kube-proxy leads on.
pub fn of_service(service: &Value, port: u16) -> Result<String, String> {
    let spec = get(service, "spec").unwrap_or(&Value::Null);
    match (s(spec, "type"), s(spec, "clusterIP")) {
        ("ExternalName", _) => Ok(host_port(s(spec, "externalName"), i64::from(port))),
        ("ClusterIP" | "NodePort" | "LoadBalancer", "" | "None") => {
            Err("cannot route to service with ClusterIP \"None\"".into())
        }
        ("ClusterIP" | "NodePort" | "LoadBalancer", ip) => {
            named_port(service, port).map(|_| host_port(ip, i64::from(port)))
        }
        (other, _) => Err(format!("unsupported service type {other:?}")),
    }
}

/// One of a service's ready endpoints, by chance.
pub fn of_endpoint(service: &Value, slices: &[Value], port: u16, chance: u32) -> Result<String, String> {
    let spec = get(service, "spec").unwrap_or(&Value::Null);
    if s(spec, "type") == "ExternalName" {
        return of_service(service, port);
    }
    let name = s(named_port(service, port)?, "name");
    let all: Vec<String> = slices.iter().flat_map(|slice| addresses(slice, name)).collect();
    let none = || format!("no endpoints available for service {:?}", machinery::meta::name(service));
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX).max(1);
    all.into_iter().nth((chance % count) as usize).ok_or_else(none)
}

fn addresses(slice: &Value, port_name: &str) -> Vec<String> {
    let Some(port) = slice_port(slice, port_name) else { return Vec::new() };
    let ready = list(slice, "endpoints").iter().filter(|e| is_ready(e));
    ready.filter_map(|e| Some(host_port(e.pointer("/addresses/0")?.as_str()?, port))).collect()
}

fn slice_port(slice: &Value, name: &str) -> Option<i64> {
    i(list(slice, "ports").iter().find(|p| s(p, "name") == name)?, "port")
}

fn is_ready(endpoint: &Value) -> bool {
    endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true)
}

/// Whether any slice has a ready endpoint and the port.
pub fn is_served(slices: &[Value], port_name: &str) -> bool {
    slices.iter().any(|s| slice_port(s, port_name).is_some() && list(s, "endpoints").iter().any(is_ready))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(kind: &str, ip: &str) -> Value {
        json!({"metadata": {"name": "s"}, "spec": {"type": kind, "clusterIP": ip, "externalName": "else.where",
            "ports": [{"name": "https", "port": 443}]}})
    }

    #[test]
    fn services() {
        for (kind, ip, port, want) in [
            ("ClusterIP", "10.96.0.9", 443, Ok("10.96.0.9:443")),
            ("LoadBalancer", "fd00::9", 443, Ok("[fd00::9]:443")),
            ("ClusterIP", "10.96.0.9", 444, Err("no service port 444 found for service \"s\"")),
            ("ClusterIP", "None", 443, Err("cannot route to service with ClusterIP \"None\"")),
            ("ExternalName", "", 8443, Ok("else.where:8443")),
            ("Odd", "", 443, Err("unsupported service type \"Odd\"")),
        ] {
            let got = of_service(&service(kind, ip), port);
            assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned), "{kind} {ip} {port}");
        }
    }

    #[test]
    fn endpoints() {
        let slices = [json!({"ports": [{"name": "https", "port": 4443}], "endpoints": [
            {"addresses": ["10.244.0.1"], "conditions": {"ready": false}},
            {"addresses": ["10.244.0.2"]}, {"addresses": ["10.244.0.3"], "conditions": {"ready": true}}]})];
        let service = service("ClusterIP", "10.96.0.9");
        let at = |chance| of_endpoint(&service, &slices, 443, chance);
        assert_eq!((at(0), at(3)), (Ok("10.244.0.2:4443".into()), Ok("10.244.0.3:4443".into())));
        let nowhere = of_endpoint(&service, &[], 443, 0);
        assert_eq!(nowhere, Err("no endpoints available for service \"s\"".into()));
        assert!(is_served(&slices, "https") && !is_served(&slices, "other") && !is_served(&[], "https"));
    }
}
