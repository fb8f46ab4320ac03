//! Pods made for a session: waited for, attached to, and how they ended. Exported for `run`.

use crate::attach::{self, Wishes};
use crate::dig;
use crate::logs;
use crate::target;
use coxctl_kit::{Cluster, Error, Result, Status, out};
use futures::StreamExt;
use serde_json::Value;
use std::time::Duration;

/// A pod that `run` has made, and what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub stdin: bool,
    pub tty: bool,
    pub quiet: bool,
    pub leave_stdin_open: bool,
    /// `Always`, `OnFailure` or `Never`.
    pub restart_policy: &'a str,
    /// How long to wait until it runs.
    pub wait: Duration,
}

/// Waits until the pod runs and is ready, attaches to it and, when it isn't to be restarted for ever, waits for its end.
/// One that has ended already, or can't be attached to, has its log printed.
///
/// # Errors
/// [`Error::Code`] with the exit code of its process; pods that were deleted or never ran.
pub async fn attach_running(cluster: &Cluster, running: &Running<'_>) -> Result<()> {
    let Running { namespace, name, stdin, tty, quiet, .. } = *running;
    let pod = wait(cluster, namespace, name, Some(running.wait), runs_or_ended).await?;
    let wishes = Wishes { stdin, tty, quiet };
    attach_or_print(cluster, &pod, None, wishes, ended(&pod)).await?;
    if running.leave_stdin_open || running.restart_policy == "Always" {
        return Ok(());
    }
    let done: fn(&Value) -> bool = if running.restart_policy == "Never" { ended } else { succeeded };
    let pod = wait(cluster, namespace, name, None, done).await?;
    outcome(&pod)
}

/// Attaches to a container; where its process has ended or can't be attached to, prints its log.
///
/// # Errors
/// As those of attaching and of reading logs.
pub async fn attach_or_print(
    cluster: &Cluster,
    pod: &Value,
    container: Option<&str>,
    wishes: Wishes,
    over: bool,
) -> Result<()> {
    if !over {
        match attach::to(cluster, pod, container, wishes).await {
            Err(error) if !matches!(error, Error::Code(..) | Error::Exit(_)) => {
                let name = dig::text(pod, "metadata.name");
                out::note(&format!(
                    "warning: couldn't attach to pod/{name}, falling back to streaming logs: {error}"
                ));
            }
            done => return done,
        }
    }
    let container = target::choose(pod, container, wishes.quiet)?;
    logs::print(cluster, pod, dig::text(container, "name")).await
}

/// Follows a pod until a condition holds.
///
/// # Errors
/// When it is deleted, and `timed out waiting for the condition`.
pub async fn wait(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    limit: Option<Duration>,
    mut holds: impl FnMut(&Value) -> bool,
) -> Result<Value> {
    let work = async {
        loop {
            let mut events = cluster.follow(&target::pods(), Some(namespace), name).await?;
            while let Some(event) = events.next().await {
                let event = event?;
                match event.what.as_str() {
                    "DELETED" => return Err(gone()),
                    "BOOKMARK" => {}
                    _ if holds(&event.object) => return Ok(event.object),
                    _ => {}
                }
            }
        }
    };
    match limit.filter(|limit| !limit.is_zero()) {
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(target::timed_out())),
        None => work.await,
    }
}

fn gone() -> Error {
    let message = "pods \"\" not found".into();
    Error::Api(Box::new(Status { code: 404, reason: "NotFound".into(), message, details: Value::Null }))
}

fn phase(pod: &Value) -> &str {
    dig::text(pod, "status.phase")
}

fn ended(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&phase(pod))
}

fn succeeded(pod: &Value) -> bool {
    phase(pod) == "Succeeded"
}

fn runs_or_ended(pod: &Value) -> bool {
    let ready = |one: &Value| dig::text(one, "type") == "Ready" && dig::text(one, "status") == "True";
    ended(pod) || (phase(pod) == "Running" && dig::items(pod, "status.conditions").iter().any(ready))
}

/// How a pod that has ended ended.
fn outcome(pod: &Value) -> Result<()> {
    let whole = format!("{}/{}", dig::text(pod, "metadata.namespace"), dig::text(pod, "metadata.name"));
    match phase(pod) {
        "Succeeded" => return Ok(()),
        "Failed" => {}
        phase => return Err(Error::message(format!("pod {whole} left in phase {phase}"))),
    }
    let end =
        dig::items(pod, "status.containerStatuses").first().map(|status| &status["state"]["terminated"]);
    let end = end.unwrap_or(&Value::Null);
    match i32::try_from(dig::int(end, "exitCode")) {
        Ok(code) if code != 0 => {
            let (reason, message) = (dig::text(end, "reason"), dig::text(end, "message"));
            Err(Error::Code(format!("pod {whole} terminated ({reason})\n{message}"), code))
        }
        _ => Err(Error::message(format!("pod {whole} failed with unknown exit code"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_ready_or_over() {
        let pod = |phase: &str, ready: &str| json!({"status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}});
        for (pod, wanted) in [
            (pod("Pending", "False"), false),
            (pod("Running", "False"), false),
            (pod("Running", "True"), true),
            (pod("Succeeded", "False"), true),
            (pod("Failed", "False"), true),
        ] {
            assert_eq!(runs_or_ended(&pod), wanted, "{pod}");
        }
    }

    #[test]
    fn the_end_gives_the_exit_code() {
        let pod = |phase: &str, code: i64| {
            json!({"metadata": {"namespace": "n", "name": "p"}, "status": {"phase": phase,
                "containerStatuses": [{"state": {"terminated": {"exitCode": code, "reason": "Error"}}}]}})
        };
        let said = |pod: Value| outcome(&pod).map_err(|error| error.printed());
        assert_eq!(said(pod("Succeeded", 0)), Ok(()));
        assert_eq!(said(pod("Failed", 3)), Err(("pod n/p terminated (Error)\n".into(), 3)));
        assert_eq!(said(pod("Failed", 0)), Err(("error: pod n/p failed with unknown exit code".into(), 1)));
        assert_eq!(said(pod("Running", 0)), Err(("error: pod n/p left in phase Running".into(), 1)));
    }
}
