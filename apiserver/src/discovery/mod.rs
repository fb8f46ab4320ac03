//! Discovery, plain and aggregated.
//!
//! Documents are pure functions of the served resources (`documents`, `aggregated`); this file picks one by path and
//! Accept header and keeps the aggregated ones, with their hash, for as long as the served resources stay the same.

mod aggregated;
mod documents;
pub mod negotiate;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use machinery::kinds::Resource;
use parking_lot::Mutex;
use serde_json::Value;

use crate::aggregator::Aggregator;
use crate::app::App;
use crate::http::{self as web, Request, Response};
use negotiate::Accepted;

pub use aggregated::aggregated;
pub use documents::{api_groups, api_versions, group, resource_list};

/// Answers `/api`, `/apis` and what lies directly below them; None when the path is none of these.
pub fn handle(app: &Arc<App>, request: &Request) -> Option<Response> {
    let path = request.uri().path().trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let known = matches!(parts.as_slice(), ["api"] | ["apis"] | ["api", _] | ["apis", _] | ["apis", _, _]);
    if !known {
        return None;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Some(web::status(&machinery::status::Status::method_not_allowed()));
    }
    let resources = app.kinds.all();
    let headers = request.headers();
    let served = Served { resources: &resources, aggregator: &app.aggregator };
    match parts.as_slice() {
        ["api"] => Some(root(&served, headers, true, address(headers, request))),
        ["apis"] => Some(root(&served, headers, false, String::new())),
        ["api", version] => plain(resource_list(&resources, "", version), headers),
        ["apis", name] => plain(group(&resources, &app.aggregator.elsewhere(), name), headers),
        ["apis", name, version] => plain(resource_list(&resources, name, version), headers),
        _ => None,
    }
}

/// What is served, here and elsewhere.
struct Served<'a> {
    resources: &'a [Arc<Resource>],
    aggregator: &'a Aggregator,
}

impl Served<'_> {
    /// Tells one state from another within this process.
    fn fingerprint(&self) -> (u64, u64) {
        (negotiate::fingerprint(self.resources), self.aggregator.fingerprint())
    }
}

/// `host:port` under which the client reached us.
fn address(headers: &HeaderMap, request: &Request) -> String {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let host = host.or(request.uri().authority().map(|a| a.as_str())).unwrap_or_default();
    host.to_string()
}

fn root(served: &Served<'_>, headers: &HeaderMap, core: bool, address: String) -> Response {
    match negotiate::accepted(headers) {
        Accepted::Aggregated { protobuf } => shared(served, core, protobuf, headers),
        Accepted::Plain { protobuf } => {
            let elsewhere = served.aggregator.elsewhere();
            let document = match core {
                true => api_versions(served.resources, &elsewhere, &address),
                false => api_groups(served.resources, &elsewhere),
            };
            encode(&document, protobuf)
        }
    }
}

fn plain(document: Option<Value>, headers: &HeaderMap) -> Option<Response> {
    let protobuf = matches!(negotiate::accepted(headers), Accepted::Plain { protobuf: true });
    document.map(|document| encode(&document, protobuf))
}

fn encode(document: &Value, protobuf: bool) -> Response {
    let encoded = if protobuf { codec::proto::encode(document).ok() } else { None };
    let mut response = match encoded {
        Some(body) => web::reply(StatusCode::OK, codec::proto::MEDIA_TYPE, body),
        None => web::json(StatusCode::OK, document),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// What is served, whether it is the core's, whether protobuf.
type Key = ((u64, u64), bool, bool);

/// One encoded aggregated document.
#[derive(Clone)]
struct Document {
    key: Key,
    body: Bytes,
    etag: String,
}

/// The latest documents: both roots in both encodings.
static DOCUMENTS: LazyLock<Mutex<Vec<Document>>> = LazyLock::new(Mutex::default);
const KEPT: usize = 8;

fn shared(served: &Served<'_>, core: bool, protobuf: bool, headers: &HeaderMap) -> Response {
    let key = (served.fingerprint(), core, protobuf);
    let found = DOCUMENTS.lock().iter().find(|d| d.key == key).cloned();
    let document = found.unwrap_or_else(|| keep(make(served, key)));
    let mut response = match negotiate::matches_etag(headers, &document.etag) {
        true => web::reply(StatusCode::NOT_MODIFIED, negotiate::AGGREGATED_JSON, Bytes::new()),
        false => web::reply(StatusCode::OK, negotiate::aggregated_type(protobuf), document.body),
    };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

fn make(served: &Served<'_>, key: Key) -> Document {
    let value = aggregated(served.resources, &served.aggregator.elsewhere(), key.1);
    let json = serde_json::to_vec(&value).unwrap_or_default();
    let etag = negotiate::etag(&json);
    let body = if key.2 { codec::proto::encode(&value).unwrap_or_default() } else { json };
    Document { key, body: body.into(), etag }
}

fn keep(document: Document) -> Document {
    let mut kept = DOCUMENTS.lock();
    if kept.len() >= KEPT {
        kept.remove(0);
    }
    kept.push(document.clone());
    document
}

#[cfg(test)]
mod tests;
