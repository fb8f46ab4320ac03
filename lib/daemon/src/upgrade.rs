//! Handing on a request that switches protocols (SPDY, WebSocket): once the other side has agreed, the two connections
//! are joined and nobody looks at the bytes any more.

use std::convert::Infallible;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::serving::Body;

/// Bytes on their way in one direction of a joined pair.
const BUFFER: usize = 32 << 10;

/// Whether the request asks for another protocol.
pub fn wanted(headers: &HeaderMap) -> bool {
    let lists_upgrade = |v: &http::HeaderValue| {
        v.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")))
    };
    headers.contains_key(header::UPGRADE) && headers.get_all(header::CONNECTION).iter().any(lists_upgrade)
}

/// Whether the request asks for a WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|v| v.to_str().ok());
    wanted(headers) && upgrade.is_some_and(|v| v.eq_ignore_ascii_case("websocket"))
}

/// What a peer made of an upgrade request.
pub enum Answer {
    /// 101: the raw connection, with the answer's headers.
    Switched(hyper::upgrade::Upgraded, HeaderMap),
    /// Anything else.
    Refused(Response<Incoming>),
}

/// Sends an upgrade request over a fresh connection `io`. `uri` is the path and query for the peer; `headers` go as
/// they are, with Host from `uri`'s authority (if it has one).
pub async fn ask<IO>(io: IO, method: http::Method, uri: &Uri, mut headers: HeaderMap) -> Result<Answer>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection.with_upgrades());
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    if let Some(authority) = uri.authority() {
        headers.insert(header::HOST, authority.as_str().parse()?);
    }
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::builder().method(method).uri(path).body(Empty::<Bytes>::new())?;
    *request.headers_mut() = headers;
    let mut response = sender.send_request(request).await.context("upgrade request")?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answer::Refused(response));
    }
    let upgraded = hyper::upgrade::on(&mut response).await.context("upgrade")?;
    Ok(Answer::Switched(upgraded, std::mem::take(response.headers_mut())))
}

/// Passes an upgrade request on to the peer behind `io` and joins both ends if the peer agrees. Its refusal is passed
/// back as it is.
pub async fn forward<IO, B>(io: IO, mut request: Request<B>, uri: &Uri) -> Result<Response<Body>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = hyper::upgrade::on(&mut request);
    let headers = std::mem::take(request.headers_mut());
    match ask(io, request.method().clone(), uri, headers).await? {
        Answer::Refused(response) => Ok(response.map(|b| b.map_err(Into::into).boxed_unsync())),
        Answer::Switched(peer, headers) => {
            tokio::spawn(join(client, peer));
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *response.headers_mut() = headers;
            Ok(response)
        }
    }
}

/// A body of nothing.
pub fn empty() -> Body {
    Empty::<Bytes>::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Copies both ways until both ends have closed, or one is gone.
async fn join(client: OnUpgrade, peer: hyper::upgrade::Upgraded) {
    let client = match client.await {
        Ok(client) => client,
        Err(error) => return tracing::debug!(%error, "client did not upgrade"),
    };
    let (mut a, mut b) = (TokioIo::new(client), TokioIo::new(peer));
    if let Err(error) = tokio::io::copy_bidirectional_with_sizes(&mut a, &mut b, BUFFER, BUFFER).await {
        tracing::debug!(%error, "streaming connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_upgrades() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.append(*name, value.parse().unwrap());
            }
            map
        };
        assert!(wanted(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "SPDY/3.1")])));
        assert!(is_websocket(&headers(&[("connection", "upgrade"), ("upgrade", "WebSocket")])));
        assert!(!is_websocket(&headers(&[("connection", "upgrade"), ("upgrade", "SPDY/3.1")])));
        assert!(!wanted(&headers(&[("upgrade", "h2c")])));
        assert!(!wanted(&headers(&[("connection", "upgrade")])));
    }
}
