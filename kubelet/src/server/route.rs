//! What a path of the kubelet server means. Pure.

use crate::config::KubeletConfiguration;
use http::Method;

/// A container (or a pod) named in a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// namespace
    pub namespace: String,
    /// pod name
    pub pod: String,
    /// pod UID, when the path has one
    pub uid: Option<String>,
    /// container name; empty for port-forward
    pub container: String,
}

/// One thing the server can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the paths
pub enum Route {
    Healthz(Option<String>),
    Pods,
    RunningPods,
    ContainerLogs(Target),
    Exec(Target),
    Attach(Target),
    PortForward(Target),
    Run(Target),
    Summary,
    Metrics,
    MetricsResource,
    MetricsProbes,
    MetricsCadvisor,
    MetricsSlis,
    Configz,
    Logs(String),
    Disabled(&'static str),
    MethodNotAllowed,
    NotFound,
}

/// Reads a request line.
pub fn parse(method: &Method, path: &str, read_only: bool, config: &KubeletConfiguration) -> Route {
    let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(unescape).collect();
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    let route = match words.as_slice() {
        ["healthz"] => Route::Healthz(None),
        ["healthz", check] => Route::Healthz(Some((*check).to_owned())),
        ["pods"] => Route::Pods,
        ["stats"] | ["stats", "summary"] => Route::Summary,
        ["metrics"] => Route::Metrics,
        ["metrics", "resource"] => Route::MetricsResource,
        ["metrics", "probes"] => Route::MetricsProbes,
        ["metrics", "cadvisor"] => Route::MetricsCadvisor,
        ["metrics", "slis"] => Route::MetricsSlis,
        _ if read_only => Route::NotFound,
        _ => debugging(&words, config),
    };
    if allowed(method, &route) { route } else { Route::MethodNotAllowed }
}

fn debugging(words: &[&str], config: &KubeletConfiguration) -> Route {
    let known = match words {
        ["runningpods"] => Route::RunningPods,
        ["containerLogs", ns, pod, container] => Route::ContainerLogs(target(ns, pod, None, container)),
        ["exec", rest @ ..] => container(rest).map_or(Route::NotFound, Route::Exec),
        ["attach", rest @ ..] => container(rest).map_or(Route::NotFound, Route::Attach),
        ["run", rest @ ..] => container(rest).map_or(Route::NotFound, Route::Run),
        ["portForward", ns, pod] => Route::PortForward(target(ns, pod, None, "")),
        ["portForward", ns, pod, uid] => Route::PortForward(target(ns, pod, Some(uid), "")),
        ["configz"] => Route::Configz,
        ["logs", rest @ ..] if config.enable_system_log_handler => Route::Logs(rest.join("/")),
        ["logs", ..] => return Route::Disabled("logs endpoint is disabled."),
        _ => return Route::NotFound,
    };
    if config.enable_debugging_handlers || matches!(known, Route::Configz | Route::NotFound) {
        known
    } else {
        Route::Disabled("Debug endpoints are disabled.")
    }
}

fn container(rest: &[&str]) -> Option<Target> {
    match rest {
        [ns, pod, container] => Some(target(ns, pod, None, container)),
        [ns, pod, uid, container] => Some(target(ns, pod, Some(uid), container)),
        _ => None,
    }
}

fn target(namespace: &str, pod: &str, uid: Option<&&str>, container: &str) -> Target {
    Target {
        namespace: namespace.into(),
        pod: pod.into(),
        uid: uid.map(|u| (*u).to_owned()),
        container: container.into(),
    }
}

fn allowed(method: &Method, route: &Route) -> bool {
    match route {
        Route::Exec(_) | Route::Attach(_) | Route::PortForward(_) => {
            matches!(*method, Method::GET | Method::POST)
        }
        Route::Run(_) => *method == Method::POST,
        Route::NotFound | Route::Disabled(_) => true,
        _ => matches!(*method, Method::GET | Method::HEAD),
    }
}

/// Percent escapes in a path segment; broken ones stay as they are.
pub fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.filter(|_| byte == b'%').and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The pairs of a query string, unescaped, in order.
pub fn query(uri: &http::Uri) -> Vec<(String, String)> {
    let text = uri.query().unwrap_or_default();
    let pair = |p: &str| {
        let (name, value) = p.split_once('=').unwrap_or((p, ""));
        (unescape(&name.replace('+', " ")), unescape(&value.replace('+', " ")))
    };
    text.split('&').filter(|p| !p.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Route {
        parse(&Method::GET, path, false, &KubeletConfiguration::default())
    }

    #[test]
    fn paths() {
        let t = |uid: Option<&str>, c: &str| Target {
            namespace: "ns".into(),
            pod: "p".into(),
            uid: uid.map(Into::into),
            container: c.into(),
        };
        assert_eq!(get("/healthz"), Route::Healthz(None));
        assert_eq!(get("/pods/"), Route::Pods);
        assert_eq!(get("/containerLogs/ns/p/c"), Route::ContainerLogs(t(None, "c")));
        assert_eq!(get("/exec/ns/p/c"), Route::Exec(t(None, "c")));
        assert_eq!(get("/exec/ns/p/u/c"), Route::Exec(t(Some("u"), "c")));
        assert_eq!(get("/exec/ns/p"), Route::NotFound);
        assert_eq!(get("/portForward/ns/p"), Route::PortForward(t(None, "")));
        assert_eq!(get("/run/ns/p/c"), Route::MethodNotAllowed);
        assert_eq!(get("/logs/a/b"), Route::Logs("a/b".into()));
        assert_eq!(get("/what"), Route::NotFound);
        let config = KubeletConfiguration { enable_debugging_handlers: false, ..Default::default() };
        assert!(matches!(parse(&Method::GET, "/exec/a/b/c", false, &config), Route::Disabled(_)));
        assert_eq!(parse(&Method::GET, "/exec/a/b/c", true, &config), Route::NotFound);
    }

    #[test]
    fn queries_are_unescaped() {
        let uri: http::Uri = "/exec?command=sh&command=-c&command=echo+a%2Bb%zz&tty".parse().unwrap();
        let got = query(&uri);
        let values: Vec<&str> = got.iter().map(|(_, v)| v.as_str()).collect();
        assert_eq!(values, ["sh", "-c", "echo a+b%zz", ""]);
    }
}
