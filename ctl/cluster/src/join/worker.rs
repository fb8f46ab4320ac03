//! The phases every joining machine goes through.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coxctl_config::{GoDuration, images, local_endpoint};
use coxctl_machine::preflight::{Command, Wanted};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::{Run, claim};
use crate::discovery::{address_of, host_of};
use crate::local::Local;
use crate::{api, daemons, health, node, nodes, paths, say};

/// Finds the cluster, checks the machine, then says in the manifest that the work begins.
pub async fn preflight(run: &Run) -> Result<()> {
    say::line("preflight", "Running pre-flight checks");
    let mut wanted = wanted(run).await?;
    let control = run.config.join.control_plane.as_ref();
    // With a certificate key the files to ask with are yet to come.
    if control.is_some_and(|c| c.certificate_key.is_empty()) {
        let cluster = &run.fetched().await?.cluster;
        wanted.external_etcd_files =
            cluster.etcd.external.iter().flat_map(node::external_etcd_files).collect();
        wanted.external_etcd_versions = node::external_versions(cluster).await;
    }
    wanted.found = super::control_plane::leftovers(run).await?;
    node::preflight(&run.host, &wanted, &run.config.join.node_registration.ignore_preflight_errors).await?;
    alone(run).await?;
    super::control_plane::certificates_at_hand(run).await?;
    if !run.host.is_dry() {
        run.host.made().begin("join", &wanted.fingerprint)?;
    }
    let local = Local {
        node: run.node().into(),
        control_plane: run.control().cloned(),
        cri_socket: run.config.join.node_registration.cri_socket.clone(),
        cluster: run.fetched().await?.cluster.clone(),
    };
    crate::patches::keep(&run.host, run.config.join.patches.as_ref())?;
    local.keep(&run.host)
}

async fn wanted(run: &Run) -> Result<Wanted> {
    let found = run.found().await?;
    let cluster = &run.fetched().await?.cluster;
    let registration = &run.config.join.node_registration;
    let (control, offline) = (run.control(), run.bundle.is_some());
    let etcd = crate::init::local_etcd(cluster).filter(|_| control.is_some());
    Ok(Wanted {
        command: if control.is_some() { Command::JoinControlPlane } else { Command::JoinWorker },
        node_name: run.node().into(),
        bind_port: control.and_then(|c| u16::try_from(c.bind_port).ok()).unwrap_or(6443),
        server: host_of(&address_of(&found.cluster.server)).into(),
        service_subnets: node::list(&cluster.networking.service_subnet),
        pod_subnets: node::list(&cluster.networking.pod_subnet),
        etcd_data_dir: etcd.as_ref().map(|l| l.data_dir.clone().into()),
        cri_socket: registration.cri_socket.clone(),
        certificates_dir: cluster.certificates_dir.clone().into(),
        ca_cert_path: run.config.join.ca_cert_path.clone().into(),
        kubernetes_version: cluster.kubernetes_version.clone(),
        images: if offline || run.host.is_dry() { Vec::new() } else { images(cluster) },
        pull: node::pull_policy(&registration.image_pull_policy),
        fingerprint: format!(
            "{} {} {}",
            found.cluster.server,
            run.node(),
            control.map(local_endpoint).unwrap_or_default()
        ),
        clock_skew: found.skew,
        bundled: run.bundle.as_ref().map(|b| b.index.kubernetes.clone()),
        programs: if offline { Vec::new() } else { node::programs(control.is_some(), etcd.is_some()) },
        ..Wanted::default()
    })
}

/// Two machines must not share a name: a node of ours that is Ready is somebody else unless we hold its certificate or
/// it says that it runs on this machine.
async fn alone(run: &Run) -> Result<()> {
    let client = run.bootstrap().await?;
    let asked = tokio::time::timeout(api::CALL, api::get(&client, "Node", None, run.node())).await;
    let node = match asked.context("the API server does not answer")? {
        Ok(node) => node,
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => return Ok(()),
        Err(error) => return Err(super::fetch::refused(run, api::plain(error))),
    };
    *run.before.lock() = claim::holder(&node);
    if nodes::is_ready(&node) && !Path::new(paths::KUBELET_CLIENT).exists() && !same_machine(&node) {
        bail!(
            "a Node with name {:?} and status \"Ready\" already exists in the cluster ({}). You must delete the existing Node or change the name of this new joining Node (--node-name)",
            run.node(),
            nodes::address(&node)
        );
    }
    Ok(())
}

/// By the machine that was written down at its join; for nodes of others by what their kubelet says.
fn same_machine(node: &Value) -> bool {
    let said = node.pointer("/status/nodeInfo/machineID").and_then(Value::as_str).unwrap_or_default();
    let theirs = claim::holder(node).unwrap_or_else(|| said.to_string());
    !theirs.is_empty() && theirs == claim::own()
}

/// Unpacks the bundle; its images come in beside the phases that do not need them.
pub async fn bundle(run: &Run) -> Result<()> {
    let Some(bundle) = &run.bundle else { return Ok(()) };
    let task = node::install_bundle(&run.host, bundle, &run.config.join.node_registration.cri_socket)?;
    *run.images.lock() = task;
    Ok(())
}

/// The authority and the node's way to the API servers.
pub async fn balancer(run: &Run) -> Result<()> {
    say::line("balancer", "Starting the local balancer");
    let found = run.found().await?;
    let ca = &run.config.join.ca_cert_path;
    if !Path::new(ca).exists() {
        run.host.write(ca, found.cluster.ca_pem.as_bytes(), 0o644)?;
    }
    let named = run.config.join.discovery.bootstrap_token.as_ref().map(|b| b.api_server_endpoint.clone());
    let mut servers = vec![address_of(&found.cluster.server)];
    servers.extend(named);
    servers.dedup();
    node::balancer(&run.host, &run.own_endpoint(), &servers, ca)
}

/// Writes the kubelet's files and starts it; it introduces itself with the token.
pub async fn kubelet(run: &Run) -> Result<()> {
    let images = run.images.lock().take();
    if let Some(images) = images {
        images.await??;
    }
    let fetched = run.fetched().await?;
    let registration = &run.config.join.node_registration;
    node::settings(&run.host)?;
    introduce(run).await?;
    let taints = node::taints(registration, run.control().is_some());
    let patches = run.config.join.patches.as_ref();
    let files = node::write_kubelet(&run.host, &fetched.kubelet, registration, &taints, &run.facts, patches)?;
    node::start_kubelet(&run.host, files)
}

/// The kubeconfig of the kubelet's first login; not needed by one that has its certificate. The kubelet then writes its
/// own kubeconfig, which is ours to take back.
async fn introduce(run: &Run) -> Result<()> {
    run.host.record(Path::new(paths::KUBELET_CONF))?;
    // One that was put there by hand, as where nobody signs, is taken as it is.
    if Path::new(paths::KUBELET_CONF).exists() && !run.host.is_dry() {
        run.host.contents(paths::KUBELET)?;
        node::adopt_identity()?;
        coxctl_pki::finalize_kubelet_conf(paths::KUBELET_CONF.as_ref(), paths::KUBELET_CLIENT.as_ref())?;
    }
    if bootstrapped() {
        return Ok(());
    }
    let found = run.found().await?;
    let document = daemons::node::behind_balancer(
        "tls-bootstrap-token-user",
        &found.cluster.ca_pem,
        found.credentials.clone(),
    );
    run.host.write_yaml(paths::BOOTSTRAP_CONF, &document, 0o600).map(drop)
}

/// Has the kubelet its kubeconfig and its certificate?
fn bootstrapped() -> bool {
    Path::new(paths::KUBELET_CLIENT).exists()
        && kube::config::Kubeconfig::read_from(paths::KUBELET_CONF).is_ok()
}

/// The service proxy and the network agent; they wait for the kubelet's certificate by themselves.
pub async fn agents(run: &Run) -> Result<()> {
    let (found, fetched) = (run.found().await?, run.fetched().await?);
    let (name, ca) = (&fetched.cluster.cluster_name, &found.cluster.ca_pem);
    if let Some(document) = &fetched.proxy {
        node::proxy(&run.host, run.node(), name, ca, document)?;
    }
    if let Some((pods, args)) = &fetched.network {
        node::network(&run.host, run.node(), name, ca, pods, args)?;
    }
    Ok(())
}

/// Waits for the kubelet to have its certificate and to be well; the token's kubeconfig goes in any case.
pub async fn wait(run: &Run) -> Result<()> {
    if run.host.is_dry() {
        say::line("dryrun", "Would wait for the kubelet to perform the TLS Bootstrap");
        return Ok(());
    }
    say::line("kubelet-start", "Waiting for the kubelet to perform the TLS Bootstrap");
    let result = certificate(run).await;
    let file = Path::new(paths::BOOTSTRAP_CONF);
    if file.exists() {
        std::fs::remove_file(file).with_context(|| format!("removing {}", file.display()))?;
    }
    run.host.made().forget(file)?;
    result?;
    let patience = patience(run.timeouts().kubelet_health_check, GoDuration::minutes(4));
    health::kubelet(&run.host, &run.fetched().await?.kubelet, patience).await?;
    let before = run.before.lock().clone();
    claim::claim(run, before).await
}

/// As configured; kubeadm's long default is cut, because what is not well in a minute does not become so.
fn patience(given: Option<GoDuration>, default: GoDuration) -> Duration {
    given.filter(|g| *g != default).map_or(Duration::from_secs(60), GoDuration::std)
}

async fn certificate(run: &Run) -> Result<()> {
    let check = async || match bootstrapped() {
        true => Ok(()),
        false => bail!("the kubelet has not received its certificate"),
    };
    let patience = patience(run.timeouts().tls_bootstrap, GoDuration::minutes(5));
    match run.host.healthy(daemons::KUBELET, check, patience).await {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(request_state(run).await.unwrap_or_default())),
    }
}

/// What became of the kubelet's request, for the one who reads why the join failed.
async fn request_state(run: &Run) -> Result<String> {
    let client = run.bootstrap().await?;
    let all: Api<CertificateSigningRequest> = Api::all(client);
    let all = tokio::time::timeout(api::CALL, all.list(&ListParams::default())).await??;
    let token = &run.config.join.discovery.tls_bootstrap_token;
    let user = format!("system:bootstrap:{}", token.split('.').next().unwrap_or_default());
    // With other credentials than a token's, the newest request is likely ours.
    let mine =
        all.items.into_iter().filter(|c| token.is_empty() || c.spec.username.as_deref() == Some(&user));
    let newest = mine.max_by_key(|c| c.metadata.creation_timestamp.clone().map(|t| t.0));
    Ok(newest.map_or_else(|| "the kubelet has made no certificate signing request".into(), |c| judge(&c)))
}

fn judge(request: &CertificateSigningRequest) -> String {
    let name = request.metadata.name.clone().unwrap_or_default();
    let status = request.status.clone().unwrap_or_default();
    let has = |kind: &str| status.conditions.iter().flatten().any(|c| c.type_ == kind);
    match (has("Denied"), has("Approved"), status.certificate.is_some()) {
        (true, ..) => format!("the kubelet's request {name} was denied"),
        (_, false, _) => format!(
            "nobody has approved the kubelet's request {name}: does the controller manager run on the control plane? (\"kubectl certificate approve {name}\" does it by hand)"
        ),
        (_, true, false) => format!(
            "the kubelet's request {name} is approved but not signed: does the controller manager on the control plane run, and has it the authority's key?"
        ),
        (_, true, true) => {
            format!("the kubelet's request {name} is signed, but the kubelet has not taken the certificate")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_are_judged() {
        let of = |status: Value| {
            let spec = json!({"request": "", "signerName": "s", "usages": []});
            judge(
                &serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": spec, "status": status}))
                    .unwrap(),
            )
        };
        let condition = |kind: &str| json!([{"type": kind, "status": "True"}]);
        assert!(of(json!({})).contains("nobody has approved"));
        assert!(of(json!({"conditions": condition("Approved")})).contains("not signed"));
        assert!(of(json!({"conditions": condition("Denied")})).contains("denied"));
    }

    #[test]
    fn long_defaults_are_cut() {
        assert_eq!(patience(Some(GoDuration::minutes(5)), GoDuration::minutes(5)).as_secs(), 60);
        assert_eq!(patience(Some(GoDuration::minutes(7)), GoDuration::minutes(5)).as_secs(), 420);
    }
}
