//! OpenAPI v2 and v3, made from the type table and the table of kinds. Documents are built when first asked for and kept encoded.

mod paths;
mod schema;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use ahash::AHashMap;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use machinery::kinds::Resource;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::app::App;
use crate::discovery::{tagged, tagged_bytes};
use crate::http::{self as web, Request, Response};
use schema::Dialect;

/// Encoded documents by path, for as long as the set of kinds stays the same.
#[derive(Default)]
struct Kept {
    kinds: usize,
    documents: AHashMap<String, Bytes>,
}

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// Answers `/openapi/v2` and `/openapi/v3/...`; None when the path is none of these.
pub fn handle(app: &Arc<App>, request: &Request) -> Option<Response> {
    let kinds = app.kinds.all();
    match request.uri().path().trim_end_matches('/') {
        "/openapi/v2" => {
            let body = kept(&kinds, "v2", || v2(&kinds));
            Some(tagged_bytes(request.headers(), "application/json", body))
        }
        "/openapi/v3" => Some(tagged(request.headers(), "application/json", &v3_index(&kinds))),
        path => v3(&kinds, path.strip_prefix("/openapi/v3/")?, request),
    }
}

fn kept(kinds: &[Arc<Resource>], name: &str, make: impl FnOnce() -> Value) -> Bytes {
    let mut kept = KEPT.lock();
    if kept.kinds != kinds.len() {
        *kept = Kept { kinds: kinds.len(), documents: AHashMap::default() };
    }
    if let Some(body) = kept.documents.get(name) {
        return body.clone();
    }
    let body = Bytes::from(serde_json::to_vec(&make()).unwrap_or_default());
    kept.documents.insert(name.into(), body.clone());
    body
}

/// Paths of all group versions, in order.
fn group_versions(kinds: &[Arc<Resource>]) -> BTreeMap<String, (String, String)> {
    let entry = |r: &Arc<Resource>| (r.base_path().trim_start_matches('/').to_string(), (r.group.clone(), r.version.clone()));
    kinds.iter().map(entry).collect()
}

fn document(kinds: &[Arc<Resource>], path: &str) -> Option<Bytes> {
    let (group, version) = group_versions(kinds).remove(path)?;
    Some(kept(kinds, path, || v3_document(kinds, &group, &version)))
}

fn hash(body: &[u8]) -> String {
    hex::encode_upper(Sha512::digest(body))
}

fn v3_index(kinds: &[Arc<Resource>]) -> Value {
    let link = |path: String| {
        let hash = document(kinds, &path).map(|body| hash(&body)).unwrap_or_default();
        let url = format!("/openapi/v3/{path}?hash={hash}");
        (path, json!({"serverRelativeURL": url}))
    };
    let paths: serde_json::Map<String, Value> = group_versions(kinds).into_keys().map(link).collect();
    json!({ "paths": paths })
}

fn v3(kinds: &[Arc<Resource>], path: &str, request: &Request) -> Option<Response> {
    let body = document(kinds, path)?;
    let asked = request.uri().query().unwrap_or_default().split('&').find_map(|p| p.strip_prefix("hash="));
    let current = hash(&body);
    if asked.is_some_and(|h| !h.is_empty() && h != current) {
        let mut response = web::text(StatusCode::MOVED_PERMANENTLY, "");
        let place = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={current}")).ok()?;
        response.headers_mut().insert(header::LOCATION, place);
        return Some(response);
    }
    let mut response = tagged_bytes(request.headers(), "application/json", body);
    if asked.is_some() {
        let forever = HeaderValue::from_static("public, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, forever);
    }
    Some(response)
}

fn v3_document(kinds: &[Arc<Resource>], group: &str, version: &str) -> Value {
    let resources: Vec<&Resource> = kinds.iter().filter(|r| r.group == group && r.version == version).map(|r| r.as_ref()).collect();
    let schemas = schema::definitions(&resources, Dialect::V3);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": crate::server::version::GIT_VERSION},
        "paths": paths::paths(&resources, Dialect::V3),
        "components": {"schemas": schemas},
    })
}

fn v2(kinds: &[Arc<Resource>]) -> Value {
    let resources: Vec<&Resource> = kinds.iter().map(|r| r.as_ref()).collect();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": crate::server::version::GIT_VERSION},
        "paths": paths::paths(&resources, Dialect::V2),
        "definitions": schema::definitions(&resources, Dialect::V2),
    })
}
