//! kubemark, the program: a fleet of hollow nodes in one process.

use clap::Parser;
use kubelet::config::Hollow;
use kubelet::hollow::Fleet;
use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Joins many hollow nodes to a cluster: whole kubelets, but their pods run in memory only. For load tests.
#[derive(Parser)]
#[command(name = "kubemark", version)]
struct Flags {
    /// How the API server is reached
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Node names are this, a dash and a number
    #[arg(long, default_value = "hollow")]
    name: String,
    /// How many nodes
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// The number of the first node
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Zones the nodes are spread over by label
    #[arg(long, default_value_t = 3)]
    zones: usize,
    /// Cores each node says it has
    #[arg(long, default_value_t = 4)]
    cpus: u64,
    /// Gibibytes of memory each node says it has
    #[arg(long, default_value_t = 32)]
    memory_gib: u64,
    /// Pods a node takes
    #[arg(long, default_value_t = 110)]
    max_pods: i32,
    /// Directory for what pods leave
    #[arg(long, default_value = "/var/lib/kubemark")]
    root_dir: PathBuf,
    /// Seconds a node's lease lasts; it is renewed in a quarter of them
    #[arg(long, default_value_t = 40)]
    node_lease_seconds: i32,
    /// Verbosity of the log
    #[arg(short, long, default_value_t = 0)]
    v: u8,
}

impl Flags {
    fn fleet(&self) -> Fleet {
        Fleet {
            kubeconfig: self.kubeconfig.clone(),
            prefix: self.name.clone(),
            first: self.first,
            nodes: self.nodes,
            zones: self.zones,
            machine: Hollow { cores: self.cpus, memory: self.memory_gib << 30 },
            max_pods: self.max_pods,
            root: self.root_dir.clone(),
            lease_seconds: self.node_lease_seconds,
        }
    }
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let flags = Flags::parse();
    daemon::init_crypto();
    daemon::logging::init("kubemark", flags.v);
    let cancel = daemon::signal::shutdown();
    let began = std::time::Instant::now();
    if let Err(error) = flags.fleet().start(&cancel).await {
        tracing::error!("{error:#}");
        return std::process::ExitCode::FAILURE;
    }
    tracing::info!(nodes = flags.nodes, seconds = began.elapsed().as_secs_f32(), "started");
    cancel.cancelled().await;
    std::process::ExitCode::SUCCESS
}
