//! What every request passes on its way, in this order, and why it stands there:
//!
//! 1. panic: whatever breaks below is one request's 500 and not the server's end
//! 2. audit id and request info: everything below names and measures the request by them
//! 3. authentication: who it is, before anything is spent on it
//! 4. impersonation: from here on the caller is who they act as
//! 5. in flight: what can't be served now waits, or is refused when too much waits; what keeps the cluster alive has seats of its own
//! 6. authorisation: may they
//! 7. deadline: what runs on is exempt
//! 8. the handler
//! 9. headers: warnings, audit id, cache control; and the count

use futures::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use machinery::status::Status;

use super::connection::Peer;
use super::seats::Seat;
use super::{gzip, info, routes};
use crate::admission::resource_quota::Charges;
use crate::app::App;
use crate::authn::{AuthnRequest, impersonate};
use crate::authz::{Attributes, Decision, refusal};
use crate::http::{self as web, Request, Response};
use crate::request::{Ctx, RequestInfo, UserInfo, Warnings};
use crate::rest::Query;

const AUDIT_ID: &str = "audit-id";
const AUDIT_ID_MAX: usize = 64;
/// Warnings get this much room together; beyond it each is cut.
const WARNINGS_MAX: usize = 4096;
const WARNING_CUT: usize = 256;

/// Serves one request.
pub async fn serve(app: Arc<App>, peer: Arc<Peer>, mut request: Request) -> Response {
    let started = Instant::now();
    let query = Arc::new(Query::parse(request.uri().query().unwrap_or("")));
    let info = Arc::new(info::parse(request.method(), request.uri().path(), &query));
    let audit_id = audit_id(request.headers());
    // Whoever it is handed on to names it the same.
    request.headers_mut().insert(AUDIT_ID, audit_id.clone());
    let gzip = gzip::wanted(request.headers());
    let warnings = Warnings::default();
    let inner = authenticated(app.clone(), peer, request, info.clone(), query, warnings.clone());
    let mut response = match AssertUnwindSafe(inner).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(path = info.path, verb = info.verb, "a handler panicked");
            let text = "This request caused apiserver to panic. Look in the logs for details.\n";
            web::text(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    };
    let long_running = info.is_long_running();
    if gzip && !long_running {
        response = gzip::compress(response);
    }
    finish(&mut response, audit_id, &warnings);
    app.metrics.observe(&info, response.status().as_u16(), (!long_running).then(|| started.elapsed()));
    response
}

async fn authenticated(
    app: Arc<App>,
    peer: Arc<Peer>,
    mut request: Request,
    info: Arc<RequestInfo>,
    query: Arc<Query>,
    warnings: Warnings,
) -> Response {
    let user = match authenticate(&app, &peer, request.headers(), &info.path, &warnings).await {
        Ok(user) => user,
        Err(response) => return response,
    };
    let user = match acting_as(&app, user, request.headers_mut()).await {
        Ok(user) => user,
        Err(status) => return web::status(&status),
    };
    let Some(_seat) = seat(&app, &user, &info).await else {
        let text = "Too many requests, please try again later.\n";
        let mut response = web::text(StatusCode::TOO_MANY_REQUESTS, text);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    };
    if let Err(status) = authorize(&app, &user, &info).await {
        return web::status(&status);
    }
    let ctx = Ctx {
        user: Arc::new(user),
        dry_run: query.all("dryRun").contains(&"All"),
        field_manager: field_manager(&query, request.headers()),
        info: info.clone(),
        app: app.clone(),
        warnings,
        charges: Charges::default(),
    };
    if let Err(status) = check_dry_run(&query) {
        return web::status(&status);
    }
    let handler: BoxFuture<'static, Response> = Box::pin(routes::route(ctx, query.clone(), request));
    within_deadline(&app, &info, &query, handler).await
}

/// A boxed future with named borrows: left to itself the compiler can't prove that the caller's future may move.
fn authenticate<'a>(
    app: &'a App,
    peer: &'a Peer,
    headers: &'a HeaderMap,
    path: &'a str,
    warnings: &'a Warnings,
) -> BoxFuture<'a, Result<UserInfo, Response>> {
    Box::pin(async move {
        let (peer_certs, peer_addr) = (&peer.certificates, peer.address);
        let asked = AuthnRequest { headers, peer_certs, peer_addr, path, warnings };
        match app.authenticator.authenticate(&asked).await {
            Ok(Some(user)) => Ok(user),
            Ok(None) => Err(web::status(&Status::unauthorized())),
            Err(error) => {
                tracing::info!(%error, from = %peer.address, "unable to authenticate the request");
                Err(web::status(&Status::unauthorized()))
            }
        }
    })
}

fn acting_as<'a>(
    app: &'a App,
    user: UserInfo,
    headers: &'a mut HeaderMap,
) -> BoxFuture<'a, Result<UserInfo, Status>> {
    Box::pin(async move {
        let Some(wanted) = impersonate::wanted(headers)? else { return Ok(user) };
        let other = impersonate::impersonate(&user, wanted, &*app.authorizer).await?;
        impersonate::strip(headers);
        Ok(other)
    })
}

fn seat<'a>(
    app: &'a Arc<App>,
    user: &'a UserInfo,
    info: &'a RequestInfo,
) -> BoxFuture<'a, Option<Option<Seat>>> {
    Box::pin(Seat::take(app, user, info))
}

/// The outcome of authorisation; Forbidden says who may not do what.
fn authorize<'a>(
    app: &'a App,
    user: &'a UserInfo,
    info: &'a RequestInfo,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        let attributes = Attributes { user, info };
        match app.authorizer.authorize(&attributes).await {
            (Decision::Allow, _) => Ok(()),
            (_, reason) => Err(refusal(&attributes, &reason)),
        }
    })
}

async fn within_deadline(
    app: &App,
    info: &RequestInfo,
    query: &Query,
    handler: BoxFuture<'static, Response>,
) -> Response {
    if info.is_long_running() {
        return handler.await;
    }
    let limit = app.config.request_timeout;
    let limit = match query.get("timeout") {
        "" => limit,
        text => match crate::config::duration(text) {
            Ok(asked) if !asked.is_zero() => asked.min(limit),
            Ok(_) => limit,
            Err(_) => {
                return web::status(&Status::bad_request(format!(
                    "invalid timeout specified in the request URL: {text:?}"
                )));
            }
        },
    };
    match tokio::time::timeout(limit, handler).await {
        Ok(response) => response,
        Err(_) => web::status(&Status::timeout("request did not complete within the allotted timeout", 0)),
    }
}

fn check_dry_run(query: &Query) -> Result<(), Status> {
    for value in query.all("dryRun") {
        if !matches!(value, "" | "All") {
            let at = machinery::field::Path::new("dryRun");
            let error = machinery::field::FieldError::not_supported(&at, value, &["All"]);
            return Err(Status::invalid("meta.k8s.io", "CreateOptions", "", vec![error]));
        }
    }
    Ok(())
}

fn field_manager(query: &Query, headers: &HeaderMap) -> String {
    if !query.get("fieldManager").is_empty() {
        return query.get("fieldManager").to_owned();
    }
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    agent.split('/').next().unwrap_or("").to_owned()
}

fn audit_id(headers: &HeaderMap) -> HeaderValue {
    match headers.get(AUDIT_ID) {
        Some(given) if !given.is_empty() && given.len() <= AUDIT_ID_MAX => given.clone(),
        _ => HeaderValue::from_str(&machinery::names::new_uid()).unwrap_or(HeaderValue::from_static("")),
    }
}

fn finish(response: &mut Response, audit_id: HeaderValue, warnings: &Warnings) {
    let headers = response.headers_mut();
    headers.insert(AUDIT_ID, audit_id);
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    let texts = warnings.list();
    let cut = texts.iter().map(String::len).sum::<usize>() > WARNINGS_MAX;
    for text in texts {
        if let Ok(value) = HeaderValue::from_str(&warning(&text, cut)) {
            headers.append(header::WARNING, value);
        }
    }
}

/// `299 - "text"`, with quotes escaped and without control characters.
fn warning(text: &str, cut: bool) -> String {
    let limit = if cut { WARNING_CUT } else { usize::MAX };
    let mut quoted = String::with_capacity(text.len() + 8);
    for c in text.chars().take(limit) {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    format!("299 - \"{quoted}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings() {
        assert_eq!(warning("a \"b\"\n", false), r#"299 - "a \"b\" ""#);
    }
}
