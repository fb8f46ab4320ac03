//! Lifecycle hooks: exec, httpGet, sleep. A tcpSocket hook does nothing, as upstream.

use super::host::Host;
use crate::probes::run::HttpTarget;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use std::time::Duration;

/// What a failed hook is told as in the container's status.
pub fn failure(hook: &LifecycleHandler, container: &str, pod: &str, error: &str) -> String {
    let what = match (&hook.exec, &hook.http_get) {
        (Some(exec), _) => {
            format!("Exec lifecycle hook ([{}])", exec.command.as_deref().unwrap_or_default().join(" "))
        }
        (_, Some(get)) => format!("HTTP lifecycle hook ({})", get.path.as_deref().unwrap_or_default()),
        _ => "Sleep lifecycle hook".to_owned(),
    };
    let (error, output) = error.split_once(OUTPUT).unwrap_or((error, ""));
    format!("{what} for Container {container:?} in Pod {pod:?} failed - error: {error}, message: {output:?}")
}

/// Parts the error from the output of a command.
const OUTPUT: char = '\u{1f}';

/// Runs a hook in a container; the error is for [`failure`].
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
                let (stdout, stderr) =
                    (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
                let error =
                    format!("command '{}' exited with {}: {stderr}", command.join(" "), out.exit_code);
                Err(format!("{error}{OUTPUT}{stdout}{stderr}"))
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
