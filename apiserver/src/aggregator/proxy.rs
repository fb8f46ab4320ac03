//! Handing a request on to the server that serves its group version.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};

use super::{Aggregator, Remote};
use crate::http::{self as web, Body, Request, Response, request_body};
use crate::proxy::relay;
use crate::request::{Ctx, UserInfo};

/// Most that is read of an answer that is not passed on.
const ANSWER_MAX: usize = 64 << 20;
const REDIRECTED: &str = "the backend attempted to redirect this request, which is not permitted";

/// Who the server itself is to other servers when it asks of its own accord.
fn ourselves() -> UserInfo {
    UserInfo {
        name: "system:kube-aggregator".into(),
        groups: vec!["system:masters".into()],
        ..UserInfo::default()
    }
}

/// Group and version of a request, resource or not: `/apis/GROUP/VERSION[/...]`, `/api/VERSION[/...]`.
fn group_version(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.split('/').filter(|p| !p.is_empty());
    match parts.next()? {
        "api" => Some(("", parts.next()?)),
        "apis" => Some((parts.next()?, parts.next()?)),
        _ => None,
    }
}

/// Who is to serve this path, when it is another server.
pub fn server_of(ctx: &Ctx, path: &str) -> Option<Arc<Remote>> {
    let (group, version) = group_version(path)?;
    ctx.app.aggregator.remote(group, version)
}

/// Serves a request by handing it on. Authentication and authorisation are done here, and once more there.
pub async fn serve(ctx: Ctx, remote: Arc<Remote>, request: Request) -> Response {
    let refuse = |code, text: String| {
        let mut response = web::text(code, format!("{text}\n"));
        let nosniff = HeaderValue::from_static("nosniff");
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        response
    };
    match ctx.app.aggregator.hand_on(&remote, &ctx.user, request).await {
        Ok(response) => response,
        Err(Refusal::Unavailable) => refuse(StatusCode::SERVICE_UNAVAILABLE, "service unavailable".into()),
        Err(Refusal::Unreachable(why)) => refuse(StatusCode::SERVICE_UNAVAILABLE, why),
        Err(Refusal::Broken(why)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, why),
    }
}

/// Why a request could not be handed on.
#[derive(Debug)]
pub enum Refusal {
    /// Its server is known to be away.
    Unavailable,
    /// It did not answer.
    Unreachable(String),
    /// It can't be asked.
    Broken(String),
}

impl Aggregator {
    async fn hand_on(
        &self,
        remote: &Remote,
        user: &UserInfo,
        mut request: Request,
    ) -> Result<Response, Refusal> {
        if !remote.is_available() {
            return Err(Refusal::Unavailable);
        }
        let way = self.way(remote).map_err(Refusal::Broken)?;
        let authority = self.authority(&remote.spec).map_err(|why| {
            tracing::warn!(apiservice = remote.spec.name, why, "cannot resolve the service");
            Refusal::Unavailable
        })?;
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let uri = uri_of(&authority, path).map_err(Refusal::Broken)?;
        relay::without_credentials(request.headers_mut());
        vouch(request.headers_mut(), user).map_err(Refusal::Broken)?;
        let response = match daemon::upgrade::wanted(request.headers()) {
            true => upgrade(way, uri, request).await?,
            false => exchange(way, uri, request).await?,
        };
        Ok(if self.reject_redirects { without_redirect(response) } else { response })
    }

    /// Asks a server something of our own accord, whether or not it is known to be available: code, headers and body.
    pub async fn ask(
        &self,
        remote: &Remote,
        path: &str,
        headers: HeaderMap,
    ) -> Result<(StatusCode, HeaderMap, Bytes), String> {
        let authority = self.authority(&remote.spec)?;
        let request = ours(&authority, path, headers)?;
        let answer = self.way(remote)?.client().request(request).await.map_err(|e| relay::chain(&e))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|e| relay::chain(&*e))?;
        Ok((parts.status, parts.headers, body.to_bytes()))
    }

    /// Asks a server whether it serves its group version, whatever its certificate.
    pub(super) async fn probe(&self, remote: &Remote) -> Result<(), String> {
        let authority = self.authority(&remote.spec)?;
        let path = remote.spec.path();
        let url = format!("https://{authority}{path}");
        let failing = |why: String| format!("failing or missing response from {url}: {why}");
        let request = ours(&authority, &path, HeaderMap::new())?;
        let answer = self.unverified.client().request(request).await;
        let answer = answer.map_err(|e| failing(format!("Get {url:?}: {}", relay::chain(&e))))?;
        match answer.status() {
            code if code.is_success() => Ok(()),
            code => Err(failing(format!("bad status from {url}: {}", code.as_u16()))),
        }
    }
}

fn uri_of(authority: &str, path: &str) -> Result<Uri, String> {
    let made = Uri::builder().scheme("https").authority(authority).path_and_query(path).build();
    made.map_err(|e| format!("invalid location: {e}"))
}

fn ours(authority: &str, path: &str, headers: HeaderMap) -> Result<Request, String> {
    let mut request = http::Request::new(request_body(""));
    *request.uri_mut() = uri_of(authority, path)?;
    *request.headers_mut() = headers;
    vouch(request.headers_mut(), &ourselves())?;
    Ok(request)
}

/// Says in headers on whose behalf we ask; the server believes it by our certificate.
fn vouch(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), String> {
    let value =
        |text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|e| format!("user {text:?}: {e}"));
    headers.insert("x-remote-user", value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert("x-remote-uid", value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append("x-remote-group", value(group)?);
    }
    for (key, all) in &user.extra {
        let name = format!("x-remote-extra-{}", escape(key));
        let name = HeaderName::try_from(name).map_err(|e| format!("extra {key:?}: {e}"))?;
        for one in all {
            headers.append(name.clone(), value(one)?);
        }
    }
    Ok(())
}

/// A key as part of a header's name: what may not stand there, and the percent sign itself, is escaped.
fn escape(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => out.push(char::from(byte)),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
            | b'~' => {
                out.push(char::from(byte));
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

async fn exchange(
    way: &crate::proxy::transport::Way,
    uri: Uri,
    mut request: Request,
) -> Result<Response, Refusal> {
    relay::without_hops(request.headers_mut());
    request.headers_mut().remove(header::HOST);
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_11;
    let unreachable = |text: String| Refusal::Unreachable(format!("error trying to reach service: {text}"));
    let answer = way.client().request(request).await.map_err(|e| unreachable(relay::chain(&e)))?;
    let mut response = answer.map(Body::stream);
    relay::without_hops(response.headers_mut());
    Ok(response)
}

async fn upgrade(
    way: &crate::proxy::transport::Way,
    uri: Uri,
    request: Request,
) -> Result<Response, Refusal> {
    let failed = |e: anyhow::Error| Refusal::Unreachable(format!("error dialing backend: {e:#}"));
    let io = way.dial(&uri).await.map_err(failed)?;
    let answer = daemon::upgrade::forward(io, request, &uri).await.map_err(failed)?;
    let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let mut response = answer.map(Body::stream);
    match switched {
        true => *response.body_mut() = Body::Empty,
        false => relay::without_hops(response.headers_mut()),
    }
    Ok(response)
}

/// A server behind us could send our clients, with their credentials, anywhere.
fn without_redirect(response: Response) -> Response {
    let leads_away = response.status().is_redirection() && response.headers().contains_key(header::LOCATION);
    if leads_away { web::text(StatusCode::BAD_GATEWAY, REDIRECTED) } else { response }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, want) in [
            ("/apis/g/v1", Some(("g", "v1"))),
            ("/apis/g/v1/namespaces/a/pods", Some(("g", "v1"))),
            ("/api/v1/pods", Some(("", "v1"))),
            ("/apis/g", None),
            ("/apis", None),
            ("/healthz/a/b", None),
        ] {
            assert_eq!(group_version(path), want, "{path}");
        }
    }

    #[test]
    fn users_in_headers() {
        let user = UserInfo {
            name: "ann".into(),
            uid: "7".into(),
            groups: vec!["a".into(), "b".into()],
            extra: [("scopes/x%".to_owned(), vec!["1".to_owned(), "2".to_owned()])].into(),
        };
        let mut headers = HeaderMap::new();
        vouch(&mut headers, &user).expect("headers");
        let all: Vec<String> =
            headers.iter().map(|(k, v)| format!("{k}={}", v.to_str().unwrap_or("?"))).collect();
        assert_eq!(
            all,
            [
                "x-remote-user=ann",
                "x-remote-uid=7",
                "x-remote-group=a",
                "x-remote-group=b",
                "x-remote-extra-scopes%2fx%25=1",
                "x-remote-extra-scopes%2fx%25=2",
            ]
        );
        let odd = UserInfo { name: "a\nb".into(), ..UserInfo::default() };
        assert!(vouch(&mut HeaderMap::new(), &odd).is_err());
    }

    #[test]
    fn redirects_end_here() {
        let answer = |code: u16, location: bool| {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::from_u16(code).expect("code");
            if location {
                response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("https://evil"));
            }
            without_redirect(response).status().as_u16()
        };
        assert_eq!((answer(302, true), answer(304, false), answer(201, true)), (502, 304, 201));
    }
}
