//! Handing on: ordinary requests streamed both ways, upgrades joined, logs with their errors made a Status.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use machinery::status::Status;

use super::transport::{Transports, Trust};
use crate::http::{Body, Request, Response, request_body};

/// How much of an error text is read.
const ERROR_TEXT: usize = 50_000;

/// Headers that speak of one connection.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes away what was meant for us: credentials and impersonation.
pub fn without_credentials(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|n| n.as_str().starts_with("impersonate-") || n.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Takes away what is said of one connection only.
pub fn without_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// A client that left out the last slash is sent to where relative links work.
pub fn add_slash(uri: &Uri) -> Response {
    let query = uri.query().map_or_else(String::new, |q| format!("?{q}"));
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(value) = HeaderValue::try_from(format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// An ordinary request to `uri`; redirects of the backend are moved under `prefix`.
pub async fn pass(
    transports: &Transports,
    trust: Trust,
    uri: Uri,
    prefix: &str,
    request: Request,
) -> Result<Response, Status> {
    let (mut parts, body) = request.into_parts();
    without_credentials(&mut parts.headers);
    without_hops(&mut parts.headers);
    parts.headers.remove(header::HOST);
    let mut outgoing = http::Request::new(body);
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = uri.clone();
    *outgoing.headers_mut() = parts.headers;
    let answer = transports.client(trust).request(outgoing).await.map_err(|e| unreachable(&e))?;
    let mut response = answer.map(Body::stream);
    without_hops(response.headers_mut());
    move_location(response.headers_mut(), &uri, prefix);
    Ok(response)
}

fn unreachable(error: &dyn std::error::Error) -> Status {
    Status::service_unavailable(format!("error trying to reach service: {}", chain(error)))
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A redirect within the backend's own host stays behind our prefix.
fn move_location(headers: &mut HeaderMap, backend: &Uri, prefix: &str) {
    let Some(location) = headers.get(header::LOCATION).and_then(|v| v.to_str().ok()) else { return };
    let Some(moved) = moved(location, backend, prefix) else { return };
    if let Ok(value) = HeaderValue::try_from(moved) {
        headers.insert(header::LOCATION, value);
    }
}

fn moved(location: &str, backend: &Uri, prefix: &str) -> Option<String> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{prefix}{location}"));
    }
    let target: Uri = location.parse().ok()?;
    if target.authority().is_none() || target.authority() != backend.authority() {
        return None;
    }
    Some(format!("{prefix}{}", target.path_and_query().map_or("/", |p| p.as_str())))
}

/// An upgrade, joined with the client's connection. A refusal is passed back as it is.
pub async fn upgrade(
    transports: &Transports,
    trust: Trust,
    uri: Uri,
    mut request: Request,
) -> Result<Response, Status> {
    without_credentials(request.headers_mut());
    let io = transports.dial(trust, &uri).await.map_err(|e| dialing(&e))?;
    let answer = daemon::upgrade::forward(io, request, &uri).await.map_err(|e| dialing(&e))?;
    let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !switched && answer.status().as_u16() < 400 {
        let code = answer.status().as_u16();
        return Err(Status::internal(format!("invalid upgrade response: status code {code}")));
    }
    let mut response = answer.map(Body::stream);
    if switched {
        *response.body_mut() = Body::Empty;
    } else {
        without_hops(response.headers_mut());
    }
    Ok(response)
}

/// The refusal when a kubelet cannot be reached.
pub fn dialing(error: &anyhow::Error) -> Status {
    Status::failure("InternalError", format!("error dialing backend: {error:#}"))
}

/// A kubelet's log, streamed as it comes.
pub async fn log(transports: &Transports, trust: Trust, uri: Uri, pod: &str) -> Result<Response, Status> {
    let mut request = http::Request::new(request_body(""));
    *request.uri_mut() = uri.clone();
    let answer =
        transports.client(trust).request(request).await.map_err(|e| {
            Status::failure("InternalError", format!("Get {:?}: {}", uri.to_string(), chain(&e)))
        })?;
    if !answer.status().is_success() {
        return Err(refused(answer, pod).await);
    }
    let mut response = Response::new(Body::stream(answer.into_body()));
    let kind = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn refused(answer: http::Response<hyper::body::Incoming>, pod: &str) -> Status {
    let code = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ERROR_TEXT).collect().await;
    let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned()).unwrap_or_default();
    log_refusal(code, &text, pod)
}

/// A kubelet's refusal in the API's terms.
fn log_refusal(code: u16, text: &str, pod: &str) -> Status {
    match code {
        400 => Status::bad_request(text),
        500 => Status::internal(text),
        _ => {
            let words = match code {
                401 => "the server has asked for the client to provide credentials",
                403 => text,
                404 => "the server could not find the requested resource",
                422 => text,
                503 => "the server is currently unable to handle the request",
                _ => "an error on the server has prevented the request from succeeding",
            };
            let words = if words.is_empty() { "unknown" } else { words };
            let mut status =
                Status::failure(machinery::status::reason_of(code), format!("{words} ( pods/log {pod})"));
            status.code = code;
            status
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_behind_the_prefix() {
        let backend: Uri = "http://10.0.0.1:80/a".parse().unwrap();
        let m = |l: &str| moved(l, &backend, "/p/proxy");
        assert_eq!(m("/login?x=1"), Some("/p/proxy/login?x=1".into()));
        assert_eq!(m("http://10.0.0.1:80/b"), Some("/p/proxy/b".into()));
        assert_eq!(m("http://elsewhere/b"), None);
        assert_eq!(m("//elsewhere/b"), None);
        assert_eq!(m("relative"), None);
    }

    #[test]
    fn credentials_and_hops_do_not_leave() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("impersonate-user", "a"),
            ("x-remote-user", "a"),
            ("connection", "x-own, close"),
            ("x-own", "1"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ] {
            headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        without_credentials(&mut headers);
        without_hops(&mut headers);
        assert_eq!(headers.keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn a_missing_slash_is_added() {
        let response = add_slash(&"/api/v1/nodes/n/proxy?a=b".parse().unwrap());
        assert_eq!(response.status(), 301);
        assert_eq!(response.headers()[header::LOCATION], "/api/v1/nodes/n/proxy/?a=b");
    }

    #[test]
    fn kubelets_refusals() {
        let waiting =
            log_refusal(400, "container \"c\" in pod \"p\" is waiting to start: ContainerCreating", "p");
        assert!(waiting.is("BadRequest") && waiting.message.ends_with("ContainerCreating"));
        let missing = log_refusal(404, "pod not found", "p");
        assert_eq!((missing.code, missing.reason.as_str()), (404, "NotFound"));
        assert_eq!(log_refusal(500, "x", "p").code, 500);
    }
}
