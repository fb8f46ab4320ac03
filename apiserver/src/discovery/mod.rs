//! Discovery, plain and aggregated: what is served, told from the table of kinds.

mod documents;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha512};

use crate::app::App;
use crate::http::{self as web, Request, Response};

/// Media type of the aggregated form.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers `/api`, `/apis` and what lies directly below them; None when the path is none of these.
pub fn handle(app: &Arc<App>, request: &Request) -> Option<Response> {
    let kinds = app.kinds.all();
    let aggregated = wants_aggregated(request.headers());
    let path = request.uri().path().trim_matches('/');
    let (document, media) = match path.split('/').collect::<Vec<_>>()[..] {
        ["api"] if aggregated => (documents::aggregated(&kinds, true), AGGREGATED),
        ["apis"] if aggregated => (documents::aggregated(&kinds, false), AGGREGATED),
        ["api"] => (documents::api_versions(&address(app)), "application/json"),
        ["apis"] => (documents::api_groups(&kinds), "application/json"),
        ["api", version] => (documents::resource_list(&kinds, "", version)?, "application/json"),
        ["apis", group] => (documents::group(&kinds, group)?, "application/json"),
        ["apis", group, version] => (documents::resource_list(&kinds, group, version)?, "application/json"),
        _ => return None,
    };
    Some(tagged(request.headers(), media, &document))
}

fn address(app: &App) -> String {
    let host = app.config.advertise_address.map(|a| a.to_string()).unwrap_or_else(|| "127.0.0.1".into());
    format!("{host}:{}", app.config.secure_port)
}

/// Whether the first acceptable form is the aggregated one.
fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let first = accepts.flat_map(|v| v.split(',')).find(|entry| is_plain(entry) || is_aggregated(entry));
    first.is_some_and(is_aggregated)
}

fn parameters(entry: &str) -> impl Iterator<Item = &str> {
    entry.split(';').skip(1).map(str::trim)
}

fn is_aggregated(entry: &str) -> bool {
    let has = |wanted: &str| parameters(entry).any(|p| p == wanted);
    entry.trim().starts_with("application/json")
        && has("as=APIGroupDiscoveryList")
        && has("g=apidiscovery.k8s.io")
        && has("v=v2")
}

fn is_plain(entry: &str) -> bool {
    let media = entry.split(';').next().unwrap_or_default().trim();
    matches!(media, "application/json" | "*/*" | "application/*") && !parameters(entry).any(|p| p.starts_with("as="))
}

/// A document with an ETag; 304 for one that the client has.
pub fn tagged(headers: &HeaderMap, media: &'static str, document: &Value) -> Response {
    let body = serde_json::to_vec(document).unwrap_or_default();
    tagged_bytes(headers, media, body.into())
}

/// As [`tagged`], for a document that is encoded already.
pub fn tagged_bytes(headers: &HeaderMap, media: &'static str, body: bytes::Bytes) -> Response {
    let tag = format!("\"{}\"", hex::encode_upper(Sha512::digest(&body)));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response = match known {
        true => web::reply(StatusCode::NOT_MODIFIED, media, ""),
        false => web::reply(StatusCode::OK, media, body),
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_form_wins() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wants_aggregated(&headers)
        };
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert!(wants(&format!("{v2},{beta},application/json")));
        assert!(!wants(&format!("{beta},application/json,{v2}")));
        assert!(!wants("application/json"));
        assert!(!wants("*/*"));
    }
}
