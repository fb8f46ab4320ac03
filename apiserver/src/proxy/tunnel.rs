//! port-forward over a WebSocket: its binary messages are the bytes of a SPDY connection with the kubelet.

use std::sync::Arc;

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use machinery::status::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::transport::{Transports, Trust};
use super::{relay, websocket};
use crate::http::{Request, Response};

const BUFFER: usize = 32 << 10;

/// The SPDY protocol's name for port-forward.
const PORT_FORWARD: &str = "portforward.k8s.io";

/// Headers of a SPDY upgrade towards a kubelet.
pub fn spdy_headers(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    headers.insert("x-stream-protocol-version", HeaderValue::from_static(protocol));
    headers
}

/// Connects to the kubelet first, so that its refusal is still an ordinary answer.
pub async fn serve(transports: &Arc<Transports>, uri: Uri, mut request: Request) -> Result<Response, Status> {
    let response = websocket::accept(request.headers(), websocket::TUNNEL)?;
    let io = transports.dial(Trust::Kubelet, &uri).await.map_err(|e| relay::dialing(&e))?;
    let asked = daemon::upgrade::ask(io, Method::POST, &uri, spdy_headers(PORT_FORWARD)).await;
    let kubelet = match asked.map_err(|e| relay::dialing(&e))? {
        daemon::upgrade::Answer::Switched(kubelet, _) => kubelet,
        daemon::upgrade::Answer::Refused(answer) => return Err(refusal(answer).await),
    };
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match client.await {
            Ok(client) => carry(client, kubelet).await,
            Err(error) => tracing::debug!(%error, "client did not upgrade"),
        }
    });
    Ok(response)
}

/// A kubelet's refusal to upgrade, as a Status.
pub async fn refusal(answer: http::Response<hyper::body::Incoming>) -> Status {
    let code = answer.status().as_u16();
    let body = http_body_util::Limited::new(answer.into_body(), 16 << 10).collect().await;
    let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned()).unwrap_or_default();
    if let Ok(status) = serde_json::from_str::<Status>(&text) {
        return status;
    }
    let text = format!("unable to upgrade connection: {text}");
    match code {
        400 => Status::bad_request(text),
        _ => Status::internal(text),
    }
}

async fn carry(client: hyper::upgrade::Upgraded, kubelet: hyper::upgrade::Upgraded) {
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, None).await;
    let (mut sink, mut stream) = socket.split();
    let (mut from, mut to) = tokio::io::split(TokioIo::new(kubelet));
    let inward = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(data) if to.write_all(&data).await.is_err() => return,
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let outward = async {
        let mut buf = BytesMut::new();
        loop {
            buf.reserve(BUFFER);
            match from.read_buf(&mut buf).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if sink.send(Message::Binary(buf.split().freeze())).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
    let _ = sink.send(Message::Close(None)).await;
    let _ = to.shutdown().await;
}
