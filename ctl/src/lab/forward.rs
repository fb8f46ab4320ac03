//! Brings ports of the lab's nodes to the host's loopback.
//!
//! A socket stays in the network namespace it was made in. So the forwarder binds its listeners on the host first, then moves
//! into the bridge's namespace, and every connection it opens from there on reaches the nodes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;

use super::spec::{Lab, Role, Spec};
use super::{node, process};

/// Connections at once per port; more wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// A node that is cut off does not refuse; then the next is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

fn pid_file(lab: &Lab) -> PathBuf {
    lab.dir.join("forward.pid")
}

fn ready_file(lab: &Lab) -> PathBuf {
    lab.dir.join("forward.ready")
}

/// Starts the forwarder unless it runs.
///
/// # Errors
/// When a port of the host is taken, or the process can't be started.
pub fn start(lab: &Lab) -> Result<()> {
    if process::recall(&pid_file(lab)).is_some() {
        return Ok(());
    }
    let _ = fs::remove_file(ready_file(lab));
    let log_path = lab.dir.join("forward.log");
    let log = File::create(&log_path)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["lab", "forward", "--name", &lab.name])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("running coxctl")?;
    process::remember(&pid_file(lab), child.id() as i32);
    for _ in 0..1000 {
        if ready_file(lab).exists() {
            return Ok(());
        }
        if child.try_wait()?.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!(
        "forwarding to the host failed: {}",
        node::tail(&fs::read_to_string(&log_path).unwrap_or_default(), 3)
    )
}

/// Stops the forwarder.
pub fn stop(lab: &Lab) {
    if let Some(pid) = process::recall(&pid_file(lab)) {
        process::kill_and_wait(pid);
    }
    let _ = fs::remove_file(pid_file(lab));
    let _ = fs::remove_file(ready_file(lab));
}

/// Whether the forwarder runs.
pub fn running(lab: &Lab) -> bool {
    process::recall(&pid_file(lab)).is_some()
}

/// Runs the forwarder until it is killed.
///
/// # Errors
/// When a port is taken or the lab's network is gone.
pub fn run(lab: &Lab) -> Result<()> {
    nix::unistd::setsid().context("leaving the terminal")?;
    let spec = lab.require()?;
    let listeners = targets(&spec)?
        .into_iter()
        .map(|(port, to)| {
            let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            Ok((TcpListener::bind(local).with_context(|| format!("listening on {local}"))?, to))
        })
        .collect::<Result<Vec<_>>>()?;
    let path = Path::new("/run/netns").join(lab.bridge_netns());
    let netns = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    setns(netns, CloneFlags::CLONE_NEWNET).context("entering the lab's network")?;
    fs::write(ready_file(lab), "")?;
    // One thread: a runtime with more would be fine too, as all of them are made after the move.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(listeners))
}

/// Ports of the host, and where each leads: for the API any control plane that answers.
fn targets(spec: &Spec) -> Result<Vec<(u16, Vec<SocketAddr>)>> {
    let planes = spec.nodes.iter().filter(|n| spec.bare || n.role == Role::ControlPlane);
    let mut all = vec![(spec.api_port, planes.map(|n| SocketAddr::from((n.ip(), 6443))).collect())];
    for publish in &spec.publish {
        let node =
            spec.nodes.iter().find(|n| n.name == publish.node).context("a published port names no node")?;
        all.push((publish.host_port, vec![SocketAddr::from((node.ip(), publish.port))]));
    }
    Ok(all)
}

async fn serve(listeners: Vec<(TcpListener, Vec<SocketAddr>)>) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for (listener, to) in listeners {
        listener.set_nonblocking(true)?;
        tasks.spawn(accept(tokio::net::TcpListener::from_std(listener)?, to));
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, to: Vec<SocketAddr>) {
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let to = to.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    let _ = relay(client, &to).await;
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn relay(mut client: TcpStream, to: &[SocketAddr]) -> Result<()> {
    let mut server = first(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// A connection to the first that takes one.
async fn first(to: &[SocketAddr]) -> Result<TcpStream> {
    for address in to {
        if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    bail!("none of {to:?} answers")
}
