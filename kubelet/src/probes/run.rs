//! The four ways to probe: exec, HTTP(S), TCP, gRPC. Also used by lifecycle hooks.

use super::task::ProbeTask;
use crate::runtime::{Runtime, RuntimeError};
use bytes::Bytes;
use daemon::trust::AnyServer;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{ContainerPort, GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Most of a body or output that is kept.
const MAX_OUTPUT: usize = 10 * 1024;
/// Most redirects followed on one host.
const MAX_REDIRECTS: usize = 10;

/// How a probe that could be carried out ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// healthy
    Success,
    /// healthy, with a remark
    Warning(String),
    /// unhealthy, and why
    Failure(String),
}

/// Carries out one probe. `Err` means the probing itself went wrong.
pub async fn probe(task: &ProbeTask, timeout: Duration) -> Result<Outcome, String> {
    let p = &task.probe;
    if let Some(exec) = &p.exec {
        let command: Vec<String> = exec.command.iter().flatten().map(|c| expand(c, &task.env)).collect();
        return exec_probe(&task.runtime, &task.container_id, &command, timeout).await;
    }
    if let Some(get) = &p.http_get {
        let request = HttpTarget::new(get, &task.pod_ip, &task.ports, "kube-probe/1.36")?;
        return Ok(bounded(timeout, http_probe(request)).await);
    }
    if let Some(tcp) = &p.tcp_socket {
        let address = tcp_address(tcp, &task.pod_ip, &task.ports)?;
        return Ok(bounded(timeout, tcp_probe(address)).await);
    }
    if let Some(grpc) = &p.grpc {
        return Ok(bounded(timeout, grpc_probe(grpc, &task.pod_ip)).await);
    }
    Err("missing probe handler".into())
}

fn expand(text: &str, env: &[(String, String)]) -> String {
    crate::pods::env::expand(text, |n| env.iter().rev().find(|(k, _)| k == n).map(|(_, v)| v.clone()))
}

async fn bounded(timeout: Duration, probe: impl Future<Output = Outcome>) -> Outcome {
    match tokio::time::timeout(timeout, probe).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure("context deadline exceeded".into()),
    }
}

async fn exec_probe(
    runtime: &Arc<dyn Runtime>,
    id: &str,
    command: &[String],
    timeout: Duration,
) -> Result<Outcome, String> {
    match runtime.exec_sync(id, command, timeout).await {
        Ok(out) if out.exit_code == 0 => Ok(Outcome::Success),
        Ok(out) => {
            let mut text = out.stdout;
            text.extend_from_slice(&out.stderr);
            text.truncate(MAX_OUTPUT);
            Ok(Outcome::Failure(String::from_utf8_lossy(&text).into_owned()))
        }
        Err(RuntimeError::DeadlineExceeded(_)) => {
            let shown = crate::config::duration::format(timeout);
            Ok(Outcome::Failure(format!(
                "command timed out: {:?} timed out after {shown}",
                command.join(" ")
            )))
        }
        Err(e) => Err(e.to_string()),
    }
}

/// Number of a port given by number or name.
pub fn port_number(port: &IntOrString, ports: &[ContainerPort]) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => *n,
        IntOrString::String(name) => match ports.iter().find(|p| p.name.as_deref() == Some(name)) {
            Some(p) => p.container_port,
            None => name.parse().map_err(|_| format!("strconv.Atoi: parsing \"{name}\": invalid syntax"))?,
        },
    };
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

fn tcp_address(
    tcp: &TCPSocketAction,
    pod_ip: &str,
    ports: &[ContainerPort],
) -> Result<(String, u16), String> {
    let host = tcp.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
    Ok((host.to_owned(), port_number(&tcp.port, ports)?))
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|e| format!("dial tcp {}: connect: {}", authority(host, port), plain(&e)))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// The system's words for an error, without Rust's `(os error N)`.
fn plain(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

async fn tcp_probe((host, port): (String, u16)) -> Outcome {
    match dial(&host, port).await {
        Ok(_) => Outcome::Success,
        Err(e) => Outcome::Failure(e),
    }
}

/// An HTTP request to be made.
#[derive(Clone, Debug)]
pub struct HttpTarget {
    https: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
}

impl HttpTarget {
    /// From a probe's or hook's httpGet; the host defaults to the pod's address.
    pub fn new(
        get: &HTTPGetAction,
        pod_ip: &str,
        ports: &[ContainerPort],
        agent: &str,
    ) -> Result<Self, String> {
        let host = get.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip).to_owned();
        let path = get.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let given: Vec<(String, String)> =
            get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
        let has = |name: &str| given.iter().any(|(k, _)| k.eq_ignore_ascii_case(name));
        let mut headers = Vec::new();
        for (name, value) in [("User-Agent", agent), ("Accept", "*/*")] {
            if !has(name) {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        headers.extend(given.into_iter().filter(|(_, v)| !v.is_empty()));
        let https = get.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https"));
        Ok(Self { https, host, port: port_number(&get.port, ports)?, path, headers })
    }

    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }

    /// Makes the request: status, Location, body (cut).
    pub async fn send(&self) -> Result<(u16, Option<String>, String), String> {
        let failed = |e: String| format!("Get \"{}\": {e}", self.url());
        let stream = dial(&self.host, self.port).await.map_err(failed)?;
        if self.https {
            let tls = tls_connect(stream, &self.host).await.map_err(failed)?;
            self.exchange(tls).await.map_err(failed)
        } else {
            self.exchange(stream).await.map_err(failed)
        }
    }

    async fn exchange<S>(&self, stream: S) -> Result<(u16, Option<String>, String), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let driver = tokio::spawn(connection);
        let result = async {
            let answer = sender.send_request(self.request()?).await.map_err(|_| "EOF".to_owned())?;
            let status = answer.status().as_u16();
            let location = answer.headers().get("location").and_then(|v| v.to_str().ok()).map(str::to_owned);
            Ok((status, location, read_some(answer.into_body()).await))
        }
        .await;
        driver.abort();
        result
    }

    fn request(&self) -> Result<http::Request<Full<Bytes>>, String> {
        let mut request =
            http::Request::builder().method("GET").uri(&self.path).header("Connection", "close");
        let own_host = self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case("host"));
        let host = own_host.map_or_else(|| authority(&self.host, self.port), |(_, v)| v.clone());
        request = request.header("Host", host);
        for (k, v) in self.headers.iter().filter(|(k, _)| !k.eq_ignore_ascii_case("host")) {
            request = request.header(k, v);
        }
        request.body(Full::default()).map_err(|e| e.to_string())
    }
}

async fn read_some(mut body: hyper::body::Incoming) -> String {
    let mut out = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            out.extend_from_slice(data);
        }
        if out.len() >= MAX_OUTPUT {
            out.truncate(MAX_OUTPUT);
            break;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn http_probe(mut target: HttpTarget) -> Outcome {
    for _ in 0..=MAX_REDIRECTS {
        let (status, location, body) = match target.send().await {
            Ok(answer) => answer,
            Err(e) => return Outcome::Failure(e),
        };
        match status {
            300..=399 => match location.and_then(|l| same_host(&target, &l)) {
                Some(next) => target = next,
                None => {
                    return Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"));
                }
            },
            200..=299 => return Outcome::Success,
            code => return Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
        }
    }
    Outcome::Failure(format!("Get \"{}\": stopped after {MAX_REDIRECTS} redirects", target.url()))
}

/// The redirect's target when it stays on the host, else None.
fn same_host(from: &HttpTarget, location: &str) -> Option<HttpTarget> {
    if location.starts_with('/') {
        return Some(HttpTarget { path: location.to_owned(), ..from.clone() });
    }
    let uri: http::Uri = location.parse().ok()?;
    let https = uri.scheme_str()? == "https";
    if uri.host()?.trim_matches(['[', ']']) != from.host {
        return None;
    }
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    Some(HttpTarget { https, port, path, ..from.clone() })
}

/// Probes do not verify: the certificate is for names, the probe knows an address.
async fn tls_connect(
    stream: TcpStream,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    static CONFIG: std::sync::OnceLock<Arc<rustls::ClientConfig>> = std::sync::OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let config = match builder.with_safe_default_protocol_versions() {
            Ok(b) => {
                b.dangerous().with_custom_certificate_verifier(AnyServer::verifier()).with_no_client_auth()
            }
            Err(_) => rustls::ClientConfig::builder()
                .dangerous()
                .with_custom_certificate_verifier(AnyServer::verifier())
                .with_no_client_auth(),
        };
        Arc::new(config)
    });
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    connector.connect(name, stream).await.map_err(|e| e.to_string())
}

async fn grpc_probe(action: &GRPCAction, pod_ip: &str) -> Outcome {
    let port = u16::try_from(action.port).unwrap_or(0);
    match grpc_check(pod_ip, port, action.service.as_deref().unwrap_or_default()).await {
        Ok(1) => Outcome::Success,
        Ok(other) => {
            let name = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]
                .get(other as usize)
                .unwrap_or(&"UNKNOWN");
            Outcome::Failure(format!("service unhealthy (responded with \"{name}\")"))
        }
        Err(e) => Outcome::Failure(e),
    }
}

/// One grpc.health.v1 Check over clear-text HTTP/2; the answer's status number.
async fn grpc_check(host: &str, port: u16, service: &str) -> Result<u64, String> {
    let stream = dial(host, port)
        .await
        .map_err(|e| format!("timeout: failed to connect service \"{}\" : {e}", authority(host, port)))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let mut message = Vec::new();
    if !service.is_empty() {
        prost::encoding::string::encode(1, &service.to_owned(), &mut message);
    }
    let mut frame = vec![0u8];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend_from_slice(&message);
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("http://{}/grpc.health.v1.Health/Check", authority(host, port)))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(Bytes::from(frame)))
        .map_err(|e| e.to_string())?;
    let result = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let at_once = grpc_error(answer.headers());
        let collected = answer.into_body().collect().await.map_err(|e| e.to_string())?;
        let failed = at_once.or_else(|| collected.trailers().and_then(grpc_error));
        match failed {
            Some(e) => Err(e),
            None => Ok(parse_health(&collected.to_bytes())),
        }
    }
    .await;
    driver.abort();
    result
}

fn grpc_error(headers: &http::HeaderMap) -> Option<String> {
    let code = headers.get("grpc-status")?.to_str().ok()?;
    match code {
        "0" => None,
        "12" => Some("server doesn't implement the grpc health protocol (grpc.health.v1.Health)".into()),
        code => Some(format!("health rpc probe failed with status {code}")),
    }
}

/// Field 1 (varint) of the message behind the five bytes of framing; 0 when absent.
fn parse_health(bytes: &[u8]) -> u64 {
    match bytes.get(5..) {
        Some([0x08, value, ..]) => u64::from(*value),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn serve(answers: Vec<&'static str>) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut s, _) = listener.accept().await.unwrap();
                let mut buf = [0u8; 2048];
                let _ = s.read(&mut buf).await;
                let _ = s.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn get(answers: Vec<&'static str>) -> Outcome {
        let port = serve(answers).await;
        let action = HTTPGetAction { port: IntOrString::Int(i32::from(port)), ..Default::default() };
        http_probe(HttpTarget::new(&action, "127.0.0.1", &[], "kube-probe/1.36").unwrap()).await
    }

    #[tokio::test]
    async fn http_outcomes() {
        assert_eq!(get(vec!["HTTP/1.1 204 No Content\r\n\r\n"]).await, Outcome::Success);
        assert_eq!(
            get(vec!["HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"]).await,
            Outcome::Failure("HTTP probe failed with statuscode: 503".into())
        );
        let away = "HTTP/1.1 302 F\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n";
        assert!(matches!(get(vec![away]).await, Outcome::Warning(_)));
        let near = "HTTP/1.1 302 F\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(get(vec![near, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await, Outcome::Success);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let port = {
            let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            l.local_addr().unwrap().port()
        };
        let out = tcp_probe(("127.0.0.1".into(), port)).await;
        assert_eq!(out, Outcome::Failure(format!("dial tcp 127.0.0.1:{port}: connect: connection refused")));
    }

    #[test]
    fn ports_and_health() {
        let ports = [ContainerPort { name: Some("web".into()), container_port: 80, ..Default::default() }];
        assert_eq!(port_number(&IntOrString::String("web".into()), &ports), Ok(80));
        assert!(port_number(&IntOrString::String("x".into()), &ports).is_err());
        assert!(port_number(&IntOrString::Int(70_000), &ports).is_err());
        assert_eq!((parse_health(&[0, 0, 0, 0, 2, 8, 1]), parse_health(&[0; 5])), (1, 0));
    }
}
