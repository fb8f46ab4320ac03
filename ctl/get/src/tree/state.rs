//! How an object is, in a word, and why.

use serde_json::Value;

/// Whether one should worry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Good,
    Waiting,
    Bad,
    Plain,
}

/// Ready parts of all parts, a status, and what to think of it.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub ready: String,
    pub status: String,
    pub mood: Mood,
}

/// The state of any object.
pub fn state(object: &Value) -> State {
    if object["metadata"]["deletionTimestamp"].is_string() {
        let held: Vec<&str> = object["metadata"]["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let why = if held.is_empty() { String::new() } else { format!(" (waits for {})", held.join(", ")) };
        return State { ready: String::new(), status: format!("Terminating{why}"), mood: Mood::Waiting };
    }
    match object["kind"].as_str().unwrap_or_default() {
        "Pod" => pod(object),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "ReplicationController" => replicas(object),
        "DaemonSet" => counted(object, "desiredNumberScheduled", "numberReady"),
        "Job" => job(object),
        _ => by_conditions(object),
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn replicas(object: &Value) -> State {
    let want = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let ready = number(&object["status"]["readyReplicas"]);
    let trouble =
        condition(object, "ReplicaFailure", "True").or_else(|| condition(object, "Progressing", "False"));
    whole(ready, want, trouble.unwrap_or_default())
}

fn counted(object: &Value, want: &str, ready: &str) -> State {
    whole(number(&object["status"][ready]), number(&object["status"][want]), String::new())
}

fn whole(ready: i64, want: i64, trouble: String) -> State {
    let mood = match (ready >= want, trouble.is_empty()) {
        (_, false) => Mood::Bad,
        (true, _) if want == 0 => Mood::Plain,
        (true, _) => Mood::Good,
        (false, _) => Mood::Waiting,
    };
    let status = match (&trouble, mood) {
        (trouble, Mood::Bad) => trouble.clone(),
        (_, Mood::Waiting) => format!("{} not ready", want - ready),
        (_, Mood::Good) => "Ready".into(),
        _ => String::new(),
    };
    State { ready: format!("{ready}/{want}"), status, mood }
}

fn job(object: &Value) -> State {
    let done = number(&object["status"]["succeeded"]);
    let want = object["spec"]["completions"].as_i64().unwrap_or(1);
    let ready = format!("{done}/{want}");
    if let Some(why) = condition(object, "Failed", "True") {
        return State { ready, status: why, mood: Mood::Bad };
    }
    match condition(object, "Complete", "True") {
        Some(_) => State { ready, status: "Complete".into(), mood: Mood::Good },
        None => State { ready, status: "Running".into(), mood: Mood::Waiting },
    }
}

fn pod(object: &Value) -> State {
    let containers = object["status"]["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = containers.iter().filter(|container| container["ready"] == true).count();
    let all = object["spec"]["containers"].as_array().map_or(0, Vec::len);
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    let trouble = trouble(object).or_else(|| condition(object, "PodScheduled", "False"));
    let (status, mood) = match (phase, trouble) {
        ("Succeeded", _) => ("Completed".to_string(), Mood::Plain),
        ("Failed", why) => (
            why.unwrap_or_else(|| text(&object["status"], "reason").unwrap_or_else(|| "Failed".into())),
            Mood::Bad,
        ),
        (_, Some(why)) => (why, Mood::Bad),
        ("Running", None) if ready == all => ("Running".into(), Mood::Good),
        (phase, None) => (condition(object, "Ready", "False").unwrap_or_else(|| phase.into()), Mood::Waiting),
    };
    State { ready: format!("{ready}/{all}"), status, mood }
}

/// What keeps a container from running: why it waits, or how it ended.
fn trouble(object: &Value) -> Option<String> {
    let lists = ["initContainerStatuses", "containerStatuses"].into_iter();
    let mut statuses = lists.flat_map(|key| object["status"][key].as_array().into_iter().flatten());
    statuses.find_map(|status| {
        let waiting = &status["state"]["waiting"];
        let reason = text(waiting, "reason")
            .filter(|reason| !matches!(reason.as_str(), "ContainerCreating" | "PodInitializing"));
        if let Some(reason) = reason {
            return Some(format!(
                "{reason}{}",
                text(waiting, "message").map(|why| format!(": {}", short(&why))).unwrap_or_default()
            ));
        }
        let ended = &status["state"]["terminated"];
        (number(&ended["exitCode"]) != 0).then(|| {
            format!("{} (exit code {})", text(ended, "reason").unwrap_or_default(), ended["exitCode"])
        })
    })
}

/// Ready, Available and the like, where an object has such a condition.
fn by_conditions(object: &Value) -> State {
    let phase = text(&object["status"], "phase").unwrap_or_default();
    for kind in ["Ready", "Available", "Established", "Synced"] {
        let known = object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == kind);
        let Some(known) = known else { continue };
        let good = known["status"] == "True";
        let status = if good {
            kind.to_string()
        } else {
            condition(object, kind, known["status"].as_str().unwrap_or_default()).unwrap_or_default()
        };
        return State {
            ready: known["status"].as_str().unwrap_or_default().into(),
            status,
            mood: if good { Mood::Good } else { Mood::Bad },
        };
    }
    let mood = match phase.as_str() {
        "Bound" | "Active" | "Available" => Mood::Good,
        "Pending" => Mood::Waiting,
        "Failed" | "Lost" => Mood::Bad,
        _ => Mood::Plain,
    };
    State { ready: String::new(), status: phase, mood }
}

/// The reason and message of a condition that has this status.
fn condition(object: &Value, kind: &str, status: &str) -> Option<String> {
    let found = object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind && condition["status"] == status)?;
    let reason = text(found, "reason").unwrap_or_else(|| kind.into());
    Some(match text(found, "message").filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {}", short(&message)),
        None => reason,
    })
}

fn text(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().map(str::to_string)
}

/// The first line, not too long.
fn short(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    if line.chars().count() <= 80 { line.into() } else { line.chars().take(79).collect::<String>() + "…" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn states() {
        let table = [
            (
                json!({"kind": "Pod", "spec": {"containers": [{}]}, "status": {"phase": "Running", "containerStatuses": [{"ready": true}]}}),
                "1/1",
                "Running",
                Mood::Good,
            ),
            (
                json!({"kind": "Pod", "spec": {"containers": [{}]}, "status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}}),
                "0/1",
                "ImagePullBackOff: no such image",
                Mood::Bad,
            ),
            (
                json!({"kind": "Pod", "spec": {"containers": [{}]}, "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}}),
                "0/1",
                "Unschedulable: 0/1 nodes",
                Mood::Bad,
            ),
            (
                json!({"kind": "Deployment", "spec": {"replicas": 3}, "status": {"readyReplicas": 1}}),
                "1/3",
                "2 not ready",
                Mood::Waiting,
            ),
            (json!({"kind": "ReplicaSet", "spec": {"replicas": 0}}), "0/0", "", Mood::Plain),
            (
                json!({"kind": "Job", "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}}),
                "1/1",
                "Complete",
                Mood::Good,
            ),
            (
                json!({"kind": "Node", "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Down"}]}}),
                "False",
                "Down",
                Mood::Bad,
            ),
            (json!({"kind": "ConfigMap"}), "", "", Mood::Plain),
            (
                json!({"kind": "X", "metadata": {"deletionTimestamp": "t", "finalizers": ["a/b"]}}),
                "",
                "Terminating (waits for a/b)",
                Mood::Waiting,
            ),
        ];
        for (object, ready, status, mood) in table {
            assert_eq!(
                state(&object),
                State { ready: ready.into(), status: status.into(), mood },
                "{object}"
            );
        }
    }
}
