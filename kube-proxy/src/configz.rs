//! The configuration in force as `/configz` shows it: a KubeProxyConfiguration with all defaults filled in.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Config, DetectLocal};

/// The configuration under its group's name.
pub fn shown(c: &Config) -> Value {
    let (mode, bridge, prefix) = detection(&c.detect_local);
    let text = |list: &[ipnet::IpNet]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let addresses = match text(&c.node_port_nets) {
        nets if nets.is_empty() => vec!["primary".to_owned()],
        nets => nets,
    };
    let address = |a: &Option<std::net::SocketAddr>| a.map_or_else(String::new, |a| a.to_string());
    json!({"kubeproxy.config.k8s.io": {
        "featureGates": {},
        "clientConnection": {
            "kubeconfig": c.kubeconfig.as_ref().map_or_else(String::new, |p| p.display().to_string()),
            "acceptContentTypes": "", "contentType": "application/json", "qps": 0, "burst": 0,
        },
        "logging": {"format": "text", "flushFrequency": "5s", "verbosity": 0},
        "hostnameOverride": c.node_name,
        "bindAddress": c.bind_address.map_or_else(|| "0.0.0.0".to_owned(), |a| a.to_string()),
        "healthzBindAddress": address(&c.healthz),
        "metricsBindAddress": address(&c.metrics),
        "bindAddressHardFail": false,
        "enableProfiling": false,
        "showHiddenMetricsForVersion": "",
        "mode": "nftables",
        "nftables": {
            "masqueradeBit": c.masquerade_bit, "masqueradeAll": c.masquerade_all,
            "syncPeriod": "30s", "minSyncPeriod": "0s",
        },
        "detectLocalMode": mode,
        "detectLocal": {"bridgeInterface": bridge, "interfaceNamePrefix": prefix},
        "clusterCIDR": text(&c.cluster_cidrs).join(","),
        "nodePortAddresses": addresses,
        "oomScoreAdj": c.oom_score_adj,
        "conntrack": conntrack(c),
        "configSyncPeriod": "15m0s",
        "portRange": "",
        "windowsRunAsService": false,
    }})
}

fn detection(d: &DetectLocal) -> (&'static str, &str, &str) {
    match d {
        DetectLocal::ClusterCidr => ("ClusterCIDR", "", ""),
        DetectLocal::NodeCidr => ("NodeCIDR", "", ""),
        DetectLocal::BridgeInterface(name) => ("BridgeInterface", name, ""),
        DetectLocal::InterfaceNamePrefix(name) => ("InterfaceNamePrefix", "", name),
    }
}

fn conntrack(c: &Config) -> Value {
    let t = &c.conntrack;
    json!({
        "maxPerCore": t.max_per_core,
        "min": t.min,
        "tcpEstablishedTimeout": duration(t.tcp_established),
        "tcpCloseWaitTimeout": duration(t.tcp_close_wait),
        "tcpBeLiberal": t.tcp_be_liberal,
        "udpTimeout": duration(t.udp),
        "udpStreamTimeout": duration(t.udp_stream),
    })
}

/// Whole seconds in Go's way: `24h0m0s`, `5m0s`, `30s`.
fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{}s", s / 60, s % 60),
        _ => format!("{}h{}m{}s", s / 3600, s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    #[test]
    fn defaults_are_shown() {
        let args = ["kube-proxy", "--hostname-override=n", "--cluster-cidr=10.244.0.0/16"];
        let config = Config::from_flags(&Flags::read(args.map(String::from).to_vec())).unwrap();
        let value = &shown(&config)["kubeproxy.config.k8s.io"];
        assert_eq!(value["clusterCIDR"], "10.244.0.0/16");
        assert_eq!(value["nodePortAddresses"][0], "primary");
        assert_eq!(value["metricsBindAddress"], "127.0.0.1:10249");
        assert_eq!(value["conntrack"]["tcpEstablishedTimeout"], "24h0m0s");
    }

    #[test]
    fn durations() {
        let text: Vec<String> = [0, 59, 60, 900, 86400].map(|s| duration(Duration::from_secs(s))).to_vec();
        assert_eq!(text, ["0s", "59s", "1m0s", "15m0s", "24h0m0s"]);
    }
}
