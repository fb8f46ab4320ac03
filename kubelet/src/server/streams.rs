//! exec, attach and port-forward: the runtime prepares a URL on its own streaming server, and the client's connection
//! is joined with it. /run answers with the output of a command.

use super::route::Target;
use crate::context::Context;
use crate::pods::table::{ContainerState, PodEntry};
use crate::runtime::cri;
use daemon::serving::{Body, full, text};
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long the runtime may take to switch protocols.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(30);

type Query = [(String, String)];

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    /// Upstream's parameter names between API server and kubelet; a terminal has no standard error of its own.
    fn from_query(query: &Query) -> Result<Self, &'static str> {
        let on = |name: &str| query.iter().any(|(n, v)| n == name && (v == "1" || v == "true"));
        let mut wanted =
            Self { stdin: on("input"), stdout: on("output"), stderr: on("error"), tty: on("tty") };
        wanted.stderr &= !wanted.tty;
        if !(wanted.stdin || wanted.stdout || wanted.stderr) {
            return Err("you must specify at least 1 of stdin, stdout, stderr");
        }
        Ok(wanted)
    }
}

/// Runs a command in a container with streams.
pub async fn exec(
    ctx: &Arc<Context>,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Response<Body> {
    let wanted = match Wanted::from_query(query) {
        Ok(wanted) => wanted,
        Err(why) => return text(StatusCode::BAD_REQUEST, format!("{why}\n")),
    };
    let container_id = match container_id(ctx, target) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    let asked = cri::ExecRequest {
        container_id,
        cmd: query.iter().filter(|(n, _)| n == "command").map(|(_, v)| v.clone()).collect(),
        tty: wanted.tty,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    hand_on(ctx.runtime.exec_url(asked).await, request).await
}

/// Joins the streams of a container's main process.
pub async fn attach(
    ctx: &Arc<Context>,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Response<Body> {
    let wanted = match Wanted::from_query(query) {
        Ok(wanted) => wanted,
        Err(why) => return text(StatusCode::BAD_REQUEST, format!("{why}\n")),
    };
    let container_id = match container_id(ctx, target) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    let entry = ctx.pods.by_name(&target.namespace, &target.pod);
    let asked = cri::AttachRequest {
        container_id,
        stdin: wanted.stdin,
        // The container was made with or without a terminal; the caller's wish does not change that.
        tty: entry.is_some_and(|e| has_tty(&e, &target.container)),
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    hand_on(ctx.runtime.attach_url(asked).await, request).await
}

fn has_tty(entry: &PodEntry, container: &str) -> bool {
    let Some(spec) = &entry.pod.spec else { return false };
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (&c.name, c.tty));
    plain.map(|c| (&c.name, c.tty)).chain(ephemeral).any(|(n, tty)| n == container && tty == Some(true))
}

/// Carries TCP connections into a pod.
pub async fn port_forward(
    ctx: &Arc<Context>,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Response<Body> {
    let port = match ports(query, daemon::upgrade::is_websocket(request.headers())) {
        Ok(port) => port,
        Err(why) => return text(StatusCode::BAD_REQUEST, format!("{why}\n")),
    };
    let Some(entry) = find(ctx, target) else {
        return text(StatusCode::NOT_FOUND, "pod does not exist\n");
    };
    let Some(sandbox) = entry.view.sandboxes.first() else {
        let why = format!("pod not found (\"{}_{}\")\n", target.pod, target.namespace);
        return text(StatusCode::INTERNAL_SERVER_ERROR, why);
    };
    let asked = cri::PortForwardRequest { pod_sandbox_id: sandbox.id.clone(), port };
    hand_on(ctx.runtime.port_forward_url(asked).await, request).await
}

/// SPDY names its ports stream by stream; a plain WebSocket must name them in the query.
fn ports(query: &Query, websocket: bool) -> Result<Vec<i32>, String> {
    if !websocket {
        return Ok(Vec::new());
    }
    let given = query.iter().filter(|(n, _)| n == "port").flat_map(|(_, v)| v.split(','));
    let ports = given
        .map(|p| match p.parse::<u16>() {
            Ok(port) if port > 0 => Ok(i32::from(port)),
            Ok(_) => Err(format!("port {p:?} must be > 0")),
            Err(_) => Err(format!("unable to parse {p:?} as a port")),
        })
        .collect::<Result<Vec<i32>, String>>()?;
    if ports.is_empty() { Err("query parameter \"port\" is required".into()) } else { Ok(ports) }
}

/// Runs a command and answers with its output, both streams together.
pub async fn run(ctx: &Arc<Context>, target: &Target, query: &Query) -> Response<Body> {
    let container_id = match container_id(ctx, target) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    let cmd = query.iter().find(|(n, _)| n == "cmd").map(|(_, v)| v.as_str()).unwrap_or_default();
    let command: Vec<String> = cmd.split(' ').map(str::to_owned).collect();
    match ctx.runtime.exec_sync(&container_id, &command, Duration::ZERO).await {
        Ok(output) => {
            let all: Vec<u8> = [output.stdout, output.stderr].concat();
            if output.exit_code == 0 {
                return Response::new(full(all));
            }
            let why = format!(
                "command '{cmd}' exited with {}: {}",
                output.exit_code,
                String::from_utf8_lossy(&all)
            );
            text(StatusCode::INTERNAL_SERVER_ERROR, why)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn find(ctx: &Context, target: &Target) -> Option<PodEntry> {
    let entry = ctx.pods.by_name(&target.namespace, &target.pod)?;
    target.uid.as_deref().is_none_or(|uid| uid == entry.uid()).then_some(entry)
}

fn container_id(ctx: &Context, target: &Target) -> Result<String, Box<Response<Body>>> {
    let Some(entry) = find(ctx, target) else {
        return Err(Box::new(text(StatusCode::NOT_FOUND, "pod does not exist\n")));
    };
    let running = entry.view.container(&target.container).filter(|c| c.state == ContainerState::Running);
    running.map(|c| c.id.clone()).ok_or_else(|| {
        let why = format!("container not found (\"{}\")\n", target.container);
        Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, why))
    })
}

async fn hand_on(url: crate::runtime::Result<String>, request: Request<Incoming>) -> Response<Body> {
    let url = match url {
        Ok(url) => url,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    };
    match join(&url, request).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "streaming through the runtime");
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n"))
        }
    }
}

async fn join(url: &str, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let uri: Uri = url.parse()?;
    if uri.scheme_str() != Some("http") {
        anyhow::bail!("streaming URL {url} of the container runtime is not plain http");
    }
    let authority = uri.authority().ok_or_else(|| anyhow::anyhow!("streaming URL {url} has no host"))?;
    let addr = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let io = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(addr)).await??;
    io.set_nodelay(true)?;
    tokio::time::timeout(UPGRADE_DEADLINE, daemon::upgrade::forward(io, request, &uri)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Vec<(String, String)> {
        text.split('&').filter_map(|p| p.split_once('=')).map(|(a, b)| (a.into(), b.into())).collect()
    }

    #[test]
    fn wanted_streams() {
        let w = |q| Wanted::from_query(&query(q));
        let all = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
        assert_eq!(w("input=1&output=1&error=1"), Ok(all));
        assert_eq!(w("output=1&error=1&tty=1"), Ok(Wanted { stdout: true, tty: true, ..Default::default() }));
        assert!(w("error=1&tty=1").is_err());
        assert!(w("command=ls").is_err());
    }

    #[test]
    fn ports_of_plain_websockets() {
        assert_eq!(ports(&query("port=80,443&port=1"), true), Ok(vec![80, 443, 1]));
        assert_eq!(ports(&query("port=x"), false), Ok(vec![]));
        for bad in ["", "port=0", "port=x", "port=70000", "port="] {
            assert!(ports(&query(bad), true).is_err(), "{bad}");
        }
    }
}
