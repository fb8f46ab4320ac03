//! Listening on the local ports.

use super::connection;
use super::ports::Pair;
use coxctl_kit::{Cluster, Result, out};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// An address to listen on. Of those that must not all fail, one is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    ip: IpAddr,
    any_will_do: bool,
}

/// Reads `--address`.
pub fn addresses(words: &[String]) -> Result<Vec<Address>, String> {
    let mut all: Vec<Address> = Vec::new();
    let mut add = |ip, any_will_do| {
        if !all.iter().any(|known| known.ip == ip) {
            all.push(Address { ip, any_will_do });
        }
    };
    for word in words {
        if word == "localhost" {
            add(Ipv4Addr::LOCALHOST.into(), true);
            add(Ipv6Addr::LOCALHOST.into(), true);
        } else {
            add(word.parse().map_err(|_| format!("{word} is not a valid IP"))?, false);
        }
    }
    Ok(all)
}

/// All ports that are listened on.
pub struct Listeners {
    connections: mpsc::Receiver<(TcpStream, Pair)>,
}

/// Listens on all ports that can be had; at least one must be.
pub async fn all(addresses: &[Address], ports: &[Pair]) -> Result<Listeners, String> {
    let (sender, connections) = mpsc::channel(16);
    let mut count = 0;
    for pair in ports {
        match one(addresses, *pair).await {
            Ok(listeners) => {
                count += 1;
                for (listener, pair) in listeners {
                    tokio::spawn(accept(listener, pair, sender.clone()));
                }
            }
            Err(why) => out::note(&format!("Unable to listen on port {}: {why}", pair.local)),
        }
    }
    if count == 0 {
        let ports: Vec<_> = ports.iter().map(|pair| format!("{{{} {}}}", pair.local, pair.remote)).collect();
        return Err(format!("unable to listen on any of the requested ports: [{}]", ports.join(" ")));
    }
    Ok(Listeners { connections })
}

/// Listens on one port at all addresses. A port chosen by the system is the same everywhere.
async fn one(addresses: &[Address], mut pair: Pair) -> Result<Vec<(TcpListener, Pair)>, String> {
    let mut listeners = Vec::new();
    let mut failures = Vec::new();
    for address in addresses {
        let at = SocketAddr::new(address.ip, pair.local);
        match TcpListener::bind(at).await {
            Ok(listener) => {
                let at = listener.local_addr().unwrap_or(at);
                pair.local = at.port();
                out::line(&format!("Forwarding from {at} -> {}", pair.remote));
                listeners.push((listener, pair));
            }
            Err(cause) => failures.push((address, failure(at, &cause))),
        }
    }
    let needed = failures.iter().any(|(address, _)| !address.any_will_do);
    if needed || listeners.is_empty() {
        let texts: Vec<_> = failures.into_iter().map(|(_, text)| text).collect();
        return Err(format!("Listeners failed to create with the following errors: [{}]", texts.join(" ")));
    }
    Ok(listeners)
}

fn failure(at: SocketAddr, cause: &std::io::Error) -> String {
    let network = if at.is_ipv4() { "tcp4" } else { "tcp6" };
    let why = cause.raw_os_error().map(|errno| nix::errno::Errno::from_raw(errno).desc().to_lowercase());
    let why = why.unwrap_or_else(|| cause.to_string());
    format!("unable to create listener: Error listen {network} {at}: bind: {why}")
}

async fn accept(listener: TcpListener, pair: Pair, to: mpsc::Sender<(TcpStream, Pair)>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if to.send((stream, pair)).await.is_err() {
                    return;
                }
            }
            Err(cause) => {
                tracing::warn!("accepting a connection: {cause}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

impl Listeners {
    /// Serves connections until forwarding one fails.
    ///
    /// # Errors
    /// `lost connection to pod`, after the cause was said.
    pub async fn serve(&mut self, cluster: &Cluster, pod: &Value) -> Result<()> {
        let (failed, mut failures) = mpsc::channel::<()>(1);
        loop {
            tokio::select! {
                Some((stream, pair)) = self.connections.recv() => {
                    out::line(&format!("Handling connection for {}", pair.local));
                    let call = connection::call(pod, pair.remote);
                    let (cluster, failed) = (cluster.clone(), failed.clone());
                    tokio::spawn(async move {
                        if let Err(why) = connection::forward(&cluster, &call, stream).await {
                            connection::say(&why, pair);
                            let _ = failed.send(()).await;
                        }
                    });
                }
                Some(()) = failures.recv() => return Err(connection::lost()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let count = |words: &[&str]| {
            addresses(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>()).map(|all| all.len())
        };
        assert_eq!(count(&["localhost"]), Ok(2));
        assert_eq!(count(&["localhost", "127.0.0.1", "0.0.0.0"]), Ok(3));
        assert_eq!(count(&["here"]), Err("here is not a valid IP".into()));
    }
}
