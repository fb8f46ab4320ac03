//! What other servers say of their types: where the OpenAPI v3 document of a group version is, and its part of v2.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::{Aggregator, Remote};

const DEFINITIONS: &str = "#/definitions/";

/// What is known of one group version.
#[derive(Default)]
pub struct Documents {
    state: Mutex<State>,
}

#[derive(Default, Clone, PartialEq)]
struct State {
    v3: Option<String>,
    v2: Option<Arc<Value>>,
    v2_tag: Option<HeaderValue>,
}

fn wanted(tag: Option<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(tag) = tag {
        headers.insert(header::IF_NONE_MATCH, tag);
    }
    headers
}

impl Aggregator {
    /// Paths of v3 documents that other servers have, `apis/GROUP/VERSION`, with where each is.
    pub fn openapi_v3(&self) -> Vec<(String, String)> {
        let of = |r: &Arc<Remote>| {
            let url = r.documents.state.lock().v3.clone()?;
            Some((r.spec.path().trim_start_matches('/').to_owned(), url))
        };
        self.all().iter().filter_map(of).collect()
    }

    /// What other servers add to the v2 document.
    pub fn openapi_v2(&self) -> Vec<Arc<Value>> {
        self.all().iter().filter_map(|r| r.documents.state.lock().v2.clone()).collect()
    }

    /// Asks a server for its documents. One that has none, or answers nonsense, adds nothing. Tells whether that is news.
    pub(super) async fn learn_openapi(&self, remote: &Remote) -> bool {
        let before = remote.documents.state.lock().clone();
        let after = State { v3: self.learn_v3(remote).await, ..self.learn_v2(remote, &before).await };
        let news = (&before.v3, &before.v2) != (&after.v3, &after.v2);
        *remote.documents.state.lock() = after;
        news
    }

    async fn learn_v3(&self, remote: &Remote) -> Option<String> {
        let (code, _, body) = self.ask(remote, "/openapi/v3", wanted(None)).await.ok()?;
        let index: Value = serde_json::from_slice(&body).ok().filter(|_| code == StatusCode::OK)?;
        let path = remote.spec.path();
        let url =
            index.get("paths")?.get(path.trim_start_matches('/'))?.get("serverRelativeURL")?.as_str()?;
        // The document is asked for at our address, so it has to be a path there that leads back.
        url.starts_with(&format!("/openapi/v3{path}")).then(|| url.to_owned())
    }

    async fn learn_v2(&self, remote: &Remote, before: &State) -> State {
        let none = State::default();
        match self.ask(remote, "/openapi/v2", wanted(before.v2_tag.clone())).await {
            Ok((StatusCode::NOT_MODIFIED, ..)) => before.clone(),
            Ok((StatusCode::OK, headers, body)) => match serde_json::from_slice::<Value>(&body) {
                Ok(document) => State {
                    v2: of_group_version(&document, &remote.spec.path()).map(Arc::new),
                    v2_tag: headers.get(header::ETAG).cloned(),
                    v3: None,
                },
                Err(_) => none,
            },
            _ => none,
        }
    }
}

/// The paths of a group version with the definitions they lead to; `None` when there are none.
fn of_group_version(document: &Value, path: &str) -> Option<Value> {
    let below = format!("{path}/");
    let paths: Map<String, Value> = document
        .get("paths")?
        .as_object()?
        .iter()
        .filter(|(p, _)| p.starts_with(&below) || *p == path)
        .map(|(p, item)| (p.clone(), item.clone()))
        .collect();
    if paths.is_empty() {
        return None;
    }
    let paths = Value::Object(paths);
    let all = document.get("definitions").and_then(Value::as_object);
    let names = reached(&paths, all);
    let definitions: Map<String, Value> =
        names.iter().filter_map(|n| Some((n.clone(), all?.get(n)?.clone()))).collect();
    Some(json!({"paths": paths, "definitions": definitions}))
}

/// Names of all definitions that a value leads to, directly and through others.
fn reached(from: &Value, all: Option<&Map<String, Value>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = references(from);
    while let Some(name) = next.pop() {
        if let Some(definition) = all.and_then(|all| all.get(&name))
            && found.insert(name)
        {
            next.extend(references(definition));
        }
    }
    found
}

fn references(value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(map) => {
                let name = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(DEFINITIONS));
                out.extend(name.map(str::to_owned));
                rest.extend(map.values());
            }
            Value::Array(list) => rest.extend(list),
            _ => {}
        }
    }
    out
}

/// Adds another server's part to our v2 document. A definition of a name that is taken by a different one gets another.
pub fn merge_v2(ours: &mut Value, part: &Value) {
    let Some(mut new) = part.get("definitions").and_then(Value::as_object).cloned() else { return };
    let mut paths = part.get("paths").cloned().unwrap_or_default();
    let taken = ours.get("definitions").and_then(Value::as_object).cloned().unwrap_or_default();
    let clashes: Vec<String> = new
        .iter()
        .filter(|(name, d)| taken.get(*name).is_some_and(|t| t != *d))
        .map(|(n, _)| n.clone())
        .collect();
    let renamed: Map<String, Value> =
        clashes.iter().map(|name| (name.clone(), free_name(name, &taken, &new).into())).collect();
    for name in &clashes {
        if let (Some(definition), Some(to)) = (new.remove(name), renamed.get(name).and_then(Value::as_str)) {
            new.insert(to.to_owned(), definition);
        }
    }
    new.values_mut().for_each(|definition| rename(definition, &renamed));
    rename(&mut paths, &renamed);
    extend(ours, "definitions", new);
    extend(ours, "paths", paths.as_object().cloned().unwrap_or_default());
}

fn extend(document: &mut Value, key: &str, more: Map<String, Value>) {
    if let Some(map) = document.get_mut(key).and_then(Value::as_object_mut) {
        for (name, value) in more {
            map.entry(name).or_insert(value);
        }
    }
}

fn free_name(name: &str, taken: &Map<String, Value>, new: &Map<String, Value>) -> String {
    let mut n = 2;
    loop {
        let other = format!("{name}_v{n}");
        if !taken.contains_key(&other) && !new.contains_key(&other) {
            return other;
        }
        n += 1;
    }
}

fn rename(value: &mut Value, names: &Map<String, Value>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(to) = reference.strip_prefix(DEFINITIONS).and_then(|n| names.get(n)?.as_str())
            {
                *reference = format!("{DEFINITIONS}{to}");
            }
            map.values_mut().for_each(|v| rename(v, names));
        }
        Value::Array(list) => list.iter_mut().for_each(|v| rename(v, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theirs() -> Value {
        json!({"paths": {"/apis/g/v1/things": {"get": {"schema": {"$ref": "#/definitions/Thing"}}}, "/apis/g/v1beta1/x": {}, "/version/": {}},
            "definitions": {"Thing": {"items": [{"$ref": "#/definitions/Meta"}, {"$ref": "#/definitions/Thing"}]},
                "Meta": {"description": "theirs"}, "Unused": {}}})
    }

    #[test]
    fn only_its_own_part_is_taken() {
        let part = of_group_version(&theirs(), "/apis/g/v1").expect("part");
        let keys = |key: &str| {
            part[key].as_object().map(|m| m.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
        };
        assert_eq!(keys("paths"), ["/apis/g/v1/things"]);
        assert_eq!(keys("definitions"), ["Meta", "Thing"]);
        assert_eq!(of_group_version(&theirs(), "/apis/h/v1"), None);
        assert_eq!(of_group_version(&json!({"paths": 1}), "/apis/g/v1"), None);
    }

    #[test]
    fn clashing_definitions_get_another_name() {
        let part = of_group_version(&theirs(), "/apis/g/v1").expect("part");
        let mut ours =
            json!({"paths": {"/api": {}}, "definitions": {"Meta": {"description": "ours"}, "Meta_v2": {}}});
        merge_v2(&mut ours, &part);
        assert_eq!(ours["definitions"]["Meta"]["description"], "ours");
        assert_eq!(ours["definitions"]["Meta_v3"]["description"], "theirs");
        assert_eq!(ours["definitions"]["Thing"]["items"][0]["$ref"], "#/definitions/Meta_v3");
        assert_eq!(ours["definitions"]["Thing"]["items"][1]["$ref"], "#/definitions/Thing");
        assert!(ours["paths"]["/apis/g/v1/things"].is_object() && ours["paths"]["/api"].is_object());
        let mut same = json!({"paths": {}, "definitions": {"Meta": {"description": "theirs"}}});
        merge_v2(&mut same, &part);
        assert_eq!(same["definitions"].as_object().map(Map::len), Some(2));
    }
}
