//! `certs …` and `kubeconfig user`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, Subcommand, ValueEnum};
use coxctl_config::{
    ClusterConfiguration, DEFAULT_CERTIFICATES_DIR, Facts, GoDuration, Init, KUBERNETES_DIR,
    control_plane_endpoint, default_init, print, validate_init,
};
use serde_json::json;

use crate::authority::{Authority, Identity, Terms};
use crate::expiry::{Dirs, KNOWN, Known};
use crate::nodeconf::Current;
use crate::{csr, expiry, kubeconfig, seal, table, watch, x509};

/// `coxctl certs`.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Show when the certificates of this control plane end
    CheckExpiration {
        /// Which files
        #[command(flatten)]
        at: At,
        /// Output format
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Renew a certificate by name, or all of them
    Renew {
        /// Name as check-expiration lists it, or all
        name: String,
        /// Which files
        #[command(flatten)]
        at: At,
    },
    /// Print a new key for the upload of control-plane certificates
    CertificateKey,
    /// Make keys and requests to have them signed by an external authority
    #[command(name = "generate-csr")]
    GenerateCsr {
        /// Which files
        #[command(flatten)]
        at: At,
    },
    /// Renew the certificates of this control plane when two thirds of their life are over, for ever
    Watch {
        /// Which files
        #[command(flatten)]
        at: At,
        /// Where to write what is due when (JSON)
        #[arg(long)]
        status_file: Option<PathBuf>,
    },
}

/// Which files a command is about.
#[derive(Debug, Default, Args)]
pub struct At {
    /// Directory of certificates (default: the configuration's, else /etc/kubernetes/pki)
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,
    /// Directory of kubeconfigs
    #[arg(long, default_value = KUBERNETES_DIR)]
    pub kubeconfig_dir: PathBuf,
    /// A configuration file
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Accepted for kubeadm's sake; the files of the machine say everything
    #[arg(long, hide = true)]
    pub kubeconfig: Option<PathBuf>,
}

/// Form of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables.
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// `coxctl kubeconfig`.
#[derive(Debug, Subcommand)]
pub enum KubeconfigCommand {
    /// Print a kubeconfig for another user
    User(UserArgs),
}

/// Whose kubeconfig.
#[derive(Debug, Args)]
pub struct UserArgs {
    /// Name of the user, and common name of the client certificate
    #[arg(long)]
    pub client_name: String,
    /// Groups, as organisations of the client certificate
    #[arg(long, value_delimiter = ',')]
    pub org: Vec<String>,
    /// Log in with this token in place of a certificate
    #[arg(long)]
    pub token: Option<String>,
    /// Life of the certificate, such as 8760h0m0s
    #[arg(long)]
    pub validity_period: Option<GoDuration>,
    /// A configuration file
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Directory of kubeconfigs, from which the server is learnt when there is no configuration file
    #[arg(long, default_value = KUBERNETES_DIR, hide = true)]
    pub kubeconfig_dir: PathBuf,
}

/// Runs a `certs` command; returns the exit code.
///
/// # Errors
/// What the command says.
pub async fn run_certs(command: CertsCommand) -> Result<i32> {
    match command {
        CertsCommand::CheckExpiration { at, output } => print!("{}", expirations(&at, output)?),
        CertsCommand::Renew { name, at } => renew(&name, &at)?,
        CertsCommand::CertificateKey => println!("{}", seal::certificate_key()?),
        CertsCommand::GenerateCsr { at } => {
            let init = configuration(at.config.as_deref())?;
            for path in csr::generate(&at.dirs(&init.cluster), &init)? {
                println!("[certs] Wrote {}", path.display());
            }
        }
        CertsCommand::Watch { at, status_file } => {
            let dirs = at.dirs_read()?.0;
            daemon::logging::init("coxctl certs watch", 2);
            let token = daemon::signal::shutdown();
            daemon::notify::serving(&token);
            watch::watch(dirs, status_file, token).await?;
        }
    }
    Ok(0)
}

/// Runs a `kubeconfig` command; returns the exit code.
///
/// # Errors
/// What the command says.
pub async fn run_kubeconfig(command: KubeconfigCommand) -> Result<i32> {
    let KubeconfigCommand::User(args) = command;
    print!("{}", user(&args)?);
    Ok(0)
}

impl At {
    fn dirs(&self, cluster: &ClusterConfiguration) -> Dirs {
        let default = match cluster.certificates_dir.as_str() {
            "" => DEFAULT_CERTIFICATES_DIR,
            dir => dir,
        };
        let pki = self.cert_dir.clone().unwrap_or_else(|| default.into());
        Dirs { pki, kubeconfigs: self.kubeconfig_dir.clone() }
    }

    /// The files, and the terms of the configuration file when there is one.
    fn dirs_read(&self) -> Result<(Dirs, Option<Terms>)> {
        let Some(path) = &self.config else { return Ok((self.dirs(&ClusterConfiguration::default()), None)) };
        let cluster = configuration(Some(path))?.cluster;
        Ok((self.dirs(&cluster), Some(Terms::of(&cluster)?)))
    }
}

/// The configuration of a file, or of nothing; defaulted and checked.
fn configuration(path: Option<&Path>) -> Result<Init> {
    let mut init = Init::default();
    if let Some(path) = path {
        let (read, warnings) = coxctl_config::read_init(&crate::files::read(path)?)?;
        warnings.iter().for_each(|w| eprintln!("[config] WARNING: {w}"));
        init = read;
    }
    default_init(&mut init, &Facts::gather());
    // Which runtime a machine has matters to no certificate.
    init.init.node_registration.cri_socket = "unix:///var/run/containerd/containerd.sock".into();
    let errors = validate_init(&init);
    ensure!(errors.is_empty(), "{}", coxctl_config::validate::report(&errors));
    Ok(init)
}

fn expirations(at: &At, output: Output) -> Result<String> {
    let all = expiry::expiry(&at.dirs_read()?.0)?;
    let now = x509::now();
    Ok(match output {
        Output::Text => table::text(&all, now),
        Output::Json => print::json(&table::object(&all, now)),
        Output::Yaml => coxctl_config::documents(&[table::object(&all, now)]),
    })
}

fn renew(name: &str, at: &At) -> Result<()> {
    let (dirs, terms) = at.dirs_read()?;
    if name != "all" {
        let done = expiry::renew(&dirs, name, terms.as_ref())?;
        if let Some(known) = Known::of(name) {
            println!("{}", outcome(known, done));
        }
        return Ok(());
    }
    for known in KNOWN.iter().filter(|k| !k.is_ca()) {
        let missing = known.expiry(&dirs)?.missing;
        if missing && known.name == expiry::OPTIONAL {
            continue;
        }
        let line = match missing {
            true => format!("MISSING! {}", known.about),
            false => outcome(known, known.renew(&dirs, terms.as_ref())?),
        };
        println!("{line}");
    }
    println!("\nDone renewing certificates. The daemons take the new files up by themselves.");
    Ok(())
}

fn outcome(known: &Known, done: bool) -> String {
    match done {
        true => format!("{} renewed", known.about),
        false => format!(
            "Detected external {}: {} can't be renewed, the authority's key is not here",
            known.authority, known.name
        ),
    }
}

/// A kubeconfig for somebody: the cluster's authority, its server, and a new certificate or the given token.
fn user(args: &UserArgs) -> Result<String> {
    let init = configuration(args.config.as_deref())?;
    let cluster = &init.cluster;
    let ca = Authority::load(Path::new(&cluster.certificates_dir), "ca")?
        .with_context(|| format!("{}/ca.crt is not there", cluster.certificates_dir))?;
    let credentials = match &args.token {
        Some(token) => json!({"token": token}),
        None => certificate(args, &ca, cluster)?,
    };
    let server = match (&args.config, Current::load(&args.kubeconfig_dir.join("admin.conf"))) {
        (None, Ok(admin)) => admin.server().to_string(),
        _ => format!("https://{}", control_plane_endpoint(cluster, &init.init.local_api_endpoint)),
    };
    let document =
        kubeconfig::document(&cluster.cluster_name, &args.client_name, &server, &ca.cert_pem, credentials);
    Ok(coxctl_config::documents(&[document]))
}

fn certificate(args: &UserArgs, ca: &Authority, cluster: &ClusterConfiguration) -> Result<serde_json::Value> {
    if !ca.can_sign() {
        bail!(
            "the key of the cluster's authority is not here, so no certificate can be signed; give a --token"
        );
    }
    let orgs: Vec<&str> = args.org.iter().map(String::as_str).collect();
    let mut terms = Terms::of(cluster)?;
    if let Some(life) = args.validity_period {
        ensure!(life > GoDuration(0), "--validity-period must be positive");
        terms.leaf = life.whole_seconds();
    }
    let (crt, key) = ca.issue_on(&Identity::client(&args.client_name, &orgs), &terms)?;
    let encode = |text: String| BASE64_STANDARD.encode(text);
    Ok(json!({"client-certificate-data": encode(crt), "client-key-data": encode(key)}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::tests::control_plane;

    fn at(dir: &Path) -> At {
        At { cert_dir: Some(dir.join("pki")), kubeconfig_dir: dir.into(), ..At::default() }
    }

    fn config(dir: &Path) -> PathBuf {
        let path = dir.join("config.yaml");
        let text = format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncertificatesDir: {}\nclusterName: mine\ncertificateValidityPeriod: 2h0m0s\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {{advertiseAddress: 172.30.0.9}}\nnodeRegistration: {{name: cp-1}}\n",
            dir.join("pki").display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn expirations_in_every_form() {
        let dir = tempfile::tempdir().unwrap();
        control_plane(dir.path(), 3600);
        assert!(expirations(&at(dir.path()), Output::Text).unwrap().starts_with("CERTIFICATE  "));
        assert!(
            expirations(&at(dir.path()), Output::Yaml).unwrap().contains("kind: CertificateExpirationInfo\n")
        );
        let json = expirations(&at(dir.path()), Output::Json).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["certificates"].as_array().unwrap().len(), 12);
    }

    #[test]
    fn renewal_goes_by_the_configuration_file_when_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 3600);
        let by_config =
            At { config: Some(config(dir.path())), kubeconfig_dir: dir.path().into(), ..At::default() };
        let life = |name| {
            let e = Known::of(name).unwrap().expiry(&dirs).unwrap();
            e.not_after - e.not_before - 300
        };
        renew("etcd-peer", &by_config).unwrap();
        renew("etcd-server", &at(dir.path())).unwrap();
        assert_eq!((life("etcd-peer"), life("etcd-server")), (7200, 3600));
        std::fs::remove_file(dir.path().join("super-admin.conf")).unwrap();
        renew("all", &by_config).unwrap();
        assert_eq!(life("admin.conf"), 7200);
        assert!(renew("ca", &at(dir.path())).is_err());
    }

    #[test]
    fn a_users_kubeconfig() {
        let dir = tempfile::tempdir().unwrap();
        control_plane(dir.path(), 3600);
        let args = |token: Option<&str>, life: &str| UserArgs {
            client_name: "jane".into(),
            org: vec!["devs".into(), "ops".into()],
            token: token.map(String::from),
            validity_period: life.parse().ok(),
            config: Some(config(dir.path())),
            kubeconfig_dir: dir.path().into(),
        };
        let path = dir.path().join("jane.conf");
        std::fs::write(&path, user(&args(None, "30m")).unwrap()).unwrap();
        let made = Current::load(&path).unwrap();
        assert_eq!((made.server(), made.user_name.as_str()), ("https://172.30.0.9:6443", "jane"));
        assert_eq!(made.document["current-context"], "jane@mine");
        let seen = x509::read(&made.certificate().unwrap().unwrap()).unwrap();
        assert_eq!(seen.identity, Identity::client("jane", &["devs", "ops"]));
        assert_eq!(seen.not_after - seen.not_before, 1800 + 300);
        std::fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
        assert!(user(&args(None, "")).unwrap_err().to_string().contains("--token"));
        assert!(user(&args(Some("secret"), "")).unwrap().contains("token: secret\n"));
    }
}
