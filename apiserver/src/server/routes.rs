//! Where a request goes once it may.

use std::sync::Arc;

use http::StatusCode;

use super::{health, version};
use crate::http::{self as web, Request, Response};
use crate::request::Ctx;
use crate::rest::{self, Query};
use crate::{aggregator, discovery, openapi};

/// Hands a request to its handler.
pub async fn route(ctx: Ctx, query: Arc<Query>, request: Request) -> Response {
    let path = request.uri().path();
    let behind = openapi::group_version_path(path).unwrap_or(path);
    if let Some(remote) = aggregator::proxy::server_of(&ctx, behind) {
        return aggregator::proxy::serve(ctx, remote, request).await;
    }
    if ctx.info.is_resource {
        return rest::serve(ctx, query, request).await;
    }
    let path = request.uri().path().trim_end_matches('/');
    if let Some(answer) = health::handle(&ctx.app, path, &query) {
        return answer;
    }
    match path {
        "" => return index(&ctx),
        "/version" => return version::handle(),
        "/metrics" => {
            let tokens = ctx.app.authenticator.tokens().map(|t| t.uses.encode()).unwrap_or_default();
            let text =
                ctx.app.metrics.encode(&ctx.app.cache) + &ctx.app.aggregator.encode_metrics() + &tokens;
            return web::reply(StatusCode::OK, daemon::metrics::CONTENT_TYPE, text);
        }
        _ => {}
    }
    let host = request.headers().get(http::header::HOST).and_then(|h| h.to_str().ok());
    let host = host.or(request.uri().authority().map(|a| a.as_str())).unwrap_or_default();
    if let Some(answer) = crate::authn::openid::handle(&ctx.app, path, host) {
        return answer;
    }
    let found = discovery::handle(&ctx.app, &request).or_else(|| openapi::handle(&ctx.app, &request));
    found.unwrap_or_else(|| web::text(StatusCode::NOT_FOUND, "404 page not found\n"))
}

/// All paths that are not resources.
fn index(ctx: &Ctx) -> Response {
    let mut paths: Vec<String> = vec!["/api".into(), "/apis".into()];
    for resource in ctx.app.kinds.all() {
        let mut add = |path: String| {
            if !paths.contains(&path) {
                paths.push(path);
            }
        };
        if !resource.group.is_empty() {
            add(format!("/apis/{}", resource.group));
        }
        add(resource.base_path());
    }
    for other in ctx.app.aggregator.all().iter().filter(|r| !r.spec.group.is_empty()) {
        paths.extend([format!("/apis/{}", other.spec.group), other.spec.path()]);
    }
    for endpoint in ["healthz", "livez", "readyz"] {
        paths.push(format!("/{endpoint}"));
        paths.extend(
            ctx.app.health.report(endpoint).into_iter().map(|(name, _)| format!("/{endpoint}/{name}")),
        );
    }
    let others = [
        "/.well-known/openid-configuration",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/version",
    ];
    paths.extend(others.map(str::to_owned));
    paths.sort();
    paths.dedup();
    web::json(StatusCode::OK, &serde_json::json!({ "paths": paths }))
}
