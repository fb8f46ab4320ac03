//! Starting, entering and stopping a node.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::spec::{Lab, NodeSpec};
use super::{cgroup, network, process};

/// The process id, seen from the host, of the node's first process; `None` when the node is down.
pub fn init_pid(lab: &Lab, node: &NodeSpec) -> Option<i32> {
    let outer = process::recall(&lab.node_dir(node).join("node.pid"))?;
    process::first_child(outer)
}

/// Starts the node; its `node.json` and files must be in place.
///
/// # Errors
/// When the network can't be laid or the process can't be started.
pub fn start(lab: &Lab, node: &NodeSpec) -> Result<()> {
    let dir = lab.node_dir(node);
    network::node_up(lab, node)?;
    let log = File::options().create(true).append(true).open(dir.join("logs/node.log"))?;
    let me = std::env::current_exe().context("finding coxctl")?;
    let child = Command::new(me)
        .args(["lab", "node-start", "--name", &lab.name, &node.name])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("running coxctl")?;
    process::remember(&dir.join("node.pid"), child.id() as i32);
    wait_started(lab, node)
}

fn wait_started(lab: &Lab, node: &NodeSpec) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    let mark = lab.node_dir(node).join("run/coxswain/started");
    while Instant::now() < end {
        if mark.exists() && init_pid(lab, node).is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let log = fs::read_to_string(lab.node_dir(node).join("logs/node.log")).unwrap_or_default();
    bail!("node {} did not start; its last words:\n{}", node.name, tail(&log, 10))
}

/// The last `n` lines of `text`.
pub fn tail(text: &str, n: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(n)..].join("\n")
}

/// What the detached process does: joins the node's cgroup and network, then becomes `unshare`, whose child is the node's
/// first process. The cgroup comes first, because a new cgroup namespace is rooted where its first process stands.
///
/// # Errors
/// Returns only when a step failed.
pub fn become_node(lab: &Lab, name: &str) -> Result<()> {
    let spec = lab.require()?;
    let node =
        spec.nodes.iter().find(|n| n.name == name).with_context(|| format!("no node is named {name:?}"))?;
    let path = Path::new("/run/netns").join(lab.netns(node));
    let netns = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    cgroup::enter(&lab.cgroup(node))?;
    setns(netns, CloneFlags::CLONE_NEWNET).context("entering the node's network")?;
    let error = Command::new("unshare")
        .args(["--mount", "--uts", "--ipc", "--cgroup", "--pid", "--fork", "--kill-child"])
        .arg(std::env::current_exe()?)
        .args(["lab", "node-init"])
        .arg(lab.node_dir(node))
        .exec();
    Err(error).context("running unshare (Debian's util-linux)")
}

/// Replaces this process with `command` inside the node.
///
/// # Errors
/// Returns only when the node is down or nsenter can't be run.
pub fn exec(lab: &Lab, node: &NodeSpec, command: &[String]) -> Result<()> {
    let pid = init_pid(lab, node)
        .with_context(|| format!("node {} is down; `coxctl lab up` starts it", node.name))?;
    cgroup::enter(&lab.cgroup(node))?;
    let error = Command::new("nsenter")
        .args(["--target", &pid.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"])
        .args(command)
        .exec();
    Err(error).context("running nsenter (Debian's util-linux)")
}

/// Stops the node like a power cut and removes its network and cgroups; the disk stays.
///
/// # Errors
/// When its first process does not die.
pub fn stop(lab: &Lab, node: &NodeSpec) -> Result<()> {
    let dir = lab.node_dir(node);
    if let Some(outer) = process::recall(&dir.join("node.pid")) {
        if let Some(init) = process::first_child(outer) {
            process::kill_and_wait(init);
        }
        if !process::kill_and_wait(outer) {
            bail!("node {} (process {outer}) does not die", node.name);
        }
    }
    for pid in cgroup::processes(&lab.cgroup(node)) {
        process::kill_and_wait(pid);
    }
    let _ = fs::remove_file(dir.join("node.pid"));
    unmount_below(&dir);
    network::remove_netns(&lab.netns(node));
    cgroup::remove(&lab.cgroup(node));
    Ok(())
}

/// Unmounts whatever the host still has mounted at or below `dir`, innermost first.
pub fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|l| l.split(' ').nth(1)).filter(|p| Path::new(p).starts_with(dir));
    let mut places: Vec<&str> = places.collect();
    places.sort_by_key(|p| std::cmp::Reverse(p.len()));
    for place in places {
        let _ = nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH);
    }
}
