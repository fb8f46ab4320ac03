//! Host names, the hosts file and the resolver configuration of a pod. Pure.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// A resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// name servers
    pub servers: Vec<String>,
    /// search domains
    pub searches: Vec<String>,
    /// options, `name` or `name:value`
    pub options: Vec<String>,
}

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// Reads resolv.conf's text.
pub fn parse_resolv_conf(text: &str) -> Resolver {
    let mut out = Resolver::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => {
                out.searches =
                    words.filter(|w| *w != ".").map(|w| w.trim_end_matches('.').to_owned()).collect();
            }
            Some("options") => out.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    out
}

/// The pod's resolver, and a warning for the event DNSConfigForming or MissingClusterDNS if there is one.
pub fn resolver(
    pod: &Pod,
    host: &Resolver,
    cluster_dns: &[String],
    domain: &str,
) -> (Resolver, Option<(&'static str, String)>) {
    let Some(spec) = &pod.spec else { return Default::default() };
    let host_network = spec.host_network == Some(true);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut warning = None;
    let mut out = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Resolver::default(),
        "ClusterFirst" if host_network => host.clone(),
        "ClusterFirst" | "ClusterFirstWithHostNet" if cluster_dns.is_empty() => {
            warning = Some(("MissingClusterDNS", missing_text(pod)));
            host.clone()
        }
        "ClusterFirst" | "ClusterFirstWithHostNet" => cluster_first(namespace, host, cluster_dns, domain),
        _ => host.clone(),
    };
    append_config(spec, &mut out);
    let cut = limit(&mut out);
    (out, warning.or(cut.map(|text| ("DNSConfigForming", text))))
}

fn missing_text(pod: &Pod) -> String {
    let policy = pod.spec.as_ref().and_then(|s| s.dns_policy.clone()).unwrap_or_default();
    format!(
        "pod: \"{}\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \"{policy}\" policy. Falling back to \"Default\" policy.",
        full_name(pod)
    )
}

/// `name_ns(uid)`, as upstream writes pods in messages.
pub fn full_name(pod: &Pod) -> String {
    let m = &pod.metadata;
    let part = |o: &Option<String>| o.clone().unwrap_or_default();
    format!("{}_{}({})", part(&m.name), part(&m.namespace), part(&m.uid))
}

fn cluster_first(namespace: &str, host: &Resolver, cluster_dns: &[String], domain: &str) -> Resolver {
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    }
    searches.extend(host.searches.iter().cloned());
    Resolver { servers: cluster_dns.to_vec(), searches: unique(searches), options: vec!["ndots:5".into()] }
}

fn append_config(spec: &PodSpec, out: &mut Resolver) {
    let Some(config) = &spec.dns_config else { return };
    out.servers.extend(config.nameservers.iter().flatten().cloned());
    out.servers = unique(std::mem::take(&mut out.servers));
    out.searches.extend(config.searches.iter().flatten().cloned());
    out.searches = unique(std::mem::take(&mut out.searches));
    for option in config.options.iter().flatten() {
        let Some(name) = option.name.as_deref() else { continue };
        out.options.retain(|o| o.split(':').next() != Some(name));
        out.options.push(match option.value.as_deref() {
            Some(v) if !v.is_empty() => format!("{name}:{v}"),
            _ => name.to_owned(),
        });
    }
}

fn unique(list: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    list.into_iter().filter(|x| seen.insert(x.clone())).collect()
}

fn limit(out: &mut Resolver) -> Option<String> {
    if out.servers.len() > MAX_SERVERS {
        out.servers.truncate(MAX_SERVERS);
        return Some(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            out.servers.join(" ")
        ));
    }
    let before = out.searches.len();
    out.searches.truncate(MAX_SEARCHES);
    while out.searches.join(" ").len() > MAX_SEARCH_CHARS {
        out.searches.pop();
    }
    (out.searches.len() < before).then(|| {
        format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            out.searches.join(" ")
        )
    })
}

/// Host name and domain of a pod: (hostname, domain), either may be empty.
pub fn hostname_and_domain(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let Some(spec) = &pod.spec else { return Default::default() };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    if let Some(name) = spec.hostname_override.as_deref().filter(|h| !h.is_empty()) {
        return (truncate(name), String::new());
    }
    let own = spec.hostname.as_deref().filter(|h| !h.is_empty());
    let name = truncate(own.or(pod.metadata.name.as_deref()).unwrap_or_default());
    let subdomain = spec.subdomain.as_deref().filter(|s| !s.is_empty());
    let domain = subdomain.map(|s| format!("{s}.{namespace}.svc.{cluster_domain}")).unwrap_or_default();
    (name, domain)
}

fn truncate(name: &str) -> String {
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

/// The host name the sandbox gets: the FQDN when the pod asks for it.
pub fn sandbox_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (name, domain) = hostname_and_domain(pod, cluster_domain);
    let fqdn = pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn) == Some(true) && !domain.is_empty();
    if !fqdn {
        return Ok(name);
    }
    let full = format!("{name}.{domain}");
    if full.len() > 64 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

/// Text of the managed hosts file of a pod with its own network.
pub fn hosts_file(pod: &Pod, ips: &[String], cluster_domain: &str) -> String {
    let mut out = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let (host, domain) = hostname_and_domain(pod, cluster_domain);
    for ip in ips {
        match domain.as_str() {
            "" => out.push_str(&format!("{ip}\t{host}\n")),
            d => out.push_str(&format!("{ip}\t{host}.{d}\t{host}\n")),
        }
    }
    out.push_str(&aliases(pod));
    out
}

/// Text of the hosts file of a host-network pod: the node's own with the aliases.
pub fn host_network_hosts_file(pod: &Pod, node_file: &str) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{node_file}{}", aliases(pod))
}

fn aliases(pod: &Pod) -> String {
    let list = pod.spec.as_ref().and_then(|s| s.host_aliases.as_ref());
    let mut out = String::new();
    for alias in list.into_iter().flatten() {
        if out.is_empty() {
            out.push_str("\n# Entries added by HostAliases.\n");
        }
        out.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Pod {
        serde_yaml::from_str(&format!("metadata: {{name: web-0, namespace: n, uid: u}}\nspec: {spec}"))
            .unwrap()
    }

    #[test]
    fn policies() {
        let host = parse_resolv_conf("nameserver 1.1.1.1 # x\nsearch corp. .\noptions edns0\n");
        let dns = vec!["10.96.0.10".to_owned()];
        let show = |spec: &str| {
            let (r, w) = resolver(&pod(spec), &host, &dns, "cluster.local");
            format!(
                "{} | {} | {} | {}",
                r.servers.join(" "),
                r.searches.join(" "),
                r.options.join(" "),
                w.map_or("", |w| w.0)
            )
        };
        for (spec, want) in [
            (
                "{containers: []}",
                "10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local corp | ndots:5 | ",
            ),
            ("{containers: [], dnsPolicy: Default}", "1.1.1.1 | corp | edns0 | "),
            ("{containers: [], hostNetwork: true}", "1.1.1.1 | corp | edns0 | "),
            (
                "{containers: [], dnsPolicy: None, dnsConfig: {nameservers: [9.9.9.9], searches: [a.b], options: [{name: ndots, value: '2'}]}}",
                "9.9.9.9 | a.b | ndots:2 | ",
            ),
            (
                "{containers: [], dnsConfig: {options: [{name: ndots, value: '1'}]}}",
                "10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local corp | ndots:1 | ",
            ),
            (
                "{containers: [], dnsPolicy: None, dnsConfig: {nameservers: [a, b, c, d]}}",
                "a b c |  |  | DNSConfigForming",
            ),
        ] {
            assert_eq!(show(spec), want, "{spec}");
        }
        let (r, w) = resolver(&pod("{containers: []}"), &host, &[], "cluster.local");
        assert_eq!((r, w.map(|w| w.0)), (host, Some("MissingClusterDNS")));
    }

    #[test]
    fn names_and_hosts() {
        assert_eq!(hostname_and_domain(&pod("{containers: []}"), "c.l"), ("web-0".into(), String::new()));
        let p = pod(
            "{containers: [], hostname: h, subdomain: s, setHostnameAsFQDN: true, hostAliases: [{ip: 1.2.3.4, hostnames: [a, b]}]}",
        );
        assert_eq!(sandbox_hostname(&p, "c.l").as_deref(), Ok("h.s.n.svc.c.l"));
        let text = hosts_file(&p, &["10.0.0.1".into()], "c.l");
        assert!(text.contains("10.0.0.1\th.s.n.svc.c.l\th\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
