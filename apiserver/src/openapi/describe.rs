//! Short descriptions of the types and fields users meet most, in our own words.

use std::sync::LazyLock;

use ahash::AHashMap;

/// All descriptions, as they are written.
pub const ALL: &str = include_str!("descriptions.txt");

static TEXTS: LazyLock<AHashMap<&'static str, &'static str>> = LazyLock::new(|| lines(ALL).collect());

fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": "))
}

fn text(key: &str) -> Option<&'static str> {
    TEXTS.get(key).copied()
}

fn short(type_name: &str) -> &str {
    type_name.rsplit('.').next().unwrap_or_default()
}

/// Description of a field by its type and name; empty when there is none.
pub fn field(type_name: &str, field: &str) -> &'static str {
    let of = |ty: &str| text(&format!("{ty}.{field}"));
    let own = match short(type_name) {
        // The same container, but for what it lacks.
        "EphemeralContainer" => of("EphemeralContainer").or_else(|| of("Container")),
        ty => of(ty),
    };
    own.or_else(|| of("")).unwrap_or_default()
}

/// Description of a type; empty when there is none.
pub fn of_type(type_name: &str) -> &'static str {
    text(short(type_name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types by their short names, with all that share one.
    fn types() -> AHashMap<&'static str, Vec<&'static machinery::schema::Type>> {
        let mut all: AHashMap<&str, Vec<_>> = AHashMap::default();
        for ty in machinery::schema::all_types() {
            all.entry(short(ty.name)).or_default().push(ty);
        }
        all
    }

    #[test]
    fn say_something_of_what_exists() {
        let types = types();
        for (key, said) in lines(ALL) {
            assert!(said.ends_with('.') && said.len() > 3, "{key}: {said}");
            let (ty, field) = key.split_once('.').unwrap_or((key, ""));
            let known = match (ty, field) {
                ("", field) => types.values().flatten().any(|t| t.field(field).is_some()),
                (ty, "") => types.contains_key(ty),
                (ty, field) => types.get(ty).is_some_and(|all| all.iter().any(|t| t.field(field).is_some())),
            };
            assert!(known, "{key} is described and does not exist");
        }
        let all = lines(ALL).count();
        assert_eq!(all, TEXTS.len(), "something is described twice");
    }

    #[test]
    fn the_closest_description_is_taken() {
        let of = |ty: &str, name: &str| field(&format!("io.k8s.api.core.v1.{ty}"), name);
        assert_eq!(of("EphemeralContainer", "image"), of("Container", "image"));
        assert_eq!(of("ConfigMapKeySelector", "optional"), "Whether it may be missing.");
        assert_ne!(of("DeploymentSpec", "replicas"), of("Scale", "replicas"));
        assert_eq!(of("Pod", "nothing"), "");
    }
}
