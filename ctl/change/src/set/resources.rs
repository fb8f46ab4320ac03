//! Requests and limits of containers.

use crate::template::containers_mut;
use serde_json::{Map, Value, json};

/// Sets requests and limits of the containers that fit the pattern; false when none does.
pub fn edit(
    spec: &mut Value,
    pattern: &str,
    limits: &Map<String, Value>,
    requests: &Map<String, Value>,
) -> bool {
    let chosen = containers_mut(spec, pattern);
    let found = !chosen.is_empty();
    for container in chosen {
        for (member, wanted) in [("limits", limits), ("requests", requests)] {
            if !wanted.is_empty() {
                merge(container, member, wanted);
            }
        }
    }
    found
}

fn merge(container: &mut Value, member: &str, wanted: &Map<String, Value>) {
    for key in ["resources", member] {
        let at = if key == "resources" { &mut container[key] } else { &mut container["resources"][key] };
        if !at.is_object() {
            *at = json!({});
        }
    }
    if let Some(map) = container["resources"][member].as_object_mut() {
        map.extend(wanted.clone());
    }
}

/// Sets images by container name, `*` for all; the names that no container has are returned.
pub fn set_images(spec: &mut Value, images: &[(String, String)]) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, image) in images {
        let chosen = containers_mut(spec, if name == "*" { "*" } else { name });
        if chosen.is_empty() {
            missing.push(name.clone());
        }
        chosen.into_iter().for_each(|container| container["image"] = json!(image));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_into_what_is_there() {
        let mut spec = json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "1", "x": "2"}}}, {"name": "b"}]});
        let limits = Map::from_iter([("cpu".to_string(), json!("2"))]);
        assert!(edit(&mut spec, "*", &limits, &Map::new()));
        assert_eq!(spec["containers"][0]["resources"], json!({"limits": {"cpu": "2", "x": "2"}}));
        assert_eq!(spec["containers"][1]["resources"], json!({"limits": {"cpu": "2"}}));
        assert!(!edit(&mut spec, "z", &limits, &Map::new()));
    }

    #[test]
    fn images() {
        let mut spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]});
        let wanted = [("a".to_string(), "1".to_string()), ("z".into(), "2".into()), ("*".into(), "3".into())];
        assert_eq!(set_images(&mut spec, &wanted), ["z"]);
        assert_eq!(spec["initContainers"][0]["image"], json!("3"));
    }
}
