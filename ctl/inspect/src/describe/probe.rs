//! Probes of containers, each on one line.

use super::page::Page;
use crate::dig;
use serde_json::Value;

/// Writes the probes a container has.
pub fn all(container: &Value, page: &mut Page) {
    for (title, field) in
        [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
    {
        if dig::has(container, field) {
            page.field(2, title, line(&container[field]));
        }
    }
}

fn line(probe: &Value) -> String {
    let number = |field| dig::int(probe, field);
    let (delay, timeout, period) =
        (number("initialDelaySeconds"), number("timeoutSeconds"), number("periodSeconds"));
    let (success, failure) = (number("successThreshold"), number("failureThreshold"));
    let how =
        format!("delay={delay}s timeout={timeout}s period={period}s #success={success} #failure={failure}");
    format!("{} {how}", action(probe))
}

fn action(probe: &Value) -> String {
    if dig::has(probe, "exec") {
        format!("exec {}", dig::go_list(&dig::texts(probe, "exec.command")))
    } else if dig::has(probe, "httpGet") {
        format!("http-get {}", url(&probe["httpGet"]))
    } else if dig::has(probe, "tcpSocket") {
        let port = dig::int_or_string(&probe["tcpSocket"]["port"]);
        format!("tcp-socket {}:{port}", dig::text(probe, "tcpSocket.host"))
    } else if dig::has(probe, "grpc") {
        format!("grpc <pod>:{} {}", dig::int(probe, "grpc.port"), dig::text(probe, "grpc.service"))
    } else {
        "unknown".into()
    }
}

fn url(get: &Value) -> String {
    let scheme = dig::text(get, "scheme").to_lowercase();
    let host = match dig::text(get, "host") {
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_string(),
    };
    let path = match dig::text(get, "path") {
        path if path.is_empty() || path.starts_with('/') => path.to_string(),
        path => format!("/{path}"),
    };
    format!("{scheme}://{host}:{}{}", dig::int_or_string(&get["port"]), escaped(&path))
}

/// A path as it stands in a URL.
fn escaped(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
