//! OpenAPI v2 and v3, made from the type table and the table of kinds. Documents are built when first asked for and
//! kept compressed.

mod describe;
mod gnostic;
mod paths;
mod schema;
mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::{Map, Value, json};

use crate::aggregator::Aggregator;
use crate::aggregator::openapi::merge_v2;
use crate::app::App;
use crate::discovery::negotiate;
use crate::http::{self as web, Request, Response};
use crate::server::version::GIT_VERSION;
use schema::Dialect;
use store::Packed;

/// Media type of v2 as protobuf, the name with which it is answered.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The same with its old name, which kubectl still sends.
const V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// v3 as protobuf, which is not served: clients that take nothing else get 406.
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const JSON: &str = "application/json";

type Resources = [Arc<Resource>];

/// Answers `/openapi/v2` and `/openapi/v3/...`; None when the path is none of these.
pub fn handle(app: &Arc<App>, request: &Request) -> Option<Response> {
    let rest = request.uri().path().trim_end_matches('/').strip_prefix("/openapi/")?;
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Some(web::status(&Status::method_not_allowed()));
    }
    let resources = app.kinds.all();
    match rest {
        "v2" => Some(serve_v2(&resources, &app.aggregator, request)),
        "v3" => Some(serve_index(&resources, &app.aggregator, request)),
        _ => serve_v3(&resources, request, rest.strip_prefix("v3/")?),
    }
}

/// Tells one state of what is served, here and elsewhere, from another within this process.
fn fingerprint(resources: &Resources, aggregator: &Aggregator) -> u64 {
    let (ours, others) = (negotiate::fingerprint(resources), aggregator.fingerprint());
    ours.wrapping_add(others.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn serve_v2(resources: &Resources, aggregator: &Aggregator, request: &Request) -> Response {
    let types = negotiate::media_types(request.headers());
    let wanted = types.iter().find_map(|t| match t.as_str() {
        V2_PROTOBUF | V2_PROTOBUF_OLD => Some(true),
        JSON | "application/*" | "*/*" => Some(false),
        _ => None,
    });
    let protobuf = match wanted {
        Some(protobuf) => protobuf,
        None if types.is_empty() => false,
        None => return web::status(&Status::not_acceptable(&[JSON, V2_PROTOBUF])),
    };
    let key = fingerprint(resources, aggregator);
    let document = || merged_v2(resources, aggregator);
    match protobuf {
        true => {
            let packed = store::get(key, "v2.pb", || Packed::of(&gnostic::document(&document())));
            reply(request, &packed, V2_PROTOBUF, false)
        }
        false => reply(request, &store::get(key, "v2", || Packed::of_json(&document())), JSON, false),
    }
}

fn merged_v2(resources: &Resources, aggregator: &Aggregator) -> Value {
    let mut document = v2(resources);
    for part in aggregator.openapi_v2() {
        merge_v2(&mut document, &part);
    }
    document
}

fn serve_index(resources: &Resources, aggregator: &Aggregator, request: &Request) -> Response {
    let index = || {
        let mut index = v3_index(resources);
        for (path, url) in aggregator.openapi_v3() {
            index["paths"][path] = json!({"serverRelativeURL": url});
        }
        index
    };
    let packed = store::get(fingerprint(resources, aggregator), "v3", || Packed::of_json(&index()));
    reply(request, &packed, JSON, false)
}

/// The group version of a v3 document, if the path is of one: `/openapi/v3/apis/GROUP/VERSION`.
pub fn group_version_path(path: &str) -> Option<&str> {
    path.strip_prefix("/openapi/v3").filter(|rest| rest.starts_with('/'))
}

fn serve_v3(resources: &Resources, request: &Request, path: &str) -> Option<Response> {
    let hash = document_hash(resources, path)?;
    let types = negotiate::media_types(request.headers());
    if !types.is_empty() && types.iter().all(|t| t == V3_PROTOBUF) {
        return Some(web::status(&Status::not_acceptable(&[JSON])));
    }
    let query = request.uri().query().unwrap_or_default();
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("hash=")).filter(|h| !h.is_empty());
    if asked.is_some_and(|asked| asked != hash) {
        return Some(redirect(path, &hash));
    }
    let key = negotiate::fingerprint(resources);
    let mut packed = store::get(key, path, || Packed::of_json(&v3_document(resources, path)));
    packed.etag = format!("{hash:?}");
    Some(reply(request, &packed, JSON, asked.is_some()))
}

fn redirect(path: &str, hash: &str) -> Response {
    let mut response = web::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(location) = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={hash}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A packed document, unpacked for clients that do not take gzip. `immutable` for requests that named the hash.
fn reply(request: &Request, packed: &Packed, content_type: &'static str, immutable: bool) -> Response {
    if negotiate::matches_etag(request.headers(), &packed.etag) {
        return with_validators(
            web::reply(StatusCode::NOT_MODIFIED, content_type, Bytes::new()),
            packed,
            immutable,
        );
    }
    let gzip = negotiate::takes_gzip(request.headers());
    let body = if gzip { packed.bytes.clone() } else { packed.unpack() };
    let mut response = web::reply(StatusCode::OK, content_type, body);
    if gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    with_validators(response, packed, immutable)
}

fn with_validators(mut response: Response, packed: &Packed, immutable: bool) -> Response {
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&packed.etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    let caching = if immutable { "public, immutable" } else { "no-cache, private" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}

/// The paths of all group versions, in order.
fn group_versions(resources: &Resources) -> BTreeMap<String, (&str, &str)> {
    let entry = |r: &'_ Arc<Resource>| r.base_path().trim_start_matches('/').to_string();
    resources.iter().map(|r| (entry(r), (r.group.as_str(), r.version.as_str()))).collect()
}

/// Changes whenever the document may: it is taken of what the document is made of, so that the index does not need
/// the documents. `None` for paths that are not served.
fn document_hash(resources: &Resources, path: &str) -> Option<String> {
    let made_of: Vec<String> = of_path(resources, path).map(|r| format!("{:?}", parts(r))).collect();
    (!made_of.is_empty()).then(|| {
        let built_in = &*BUILT_IN;
        negotiate::hash(format!("{GIT_VERSION} {built_in} {path} {}", made_of.join(" ")).as_bytes())
    })
}

/// Stands for the types and their descriptions: clients keep a document for good by its hash, so another build that
/// says other things of the same kinds must have another.
static BUILT_IN: LazyLock<String> = LazyLock::new(|| {
    let mut all = String::from(describe::ALL);
    for ty in machinery::schema::all_types() {
        all.push_str(ty.name);
        for (name, field) in ty.members() {
            all.push_str(name);
            all.push_str(&field.go_type());
            all.push(if field.required { '!' } else { '?' });
        }
    }
    negotiate::hash(all.as_bytes())
});

/// What the document says about a resource; the types are fixed for a version of the server.
fn parts(r: &Resource) -> impl std::fmt::Debug + '_ {
    let subresources: Vec<_> = r.subresources.iter().map(|s| (&s.name, &s.verbs)).collect();
    (&r.plural, &r.kind, r.namespaced, &r.verbs, subresources)
}

fn of_path<'a>(resources: &'a Resources, path: &'a str) -> impl Iterator<Item = &'a Resource> {
    resources.iter().map(Arc::as_ref).filter(move |r| r.base_path().trim_start_matches('/') == path)
}

/// The v3 index: where each group version's document is.
pub fn v3_index(resources: &Resources) -> Value {
    let link = |path: String| {
        let hash = document_hash(resources, &path).unwrap_or_default();
        let url = format!("/openapi/v3/{path}?hash={hash}");
        (path, json!({"serverRelativeURL": url}))
    };
    let paths: Map<String, Value> = group_versions(resources).into_keys().map(link).collect();
    json!({ "paths": paths })
}

/// The v3 document of a group version, by its path such as `apis/apps/v1`.
pub fn v3_document(resources: &Resources, path: &str) -> Value {
    let resources: Vec<&Resource> = of_path(resources, path).collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "paths": paths::paths(&resources, Dialect::V3),
        "components": {"schemas": schema::definitions(&resources, Dialect::V3)},
    })
}

/// The v2 document of everything.
pub fn v2(resources: &Resources) -> Value {
    let resources: Vec<&Resource> = resources.iter().map(Arc::as_ref).collect();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "paths": paths::paths(&resources, Dialect::V2),
        "definitions": schema::definitions(&resources, Dialect::V2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Vec<Arc<Resource>> {
        machinery::kinds::builtin().iter().filter(|r| r.default_enabled).cloned().collect()
    }

    #[test]
    fn index_names_every_group_version() {
        let all = served();
        let index = v3_index(&all);
        assert_eq!(index["paths"].as_object().map(Map::len), Some(group_versions(&all).len()));
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap_or_default();
        let hash = document_hash(&all, "apis/apps/v1").unwrap_or_default();
        assert_eq!((hash.len(), url), (128, format!("/openapi/v3/apis/apps/v1?hash={hash}").as_str()));
        assert_eq!(document_hash(&all, "apis/nothing/v1"), None);
    }

    #[test]
    fn hash_follows_the_resources() {
        let all = served();
        let fewer: Vec<_> = all.iter().filter(|r| r.plural != "deployments").cloned().collect();
        assert_ne!(document_hash(&all, "apis/apps/v1"), document_hash(&fewer, "apis/apps/v1"));
        assert_eq!(document_hash(&all, "api/v1"), document_hash(&fewer, "api/v1"));
    }

    #[test]
    fn packed_documents_unpack() {
        let value = v3_document(&served(), "apis/apps/v1");
        let packed = Packed::of_json(&value);
        assert!(packed.bytes.len() * 5 < packed.unpack().len());
        assert_eq!(serde_json::from_slice::<Value>(&packed.unpack()).ok(), Some(value));
    }
}
