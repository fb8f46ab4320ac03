//! The daemons of a node and their flags: kubeadm's, for units in place of static pods.

pub mod control_plane;
pub mod etcd;
pub mod node;

use std::collections::{BTreeMap, BTreeSet};

use coxctl_config::Arg;
use coxctl_machine::Daemon;
use serde_json::Value;

/// Unit name of etcd.
pub const ETCD: &str = "coxswain-etcd";
/// Unit name of the API server.
pub const API_SERVER: &str = "kube-apiserver";
/// Unit name of the controller manager.
pub const CONTROLLER_MANAGER: &str = "kube-controller-manager";
/// Unit name of the scheduler.
pub const SCHEDULER: &str = "kube-scheduler";
/// Unit name of the cloud controller manager.
pub const CLOUD: &str = "cloud-controller-manager";
/// Unit name of the kubelet.
pub const KUBELET: &str = "kubelet";
/// Unit name of the proxy.
pub const PROXY: &str = "kube-proxy";
/// Unit name of the network agent.
pub const NETWORK: &str = "coxswain-network";
/// Unit name of the local balancer.
pub const BALANCER: &str = "coxswain-balancer";
/// Unit name of the renewal of certificates.
pub const CERTS: &str = "coxswain-certs";

/// Arguments by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args(Vec<(String, String)>);

impl Args {
    /// Adds an argument.
    pub fn set(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    /// The user's arguments in place of those of the same names; they may repeat.
    pub fn with(mut self, extra: &[Arg]) -> Self {
        let names: BTreeSet<&str> = extra.iter().map(|a| a.name.trim_start_matches('-')).collect();
        self.0.retain(|(name, _)| !names.contains(name.as_str()));
        self.0.extend(extra.iter().map(|a| (a.name.trim_start_matches('-').to_string(), a.value.clone())));
        self
    }

    /// Is an argument of this name there?
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// Takes an argument out.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(n, _)| n != name);
        self
    }

    /// `--name=value`, by name; arguments of one name keep their order.
    pub fn list(mut self) -> Vec<String> {
        self.0.sort_by(|a, b| a.0.cmp(&b.0));
        self.0.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }
}

/// A daemon of these arguments and environment.
pub fn daemon(name: &str, program: &str, args: Vec<String>, envs: &[Value], after: &[&str]) -> Daemon {
    Daemon {
        name: name.into(),
        program: program.into(),
        args,
        env: environment(envs),
        after: after.iter().map(|s| s.to_string()).collect(),
    }
}

/// The proxy settings of this process, and the user's `extraEnvs` over them.
fn environment(envs: &[Value]) -> BTreeMap<String, String> {
    const PROXY: [&str; 6] =
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"];
    let mut all: BTreeMap<String, String> =
        PROXY.iter().filter_map(|n| Some((n.to_string(), std::env::var(n).ok()?))).collect();
    let given = |e: &Value| {
        Some((e["name"].as_str()?.to_string(), e["value"].as_str().unwrap_or_default().to_string()))
    };
    all.extend(envs.iter().filter_map(given));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(name: &str, value: &str) -> Arg {
        Arg { name: name.into(), value: value.into() }
    }

    #[test]
    fn the_users_arguments_replace_ours_and_all_are_in_order() {
        let args =
            Args::default().set("b", 1).set("a", true).with(&[arg("b", "2"), arg("c", "3"), arg("b", "4")]);
        assert_eq!(args.list(), ["--a=true", "--b=2", "--b=4", "--c=3"]);
    }
}
