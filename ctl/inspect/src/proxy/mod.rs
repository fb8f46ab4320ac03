//! `proxy`: the API server on a port of this machine, with our credentials.

mod files;
mod filter;

use coxctl_kit::{Cluster, Error, Globals, Result, out};
use filter::{Filter, without_port};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

const PORT: i64 = 8001;
/// Headers that belong to one connection and are not passed on.
const OWN: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Run a proxy to the Kubernetes API server
#[derive(clap::Args, Clone, Debug)]
pub struct Proxy {
    /// The IP address on which to serve on
    #[arg(long, default_value = "127.0.0.1")]
    pub address: String,
    /// The port on which to run the proxy; 0 for a random one
    #[arg(short, long, allow_negative_numbers = true)]
    pub port: Option<i64>,
    /// Unix socket on which to run the proxy
    #[arg(short, long)]
    pub unix_socket: Option<PathBuf>,
    /// Prefix to serve the proxied API under
    #[arg(long, default_value = "/")]
    pub api_prefix: String,
    /// Also serve static files from the given directory under the specified prefix
    #[arg(short, long)]
    pub www: Option<PathBuf>,
    /// Prefix to serve static files under, if static file directory is specified
    #[arg(short = 'P', long, default_value = "/static/")]
    pub www_prefix: String,
    /// Regular expressions for hosts that the proxy should accept
    #[arg(long, default_value = r"^localhost$,^127\.0\.0\.1$,^\[::1\]$")]
    pub accept_hosts: String,
    /// Regular expressions for paths that the proxy should accept
    #[arg(long, default_value = "^.*")]
    pub accept_paths: String,
    /// Regular expressions for paths that the proxy should reject, even accepted ones
    #[arg(long, default_value = "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach")]
    pub reject_paths: String,
    /// Regular expressions for HTTP methods that the proxy should reject
    #[arg(long, default_value = "^$")]
    pub reject_methods: String,
    /// If true, disable request filtering in the proxy. This is dangerous
    #[arg(long)]
    pub disable_filter: bool,
    /// Keep-alive period of a network connection; 0 for none
    #[arg(long, default_value = "0s")]
    pub keepalive: String,
    /// Put the server path of the kubeconfig before each request's
    #[arg(long)]
    pub append_server_path: bool,
}

struct Server {
    cluster: Cluster,
    filter: Option<Filter>,
    api_prefix: String,
    www: Option<(String, PathBuf)>,
}

/// Runs the verb until it is interrupted.
///
/// # Errors
/// When it can't listen, and for patterns that are none.
pub async fn run(args: Proxy, globals: &Globals) -> Result<()> {
    if args.port.is_some() && args.unix_socket.is_some() {
        return Err(Error::message("cannot set --unix-socket and --port at the same time"));
    }
    if let Some(www) = &args.www {
        match std::fs::metadata(www) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => warn(189, &format!("Static file directory {} is not a directory", www.display())),
            Err(cause) => {
                let (www, why) = (www.display(), coxctl_kit::files::os_text(&cause));
                warn(187, &format!("Failed to stat static file directory {www}: stat {www}: {why}"));
            }
        }
    }
    let server = Arc::new(Server {
        filter: if args.disable_filter { None } else { Some(Filter::new(&args)?) },
        cluster: globals.connect().await?,
        api_prefix: slashed(&args.api_prefix),
        www: args.www.clone().map(|www| (slashed(&args.www_prefix), www)),
    });
    if args.disable_filter && args.unix_socket.is_none() {
        warn(177, "Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious");
    }
    let until = daemon::signal::shutdown();
    tokio::select! {
        ended = serve(&args, server) => ended,
        () = until.cancelled() => {
            if let Some(path) = &args.unix_socket {
                let _ = std::fs::remove_file(path);
            }
            Err(Error::Exit(130))
        }
    }
}

/// A warning as kubectl's log has it.
fn warn(line: u16, text: &str) {
    let now = jiff::Zoned::now().strftime("%m%d %H:%M:%S%.6f");
    out::note(&format!("W{now} {:>7} proxy.go:{line}] {text}", std::process::id()));
}

fn slashed(prefix: &str) -> String {
    format!("/{}/", prefix.trim_matches('/')).replace("//", "/")
}

async fn serve(args: &Proxy, server: Arc<Server>) -> Result<()> {
    let failed = |cause: std::io::Error| Error::message(cause.to_string());
    if let Some(path) = &args.unix_socket {
        // A socket somebody left behind is in the way.
        let _ = std::fs::remove_file(path);
        let bound = UnixListener::bind(path);
        let listener = bound.map_err(|cause| {
            let why = coxctl_kit::files::os_text(&cause);
            Error::message(format!("listen unix {}: bind: {why}", path.display()))
        })?;
        out::line(&format!("Starting to serve on {}", path.display()));
        loop {
            let (stream, _) = listener.accept().await.map_err(failed)?;
            tokio::spawn(connection(stream, server.clone()));
        }
    }
    let port = args.port.unwrap_or(PORT);
    let port = u16::try_from(port)
        .map_err(|_| Error::message(format!("listen tcp: address {port}: invalid port")))?;
    let at = (args.address.as_str(), port);
    let listener = TcpListener::bind(at).await.map_err(|cause| in_use(at, &cause))?;
    out::line(&format!("Starting to serve on {}", listener.local_addr().map_err(failed)?));
    loop {
        let (stream, _) = listener.accept().await.map_err(failed)?;
        tokio::spawn(connection(stream, server.clone()));
    }
}

fn in_use((address, port): (&str, u16), cause: &std::io::Error) -> Error {
    let why = cause.raw_os_error().map(|errno| nix::errno::Errno::from_raw(errno).desc().to_lowercase());
    Error::message(format!("listen tcp {address}:{port}: bind: {}", why.unwrap_or_else(|| cause.to_string())))
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, server: Arc<Server>) {
    let service = service_fn(move |request| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!("a connection ended: {error}");
    }
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let host =
            request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let path = request.uri().path();
        let accepted = |filter: &Filter| filter.accepts(request.method().as_str(), without_port(host), path);
        if !self.filter.as_ref().is_none_or(accepted) {
            return plain(StatusCode::FORBIDDEN, "Forbidden\n");
        }
        if let Some(elsewhere) = self.elsewhere(path) {
            let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
            return redirect(&(elsewhere + &query));
        }
        if let Some((prefix, directory)) = &self.www
            && let Some(file) = path.strip_prefix(prefix.as_str())
        {
            return files::static_file(directory, file);
        }
        let Some(inner) = path.strip_prefix(&self.api_prefix) else {
            return plain(StatusCode::NOT_FOUND, "404 page not found\n");
        };
        let target = match request.uri().query() {
            Some(query) => format!("/{inner}?{query}"),
            None => format!("/{inner}"),
        };
        match self.forward(request, &target).await {
            Ok(response) => response,
            Err(error) => {
                out::note(&format!("proxy error: {error}"));
                plain(StatusCode::BAD_GATEWAY, "")
            }
        }
    }

    /// Where a path that isn't written properly leads: without dots, or with the slash of a prefix.
    fn elsewhere(&self, path: &str) -> Option<String> {
        let clean = cleaned(path);
        let with_slash = format!("{path}/");
        let prefix = |prefix: &String| *prefix == with_slash;
        let misses = prefix(&self.api_prefix) || self.www.as_ref().is_some_and(|(www, _)| prefix(www));
        (clean != path).then_some(clean).or(misses.then_some(with_slash))
    }

    async fn forward(&self, mut request: Request<Incoming>, target: &str) -> Result<Response<Body>, String> {
        let upgrade = request.headers().get(header::UPGRADE).cloned();
        let near = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        parts.uri = target.parse::<Uri>().map_err(|error| error.to_string())?;
        parts.headers.remove(header::HOST);
        strip(&mut parts.headers);
        if let Some(upgrade) = upgrade {
            parts.headers.insert(header::UPGRADE, upgrade);
            parts.headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        }
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let outgoing = Request::from_parts(parts, Body::from(body));
        let mut response = self.cluster.client.send(outgoing).await.map_err(|error| error.to_string())?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let far = hyper::upgrade::on(&mut response);
            if let Some(near) = near {
                tokio::spawn(splice(near, far));
            }
            return Ok(response);
        }
        strip(response.headers_mut());
        Ok(response)
    }
}

/// A path without empty parts and dots; a slash at its end stays.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = plain(StatusCode::MOVED_PERMANENTLY, "");
    response.headers_mut().remove(header::CONTENT_TYPE);
    if let Ok(to) = header::HeaderValue::try_from(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// Moves bytes both ways between upgraded connections.
async fn splice(near: hyper::upgrade::OnUpgrade, far: hyper::upgrade::OnUpgrade) {
    let (Ok(near), Ok(far)) = tokio::join!(near, far) else { return };
    let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
    if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
        tracing::debug!("an upgraded connection ended: {error}");
    }
}

fn strip(headers: &mut HeaderMap) {
    OWN.iter().for_each(|name| {
        headers.remove(*name);
    });
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text.as_bytes().to_vec()));
    *response.status_mut() = status;
    let text = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    let nosniff = header::HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        let table = [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("/a/../b", "/b"),
            ("//a/./b//", "/a/b/"),
            ("/..", "/"),
        ];
        for (path, wanted) in table {
            assert_eq!(cleaned(path), wanted, "{path}");
        }
    }

    #[test]
    fn prefixes_have_slashes_around() {
        assert_eq!(
            (slashed("/"), slashed("/k8s"), slashed("k8s/")),
            ("/".into(), "/k8s/".into(), "/k8s/".into())
        );
    }
}
