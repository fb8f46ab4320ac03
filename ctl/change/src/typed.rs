//! Objects of known kinds as upstream's typed clients print them: empty members that are always written are there.

use machinery::schema::{Card, FieldKind, Type};
use serde_json::Value;

/// The type of a built-in kind's object.
pub fn of(object: &Value) -> Option<&'static Type> {
    let (group, version) = machinery::kinds::split_api_version(object["apiVersion"].as_str()?);
    machinery::kinds::type_of(group, version, object["kind"].as_str()?)
}

/// Fills in what a typed client always writes, such as `status: {}`, and leaves out what it never writes. Objects of
/// unknown kinds stay as they are.
pub fn canonical(object: &Value) -> Value {
    let Some(ty) = of(object) else { return object.clone() };
    let mut out = match codec::json::decode_value(object.clone(), ty) {
        Ok(decoded) => decoded.value,
        Err(_) => return object.clone(),
    };
    drop_null_times(&mut out);
    out
}

fn drop_null_times(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| !value.is_null());
    }
}

/// Compact JSON with the members in the order of the Go struct: `kind` and `apiVersion` first.
pub fn compact(object: &Value) -> String {
    let mut out = String::new();
    write(object, of(object), None, &mut out);
    out
}

/// Indented JSON with the members in the order of the Go struct.
pub fn pretty(object: &Value) -> String {
    let mut out = String::new();
    write(object, of(object), Some(0), &mut out);
    out + "\n"
}

/// Writes a value; `depth` is the indentation, none for JSON on one line.
fn write(value: &Value, ty: Option<&'static Type>, depth: Option<usize>, out: &mut String) {
    let inner = depth.map(|d| d + 1);
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            let names = match ty.filter(|t| !t.fields.is_empty()) {
                Some(ty) => ordered(map.keys(), ty),
                None => map.keys().map(String::as_str).collect(),
            };
            for (at, name) in names.into_iter().enumerate() {
                separate(at, inner, out);
                coxctl_kit::print::json::string(name, out);
                out.push_str(if depth.is_some() { ": " } else { ":" });
                write(&map[name], member_type(ty, name), inner, out);
            }
            newline(depth, out);
            out.push('}');
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                separate(at, inner, out);
                write(item, ty, inner, out);
            }
            newline(depth, out);
            out.push(']');
        }
        plain => out.push_str(&coxctl_kit::print::json::compact(plain)),
    }
}

fn separate(at: usize, depth: Option<usize>, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
    newline(depth, out);
}

fn newline(depth: Option<usize>, out: &mut String) {
    if let Some(depth) = depth {
        out.push('\n');
        out.push_str(&"    ".repeat(depth));
    }
}

/// The type of a member or of its items. Maps are written in the order of their keys.
fn member_type(ty: Option<&'static Type>, name: &str) -> Option<&'static Type> {
    let field = ty?.field(name)?;
    let known = field.kind == FieldKind::Message && field.card != Card::Map;
    if known { field.ty() } else { None }
}

/// Members in the struct's order. Field numbers follow it except where fields were put in later.
pub fn ordered<'a>(names: impl Iterator<Item = &'a String>, ty: &'static Type) -> Vec<&'a str> {
    let listed = MOVED.iter().find(|(name, _)| ty.name.ends_with(name)).map_or(&[][..], |(_, order)| order);
    let rank = |name: &str| {
        let place = match name {
            "kind" if ty.is_kind() => return (0, 0),
            "apiVersion" if ty.is_kind() => return (0, 1),
            name => listed.iter().position(|n| *n == name),
        };
        match (place, ty.field(name)) {
            (Some(place), _) => (1, place),
            (None, Some(field)) => (2, field.tag as usize),
            (None, None) => (3, 0),
        }
    };
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.sort_by_key(|name| rank(name));
    names
}

/// Structs whose order isn't that of the field numbers.
const MOVED: [(&str, &[&str]); 7] = [
    ("core.v1.PodSpec", &["volumes", "initContainers", "containers", "ephemeralContainers"]),
    (
        "core.v1.Container",
        &[
            "name",
            "image",
            "command",
            "args",
            "workingDir",
            "ports",
            "envFrom",
            "env",
            "resources",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
            "volumeMounts",
            "volumeDevices",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
            "terminationMessagePath",
            "terminationMessagePolicy",
            "imagePullPolicy",
        ],
    ),
    ("core.v1.ServiceSpec", &["ports", "selector", "clusterIP", "clusterIPs"]),
    ("core.v1.ConfigMap", &["metadata", "immutable", "data", "binaryData"]),
    ("core.v1.Secret", &["metadata", "immutable", "data", "stringData", "type"]),
    (
        "batch.v1.JobSpec",
        &[
            "parallelism",
            "completions",
            "activeDeadlineSeconds",
            "podFailurePolicy",
            "successPolicy",
            "backoffLimit",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
            "selector",
            "manualSelector",
            "template",
        ],
    ),
    ("batch.v1.CronJobSpec", &["schedule", "timeZone"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_always_written() {
        let made = canonical(
            &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"name": "c"}]}}}}),
        );
        assert_eq!(made["status"], json!({}));
        assert_eq!(made["spec"]["strategy"], json!({}));
        assert_eq!(made["spec"]["template"]["spec"]["containers"][0], json!({"name": "c", "resources": {}}));
        assert_eq!(made["metadata"], json!({"name": "d"}));
    }

    #[test]
    fn order_of_members() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"b": "1", "a": "2"}, "name": "p"},
            "spec": {"containers": [{"image": "i", "env": [{"value": "<", "name": "n"}], "name": "c"}], "restartPolicy": "Never"}});
        assert_eq!(
            compact(&pod),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","labels":{"a":"2","b":"1"}},"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"n","value":"\u003c"}]}],"restartPolicy":"Never"}}"#
        );
    }
}
