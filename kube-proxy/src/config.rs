//! Flags and the KubeProxyConfiguration file, joined into one [`Config`].

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use ipnet::IpNet;
use serde::Deserialize;

/// Upstream's flags that change nothing here; they are taken and named in the log. A `!` marks booleans.
const IGNORED: &[&str] = &[
    "bind-address-hard-fail!",
    "boot-id-file",
    "config-sync-period",
    "feature-gates",
    "healthz-port",
    "iptables-localhost-nodeports!",
    "iptables-min-sync-period",
    "iptables-sync-period",
    "ipvs-exclude-cidrs",
    "ipvs-min-sync-period",
    "ipvs-scheduler",
    "ipvs-strict-arp!",
    "ipvs-sync-period",
    "ipvs-tcp-timeout",
    "ipvs-tcpfin-timeout",
    "ipvs-udp-timeout",
    "kube-api-burst",
    "kube-api-content-type",
    "kube-api-qps",
    "log-flush-frequency",
    "log-json-info-buffer-size",
    "log-json-split-stream!",
    "log-text-info-buffer-size",
    "log-text-split-stream!",
    "logging-format",
    "machine-id-file",
    "master",
    "metrics-port",
    "profiling!",
    "show-hidden-metrics-for-version",
    "vmodule",
];

/// The flags that have an effect.
#[derive(Parser, Debug, Default)]
#[command(name = "kube-proxy", about = "Services of a Kubernetes cluster on this node, in nftables", version)]
pub struct Flags {
    /// KubeProxyConfiguration file; most other flags are ignored then
    #[arg(long)]
    config: Option<PathBuf>,
    /// Kubeconfig file with the API server and this daemon's identity
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Node name to use instead of the host's name
    #[arg(long)]
    hostname_override: Option<String>,
    /// Only nftables is implemented; other modes are treated as nftables with a warning
    #[arg(long)]
    proxy_mode: Option<String>,
    /// Addresses of pods, one network or two of different families
    #[arg(long)]
    cluster_cidr: Option<String>,
    /// How this node's pods are recognised: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix
    #[arg(long)]
    detect_local_mode: Option<String>,
    /// Bridge for BridgeInterface
    #[arg(long)]
    pod_bridge_interface: Option<String>,
    /// Prefix for InterfaceNamePrefix
    #[arg(long)]
    pod_interface_name_prefix: Option<String>,
    /// Primary node address, if not unspecified
    #[arg(long)]
    bind_address: Option<IpAddr>,
    /// Networks whose addresses on this node serve node ports, or `primary`
    #[arg(long, value_delimiter = ',')]
    nodeport_addresses: Vec<String>,
    /// Replace the source of all traffic to cluster IPs
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    masquerade_all: Option<bool>,
    /// Bit of the packet mark used for masquerading
    #[arg(long, alias = "nftables-masquerade-bit")]
    iptables_masquerade_bit: Option<u8>,
    /// Address of /healthz; empty disables it
    #[arg(long)]
    healthz_bind_address: Option<String>,
    /// Address of /metrics; empty disables it
    #[arg(long)]
    metrics_bind_address: Option<String>,
    /// Score for the kernel's out-of-memory killer
    #[arg(long, allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    #[arg(long)]
    conntrack_max_per_core: Option<u32>,
    #[arg(long)]
    conntrack_min: Option<u32>,
    #[arg(long, value_parser = daemon::flags::duration)]
    conntrack_tcp_timeout_established: Option<Duration>,
    #[arg(long, value_parser = daemon::flags::duration)]
    conntrack_tcp_timeout_close_wait: Option<Duration>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    conntrack_tcp_be_liberal: Option<bool>,
    #[arg(long, value_parser = daemon::flags::duration)]
    conntrack_udp_timeout: Option<Duration>,
    #[arg(long, value_parser = daemon::flags::duration)]
    conntrack_udp_timeout_stream: Option<Duration>,
    /// Remove the rules and exit
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    cleanup: Option<bool>,
    /// Do the privileged set-up and exit
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    init_only: Option<bool>,
    /// Write the configuration that results and exit
    #[arg(long)]
    write_config_to: Option<PathBuf>,
    /// Log level
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    v: u8,
    #[arg(skip)]
    ignored: ArgList,
}

#[derive(Debug, Default, Clone)]
struct ArgList(Vec<String>);

impl Flags {
    /// Reads a command line, program name first.
    pub fn read(args: Vec<String>) -> Self {
        let (rest, ignored) = daemon::flags::split_accepted(args, IGNORED);
        let mut flags = Self::parse_from(rest);
        flags.ignored = ArgList(ignored);
        flags
    }

    /// Log level.
    pub fn verbosity(&self) -> u8 {
        self.v
    }

    /// Flags that were given and have no effect.
    pub fn ignored(&self) -> &[String] {
        &self.ignored.0
    }
}

/// The part of the KubeProxyConfiguration that has an effect; other fields are accepted.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    kind: String,
    api_version: String,
    bind_address: Option<String>,
    client_connection: ClientConnection,
    #[serde(rename = "clusterCIDR")]
    cluster_cidr: String,
    conntrack: ConntrackFile,
    detect_local: DetectLocalFile,
    detect_local_mode: String,
    healthz_bind_address: Option<String>,
    hostname_override: String,
    metrics_bind_address: Option<String>,
    mode: String,
    nftables: NftablesFile,
    iptables: NftablesFile,
    node_port_addresses: Option<Vec<String>>,
    oom_score_adj: Option<i32>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct ClientConnection {
    kubeconfig: String,
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct DetectLocalFile {
    bridge_interface: String,
    interface_name_prefix: String,
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct NftablesFile {
    masquerade_bit: Option<u8>,
    masquerade_all: bool,
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct ConntrackFile {
    max_per_core: Option<u32>,
    min: Option<u32>,
    tcp_established_timeout: Option<String>,
    tcp_close_wait_timeout: Option<String>,
    tcp_be_liberal: bool,
    udp_timeout: Option<String>,
    udp_stream_timeout: Option<String>,
}

/// Connection tracking limits. A zero leaves the kernel's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Entries per processor.
    pub max_per_core: u32,
    /// Fewest entries.
    pub min: u32,
    /// Seconds an established TCP connection may be silent.
    pub tcp_established: Duration,
    /// Seconds a half closed TCP connection may be silent.
    pub tcp_close_wait: Duration,
    /// Take packets out of the window as valid.
    pub tcp_be_liberal: bool,
    /// Seconds of an unanswered UDP flow.
    pub udp: Duration,
    /// Seconds of an answered UDP flow.
    pub udp_stream: Duration,
}

/// How pods of this node are recognised, before the node is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetectLocal {
    /// Source in `cluster_cidrs`.
    ClusterCidr,
    /// Source in the node's podCIDRs.
    NodeCidr,
    /// Input interface of this name.
    BridgeInterface(String),
    /// Input interface with this prefix.
    InterfaceNamePrefix(String),
}

/// The daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Kubeconfig; without one the pod's service account is used.
    pub kubeconfig: Option<PathBuf>,
    /// The file this was read from, if any; a change of it ends the process so that it starts anew.
    pub file: Option<PathBuf>,
    /// Own node's name.
    pub node_name: String,
    /// Mode asked for.
    pub mode: String,
    /// Networks of pods.
    pub cluster_cidrs: Vec<IpNet>,
    /// How pods are recognised.
    pub detect_local: DetectLocal,
    /// Primary address if not taken from the Node.
    pub bind_address: Option<IpAddr>,
    /// Networks for node ports; empty is the node's own addresses.
    pub node_port_nets: Vec<IpNet>,
    /// Masquerade all traffic to cluster IPs.
    pub masquerade_all: bool,
    /// Bit of the mark.
    pub masquerade_bit: u8,
    /// Where health is served.
    pub healthz: Option<SocketAddr>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Out-of-memory score.
    pub oom_score_adj: i32,
    /// Connection tracking.
    pub conntrack: Conntrack,
    /// Only remove the rules.
    pub cleanup: bool,
    /// Only do the set-up.
    pub init_only: bool,
}

impl Config {
    /// Reads the file if one is named, and joins it with the flags.
    pub fn from_flags(flags: &Flags) -> Result<Self> {
        let file = flags.config.as_deref().map(read_file).transpose()?;
        let config = match file {
            Some(file) => from_file(file, flags)?,
            None => from_file(to_file(flags), flags)?,
        };
        validate(&config)?;
        Ok(config)
    }
}

fn read_file(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let file: File = serde_yaml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    if file.kind != "KubeProxyConfiguration" || !file.api_version.starts_with("kubeproxy.config.k8s.io/") {
        bail!("{} is no KubeProxyConfiguration of kubeproxy.config.k8s.io", path.display());
    }
    Ok(file)
}

fn go(d: &Option<Duration>) -> Option<String> {
    d.map(|d| format!("{}ms", d.as_millis()))
}

fn to_file(f: &Flags) -> File {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    let nft = || NftablesFile {
        masquerade_bit: f.iptables_masquerade_bit,
        masquerade_all: f.masquerade_all.unwrap_or(false),
    };
    File {
        bind_address: f.bind_address.map(|a| a.to_string()),
        client_connection: ClientConnection {
            kubeconfig: f.kubeconfig.as_ref().map_or(String::new(), |p| p.display().to_string()),
        },
        cluster_cidr: text(&f.cluster_cidr),
        conntrack: ConntrackFile {
            max_per_core: f.conntrack_max_per_core,
            min: f.conntrack_min,
            tcp_established_timeout: go(&f.conntrack_tcp_timeout_established),
            tcp_close_wait_timeout: go(&f.conntrack_tcp_timeout_close_wait),
            tcp_be_liberal: f.conntrack_tcp_be_liberal.unwrap_or(false),
            udp_timeout: go(&f.conntrack_udp_timeout),
            udp_stream_timeout: go(&f.conntrack_udp_timeout_stream),
        },
        detect_local: DetectLocalFile {
            bridge_interface: text(&f.pod_bridge_interface),
            interface_name_prefix: text(&f.pod_interface_name_prefix),
        },
        detect_local_mode: text(&f.detect_local_mode),
        healthz_bind_address: f.healthz_bind_address.clone(),
        metrics_bind_address: f.metrics_bind_address.clone(),
        mode: text(&f.proxy_mode),
        nftables: nft(),
        iptables: nft(),
        node_port_addresses: Some(f.nodeport_addresses.clone()).filter(|l| !l.is_empty()),
        oom_score_adj: f.oom_score_adj,
        ..File::default()
    }
}

fn from_file(file: File, flags: &Flags) -> Result<Config> {
    let kubeconfig =
        Some(PathBuf::from(&file.client_connection.kubeconfig)).filter(|p| !p.as_os_str().is_empty());
    let name =
        flags.hostname_override.clone().filter(|n| !n.is_empty()).or(Some(file.hostname_override.clone()));
    let rules = if file.mode == "nftables" { &file.nftables } else { &file.iptables };
    Ok(Config {
        kubeconfig,
        file: flags.config.clone(),
        node_name: node_name(name.as_deref().unwrap_or_default())?,
        cluster_cidrs: networks(file.cluster_cidr.split(',')).context("clusterCIDR")?,
        detect_local: detect(&file)?,
        bind_address: file
            .bind_address
            .as_deref()
            .and_then(|a| a.parse().ok())
            .filter(|a: &IpAddr| !a.is_unspecified()),
        node_port_nets: node_port_nets(file.node_port_addresses.as_deref().unwrap_or_default())?,
        masquerade_all: rules.masquerade_all,
        masquerade_bit: rules.masquerade_bit.unwrap_or(14),
        healthz: address(file.healthz_bind_address.as_deref(), "0.0.0.0:10256", 10256)?,
        metrics: address(file.metrics_bind_address.as_deref(), "127.0.0.1:10249", 10249)?,
        oom_score_adj: file.oom_score_adj.unwrap_or(-999),
        conntrack: conntrack(&file.conntrack)?,
        cleanup: flags.cleanup.unwrap_or(false),
        init_only: flags.init_only.unwrap_or(false),
        mode: file.mode,
    })
}

fn node_name(given: &str) -> Result<String> {
    let name = match given.trim() {
        "" => std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the host's name")?,
        given => given.to_owned(),
    };
    Ok(name.trim().to_lowercase())
}

fn networks<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<IpNet>> {
    let given = texts.map(str::trim).filter(|t| !t.is_empty());
    given
        .map(|t| t.parse::<IpNet>().map(|n| n.trunc()).with_context(|| format!("{t:?} is no network")))
        .collect()
}

fn node_port_nets(given: &[String]) -> Result<Vec<IpNet>> {
    match given {
        [only] if only == "primary" => Ok(Vec::new()),
        list if list.iter().any(|w| w == "primary") => bail!("nodePortAddresses: `primary` stands alone"),
        list => networks(list.iter().map(String::as_str)).context("nodePortAddresses"),
    }
}

fn detect(file: &File) -> Result<DetectLocal> {
    let (bridge, prefix) = (&file.detect_local.bridge_interface, &file.detect_local.interface_name_prefix);
    Ok(match file.detect_local_mode.as_str() {
        "" | "ClusterCIDR" => DetectLocal::ClusterCidr,
        "NodeCIDR" => DetectLocal::NodeCidr,
        "BridgeInterface" if !bridge.is_empty() => DetectLocal::BridgeInterface(bridge.clone()),
        "InterfaceNamePrefix" if !prefix.is_empty() => DetectLocal::InterfaceNamePrefix(prefix.clone()),
        "BridgeInterface" | "InterfaceNamePrefix" => {
            bail!("detectLocalMode {} needs its interface", file.detect_local_mode)
        }
        other => bail!("unknown detectLocalMode {other:?}"),
    })
}

/// An address with a port; the port may be left out. Empty disables, absent is the default.
fn address(given: Option<&str>, default: &str, port: u16) -> Result<Option<SocketAddr>> {
    let text = given.unwrap_or(default);
    if text.is_empty() {
        return Ok(None);
    }
    let with_port =
        text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)));
    Ok(Some(with_port.with_context(|| format!("{text:?} is no address and port"))?))
}

fn conntrack(f: &ConntrackFile) -> Result<Conntrack> {
    let time = |text: &Option<String>, default: u64| match text.as_deref() {
        None => Ok(Duration::from_secs(default)),
        Some(t) => daemon::flags::duration(t).map_err(|e| anyhow::anyhow!("conntrack: {e}")),
    };
    Ok(Conntrack {
        max_per_core: f.max_per_core.unwrap_or(32768),
        min: f.min.unwrap_or(131072),
        tcp_established: time(&f.tcp_established_timeout, 86400)?,
        tcp_close_wait: time(&f.tcp_close_wait_timeout, 3600)?,
        tcp_be_liberal: f.tcp_be_liberal,
        udp: time(&f.udp_timeout, 0)?,
        udp_stream: time(&f.udp_stream_timeout, 0)?,
    })
}

fn validate(c: &Config) -> Result<()> {
    if c.masquerade_bit > 31 {
        bail!("masqueradeBit {} is not within 0 and 31", c.masquerade_bit);
    }
    if !(-1000..=1000).contains(&c.oom_score_adj) {
        bail!("oomScoreAdj {} is not within -1000 and 1000", c.oom_score_adj);
    }
    let families: Vec<bool> = c.cluster_cidrs.iter().map(|n| n.addr().is_ipv4()).collect();
    match families[..] {
        [] | [_] => Ok(()),
        [a, b] if a != b => Ok(()),
        _ => bail!("clusterCIDR is one network, or two of different families"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &str) -> Flags {
        Flags::read(format!("kube-proxy {words}").split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn flags_alone() {
        let f = flags(
            "--hostname-override=N1 --cluster-cidr 10.244.0.0/16 --proxy-mode=nftables --masquerade-all --profiling --kube-api-qps=5 --oom-score-adj -5",
        );
        assert_eq!(f.ignored().len(), 2);
        let c = Config::from_flags(&f).unwrap();
        assert_eq!(
            (c.node_name.as_str(), c.masquerade_all, c.masquerade_bit, c.oom_score_adj),
            ("n1", true, 14, -5)
        );
        assert_eq!(c.healthz, Some("0.0.0.0:10256".parse().unwrap()));
        assert_eq!(c.cluster_cidrs.len(), 1);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for words in [
            "--cluster-cidr=10.0.0.0/8,11.0.0.0/8",
            "--detect-local-mode=BridgeInterface",
            "--nodeport-addresses=primary,10.0.0.0/8",
            "--iptables-masquerade-bit=32",
            "--metrics-bind-address=x",
        ] {
            assert!(Config::from_flags(&flags(words)).is_err(), "{words}");
        }
    }

    #[test]
    fn a_file_wins_over_flags_but_for_the_name() {
        let dir = std::env::temp_dir().join(format!("kube-proxy-config-{}", std::process::id()));
        std::fs::write(&dir, "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\nclusterCIDR: 10.1.0.0/16\nnftables: {masqueradeBit: 10, syncPeriod: 30s}\nmetricsBindAddress: \"\"\nnodePortAddresses: [primary]\nconntrack: {maxPerCore: 0, tcpEstablishedTimeout: 1h}\n").unwrap();
        let c = Config::from_flags(&flags(&format!(
            "--config {} --hostname-override=me --cluster-cidr=10.9.0.0/16",
            dir.display()
        )));
        std::fs::remove_file(&dir).unwrap();
        let c = c.unwrap();
        assert_eq!((c.node_name.as_str(), c.masquerade_bit, c.metrics), ("me", 10, None));
        assert_eq!(c.cluster_cidrs[0].to_string(), "10.1.0.0/16");
        assert_eq!((c.conntrack.max_per_core, c.conntrack.tcp_established.as_secs()), (0, 3600));
    }
}
