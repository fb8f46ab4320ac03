//! Tables, as `kubectl get` asks for them: columns from the descriptor, cells from one function per kind.

mod access;
mod admission;
mod apps;
mod cluster;
mod core;
mod events;
mod jsonpath;
mod network;
mod nodes;
mod pods;
mod resources;
mod storage;

pub use jsonpath::JsonPath;

use crate::partial;
use access::Cells;
use jiff::Timestamp;
use machinery::kinds::{Column, Resource, columns_of};
use machinery::{meta, time};
use serde_json::{Map, Value, json};

/// A Table of objects. `subresource` picks the columns of `scale`; `include` is the query's `includeObject`:
/// `None`, `Metadata` (also when empty) or `Object`. The list metadata is left empty.
pub fn render(resource: &Resource, subresource: Option<&str>, objects: &[Value], include: &str) -> Value {
    let columns = columns_for(resource, subresource);
    let now = Timestamp::now();
    let rows: Vec<Value> =
        objects.iter().map(|o| row(resource, subresource, &columns, o, include, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": columns.iter().map(definition).collect::<Vec<_>>(),
        "rows": rows,
    })
}

/// The columns shown for a resource or one of its subresources.
pub fn columns_for(resource: &Resource, subresource: Option<&str>) -> Vec<Column> {
    let columns = match subresource {
        Some("scale") => columns_of("autoscaling", "Scale"),
        _ => resource.columns.clone(),
    };
    match columns.is_empty() {
        true => vec![column("Name", "string", "name"), column("Created At", "date", "")],
        false => columns,
    }
}

fn column(name: &str, type_: &str, format: &str) -> Column {
    Column {
        name: name.into(),
        type_: type_.into(),
        format: format.into(),
        description: String::new(),
        priority: 0,
        json_path: None,
    }
}

fn definition(column: &Column) -> Value {
    let description = match (column.description.as_str(), column.name.as_str()) {
        ("", "Name") => "Name of the object, unique within its namespace or the cluster.",
        ("", "Age" | "Created At") => "Time since, or at which, the server created the object.",
        (given, _) => given,
    };
    json!({"name": column.name, "type": column.type_, "format": column.format, "description": description, "priority": column.priority})
}

/// One row.
fn row(
    resource: &Resource,
    subresource: Option<&str>,
    columns: &[Column],
    object: &Value,
    include: &str,
    now: Timestamp,
) -> Value {
    let cells = cells(resource, subresource, columns, object, now);
    let mut row = Map::new();
    row.insert("cells".into(), Value::Array(cells));
    if let Some(conditions) = conditions(resource, object) {
        row.insert("conditions".into(), conditions);
    }
    match include {
        "None" => row.insert("object".into(), Value::Null),
        "Object" => row.insert("object".into(), object.clone()),
        _ => row.insert("object".into(), partial::object(object)),
    };
    Value::Object(row)
}

/// Finished pods carry a condition, by which clients may leave them out.
fn conditions(resource: &Resource, object: &Value) -> Option<Value> {
    if resource.kind != "Pod" || !resource.group.is_empty() {
        return None;
    }
    let reason = match object.pointer("/status/phase")?.as_str()? {
        phase @ ("Succeeded" | "Failed") => phase,
        _ => return None,
    };
    let message = match reason {
        "Succeeded" => "The pod has completed successfully.",
        _ => "The pod failed.",
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

fn cells(
    resource: &Resource,
    subresource: Option<&str>,
    columns: &[Column],
    object: &Value,
    now: Timestamp,
) -> Vec<Value> {
    if columns.iter().any(|c| c.json_path.is_some()) || resource.object_type.is_none() {
        return custom(columns, object, now);
    }
    let group = if subresource == Some("scale") { "autoscaling" } else { resource.group.as_str() };
    let kind = if subresource == Some("scale") { "Scale" } else { resource.kind.as_str() };
    let mut cells = match printer(group, kind) {
        Some(print) => print(&Cells::new(object, now)),
        None => vec![meta::name(object).into(), meta::creation_timestamp(object).into()],
    };
    cells.resize(columns.len(), Value::String(String::new()));
    cells
}

/// Cells of custom resources, by JSON path.
fn custom(columns: &[Column], object: &Value, now: Timestamp) -> Vec<Value> {
    let cell = |c: &Column| match (&c.json_path, c.format.as_str(), c.name.as_str()) {
        (None, "name", _) | (None, _, "Name") => meta::name(object).into(),
        (None, _, "Created At") => meta::creation_timestamp(object).into(),
        (None, ..) => time::age(Some(meta::creation_timestamp(object)), now).into(),
        (Some(path), ..) => JsonPath::parse(path).map_or(Value::Null, |p| p.cell(object, &c.type_, now)),
    };
    columns.iter().map(cell).collect()
}

type Printer = fn(&Cells<'_>) -> Vec<Value>;

/// The cells of each kind, in the order of its columns.
fn printer(group: &str, kind: &str) -> Option<Printer> {
    let short = group.split('.').next().unwrap_or_default();
    Some(match (short, kind) {
        ("", "Pod") => pods::pod,
        ("", "Node") => nodes::node,
        ("" | "events", "Event") => events::event,
        ("", _) => return core::printer(kind),
        ("apps" | "batch" | "autoscaling" | "policy", _) => return apps::printer(kind),
        ("networking" | "discovery", _) => return network::printer(kind),
        ("storage" | "storagemigration", _) => return storage::printer(kind),
        ("resource" | "scheduling" | "node", _) => return resources::printer(kind),
        ("admissionregistration", _) => return admission::printer(kind),
        _ => return cluster::printer(group, kind),
    })
}

#[cfg(test)]
mod tests;
