//! How each component is asked whether it is well.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coxctl_config::{Arg, ClusterConfiguration, join_host_port};
use serde_json::Value;

use crate::discovery::probe;
use crate::host::Host;
use crate::{api, daemons, say};

fn healthy(name: &str, begin: Instant) {
    say::line(
        "control-plane-check",
        format_args!("{name} is healthy after {:.3}s", begin.elapsed().as_secs_f64()),
    );
}

/// etcd by its metrics port, which answers once there is a leader.
///
/// # Errors
/// As [`coxctl_machine::healthy`].
pub async fn etcd(host: &Host, cluster: &ClusterConfiguration, limit: Duration) -> Result<()> {
    let Some(local) = crate::init::local_etcd(cluster) else { return Ok(()) };
    // The loopback is that of the member's own family.
    let listen = last(&local.extra_args, "listen-metrics-urls");
    let listen = listen.unwrap_or("http://127.0.0.1:2381,http://[::1]:2381");
    let addresses: Vec<&str> = listen.split(',').filter_map(|u| u.trim().strip_prefix("http://")).collect();
    if addresses.is_empty() {
        return Ok(());
    }
    let begin = Instant::now();
    let check = async || {
        let mut answer = Ok(());
        for address in &addresses {
            answer = probe::plain(address, "/health").await;
            if answer.is_ok() {
                break;
            }
        }
        answer
    };
    host.healthy(daemons::ETCD, check, limit).await?;
    healthy("etcd", begin);
    Ok(())
}

/// The API server by /readyz, as the given kubeconfig's user.
///
/// # Errors
/// As [`coxctl_machine::healthy`].
pub async fn api_server(host: &Host, kubeconfig: &str, endpoint: &str, limit: Duration) -> Result<()> {
    let client = api::client(Path::new(kubeconfig), Some(&format!("https://{endpoint}"))).await?;
    let begin = Instant::now();
    let check = async || {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let asked = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
        asked.context("/readyz does not answer within 5 s")?.map(drop).map_err(anyhow::Error::from)
    };
    host.healthy(daemons::API_SERVER, check, limit).await?;
    healthy("kube-apiserver", begin);
    Ok(())
}

/// The controller manager by /healthz.
///
/// # Errors
/// As [`coxctl_machine::healthy`].
pub async fn controller_manager(host: &Host, cluster: &ClusterConfiguration, limit: Duration) -> Result<()> {
    let address = address(&cluster.controller_manager.extra_args, 10257);
    secure(host, daemons::CONTROLLER_MANAGER, &address, "/healthz", limit).await
}

/// The scheduler by /livez.
///
/// # Errors
/// As [`coxctl_machine::healthy`].
pub async fn scheduler(host: &Host, cluster: &ClusterConfiguration, limit: Duration) -> Result<()> {
    let address = address(&cluster.scheduler.extra_args, 10259);
    secure(host, daemons::SCHEDULER, &address, "/livez", limit).await
}

/// The cloud controller manager by /healthz.
///
/// # Errors
/// As [`coxctl_machine::healthy`].
pub async fn cloud(host: &Host, limit: Duration) -> Result<()> {
    secure(host, daemons::CLOUD, "127.0.0.1:10258", "/healthz", limit).await
}

async fn secure(host: &Host, name: &str, address: &str, path: &str, limit: Duration) -> Result<()> {
    let begin = Instant::now();
    let check = async || {
        let answer = probe::get(address, path, None).await?;
        ensure!(answer.status == 200, "https://{address}{path} answers {}", answer.status);
        Ok(())
    };
    host.healthy(name, check, limit).await?;
    healthy(name, begin);
    Ok(())
}

/// The kubelet by its own /healthz.
///
/// # Errors
/// As [`coxctl_machine::healthy`].
pub async fn kubelet(host: &Host, config: &Value, limit: Duration) -> Result<()> {
    let port = config["healthzPort"].as_u64().unwrap_or(10248);
    if port == 0 {
        return Ok(());
    }
    let address = config["healthzBindAddress"].as_str().filter(|a| !a.is_empty()).unwrap_or("127.0.0.1");
    let address = join_host_port(reachable(address), i32::try_from(port).unwrap_or(10248));
    let begin = Instant::now();
    let check = async || probe::plain(&address, "/healthz").await;
    host.healthy(daemons::KUBELET, check, limit).await?;
    say::line(
        "kubelet-check",
        format_args!("The kubelet is healthy after {:.3}s", begin.elapsed().as_secs_f64()),
    );
    Ok(())
}

/// A daemon that takes connections.
///
/// # Errors
/// As [`coxctl_machine::healthy`].
pub async fn listening(host: &Host, name: &str, address: &str, limit: Duration) -> Result<()> {
    let check = async || {
        let connecting = tokio::net::TcpStream::connect(address);
        let connected = tokio::time::timeout(Duration::from_secs(1), connecting).await;
        connected
            .context("no connection within a second")?
            .with_context(|| format!("connecting to {address}"))?;
        Ok(())
    };
    host.healthy(name, check, limit).await?;
    healthy(name, Instant::now());
    Ok(())
}

/// A daemon that says nothing of itself is well when it runs for a second.
///
/// # Errors
/// As [`coxctl_machine::healthy`].
pub async fn staying(host: &Host, name: &str, limit: Duration) -> Result<()> {
    let begin = Instant::now();
    let check = async || {
        let state = host.services().state(name)?;
        ensure!(matches!(state, coxctl_machine::State::Running { .. }), "it does not run");
        ensure!(begin.elapsed() >= Duration::from_secs(1), "it has just started");
        Ok(())
    };
    host.healthy(name, check, limit).await
}

/// Where a component listens, by its arguments.
fn address(extra: &[Arg], port: u16) -> String {
    let host = reachable(last(extra, "bind-address").unwrap_or("127.0.0.1"));
    let port = last(extra, "secure-port").and_then(|p| p.parse().ok()).unwrap_or(port);
    join_host_port(host, i32::from(port))
}

/// An address that means all is asked at the loopback.
fn reachable(address: &str) -> &str {
    match address {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        other => other,
    }
}

fn last<'a>(extra: &'a [Arg], name: &str) -> Option<&'a str> {
    extra.iter().rev().find(|a| a.name.trim_start_matches('-') == name).map(|a| a.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_asked_where_they_listen() {
        let arg = |name: &str, value: &str| Arg { name: name.into(), value: value.into() };
        assert_eq!(address(&[], 10257), "127.0.0.1:10257");
        assert_eq!(address(&[arg("bind-address", "::"), arg("secure-port", "1")], 10257), "[::1]:1");
        assert_eq!(address(&[arg("bind-address", "0.0.0.0")], 10259), "127.0.0.1:10259");
    }
}
