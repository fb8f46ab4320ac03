//! Where a request goes: kubelet, pod or endpoint, with path and query. Pure.

use std::net::IpAddr;

use http::Uri;
use machinery::field::{ErrorKind, FieldError};
use machinery::status::Status;
use serde_json::Value;

use super::transport::Trust;
use crate::request::RequestInfo;
use crate::rest::params::Query;

/// Where a kubelet listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubelet {
    /// address or name
    pub host: String,
    /// port
    pub port: u16,
}

/// The kubelet of a node: its best address by the preferred types.
pub fn kubelet(node: &Value, preferred: &[String]) -> Result<Kubelet, Status> {
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
    let of_type = |wanted: &String| {
        let mut all = addresses.into_iter().flatten();
        let found = all.find(|a| a.get("type").and_then(Value::as_str) == Some(wanted))?;
        found.get("address")?.as_str().map(str::to_owned)
    };
    let host = preferred.iter().find_map(of_type).ok_or_else(|| {
        let known = addresses.map_or_else(|| "[]".into(), |a| Value::Array(a.clone()).to_string());
        Status::bad_request(format!("no preferred addresses found; known addresses: {known}"))
    })?;
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    Ok(Kubelet { host, port: port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0).unwrap_or(10250) })
}

impl Kubelet {
    fn authority(&self) -> String {
        authority(&self.host, Some(&self.port.to_string()))
    }
}

fn authority(host: &str, port: Option<&str>) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match port.filter(|p| !p.is_empty()) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// The node a pod is bound to.
pub fn node_of(pod: &Value) -> Option<&str> {
    pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|n| !n.is_empty())
}

/// The refusal for a pod that is not bound.
pub fn no_host(pod: &str) -> Status {
    Status::bad_request(format!("pod {pod} does not have a host assigned"))
}

/// The container meant: the named one, or the only one.
pub fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let names = |field: &str| -> Vec<&str> {
        let all = pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array);
        all.into_iter().flatten().filter_map(|c| c.get("name")?.as_str()).collect()
    };
    let (plain, init, ephemeral) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let pod_name = machinery::meta::name(pod);
    if !asked.is_empty() {
        let known = plain.iter().chain(&init).chain(&ephemeral).any(|n| *n == asked);
        return match known {
            true => Ok(asked.to_owned()),
            false => Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}"))),
        };
    }
    let mut why = format!("a container name must be specified for pod {pod_name}");
    match plain.as_slice() {
        [] => {}
        [only] => return Ok((*only).to_owned()),
        many => {
            why += &format!(", choose one of: [{}]", many.join(" "));
            if !init.is_empty() {
                why += &format!(" or one of the init containers: [{}]", init.join(" "));
            }
            if !ephemeral.is_empty() {
                why += &format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" "));
            }
        }
    }
    Err(Status::bad_request(why))
}

/// PodLogOptions' own rules.
pub fn check_log_options(query: &Query, name: &str) -> Result<(), Status> {
    let mut errors = Vec::new();
    let mut invalid = |field: &str, value: Value, detail: &str| {
        let (field, detail) = (field.to_owned(), detail.to_owned());
        errors.push(FieldError { kind: ErrorKind::Invalid, field, value, detail });
    };
    if let Some(lines) = query.number("tailLines")?.filter(|n| *n < 0) {
        invalid("tailLines", lines.into(), "must be greater than or equal to 0");
    }
    if let Some(bytes) = query.number("limitBytes")?.filter(|n| *n < 1) {
        invalid("limitBytes", bytes.into(), "must be greater than 0");
    }
    if let Some(seconds) = query.number("sinceSeconds")?.filter(|n| *n < 1) {
        invalid("sinceSeconds", seconds.into(), "must be greater than 0");
    }
    if query.has("sinceSeconds") && query.has("sinceTime") {
        errors.push(FieldError {
            kind: ErrorKind::Forbidden,
            field: String::new(),
            value: Value::Null,
            detail: "at most one of `sinceTime` or `sinceSeconds` may be specified".into(),
        });
    }
    let stream = query.get("stream");
    if !matches!(stream, "" | "All" | "Stdout" | "Stderr") {
        errors.push(FieldError {
            kind: ErrorKind::NotSupported,
            field: "stream".into(),
            value: stream.into(),
            detail: "supported values: \"All\", \"Stderr\", \"Stdout\"".into(),
        });
    } else if matches!(stream, "Stdout" | "Stderr") && query.has("tailLines") {
        errors.push(FieldError {
            kind: ErrorKind::Forbidden,
            field: String::new(),
            value: Value::Null,
            detail: "`tailLines` and specific `stream` are mutually exclusive for now".into(),
        });
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", name, errors)) }
}

/// /containerLogs of the kubelet.
pub fn log_uri(kubelet: &Kubelet, info: &RequestInfo, container: &str, query: &Query) -> Result<Uri, Status> {
    let mut params = Params::default();
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag) {
            params.add(flag, "true");
        }
    }
    for name in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        if query.has(name) && !query.get(name).is_empty() {
            params.add(name, query.get(name));
        }
    }
    let path = format!("/containerLogs/{}/{}/{container}", info.namespace, info.name);
    super::uri("https", &kubelet.authority(), &params.after(&path))
}

/// /exec or /attach of the kubelet, whose names for the streams are older than the API's.
pub fn stream_uri(
    kubelet: &Kubelet,
    verb: &str,
    info: &RequestInfo,
    container: &str,
    query: &Query,
) -> Result<Uri, Status> {
    let mut params = Params::default();
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.flag(ours) {
            params.add(theirs, "1");
        }
    }
    if verb == "exec" {
        for word in query.all("command") {
            params.add("command", word);
        }
    }
    let path = format!("/{verb}/{}/{}/{container}", info.namespace, info.name);
    super::uri("https", &kubelet.authority(), &params.after(&path))
}

/// /portForward of the kubelet.
pub fn port_forward_uri(kubelet: &Kubelet, info: &RequestInfo, query: &Query) -> Result<Uri, Status> {
    let mut params = Params::default();
    let ports: Vec<&str> = query.all("ports").into_iter().flat_map(|p| p.split(',')).collect();
    if !ports.is_empty() {
        params.add("port", &ports.join(","));
    }
    let path = format!("/portForward/{}/{}", info.namespace, info.name);
    super::uri("https", &kubelet.authority(), &params.after(&path))
}

/// A query being written.
#[derive(Default)]
struct Params(String);

impl Params {
    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0 += &format!("{}={}", escape(name), escape(value));
    }

    fn after(&self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.0) }
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// `[scheme:]name[:port]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// http or https, or empty
    pub scheme: String,
    /// object name
    pub name: String,
    /// port number or name, or empty
    pub port: String,
}

impl Id {
    /// Reads an id; `kind` is for the refusal.
    pub fn parse(text: &str, kind: &str) -> Result<Self, Status> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme @ ("http" | "https" | ""), name, port] => (*scheme, *name, *port),
            _ => ("", "", ""),
        };
        if name.is_empty() {
            return Err(Status::bad_request(format!("invalid {kind} request {text:?}")));
        }
        Ok(Self { scheme: scheme.into(), name: name.into(), port: port.into() })
    }

    fn scheme(&self) -> &str {
        if self.scheme.is_empty() { "http" } else { &self.scheme }
    }
}

/// Something HTTP can be spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// http or https
    pub scheme: String,
    /// host and port
    pub authority: String,
    /// how its certificate is looked at
    pub trust: Trust,
}

impl Place {
    /// The place with a path (as the client escaped it) and a query.
    pub fn uri(&self, path: &str, query: Option<&str>) -> Result<Uri, Status> {
        let slash = if path.starts_with('/') { "" } else { "/" };
        let query = query.map_or_else(String::new, |q| format!("?{q}"));
        super::uri(&self.scheme, &self.authority, &format!("{slash}{path}{query}"))
    }
}

/// What of the path belongs to us: all up to `/proxy`. The name is compared in its escaped form, so by segments.
pub fn proxy_prefix(path: &str, info: &RequestInfo) -> String {
    // /api/v1/nodes/N/proxy or /api/v1/namespaces/NS/pods/P/proxy
    let segments = if info.namespace.is_empty() { 5 } else { 7 };
    let mut ends = path.match_indices('/').map(|(i, _)| i).skip(1);
    let end = ends.nth(segments - 1).unwrap_or(path.len());
    path.get(..end).unwrap_or(path).to_owned()
}

/// Loopback, link-local and the like are ours, not a client's to reach through us.
fn check_ip(ip: &str) -> Result<(), Status> {
    let refused = || Status::bad_request("address not allowed");
    let ip: IpAddr = ip.parse().map_err(|_| refused())?;
    let special = ip.is_loopback() || ip.is_multicast() || ip.is_unspecified();
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if special || local { Err(refused()) } else { Ok(()) }
}

/// A pod's port; the first one it names when none is asked for.
pub fn of_pod(id: &Id, pod: &Value) -> Result<Place, Status> {
    let ip = pod.pointer("/status/podIP").and_then(Value::as_str).unwrap_or_default();
    check_ip(ip)?;
    let port = if id.port.is_empty() { first_port(pod) } else { Some(id.port.clone()) };
    let authority = authority(ip, port.as_deref());
    Ok(Place { scheme: id.scheme().into(), authority, trust: Trust::Anyone })
}

fn first_port(pod: &Value) -> Option<String> {
    let containers = pod.pointer("/spec/containers")?.as_array()?;
    let port = containers.iter().find_map(|c| c.pointer("/ports/0/containerPort")?.as_u64())?;
    Some(port.to_string())
}

/// A ready endpoint of a service's port, by chance.
pub fn of_service(id: &Id, service: &Value, slices: &[Value], chance: u32) -> Result<Place, Status> {
    let port_name = service_port_name(id, service)?;
    let mut places: Vec<(String, u64)> = Vec::new();
    for slice in slices {
        let ports = slice.get("ports").and_then(Value::as_array).into_iter().flatten();
        let named = |p: &&Value| p.get("name").and_then(Value::as_str).unwrap_or_default() == port_name;
        let Some(port) = ports.into_iter().find(named).and_then(|p| p.get("port")?.as_u64()) else {
            continue;
        };
        places.extend(ready_addresses(slice).map(|ip| (ip.to_owned(), port)));
    }
    let none = || Status::service_unavailable(format!("no endpoints available for service {:?}", id.name));
    let count = u32::try_from(places.len()).unwrap_or(u32::MAX).max(1);
    let (ip, port) = places.get((chance % count) as usize).ok_or_else(none)?;
    check_ip(ip)?;
    let authority = authority(ip, Some(&port.to_string()));
    Ok(Place { scheme: id.scheme().into(), authority, trust: Trust::Anyone })
}

fn ready_addresses(slice: &Value) -> impl Iterator<Item = &str> {
    let endpoints = slice.get("endpoints").and_then(Value::as_array).into_iter().flatten();
    let ready = |e: &&Value| e.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
    endpoints.filter(ready).filter_map(|e| e.pointer("/addresses/0")?.as_str())
}

fn service_port_name(id: &Id, service: &Value) -> Result<String, Status> {
    let Ok(number) = id.port.parse::<u64>() else { return Ok(id.port.clone()) };
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    let found = ports.into_iter().find(|p| p.get("port").and_then(Value::as_u64) == Some(number));
    let port = found.ok_or_else(|| {
        Status::service_unavailable(format!("no service port {number} found for service {:?}", id.name))
    })?;
    Ok(port.get("name").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// A node's kubelet, or any other port of the node.
pub fn of_node(id: &Id, kubelet: &Kubelet) -> Result<Place, Status> {
    if id.port.is_empty() || id.port == kubelet.port.to_string() {
        return Ok(Place { scheme: "https".into(), authority: kubelet.authority(), trust: Trust::Kubelet });
    }
    if kubelet.host.parse::<IpAddr>().is_ok() {
        check_ip(&kubelet.host)?;
    }
    let authority = authority(&kubelet.host, Some(&id.port));
    Ok(Place { scheme: id.scheme().into(), authority, trust: Trust::Anyone })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn info() -> RequestInfo {
        RequestInfo { namespace: "ns".into(), name: "p".into(), ..Default::default() }
    }

    fn host() -> Kubelet {
        Kubelet { host: "10.0.0.1".into(), port: 10250 }
    }

    #[test]
    fn kubelets_are_found_by_preferred_address() {
        let node = json!({ "status": {
            "addresses": [
                { "type": "Hostname", "address": "n1" },
                { "type": "InternalIP", "address": "fd00::1" },
            ],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": 10260 } },
        } });
        let types = |t: &[&str]| t.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let k = kubelet(&node, &types(&["ExternalIP", "InternalIP", "Hostname"])).unwrap();
        assert_eq!(k.authority(), "[fd00::1]:10260");
        assert!(
            kubelet(&node, &types(&["ExternalIP"]))
                .unwrap_err()
                .message
                .starts_with("no preferred addresses")
        );
    }

    #[test]
    fn containers() {
        let pod = |plain: &[&str], init: &[&str]| {
            let named = |names: &[&str]| names.iter().map(|n| json!({ "name": n })).collect::<Vec<_>>();
            json!({ "metadata": { "name": "p" }, "spec": { "containers": named(plain), "initContainers": named(init) } })
        };
        let check = |pod: &Value, asked: &str, want: Result<&str, &str>| {
            let got = container(pod, asked).map_err(|s| s.message);
            assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned));
        };
        check(&pod(&["a"], &["i"]), "", Ok("a"));
        check(&pod(&["a"], &["i"]), "i", Ok("i"));
        check(&pod(&["a"], &[]), "x", Err("container x is not valid for pod p"));
        check(
            &pod(&["a", "b"], &[]),
            "",
            Err("a container name must be specified for pod p, choose one of: [a b]"),
        );
        check(
            &pod(&["a", "b"], &["i"]),
            "",
            Err(
                "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
            ),
        );
    }

    #[test]
    fn kubelet_uris() {
        let q =
            Query::parse("command=sh&command=-c&command=a+%26b&stdin=true&stdout=1&stderr=false&tty=true");
        assert_eq!(
            stream_uri(&host(), "exec", &info(), "c", &q).unwrap(),
            "https://10.0.0.1:10250/exec/ns/p/c?input=1&output=1&tty=1&command=sh&command=-c&command=a%20%26b"
        );
        let q =
            Query::parse("follow=true&tailLines=5&container=c&sinceTime=2026-01-01T00%3A00%3A00Z&pretty=1");
        assert_eq!(
            log_uri(&host(), &info(), "c", &q).unwrap(),
            "https://10.0.0.1:10250/containerLogs/ns/p/c?follow=true&sinceTime=2026-01-01T00%3A00%3A00Z&tailLines=5"
        );
        let q = Query::parse("ports=80&ports=443");
        assert_eq!(
            port_forward_uri(&host(), &info(), &q).unwrap(),
            "https://10.0.0.1:10250/portForward/ns/p?port=80%2C443"
        );
    }

    #[test]
    fn log_options() {
        for (query, good) in [
            ("tailLines=0&limitBytes=1&sinceSeconds=1", true),
            ("tailLines=-1", false),
            ("limitBytes=0", false),
            ("sinceSeconds=0", false),
            ("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", false),
            ("stream=Stdout", true),
            ("stream=both", false),
            ("stream=Stdout&tailLines=1", false),
        ] {
            assert_eq!(check_log_options(&Query::parse(query), "p").is_ok(), good, "{query}");
        }
    }

    #[test]
    fn ids() {
        let id = |t: &str| Id::parse(t, "pod").map(|i| (i.scheme, i.name, i.port)).ok();
        let own = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(id("p"), own("", "p", ""));
        assert_eq!(id("p:80"), own("", "p", "80"));
        assert_eq!(id("https:p:"), own("https", "p", ""));
        assert_eq!(id("https:p:web"), own("https", "p", "web"));
        assert_eq!(id("ftp:p:1"), None);
        assert_eq!(id(""), None);
        assert_eq!(Id::parse("a:b:c:d", "pod").unwrap_err().message, "invalid pod request \"a:b:c:d\"");
    }

    #[test]
    fn places() {
        let id = |t: &str| Id::parse(t, "x").unwrap();
        let pod = json!({
            "spec": { "containers": [{}, { "ports": [{ "containerPort": 8080 }] }] },
            "status": { "podIP": "10.244.0.5" },
        });
        let at = |p: Result<Place, Status>| {
            p.map(|p| format!("{}://{}", p.scheme, p.authority)).map_err(|s| s.message)
        };
        assert_eq!(at(of_pod(&id("p"), &pod)), Ok("http://10.244.0.5:8080".into()));
        assert_eq!(at(of_pod(&id("https:p:1"), &pod)), Ok("https://10.244.0.5:1".into()));
        let local = json!({ "status": { "podIP": "127.0.0.1" } });
        assert_eq!(at(of_pod(&id("p"), &local)), Err("address not allowed".into()));
        let service = json!({ "spec": { "ports": [{ "name": "web", "port": 80 }] } });
        let slices = [json!({
            "ports": [{ "name": "web", "port": 8080 }],
            "endpoints": [
                { "addresses": ["10.244.0.7"], "conditions": { "ready": false } },
                { "addresses": ["10.244.0.8"] },
            ],
        })];
        for name in ["s:80", "s:web"] {
            assert_eq!(at(of_service(&id(name), &service, &slices, 7)), Ok("http://10.244.0.8:8080".into()));
        }
        assert_eq!(
            at(of_service(&id("s:81"), &service, &slices, 0)),
            Err("no service port 81 found for service \"s\"".into())
        );
        assert_eq!(
            at(of_service(&id("s:web"), &service, &[], 0)),
            Err("no endpoints available for service \"s\"".into())
        );
        assert_eq!(at(of_node(&id("n"), &host())), Ok("https://10.0.0.1:10250".into()));
        assert_eq!(at(of_node(&id("http:n:9100"), &host())), Ok("http://10.0.0.1:9100".into()));
    }

    #[test]
    fn prefixes() {
        let node = RequestInfo::default();
        assert_eq!(proxy_prefix("/api/v1/nodes/n/proxy/stats/summary", &node), "/api/v1/nodes/n/proxy");
        assert_eq!(proxy_prefix("/api/v1/nodes/n/proxy", &node), "/api/v1/nodes/n/proxy");
        let path = "/api/v1/namespaces/ns/services/https:s:web/proxy/a//b/";
        assert_eq!(proxy_prefix(path, &info()), "/api/v1/namespaces/ns/services/https:s:web/proxy");
    }
}
