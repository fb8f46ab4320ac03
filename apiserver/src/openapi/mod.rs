//! OpenAPI v2 and v3.
//!
//! Documents are written piece by piece into a gzip stream on first request and kept compressed; hashes are taken of
//! what a document is made of, so that the index does not need the documents.

mod describe;
mod operations;
mod schema;
mod store;
mod v2;
mod v2_proto;
mod v3;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use crate::app::App;
use crate::discovery::negotiate;
use crate::http::{self as web, Request, Response};
use store::Packed;

pub use v2::v2;
pub use v3::{v3_document, v3_index};

/// Media type of v2 as protobuf, the name with which it is answered.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The same with its old name, which kubectl still sends.
const V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// v3 as protobuf, which is not served: clients that ask for it alone get 406.
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

/// Answers `/openapi/v2` and `/openapi/v3/...`; None when the path is none of these.
pub fn handle(app: &Arc<App>, request: &Request) -> Option<Response> {
    let path = request.uri().path().trim_end_matches('/');
    let rest = path.strip_prefix("/openapi/")?;
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Some(web::status(&machinery::status::Status::method_not_allowed()));
    }
    let resources = app.kinds.all();
    match rest {
        "v2" => Some(serve_v2(&resources, request)),
        "v3" => Some(serve_index(&resources, request)),
        _ => serve_v3(&resources, request, rest.strip_prefix("v3/")?),
    }
}

type Resources = [Arc<machinery::kinds::Resource>];

fn serve_v2(resources: &Resources, request: &Request) -> Response {
    let types = negotiate::media_types(request.headers());
    let wanted = types.iter().find_map(|t| match t.as_str() {
        V2_PROTOBUF | V2_PROTOBUF_OLD => Some(true),
        "application/json" | "application/*" | "*/*" => Some(false),
        _ => None,
    });
    let protobuf = match wanted {
        Some(protobuf) => protobuf,
        None if types.is_empty() => false,
        None => return not_acceptable(&["application/json", V2_PROTOBUF]),
    };
    let key = negotiate::fingerprint(resources);
    let name = if protobuf { "v2.pb" } else { "v2" };
    let packed = store::get(key, name, || v2(resources, protobuf));
    let content_type = if protobuf { V2_PROTOBUF } else { "application/json" };
    reply(request, &packed, content_type, false)
}

fn serve_index(resources: &Resources, request: &Request) -> Response {
    let index = v3_index(resources);
    let body = serde_json::to_vec(&index).unwrap_or_default();
    reply(request, &Packed::of(&body), "application/json", false)
}

fn serve_v3(resources: &Resources, request: &Request, path: &str) -> Option<Response> {
    let (group, version) = v3::split_path(path)?;
    let hash = v3::document_hash(resources, group, version)?;
    let types = negotiate::media_types(request.headers());
    if !types.is_empty() && types.iter().all(|t| t == V3_PROTOBUF) {
        return Some(not_acceptable(&["application/json"]));
    }
    let given = request.uri().query().and_then(hash_parameter);
    if given.is_some_and(|given| given != hash) {
        return Some(redirect(path, &hash));
    }
    let key = negotiate::fingerprint(resources);
    let mut packed = store::get(key, path, || v3_document(resources, group, version));
    packed.etag = format!("{hash:?}");
    Some(reply(request, &packed, "application/json", given.is_some()))
}

fn hash_parameter(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("hash="))
}

fn not_acceptable(types: &[&str]) -> Response {
    web::status(&machinery::status::Status::not_acceptable(types))
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
        return with_validators(web::reply(StatusCode::NOT_MODIFIED, content_type, Bytes::new()), packed, immutable);
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
    if immutable {
        let next_year = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 365);
        let text = next_year.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        if let Ok(expires) = HeaderValue::from_str(&text) {
            headers.insert(header::EXPIRES, expires);
        }
    }
    response
}

#[cfg(test)]
mod tests;
