//! Flags.

use std::path::PathBuf;

use clap::Parser;

/// Volumes for claims, as directories of this node
#[derive(Parser, Debug, Clone)]
#[command(name = "coxswain-local-path", version)]
pub struct Flags {
    /// Kubeconfig file; without it the pod's service account is used
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// This node's name
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// Directory for volumes; the same path here and on the node
    #[arg(long, default_value = "/var/lib/coxswain/local-path")]
    pub root: PathBuf,
    /// Name by which storage classes ask for this provisioner
    #[arg(long, default_value = "coxswain.io/local-path")]
    pub provisioner_name: String,
    /// Log level
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub v: u8,
}
