//! What an upgrade asks of the cluster, and what it changes in it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use coxctl_config::{
    ClusterConfiguration, Patches, cluster_document, default_cluster, images, read_cluster, service_address,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::Run;
use crate::api::{self, objects};
use crate::local::Local;
use crate::{node, nodes, patches, paths, say};

/// One object is tried for so long.
const LIMIT: Duration = Duration::from_secs(60);

/// Are the control planes well? Upgrading one of them while another is down may stop the cluster.
pub async fn preflight(run: &Run) -> Result<()> {
    if run.local.control_plane.is_none() {
        return Ok(());
    }
    let all: Api<Node> = Api::all(run.client.clone());
    let params = ListParams::default().labels(paths::CONTROL_PLANE);
    let list = tokio::time::timeout(api::CALL, all.list(&params)).await;
    let list = list.context("the API server does not answer")?.context("listing the control planes")?;
    let down: Vec<String> = list
        .into_iter()
        .filter(|n| serde_json::to_value(n).is_ok_and(|v| !nodes::is_ready(&v)))
        .filter_map(|n| n.metadata.name)
        .filter(|n| *n != run.local.node)
        .collect();
    if down.is_empty() {
        return Ok(());
    }
    let words = format!("there are control planes that are not Ready: {}", down.join(", "));
    let ignored = |name: &String| name.eq_ignore_ascii_case("ControlPlaneNodesReady") || name == "all";
    match run.args.force || run.args.ignore_preflight_errors.iter().any(ignored) {
        true => say::line("preflight", format_args!("[WARNING ControlPlaneNodesReady]: {words}")),
        false => bail!("[ERROR ControlPlaneNodesReady]: {words}; bring them back first, or use --force"),
    }
    Ok(())
}

/// The cluster's configuration as it is now, else as this machine remembers it.
pub async fn configuration(run: &Run) -> ClusterConfiguration {
    configuration_of(&run.client, &run.local).await
}

/// As [`configuration`], before there is a run.
pub async fn configuration_of(client: &Client, local: &Local) -> ClusterConfiguration {
    let read = async {
        let text = api::config_map(client, "kubeadm-config", "ClusterConfiguration", api::CALL).await?;
        let (mut cluster, _) = read_cluster(&text)?;
        default_cluster(&mut cluster);
        anyhow::Ok(cluster)
    };
    read.await.unwrap_or_else(|_| local.cluster.clone())
}

/// The kubelet's configuration as the cluster has it now, for this machine; none when the cluster does not show it.
pub async fn kubelet_config(
    client: &Client,
    local: &Local,
    patches: Option<&Patches>,
) -> Result<Option<Value>> {
    let Ok(text) = api::config_map(client, "kubelet-config", "kubelet", api::CALL).await else {
        return Ok(None);
    };
    let document: Value = serde_yaml::from_str(&text).context("ConfigMap kube-system/kubelet-config")?;
    let registration =
        coxctl_config::NodeRegistration { cri_socket: local.cri_socket.clone(), ..Default::default() };
    let document = node::kubelet_document(&document, &registration, &coxctl_config::Facts::gather());
    patches::apply(patches, "kubeletconfiguration", document).map(Some)
}

/// Brings the objects of the whole cluster to what this version makes.
pub async fn objects(run: &Run) -> Result<()> {
    let mut cluster = configuration(run).await;
    if let Some(bundle) = &run.bundle {
        cluster.kubernetes_version.clone_from(&bundle.index.kubernetes);
    }
    let mut all = Vec::new();
    if !run.args.skips("upload-config") {
        say::line("upload-config", "Storing the configuration used in ConfigMap \"kubeadm-config\"");
        all.extend(objects::kubeadm_config(&cluster_document(&cluster)));
    }
    if !run.args.skips("bootstrap-token") {
        all.extend(objects::bootstrap_rights()?);
        all.extend(objects::cluster_info_rights());
    }
    let addons = !run.args.skips("addon");
    if addons {
        all.extend(dns(&cluster, run.patches.as_ref())?);
        // Who left them out, or has something else, keeps it so.
        if has_ours::<Deployment>(&run.client, "metrics-server").await? {
            all.extend(objects::metrics(&images::metrics_image(&cluster))?);
        }
        if has_ours::<DaemonSet>(&run.client, "coxswain-local-path").await? {
            all.extend(objects::local_path(&images::local_path_image(&cluster))?);
        }
    }
    api::apply_all(&run.client, all, LIMIT).await?;
    if addons {
        say::line("addons", "Applied essential addons");
    }
    Ok(())
}

/// Whether the cluster has this addon, and it is the one made here: a cluster may do without, or have brought its own.
async fn has_ours<K>(client: &Client, name: &str) -> Result<bool>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let all: Api<K> = Api::namespaced(client.clone(), "kube-system");
    let found = tokio::time::timeout(api::CALL, all.get_metadata_opt(name)).await;
    let found =
        found.context("the API server does not answer")?.with_context(|| format!("looking for {name}"))?;
    let labels = found.and_then(|addon| addon.metadata.labels).unwrap_or_default();
    Ok(labels.get("app.kubernetes.io/managed-by").is_some_and(|by| by == "coxswain"))
}

/// Cluster DNS; how many of it run is the user's.
fn dns(cluster: &ClusterConfiguration, patched: Option<&Patches>) -> Result<Vec<Value>> {
    let Some(image) = images::dns_image(cluster) else { return Ok(Vec::new()) };
    let ip = service_address(cluster, 10).context("the service network has no tenth address")?;
    let mut all = objects::dns(&ip.to_string(), &cluster.networking.dns_domain, Some(&image))?;
    for spec in all.iter_mut().filter(|o| o["kind"] == "Deployment").filter_map(|o| o["spec"].as_object_mut())
    {
        spec.remove("replicas");
    }
    for object in all.iter_mut().filter(|o| o["kind"] == "Deployment") {
        *object = patches::apply(patched, "corednsdeployment", object.take())?;
    }
    Ok(all)
}
