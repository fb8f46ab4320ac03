//! How far a rollout has come, in kubectl's words.

use anyhow::{Result, bail};
use serde_json::Value;

/// One look at a rollout: what to say, and whether it is over.
pub type Look = (String, bool);

/// Judges a Deployment, DaemonSet or StatefulSet. `revision` above 0 must be the running one.
///
/// # Errors
/// A rollout that has failed or can't be watched.
pub fn look(object: &Value, revision: i64) -> Result<Look> {
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => deployment(object, revision),
        "DaemonSet" => daemon_set(object),
        "StatefulSet" => stateful_set(object),
        kind => {
            let (group, _) =
                machinery::kinds::split_api_version(object["apiVersion"].as_str().unwrap_or_default());
            let dot = if group.is_empty() { "" } else { "." };
            bail!("no status viewer has been implemented for {kind}{dot}{group}")
        }
    }
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn observed(object: &Value) -> bool {
    number(object, "/metadata/generation") <= number(object, "/status/observedGeneration")
}

fn deployment(object: &Value, revision: i64) -> Result<Look> {
    let name = machinery::meta::name(object);
    if revision > 0 {
        let running = running_revision(object);
        if running != revision {
            bail!("desired revision ({revision}) is different from the running revision ({running})");
        }
    }
    if !observed(object) {
        return Ok(("Waiting for deployment spec update to be observed...".into(), false));
    }
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let late = |c: &&Value| c["type"] == "Progressing" && c["reason"] == "ProgressDeadlineExceeded";
    if conditions.iter().find(late).is_some() {
        bail!("deployment {name:?} exceeded its progress deadline");
    }
    let status = |field: &str| number(object, &format!("/status/{field}"));
    let (updated, all, available) =
        (status("updatedReplicas"), status("replicas"), status("availableReplicas"));
    let wanted = object["spec"]["replicas"].as_i64();
    let waiting =
        |text: String| Ok((format!("Waiting for deployment {name:?} rollout to finish: {text}..."), false));
    match wanted {
        Some(wanted) if updated < wanted => {
            waiting(format!("{updated} out of {wanted} new replicas have been updated"))
        }
        _ if all > updated => waiting(format!("{} old replicas are pending termination", all - updated)),
        _ if available < updated => {
            waiting(format!("{available} of {updated} updated replicas are available"))
        }
        _ => Ok((format!("deployment {name:?} successfully rolled out"), true)),
    }
}

/// Revision of a Deployment or of a ReplicaSet, 0 where there is none.
pub fn running_revision(object: &Value) -> i64 {
    let text = object["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str();
    text.and_then(|t| t.parse().ok()).unwrap_or_default()
}

fn only_rolling(object: &Value) -> Result<()> {
    if object["spec"]["updateStrategy"]["type"] != "RollingUpdate" {
        bail!("rollout status is only available for RollingUpdate strategy type");
    }
    Ok(())
}

fn daemon_set(object: &Value) -> Result<Look> {
    only_rolling(object)?;
    let name = machinery::meta::name(object);
    if !observed(object) {
        return Ok(("Waiting for daemon set spec update to be observed...".into(), false));
    }
    let status = |field: &str| number(object, &format!("/status/{field}"));
    let (updated, wanted, available) =
        (status("updatedNumberScheduled"), status("desiredNumberScheduled"), status("numberAvailable"));
    let waiting =
        |text: String| Ok((format!("Waiting for daemon set {name:?} rollout to finish: {text}..."), false));
    if updated < wanted {
        return waiting(format!("{updated} out of {wanted} new pods have been updated"));
    }
    if available < wanted {
        return waiting(format!("{available} of {wanted} updated pods are available"));
    }
    Ok((format!("daemon set {name:?} successfully rolled out"), true))
}

fn stateful_set(object: &Value) -> Result<Look> {
    only_rolling(object)?;
    let status = |field: &str| number(object, &format!("/status/{field}"));
    if status("observedGeneration") == 0 || !observed(object) {
        return Ok(("Waiting for statefulset spec update to be observed...".into(), false));
    }
    let wanted = object["spec"]["replicas"].as_i64();
    if let Some(missing) = wanted.map(|w| w - status("readyReplicas")).filter(|missing| *missing > 0) {
        return Ok((format!("Waiting for {missing} pods to be ready..."), false));
    }
    let updated = status("updatedReplicas");
    if let (Some(wanted), Some(partition)) = (wanted, partition(object)) {
        let due = wanted - partition;
        if updated < due {
            let text = format!("{updated} out of {due} new pods have been updated");
            return Ok((format!("Waiting for partitioned roll out to finish: {text}..."), false));
        }
        return Ok((format!("partitioned roll out complete: {updated} new pods have been updated..."), true));
    }
    let (update, current) = (&object["status"]["updateRevision"], &object["status"]["currentRevision"]);
    let text = |revision: &Value| revision.as_str().unwrap_or_default().to_string();
    if update != current {
        let to = text(update);
        return Ok((
            format!("waiting for statefulset rolling update to complete {updated} pods at revision {to}..."),
            false,
        ));
    }
    let at = text(current);
    Ok((
        format!("statefulset rolling update complete {} pods at revision {at}...", status("currentReplicas")),
        true,
    ))
}

fn partition(object: &Value) -> Option<i64> {
    object.pointer("/spec/updateStrategy/rollingUpdate/partition").and_then(Value::as_i64)
}

/// Why a pod isn't ready yet, in a few words; none when it is.
pub fn why_waiting(pod: &Value) -> Option<String> {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = |kind: &str| conditions.iter().find(|c| c["type"] == kind).cloned().unwrap_or_default();
    if condition("Ready")["status"] == "True" {
        return None;
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return Some("terminating".into());
    }
    let scheduled = condition("PodScheduled");
    if scheduled["status"] == "False" {
        let message = scheduled["message"].as_str().unwrap_or("no node chosen yet");
        return Some(format!("not scheduled: {message}"));
    }
    let statuses = ["initContainerStatuses", "containerStatuses"].map(|list| pod["status"][list].clone());
    let mut containers = statuses.iter().filter_map(Value::as_array).flatten();
    containers.find_map(why_container).or_else(|| Some("starting".into()))
}

fn why_container(status: &Value) -> Option<String> {
    let name = status["name"].as_str().unwrap_or_default();
    let state = &status["state"];
    if let Some(waiting) = state.get("waiting") {
        let reason = waiting["reason"].as_str().unwrap_or("waiting");
        return match waiting["message"].as_str() {
            Some(message) => Some(format!("{name}: {reason}: {message}")),
            None => Some(format!("{name}: {reason}")),
        };
    }
    if let Some(ended) = state.get("terminated").filter(|ended| ended["exitCode"] != 0) {
        let reason = ended["reason"].as_str().unwrap_or("terminated");
        return Some(format!("{name}: {reason}, exit code {}", ended["exitCode"]));
    }
    (state.get("running").is_some() && status["ready"] != true).then(|| format!("{name}: running, not ready"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn deployments() {
        let object = |observed: i64, status: Value| {
            let mut object = json!({"kind": "Deployment", "metadata": {"name": "d", "generation": 2}, "spec": {"replicas": 3}});
            object["status"] = status;
            object["status"]["observedGeneration"] = json!(observed);
            object
        };
        let table = [
            (object(1, json!({})), "Waiting for deployment spec update to be observed...", false),
            (
                object(2, json!({"updatedReplicas": 1, "replicas": 3})),
                "Waiting for deployment \"d\" rollout to finish: 1 out of 3 new replicas have been updated...",
                false,
            ),
            (
                object(2, json!({"updatedReplicas": 3, "replicas": 4})),
                "Waiting for deployment \"d\" rollout to finish: 1 old replicas are pending termination...",
                false,
            ),
            (
                object(2, json!({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 2})),
                "Waiting for deployment \"d\" rollout to finish: 2 of 3 updated replicas are available...",
                false,
            ),
            (
                object(2, json!({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3})),
                "deployment \"d\" successfully rolled out",
                true,
            ),
        ];
        for (object, text, done) in table {
            assert_eq!(look(&object, 0).ok(), Some((text.to_string(), done)));
        }
        let late =
            object(2, json!({"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]}));
        assert!(look(&late, 0).is_err());
    }

    #[test]
    fn stateful_sets() {
        let mut set = json!({"kind": "StatefulSet", "metadata": {"name": "s", "generation": 1}, "spec": {"replicas": 2, "updateStrategy": {"type": "RollingUpdate"}},
            "status": {"observedGeneration": 1, "readyReplicas": 1, "updateRevision": "b", "currentRevision": "a", "updatedReplicas": 1}});
        assert_eq!(look(&set, 0).ok(), Some(("Waiting for 1 pods to be ready...".into(), false)));
        set["status"]["readyReplicas"] = json!(2);
        assert!(look(&set, 0).is_ok_and(|(text, done)| text.starts_with("waiting for statefulset") && !done));
        set["spec"]["updateStrategy"]["rollingUpdate"] = json!({"partition": 1});
        assert!(
            look(&set, 0)
                .is_ok_and(|(text, done)| text.starts_with("partitioned roll out complete: 1") && done)
        );
        set["spec"]["updateStrategy"]["type"] = json!("OnDelete");
        assert!(look(&set, 0).is_err());
    }

    #[test]
    fn pods_that_wait() {
        let waiting = json!({"status": {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}]}});
        assert_eq!(why_waiting(&waiting).as_deref(), Some("c: ErrImagePull: no"));
        let unplaced = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}});
        assert_eq!(why_waiting(&unplaced).as_deref(), Some("not scheduled: 0/1 nodes"));
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(why_waiting(&ready), None);
    }
}
