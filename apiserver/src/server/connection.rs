//! Connections: accepted over TLS, with the client's certificate as its identity.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::filters;
use crate::app::App;
use crate::http::{Request, Response};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long requests being served may go on once the server stops.
const DRAIN: Duration = Duration::from_secs(10);
const STREAMS_MAX: u32 = 1000;
/// How long an HTTP/1 connection may be without a request, as upstream's; the library has one limit for that and for a
/// request's head to come.
const HEAD: Duration = Duration::from_secs(90);

/// The other end of a connection.
pub struct Peer {
    /// Certificate chain as presented, leaf first; not verified.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Address.
    pub address: SocketAddr,
}

/// Accepts connections until cancelled, then lets those that are busy finish.
pub async fn accept(
    app: Arc<App>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    cancel: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                tokio::spawn(connection(
                    app.clone(),
                    acceptor.clone(),
                    stream,
                    address,
                    graceful.watcher(),
                    cancel.clone(),
                ));
            }
            Err(error) => {
                // Out of file descriptors, most likely: give others time to go.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::info!("connections still open after the time to drain are cut");
    }
}

async fn connection(
    app: Arc<App>,
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    address: SocketAddr,
    watcher: Watcher,
    stop: CancellationToken,
) {
    let _ = tcp.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, %address, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%address, "TLS handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = certificates.iter().map(|c| c.clone().into_owned()).collect();
    let peer = Arc::new(Peer { certificates, address });
    if let Err(error) = serve(app, peer, stream, watcher, stop).await {
        tracing::debug!(%error, %address, "connection ended");
    }
}

/// Boxed by name, since the compiler can't see through the nested borrows of the filters that the future may move. What
/// changes something goes on to its end when its client dies, so that nothing stays half done: an address taken for a
/// service that is never stored.
fn answer(
    app: Arc<App>,
    peer: Arc<Peer>,
    request: Request,
) -> BoxFuture<'static, Result<Response, Infallible>> {
    let reads = request.method().is_safe();
    let serving: BoxFuture<'static, Response> =
        Box::pin(async move { filters::serve(app, peer, request).await });
    if reads {
        return Box::pin(async move { Ok(serving.await) });
    }
    let task = tokio::spawn(serving);
    Box::pin(async move {
        match task.await {
            Ok(response) => Ok(response),
            Err(broken) => match broken.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => std::future::pending().await,
            },
        }
    })
}

async fn serve(
    app: Arc<App>,
    peer: Arc<Peer>,
    stream: TlsStream<TcpStream>,
    watcher: Watcher,
    stop: CancellationToken,
) -> Result<(), hyper::Error> {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let request = request.map(|body| body.map_err(Into::into).boxed());
        answer(app.clone(), peer.clone(), request)
    });
    let io = TokioIo::new(stream);
    if http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .serve_connection(io, service);
        return watcher.watch(connection).await;
    }
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(io, service)
        .with_upgrades();
    // An upgradable connection can't be watched; it is told to finish by hand.
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
