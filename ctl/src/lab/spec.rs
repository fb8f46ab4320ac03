//! What a lab is made of, as data, kept in `lab.json` so that every later command knows exactly what was made.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::pki::write_file;

/// Where labs keep their state; must not lie on overlayfs, on which containerd's snapshots do not stack.
pub const LAB_ROOT: &str = "/var/lib/coxswain/lab";
/// The first node's part in the cluster decides what runs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// etcd and the control plane, and a kubelet beside them.
    ControlPlane,
    /// Kubelet, proxy and network agent.
    Worker,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Host name and Node name.
    pub name: String,
    /// Its number from 1, from which its addresses follow.
    pub index: u8,
    /// What runs on it.
    pub role: Role,
}

impl NodeSpec {
    /// The node's address on the lab's bridge.
    pub fn ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, 0, self.index)
    }

    /// The link's name on the bridge, short enough for the kernel.
    pub fn link(&self) -> String {
        format!("n{}", self.index)
    }
}

/// A port of a node made reachable on the host's loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Port on 127.0.0.1 of the host.
    pub host_port: u16,
    /// Node whose port it is.
    pub node: String,
    /// Port on that node.
    pub port: u16,
}

impl Publish {
    /// Reads `[HOSTPORT:[NODE:]]PORT`; without a node it is the first one's.
    ///
    /// # Errors
    /// When a part is no port, or the node isn't one of `nodes`.
    pub fn parse(text: &str, nodes: &[NodeSpec]) -> Result<Self> {
        let first = nodes.first().map(|n| n.name.as_str()).unwrap_or_default();
        let (host, node, port) = match text.split(':').collect::<Vec<_>>()[..] {
            [port] => (port, first, port),
            [host, port] => (host, first, port),
            [host, node, port] => (host, node, port),
            _ => bail!("--publish {text:?}: want [HOSTPORT:[NODE:]]PORT"),
        };
        ensure!(nodes.iter().any(|n| n.name == node), "--publish {text:?}: no node is named {node:?}");
        let number = |s: &str| {
            s.parse::<u16>()
                .ok()
                .filter(|p| *p > 0)
                .with_context(|| format!("--publish {text:?}: {s:?} is no port"))
        };
        Ok(Self { host_port: number(host)?, node: node.to_string(), port: number(port)? })
    }
}

/// A whole lab.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The lab's name; the context is `coxswain-NAME`.
    pub name: String,
    /// Nodes in order; the first is a control plane, and the one `init` runs on.
    pub nodes: Vec<NodeSpec>,
    /// Port of the API server on the host's loopback.
    pub api_port: u16,
    /// Further ports on the host's loopback.
    pub publish: Vec<Publish>,
    /// The user's kubeconfig that holds the context.
    pub kubeconfig: PathBuf,
    /// Where the daemons' programs are.
    pub bin_dir: PathBuf,
    /// The token nodes join with, `id.secret`.
    pub bootstrap_token: String,
    /// The key under which control planes hand on the cluster's secrets, 64 hexadecimal digits.
    #[serde(default)]
    pub certificate_key: String,
    /// Machines only: containerd runs, the cluster is for `coxctl init` and `coxctl join` to make.
    #[serde(default)]
    pub bare: bool,
    /// Empty directories and files made on the host as mount points, removed by `lab down` when still empty.
    #[serde(default)]
    pub host_paths: Vec<PathBuf>,
}

impl Spec {
    /// The nodes of a lab of `count`, the first `planes` of them control planes.
    pub fn nodes_of(count: u8, planes: u8) -> Vec<NodeSpec> {
        (1..=count)
            .map(|index| match index {
                1 => NodeSpec { name: "control-plane".into(), index, role: Role::ControlPlane },
                n if n <= planes => {
                    NodeSpec { name: format!("control-plane-{n}"), index, role: Role::ControlPlane }
                }
                n => NodeSpec { name: format!("worker-{}", n - planes), index, role: Role::Worker },
            })
            .collect()
    }

    /// How many nodes are control planes.
    pub fn control_planes(&self) -> usize {
        self.nodes.iter().filter(|n| n.role == Role::ControlPlane).count()
    }

    /// The nodes of a bare lab: `node-1`, `node-2`, …, whose parts are decided later.
    pub fn machines(count: u8) -> Vec<NodeSpec> {
        let machine = |index| NodeSpec { name: format!("node-{index}"), index, role: Role::Worker };
        (1..=count).map(machine).collect()
    }

    /// The first node.
    ///
    /// # Errors
    /// When the file was tampered with and lists no node.
    pub fn control_plane(&self) -> Result<&NodeSpec> {
        self.nodes.first().context("the lab has no node")
    }

    /// The name of the kubeconfig context.
    pub fn context(&self) -> String {
        format!("coxswain-{}", self.name)
    }
}

/// A lab's place on disk and the names derived from it.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The lab's name.
    pub name: String,
    /// `/var/lib/coxswain/lab/NAME`.
    pub dir: PathBuf,
}

impl Lab {
    /// The lab of the given name.
    ///
    /// # Errors
    /// When the name isn't a short DNS label.
    pub fn named(name: &str) -> Result<Self> {
        let good = !name.is_empty()
            && name.len() <= 20
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        ensure!(good, "--name {name:?}: want at most 20 of a-z, 0-9 and '-', not at the edges");
        Ok(Self { name: name.into(), dir: Path::new(LAB_ROOT).join(name) })
    }

    /// The network namespace with the bridge.
    pub fn bridge_netns(&self) -> String {
        format!("cox-{}-net", self.name)
    }

    /// A node's network namespace.
    pub fn netns(&self, node: &NodeSpec) -> String {
        format!("cox-{}-{}", self.name, node.link())
    }

    /// A node's directory: its disk, logs and process ids.
    pub fn node_dir(&self, node: &NodeSpec) -> PathBuf {
        self.dir.join("nodes").join(&node.name)
    }

    /// A node's private copy of the absolute path `path`.
    pub fn node_path(&self, node: &NodeSpec, path: &str) -> PathBuf {
        self.node_dir(node).join("disk").join(path.trim_start_matches('/'))
    }

    /// A node's containerd socket as seen from outside the node.
    pub fn containerd_socket(&self, node: &NodeSpec) -> PathBuf {
        self.node_dir(node).join("run/containerd/containerd.sock")
    }

    /// A node's place in each cgroup hierarchy.
    pub fn cgroup(&self, node: &NodeSpec) -> String {
        format!("coxswain/{}/{}", self.name, node.name)
    }

    /// The lab's description, if the lab exists.
    ///
    /// # Errors
    /// When the file is there and can't be read.
    pub fn load(&self) -> Result<Option<Spec>> {
        let path = self.dir.join("lab.json");
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).map(Some).with_context(|| format!("{} is damaged", path.display()))
    }

    /// The description of a lab that must exist.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn require(&self) -> Result<Spec> {
        self.load()?
            .with_context(|| format!("there is no lab named {:?}; `coxctl lab up` makes one", self.name))
    }

    /// Writes the description.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, spec: &Spec) -> Result<()> {
        write_file(&self.dir.join("lab.json"), &serde_json::to_vec_pretty(spec)?, 0o600)
    }

    /// Keeps other commands away from this lab while the lock is held.
    ///
    /// # Errors
    /// When another command is at work on it.
    pub fn lock(&self) -> Result<Flock<File>> {
        fs::create_dir_all(LAB_ROOT).with_context(|| format!("making {LAB_ROOT}"))?;
        let path = Path::new(LAB_ROOT).join(format!(".{}.lock", self.name));
        let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, e)| anyhow::anyhow!("another coxctl is at work on lab {:?} ({e})", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports() {
        let nodes = Spec::nodes_of(2, 1);
        let ok =
            |t: &str| Publish::parse(t, &nodes).map(|p| format!("{} {} {}", p.host_port, p.node, p.port));
        assert_eq!(ok("30080").unwrap(), "30080 control-plane 30080");
        assert_eq!(ok("8080:30080").unwrap(), "8080 control-plane 30080");
        assert_eq!(ok("8080:worker-1:30080").unwrap(), "8080 worker-1 30080");
        for bad in ["", "x", "0", "70000", "1:2:3:4", "1:nobody:3"] {
            assert!(ok(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_the_kernel_and_dns_take() {
        for good in ["lab", "a-1"] {
            assert!(Lab::named(good).is_ok());
        }
        for bad in ["", "-a", "a-", "A", "a/b", "averyveryverylongnamehere"] {
            assert!(Lab::named(bad).is_err(), "{bad}");
        }
    }
}
