//! Pulling an image without waiting long for a registry that nobody reaches.

use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::cri;

/// A registry that can't be found within this time is given up, unless the runtime has another way to it.
const PATIENCE: Duration = Duration::from_secs(4);
/// Where containerd is told of mirrors.
const MIRRORS: &str = "/etc/containerd/certs.d";
/// What runtimes say when nobody answered them.
const SILENT: [&str; 8] = [
    "name resolution",
    "no such host",
    "can't be found",
    "server misbehaving",
    "connection refused",
    "i/o timeout",
    "network is unreachable",
    "no route to host",
];

/// Host, and port if there is one, of the registry an image comes from; Docker's when it names none.
pub fn of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Is it that nobody answers, which further tries do not change?
pub fn is_silent(error: &anyhow::Error) -> bool {
    silent(&format!("{error:#}"))
}

fn silent(text: &str) -> bool {
    SILENT.iter().any(|sign| text.to_lowercase().contains(sign))
}

/// Pulls an image. The runtime takes its time to find out that it has no name server; this machine is asked beside it.
///
/// # Errors
/// As the runtime says, or that the registry can't be reached.
pub async fn pull(socket: &str, image: &str) -> Result<()> {
    let registry = of(image);
    let pulling = cri::pull_until(socket, image, |error| silent(&format!("{error:#}")));
    if has_other_way(registry) {
        return pulling.await;
    }
    tokio::select! {
        pulled = pulling => pulled,
        cause = unknown(registry) => Err(anyhow!("{registry} can't be found: {cause}")),
    }
}

/// A proxy or a mirror reaches what this machine can't.
fn has_other_way(registry: &str) -> bool {
    let proxied =
        std::env::vars().any(|(name, value)| name.eq_ignore_ascii_case("https_proxy") && !value.is_empty());
    let mirrored = |name: &str| Path::new(MIRRORS).join(name).exists();
    proxied || mirrored("_default") || mirrored(registry)
}

/// Ends when the host's name turns out to be unknown here; never when it is known.
async fn unknown(registry: &str) -> String {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host).to_string();
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = tell.send((host.as_str(), 443).to_socket_addrs().map(|mut all| all.next().is_some()));
    });
    match tokio::time::timeout(PATIENCE, told).await {
        Ok(Ok(Ok(true))) => std::future::pending().await,
        Ok(Ok(Ok(false))) => "its name has no address".into(),
        Ok(Ok(Err(error))) => error.to_string(),
        _ => format!("no name server answers within {PATIENCE:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_images() {
        for (image, want) in [
            ("coxswain.local/pause:1", "coxswain.local"),
            ("localhost:5000/a/b", "localhost:5000"),
            ("busybox:1", "docker.io"),
            ("library/busybox", "docker.io"),
        ] {
            assert_eq!(of(image), want);
        }
    }

    #[test]
    fn silence_and_refusal_are_told_apart() {
        assert!(silent("dial tcp: lookup a.example: Temporary failure in name resolution"));
        assert!(silent("dial tcp 10.0.0.1:443: connect: connection refused"));
        assert!(!silent("a/b:1: not found") && !silent("pull access denied"));
    }

    #[tokio::test]
    async fn an_address_is_always_known() {
        let known = tokio::time::timeout(Duration::from_millis(50), unknown("127.0.0.1:5000"));
        assert!(known.await.is_err());
    }
}
