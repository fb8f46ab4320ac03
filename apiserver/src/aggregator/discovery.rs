//! What other servers say they serve: asked for in the aggregated form, or of old servers in the plain one.

use std::time::Instant;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::spec::Spec;
use super::{Aggregator, Remote};

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// A group version that another server serves, as discovery shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Elsewhere {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// The group's place among groups: the highest first.
    pub group_priority: i64,
    /// The version's place in its group: the highest first.
    pub version_priority: i64,
    /// Its entry in the aggregated document.
    pub entry: Value,
}

/// What is known of one group version.
#[derive(Default)]
pub struct Known {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    resources: Option<Vec<Resource>>,
    current: bool,
    etag: Option<HeaderValue>,
    asked: Option<Instant>,
}

/// A resource of the aggregated document: only what is defined, since it goes out as protobuf too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    resource: String,
    response_kind: Option<Kind>,
    scope: String,
    singular_resource: String,
    verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    short_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subresources: Vec<Subresource>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Kind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subresource {
    subresource: String,
    response_kind: Option<Kind>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepted_types: Vec<Kind>,
    verbs: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    items: Vec<DocumentGroup>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DocumentGroup {
    metadata: DocumentName,
    versions: Vec<DocumentVersion>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DocumentName {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DocumentVersion {
    version: String,
    resources: Vec<Resource>,
}

/// A resource of the plain document.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Plain {
    name: String,
    singular_name: String,
    namespaced: bool,
    group: String,
    version: String,
    kind: String,
    verbs: Vec<String>,
    short_names: Vec<String>,
    categories: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PlainList {
    resources: Vec<Plain>,
}

impl Known {
    /// The entry of the aggregated document.
    pub fn entry(&self, version: &str) -> Value {
        let state = self.state.lock();
        let freshness = if state.current { "Current" } else { "Stale" };
        match &state.resources {
            Some(resources) => json!({"version": version, "resources": resources, "freshness": freshness}),
            None => json!({"version": version, "freshness": freshness}),
        }
    }

    /// When the server was last asked with success; `None` when what is known may be old.
    pub fn asked(&self) -> Option<Instant> {
        self.state.lock().asked
    }

    /// The server is away: what is known may be old. Tells whether that is news.
    pub fn stale(&self) -> bool {
        let mut state = self.state.lock();
        state.asked = None;
        std::mem::take(&mut state.current)
    }

    fn unchanged(&self) -> bool {
        let mut state = self.state.lock();
        state.asked = Some(Instant::now());
        !std::mem::replace(&mut state.current, true)
    }

    fn learn(&self, resources: Vec<Resource>, etag: Option<HeaderValue>) -> bool {
        let mut state = self.state.lock();
        let news = !state.current || state.resources.as_ref() != Some(&resources);
        *state = State { resources: Some(resources), current: true, etag, asked: Some(Instant::now()) };
        news
    }
}

impl Aggregator {
    /// All group versions that other servers serve, as discovery shows them.
    pub fn elsewhere(&self) -> Vec<Elsewhere> {
        self.all().iter().map(|remote| elsewhere(remote)).collect()
    }

    /// Asks a server what it serves. Tells whether that is news.
    pub(super) async fn learn(&self, remote: &Remote) -> Result<bool, String> {
        let spec = &remote.spec;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
        if let Some(etag) = remote.known.state.lock().etag.clone() {
            headers.insert(header::IF_NONE_MATCH, etag);
        }
        let (code, headers, body) = self.ask(remote, "/apis", headers).await?;
        match code {
            StatusCode::NOT_MODIFIED => Ok(remote.known.unchanged()),
            StatusCode::OK if is_aggregated(&headers) => {
                let etag = headers.get(header::ETAG).cloned();
                Ok(remote.known.learn(of_document(&body, spec)?, etag))
            }
            StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::NOT_ACCEPTABLE => {
                self.learn_plainly(remote).await
            }
            code => Err(format!("/apis answered {}", code.as_u16())),
        }
    }

    async fn learn_plainly(&self, remote: &Remote) -> Result<bool, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let path = remote.spec.path();
        match self.ask(remote, &path, headers).await? {
            (StatusCode::OK, _, body) => Ok(remote.known.learn(of_list(&body, &remote.spec)?, None)),
            (code, ..) => Err(format!("{path} answered {}", code.as_u16())),
        }
    }
}

fn elsewhere(remote: &Remote) -> Elsewhere {
    let spec = &remote.spec;
    Elsewhere {
        group: spec.group.clone(),
        version: spec.version.clone(),
        group_priority: spec.group_priority,
        version_priority: spec.version_priority,
        entry: remote.known.entry(&spec.version),
    }
}

fn is_aggregated(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    kind.contains("as=APIGroupDiscoveryList")
}

/// The group version's part of an aggregated document; nothing when it is not there.
fn of_document(body: &[u8], spec: &Spec) -> Result<Vec<Resource>, String> {
    let document: Document = serde_json::from_slice(body).map_err(|e| format!("/apis: {e}"))?;
    let groups = document.items.into_iter().filter(|g| g.metadata.name == spec.group);
    let mut versions = groups.flat_map(|g| g.versions).filter(|v| v.version == spec.version);
    Ok(versions.next().map(|v| v.resources).unwrap_or_default())
}

/// The same of a plain list of resources, whose subresources stand beside them.
fn of_list(body: &[u8], spec: &Spec) -> Result<Vec<Resource>, String> {
    let list: PlainList = serde_json::from_slice(body).map_err(|e| format!("{}: {e}", spec.path()))?;
    let (subs, mains): (Vec<Plain>, Vec<Plain>) =
        list.resources.into_iter().partition(|r| r.name.contains('/'));
    let mut out: Vec<Resource> = mains.into_iter().map(|r| of_plain(r, spec)).collect();
    for plain in subs {
        let (parent, name) = plain.name.split_once('/').unwrap_or_default();
        let sub = Subresource {
            subresource: name.to_owned(),
            response_kind: Some(kind_of(&plain, spec)),
            accepted_types: Vec::new(),
            verbs: plain.verbs.clone(),
        };
        match out.iter_mut().find(|r| r.resource == parent) {
            Some(found) => found.subresources.push(sub),
            None => out.push(Resource {
                resource: parent.to_owned(),
                scope: scope_of(&plain),
                response_kind: Some(Kind::default()),
                subresources: vec![sub],
                ..Resource::default()
            }),
        }
    }
    Ok(out)
}

fn scope_of(plain: &Plain) -> String {
    if plain.namespaced { "Namespaced" } else { "Cluster" }.to_owned()
}

fn kind_of(plain: &Plain, spec: &Spec) -> Kind {
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    Kind {
        group: or(&plain.group, &spec.group),
        version: or(&plain.version, &spec.version),
        kind: plain.kind.clone(),
    }
}

fn of_plain(plain: Plain, spec: &Spec) -> Resource {
    Resource {
        response_kind: Some(kind_of(&plain, spec)),
        scope: scope_of(&plain),
        resource: plain.name,
        singular_resource: plain.singular_name,
        verbs: plain.verbs,
        short_names: plain.short_names,
        categories: plain.categories,
        subresources: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec { group: "g".into(), version: "v1".into(), ..Spec::default() }
    }

    const AGGREGATED: &str = r#"{"items": [{"metadata": {"name": "h"}, "versions": [{"version": "v1", "resources": [{"resource": "x"}]}]},
        {"metadata": {"name": "g"}, "versions": [{"version": "v2"}, {"version": "v1", "future": 1, "resources": [
            {"resource": "things", "singularResource": "thing", "scope": "Namespaced", "verbs": ["get"], "future": {},
             "responseKind": {"group": "g", "version": "v1", "kind": "Thing"},
             "subresources": [{"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["get"]}]}]}]}]}"#;
    const PLAIN: &str = r#"{"kind": "APIResourceList", "resources": [
        {"name": "things/scale", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
        {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"]}]}"#;

    #[test]
    fn both_forms_say_the_same() {
        let new = of_document(AGGREGATED.as_bytes(), &spec()).expect("document");
        let old = of_list(PLAIN.as_bytes(), &spec()).expect("list");
        assert_eq!(new, old);
        assert_eq!((new.len(), new[0].subresources.len()), (1, 1));
        assert_eq!(of_document(br#"{"items": []}"#, &spec()), Ok(vec![]));
        assert!(of_document(b"[", &spec()).is_err() && of_list(br#"{"resources": 1}"#, &spec()).is_err());
    }

    #[test]
    fn subresources_without_a_resource() {
        let body = br#"{"resources": [{"name": "a/b", "kind": "B", "verbs": ["create"]}]}"#;
        let out = of_list(body, &spec()).expect("list");
        assert_eq!(
            (out[0].resource.as_str(), out[0].scope.as_str(), out[0].subresources.len()),
            ("a", "Cluster", 1)
        );
    }

    #[test]
    fn freshness() {
        let known = Known::default();
        assert_eq!(known.entry("v1"), json!({"version": "v1", "freshness": "Stale"}));
        assert!(known.learn(of_list(PLAIN.as_bytes(), &spec()).expect("list"), None));
        assert!(!known.learn(of_list(PLAIN.as_bytes(), &spec()).expect("list"), None), "no news");
        assert_eq!(known.entry("v1")["freshness"], "Current");
        assert!(known.asked().is_some() && known.stale() && !known.stale() && known.asked().is_none());
        assert_eq!(known.entry("v1")["freshness"], "Stale");
        assert_eq!(known.entry("v1")["resources"][0]["resource"], "things");
        assert!(known.unchanged());
    }
}
