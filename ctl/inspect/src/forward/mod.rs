//! `port-forward`: ports of this machine that lead into a pod.

mod connection;
mod listen;
mod ports;

use crate::dig;
use crate::target;
use coxctl_kit::{Cluster, Error, Globals, Result};
use futures::StreamExt;
use serde_json::Value;

/// Forward one or more local ports to a pod
#[derive(clap::Args, Clone, Debug)]
pub struct PortForward {
    /// TYPE/NAME and [LOCAL_PORT:]REMOTE_PORT [...[LOCAL_PORT_N:]REMOTE_PORT_N]
    #[arg(value_name = "TYPE/NAME PORT")]
    pub words: Vec<String>,
    /// Addresses to listen on (comma separated): IP addresses or localhost
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    pub address: Vec<String>,
    /// How long to wait until at least one pod is running (like 5s, 2m, or 3h)
    #[arg(long, default_value = "1m0s")]
    pub pod_running_timeout: String,
}

/// Runs the verb: until it is interrupted, or the pod is lost.
///
/// # Errors
/// As kubectl's.
pub async fn run(args: PortForward, globals: &Globals) -> Result<()> {
    let [name, wanted @ ..] = args.words.as_slice() else { return Err(usage()) };
    if wanted.is_empty() {
        return Err(usage());
    }
    let wait = target::duration("port-forward", "pod-running-timeout", &args.pod_running_timeout)?;
    let cluster = globals.connect().await?;
    let object = target::object(&cluster, std::slice::from_ref(name)).await?;
    let pod = target::pod(&cluster, object.clone(), wait).await?;
    let wanted = ports::resolve(wanted, &object, &pod).map_err(Error::message)?;
    let phase = dig::text(&pod, "status.phase");
    if phase != "Running" {
        return Err(Error::message(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    let ports = wanted
        .iter()
        .map(|text| ports::parse(text))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::message)?;
    let addresses = listen::addresses(&args.address).map_err(Error::message)?;
    let mut listeners = listen::all(&addresses, &ports).await.map_err(Error::message)?;
    let until = daemon::signal::shutdown();
    tokio::select! {
        lost = lost(&cluster, &pod) => lost,
        failed = listeners.serve(&cluster, &pod) => failed,
        () = until.cancelled() => Ok(()),
    }
}

fn usage() -> Error {
    crate::usage("port-forward", "TYPE/NAME and list of ports are required for port-forward")
}

/// Waits until the pod is gone or has ended.
async fn lost(cluster: &Cluster, pod: &Value) -> Result<()> {
    let (namespace, name) = (dig::text(pod, "metadata.namespace"), dig::text(pod, "metadata.name"));
    let uid = dig::text(pod, "metadata.uid");
    loop {
        let Ok(mut events) = cluster.follow(&target::pods(), Some(namespace), name).await else {
            return std::future::pending().await;
        };
        let mut seen = false;
        while let Some(Ok(event)) = events.next().await {
            seen |= event.what != "BOOKMARK";
            let ended = ["Succeeded", "Failed"].contains(&dig::text(&event.object, "status.phase"));
            let other = event.what != "BOOKMARK" && dig::text(&event.object, "metadata.uid") != uid;
            if event.what == "DELETED" || ended || other {
                return Err(connection::lost());
            }
        }
        if !seen {
            return Err(connection::lost());
        }
    }
}
