//! Lifecycle hooks: exec, httpGet, sleep. A tcpSocket hook does nothing, as upstream.

use super::host::Host;
use crate::probes::run::HttpTarget;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use std::time::Duration;

/// Runs a hook in a container; the error is the text of the event.
pub async fn run(
    host: &Host,
    container: Option<&Container>,
    id: &str,
    pod_ip: &str,
    hook: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let call = host.ctx.runtime.exec_sync(id, &command, limit);
        return match call.await {
            Ok(out) if out.exit_code == 0 => Ok(()),
            Ok(out) => {
                let text =
                    String::from_utf8_lossy(if out.stderr.is_empty() { &out.stdout } else { &out.stderr })
                        .into_owned();
                Err(format!("command '{}' exited with {}: {text}", command.join(" "), out.exit_code))
            }
            Err(e) => Err(e.to_string()),
        };
    }
    if let Some(get) = &hook.http_get {
        let ports = container.and_then(|c| c.ports.clone()).unwrap_or_default();
        let target = HttpTarget::new(get, pod_ip, &ports, "kube-lifecycle/1.36")?;
        let limit = if limit.is_zero() { Duration::from_secs(60) } else { limit };
        return match tokio::time::timeout(limit, target.send()).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err("context deadline exceeded".into()),
        };
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}
