//! log, exec, attach, portforward and proxy: what the server hands on to kubelets, pods and services.
//!
//! [`place`] finds out where a request goes (pure), [`transport`] gets there, [`relay`] hands on ordinary requests
//! and upgrades; [`translate`] turns a client's WebSocket into SPDY towards the kubelet, [`tunnel`] carries SPDY
//! inside a WebSocket.

pub mod place;
pub mod relay;
pub mod spdy;
pub mod translate;
pub mod transport;
pub mod tunnel;
pub mod websocket;

use std::sync::Arc;

use http::{HeaderMap, Method, Uri};
use machinery::status::Status;

use crate::authz::{self, Attributes, Decision};
use crate::http::{self as web, Request, Response};
use crate::request::{Ctx, RequestInfo};
use crate::rest::params::Query;
use place::Place;
use transport::Trust;

/// Whether requests for this subresource (of pods, services or nodes) are handed on.
pub fn handles(resource: &str, subresource: &str) -> bool {
    match resource {
        "pods" => matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy"),
        "services" | "nodes" => subresource == "proxy",
        _ => false,
    }
}

/// Serves one such request. Authentication and authorisation are done; admission (CONNECT) is the caller's.
pub async fn connect(ctx: Ctx, request: Request) -> Response {
    match dispatch(&ctx, request).await {
        Ok(response) => response,
        Err(status) => web::status(&status),
    }
}

async fn dispatch(ctx: &Ctx, request: Request) -> Result<Response, Status> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match (ctx.info.resource.as_str(), ctx.info.subresource.as_str()) {
        ("pods", "log") => log(ctx, &query, &request).await,
        ("pods", "exec") => stream(ctx, &query, request, "exec").await,
        ("pods", "attach") => stream(ctx, &query, request, "attach").await,
        ("pods", "portforward") => port_forward(ctx, &query, request).await,
        _ => proxied(ctx, request).await,
    }
}

fn check_method(ctx: &Ctx, method: &Method, allowed: &[Method]) -> Result<(), Status> {
    match allowed.contains(method) {
        true => Ok(()),
        false => Err(Status::method_not_supported("", &ctx.info.resource_path(), &ctx.info.verb)),
    }
}

fn pod(ctx: &Ctx) -> Result<serde_json::Value, Status> {
    let (namespace, name) = (&ctx.info.namespace, &ctx.info.name);
    let entry = ctx.app.reader.get("pods", namespace, name);
    entry.map(|e| e.parse()).ok_or_else(|| Status::not_found("", "pods", name))
}

/// Where the kubelet of a node listens.
fn kubelet(ctx: &Ctx, node: &str) -> Result<place::Kubelet, Status> {
    let entry = ctx.app.reader.get("nodes", "", node).ok_or_else(|| Status::not_found("", "nodes", node))?;
    place::kubelet(&entry.parse(), &ctx.app.config.kubelet_preferred_address_types)
}

async fn log(ctx: &Ctx, query: &Query, request: &Request) -> Result<Response, Status> {
    check_method(ctx, request.method(), &[Method::GET])?;
    place::check_log_options(query, &ctx.info.name)?;
    let pod = pod(ctx)?;
    let container = place::container(&pod, query.get("container"))?;
    let Some(node) = place::node_of(&pod) else {
        let mut response = Response::new(web::Body::Empty);
        *response.status_mut() = http::StatusCode::NO_CONTENT;
        return Ok(response);
    };
    let uri = place::log_uri(&kubelet(ctx, node)?, &ctx.info, &container, query)?;
    let insecure = query.flag("insecureSkipTLSVerifyBackend");
    let trust = if insecure { Trust::KubeletUnverified } else { Trust::Kubelet };
    let transports = transport::of(&ctx.app.config)?;
    relay::log(&transports, trust, uri, &ctx.info.name).await
}

/// A GET that takes over the connection does as much as a POST, so it needs as much.
async fn check_upgrade_right(ctx: &Ctx, method: &Method) -> Result<(), Status> {
    if *method != Method::GET {
        return Ok(());
    }
    let info = RequestInfo { verb: "create".into(), ..(*ctx.info).clone() };
    let attributes = Attributes { user: &ctx.user, info: &info };
    match ctx.app.authorizer.authorize(&attributes).await {
        (Decision::Allow, _) => Ok(()),
        (_, reason) => Err(authz::refusal(&attributes, &reason)),
    }
}

async fn stream(ctx: &Ctx, query: &Query, request: Request, verb: &str) -> Result<Response, Status> {
    check_method(ctx, request.method(), &[Method::GET, Method::POST])?;
    check_upgrade_right(ctx, request.method()).await?;
    let pod = pod(ctx)?;
    let container = place::container(&pod, query.get("container"))?;
    let node = place::node_of(&pod).ok_or_else(|| place::no_host(&ctx.info.name))?;
    let uri = place::stream_uri(&kubelet(ctx, node)?, verb, &ctx.info, &container, query)?;
    require_upgrade(request.headers())?;
    let transports = transport::of(&ctx.app.config)?;
    if websocket::asks_for(request.headers(), websocket::V5) {
        let wanted = translate::Wanted::from_query(query);
        return translate::serve(transports, uri, wanted, request);
    }
    relay::upgrade(&transports, Trust::Kubelet, uri, request).await
}

async fn port_forward(ctx: &Ctx, query: &Query, request: Request) -> Result<Response, Status> {
    check_method(ctx, request.method(), &[Method::GET, Method::POST])?;
    check_upgrade_right(ctx, request.method()).await?;
    let pod = pod(ctx)?;
    let node = place::node_of(&pod).ok_or_else(|| place::no_host(&ctx.info.name))?;
    let uri = place::port_forward_uri(&kubelet(ctx, node)?, &ctx.info, query)?;
    require_upgrade(request.headers())?;
    let transports = transport::of(&ctx.app.config)?;
    if websocket::asks_for(request.headers(), websocket::TUNNEL) {
        return tunnel::serve(&transports, uri, request).await;
    }
    relay::upgrade(&transports, Trust::Kubelet, uri, request).await
}

fn require_upgrade(headers: &HeaderMap) -> Result<(), Status> {
    match daemon::upgrade::wanted(headers) {
        true => Ok(()),
        false => Err(Status::bad_request("Upgrade request required")),
    }
}

async fn proxied(ctx: &Ctx, request: Request) -> Result<Response, Status> {
    let prefix = place::proxy_prefix(request.uri().path(), &ctx.info);
    let rest = request.uri().path().get(prefix.len()..).unwrap_or_default().to_owned();
    if rest.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(relay::add_slash(request.uri()));
    }
    let place = match ctx.info.resource.as_str() {
        "pods" => place_of_pod(ctx)?,
        "services" => place_of_service(ctx)?,
        _ => place_of_node(ctx)?,
    };
    let uri = place.uri(&rest, request.uri().query())?;
    let transports = transport::of(&ctx.app.config)?;
    if daemon::upgrade::wanted(request.headers()) {
        return relay::upgrade(&transports, place.trust, uri, request).await;
    }
    relay::pass(&transports, place.trust, uri, &prefix, request).await
}

fn place_of_pod(ctx: &Ctx) -> Result<Place, Status> {
    let id = place::Id::parse(&ctx.info.name, "pod")?;
    let entry = ctx.app.reader.get("pods", &ctx.info.namespace, &id.name);
    let pod = entry.ok_or_else(|| Status::not_found("", "pods", &id.name))?.parse();
    place::of_pod(&id, &pod)
}

fn place_of_service(ctx: &Ctx) -> Result<Place, Status> {
    let id = place::Id::parse(&ctx.info.name, "service")?;
    let namespace = &ctx.info.namespace;
    let entry = ctx.app.reader.get("services", namespace, &id.name);
    let service = entry.ok_or_else(|| Status::not_found("", "services", &id.name))?.parse();
    let slices = ctx.app.reader.list("endpointslices.discovery.k8s.io", namespace);
    let of_service = |e: &Arc<crate::cache::Entry>| e.label("kubernetes.io/service-name") == Some(&*id.name);
    let slices: Vec<serde_json::Value> = slices.iter().filter(|e| of_service(e)).map(|e| e.parse()).collect();
    place::of_service(&id, &service, &slices, rand::random())
}

fn place_of_node(ctx: &Ctx) -> Result<Place, Status> {
    let id = place::Id::parse(&ctx.info.name, "node")?;
    place::of_node(&id, &kubelet(ctx, &id.name)?)
}

/// Builds a URI; whatever cannot be one is the client's mistake.
fn uri(scheme: &str, authority: &str, path_and_query: &str) -> Result<Uri, Status> {
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path_and_query)
        .build()
        .map_err(|e| Status::bad_request(format!("invalid proxy location: {e}")))
}
