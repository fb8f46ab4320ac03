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
    match of(object) {
        Some(ty) => write(object, Some(ty), &mut out),
        None => out.push_str(&coxctl_kit::print::json::compact(object)),
    }
    out
}

fn write(value: &Value, ty: Option<&'static Type>, out: &mut String) {
    let (Value::Object(map), Some(ty)) = (value, ty.filter(|t| !t.fields.is_empty())) else {
        out.push_str(&coxctl_kit::print::json::compact(value));
        return;
    };
    out.push('{');
    for (at, name) in ordered(map.keys(), ty).into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        coxctl_kit::print::json::string(name, out);
        out.push(':');
        member(&map[name], name, ty, out);
    }
    out.push('}');
}

fn member(value: &Value, name: &str, ty: &'static Type, out: &mut String) {
    let field = ty.field(name).filter(|f| f.kind == FieldKind::Message);
    let inner = field.and_then(machinery::schema::Field::ty);
    match (value, field.map(|f| f.card)) {
        (Value::Array(items), Some(Card::List)) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, inner, out);
            }
            out.push(']');
        }
        (_, Some(Card::One)) => write(value, inner, out),
        _ => out.push_str(&coxctl_kit::print::json::compact(value)),
    }
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
