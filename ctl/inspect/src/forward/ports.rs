//! The ports of the command line: numbers, names, ports of services.

use crate::dig;
use serde_json::Value;

/// A pair of ports; local 0 means any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub local: u16,
    pub remote: u16,
}

fn split(text: &str) -> (&str, &str) {
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [local, remote] => (local, remote),
        parts => (parts.first().copied().unwrap_or_default(), parts.first().copied().unwrap_or_default()),
    }
}

/// Ports with all names replaced by numbers: of the pod, reached through the object that was named.
pub fn resolve(wanted: &[String], object: &Value, pod: &Value) -> Result<Vec<String>, String> {
    let service = dig::text(object, "kind") == "Service";
    let of = if service { object } else { pod };
    wanted.iter().try_for_each(|text| refuse_udp(text, of, service))?;
    wanted
        .iter()
        .map(|text| if service { through_service(text, object, pod) } else { of_pod(text, pod) })
        .collect()
}

fn joined(local: &str, remote: &str, same: bool) -> String {
    if same { remote.into() } else { format!("{local}:{remote}") }
}

fn of_pod(text: &str, pod: &Value) -> Result<String, String> {
    let (local, remote) = split(text);
    if remote.is_empty() {
        return Err("remote port cannot be empty".into());
    }
    let number = match remote.parse::<i64>() {
        Ok(_) => remote.to_string(),
        Err(_) => container_port(pod, remote)?.to_string(),
    };
    Ok(joined(local, &number, local == remote))
}

fn through_service(text: &str, service: &Value, pod: &Value) -> Result<String, String> {
    let (mut local, remote) = (split(text).0.to_string(), split(text).1);
    let number = match remote.parse::<i64>() {
        Ok(number) => number,
        Err(_) => {
            let number = service_port(service, remote)?;
            if local == remote {
                local = number.to_string();
            }
            number
        }
    };
    let target = target_port(service, pod, number)?.to_string();
    Ok(joined(&local, &target, local == target))
}

/// The port of the pod behind a port of the service.
fn target_port(service: &Value, pod: &Value, number: i64) -> Result<i64, String> {
    let name = dig::text(service, "metadata.name");
    let port = dig::items(service, "spec.ports").iter().find(|port| dig::int(port, "port") == number);
    let port = port.ok_or_else(|| format!("Service {name} does not have a service port {number}"))?;
    if dig::text(service, "spec.clusterIP") == "None" {
        return Ok(number);
    }
    match &port["targetPort"] {
        Value::String(name) => container_port(pod, name),
        target => Ok(target.as_i64().filter(|target| *target != 0).unwrap_or(number)),
    }
}

fn service_port(service: &Value, wanted: &str) -> Result<i64, String> {
    let name = dig::text(service, "metadata.name");
    let port = dig::items(service, "spec.ports").iter().find(|port| dig::text(port, "name") == wanted);
    port.map(|port| dig::int(port, "port"))
        .ok_or_else(|| format!("Service '{name}' does not have a named port '{wanted}'"))
}

fn container_port(pod: &Value, wanted: &str) -> Result<i64, String> {
    let port = container_ports(pod).find(|port| dig::text(port, "name") == wanted);
    let name = dig::text(pod, "metadata.name");
    port.map(|port| dig::int(port, "containerPort"))
        .ok_or_else(|| format!("Pod '{name}' does not have a named port '{wanted}'"))
}

fn container_ports(pod: &Value) -> impl Iterator<Item = &Value> {
    let stays = |container: &&Value| dig::text(container, "restartPolicy") == "Always";
    let first = dig::items(pod, "spec.initContainers").iter().filter(stays);
    dig::items(pod, "spec.containers")
        .iter()
        .chain(first)
        .flat_map(|container| dig::items(container, "ports"))
}

/// Ports that are known to be for UDP alone can't be forwarded.
fn refuse_udp(text: &str, of: &Value, service: bool) -> Result<(), String> {
    let remote = split(text).1;
    let ports: Vec<&Value> =
        if service { dig::items(of, "spec.ports").iter().collect() } else { container_ports(of).collect() };
    let number_of = |port: &Value| dig::int(port, if service { "port" } else { "containerPort" });
    let number = match remote.parse::<i64>() {
        Ok(number) => number,
        Err(_) if remote.is_empty() => return Ok(()),
        Err(_) if service => service_port(of, remote)?,
        Err(_) => container_port(of, remote)?,
    };
    let has = |protocol: &str| {
        ports.iter().any(|port| number_of(port) == number && dig::text(port, "protocol") == protocol)
    };
    match has("UDP") && !has("TCP") {
        true => Err(format!("UDP protocol is not supported for {remote}")),
        false => Ok(()),
    }
}

/// Reads `LOCAL:REMOTE`, `:REMOTE`, `BOTH`.
pub fn parse(text: &str) -> Result<Pair, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (local, remote) = match parts.as_slice() {
        [both] => (*both, *both),
        ["", remote] => ("0", *remote),
        [local, remote] => (*local, *remote),
        _ => return Err(format!("invalid port format '{text}'")),
    };
    let local = number(local).map_err(|why| format!("error parsing local port '{local}': {why}"))?;
    let number = number(remote).map_err(|why| format!("error parsing remote port '{remote}': {why}"))?;
    match number {
        0 => Err("remote port must be > 0".into()),
        remote => Ok(Pair { local, remote }),
    }
}

fn number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let why = if digits { "value out of range" } else { "invalid syntax" };
        format!("strconv.ParseUint: parsing {text:?}: {why}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pairs() {
        for (text, wanted) in [
            ("80", Ok(Pair { local: 80, remote: 80 })),
            ("8080:80", Ok(Pair { local: 8080, remote: 80 })),
            (":80", Ok(Pair { local: 0, remote: 80 })),
            ("0", Err("remote port must be > 0")),
            (
                "99999",
                Err(
                    "error parsing local port '99999': strconv.ParseUint: parsing \"99999\": value out of range",
                ),
            ),
            ("1:x", Err("error parsing remote port 'x': strconv.ParseUint: parsing \"x\": invalid syntax")),
            ("1:2:3", Err("invalid port format '1:2:3'")),
        ] {
            assert_eq!(parse(text), wanted.map_err(str::to_string), "{text}");
        }
    }

    #[test]
    fn names_become_numbers() {
        let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]}});
        let service = json!({"kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]}});
        let of =
            |text: &str, object: &Value| resolve(&[text.to_string()], object, &pod).map(|list| list.concat());
        assert_eq!(of("http", &pod), Ok("8080".into()));
        assert_eq!(of("81:http", &pod), Ok("81:8080".into()));
        assert_eq!(of("dns", &pod), Err("UDP protocol is not supported for dns".into()));
        assert_eq!(of("no", &pod), Err("Pod 'p' does not have a named port 'no'".into()));
        assert_eq!(of("80", &service), Ok("80:8080".into()));
        assert_eq!(of("web", &service), Ok("80:8080".into()));
        assert_eq!(of("8080:80", &service), Ok("8080".into()));
        assert_eq!(of("81", &service), Err("Service s does not have a service port 81".into()));
    }
}
