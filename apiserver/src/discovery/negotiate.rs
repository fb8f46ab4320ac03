//! Accept headers and validators of discovery and OpenAPI.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use http::{HeaderMap, header};
use machinery::kinds::Resource;
use sha2::{Digest, Sha512};

/// Content type of the aggregated form in JSON.
pub const AGGREGATED_JSON: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// Content type of the aggregated form in protobuf.
pub const AGGREGATED_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What a client wants of a discovery root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// One document with everything.
    Aggregated {
        /// As protobuf.
        protobuf: bool,
    },
    /// The classic documents.
    Plain {
        /// As protobuf.
        protobuf: bool,
    },
}

/// The content type of an aggregated answer.
pub fn aggregated_type(protobuf: bool) -> &'static str {
    if protobuf { AGGREGATED_PROTOBUF } else { AGGREGATED_JSON }
}

/// The first alternative of the Accept header that can be served.
pub fn accepted(headers: &HeaderMap) -> Accepted {
    for value in headers.get_all(header::ACCEPT) {
        let text = value.to_str().unwrap_or_default();
        if let Some(found) = text.split(',').find_map(alternative) {
            return found;
        }
    }
    Accepted::Plain { protobuf: false }
}

fn alternative(text: &str) -> Option<Accepted> {
    let mut parts = text.split(';').map(str::trim);
    let protobuf = match parts.next()? {
        "application/vnd.kubernetes.protobuf" => true,
        "application/json" | "application/*" | "*/*" => false,
        _ => return None,
    };
    let parameters: Vec<&str> = parts.collect();
    let has = |wanted: &str| parameters.contains(&wanted);
    match parameters.iter().any(|p| p.starts_with("as=")) {
        false => Some(Accepted::Plain { protobuf }),
        true if has("as=APIGroupDiscoveryList") && has("v=v2") && has("g=apidiscovery.k8s.io") => {
            Some(Accepted::Aggregated { protobuf })
        }
        true => None,
    }
}

/// The media types of an Accept header, parameters cut off, in order.
pub fn media_types(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let types =
        values.flat_map(|v| v.split(',')).map(|t| t.split(';').next().unwrap_or_default().trim().to_string());
    types.filter(|t| !t.is_empty()).collect()
}

/// True when the client takes gzip.
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|e| {
        let mut parts = e.split(';').map(str::trim);
        matches!(parts.next(), Some("gzip" | "*")) && !parts.any(|q| q == "q=0")
    })
}

/// Upper-case hex of SHA-512.
pub fn hash(bytes: &[u8]) -> String {
    hex::encode_upper(Sha512::digest(bytes))
}

/// The hash as a validator.
pub fn etag(bytes: &[u8]) -> String {
    format!("{:?}", hash(bytes))
}

/// True when `If-None-Match` names the validator.
pub fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    values
        .flat_map(|v| v.split(','))
        .map(|t| t.trim().trim_start_matches("W/"))
        .any(|t| t == etag || t == "*")
}

/// Tells one set of served resources from another within this process.
pub fn fingerprint(resources: &[Arc<Resource>]) -> u64 {
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    for resource in resources {
        // A resource value is never changed in place: a new definition makes a new Arc.
        (Arc::as_ptr(resource) as usize, &resource.group, &resource.version, &resource.plural)
            .hash(&mut hasher);
    }
    hasher.finish()
}
