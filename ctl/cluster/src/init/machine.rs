//! Phases about the machine: `preflight`, `bundle`, `balancer`, `kubelet-start`.

use anyhow::{Context, Result};
use coxctl_config::{ClusterConfiguration, images};
use coxctl_machine::State;
use coxctl_machine::preflight::{Check, Command, Wanted};
use coxctl_pki::{cluster_certificates, cluster_kubeconfigs};
use sha2::{Digest, Sha256};

use super::Run;
use crate::local::Local;
use crate::{daemons, node, paths, say};

/// Checks the machine, then says in the manifest that the work begins.
pub async fn preflight(run: &Run) -> Result<()> {
    say::line("preflight", "Running pre-flight checks");
    let mut wanted = wanted(run);
    wanted.external_etcd_versions = node::external_versions(&run.config.cluster).await;
    if !run.host.is_dry() {
        wanted.found = leftovers(run)?;
    }
    node::preflight(&run.host, &wanted, &run.config.init.node_registration.ignore_preflight_errors).await?;
    if !run.host.is_dry() {
        run.host.made().begin("init", &wanted.fingerprint)?;
    }
    remember(run)
}

/// Files of another cluster in the way of this one's.
fn leftovers(run: &Run) -> Result<Vec<Check>> {
    let (cluster, local) = (&run.config.cluster, &run.config.init.local_api_endpoint);
    let ip = local
        .advertise_address
        .parse()
        .with_context(|| format!("advertise address {:?}", local.advertise_address))?;
    let certificates = cluster_certificates(cluster, run.node(), ip)?;
    let kubeconfigs = cluster_kubeconfigs(cluster, run.node(), local, true);
    Ok(crate::leftovers::find(
        &run.host.made(),
        cluster.certificates_dir.as_ref(),
        &certificates,
        &kubeconfigs,
    ))
}

/// Keeps what later commands need when no API server runs.
fn remember(run: &Run) -> Result<()> {
    let local = Local {
        node: run.node().into(),
        control_plane: Some(run.config.init.local_api_endpoint.clone()),
        cri_socket: run.config.init.node_registration.cri_socket.clone(),
        cluster: run.config.cluster.clone(),
    };
    crate::patches::keep(&run.host, run.config.init.patches.as_ref())?;
    local.keep(&run.host)
}

fn wanted(run: &Run) -> Wanted {
    let (cluster, own) = (&run.config.cluster, &run.config.init);
    let local = run.local_etcd();
    let offline = run.bundle.is_some();
    Wanted {
        command: Command::Init,
        node_name: run.node().into(),
        bind_port: u16::try_from(own.local_api_endpoint.bind_port).unwrap_or(6443),
        server: own.local_api_endpoint.advertise_address.clone(),
        service_subnets: node::list(&cluster.networking.service_subnet),
        pod_subnets: node::list(&cluster.networking.pod_subnet),
        etcd_data_dir: local.as_ref().map(|l| l.data_dir.clone().into()),
        external_etcd: cluster.etcd.external.iter().flat_map(|e| e.endpoints.clone()).collect(),
        external_etcd_files: cluster.etcd.external.iter().flat_map(node::external_etcd_files).collect(),
        cri_socket: own.node_registration.cri_socket.clone(),
        certificates_dir: cluster.certificates_dir.clone().into(),
        kubernetes_version: cluster.kubernetes_version.clone(),
        images: if offline || run.host.is_dry() { Vec::new() } else { images(cluster) },
        pull: node::pull_policy(&own.node_registration.image_pull_policy),
        fingerprint: fingerprint(run),
        bundled: run.bundle.as_ref().map(|b| b.index.kubernetes.clone()),
        programs: if offline { Vec::new() } else { programs(run, local.is_some()) },
        ..Wanted::default()
    }
}

fn programs(run: &Run, etcd: bool) -> Vec<String> {
    let mut all = node::programs(true, etcd);
    if !run.args.load_balancer_pool.is_empty() {
        all.push(crate::daemons::CLOUD.into());
    }
    all
}

/// What makes this cluster this cluster: its document and the node's name and address, without what is made anew each time.
/// Before `|` stands the digest without the daemons' arguments, which may be mended after a try that failed by them.
fn fingerprint(run: &Run) -> String {
    let digest = |cluster: &ClusterConfiguration| {
        let document = coxctl_config::cluster_document(cluster);
        hex::encode(Sha256::digest(format!("{document}\n{}\n{}", run.node(), run.endpoint())))
    };
    let mut essence = run.config.cluster.clone();
    for part in [&mut essence.controller_manager, &mut essence.scheduler] {
        (part.extra_args, part.extra_envs) = Default::default();
    }
    (essence.api_server.extra_args, essence.api_server.extra_envs) = Default::default();
    if let Some(local) = &mut essence.etcd.local {
        (local.extra_args, local.extra_envs) = Default::default();
    }
    format!("{}|{}", digest(&essence), digest(&run.config.cluster))
}

/// Unpacks the bundle; its images come in beside the phases that do not need them.
pub async fn bundle(run: &Run) -> Result<()> {
    let Some(bundle) = &run.bundle else { return Ok(()) };
    let task = node::install_bundle(&run.host, bundle, &run.config.init.node_registration.cri_socket)?;
    run.state.lock().images = task;
    Ok(())
}

/// The node's way to the API servers.
pub async fn balancer(run: &Run) -> Result<()> {
    say::line("balancer", "Starting the local balancer");
    let own = run.endpoint();
    node::balancer(&run.host, &own, std::slice::from_ref(&own), &run.pki("ca.crt"))
}

/// Writes the kubelet's files and starts it, under the rotating certificate from the beginning.
pub async fn kubelet(run: &Run) -> Result<()> {
    let images = run.state.lock().images.take();
    if let Some(images) = images {
        images.await??;
    }
    // kubeadm's phases know no balancer: who runs them one by one gets it here.
    if wants(run, daemons::BALANCER, "balancer")? {
        balancer(run).await?;
    }
    let registration = &run.config.init.node_registration;
    node::settings(&run.host)?;
    let taints = node::taints(registration, true);
    let patches = run.config.init.patches.as_ref();
    let files =
        node::write_kubelet(&run.host, &run.config.kubelet, registration, &taints, &run.facts, patches)?;
    let finalizing = !run.config.init.skip_phases.iter().any(|s| s.starts_with("kubelet-finalize"));
    if finalizing && !run.host.is_dry() {
        // One that somebody else put there comes back at a reset.
        run.host.record(paths::KUBELET_CONF.as_ref())?;
        node::adopt_identity()?;
        coxctl_pki::finalize_kubelet_conf(paths::KUBELET_CONF.as_ref(), paths::KUBELET_CLIENT.as_ref())?;
    }
    node::start_kubelet(&run.host, files)
}

/// Is a daemon to be started by a later phase than its own, which was not run?
pub fn wants(run: &Run, daemon: &str, phase: &str) -> Result<bool> {
    let skipped = run.config.init.skip_phases.iter().any(|s| s == phase);
    Ok(!run.host.is_dry() && !skipped && run.host.services().state(daemon)? == State::Absent)
}

/// The daemon that renews this control plane's certificates before they end.
pub fn rotation(run: &Run) -> Result<()> {
    run.host.run(&crate::daemons::control_plane::certs(&run.config.cluster))
}
