//! Which pods of a node may be evicted, and which stand in the way.

use serde_json::Value;

/// What a user allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    pub force: bool,
    pub ignore_daemon_sets: bool,
    pub delete_empty_dir: bool,
}

/// Whether the DaemonSet that controls a pod exists.
#[derive(Clone, Debug)]
pub enum Owner {
    Exists,
    /// It is gone; the server's words.
    Gone(String),
}

/// Verdict on one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Evict,
    EvictWith(String),
    Leave,
    LeaveWith(String),
    Refuse(String),
}

/// Looks at one pod; `owner` is asked for pods of DaemonSets only.
pub fn judge(pod: &Value, allowed: Allowed, owner: Option<&Owner>) -> Verdict {
    let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !finished && controller(pod).is_some_and(|c| c["kind"] == "DaemonSet") {
        match owner {
            Some(Owner::Gone(why)) if allowed.force => return of_gone_owner(pod, allowed, why),
            Some(Owner::Gone(why)) => return Verdict::Refuse(why.clone()),
            _ if allowed.ignore_daemon_sets => {
                return Verdict::LeaveWith("ignoring DaemonSet-managed Pods".into());
            }
            _ => {
                let text = "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)";
                return Verdict::Refuse(text.into());
            }
        }
    }
    of_rest(pod, allowed, finished)
}

fn of_gone_owner(pod: &Value, allowed: Allowed, why: &str) -> Verdict {
    match of_rest(pod, allowed, false) {
        Verdict::Evict => Verdict::EvictWith(why.into()),
        other => other,
    }
}

fn of_rest(pod: &Value, allowed: Allowed, finished: bool) -> Verdict {
    if pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some() {
        return Verdict::Leave;
    }
    if finished {
        return Verdict::Evict;
    }
    let local =
        pod["spec"]["volumes"].as_array().is_some_and(|v| v.iter().any(|v| v.get("emptyDir").is_some()));
    if local && !allowed.delete_empty_dir {
        return Verdict::Refuse(
            "cannot delete Pods with local storage (use --delete-emptydir-data to override)".into(),
        );
    }
    match (controller(pod).is_some(), allowed.force) {
        (true, _) => Verdict::Evict,
        (false, true) => Verdict::EvictWith("deleting Pods that declare no controller".into()),
        (false, false) => {
            Verdict::Refuse("cannot delete Pods that declare no controller (use --force to override)".into())
        }
    }
}

/// The owner that controls an object.
pub fn controller(object: &Value) -> Option<&Value> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)
}

/// Says one message for all the pods it is about: `message: ns/a, ns/b`.
pub fn grouped(messages: &[(String, String)]) -> Vec<String> {
    let mut out: Vec<(&str, Vec<&str>)> = Vec::new();
    for (message, pod) in messages {
        match out.iter_mut().find(|(known, _)| known == message) {
            Some((_, pods)) => pods.push(pod),
            None => out.push((message, vec![pod])),
        }
    }
    out.iter().map(|(message, pods)| format!("{message}: {}", pods.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(kind: Option<&str>, more: Value) -> Value {
        let mut pod = json!({"metadata": {}, "spec": {}, "status": {"phase": "Running"}});
        if let Some(kind) = kind {
            pod["metadata"]["ownerReferences"] = json!([{"kind": kind, "controller": true, "name": "o"}]);
        }
        patch::merge_patch(&pod, &more)
    }

    #[test]
    fn verdicts() {
        let nothing = Allowed::default();
        let everything = Allowed { force: true, ignore_daemon_sets: true, delete_empty_dir: true };
        let local = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
        let refused = |v: &Verdict| matches!(v, Verdict::Refuse(_));
        assert_eq!(judge(&pod(Some("ReplicaSet"), json!({})), nothing, None), Verdict::Evict);
        assert!(refused(&judge(&pod(None, json!({})), nothing, None)));
        assert!(matches!(judge(&pod(None, json!({})), everything, None), Verdict::EvictWith(_)));
        assert!(refused(&judge(&pod(Some("ReplicaSet"), local.clone()), nothing, None)));
        assert_eq!(judge(&pod(Some("ReplicaSet"), local), everything, None), Verdict::Evict);
        let daemon = pod(Some("DaemonSet"), json!({}));
        assert!(refused(&judge(&daemon, nothing, Some(&Owner::Exists))));
        assert!(matches!(judge(&daemon, everything, Some(&Owner::Exists)), Verdict::LeaveWith(_)));
        assert!(matches!(judge(&daemon, everything, Some(&Owner::Gone("x".into()))), Verdict::EvictWith(_)));
        let mirror = pod(None, json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "h"}}}));
        assert_eq!(judge(&mirror, nothing, None), Verdict::Leave);
        let done = pod(None, json!({"status": {"phase": "Succeeded"}}));
        assert_eq!(judge(&done, nothing, None), Verdict::Evict);
    }

    #[test]
    fn messages_are_grouped() {
        let said = |a: &str, b: &str| (a.to_string(), b.to_string());
        let got = grouped(&[said("m", "a/1"), said("n", "a/2"), said("m", "b/3")]);
        assert_eq!(got, ["m: a/1, b/3", "n: a/2"]);
    }
}
