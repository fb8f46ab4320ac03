//! The environment of a container: its variables and where they come from.

use super::page::Page;
use crate::dig;
use crate::put;
use machinery::quantity::Quantity;
use serde_json::Value;

/// Whole config maps and secrets taken as variables.
pub fn sources(container: &Value, page: &mut Page) {
    let sources = dig::items(container, "envFrom");
    if sources.is_empty() {
        return;
    }
    page.put(2, "Environment Variables from:\n");
    for source in sources {
        let (kind, from) = match (source.get("configMapRef"), source.get("secretRef")) {
            (Some(from), _) => ("ConfigMap", from),
            (None, Some(from)) => ("Secret", from),
            (None, None) => ("", &Value::Null),
        };
        let prefix = match dig::text(source, "prefix") {
            "" => String::new(),
            prefix => format!(" with prefix '{prefix}'"),
        };
        let (name, optional) = (dig::text(from, "name"), dig::flag(from, "optional"));
        put!(page, 3, "{name}\t{kind}{prefix}\tOptional: {optional}\n");
    }
}

/// The variables. References are followed where the pod itself tells the value.
pub fn variables(container: &Value, pod: Option<&Value>, page: &mut Page) {
    let variables = dig::items(container, "env");
    let none = if variables.is_empty() { "\t<none>" } else { "" };
    put!(page, 2, "Environment:{none}\n");
    for variable in variables {
        let name = dig::text(variable, "name");
        match variable.get("valueFrom").filter(|from| !from.is_null()) {
            None => plain(name, dig::text(variable, "value"), page),
            Some(from) => reference(name, from, container, pod, page),
        }
    }
}

fn plain(name: &str, value: &str, page: &mut Page) {
    for (number, line) in value.split('\n').enumerate() {
        let name = if number == 0 { format!("{name}:") } else { String::new() };
        put!(page, 3, "{name}\t{line}\n");
    }
}

fn reference(name: &str, from: &Value, container: &Value, pod: Option<&Value>, page: &mut Page) {
    if dig::has(from, "fieldRef") {
        let (version, path) = (dig::text(from, "fieldRef.apiVersion"), dig::text(from, "fieldRef.fieldPath"));
        put!(page, 3, "{name}:\t{} ({version}:{path})\n", pod_field(pod, path));
    } else if dig::has(from, "resourceFieldRef") {
        let resource = dig::text(from, "resourceFieldRef.resource");
        put!(page, 3, "{name}:\t{} ({resource})\n", amount(&from["resourceFieldRef"], container));
    } else if dig::has(from, "secretKeyRef") {
        let key = &from["secretKeyRef"];
        put!(
            page,
            3,
            "{name}:\t<set to the key '{}' in secret '{}'>\tOptional: {}\n",
            dig::text(key, "key"),
            dig::text(key, "name"),
            dig::flag(key, "optional")
        );
    } else if dig::has(from, "configMapKeyRef") {
        let key = &from["configMapKeyRef"];
        put!(
            page,
            3,
            "{name}:\t<set to the key '{}' of config map '{}'>\tOptional: {}\n",
            dig::text(key, "key"),
            dig::text(key, "name"),
            dig::flag(key, "optional")
        );
    }
}

/// Only these two fields are looked up; the others show where they come from alone.
fn pod_field<'a>(pod: Option<&'a Value>, path: &str) -> &'a str {
    match path {
        "metadata.name" | "metadata.namespace" => pod.map(|pod| dig::text(pod, path)).unwrap_or_default(),
        _ => "",
    }
}

/// A request or limit in units of the divisor, rounded up.
fn amount(selector: &Value, container: &Value) -> String {
    let resource = dig::text(selector, "resource");
    let divisor = match dig::quantity(&selector["divisor"]) {
        zero if zero.is_zero() => dig::quantity(&Value::from("1")),
        divisor => divisor,
    };
    let known = ["cpu", "memory", "ephemeral-storage"];
    let Some((list, name)) = resource.split_once('.').filter(|(_, name)| known.contains(name)) else {
        return String::new();
    };
    let held = dig::quantity(&container["resources"][list][name]);
    let units = if name == "cpu" { Quantity::milli_value } else { Quantity::value };
    let amount = (units(&held) as f64 / units(&divisor) as f64).ceil() as i64;
    match (amount, resource) {
        (0, "limits.cpu" | "limits.memory") => "node allocatable".into(),
        _ => amount.to_string(),
    }
}
