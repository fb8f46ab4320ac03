//! What makes a node a machine: its own disk, its identity, and containerd, which is all that runs before a cluster is made.

use std::fs;

use anyhow::{Context, Result};
use coxctl_machine::services::Daemon;

use super::init::NodeFile;
use super::spec::{Lab, NodeSpec, Spec};
use crate::pki::write_file;

/// Directories that a node has for itself; everything else of the disk is shared with the host.
const OWN: &[&str] = &[
    "/etc/cni",
    "/etc/containerd",
    "/etc/kubernetes",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/lib/etcd",
    "/var/log/pods",
    "/var/log/containers",
    "/var/lib/coxswain",
];

/// What a bare machine has for itself besides, so that an install on it changes nothing of the host's.
const OWN_BARE: &[&str] = &["/usr/local/bin", "/usr/local/lib/coxswain"];

/// The directories the lab's machines have for themselves.
pub fn own(spec: &Spec) -> impl Iterator<Item = &'static str> {
    let more = if spec.bare { OWN_BARE } else { &[] };
    OWN.iter().chain(more).copied()
}

/// Writes what the machines need before they start; what is there is kept.
///
/// # Errors
/// When a file can't be written.
pub fn write_all(lab: &Lab, spec: &Spec) -> Result<()> {
    let hosts = hosts(spec);
    spec.nodes.iter().try_for_each(|node| {
        write_file(&lab.node_dir(node).join("hosts"), hosts.as_bytes(), 0o644)?;
        write(lab, spec, node)
    })
}

/// The names of the lab's nodes, which no name server knows.
fn hosts(spec: &Spec) -> String {
    let local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    let nodes = spec.nodes.iter().map(|node| format!("{}\t{}\n", node.ip(), node.name));
    std::iter::once(local.to_owned()).chain(nodes).collect()
}

fn write(lab: &Lab, spec: &Spec, node: &NodeSpec) -> Result<()> {
    let dir = lab.node_dir(node);
    for own in own(spec) {
        fs::create_dir_all(lab.node_path(node, own))
            .with_context(|| format!("making a disk for {}", node.name))?;
    }
    for sub in ["run", "logs"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    machine_id(&dir.join("machine-id"))?;
    let at = |path: &str| lab.node_path(node, path);
    write_file(&at("/etc/containerd/config.toml"), CONTAINERD.as_bytes(), 0o644)?;
    fs::create_dir_all(at("/etc/containerd/certs.d"))?;
    let daemon = serde_json::to_vec_pretty(&containerd())?;
    write_file(&at("/etc/kubernetes/daemons/containerd.json"), &daemon, 0o600)?;
    let own = own(spec).map(str::to_string).collect();
    let file = serde_json::to_vec_pretty(&NodeFile { name: node.name.clone(), own })?;
    write_file(&dir.join("node.json"), &file, 0o600)
}

fn containerd() -> Daemon {
    Daemon {
        name: "containerd".into(),
        program: "containerd".into(),
        args: vec!["--config=/etc/containerd/config.toml".into()],
        ..Daemon::default()
    }
}

fn machine_id(path: &std::path::Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    write_file(path, format!("{}\n", hex::encode(rand::random::<[u8; 16]>())).as_bytes(), 0o444)
}

/// Works with containerd 1.6 and later on machines that may lack the right to lower a process's out-of-memory score:
/// without `restrict_oom_score_adj` no sandbox starts there. Plugins that no lab needs are left out to start sooner.
const CONTAINERD: &str = r#"version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]

[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "coxswain.local/pause:1"
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"#;
