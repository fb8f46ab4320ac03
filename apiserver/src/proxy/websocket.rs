//! The server's side of a WebSocket handshake, and the channel protocol's frames.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use machinery::status::Status;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::http::{Body, Response};

/// Streams on channels, with half-close.
pub const V5: &str = "v5.channel.k8s.io";
/// SPDY inside of binary messages.
pub const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Channel numbers.
pub mod channel {
    /// standard input
    pub const STDIN: u8 = 0;
    /// standard output
    pub const STDOUT: u8 = 1;
    /// standard error
    pub const STDERR: u8 = 2;
    /// the final Status
    pub const ERROR: u8 = 3;
    /// size of the terminal
    pub const RESIZE: u8 = 4;
    /// the next byte names a channel that its writer has closed
    pub const CLOSE: u8 = 255;
}

/// Whether the client asks for a WebSocket and lists this subprotocol.
pub fn asks_for(headers: &HeaderMap, protocol: &str) -> bool {
    let listed = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    daemon::upgrade::is_websocket(headers) && listed.flat_map(|v| v.split(',')).any(|p| p.trim() == protocol)
}

/// The 101 that agrees to `protocol`.
pub fn accept(headers: &HeaderMap, protocol: &'static str) -> Result<Response, Status> {
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| version == Some(b"13"));
    let key = key.ok_or_else(|| Status::bad_request("bad WebSocket handshake"))?;
    let accepted = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(header::SEC_WEBSOCKET_ACCEPT, accepted.map_err(Status::internal)?);
    out.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(response)
}

/// What a client's message means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// bytes for standard input
    Stdin(Bytes),
    /// standard input is closed
    StdinClosed,
    /// a terminal size, JSON
    Resize(Bytes),
    /// nothing of use
    Ignored,
}

/// Reads a client's message.
pub fn input(message: Bytes) -> Input {
    match message.first() {
        Some(&channel::STDIN) => Input::Stdin(message.slice(1..)),
        Some(&channel::RESIZE) => Input::Resize(message.slice(1..)),
        Some(&channel::CLOSE) if message.get(1) == Some(&channel::STDIN) => Input::StdinClosed,
        _ => Input::Ignored,
    }
}

/// A message on a channel.
pub fn output(channel: u8, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + data.len());
    message.push(channel);
    message.extend_from_slice(data);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn handshakes() {
        let asked = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
        ]);
        assert!(asks_for(&asked, V5));
        assert!(!asks_for(&asked, TUNNEL));
        let answer = accept(&asked, V5).unwrap();
        // the example of RFC 6455, section 1.3
        assert_eq!(answer.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers()[header::SEC_WEBSOCKET_PROTOCOL], V5);
        assert!(accept(&headers(&[("upgrade", "websocket")]), V5).is_err());
    }

    #[test]
    fn messages() {
        let table: [(&[u8], Input); 7] = [
            (b"\x00ab", Input::Stdin(Bytes::from_static(b"ab"))),
            (b"\x00", Input::Stdin(Bytes::new())),
            (b"\x04{}", Input::Resize(Bytes::from_static(b"{}"))),
            (b"\xff\x00", Input::StdinClosed),
            (b"\xff\x01", Input::Ignored),
            (b"\xff", Input::Ignored),
            (b"", Input::Ignored),
        ];
        for (message, want) in table {
            assert_eq!(input(Bytes::from_static(message)), want, "{message:?}");
        }
        assert_eq!(output(channel::STDOUT, b"x"), b"\x01x");
    }
}
