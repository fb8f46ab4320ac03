//! The units every node has: balancer, kubelet, proxy, network agent; and their files.

use coxctl_config::{Arg, NodeRegistration};
use coxctl_machine::Daemon;
use serde_json::{Value, json};

use super::{Args, BALANCER, KUBELET, NETWORK, PROXY, daemon};
use crate::paths;

/// The local balancer.
pub fn balancer() -> Daemon {
    let args = Args::default().set("config", paths::BALANCER_CONFIG).list();
    daemon(BALANCER, BALANCER, args, &[], &[])
}

/// What the balancer knows before it has learned anything; `prefer` is this machine's own API server, or empty.
pub fn balancer_config(prefer: &str, servers: &[String], ca_file: &str) -> Value {
    json!({
        "listen": "127.0.0.1:6444", "prefer": prefer, "servers": servers,
        "kubeconfig": paths::KUBELET_CONF, "caFile": ca_file,
    })
}

/// The kubelet. Its flags of this machine are in kubeadm-flags.env, which every service manager reads.
pub fn kubelet() -> Daemon {
    let args = Args::default()
        .set("bootstrap-kubeconfig", paths::BOOTSTRAP_CONF)
        .set("kubeconfig", paths::KUBELET_CONF)
        .set("config", paths::KUBELET_CONFIG);
    daemon(KUBELET, KUBELET, args.list(), &[], &[BALANCER])
}

/// The kubelet's flags in kubeadm-flags.env: the name when it isn't the machine's, the taints, the user's.
pub fn kubelet_flags(registration: &NodeRegistration, hostname: &str, taints: &[Value]) -> Vec<String> {
    let mut args = Args::default();
    if registration.name != hostname {
        args = args.set("hostname-override", &registration.name);
    }
    if !taints.is_empty() {
        let all: Vec<String> = taints.iter().map(taint).collect();
        args = args.set("register-with-taints", all.join(","));
    }
    args.with(&registration.kubelet_extra_args).list()
}

/// `key=value:Effect`, as flags want it.
fn taint(taint: &Value) -> String {
    let text = |k: &str| taint[k].as_str().unwrap_or_default();
    format!("{}={}:{}", text("key"), text("value"), text("effect"))
}

/// The line of kubeadm-flags.env.
pub fn flags_line(flags: &[String]) -> String {
    format!("KUBELET_KUBEADM_ARGS=\"{}\"\n", flags.join(" "))
}

/// The service proxy.
pub fn proxy(node: &str) -> Daemon {
    let args = Args::default().set("config", paths::PROXY_CONFIG).set("hostname-override", node).list();
    daemon(PROXY, PROXY, args, &[], &[BALANCER])
}

/// The network agent, with further arguments from the cluster's ConfigMap.
pub fn network(node: &str, pod_subnet: &str, extra: &[Arg]) -> Daemon {
    let args = Args::default()
        .set("kubeconfig", paths::NETWORK_CONF)
        .set("node-name", node)
        .set("cluster-cidr", pod_subnet)
        .with(extra);
    daemon(NETWORK, NETWORK, args.list(), &[], &[BALANCER])
}

/// The kubeconfig of a daemon that shows the kubelet's certificate and goes through the local balancer.
pub fn agent_kubeconfig(user: &str, ca_pem: &str) -> Value {
    let credentials =
        json!({"client-certificate": paths::KUBELET_CLIENT, "client-key": paths::KUBELET_CLIENT});
    behind_balancer(user, ca_pem, credentials)
}

/// A kubeconfig whose server is the local balancer.
pub fn behind_balancer(user: &str, ca_pem: &str, credentials: Value) -> Value {
    use crate::api::objects::{Ca, kubeconfig};
    kubeconfig(paths::BALANCER_URL, Some(paths::BALANCER_SERVER_NAME), &Ca::Pem(ca_pem), user, credentials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::objects::control_plane_taint;

    #[test]
    fn the_flags_file_holds_what_is_true_of_the_machine() {
        let mut registration = NodeRegistration { name: "a".into(), ..NodeRegistration::default() };
        assert!(kubelet_flags(&registration, "a", &[]).is_empty());
        registration.kubelet_extra_args = vec![Arg { name: "v".into(), value: "4".into() }];
        let flags = kubelet_flags(&registration, "b", &[control_plane_taint()]);
        let taint = "--register-with-taints=node-role.kubernetes.io/control-plane=:NoSchedule";
        assert_eq!(flags, ["--hostname-override=a", taint, "--v=4"]);
        assert_eq!(
            flags_line(&flags),
            format!("KUBELET_KUBEADM_ARGS=\"--hostname-override=a {taint} --v=4\"\n")
        );
    }
}
