//! `config print|validate|migrate|images`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::read::File;
use crate::{ClusterConfiguration, Facts, FieldError, Join, Warning, documents, print};

/// A pull on its way.
pub type Pulling = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;
/// Pulls one image; supplied by who can talk to a container runtime. Arguments: the runtime's socket, the image.
pub type Pull<'a> = &'a (dyn Fn(String, String) -> Pulling + Send + Sync);

/// How often an image is asked for.
const PULL_TRIES: u32 = 5;

/// `coxctl config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print default configuration documents
    #[command(subcommand)]
    Print(PrintCommand),
    /// Read a configuration file of an older version and print it in the newest
    Migrate {
        /// The file to read
        #[arg(long)]
        old_config: PathBuf,
        /// Where to write; standard output when left out
        #[arg(long)]
        new_config: Option<PathBuf>,
        /// Accept experimental, unreleased versions (there are none)
        #[arg(long)]
        allow_experimental_api: bool,
    },
    /// Check a configuration file
    Validate {
        /// The file to read
        #[arg(long)]
        config: PathBuf,
        /// Accept deprecated versions
        #[arg(long)]
        allow_deprecated_api: bool,
        /// Accept experimental, unreleased versions (there are none)
        #[arg(long)]
        allow_experimental_api: bool,
    },
    /// List or pull the images a cluster needs
    #[command(subcommand)]
    Images(ImagesCommand),
}

/// `coxctl config print`.
#[derive(Debug, Subcommand)]
pub enum PrintCommand {
    /// Print default documents of init
    InitDefaults {
        /// Documents of components to print too: KubeletConfiguration, KubeProxyConfiguration
        #[arg(long, value_delimiter = ',')]
        component_configs: Vec<String>,
    },
    /// Print the default document of join
    JoinDefaults,
    /// Print the default document of reset
    ResetDefaults,
    /// Print the default document of upgrade
    UpgradeDefaults,
}

/// `coxctl config images`.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// List the images a cluster needs
    List {
        /// Which cluster
        #[command(flatten)]
        of: ImagesOf,
        /// Output format
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Pull the images a cluster needs
    Pull {
        /// Which cluster
        #[command(flatten)]
        of: ImagesOf,
        /// The container runtime's socket; found by itself when left out
        #[arg(long)]
        cri_socket: Option<String>,
    },
}

/// The cluster whose images are meant.
#[derive(Debug, Default, Args)]
pub struct ImagesOf {
    /// A configuration file
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Registry to take images from
    #[arg(long)]
    pub image_repository: Option<String>,
    /// Version of Kubernetes, or a label such as stable-1
    #[arg(long)]
    pub kubernetes_version: Option<String>,
    /// Feature gates (name=bool, comma separated)
    #[arg(long)]
    pub feature_gates: Option<String>,
}

/// Form of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One a line.
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Runs a `config` command; returns the exit code.
///
/// # Errors
/// A file that can't be read or is wrong, an image that can't be pulled.
pub async fn run(command: ConfigCommand, pull: Pull<'_>) -> Result<i32> {
    match command {
        ConfigCommand::Print(what) => print!("{}", printed(what)?),
        ConfigCommand::Migrate { old_config, new_config, .. } => {
            write_migrated(&old_config, new_config.as_deref())?
        }
        ConfigCommand::Validate { config, allow_deprecated_api, .. } => {
            warn(&validate(&read(&config)?, allow_deprecated_api)?);
            println!("ok");
        }
        ConfigCommand::Images(ImagesCommand::List { of, output }) => {
            print!("{}", listed(&crate::images(&cluster_of(&of)?), output));
        }
        ConfigCommand::Images(ImagesCommand::Pull { of, cri_socket }) => {
            pull_all(&of, cri_socket, pull).await?
        }
    }
    Ok(0)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("unable to read config from {:?}", path.display()))
}

fn warn(warnings: &[Warning]) {
    warnings.iter().for_each(|w| eprintln!("[config] WARNING: {w}"));
}

fn printed(what: PrintCommand) -> Result<String> {
    let values = match what {
        PrintCommand::InitDefaults { component_configs } => {
            print::init_defaults(&component_configs).map_err(anyhow::Error::msg)?
        }
        PrintCommand::JoinDefaults => vec![print::join_defaults()],
        PrintCommand::ResetDefaults => vec![print::reset_defaults()],
        PrintCommand::UpgradeDefaults => vec![print::upgrade_defaults()],
    };
    Ok(documents(&values))
}

/// Whether a file is one every command would take; returned are lines that do not stop it.
///
/// # Errors
/// Whatever reading says; unknown fields; deprecated versions unless allowed; broken rules.
pub fn validate(text: &str, allow_deprecated: bool) -> Result<Vec<Warning>> {
    let mut file = File::read(text)?;
    ensure!(file.unknown.is_empty(), "{}", file.unknown.join("\n"));
    if file.deprecated && !allow_deprecated {
        bail!("{}", file.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    let mut warnings = std::mem::take(&mut file.warnings);
    let kinds: Vec<String> = file.documents.iter().map(|d| d.kind.clone()).collect();
    ensure!(!kinds.is_empty(), "no configuration document was found in the file");
    let mut errors = Vec::new();
    for group in groups(&kinds) {
        errors.extend(check(group, text, &mut warnings)?);
    }
    ensure!(errors.is_empty(), "{}", crate::validate::report(&errors));
    Ok(warnings)
}

/// The readers a file needs: init's documents are read together.
fn groups(kinds: &[String]) -> Vec<&'static str> {
    let has = |kind: &str| kinds.iter().any(|k| k == kind);
    let init = has("InitConfiguration") || has("ClusterConfiguration");
    let all = [
        ("init", init),
        ("join", has("JoinConfiguration")),
        ("reset", has("ResetConfiguration")),
        ("upgrade", has("UpgradeConfiguration")),
    ];
    all.into_iter().filter(|g| g.1).map(|g| g.0).collect()
}

fn check(group: &str, text: &str, warnings: &mut Vec<Warning>) -> Result<Vec<FieldError>> {
    let facts = checking_facts();
    Ok(match group {
        "init" => {
            let (mut init, _) = crate::read_init(text)?;
            warnings.extend(crate::default_init(&mut init, &facts));
            crate::validate_init(&init)
        }
        "join" => {
            let (mut join, _): (Join, _) = crate::read_join(text)?;
            warnings.extend(crate::default_join(&mut join, &facts));
            crate::validate_join(&join)
        }
        "reset" => {
            let (mut reset, _) = crate::read_reset(text)?;
            crate::default_reset(&mut reset, &facts);
            crate::validate_reset(&reset)
        }
        _ => {
            let (mut upgrade, _) = crate::read_upgrade(text)?;
            crate::default_upgrade(&mut upgrade);
            crate::validate_upgrade(&upgrade)
        }
    })
}

/// A file is checked for itself, wherever that happens: what it leaves to the machine is no fault of it.
fn checking_facts() -> Facts {
    let mut facts = Facts { hostname: "node".into(), ..Facts::default() };
    facts.default_ip = Some(std::net::Ipv4Addr::new(192, 0, 2, 1).into());
    facts
}

/// A file in the newest version. Documents stay as they are but for what the version changes.
///
/// # Errors
/// Whatever reading says; unknown fields.
pub fn migrate(text: &str) -> Result<String> {
    let file = File::read(text)?;
    ensure!(file.unknown.is_empty(), "{}", file.unknown.join("\n"));
    ensure!(!file.documents.is_empty(), "no configuration document was found in the file");
    Ok(documents(&file.documents.into_iter().map(|d| d.value).collect::<Vec<_>>()))
}

fn write_migrated(old: &Path, new: Option<&Path>) -> Result<()> {
    let text = migrate(&read(old)?)?;
    match new {
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
        }
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

/// The cluster meant by the flags: of a file, or defaults, with flags over them.
///
/// # Errors
/// A file that can't be read, a version this build is not.
pub fn cluster_of(of: &ImagesOf) -> Result<ClusterConfiguration> {
    let mut cluster = match &of.config {
        Some(path) => cluster_in(&read(path)?)?,
        None => ClusterConfiguration::default(),
    };
    for (field, flag) in [
        (&mut cluster.image_repository, &of.image_repository),
        (&mut cluster.kubernetes_version, &of.kubernetes_version),
    ] {
        if let Some(value) = flag {
            field.clone_from(value);
        }
    }
    warn(&crate::default_cluster(&mut cluster));
    let errors = crate::validate_cluster(&cluster);
    ensure!(errors.is_empty(), "{}", crate::validate::report(&errors));
    Ok(cluster)
}

fn cluster_in(text: &str) -> Result<ClusterConfiguration> {
    let (init, warnings) = crate::read_init(text)?;
    warn(&warnings);
    Ok(init.cluster)
}

fn listed(images: &[String], output: Output) -> String {
    let object = json!({"apiVersion": "output.kubeadm.k8s.io/v1alpha3", "kind": "Images", "images": images});
    match output {
        Output::Text => images.iter().map(|i| format!("{i}\n")).collect(),
        Output::Json => print::json(&object),
        Output::Yaml => documents(&[object]),
    }
}

async fn pull_all(of: &ImagesOf, socket: Option<String>, pull: Pull<'_>) -> Result<()> {
    let socket = match socket {
        Some(socket) => socket,
        None => found_socket(&Facts::gather())?,
    };
    for image in crate::images(&cluster_of(of)?) {
        tried(&socket, &image, pull).await.with_context(|| format!("failed to pull image {image:?}"))?;
        println!("[config/images] Pulled {image}");
    }
    Ok(())
}

fn found_socket(facts: &Facts) -> Result<String> {
    let mut reset = crate::ResetConfiguration::default();
    crate::default_reset(&mut reset, facts);
    ensure!(
        !reset.cri_socket.is_empty(),
        "found multiple CRI endpoints on the host: {}; choose one by --cri-socket",
        facts.cri_sockets.join(", ")
    );
    Ok(reset.cri_socket)
}

async fn tried(socket: &str, image: &str, pull: Pull<'_>) -> Result<()> {
    let mut last = Ok(());
    for _ in 0..PULL_TRIES {
        last = pull(socket.into(), image.into()).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const OLD: &str = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nclusterName: x\napiServer:\n  extraArgs:\n    v: \"4\"\n    audit-log-path: /a\n  timeoutForControlPlane: 2m0s\n";

    #[test]
    fn an_old_file_comes_out_new() {
        expect![[r#"
            apiVersion: kubeadm.k8s.io/v1beta4
            kind: InitConfiguration
            timeouts:
              controlPlaneComponentHealthCheck: 2m0s
            ---
            apiServer:
              extraArgs:
              - name: audit-log-path
                value: /a
              - name: v
                value: '4'
            apiVersion: kubeadm.k8s.io/v1beta4
            clusterName: x
            kind: ClusterConfiguration
        "#]]
        .assert_eq(&migrate(OLD).unwrap());
        assert_eq!(migrate(&migrate(OLD).unwrap()).unwrap(), migrate(OLD).unwrap());
        assert!(
            migrate(&format!("{OLD}nope: 1\n")).unwrap_err().to_string().contains("unknown field \"nope\"")
        );
    }

    #[test]
    fn validation_is_strict() {
        let new = migrate(OLD).unwrap();
        assert_eq!(validate(&new, false).unwrap(), []);
        assert!(validate(OLD, false).unwrap_err().to_string().contains("deprecated API spec"));
        assert!(validate(OLD, true).is_ok());
        for (extra, want) in [
            ("nope: 1\n", "unknown field \"nope\""),
            ("certificatesDir: x\n", "certificatesDir: Invalid value: \"x\": path is not absolute"),
        ] {
            let got = validate(&format!("{new}{extra}"), false).unwrap_err().to_string();
            assert!(got.contains(want), "{got}");
        }
        assert!(validate("", false).is_err());
    }

    #[test]
    fn all_printed_defaults_validate() {
        for what in [
            PrintCommand::InitDefaults { component_configs: vec!["KubeProxyConfiguration".into()] },
            PrintCommand::JoinDefaults,
            PrintCommand::ResetDefaults,
            PrintCommand::UpgradeDefaults,
        ] {
            let text = printed(what).unwrap();
            validate(&text, false).unwrap_or_else(|e| panic!("{e}\n{text}"));
        }
    }

    #[test]
    fn lists_of_images() {
        let of = ImagesOf { image_repository: Some("reg.example".into()), ..ImagesOf::default() };
        let images = crate::images(&cluster_of(&of).unwrap());
        assert_eq!(
            listed(&images, Output::Text),
            "reg.example/pause:1\nreg.example/dns:1\nreg.example/metrics-server:1\n"
        );
        let yaml = listed(&images, Output::Yaml);
        assert!(yaml.contains("kind: Images\n") && yaml.contains("- reg.example/dns:1\n"));
        let json: serde_json::Value = serde_json::from_str(&listed(&images, Output::Json)).unwrap();
        assert_eq!(json["images"][0], "reg.example/pause:1");
        let old = ImagesOf { kubernetes_version: Some("v1.20.0".into()), ..ImagesOf::default() };
        assert!(cluster_of(&old).is_err());
    }
}
