//! Operations: which verb on which path takes and gives what.

use machinery::kinds::Resource;
use machinery::schema::{self, Type};
use serde_json::{Map, Value, json};

use super::schema::{Dialect, reference};

/// Media types of patches that every built-in kind takes.
const PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];
const JSON: &str = "application/json";

/// The paths of the resources and their subresources.
pub fn paths(resources: &[&Resource], dialect: Dialect) -> Map<String, Value> {
    let mut all = Map::new();
    for resource in resources {
        add_resource(&mut all, resource, dialect);
    }
    all
}

/// One place in the API that operations hang on.
struct Place<'a> {
    resource: &'a Resource,
    gvk: Value,
    object: Option<&'static Type>,
    dialect: Dialect,
}

fn add_resource(all: &mut Map<String, Value>, resource: &Resource, dialect: Dialect) {
    let base = resource.base_path();
    let gvk = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let place = Place { resource, gvk, object: resource.object_type, dialect };
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{base}{scope}/{}", resource.plural);
    let one = format!("{collection}/{{name}}");
    place.add(
        all,
        &collection,
        &resource.verbs,
        &[("list", "get"), ("create", "post"), ("deletecollection", "delete")],
    );
    place.add(
        all,
        &one,
        &resource.verbs,
        &[("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")],
    );
    if resource.namespaced {
        place.add(all, &format!("{base}/{}", resource.plural), &resource.verbs, &[("list", "get")]);
    }
    for sub in &resource.subresources {
        let gvk = json!({"group": sub.gvk.group, "version": sub.gvk.version, "kind": sub.gvk.kind});
        let place = Place { resource, gvk, object: sub.object_type, dialect };
        let verbs =
            [("get", "get"), ("create", "post"), ("update", "put"), ("patch", "patch"), ("delete", "delete")];
        place.add(all, &format!("{one}/{}", sub.name), &sub.verbs, &verbs);
    }
}

impl Place<'_> {
    fn add(&self, all: &mut Map<String, Value>, path: &str, served: &[String], verbs: &[(&str, &str)]) {
        let mut item = Map::new();
        for (verb, method) in verbs.iter().filter(|(v, _)| served.iter().any(|s| s == v)) {
            item.insert(method.to_string(), self.operation(verb, path));
        }
        if item.is_empty() {
            return;
        }
        let names = ["namespace", "name"].into_iter().filter(|n| path.contains(&format!("{{{n}}}")));
        let parameters: Vec<Value> = names.map(|n| self.parameter(n, "path", "string")).collect();
        item.insert("parameters".into(), parameters.into());
        all.insert(path.into(), item.into());
    }

    fn operation(&self, verb: &str, path: &str) -> Value {
        let given = match verb {
            "list" => self.object.and_then(schema::list_type_of),
            "delete" | "deletecollection" => {
                schema::type_named("io.k8s.apimachinery.pkg.apis.meta.v1.Status")
            }
            _ => self.object,
        };
        let action = match verb {
            "create" => "post",
            "update" => "put",
            other => other,
        };
        let mut operation = json!({
            "operationId": operation_id(verb, path, &self.resource.version),
            "tags": [tag(self.resource)],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.gvk,
            "responses": {"200": self.response(given), "401": {"description": "Unauthorized"}},
        });
        let parameters: Vec<Value> =
            query(verb).iter().map(|(name, kind)| self.parameter(name, "query", kind)).collect();
        operation["parameters"] = parameters.into();
        self.add_body(verb, &mut operation);
        operation
    }

    fn add_body(&self, verb: &str, operation: &mut Value) {
        let patch = schema::type_named("io.k8s.apimachinery.pkg.apis.meta.v1.Patch");
        let (ty, media): (_, &[&str]) = match verb {
            "create" | "update" => (self.object, &[JSON]),
            "patch" => (patch, &PATCHES),
            _ => return,
        };
        let schema = ty
            .filter(|_| verb != "patch")
            .map_or_else(|| json!({"type": "object"}), |t| reference(t, self.dialect));
        if self.dialect == Dialect::V3 {
            let content: Map<String, Value> =
                media.iter().map(|m| (m.to_string(), json!({"schema": schema}))).collect();
            operation["requestBody"] = json!({"content": content, "required": true});
            return;
        }
        operation["consumes"] = json!(media);
        if let Some(parameters) = operation["parameters"].as_array_mut() {
            parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": schema}));
        }
    }

    fn response(&self, ty: Option<&'static Type>) -> Value {
        let Some(ty) = ty else { return json!({"description": "OK"}) };
        let schema = reference(ty, self.dialect);
        match self.dialect {
            Dialect::V2 => json!({"description": "OK", "schema": schema}),
            Dialect::V3 => json!({"description": "OK", "content": {JSON: {"schema": schema}}}),
        }
    }

    fn parameter(&self, name: &str, place: &str, kind: &str) -> Value {
        let mut parameter = match self.dialect {
            Dialect::V2 => json!({"name": name, "in": place, "type": kind, "uniqueItems": true}),
            Dialect::V3 => json!({"name": name, "in": place, "schema": {"type": kind, "uniqueItems": true}}),
        };
        if place == "path" {
            parameter["required"] = true.into();
        }
        parameter
    }
}

fn query(verb: &str) -> &'static [(&'static str, &'static str)] {
    match verb {
        "create" | "update" => {
            &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")]
        }
        "patch" => &[
            ("dryRun", "string"),
            ("fieldManager", "string"),
            ("fieldValidation", "string"),
            ("force", "boolean"),
        ],
        "delete" => &[
            ("dryRun", "string"),
            ("gracePeriodSeconds", "integer"),
            ("orphanDependents", "boolean"),
            ("propagationPolicy", "string"),
        ],
        "list" | "deletecollection" => &[
            ("allowWatchBookmarks", "boolean"),
            ("continue", "string"),
            ("fieldSelector", "string"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("resourceVersion", "string"),
            ("resourceVersionMatch", "string"),
            ("sendInitialEvents", "boolean"),
            ("timeoutSeconds", "integer"),
            ("watch", "boolean"),
        ],
        _ => &[("pretty", "string")],
    }
}

fn tag(resource: &Resource) -> String {
    let group = if resource.group.is_empty() { "core" } else { resource.group.trim_end_matches(".k8s.io") };
    format!("{group}_{}", resource.version)
}

/// Unique within the document: the verb and the words of the path.
fn operation_id(verb: &str, path: &str, version: &str) -> String {
    let mut id = format!("{verb}{}", capital(version));
    for word in path.split('/').filter(|w| !w.is_empty() && *w != "api" && *w != "apis" && *w != version) {
        id.extend(word.split(|c: char| !c.is_ascii_alphanumeric()).map(capital));
    }
    id
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |c| c.to_ascii_uppercase().to_string() + chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_looks_for() {
        let apps: Vec<_> = machinery::kinds::builtin().iter().filter(|r| r.group == "apps").collect();
        let apps: Vec<&Resource> = apps.iter().map(|r| r.as_ref()).collect();
        let all = paths(&apps, Dialect::V3);
        let one = &all["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
        assert_eq!(one["patch"]["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        assert!(one["patch"]["requestBody"]["content"].get(PATCHES[2]).is_some());
        let names: Vec<&str> = one["patch"]["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|p| p["name"].as_str())
            .collect();
        assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"));
    }

    #[test]
    fn operation_ids_are_unique() {
        let all: Vec<&Resource> = machinery::kinds::builtin().iter().map(|r| r.as_ref()).collect();
        let mut seen = std::collections::HashSet::new();
        for (path, item) in paths(&all, Dialect::V2) {
            for operation in item.as_object().unwrap().values() {
                if let Some(id) = operation.get("operationId") {
                    assert!(seen.insert(id.to_string()), "{id} {path}");
                }
            }
        }
    }
}
