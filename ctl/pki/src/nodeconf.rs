//! The kubeconfigs of a machine: who calls which API server, with what.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use coxctl_config::{ApiEndpoint, ClusterConfiguration, control_plane_endpoint};
use serde_json::{Value, json};

use crate::authority::{Authority, Identity, Terms};
use crate::cluster::Outcome;
use crate::files::{announce, read, write_file};
use crate::kubeconfig::document;
use crate::{Record, fitness, x509};

/// Where the node-local balancer listens.
pub const BALANCER: &str = "https://127.0.0.1:6444";
/// The name in every API server certificate that the balancer's callers check.
pub const BALANCER_SERVER_NAME: &str = "kubernetes";
/// The kubelet's rotating client certificate and key, which the node's other daemons use too.
pub const KUBELET_CLIENT_PEM: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
/// User of bootstrap-kubelet.conf.
pub const BOOTSTRAP_USER: &str = "tls-bootstrap-token-user";

/// One kubeconfig of kubeadm's table.
#[derive(Debug, Clone, PartialEq)]
pub struct KubeconfigSpec {
    /// Phase name: `admin`, `super-admin`, `kubelet`, `controller-manager`, `scheduler`.
    pub name: &'static str,
    /// File name in the directory of kubeconfigs: `admin.conf`.
    pub file: &'static str,
    /// Common name of the client certificate, and name of the user.
    pub user: String,
    /// Organisations of the client certificate.
    pub orgs: Vec<String>,
    /// URL of the API server.
    pub server: String,
    /// Name checked in the server's certificate in place of the URL's host.
    pub tls_server_name: Option<String>,
}

impl KubeconfigSpec {
    /// What the client certificate says.
    pub fn identity(&self) -> Identity {
        let orgs: Vec<&str> = self.orgs.iter().map(String::as_str).collect();
        Identity::client(&self.user, &orgs)
    }

    /// The document with these credentials.
    pub fn document(&self, cluster_name: &str, ca_pem: &str, credentials: Value) -> Value {
        let doc = document(cluster_name, &self.user, &self.server, ca_pem, credentials);
        with_server_name(doc, self.tls_server_name.as_deref())
    }
}

fn with_server_name(mut doc: Value, name: Option<&str>) -> Value {
    if let Some(name) = name {
        doc["clusters"][0]["cluster"]["tls-server-name"] = json!(name);
    }
    doc
}

/// All kubeconfigs of a control plane, in order: admin, super-admin (init only), kubelet, controller-manager, scheduler.
/// People's go to the cluster's endpoint, daemons' to the machine's balancer.
pub fn cluster_kubeconfigs(
    cluster: &ClusterConfiguration,
    node: &str,
    local: &ApiEndpoint,
    super_admin: bool,
) -> Vec<KubeconfigSpec> {
    let endpoint = format!("https://{}", control_plane_endpoint(cluster, local));
    let person = |name, file, user: &str, org: &str| KubeconfigSpec {
        name,
        file,
        user: user.into(),
        orgs: vec![org.into()],
        server: endpoint.clone(),
        tls_server_name: None,
    };
    let daemon = |name, file, user: String, orgs: &[&str]| KubeconfigSpec {
        name,
        file,
        user,
        orgs: orgs.iter().map(|o| o.to_string()).collect(),
        server: BALANCER.into(),
        tls_server_name: Some(BALANCER_SERVER_NAME.into()),
    };
    let mut out = vec![person("admin", "admin.conf", "kubernetes-admin", "kubeadm:cluster-admins")];
    if super_admin {
        out.push(person("super-admin", "super-admin.conf", "kubernetes-super-admin", "system:masters"));
    }
    out.push(daemon("kubelet", "kubelet.conf", format!("system:node:{node}"), &["system:nodes"]));
    let manager = "system:kube-controller-manager".into();
    out.push(daemon("controller-manager", "controller-manager.conf", manager, &[]));
    out.push(daemon("scheduler", "scheduler.conf", "system:kube-scheduler".into(), &[]));
    out
}

/// The kubeconfig of cloud-controller-manager, which only control planes with one have.
pub fn cloud_kubeconfig() -> KubeconfigSpec {
    KubeconfigSpec {
        name: "cloud-controller-manager",
        file: "cloud-controller-manager.conf",
        user: "system:cloud-controller-manager".into(),
        orgs: Vec::new(),
        server: BALANCER.into(),
        tls_server_name: Some(BALANCER_SERVER_NAME.into()),
    }
}

/// Sees to one kubeconfig in `dir` with a client certificate of `pki`'s authority: an existing file is kept when it trusts
/// that authority (another server is worth a warning).
///
/// # Errors
/// An existing file that trusts another authority or is no kubeconfig; no file and no authority's key.
pub fn ensure_kubeconfig(
    dir: &Path,
    pki: &Path,
    spec: &KubeconfigSpec,
    cluster: &ClusterConfiguration,
    record: Record<'_>,
) -> Result<(Outcome, Vec<String>)> {
    let path = dir.join(spec.file);
    let ca = Authority::load(pki, "ca")?.with_context(|| {
        format!("{} is not there: make it first (phase certs/ca)", pki.join("ca.crt").display())
    })?;
    let mut outcome = Outcome::Made;
    if path.exists() {
        let (expired, warnings) = look_over(&path, spec, &ca)?;
        if !ca.can_sign() && Current::load(&path)?.certificate_if_there()?.is_none() {
            bail!(
                "{} refers to a client certificate that is not there, and the authority's key is not here (an external authority): put a kubeconfig with a certificate for {} in place",
                path.display(),
                spec.user
            );
        }
        if !expired || !ca.can_sign() {
            return Ok((if ca.can_sign() { Outcome::Kept } else { Outcome::External }, warnings));
        }
        outcome = Outcome::Renewed;
    }
    if !ca.can_sign() {
        bail!(
            "{} is missing and the authority's key is not here (an external authority): have a certificate for {} signed there and put the kubeconfig in place",
            path.display(),
            spec.user
        );
    }
    let (crt, key) = ca.issue_on(&spec.identity(), &Terms::of(cluster)?)?;
    let credentials = json!({
        "client-certificate-data": BASE64_STANDARD.encode(crt),
        "client-key-data": BASE64_STANDARD.encode(key),
    });
    announce(&path, record)?;
    write(&path, &spec.document(&cluster.cluster_name, &ca.cert_pem, credentials))?;
    Ok((outcome, Vec::new()))
}

/// Whether a kubeconfig that is there can stay, before anything is made.
///
/// # Errors
/// When it is of another cluster or another machine, or no kubeconfig.
pub fn kubeconfig_fits(dir: &Path, pki: &Path, spec: &KubeconfigSpec) -> Result<()> {
    let path = dir.join(spec.file);
    if !path.exists() {
        return Ok(());
    }
    Current::load(&path)?;
    match Authority::load(pki, "ca")? {
        Some(ca) => look_over(&path, spec, &ca).map(drop),
        None => bail!(
            "{} is there without its authority {}: it is left from another cluster; move it away to have a new one made",
            path.display(),
            pki.join("ca.crt").display()
        ),
    }
}

/// Whether the file's certificate has run out, and what deserves a line.
fn look_over(path: &Path, spec: &KubeconfigSpec, ca: &Authority) -> Result<(bool, Vec<String>)> {
    let config = Current::load(path)?;
    if !config.trusts(&ca.cert_pem)? {
        bail!(
            "{} trusts another authority than this cluster's; it is left from another cluster: move it away to have a new one made",
            path.display()
        );
    }
    let mut warnings = Vec::new();
    if config.server() != spec.server {
        warnings.push(format!(
            "the kubeconfig file {} points to the server {:?}, expected {:?}",
            path.display(),
            config.server(),
            spec.server
        ));
    }
    // The kubelet's file may refer to a certificate that went with the kubelet's directory: as good as run out.
    let Some(pem) = config.certificate_if_there()? else {
        warnings.push(format!("{} refers to a client certificate that is not there", path.display()));
        return Ok((true, warnings));
    };
    let seen = pem.map(|pem| x509::read(&pem)).transpose();
    let seen = seen.with_context(|| format!("client certificate in {}", path.display()))?;
    if let Some(other) = seen.as_ref().filter(|s| spec.name == "kubelet" && s.identity.cn != spec.user) {
        bail!(
            "{} is for {}, this machine is {}: it is left from another name; move it away to have a new one made",
            path.display(),
            other.identity.cn,
            spec.user
        );
    }
    warnings.extend(seen.as_ref().and_then(|s| fitness::ages(spec.file, s)));
    Ok((seen.is_some_and(|s| s.not_after <= x509::now()), warnings))
}

/// The cluster and user of a kubeconfig's current context.
pub struct Current {
    /// The whole document.
    pub document: Value,
    cluster: Value,
    user: Value,
    /// Name of the user.
    pub user_name: String,
    dir: std::path::PathBuf,
}

impl Current {
    /// Reads a kubeconfig.
    ///
    /// # Errors
    /// A file that can't be read, is no kubeconfig, or whose current context leads nowhere.
    pub fn load(path: &Path) -> Result<Self> {
        let document: Value = serde_yaml::from_str(&read(path)?).with_context(|| {
            format!("{} is no kubeconfig; move it away to have a new one made", path.display())
        })?;
        let named = |list: &str, name: &Value, inner: &str| {
            let entries = document[list].as_array()?;
            let entry = entries.iter().find(|e| e["name"] == *name)?;
            Some(entry[inner].clone())
        };
        let lost = || format!("the current context of {} leads nowhere", path.display());
        let context = named("contexts", &document["current-context"], "context").with_context(lost)?;
        let cluster = named("clusters", &context["cluster"], "cluster").with_context(lost)?;
        let user = named("users", &context["user"], "user").with_context(lost)?;
        let user_name = context["user"].as_str().unwrap_or_default().to_string();
        let dir = path.parent().unwrap_or(Path::new(".")).to_path_buf();
        Ok(Self { cluster, user, user_name, dir, document })
    }

    /// URL of the API server.
    pub fn server(&self) -> &str {
        self.cluster["server"].as_str().unwrap_or_default()
    }

    /// Certificates of the authorities it trusts, PEM.
    ///
    /// # Errors
    /// Data that is no base64, a file that can't be read.
    pub fn authorities(&self) -> Result<Option<String>> {
        self.pem(&self.cluster, "certificate-authority")
    }

    /// The client certificate, PEM; none when it logs in by other means.
    ///
    /// # Errors
    /// Data that is no base64, a file that can't be read.
    pub fn certificate(&self) -> Result<Option<String>> {
        self.pem(&self.user, "client-certificate")
    }

    /// The client certificate as [`Current::certificate`] has it; none when it is in a file that is not there.
    fn certificate_if_there(&self) -> Result<Option<Option<String>>> {
        let elsewhere = self.user["client-certificate"].as_str().filter(|_| !self.is_embedded());
        if elsewhere.is_some_and(|file| !self.dir.join(file).exists()) {
            return Ok(None);
        }
        self.certificate().map(Some)
    }

    /// The client key, PEM.
    ///
    /// # Errors
    /// Data that is no base64, a file that can't be read.
    pub fn key(&self) -> Result<Option<String>> {
        self.pem(&self.user, "client-key")
    }

    /// Whether its client certificate is in the file itself.
    pub fn is_embedded(&self) -> bool {
        self.user["client-certificate-data"].is_string()
    }

    fn pem(&self, of: &Value, name: &str) -> Result<Option<String>> {
        if let Some(data) = of[format!("{name}-data")].as_str() {
            let bytes =
                BASE64_STANDARD.decode(data.trim()).with_context(|| format!("{name}-data is no base64"))?;
            return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
        of[name].as_str().map(|file| read(&self.dir.join(file))).transpose()
    }

    /// Whether one of the authorities it trusts is among those of `ca_pem`.
    fn trusts(&self, ca_pem: &str) -> Result<bool> {
        let expected = x509::ders(ca_pem)?;
        let trusted = x509::ders(&self.authorities()?.unwrap_or_default())?;
        Ok(trusted.iter().any(|der| expected.contains(der)))
    }

    /// The document with other embedded credentials for the current user.
    pub fn with_credentials(&self, crt: &str, key: &str) -> Value {
        let mut document = self.document.clone();
        for entry in document["users"].as_array_mut().into_iter().flatten() {
            if entry["name"] == self.user_name {
                let user = &mut entry["user"];
                user["client-certificate-data"] = json!(BASE64_STANDARD.encode(crt));
                user["client-key-data"] = json!(BASE64_STANDARD.encode(key));
            }
        }
        document
    }
}

fn write(path: &Path, document: &Value) -> Result<()> {
    write_file(path, serde_yaml::to_string(document)?.as_bytes(), 0o600)
}

/// Makes kubelet.conf refer to the rotating certificate at `pem` in place of the embedded one; true when it changed. Does
/// nothing while `pem` is not there.
///
/// # Errors
/// A file that is no kubeconfig or can't be written.
pub fn finalize_kubelet_conf(path: &Path, pem: &Path) -> Result<bool> {
    if !pem.exists() {
        return Ok(false);
    }
    let config = Current::load(path)?;
    let mut document = config.document.clone();
    for entry in document["users"].as_array_mut().into_iter().flatten() {
        if entry["name"] == config.user_name {
            entry["user"] = by_path(pem);
        }
    }
    if document == config.document {
        return Ok(false);
    }
    write(path, &document)?;
    Ok(true)
}

fn by_path(pem: &Path) -> Value {
    json!({"client-certificate": pem.display().to_string(), "client-key": pem.display().to_string()})
}

/// A kubeconfig (kube-proxy.conf, network.conf, the kubelet's own after its bootstrap) that calls the balancer with the
/// kubelet's rotating certificate by path.
pub fn node_agent_kubeconfig(cluster_name: &str, user: &str, ca_pem: &str) -> Value {
    let credentials = by_path(Path::new(KUBELET_CLIENT_PEM));
    with_server_name(document(cluster_name, user, BALANCER, ca_pem, credentials), Some(BALANCER_SERVER_NAME))
}

/// bootstrap-kubelet.conf: the token as user tls-bootstrap-token-user.
pub fn bootstrap_kubeconfig(
    cluster_name: &str,
    server: &str,
    tls_server_name: Option<&str>,
    ca_pem: &str,
    token: &str,
) -> Value {
    let doc = document(cluster_name, BOOTSTRAP_USER, server, ca_pem, json!({"token": token}));
    with_server_name(doc, tls_server_name)
}

/// The address of a control plane, from its text.
///
/// # Errors
/// A text that is no address.
pub fn advertise_ip(local: &ApiEndpoint) -> Result<IpAddr> {
    local
        .advertise_address
        .parse()
        .with_context(|| format!("advertise address {:?}", local.advertise_address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::unrecorded;
    use coxctl_config::{GoDuration, default_cluster};
    use std::fs;

    fn cluster() -> ClusterConfiguration {
        let mut cluster = ClusterConfiguration::default();
        default_cluster(&mut cluster);
        cluster
    }

    fn specs() -> Vec<KubeconfigSpec> {
        let local = ApiEndpoint { advertise_address: "172.30.0.2".into(), bind_port: 6443 };
        cluster_kubeconfigs(&cluster(), "cp-1", &local, true)
    }

    #[test]
    fn the_table_of_kubeadm_with_balanced_servers() {
        let text: String = specs()
            .iter()
            .map(|s| format!("{} {} {:?} {} {:?}\n", s.file, s.user, s.orgs, s.server, s.tls_server_name))
            .collect();
        expect_test::expect![[r#"
            admin.conf kubernetes-admin ["kubeadm:cluster-admins"] https://172.30.0.2:6443 None
            super-admin.conf kubernetes-super-admin ["system:masters"] https://172.30.0.2:6443 None
            kubelet.conf system:node:cp-1 ["system:nodes"] https://127.0.0.1:6444 Some("kubernetes")
            controller-manager.conf system:kube-controller-manager [] https://127.0.0.1:6444 Some("kubernetes")
            scheduler.conf system:kube-scheduler [] https://127.0.0.1:6444 Some("kubernetes")
        "#]]
        .assert_eq(&text);
        let mut with = cluster();
        with.control_plane_endpoint = "lb.example".into();
        let local = ApiEndpoint { advertise_address: "172.30.0.2".into(), bind_port: 6443 };
        let all = cluster_kubeconfigs(&with, "cp-1", &local, false);
        assert_eq!((all.len(), all[0].server.as_str()), (4, "https://lb.example:6443"));
    }

    #[test]
    fn a_file_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::load_or_create(dir.path(), "ca", "kubernetes").unwrap();
        for spec in specs() {
            let (outcome, warnings) =
                ensure_kubeconfig(dir.path(), dir.path(), &spec, &cluster(), &mut unrecorded).unwrap();
            assert_eq!((outcome, warnings.len()), (Outcome::Made, 0));
            let made = Current::load(&dir.path().join(spec.file)).unwrap();
            let crt = made.certificate().unwrap().unwrap();
            assert_eq!(x509::read(&crt).unwrap().identity, spec.identity());
            assert!(x509::signed_by(&crt, &ca.cert_pem));
            assert_eq!(
                Key::from_pem(&made.key().unwrap().unwrap()).unwrap().spki(),
                x509::read(&crt).unwrap().spki
            );
            let (outcome, warnings) =
                ensure_kubeconfig(dir.path(), dir.path(), &spec, &cluster(), &mut unrecorded).unwrap();
            assert_eq!((outcome, warnings.len()), (Outcome::Kept, 0));
        }
    }

    #[test]
    fn other_authorities_are_errors_and_other_servers_are_remarked_on() {
        let dir = tempfile::tempdir().unwrap();
        let (pki, all) = (dir.path(), specs());
        Authority::load_or_create(pki, "ca", "kubernetes").unwrap();
        let go = |spec: &KubeconfigSpec, pki: &Path| {
            ensure_kubeconfig(dir.path(), pki, spec, &cluster(), &mut unrecorded)
        };
        go(&all[0], pki).unwrap();
        let moved = KubeconfigSpec { server: "https://other:6443".into(), ..all[0].clone() };
        let (outcome, warnings) = go(&moved, pki).unwrap();
        assert!(outcome == Outcome::Kept && warnings[0].contains("expected \"https://other:6443\""));

        let foreign = dir.path().join("foreign");
        Authority::load_or_create(&foreign, "ca", "kubernetes").unwrap();
        assert!(go(&all[0], &foreign).unwrap_err().to_string().contains("trusts another authority"));
        fs::write(dir.path().join("admin.conf"), "a: [").unwrap();
        assert!(format!("{:#}", go(&all[0], pki).unwrap_err()).contains("is no kubeconfig"));
        fs::write(dir.path().join("admin.conf"), "a: 1").unwrap();
        assert!(go(&all[0], pki).unwrap_err().to_string().contains("leads nowhere"));

        fs::remove_file(pki.join("ca.key")).unwrap();
        assert!(go(&all[3], pki).unwrap_err().to_string().contains("external authority"));
    }

    #[test]
    fn one_that_has_run_out_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        Authority::load_or_create(dir.path(), "ca", "kubernetes").unwrap();
        let mut short = cluster();
        short.certificate_validity_period = Some(GoDuration(0));
        let spec = &specs()[3];
        ensure_kubeconfig(dir.path(), dir.path(), spec, &short, &mut unrecorded).unwrap();
        let (outcome, _) =
            ensure_kubeconfig(dir.path(), dir.path(), spec, &cluster(), &mut unrecorded).unwrap();
        assert_eq!(outcome, Outcome::Renewed);
    }

    #[test]
    fn the_kubelets_file_comes_to_refer_to_its_rotating_certificate() {
        let dir = tempfile::tempdir().unwrap();
        Authority::load_or_create(dir.path(), "ca", "kubernetes").unwrap();
        ensure_kubeconfig(dir.path(), dir.path(), &specs()[2], &cluster(), &mut unrecorded).unwrap();
        let (conf, pem) = (dir.path().join("kubelet.conf"), dir.path().join("current.pem"));
        assert!(!finalize_kubelet_conf(&conf, &pem).unwrap());
        fs::write(&pem, "x").unwrap();
        assert!(finalize_kubelet_conf(&conf, &pem).unwrap());
        assert!(!finalize_kubelet_conf(&conf, &pem).unwrap());
        let after = Current::load(&conf).unwrap();
        assert_eq!((after.certificate().unwrap().as_deref(), after.server()), (Some("x"), BALANCER));
        assert!(!after.is_embedded());
    }

    #[test]
    fn a_kubelets_file_without_its_certificate_or_for_another_node() {
        let dir = tempfile::tempdir().unwrap();
        Authority::load_or_create(dir.path(), "ca", "kubernetes").unwrap();
        let go = |spec: &KubeconfigSpec| {
            ensure_kubeconfig(dir.path(), dir.path(), spec, &cluster(), &mut unrecorded)
        };
        let (spec, pem) = (&specs()[2], dir.path().join("current.pem"));
        go(spec).unwrap();
        let other = KubeconfigSpec { user: "system:node:cp-2".into(), ..spec.clone() };
        let error = go(&other).unwrap_err().to_string();
        assert!(error.contains("is for system:node:cp-1, this machine is system:node:cp-2"), "{error}");
        fs::write(&pem, "x").unwrap();
        finalize_kubelet_conf(&dir.path().join("kubelet.conf"), &pem).unwrap();
        fs::remove_file(&pem).unwrap();
        let (key, aside) = (dir.path().join("ca.key"), dir.path().join("aside"));
        fs::rename(&key, &aside).unwrap();
        assert!(
            go(spec).unwrap_err().to_string().contains("refers to a client certificate that is not there")
        );
        fs::rename(&aside, &key).unwrap();
        assert_eq!(go(spec).unwrap().0, Outcome::Renewed);
        assert!(Current::load(&dir.path().join("kubelet.conf")).unwrap().is_embedded());
    }

    #[test]
    fn agents_and_newcomers() {
        let agent = node_agent_kubeconfig("kubernetes", "kube-proxy", "CA");
        assert_eq!(agent["users"][0]["user"]["client-key"], KUBELET_CLIENT_PEM);
        assert_eq!(agent["clusters"][0]["cluster"]["tls-server-name"], "kubernetes");
        assert_eq!(agent["current-context"], "kube-proxy@kubernetes");
        let new = bootstrap_kubeconfig("kubernetes", "https://a:1", None, "CA", "t");
        assert_eq!(
            (&new["users"][0]["name"], &new["users"][0]["user"]["token"]),
            (&json!(BOOTSTRAP_USER), &json!("t"))
        );
        assert_eq!(new["clusters"][0]["cluster"].get("tls-server-name"), None);
    }
}
