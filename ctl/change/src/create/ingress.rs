//! Generator of ingresses, from rules written on one line each.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

/// `create ingress NAME --rule=host/path=service:port[,tls[=secret]]`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Ingress {
    /// Annotation to insert in the ingress object, in the format annotation=value.
    #[arg(long)]
    pub annotation: Vec<String>,
    /// Ingress Class to be used.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub class: String,
    /// Default service for backend, in format of svcname:port.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub default_backend: String,
    /// Rule in format host/path=service:port[,tls[=secretname]]. A path that ends with '*' is a prefix.
    #[arg(long)]
    pub rule: Vec<String>,
}

impl Ingress {
    /// The object.
    pub fn build(&self, name: &str, namespace: Option<&str>) -> Result<Value> {
        self.check()?;
        let mut metadata = Map::from_iter([("name".to_string(), json!(name))]);
        metadata.extend(namespace.map(|n| ("namespace".to_string(), json!(n))));
        let annotations = self.annotations();
        if !annotations.is_empty() {
            metadata.insert("annotations".into(), Value::Object(annotations));
        }
        let parsed: Vec<Rule<'_>> = self.rule.iter().filter_map(|text| Rule::parse(text)).collect();
        Ok(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": metadata,
            "spec": self.spec(&parsed),
        }))
    }

    fn check(&self) -> Result<()> {
        if self.default_backend.is_empty() && self.rule.is_empty() {
            bail!(
                "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)"
            );
        }
        if let Some(bad) = self.rule.iter().find(|text| Rule::parse(text).is_none()) {
            bail!("rule {bad} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]");
        }
        if let Some(bad) = self.annotation.iter().find(|text| !text.contains('=')) {
            bail!("annotation {bad} is invalid and should be in format key=[value]");
        }
        if !self.default_backend.is_empty() && self.default_backend.split(':').count() != 2 {
            bail!("default-backend should be in format servicename:serviceport");
        }
        Ok(())
    }

    fn annotations(&self) -> Map<String, Value> {
        let pairs = self.annotation.iter().filter_map(|text| text.split_once('='));
        pairs.map(|(key, value)| (key.to_string(), json!(value))).collect()
    }

    fn spec(&self, rules: &[Rule<'_>]) -> Value {
        let mut spec = Map::new();
        if !self.class.is_empty() {
            spec.insert("ingressClassName".into(), json!(self.class));
        }
        if let Some((service, port)) = self.default_backend.split_once(':') {
            spec.insert("defaultBackend".into(), backend(service, port));
        }
        let (hosts, tls) = (hosts(rules), tls(rules));
        if !hosts.is_empty() {
            spec.insert("rules".into(), Value::Array(hosts));
        }
        if !tls.is_empty() {
            spec.insert("tls".into(), Value::Array(tls));
        }
        Value::Object(spec)
    }
}

/// One rule's parts.
struct Rule<'a> {
    host: &'a str,
    path: &'a str,
    service: &'a str,
    port: &'a str,
    /// Some when TLS is wanted; empty without a secret's name.
    secret: Option<&'a str>,
}

impl<'a> Rule<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (front, tls) = text.split_once(',').map_or((text, None), |(front, tls)| (front, Some(tls)));
        let (place, target) = front.split_once('=')?;
        let slash = place.find('/')?;
        let (host, path) = place.split_at(slash);
        let (service, port) = target.split_once(':')?;
        let secret = match tls {
            None => None,
            Some("tls") => Some(""),
            Some(tls) => Some(tls.strip_prefix("tls=")?),
        };
        let fits = !service.is_empty() && !port.is_empty() && !port.contains([':', '=', '/']);
        fits.then_some(Self { host, path, service, port, secret })
    }

    fn path(&self) -> Value {
        let (path, kind) = match self.path.strip_suffix('*') {
            Some(prefix) => (prefix, "Prefix"),
            None => (self.path, "Exact"),
        };
        json!({"path": path, "pathType": kind, "backend": backend(self.service, self.port)})
    }
}

fn backend(service: &str, port: &str) -> Value {
    let port = port.parse::<i32>().map_or_else(|_| json!({"name": port}), |n| json!({"number": n}));
    json!({"service": {"name": service, "port": port}})
}

/// Rules of one host become one rule with several paths, in the order in which hosts appear.
fn hosts(rules: &[Rule<'_>]) -> Vec<Value> {
    let mut out: Vec<(&str, Vec<Value>)> = Vec::new();
    for rule in rules {
        match out.iter_mut().find(|(host, _)| *host == rule.host) {
            Some((_, paths)) => paths.push(rule.path()),
            None => out.push((rule.host, vec![rule.path()])),
        }
    }
    let value = |(host, paths): (&str, Vec<Value>)| match host {
        "" => json!({"http": {"paths": paths}}),
        host => json!({"host": host, "http": {"paths": paths}}),
    };
    out.into_iter().map(value).collect()
}

/// Hosts that share a secret stand together.
fn tls(rules: &[Rule<'_>]) -> Vec<Value> {
    let mut out: Vec<(&str, Vec<&str>)> = Vec::new();
    for (rule, secret) in rules.iter().filter_map(|rule| rule.secret.map(|secret| (rule, secret))) {
        let at = out.iter().position(|(known, _)| *known == secret).unwrap_or_else(|| {
            out.push((secret, Vec::new()));
            out.len() - 1
        });
        if !rule.host.is_empty() && !out[at].1.contains(&rule.host) {
            out[at].1.push(rule.host);
        }
    }
    let value = |(secret, hosts): (&str, Vec<&str>)| {
        let mut entry = Map::new();
        if !hosts.is_empty() {
            entry.insert("hosts".into(), json!(hosts));
        }
        if !secret.is_empty() {
            entry.insert("secretName".into(), json!(secret));
        }
        Value::Object(entry)
    };
    out.into_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let flags = Ingress {
            rule: vec!["h/a*=s:80,tls=sec".into(), "h/b=s:http".into(), "/=t:1,tls".into()],
            ..Ingress::default()
        };
        let spec = flags.build("i", None).expect("builds")["spec"].clone();
        let s = |port: Value| json!({"service": {"name": "s", "port": port}});
        assert_eq!(
            spec["rules"][0],
            json!({"host": "h", "http": {"paths": [
                {"path": "/a", "pathType": "Prefix", "backend": s(json!({"number": 80}))},
                {"path": "/b", "pathType": "Exact", "backend": s(json!({"name": "http"}))},
            ]}})
        );
        assert_eq!(spec["tls"], json!([{"hosts": ["h"], "secretName": "sec"}, {}]));
    }

    #[test]
    fn refusals() {
        for bad in ["x", "a/=x", "a=b:1", "a/=:1", "a/=b:1,ssl"] {
            let flags = Ingress { rule: vec![bad.into()], ..Ingress::default() };
            assert!(flags.build("i", None).is_err(), "{bad}");
        }
        assert!(Ingress::default().build("i", None).is_err());
    }
}
