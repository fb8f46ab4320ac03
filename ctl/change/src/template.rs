//! Where workloads keep their pods' description.

use serde_json::{Value, json};

/// JSON pointer of the pod's spec in a kind, none for kinds without pods.
pub fn pod_spec_pointer(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some("/spec"),
        "CronJob" => Some("/spec/jobTemplate/spec/template/spec"),
        "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            Some("/spec/template/spec")
        }
        _ => None,
    }
}

/// The pod's spec in an object; made when it is missing.
pub fn pod_spec_mut(object: &mut Value) -> Option<&mut Value> {
    let pointer = pod_spec_pointer(object["kind"].as_str().unwrap_or_default())?;
    if object.pointer(pointer).is_none() {
        make(object, pointer);
    }
    object.pointer_mut(pointer)
}

fn make(object: &mut Value, pointer: &str) {
    let mut at = object;
    for part in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[part];
    }
    *at = json!({});
}

/// Name of a container, empty where it has none.
pub fn name(container: &Value) -> &str {
    container["name"].as_str().unwrap_or_default()
}

/// Containers of a pod's spec whose names fit a pattern with `*`: the ordinary ones, then the init containers.
pub fn containers_mut<'a>(spec: &'a mut Value, pattern: &'a str) -> Vec<&'a mut Value> {
    let Some(spec) = spec.as_object_mut() else { return Vec::new() };
    let (mut ordinary, mut init) = (Vec::new(), Vec::new());
    for (key, list) in spec.iter_mut() {
        match key.as_str() {
            "containers" => ordinary = fitting(list, pattern),
            "initContainers" => init = fitting(list, pattern),
            _ => {}
        }
    }
    ordinary.extend(init);
    ordinary
}

fn fitting<'a>(list: &'a mut Value, pattern: &str) -> Vec<&'a mut Value> {
    let items = list.as_array_mut().map(|items| items.iter_mut()).into_iter().flatten();
    items.filter(|container| fits(pattern, name(container))).collect()
}

/// `*` stands for any run of characters.
pub fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits(tail, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("*", "a", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("b", "abc", false),
            ("a*d", "abc", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn specs() {
        let mut cron = json!({"kind": "CronJob", "spec": {}});
        *pod_spec_mut(&mut cron).expect("a place") =
            json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]});
        let spec = cron.pointer_mut("/spec/jobTemplate/spec/template/spec").expect("made");
        let names: Vec<String> = containers_mut(spec, "*").iter().map(|c| name(c).to_string()).collect();
        assert_eq!(names, ["a", "i"]);
        assert!(pod_spec_mut(&mut json!({"kind": "ConfigMap"})).is_none());
    }
}
