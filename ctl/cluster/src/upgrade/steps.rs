//! The steps on one machine: programs into place, then daemon after daemon onto them, each well before the next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coxctl_config::{ClusterConfiguration, Patches};
use coxctl_machine::{Daemon, Services, State, bundle, paths as places};
use sha2::{Digest, Sha256};

use super::Run;
use crate::daemons::{self, control_plane, node as units};
use crate::local::Local;
use crate::{health, paths, say};

/// How long one daemon may take to be well with its new program.
const PATIENCE: Duration = Duration::from_secs(60);

/// Daemons in the order they are upgraded; those that are not on a machine are passed over.
const ORDER: [&str; 10] = [
    daemons::ETCD,
    daemons::API_SERVER,
    daemons::CONTROLLER_MANAGER,
    daemons::SCHEDULER,
    daemons::CLOUD,
    daemons::CERTS,
    daemons::KUBELET,
    daemons::PROXY,
    daemons::NETWORK,
    daemons::BALANCER,
];

/// Unpacks the bundle and brings in its images; nothing that runs is touched.
pub async fn install(run: &Run) -> Result<()> {
    let Some(bundle) = &run.bundle else {
        let there = bundle::versions().contains(&run.to);
        ensure!(
            there,
            "version {} is not installed here; there are {}",
            run.to,
            bundle::versions().join(", ")
        );
        return Ok(());
    };
    say::line("upgrade", format_args!("Installing version {} from {}", run.to, bundle.file.display()));
    bundle::install(bundle, &mut run.host.made())?;
    let brought = bundle::import_images(bundle, &run.local.cri_socket).await?;
    say::detail(format_args!("[upgrade] images: {}", brought.join(", ")));
    Ok(())
}

/// Turns to the new version and restarts the daemons one by one.
pub async fn forward(run: &Run) -> Result<()> {
    let etcd = run.args.etcd_upgrade() && differs(Path::new(places::CURRENT), &version_dir(&run.to), "etcd");
    if run.args.certificate_renewal() && run.local.control_plane.is_some() {
        renew(run)?;
    }
    bundle::switch(&run.to, &mut run.host.made())?;
    definitions(run).await?;
    for name in present(run)? {
        if name == daemons::ETCD && !etcd {
            continue;
        }
        restart(run, name).await?;
    }
    Ok(())
}

/// Back to what ran before: every daemon again, whether it had its turn or not.
pub async fn back(run: &Run, from: Option<&str>) -> Result<()> {
    let Some(from) = from else {
        say::warn("upgrade", "it is not known what ran before; the daemons stay as they are");
        return Ok(());
    };
    say::line("upgrade", format_args!("Going back to version {from}"));
    let etcd = differs(&version_dir(&run.to), &version_dir(from), "etcd");
    bundle::switch(from, &mut run.host.made())?;
    for name in present(run)? {
        if name != daemons::ETCD || etcd {
            restart(run, name).await?;
        }
    }
    Ok(())
}

/// What a dry run says.
pub fn pretend(run: &Run) {
    say::line("dryrun", format_args!("Would install version {} and turn to it", run.to));
    for name in ORDER {
        if !matches!(coxctl_machine::Made::read().map(|m| m.has_unit(name)), Ok(false)) {
            say::line("dryrun", format_args!("Would restart {name} and wait until it is well"));
        }
    }
}

fn version_dir(version: &str) -> PathBuf {
    Path::new(places::VERSIONS).join(version)
}

/// Is a program of two directories another one? One that is not in the new directory comes from elsewhere and stays.
fn differs(old: &Path, new: &Path, program: &str) -> bool {
    let digest = |dir: &Path| std::fs::read(dir.join(program)).ok().map(Sha256::digest);
    match (digest(old), digest(new)) {
        (_, None) => false,
        (old, new) => old != new,
    }
}

fn present(run: &Run) -> Result<Vec<&'static str>> {
    let mut all = Vec::new();
    for name in ORDER {
        if run.host.services().state(name)? != State::Absent {
            all.push(name);
        }
    }
    Ok(all)
}

/// The daemons' arguments as this version writes them.
async fn definitions(run: &Run) -> Result<()> {
    let cluster = super::cluster::configuration(run).await;
    for daemon in daemons(run.host.services(), &cluster, &run.local, run.patches.as_ref())? {
        run.host.install(&daemon)?;
    }
    if run.args.skips("kubelet-config") {
        return Ok(());
    }
    match super::cluster::kubelet_config(&run.client, &run.local, run.patches.as_ref()).await? {
        Some(document) => run.host.write_yaml(paths::KUBELET_CONFIG, &document, 0o644).map(drop),
        None => Ok(()),
    }
}

/// The daemons of this machine as this version runs them; etcd keeps its own arguments, which know its members.
pub fn daemons(
    services: &dyn Services,
    cluster: &ClusterConfiguration,
    local: &Local,
    patches: Option<&Patches>,
) -> Result<Vec<Daemon>> {
    let mut all = Vec::new();
    if let Some(api) = &local.control_plane {
        let signs = Path::new(&cluster.certificates_dir).join("ca.key").exists();
        let patched = |daemon| crate::patches::daemon(patches, daemon);
        all.push(patched(control_plane::api_server(cluster, api, signs))?);
        all.push(patched(control_plane::controller_manager(cluster, signs))?);
        all.push(patched(control_plane::scheduler(cluster))?);
        all.push(control_plane::certs(cluster));
        if services.state(daemons::CLOUD)? != State::Absent {
            all.push(control_plane::cloud(cluster));
        }
    }
    all.extend([units::kubelet(), units::balancer()]);
    if services.state(daemons::PROXY)? != State::Absent {
        all.push(units::proxy(&local.node));
    }
    Ok(all)
}

fn renew(run: &Run) -> Result<()> {
    let dirs = coxctl_pki::Dirs {
        pki: run.local.cluster.certificates_dir.clone().into(),
        kubeconfigs: paths::KUBERNETES.into(),
    };
    for entry in
        coxctl_pki::expiry(&dirs)?.into_iter().filter(|e| !e.is_ca && !e.missing && !e.externally_managed)
    {
        coxctl_pki::renew(&dirs, &entry.name, None).with_context(|| format!("renewing {}", entry.name))?;
    }
    say::line("upgrade", "Renewed the certificates of this control plane");
    Ok(())
}

/// Restarts a daemon and waits until it is well.
async fn restart(run: &Run, name: &str) -> Result<()> {
    say::line("upgrade", format_args!("Restarting {name}"));
    run.host.services().restart(name)?;
    let cluster = &run.local.cluster;
    match name {
        daemons::ETCD => health::etcd(&run.host, cluster, PATIENCE).await,
        daemons::API_SERVER => {
            health::api_server(&run.host, paths::ADMIN, &run.local.endpoint()?, PATIENCE).await
        }
        daemons::CONTROLLER_MANAGER => health::controller_manager(&run.host, cluster, PATIENCE).await,
        daemons::SCHEDULER => health::scheduler(&run.host, cluster, PATIENCE).await,
        daemons::CLOUD => health::cloud(&run.host, PATIENCE).await,
        daemons::KUBELET => {
            let config = serde_yaml::from_str(&run.host.read(paths::KUBELET_CONFIG)?)?;
            health::kubelet(&run.host, &config, PATIENCE).await
        }
        daemons::PROXY => health::listening(&run.host, name, "127.0.0.1:10256", PATIENCE).await,
        daemons::BALANCER => health::listening(&run.host, name, "127.0.0.1:6444", PATIENCE).await,
        _ => health::staying(&run.host, name, PATIENCE).await,
    }
    .with_context(|| format!("{name} is not well with its new program"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_etcd_is_restarted() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(!differs(old.path(), new.path(), "etcd"));
        std::fs::write(new.path().join("etcd"), "a").unwrap();
        assert!(differs(old.path(), new.path(), "etcd"));
        std::fs::write(old.path().join("etcd"), "a").unwrap();
        assert!(!differs(old.path(), new.path(), "etcd"));
    }
}
