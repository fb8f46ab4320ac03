//! What a joining machine reads from the cluster.

use anyhow::{Context, Result};
use coxctl_config::{Arg, ClusterConfiguration, default_cluster, read_cluster};
use serde_json::Value;

use super::Run;
use crate::api::{self, objects};
use crate::{loadbalancer, say};

/// The cluster's configuration.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// ClusterConfiguration.
    pub cluster: ClusterConfiguration,
    /// KubeletConfiguration.
    pub kubelet: Value,
    /// KubeProxyConfiguration; `None` when the cluster runs no proxy.
    pub proxy: Option<Value>,
    /// The network of pods and how the agent is run; `None` when the cluster has another one.
    pub network: Option<(String, Vec<Arg>)>,
    /// What cloud-controller-manager is told; `None` when the cluster runs none of ours.
    pub cloud: Option<String>,
}

/// Reads the ConfigMaps, at the same time.
pub async fn fetch(run: &Run) -> Result<Fetched> {
    say::line(
        "preflight",
        "Reading configuration from the \"kubeadm-config\" ConfigMap in namespace \"kube-system\"...",
    );
    let client = run.bootstrap().await?;
    let limit = run.api_limit();
    let (cluster, kubelet, proxy, network, cloud) = tokio::join!(
        api::config_map(&client, "kubeadm-config", "ClusterConfiguration", limit),
        api::config_map(&client, "kubelet-config", "kubelet", limit),
        optional(&client, "kube-proxy", "config.conf"),
        network(&client),
        cloud(run, &client),
    );
    let cluster = cluster.map_err(|error| refused(run, error))?;
    let (mut cluster, warnings) = read_cluster(&cluster).context("ConfigMap kube-system/kubeadm-config")?;
    warnings.iter().for_each(|w| say::detail(format_args!("[config] {w}")));
    default_cluster(&mut cluster);
    let kubelet = serde_yaml::from_str(&kubelet?).context("ConfigMap kube-system/kubelet-config")?;
    let proxy = proxy?.filter(|_| !cluster.proxy.disabled);
    let proxy =
        proxy.map(|p| serde_yaml::from_str(&p)).transpose().context("ConfigMap kube-system/kube-proxy")?;
    Ok(Fetched { cluster, kubelet, proxy, network: network?, cloud: cloud? })
}

/// Why the cluster does not answer those who join, and what helps.
pub fn refused(run: &Run, error: anyhow::Error) -> anyhow::Error {
    let id = run.config.join.discovery.tls_bootstrap_token.split('.').next().unwrap_or_default().to_string();
    let code = error.downcast_ref::<api::Refused>().map(|r| r.code);
    let cure = "\"coxctl token create --print-join-command\" on a control plane makes a good one";
    match code {
        Some(401) => error.context(format!(
            "the cluster does not let the token {id:?} log in: it was deleted, has expired, or lacks the usage \"authentication\"; {cure}"
        )),
        Some(403) => error.context(format!(
            "the token {id:?} is not in a group that may join (usually system:bootstrappers:kubeadm:default-node-token); {cure}"
        )),
        _ => error.context("the cluster does not tell those who join about itself; was it made by coxctl or kubeadm?"),
    }
}

/// A key of a ConfigMap that may be missing, or hidden from those who join.
async fn optional(client: &kube::Client, name: &str, key: &str) -> Result<Option<String>> {
    let answer =
        tokio::time::timeout(api::CALL, api::get(client, "ConfigMap", Some("kube-system"), name)).await;
    match answer.context("the API server does not answer")? {
        Ok(map) => Ok(map["data"][key].as_str().map(str::to_string)),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(None),
        Err(error) => Err(api::plain(error)).with_context(|| format!("reading ConfigMap kube-system/{name}")),
    }
}

/// Workers do not need it.
async fn cloud(run: &Run, client: &kube::Client) -> Result<Option<String>> {
    match run.control() {
        Some(_) => optional(client, loadbalancer::NAME, loadbalancer::KEY).await,
        None => Ok(None),
    }
}

async fn network(client: &kube::Client) -> Result<Option<(String, Vec<Arg>)>> {
    let (pods, args) = tokio::join!(
        optional(client, objects::NETWORK, "podSubnet"),
        optional(client, objects::NETWORK, "args"),
    );
    let Some(pods) = pods? else { return Ok(None) };
    let args = args?
        .map(|a| serde_json::from_str(&a))
        .transpose()
        .context("ConfigMap kube-system/coxswain-network")?;
    Ok(Some((pods, args.unwrap_or_default())))
}
