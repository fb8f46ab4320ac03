//! The kubelet's and kube-proxy's documents, which travel along with the cluster's.

use serde_json::{Map, Value, json};

use crate::{ApiEndpoint, ClusterConfiguration, Facts, KUBERNETES_DIR, Warning, service_address};

/// Fills in the KubeletConfiguration of the cluster, but for what each machine knows for itself ([`kubelet_instance`]). Values of the file stay, but for rotateCertificates, which is forced;
/// returned are those that differ from what fits the cluster.
pub fn default_kubelet(kubelet: &mut Value, cluster: &ClusterConfiguration) -> Vec<Warning> {
    let ca = format!("{}/ca.crt", cluster.certificates_dir);
    let dns: Vec<String> = service_address(cluster, 10).iter().map(ToString::to_string).collect();
    let wanted = json!({
        "clusterDNS": dns,
        "clusterDomain": cluster.networking.dns_domain,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": ca},
        },
        "authorization": {"mode": "Webhook"},
        "readOnlyPort": 0,
    });
    let own = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "staticPodPath": format!("{KUBERNETES_DIR}/manifests"),
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        // The API server checks kubelets' certificates, so they are signed by the cluster.
        "serverTLSBootstrap": true,
    });
    let warnings = compare(kubelet, &wanted, "KubeletConfiguration", "");
    merge(kubelet, wanted);
    merge(kubelet, own);
    // A cluster of IPv6 first calls its kubelets so; the default is IPv4 alone.
    if service_address(cluster, 1).is_some_and(|ip| ip.is_ipv6()) {
        merge(kubelet, json!({"address": "::"}));
    }
    drop_key(kubelet, "readOnlyPort", &json!(0));
    kubelet["rotateCertificates"] = json!(true);
    warnings
}

/// What is true of one machine's kubelet alone: its runtime's socket, its cgroups, its resolver. All but the socket gives
/// way to what the cluster's document says.
pub fn kubelet_instance(cri_socket: &str, facts: &Facts) -> Value {
    let mut out = Map::new();
    out.insert("containerRuntimeEndpoint".into(), json!(cri_socket));
    out.insert("cgroupDriver".into(), json!(cgroup_driver(facts)));
    if facts.cgroup_v1 {
        out.insert("failCgroupV1".into(), json!(false));
    }
    if facts.systemd_resolved {
        out.insert("resolvConf".into(), json!("/run/systemd/resolve/resolv.conf"));
    }
    Value::Object(out)
}

fn cgroup_driver(facts: &Facts) -> &'static str {
    if facts.systemd_cgroups { "systemd" } else { "cgroupfs" }
}

/// Fills in the KubeProxyConfiguration of the cluster; returned are values that differ from what fits it.
pub fn default_proxy(proxy: &mut Value, cluster: &ClusterConfiguration, local: &ApiEndpoint) -> Vec<Warning> {
    let bind = if local.advertise_address.contains(':') { "::" } else { "0.0.0.0" };
    let mut wanted = json!({"bindAddress": bind});
    if !cluster.networking.pod_subnet.is_empty() {
        wanted["clusterCIDR"] = json!(cluster.networking.pod_subnet);
    }
    let own = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": format!("{KUBERNETES_DIR}/kube-proxy.conf")},
    });
    let warnings = compare(proxy, &wanted, "KubeProxyConfiguration", "");
    merge(proxy, wanted);
    merge(proxy, own);
    warnings
}

/// A line for each given value that is not the one that fits the cluster.
fn compare(given: &Value, wanted: &Value, kind: &str, path: &str) -> Vec<Warning> {
    let mut out = Vec::new();
    for (key, wanted) in wanted.as_object().into_iter().flatten() {
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match given.get(key) {
            None | Some(Value::Null) => {}
            Some(given) if wanted.is_object() => out.extend(compare(given, wanted, kind, &at)),
            Some(given) if given == wanted => {}
            Some(given) => out.push(Warning(format!(
                "The recommended value for {at:?} in {kind:?} is: {wanted}; the provided value is: {given}"
            ))),
        }
    }
    out
}

/// Puts every default in where nothing is given.
fn merge(into: &mut Value, defaults: Value) {
    match defaults {
        Value::Object(map) if into.is_object() || into.is_null() => {
            for (key, value) in map {
                merge(&mut into[key], value);
            }
        }
        value if into.is_null() => *into = value,
        _ => {}
    }
}

fn drop_key(object: &mut Value, key: &str, when: &Value) {
    if let Some(map) = object.as_object_mut()
        && map.get(key) == Some(when)
    {
        map.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_cluster;

    fn cluster() -> ClusterConfiguration {
        let mut cluster = ClusterConfiguration::default();
        default_cluster(&mut cluster);
        cluster
    }

    #[test]
    fn kubelets_get_what_fits_the_cluster() {
        let mut kubelet = Value::Null;
        assert_eq!(default_kubelet(&mut kubelet, &cluster()), []);
        assert_eq!(
            kubelet,
            json!({
                "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
                "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true},
                    "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"}},
                "authorization": {"mode": "Webhook"}, "clusterDNS": ["10.96.0.10"],
                "clusterDomain": "cluster.local", "healthzBindAddress": "127.0.0.1",
                "healthzPort": 10248, "rotateCertificates": true, "serverTLSBootstrap": true,
                "staticPodPath": "/etc/kubernetes/manifests",
            })
        );
    }

    #[test]
    fn kubelets_listen_where_the_cluster_calls() {
        let address = |services: &str| {
            let mut cluster = cluster();
            cluster.networking.service_subnet = services.into();
            let mut kubelet = Value::Null;
            default_kubelet(&mut kubelet, &cluster);
            kubelet.get("address").cloned()
        };
        assert_eq!(address("fd00::/112"), Some(json!("::")));
        assert_eq!(address("fd00::/112,10.96.0.0/16"), Some(json!("::")));
        assert_eq!(address("10.96.0.0/16,fd00::/112"), None);
    }

    #[test]
    fn what_the_file_says_stays_and_is_remarked_on() {
        let mut kubelet = json!({"clusterDNS": ["1.2.3.4"], "maxPods": 5, "rotateCertificates": false,
            "authentication": {"anonymous": {"enabled": true}}, "readOnlyPort": 10255, "serverTLSBootstrap": false});
        let warnings = default_kubelet(&mut kubelet, &cluster());
        let texts: Vec<&str> = warnings.iter().map(|w| w.0.as_str()).collect();
        assert_eq!(texts.len(), 3);
        assert!(texts.iter().any(|t| t.contains("\"clusterDNS\"") && t.contains("[\"1.2.3.4\"]")));
        assert!(texts.iter().any(|t| t.contains("\"authentication.anonymous.enabled\"")));
        assert!(texts.iter().any(|t| t.contains("\"readOnlyPort\"")));
        assert_eq!((&kubelet["maxPods"], &kubelet["rotateCertificates"]), (&json!(5), &json!(true)));
        assert_eq!(
            (&kubelet["readOnlyPort"], &kubelet["serverTLSBootstrap"]),
            (&json!(10255), &json!(false))
        );
        assert_eq!(kubelet["authentication"]["webhook"]["enabled"], json!(true));
    }

    #[test]
    fn one_machines_part() {
        let facts = Facts { systemd_cgroups: true, systemd_resolved: true, ..Facts::default() };
        assert_eq!(
            kubelet_instance("unix:///x", &facts),
            json!({"containerRuntimeEndpoint": "unix:///x", "cgroupDriver": "systemd",
                "resolvConf": "/run/systemd/resolve/resolv.conf"})
        );
    }

    #[test]
    fn proxies_bind_the_family_of_the_api_server() {
        for (address, bind) in [("10.0.0.1", "0.0.0.0"), ("fd00::1", "::")] {
            let mut proxy = Value::Null;
            let local = ApiEndpoint { advertise_address: address.into(), bind_port: 6443 };
            default_proxy(&mut proxy, &cluster(), &local);
            assert_eq!(
                (proxy["bindAddress"].as_str(), proxy["clusterCIDR"].as_str()),
                (Some(bind), Some("10.244.0.0/16"))
            );
        }
    }
}
