//! Volumes of pods and the sources of persistent volumes.

use super::claim;
use super::page::{Page, shorten};
use super::volume_sources::{Form, Source};
use super::volumes_of_clusters::OF_PERSISTENT_VOLUMES;
use super::volumes_of_pods::OF_PODS;
use crate::dig;
use crate::put;
use serde_json::Value;

/// Writes the volumes of a pod or a template; `before` is put before the title.
pub fn of_pod(volumes: &[Value], before: &str, page: &mut Page) {
    if volumes.is_empty() {
        return put!(page, 0, "{before}Volumes:\t<none>\n");
    }
    put!(page, 0, "{before}Volumes:\n");
    let indent = if before.is_empty() { "" } else { " " };
    for volume in volumes {
        put!(page, 1, "{indent}{}:\n", dig::text(volume, "name"));
        source(volume, OF_PODS, page);
    }
}

/// Writes what a persistent volume is made of.
pub fn of_persistent_volume(spec: &Value, page: &mut Page) {
    source(spec, OF_PERSISTENT_VOLUMES, page);
}

fn source(volume: &Value, known: &[Source], page: &mut Page) {
    let Some(source) = known.iter().find(|source| dig::has(volume, source.field)) else {
        return page.put(1, "<unknown>\n");
    };
    let value = &volume[source.field];
    page.field(2, "Type", source.kind);
    for (title, path, form) in source.lines {
        put!(page, 2, "{title}\t{}\n", shown(dig::at(value, path), *form));
    }
    match source.field {
        "projected" => projected(value, page),
        "downwardAPI" => downward(value, page),
        "csi" => attributes(&dig::strings(value, "volumeAttributes"), page),
        "ephemeral" if dig::has(value, "volumeClaimTemplate") => {
            page.nested(2, |page| claim::spec(&value["volumeClaimTemplate"], None, page));
        }
        _ => {}
    }
}

/// A field of a source as it is printed.
fn shown(value: &Value, form: Form) -> String {
    let text = |path| dig::text(value, path);
    match form {
        Form::Text => value.as_str().unwrap_or_default().into(),
        Form::Or(missing) if value.is_null() => missing.into(),
        Form::Or(_) => dig::int_or_string(value),
        Form::Int => value.as_i64().unwrap_or_default().to_string(),
        Form::Flag => value.as_bool().unwrap_or_default().to_string(),
        Form::List => dig::go_list(&list(value)),
        Form::Joined => list(value).join(", "),
        Form::Map => dig::go_map(&value.as_object().map(|_| strings(value)).unwrap_or_default()),
        Form::Size if dig::quantity(value).is_zero() => "<unset>".into(),
        Form::Size => dig::quantity(value).to_string(),
        Form::Local | Form::Reference if value.is_null() => "nil".into(),
        Form::Local => format!("&LocalObjectReference{{Name:{},}}", text("name")),
        Form::Reference => {
            format!("&SecretReference{{Name:{},Namespace:{},}}", text("name"), text("namespace"))
        }
    }
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn strings(value: &Value) -> Vec<(&str, &str)> {
    let mut entries: Vec<_> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()))
        .collect();
    entries.sort_unstable();
    entries
}

fn projected(volume: &Value, page: &mut Page) {
    for source in dig::items(volume, "sources") {
        for (field, title) in [
            ("secret", "SecretName"),
            ("downwardAPI", "DownwardAPI"),
            ("configMap", "ConfigMapName"),
            ("serviceAccountToken", "TokenExpirationSeconds"),
        ] {
            if dig::has(source, field) {
                projected_source(&source[field], field, title, page);
                break;
            }
        }
    }
}

fn projected_source(source: &Value, field: &str, title: &str, page: &mut Page) {
    match field {
        "downwardAPI" => page.field(2, title, true),
        "serviceAccountToken" => page.field(2, title, dig::int(source, "expirationSeconds")),
        _ => {
            page.field(2, title, dig::text(source, "name"));
            page.field(2, "Optional", dig::flag(source, "optional"));
        }
    }
}

fn downward(volume: &Value, page: &mut Page) {
    page.put(2, "Items:\n");
    for item in dig::items(volume, "items") {
        for path in ["fieldRef.fieldPath", "resourceFieldRef.resource"] {
            if dig::has(item, path) {
                put!(page, 3, "{} -> {}\n", dig::text(item, path), dig::text(item, "path"));
            }
        }
    }
}

/// Attributes of a CSI volume: further ones stand below the first.
fn attributes(attributes: &[(&str, &str)], page: &mut Page) {
    page.put(2, "VolumeAttributes:\t");
    if attributes.is_empty() {
        return page.end("<none>");
    }
    for (number, (key, value)) in attributes.iter().enumerate() {
        if number > 0 {
            page.put(2, "");
            page.put(2, "\t");
        }
        put!(page, 2, "{}\n", shorten(&format!("{key}={value}"), 140));
    }
}
