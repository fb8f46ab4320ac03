//! Generators of services.

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

/// Flags of `create service TYPE NAME`.
#[derive(clap::Args, Clone, Debug)]
pub struct Ports {
    /// Port pairs can be specified as '<port>:<targetPort>'.
    #[arg(long, value_delimiter = ',')]
    pub tcp: Vec<String>,
}

/// What kind of service is made.
#[derive(Clone, Debug)]
pub enum Flavour<'a> {
    /// Reachable in the cluster; `None` makes it headless.
    ClusterIp(&'a str),
    /// Reachable on every node; 0 leaves the port to the server.
    NodePort(i64),
    /// Reachable through a load balancer.
    LoadBalancer,
    /// Another name for a host outside.
    ExternalName(&'a str),
}

/// The Service object.
pub fn build(name: &str, ports: &Ports, flavour: &Flavour<'_>) -> Result<Value> {
    let optional = matches!(flavour, Flavour::ExternalName(_) | Flavour::ClusterIp("None"));
    if ports.tcp.is_empty() && !optional {
        bail!("at least one tcp port specifier must be provided");
    }
    let mut listed = ports.tcp.iter().map(|t| port(t)).collect::<Result<Vec<Value>>>()?;
    let mut spec = json!({"selector": {"app": name}});
    match flavour {
        Flavour::ClusterIp(ip) => {
            spec["type"] = json!("ClusterIP");
            if !ip.is_empty() {
                spec["clusterIP"] = json!(ip);
            }
        }
        Flavour::NodePort(number) => {
            spec["type"] = json!("NodePort");
            if *number != 0 {
                listed.iter_mut().for_each(|p| p["nodePort"] = json!(number));
            }
        }
        Flavour::LoadBalancer => spec["type"] = json!("LoadBalancer"),
        Flavour::ExternalName(host) => {
            spec["type"] = json!("ExternalName");
            spec["externalName"] = json!(host);
        }
    }
    if !listed.is_empty() {
        spec["ports"] = Value::Array(listed);
    }
    let metadata = json!({"name": name, "labels": {"app": name}});
    Ok(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}))
}

/// `PORT` or `PORT:TARGET`, where the target is a number or the name of a container's port.
fn port(text: &str) -> Result<Value> {
    let mut parts = text.split(':');
    let (number, target) = (parts.next().unwrap_or_default(), parts.next());
    let port = parse_port(number)?;
    let target = match target {
        None => json!(port),
        Some(target) => match target.parse::<i64>() {
            Ok(number) => match machinery::names::is_port_number(number) {
                errors if errors.is_empty() => json!(number),
                errors => bail!("{}", errors.join(",")),
            },
            Err(_) => match machinery::names::is_port_name(target) {
                errors if errors.is_empty() => json!(target),
                errors => bail!("{}", errors.join(",")),
            },
        },
    };
    Ok(json!({"name": text.replace(':', "-"), "port": port, "protocol": "TCP", "targetPort": target}))
}

/// A port number; 0 is let through, for the server decides about it.
fn parse_port(text: &str) -> Result<u16> {
    match text.parse::<i64>() {
        Ok(number) => u16::try_from(number)
            .map_err(|_| anyhow!("strconv.ParseUint: parsing \"{text}\": value out of range")),
        Err(_) => bail!("strconv.ParseUint: parsing \"{text}\": invalid syntax"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(tcp: &[&str], flavour: Flavour<'_>) -> Result<Value> {
        build("s", &Ports { tcp: tcp.iter().map(|t| (*t).to_string()).collect() }, &flavour)
    }

    #[test]
    fn flavours() {
        let ports = json!([{"name": "80-http", "port": 80, "protocol": "TCP", "targetPort": "http"}]);
        let made_one = made(&["80:http"], Flavour::ClusterIp("")).expect("builds");
        assert_eq!(made_one["spec"], json!({"type": "ClusterIP", "selector": {"app": "s"}, "ports": ports}));
        let node = made(&["80"], Flavour::NodePort(30080)).expect("builds");
        assert_eq!(node["spec"]["ports"][0]["nodePort"], json!(30080));
        assert_eq!(node["spec"]["ports"][0]["targetPort"], json!(80));
        let headless = made(&[], Flavour::ClusterIp("None")).expect("builds");
        assert_eq!(headless["spec"]["clusterIP"], json!("None"));
        let other = made(&[], Flavour::ExternalName("x.y")).expect("builds");
        assert_eq!(other["spec"]["externalName"], json!("x.y"));
    }

    #[test]
    fn refusals() {
        assert!(made(&[], Flavour::LoadBalancer).is_err());
        for bad in ["x", "80:70000", "80:-", "70000", ":80"] {
            assert!(made(&[bad], Flavour::ClusterIp("")).is_err(), "{bad}");
        }
    }
}
