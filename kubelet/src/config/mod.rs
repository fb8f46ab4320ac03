//! Configuration: KubeletConfiguration v1beta1 from file and drop-ins, upstream's flags over it.

pub mod duration;
pub mod flags;
pub mod kubelet_configuration;

pub use duration::GoDuration;
pub use kubelet_configuration::KubeletConfiguration;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything the kubelet is told: the configuration file's fields and what exists as a flag alone.
#[derive(Clone, Debug)]
pub struct Config {
    /// KubeletConfiguration after file, drop-ins and flags.
    pub file: KubeletConfiguration,
    /// Name of the Node: --hostname-override or the host's name, lower case.
    pub node_name: String,
    /// The host's own name (label kubernetes.io/hostname, address Hostname).
    pub hostname: String,
    /// --kubeconfig; None means standalone mode.
    pub kubeconfig: Option<PathBuf>,
    /// --bootstrap-kubeconfig
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// --cert-dir
    pub cert_dir: PathBuf,
    /// --root-dir
    pub root_dir: PathBuf,
    /// --node-ip, up to two
    pub node_ips: Vec<IpAddr>,
    /// --node-labels
    pub node_labels: BTreeMap<String, String>,
    /// --cloud-provider external?
    pub external_cloud: bool,
    /// --image-credential-provider-config
    pub credential_provider_config: Option<PathBuf>,
    /// --image-credential-provider-bin-dir
    pub credential_provider_bin_dir: Option<PathBuf>,
    /// --v
    pub verbosity: u8,
    /// --maximum-dead-containers-per-container
    pub max_dead_per_container: usize,
    /// --maximum-dead-containers; None = no limit
    pub max_dead_containers: Option<usize>,
    /// --minimum-container-ttl-duration
    pub min_container_age: Duration,
    /// --runonce and other flags accepted without effect, for the log
    pub ignored: Vec<String>,
    /// What a node without a machine says it has; None on a real machine.
    pub hollow: Option<Hollow>,
}

/// A node of a load test: it has what it says, and nothing of the host under it is collected or evicted.
#[derive(Clone, Copy, Debug)]
pub struct Hollow {
    /// cores
    pub cores: u64,
    /// bytes of memory
    pub memory: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: KubeletConfiguration::default(),
            node_name: "localhost".into(),
            hostname: "localhost".into(),
            kubeconfig: None,
            bootstrap_kubeconfig: None,
            cert_dir: "/var/lib/kubelet/pki".into(),
            root_dir: "/var/lib/kubelet".into(),
            node_ips: Vec::new(),
            node_labels: BTreeMap::new(),
            external_cloud: false,
            credential_provider_config: None,
            credential_provider_bin_dir: None,
            verbosity: 0,
            max_dead_per_container: 1,
            max_dead_containers: None,
            min_container_age: Duration::ZERO,
            ignored: Vec::new(),
            hollow: None,
        }
    }
}

impl Config {
    /// `<root>/pods`
    pub fn pods_dir(&self) -> PathBuf {
        self.root_dir.join("pods")
    }

    /// `<root>/pods/<uid>`
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }
}
