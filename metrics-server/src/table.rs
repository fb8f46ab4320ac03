//! Tables, for `kubectl get nodes.metrics.k8s.io` and `kubectl get pods.metrics.k8s.io`.

use machinery::time::format_go_duration;
use serde_json::{Value, json};

use crate::objects::{Answer, Object};

/// The answer as a Table. `include` is the query's `includeObject`; `version` that of meta.k8s.io.
pub fn render(answer: &Answer, kind: &str, version: &str, include: &str) -> Value {
    let objects = answer.objects();
    let rows: Vec<Value> = objects.iter().map(|object| row(object, kind, include)).collect();
    let mut table = json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": {}});
    // Upstream knows its columns by its objects: of none there are none
    table["columnDefinitions"] = if rows.is_empty() { Value::Null } else { columns() };
    table["rows"] = rows.into();
    table
}

fn columns() -> Value {
    let column = |name: &str, format: &str, text: &str| json!({"name": name, "type": "string", "format": format, "description": text, "priority": 0});
    json!([
        column("Name", "name", "Name of the resource"),
        column("cpu", "quantity", ""),
        column("memory", "quantity", ""),
        column("Window", "duration", ""),
    ])
}

fn row(object: &Object, kind: &str, include: &str) -> Value {
    let [(_, cpu), (_, memory)] = object.total().texts();
    let cells = json!([object.metadata.name, cpu, memory, format_go_duration(object.window.0)]);
    let shown = match include {
        "None" => Value::Null,
        "Object" => typed(object, kind),
        _ => partial(object),
    };
    json!({"cells": cells, "object": shown})
}

fn typed(object: &Object, kind: &str) -> Value {
    let text = Answer::One(object.clone()).json(kind).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// The metadata of one.
pub fn partial(object: &Object) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.metadata})
}

/// The metadata of an answer.
pub fn partial_answer(answer: &Answer) -> Value {
    match answer {
        Answer::One(object) => partial(object),
        Answer::List(all) => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {},
            "items": all.iter().map(partial).collect::<Vec<_>>(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::{node, pod};

    #[test]
    fn a_pods_row_is_the_sum_of_its_containers() {
        let table = render(&Answer::List(vec![pod()]), "PodMetrics", "v1", "");
        assert_eq!(table["rows"][0]["cells"], json!(["p", "255301234n", "17826792", "15.033s"]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(table["columnDefinitions"][1]["name"], "cpu");
        let table = render(&Answer::One(node()), "NodeMetrics", "v1", "Object");
        assert_eq!(table["rows"][0]["object"]["kind"], "NodeMetrics");
        assert_eq!(render(&Answer::List(vec![]), "PodMetrics", "v1", "")["rows"], json!([]));
    }
}
