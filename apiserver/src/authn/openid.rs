//! The two documents by which others check our tokens: the issuer's discovery and its key set.

use http::{HeaderValue, StatusCode, header};

use crate::app::App;
use crate::http::{Response, reply};

/// Where discovery is served.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the keys are served.
pub const KEYS: &str = "/openid/v1/jwks";

/// Answers one of the two paths; `None` for others, and when tokens are not issued by a URL.
pub fn handle(app: &App, path: &str, host: &str) -> Option<Response> {
    let tokens = app.authenticator.tokens()?;
    let (kind, document) = match path {
        DISCOVERY => ("application/json", tokens.discovery(&address(app, host))?),
        KEYS => ("application/jwk-set+json", tokens.jwks()),
        _ => return None,
    };
    let mut response = reply(StatusCode::OK, kind, document.to_string());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Some(response)
}

/// The address members of the cluster reach this server at; failing that, the one it was asked by.
fn address(app: &App, host: &str) -> String {
    match app.config.advertise_address {
        Some(ip) => std::net::SocketAddr::new(ip, app.config.secure_port).to_string(),
        None => host.to_owned(),
    }
}
