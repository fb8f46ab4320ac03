//! What every node gets, whichever way it comes into the cluster: settings, balancer, kubelet, proxy, network agent.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use coxctl_config::components::kubelet_instance;
use coxctl_config::{Arg, ClusterConfiguration, ExternalEtcd, Facts, NodeRegistration, Patches};
use coxctl_machine::bundle::{self, Bundle};
use coxctl_machine::preflight::{self, Pull, Wanted};
use coxctl_machine::{Changed, Made};
use coxctl_pki::nodeconf::Current;
use serde_json::{Value, json};

use crate::api::objects::control_plane_taint;
use crate::daemons::node as units;
use crate::etcd::client::{CALL, Files, connect, within};
use crate::host::Host;
use crate::{paths, say};

/// Runs the checks and prints what they found.
///
/// # Errors
/// When one failed that is not ignored.
pub async fn preflight(host: &Host, wanted: &Wanted, ignore: &[String]) -> Result<()> {
    let made = if host.is_dry() { Made::dry() } else { Made::read()? };
    let checks = preflight::run(wanted, &made, host.services()).await;
    preflight::report(&checks, ignore)
}

/// The entries of a comma-separated list.
pub fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_string).collect()
}

/// The files named by an etcd elsewhere.
pub fn external_etcd_files(etcd: &ExternalEtcd) -> Vec<PathBuf> {
    [&etcd.ca_file, &etcd.cert_file, &etcd.key_file]
        .into_iter()
        .filter(|f| !f.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// What each member of an etcd elsewhere says of its version; nothing while the files to ask with are missing.
pub async fn external_versions(cluster: &ClusterConfiguration) -> Vec<(String, Result<String, String>)> {
    let Some(external) = &cluster.etcd.external else { return Vec::new() };
    if external_etcd_files(external).iter().any(|f| !f.exists()) {
        return Vec::new();
    }
    let files = Files::of(cluster);
    let ask = async |endpoint: &String| {
        let version = async {
            let mut client = connect(endpoint, &files).await?;
            anyhow::Ok(within(CALL, client.status()).await?.version().to_string())
        };
        (endpoint.clone(), version.await.map_err(|e| format!("{e:#}")))
    };
    futures::future::join_all(external.endpoints.iter().map(ask)).await
}

/// When images are pulled.
pub fn pull_policy(text: &str) -> Pull {
    match text {
        "Always" => Pull::Always,
        "Never" => Pull::Never,
        _ => Pull::IfNotPresent,
    }
}

/// The programs a node of this kind runs.
pub fn programs(control_plane: bool, etcd: bool) -> Vec<String> {
    use crate::daemons::{API_SERVER, BALANCER, CONTROLLER_MANAGER, KUBELET, NETWORK, PROXY, SCHEDULER};
    let mut all = vec![BALANCER, KUBELET, PROXY, NETWORK];
    if control_plane {
        all.extend([API_SERVER, CONTROLLER_MANAGER, SCHEDULER]);
    }
    if etcd {
        all.push("etcd");
    }
    all.into_iter().map(str::to_string).collect()
}

/// Unpacks a bundle's programs, makes them the ones in use, and begins to bring in its images.
///
/// # Errors
/// When it can't be unpacked.
pub fn install_bundle(
    host: &Host,
    bundle: &Bundle,
    socket: &str,
) -> Result<Option<tokio::task::JoinHandle<Result<()>>>> {
    say::line(
        "bundle",
        format_args!("Installing version {} from {}", bundle.index.version, bundle.file.display()),
    );
    if host.is_dry() {
        return Ok(None);
    }
    let mut made = host.made();
    bundle::install(bundle, &mut made)?;
    bundle::switch(&bundle.index.version, &mut made)?;
    let (bundle, socket) = (bundle.clone(), socket.to_string());
    Ok(Some(tokio::spawn(async move {
        let brought =
            bundle::import_images(&bundle, &socket).await.context("bringing in the bundle's images")?;
        say::detail(format_args!("[bundle] images: {}", brought.join(", ")));
        Ok(())
    })))
}

/// The kernel settings pods and services need.
///
/// # Errors
/// When the machine can't be made to forward packets.
pub fn settings(host: &Host) -> Result<()> {
    if host.is_dry() {
        return Ok(());
    }
    let mut made = host.made();
    made.sysctl("net.ipv4.ip_forward", "1").context(
        "this machine can't be made to forward packets (net.ipv4.ip_forward), without which pods can't talk",
    )?;
    if let Err(error) = made.sysctl("net.bridge.bridge-nf-call-iptables", "1") {
        say::detail(format_args!("[kubelet-start] {error:#}"));
    }
    Ok(())
}

/// Writes the local balancer's file and starts it.
///
/// # Errors
/// When it can't be written or started.
pub fn balancer(host: &Host, prefer: &str, servers: &[String], ca_file: &str) -> Result<()> {
    let config = units::balancer_config(prefer, servers, ca_file);
    let changed = host.write_yaml(paths::BALANCER_CONFIG, &config, 0o600)?;
    host.run_with(&units::balancer(), changed.yes())
}

/// The taints a node registers with: the configured ones, else the control planes'.
pub fn taints(registration: &NodeRegistration, control_plane: bool) -> Vec<Value> {
    match &registration.taints {
        Some(taints) => taints.clone(),
        None if control_plane => vec![control_plane_taint()],
        None => Vec::new(),
    }
}

/// Writes the kubelet's configuration, its patch for this machine and its flags; says whether one of them is new.
///
/// # Errors
/// When a file can't be written or a patch can't be applied.
pub fn write_kubelet(
    host: &Host,
    config: &Value,
    registration: &NodeRegistration,
    taints: &[Value],
    facts: &Facts,
    patches: Option<&Patches>,
) -> Result<Changed> {
    host.contents(paths::KUBELET)?;
    host.contents(paths::MANIFESTS)?;
    let flags = units::kubelet_flags(registration, &facts.hostname, taints);
    let line = units::flags_line(&flags);
    let flags = host.write(paths::KUBELET_FLAGS, line.as_bytes(), 0o644)?;
    say::line(
        "kubelet-start",
        format_args!("Writing kubelet environment file with flags to file {:?}", paths::KUBELET_FLAGS),
    );
    let instance = json!({"containerRuntimeEndpoint": registration.cri_socket});
    let instance = host.write_yaml(paths::KUBELET_INSTANCE, &instance, 0o644)?;
    let document = kubelet_document(config, registration, facts);
    let document = crate::patches::apply(patches, "kubeletconfiguration", document)?;
    let document = host.write_yaml(paths::KUBELET_CONFIG, &document, 0o644)?;
    say::line(
        "kubelet-start",
        format_args!("Writing kubelet configuration to file {:?}", paths::KUBELET_CONFIG),
    );
    let new = flags.yes() || instance.yes() || document.yes();
    Ok(if new { Changed::Yes } else { Changed::No })
}

/// Installs and starts the kubelet; one that runs is restarted if its files are new.
///
/// # Errors
/// As the service manager.
pub fn start_kubelet(host: &Host, files: Changed) -> Result<()> {
    say::line("kubelet-start", "Starting the kubelet");
    host.run_with(&units::kubelet(), files.yes())
}

/// The cluster's document with what is true of this machine alone, where the cluster leaves it open.
pub fn kubelet_document(config: &Value, registration: &NodeRegistration, facts: &Facts) -> Value {
    let mut document = config.clone();
    document["containerRuntimeEndpoint"] = json!(registration.cri_socket);
    if let Value::Object(own) = kubelet_instance(&registration.cri_socket, facts) {
        own.into_iter()
            .filter(|(key, _)| config.get(key).is_none())
            .for_each(|(key, value)| document[key] = value);
    }
    document
}

/// Makes the certificate in kubelet.conf, or in the files it names, the kubelet's own, which it renews by itself and which
/// the node's other daemons show.
///
/// # Errors
/// When a file can't be written.
pub fn adopt_identity() -> Result<()> {
    let link = Path::new(paths::KUBELET_CLIENT);
    if link.exists() {
        return Ok(());
    }
    let Some(pem) = identity(Path::new(paths::KUBELET_CONF))? else { return Ok(()) };
    let stamp = jiff::Zoned::now().strftime("%Y-%m-%d-%H-%M-%S").to_string();
    let name = format!("kubelet-client-{stamp}.pem");
    let dir = link.parent().context("a certificate needs a directory")?;
    coxctl_pki::authority::write_file(&dir.join(&name), &pem, 0o600)?;
    let fresh = dir.join(".kubelet-client-current.pem");
    let _ = std::fs::remove_file(&fresh);
    std::os::unix::fs::symlink(dir.join(&name), &fresh).context("linking the kubelet's certificate")?;
    std::fs::rename(&fresh, link).context("linking the kubelet's certificate")
}

/// Certificate and key of a kubeconfig's current user, in one PEM text.
fn identity(kubeconfig: &Path) -> Result<Option<Vec<u8>>> {
    let config = Current::load(kubeconfig)?;
    match (config.certificate()?, config.key()?) {
        (Some(certificate), Some(key)) => {
            coxctl_pki::x509::read(&certificate)
                .with_context(|| format!("client certificate of {}", kubeconfig.display()))?;
            Ok(Some(format!("{}\n{key}", certificate.trim_end()).into_bytes()))
        }
        _ => Ok(None),
    }
}

/// Writes the proxy's files and starts it.
///
/// # Errors
/// When a file can't be written or the daemon can't be started.
pub fn proxy(host: &Host, node: &str, cluster: &str, ca_pem: &str, document: &Value) -> Result<()> {
    let kubeconfig = coxctl_pki::node_agent_kubeconfig(cluster, "kube-proxy", ca_pem);
    let mut changed = host.write_yaml(paths::PROXY_CONF, &kubeconfig, 0o600)?.yes();
    let mut document = document.clone();
    document["clientConnection"]["kubeconfig"] = json!(paths::PROXY_CONF);
    changed |= host.write_yaml(paths::PROXY_CONFIG, &document, 0o644)?.yes();
    host.run_with(&units::proxy(node), changed)
}

/// Writes the network agent's file and starts it.
///
/// # Errors
/// When a file can't be written or the daemon can't be started.
pub fn network(
    host: &Host,
    node: &str,
    cluster: &str,
    ca_pem: &str,
    pod_subnet: &str,
    extra: &[Arg],
) -> Result<()> {
    let kubeconfig = coxctl_pki::node_agent_kubeconfig(cluster, "coxswain-network", ca_pem);
    let changed = host.write_yaml(paths::NETWORK_CONF, &kubeconfig, 0o600)?;
    host.run_with(&units::network(node, pod_subnet, extra), changed.yes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_planes_keep_pods_away_unless_told() {
        let mut registration = NodeRegistration::default();
        assert_eq!(taints(&registration, true), [control_plane_taint()]);
        assert!(taints(&registration, false).is_empty());
        registration.taints = Some(Vec::new());
        assert!(taints(&registration, true).is_empty());
    }

    #[test]
    fn an_identity_is_found_in_the_file_or_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let conf = |user: &str| {
            let path = dir.path().join("kubelet.conf");
            let text = format!(
                "{{current-context: x, contexts: [{{name: x, context: {{cluster: c, user: u}}}}], clusters: [{{name: c, cluster: {{}}}}], users: [{{name: u, user: {user}}}]}}"
            );
            std::fs::write(&path, text).unwrap();
            identity(&path)
        };
        let pki = dir.path().join("pki");
        let ca = coxctl_pki::authority::Authority::load_or_create(&pki, "ca", "kubernetes").unwrap();
        let who = coxctl_pki::authority::Identity::client("system:node:a", &["system:nodes"]);
        let (crt, key) = ca.issue_on(&who, &Default::default()).unwrap();
        for (name, text) in [("c.crt", &crt), ("c.key", &key)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let b64 = |text: &str| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text);
        let embedded = format!("{{client-certificate-data: {}, client-key-data: {}}}", b64(&crt), b64(&key));
        let want = format!("{}\n{key}", crt.trim_end()).into_bytes();
        assert_eq!(conf(&embedded).unwrap().unwrap(), want);
        assert_eq!(conf("{client-certificate: c.crt, client-key: c.key}").unwrap().unwrap(), want);
        assert!(conf("{client-certificate-data: Qwo=, client-key-data: Swo=}").is_err());
        assert_eq!(conf("{token: t}").unwrap(), None);
    }

    #[test]
    fn lists_are_split() {
        assert_eq!(list("10.0.0.0/8, fd00::/108,"), ["10.0.0.0/8", "fd00::/108"]);
    }
}
