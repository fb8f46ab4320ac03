//! The small HTTP(S) server of a daemon: health, metrics, and routes of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::delegated::{Attributes, Delegated, User};
use crate::health::Health;
use crate::metrics::{self, Metrics};
use crate::tls::ServerTls;

/// A response body: a fixed text or a stream.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
/// A route's code. The user is set when the server has a guard.
pub type Handler =
    Arc<dyn Fn(Request<Incoming>, Option<User>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;
/// Says what a request needs to be allowed, when the path itself is not the answer.
pub type AttributesOf = Arc<dyn Fn(&Request<Incoming>) -> Attributes + Send + Sync>;

const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// For a request's head to come, and for an idle connection to get one: the library has one limit for both.
const HEADER_DEADLINE: Duration = Duration::from_secs(90);
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// Paths anyone may read (`--authorization-always-allow-paths`' default).
const OPEN_PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// The client certificate of a connection, put into each request's extensions.
#[derive(Clone)]
pub struct PeerCert(pub Option<Arc<CertificateDer<'static>>>);

/// A fixed text as a body.
pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A plain text answer.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A server being put together.
pub struct Serving {
    addr: SocketAddr,
    tls: Option<ServerTls>,
    health: Option<Arc<Health>>,
    metrics: Option<Arc<Metrics>>,
    guard: Option<Arc<Delegated>>,
    attributes: AttributesOf,
    routes: Vec<(String, Handler)>,
}

impl Serving {
    /// Plain HTTP when `tls` is `None`.
    pub fn new(addr: SocketAddr, tls: Option<ServerTls>) -> Self {
        let attributes: AttributesOf = Arc::new(|r| Attributes::path(r.method(), r.uri().path()));
        Self { addr, tls, health: None, metrics: None, guard: None, attributes, routes: Vec::new() }
    }

    /// Serves `/healthz`, `/livez` and `/readyz` from these checks.
    pub fn health(mut self, health: Arc<Health>) -> Self {
        self.health = Some(health);
        self
    }

    /// Serves `/metrics`.
    pub fn metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Asks the API server about everything but the health paths.
    pub fn guard(mut self, guard: Arc<Delegated>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// What a request is checked as (default: its path).
    pub fn attributes(mut self, attributes: AttributesOf) -> Self {
        self.attributes = attributes;
        self
    }

    /// Adds a route: the path itself and everything under it. The longest match wins.
    pub fn route(mut self, prefix: impl Into<String>, handler: Handler) -> Self {
        self.routes.push((prefix.into(), handler));
        self.routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        self
    }

    /// Listens until cancelled, then lets requests under way finish for a few seconds.
    pub async fn run(self, token: CancellationToken) -> Result<()> {
        let listener =
            TcpListener::bind(self.addr).await.with_context(|| format!("listen on {}", self.addr))?;
        self.run_on(listener, token).await
    }

    /// As [`Serving::run`], on a listener of the caller's.
    pub async fn run_on(self, listener: TcpListener, token: CancellationToken) -> Result<()> {
        let server = Arc::new(self);
        let graceful = GracefulShutdown::new();
        let acceptor = server.tls.as_ref().map(|tls| TlsAcceptor::from(tls.rustls_config()));
        loop {
            let Some(accepted) = token.run_until_cancelled(listener.accept()).await else { break };
            match accepted {
                Ok((stream, _)) => {
                    let watcher = graceful.watcher();
                    tokio::spawn(serve(server.clone(), acceptor.clone(), stream, watcher));
                }
                // Out of descriptors, most likely: wait a moment for some to be returned.
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        let _ = tokio::time::timeout(DRAIN_DEADLINE, graceful.shutdown()).await;
        Ok(())
    }

    async fn answer(&self, mut request: Request<Incoming>, peer: PeerCert) -> Response<Body> {
        let path = request.uri().path().trim_end_matches('/').to_string();
        let open = OPEN_PATHS.iter().any(|p| path == *p || path.starts_with(&format!("{p}/")));
        let mut user = None;
        if !open && let Some(guard) = &self.guard {
            match self.admit(guard, &request, &peer).await {
                Ok(admitted) => user = Some(admitted),
                Err(refusal) => return refusal,
            }
        }
        request.extensions_mut().insert(peer);
        let under = |p: &str| {
            path == p.trim_end_matches('/') || path.starts_with(&format!("{}/", p.trim_end_matches('/')))
        };
        if let Some((_, handler)) = self.routes.iter().find(|(prefix, _)| under(prefix)) {
            return handler(request, user).await;
        }
        self.builtin(&path, &request)
    }

    async fn admit(
        &self,
        guard: &Delegated,
        request: &Request<Incoming>,
        peer: &PeerCert,
    ) -> Result<User, Response<Body>> {
        let Some(user) = guard.authenticate(request.headers(), peer.0.as_deref()).await else {
            return Err(text(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        let attributes = (self.attributes)(request);
        if guard.authorize(&user, &attributes).await {
            return Ok(user);
        }
        Err(text(StatusCode::FORBIDDEN, forbidden(&user, &attributes)))
    }

    fn builtin(&self, path: &str, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        }
        if path == "/metrics"
            && let Some(metrics) = &self.metrics
        {
            let mut response = text(StatusCode::OK, metrics.encode());
            let kind = header::HeaderValue::from_static(metrics::CONTENT_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            return response;
        }
        let verbose = request.uri().query().is_some_and(|q| q.split('&').any(|p| p.starts_with("verbose")));
        self.health
            .as_ref()
            .and_then(|h| healthz(h, path, verbose))
            .unwrap_or_else(|| text(StatusCode::NOT_FOUND, "404 page not found\n"))
    }
}

fn forbidden(user: &User, attributes: &Attributes) -> String {
    match attributes {
        Attributes::Path { verb, path } => {
            format!("Forbidden (user={}, verb={verb}, path={path})", user.name)
        }
        Attributes::Resource { verb, resource, subresource, .. } => {
            format!(
                "Forbidden (user={}, verb={verb}, resource={resource}, subresource={subresource})",
                user.name
            )
        }
    }
}

/// The answer of `/healthz`, `/livez` or `/readyz`, or of one check under them; `None` for another path or check.
pub fn healthz(health: &Health, path: &str, verbose: bool) -> Option<Response<Body>> {
    let (endpoint, check) = match path.trim_start_matches('/').split_once('/') {
        Some((endpoint, check)) => (endpoint, Some(check)),
        None => (path.trim_start_matches('/'), None),
    };
    if !matches!(endpoint, "healthz" | "livez" | "readyz") {
        return None;
    }
    if let Some(check) = check {
        return Some(match health.one(check)? {
            Ok(()) => text(StatusCode::OK, "ok"),
            Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        });
    }
    Some(match health.report(endpoint) {
        (true, report) => text(StatusCode::OK, if verbose { report } else { "ok".into() }),
        (false, report) => text(StatusCode::INTERNAL_SERVER_ERROR, report),
    })
}

async fn serve(
    server: Arc<Serving>,
    acceptor: Option<TlsAcceptor>,
    stream: TcpStream,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else {
        return connection(server, TokioIo::new(stream), PeerCert(None), watcher).await;
    };
    let Ok(Ok(tls)) = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await else {
        tracing::debug!("TLS handshake failed");
        return;
    };
    let certs = tls.get_ref().1.peer_certificates();
    let peer = certs.and_then(|c| c.first()).map(|c| Arc::new(c.clone().into_owned()));
    connection(server, TokioIo::new(tls), PeerCert(peer), watcher).await;
}

async fn connection<I>(
    server: Arc<Serving>,
    io: I,
    peer: PeerCert,
    watcher: hyper_util::server::graceful::Watcher,
) where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, Infallible>(server.answer(request, peer).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection_with_upgrades(io, service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(addr: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn health_metrics_and_routes_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let health = Health::new();
        let handler: Handler = Arc::new(|_, _| Box::pin(async { text(StatusCode::OK, "mine") }));
        let serving =
            Serving::new(addr, None).health(health.clone()).metrics(Metrics::new()).route("/own", handler);
        let token = CancellationToken::new();
        let running = tokio::spawn(serving.run_on(listener, token.clone()));
        assert!(get(addr, "/healthz").await.ends_with("ok"));
        assert!(get(addr, "/metrics").await.contains("process_cpu_seconds_total"));
        assert!(get(addr, "/own/thing").await.ends_with("mine"));
        assert!(get(addr, "/owner").await.starts_with("HTTP/1.1 404"));
        health.set("x", Err("down".into()));
        assert!(get(addr, "/readyz").await.starts_with("HTTP/1.1 500"));
        token.cancel();
        running.await.unwrap().unwrap();
    }
}
