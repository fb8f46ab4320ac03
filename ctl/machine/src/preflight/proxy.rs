//! Whether a connection would go through an HTTP proxy, by the environment, as Go programs decide it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// The proxy an https connection to `host` would take, if any.
pub fn for_https(host: &str, env: &BTreeMap<String, String>) -> Option<String> {
    let get = |name: &str| {
        let value = env.get(name).or_else(|| env.get(&name.to_lowercase()))?;
        (!value.is_empty()).then(|| value.clone())
    };
    let proxy = get("HTTPS_PROXY")?;
    let except = get("NO_PROXY").unwrap_or_default();
    let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let local = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
    let named = except.split(',').map(str::trim).any(|rule| matches(rule, host, ip));
    (!local && !named).then_some(proxy)
}

fn matches(rule: &str, host: &str, ip: Option<IpAddr>) -> bool {
    let rule = rule.to_lowercase();
    if rule == "*" {
        return true;
    }
    if let (Some(ip), Ok(net)) = (ip, rule.parse::<IpNet>()) {
        return net.contains(&ip);
    }
    if let Some(ip) = ip {
        return rule.parse::<IpAddr>().is_ok_and(|r| r == ip);
    }
    let host = host.to_lowercase();
    match rule.trim_start_matches('*').strip_prefix('.') {
        Some(domain) => host.ends_with(&format!(".{domain}")),
        None => !rule.is_empty() && (host == rule || host.ends_with(&format!(".{rule}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions() {
        let env = |no: &str| {
            BTreeMap::from([
                ("https_proxy".to_string(), "http://p:3128".to_string()),
                ("NO_PROXY".into(), no.into()),
            ])
        };
        let cases = [
            ("10.0.0.1", "", true),
            ("10.0.0.1", "10.0.0.0/8", false),
            ("10.0.0.1", "10.0.0.1", false),
            ("10.0.0.1", "10.0.0.2,11.0.0.0/8", true),
            ("127.0.0.1", "", false),
            ("localhost", "", false),
            ("api.example.com", "example.com", false),
            ("api.example.com", ".example.com", false),
            ("example.com", ".example.com", true),
            ("badexample.com", "example.com", true),
            ("anything", "a, *", false),
        ];
        for (host, no, want) in cases {
            assert_eq!(for_https(host, &env(no)).is_some(), want, "{host} {no}");
        }
        assert_eq!(for_https("10.0.0.1", &BTreeMap::new()), None);
    }
}
