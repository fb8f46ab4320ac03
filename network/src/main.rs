//! coxswain-network's command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use coxswain_network::backend::Mesh;
use coxswain_network::plan::{Mode, Overlay};
use coxswain_network::routes::{Netlink, sysctls};
use coxswain_network::run::{Config, run};
use ipnet::IpNet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USER_AGENT: &str = concat!("coxswain-network/", env!("CARGO_PKG_VERSION"));

/// Connects this node's pods to those of other nodes
#[derive(Parser)]
#[command(name = "coxswain-network", version)]
struct Flags {
    /// Kubeconfig file; without it the pod's service account is used
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Name of this node; the host's name by default
    #[arg(long, env = "NODE_NAME")]
    node_name: Option<String>,
    /// Networks of all pods, comma separated; the nodes' podCIDRs by default
    #[arg(long, value_delimiter = ',')]
    cluster_cidr: Vec<IpNet>,
    /// Where the container runtime looks for CNI configuration
    #[arg(long, default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// Where the CNI plug-ins are; the container runtime has its own setting, here it is checked only
    #[arg(long, default_value = "/usr/lib/cni")]
    cni_bin_dir: PathBuf,
    /// Link to other nodes; that with the node's InternalIP by default
    #[arg(long)]
    iface: Option<String>,
    /// How nodes are connected: by routes, which needs one link between all (host-gw), through a tunnel (vxlan), or by
    /// routes to those on this node's link and through a tunnel to all others (auto)
    #[arg(long, default_value = "auto", value_parser = ["host-gw", "vxlan", "auto"])]
    backend: String,
    /// Number of the tunnel's network, the same on all nodes; the link's name ends with it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    vxlan_vni: u32,
    /// UDP port of the tunnel, the same on all nodes
    #[arg(long, default_value_t = 8472)]
    vxlan_port: u16,
    /// Answer for addresses of Services of type LoadBalancer on this node's links, in turn with other nodes
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    announce: bool,
    /// Log level
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    v: u8,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    daemon::logging::init("coxswain-network", flags.v);
    match start(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(flags: Flags) -> Result<()> {
    let missing =
        |p: &&str| !flags.cni_bin_dir.join(p).exists() && !PathBuf::from("/opt/cni/bin").join(p).exists();
    let missing: Vec<&str> = ["bridge", "host-local", "portmap"].into_iter().filter(|p| missing(p)).collect();
    if !missing.is_empty() {
        tracing::warn!(?missing, dir = %flags.cni_bin_dir.display(), "CNI plug-ins are missing");
    }
    sysctls();
    daemon::init_crypto();
    let client = match &flags.kubeconfig {
        Some(path) => daemon::client::once_identified(path, USER_AGENT).await?,
        None => kube::Client::try_default().await.context("no --kubeconfig and no service account")?,
    };
    let mode = match flags.backend.as_str() {
        "host-gw" => Mode::HostGw,
        "vxlan" => Mode::Vxlan,
        _ => Mode::Auto,
    };
    let overlay = Overlay { vni: flags.vxlan_vni, port: flags.vxlan_port };
    let config = Config {
        node_name: node_name(flags.node_name)?,
        cluster_cidrs: flags.cluster_cidr,
        conf_dir: flags.cni_conf_dir,
        iface: flags.iface,
        announce: flags.announce,
    };
    let (kernel, disturbances) = Netlink::open()?;
    let kernel = Arc::new(kernel);
    let backend = Box::new(Mesh::new(kernel.clone(), mode, overlay, config.iface.clone()));
    let token = daemon::signal::shutdown();
    run(config, client, kernel, backend, disturbances, token).await
}

fn node_name(given: Option<String>) -> Result<String> {
    let name = match given {
        Some(name) => name,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the host's name")?,
    };
    Ok(name.trim().to_lowercase())
}
