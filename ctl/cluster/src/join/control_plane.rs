//! The phases of a joining control plane; on a worker they do nothing.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coxctl_config::ApiEndpoint;
use coxctl_pki::{cluster_certificates, cluster_kubeconfigs, ensure, ensure_kubeconfig};
use futures::FutureExt;

use super::Run;
use crate::daemons::{self, control_plane as units};
use crate::init::limit;
use crate::phase::Phase;
use crate::{api, health, node, nodes, patches, paths, say, upload};

/// The parts of `control-plane-prepare`.
pub static PREPARE: &[Phase<Run>] = &[
    Phase::step("download-certs", "Download certificates from the kubeadm-certs Secret", |r| {
        download(r).boxed_local()
    }),
    Phase::step("certs", "Generate the certificates for the new control plane components", |r| {
        certs(r).boxed_local()
    }),
    Phase::step("kubeconfig", "Generate the kubeconfig for the new control plane components", |r| {
        kubeconfigs(r).boxed_local()
    }),
    Phase::step("control-plane", "Install the new control plane components", |r| install(r).boxed_local()),
];

/// The parts of `control-plane-join`.
pub static JOIN: &[Phase<Run>] =
    &[Phase::step("mark-control-plane", "Mark a node as a control-plane", |r| mark(r).boxed_local())
        .together()];

/// Files of another cluster in the way of this machine's control plane.
pub async fn leftovers(run: &Run) -> Result<Vec<coxctl_machine::preflight::Check>> {
    let (Some(local), false) = (run.control(), run.host.is_dry()) else { return Ok(Vec::new()) };
    let cluster = &run.fetched().await?.cluster;
    let pki = Path::new(&cluster.certificates_dir);
    let specs = cluster_kubeconfigs(cluster, run.node(), local, false);
    Ok(crate::leftovers::find(&run.host.made(), pki, &[], &specs))
}

/// Can this machine get the shared certificates? Asked before anything is changed.
pub async fn certificates_at_hand(run: &Run) -> Result<()> {
    let Some(control) = &run.config.join.control_plane else { return Ok(()) };
    let cluster = &run.fetched().await?.cluster;
    let files = upload::files(cluster);
    if control.certificate_key.is_empty() {
        return present(&files);
    }
    let data = secret(run).await?;
    files.iter().try_for_each(|file| upload::open_file(&data, file, &control.certificate_key).map(drop))
}

/// Fetches and opens the shared certificates; without a key they must be here already.
async fn download(run: &Run) -> Result<()> {
    let Some(control) = &run.config.join.control_plane else { return Ok(()) };
    let cluster = &run.fetched().await?.cluster;
    let files = upload::files(cluster);
    if control.certificate_key.is_empty() {
        return present(&files);
    }
    say::line(
        "download-certs",
        "Downloading the certificates in Secret \"kubeadm-certs\" in the \"kube-system\" Namespace",
    );
    let data = secret(run).await?;
    for file in files {
        if let Some(content) = upload::open_file(&data, &file, &control.certificate_key)? {
            run.host.write(&file.path, &content, file.mode)?;
        }
    }
    Ok(())
}

async fn secret(run: &Run) -> Result<serde_json::Value> {
    let client = run.bootstrap().await?;
    let asked =
        tokio::time::timeout(api::CALL, api::get(&client, "Secret", Some("kube-system"), upload::NAME)).await;
    match asked.context("the API server does not answer")? {
        Ok(secret) => Ok(secret["data"].clone()),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => bail!(
            "the cluster holds no uploaded certificates (they are deleted two hours after their upload); run \"coxctl init phase upload-certs --upload-certs\" on a control plane and join with the key it prints"
        ),
        Err(error) => Err(api::plain(error)).context("reading the uploaded certificates"),
    }
}

fn present(files: &[upload::Shared]) -> Result<()> {
    // An authority's key may be kept elsewhere on purpose.
    let needed = files.iter().map(|f| f.path.as_str()).filter(|f| !f.ends_with("ca.key"));
    let missing: Vec<&str> = needed.filter(|f| !Path::new(f).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "to become a control plane this machine needs the shared certificates: give --certificate-key (from \"coxctl init phase upload-certs --upload-certs\" on a control plane), or copy {}",
        missing.join(", ")
    )
}

async fn certs(run: &Run) -> Result<()> {
    let Some(local) = run.control() else { return Ok(()) };
    let cluster = &run.fetched().await?.cluster;
    say::line("certs", format_args!("Using certificateDir folder {:?}", cluster.certificates_dir));
    let ip: IpAddr = local
        .advertise_address
        .parse()
        .with_context(|| format!("advertise address {:?}", local.advertise_address))?;
    let dir = run.host.path(&cluster.certificates_dir);
    run.host.mirror(&cluster.certificates_dir)?;
    for spec in cluster_certificates(cluster, run.node(), ip)?.iter().filter(|s| s.ca.is_some()) {
        let (outcome, warnings) = ensure(&dir, spec, cluster, &mut |p: &Path| run.host.record(p))?;
        warnings.iter().for_each(|w| say::warn("certs", w));
        say::line(
            "certs",
            format_args!("{:?} certificate: {}", spec.name, format!("{outcome:?}").to_lowercase()),
        );
    }
    Ok(())
}

async fn kubeconfigs(run: &Run) -> Result<()> {
    let Some(local) = run.control() else { return Ok(()) };
    let cluster = &run.fetched().await?.cluster;
    let (dir, pki) = (run.host.path(paths::KUBERNETES), run.host.path(&cluster.certificates_dir));
    for spec in cluster_kubeconfigs(cluster, run.node(), local, false).iter().filter(|s| s.name != "kubelet")
    {
        let (_, warnings) = ensure_kubeconfig(&dir, &pki, spec, cluster, &mut |p: &Path| run.host.record(p))?;
        warnings.iter().for_each(|w| say::warn("kubeconfig", w));
        say::line("kubeconfig", format_args!("Writing {:?} kubeconfig file", spec.file));
    }
    if let Some(config) = &run.fetched().await?.cloud {
        node::cloud(&run.host, cluster, config)?;
    }
    Ok(())
}

/// Written now, started when there is an etcd to talk to.
async fn install(run: &Run) -> Result<()> {
    let Some(local) = run.control() else { return Ok(()) };
    for daemon in all(run, local).await? {
        say::line("control-plane", format_args!("Installing {:?}", daemon.name));
        run.host.install(&daemon)?;
    }
    Ok(())
}

async fn all(run: &Run, local: &ApiEndpoint) -> Result<Vec<coxctl_machine::Daemon>> {
    let cluster = &run.fetched().await?.cluster;
    let signs = run.host.signs(&cluster.certificates_dir);
    let patched = |daemon| patches::daemon(run.config.join.patches.as_ref(), daemon);
    let mut all = vec![
        patched(units::api_server(cluster, local, signs))?,
        patched(units::controller_manager(cluster, signs))?,
        patched(units::scheduler(cluster))?,
        units::certs(cluster),
    ];
    if run.fetched().await?.cloud.is_some() {
        all.push(units::cloud(cluster));
    }
    Ok(all)
}

/// Starts what was installed.
pub async fn start(run: &Run) -> Result<()> {
    let Some(local) = run.control() else { return Ok(()) };
    for daemon in all(run, local).await? {
        run.host.run(&daemon)?;
    }
    Ok(())
}

async fn mark(run: &Run) -> Result<()> {
    if run.control().is_none() || run.host.is_dry() {
        return Ok(());
    }
    say::line("mark-control-plane", format_args!("Marking the node {} as control-plane", run.node()));
    let taints = node::taints(&run.config.join.node_registration, true);
    nodes::mark(&run.host, &run.admin().await?, run.node(), &taints, Duration::from_secs(60)).await
}

/// Waits for this machine's own components.
pub async fn wait(run: &Run) -> Result<()> {
    if run.control().is_none() || run.host.is_dry() {
        return Ok(());
    }
    let cluster = &run.fetched().await?.cluster;
    let patience = limit(run.timeouts().control_plane_component_health_check, 240);
    let endpoint = run.own_endpoint();
    tokio::try_join!(
        health::api_server(&run.host, paths::ADMIN, &endpoint, patience),
        health::controller_manager(&run.host, cluster, patience),
        health::scheduler(&run.host, cluster, patience),
    )?;
    say::detail(format_args!("[wait-control-plane] {} runs", daemons::API_SERVER));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display().to_string();
        for file in ["ca.crt", "sa.pub"] {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        let file =
            |name: &str| upload::Shared { key: name.into(), path: format!("{place}/{name}"), mode: 0o600 };
        let files = ["ca.crt", "ca.key", "sa.pub", "sa.key"].map(file);
        let error = present(&files).unwrap_err().to_string();
        assert!(error.contains("sa.key") && !error.contains("ca.key"), "{error}");
        std::fs::write(dir.path().join("sa.key"), "x").unwrap();
        present(&files).unwrap();
    }
}
