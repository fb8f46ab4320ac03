//! The kubelet's server on port 10250 (HTTPS, delegated authentication and authorisation), its read-only twin, and the
//! plain health port on 10248.
//!
//! [`route`] says what a path means, [`auth`] who may, the rest answers. Streaming (exec, attach, port-forward) is
//! handed on to the runtime's own streaming server, byte for byte.

pub mod answer;
pub mod auth;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod pods;
pub mod route;
pub mod stats;
pub mod streams;
pub mod syslogs;

use crate::context::Context;
use anyhow::Context as _;
use auth::Guard;
use daemon::serving::{Body, Handler, Serving};
use daemon::tls::ServerTls;
use http::{Request, Response};
use hyper::body::Incoming;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What all handlers of the server share.
pub struct Server {
    /// the kubelet
    pub ctx: Arc<Context>,
    /// who may; None on the read-only port
    guard: Option<Guard>,
    /// usage figures, with the samples rates are made from
    pub stats: stats::Collector,
}

/// Serves until cancelled. `tls` is the serving identity (see `certs::serving`).
pub async fn run(ctx: Arc<Context>, tls: ServerTls) -> anyhow::Result<()> {
    let health = tokio::spawn(health::run(ctx.clone()));
    let main = tokio::spawn(main_port(ctx.clone(), tls));
    let read_only = tokio::spawn(read_only_port(ctx.clone()));
    tokio::select! {
        ended = health => ended?.context("healthz server"),
        ended = main => ended?.context("kubelet server"),
        ended = read_only => ended?.context("read-only server"),
    }
}

async fn main_port(ctx: Arc<Context>, tls: ServerTls) -> anyhow::Result<()> {
    if !ctx.config.file.enable_server {
        ctx.cancel.cancelled().await;
        return Ok(());
    }
    let addr = address(&ctx.config.file.address, ctx.config.file.port)?;
    let guard = Guard::new(ctx.client.clone(), &ctx.config.node_name, &ctx.config.file);
    serve(ctx, addr, Some(tls), Some(guard)).await
}

async fn read_only_port(ctx: Arc<Context>) -> anyhow::Result<()> {
    if ctx.config.file.read_only_port <= 0 {
        ctx.cancel.cancelled().await;
        return Ok(());
    }
    let addr = address(&ctx.config.file.address, ctx.config.file.read_only_port)?;
    serve(ctx, addr, None, None).await
}

fn address(host: &str, port: i32) -> anyhow::Result<SocketAddr> {
    let ip: IpAddr = host.parse().with_context(|| format!("address {host:?}"))?;
    Ok(SocketAddr::new(ip, u16::try_from(port).with_context(|| format!("port {port}"))?))
}

async fn serve(
    ctx: Arc<Context>,
    addr: SocketAddr,
    tls: Option<ServerTls>,
    guard: Option<Guard>,
) -> anyhow::Result<()> {
    let cancel = ctx.cancel.clone();
    let server = Arc::new(Server { ctx, guard, stats: stats::Collector::default() });
    let handler: Handler = Arc::new(move |request, _| {
        let server = server.clone();
        Box::pin(async move { server.answer(request).await })
    });
    Serving::new(addr, tls).route("/", handler).run(cancel).await
}

impl Server {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if let Some(guard) = &self.guard
            && let Err(refusal) = guard.admit(&request).await
        {
            return refusal;
        }
        let read_only = self.guard.is_none();
        let route = route::parse(request.method(), request.uri().path(), read_only, &self.ctx.config.file);
        answer::dispatch(self, route, request).await
    }
}
