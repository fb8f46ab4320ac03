//! A session with a process in a container: its streams, multiplexed over one WebSocket connection.
//!
//! The first byte of a message names its channel. The server ends with a Status on the error channel.

use coxctl_kit::{Call, Cluster, Error, Result, Status};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use http::{Method, Request};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Closes the channel named by the next byte (from version 5 of the protocol on).
const CLOSE: u8 = 255;

/// How often the server is asked whether it is still there.
const PING: Duration = Duration::from_secs(5);
/// How long nothing at all may come from it.
const SILENCE: Duration = Duration::from_secs(61);

/// A WebSocket connection.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Where output goes. Writing must not block for long.
pub type Write = Box<dyn FnMut(&[u8]) -> std::io::Result<()> + Send>;

/// The near ends of a session.
pub struct Streams {
    /// What is typed; its end closes the far end's standard input.
    pub stdin: Option<mpsc::Receiver<Vec<u8>>>,
    pub stdout: Write,
    pub stderr: Write,
    /// Sizes of the terminal (columns, rows) as they change.
    pub sizes: Option<mpsc::Receiver<(u16, u16)>>,
}

/// Opens a WebSocket connection with the channel protocols. Second: whether single channels can be closed.
///
/// # Errors
/// What the server said instead of switching protocols.
pub async fn open(cluster: &Cluster, call: &Call) -> Result<(Socket, bool)> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(call.uri())
        .body(Vec::new())
        .map_err(|cause| Error::message(cause.to_string()))?;
    let connection = cluster.client.connect(request).await.map_err(|error| refused(cluster, error))?;
    let closes = connection.supports_stream_close();
    Ok((connection.into_stream(), closes))
}

fn refused(cluster: &Cluster, error: kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => {
            let details = serde_json::to_value(&status.details).unwrap_or_default();
            Error::Api(Box::new(Status {
                code: status.code,
                reason: status.reason,
                message: status.message,
                details,
            }))
        }
        kube::Error::UpgradeConnection(why) => Error::message(format!("unable to upgrade connection: {why}")),
        other => coxctl_kit::connect::connect_error(&cluster.server, &other),
    }
}

/// Moves bytes both ways until the far process has ended.
///
/// # Errors
/// The exit code of a process that failed ([`Error::Code`]), what the server reports, a connection that broke.
pub async fn session(socket: Socket, closes: bool, mut streams: Streams) -> Result<()> {
    let (mut sink, mut messages) = socket.split();
    let mut ping = tokio::time::interval(PING);
    let mut heard = tokio::time::Instant::now();
    let mut status: Vec<u8> = Vec::new();
    loop {
        tokio::select! {
            message = messages.next() => {
                heard = tokio::time::Instant::now();
                match message {
                    Some(Ok(Message::Binary(data))) => receive(&data, &mut streams, &mut status)?,
                    Some(Ok(Message::Close(_))) | None => return ended(&status),
                    Some(Ok(_)) => {}
                    Some(Err(cause)) if status.is_empty() => return Err(Error::message(cause.to_string())),
                    Some(Err(_)) => return ended(&status),
                }
            }
            typed = next(&mut streams.stdin) => stdin(typed, closes, &mut streams, &mut sink).await,
            size = next(&mut streams.sizes) => match size {
                Some(size) => resize(size, &mut sink).await,
                None => streams.sizes = None,
            },
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE {
                    return Err(Error::message("timed out waiting for the server"));
                }
                send(&mut sink, Message::Ping(Bytes::new())).await;
            }
        }
    }
}

/// The next of a channel that may not be there: then never.
async fn next<T>(channel: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match channel {
        Some(channel) => channel.recv().await,
        None => std::future::pending().await,
    }
}

fn receive(data: &[u8], streams: &mut Streams, status: &mut Vec<u8>) -> Result<()> {
    let Some((channel, rest)) = data.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Ok(());
    };
    let written = match *channel {
        STDOUT => (streams.stdout)(rest),
        STDERR => (streams.stderr)(rest),
        ERROR => {
            status.extend_from_slice(rest);
            Ok(())
        }
        _ => Ok(()),
    };
    written.map_err(|cause| Error::message(cause.to_string()))
}

type Sink = SplitSink<Socket, Message>;

/// A connection that can't be written to is noticed when it is read.
async fn send(sink: &mut Sink, message: Message) {
    let _ = sink.send(message).await;
}

async fn stdin(typed: Option<Vec<u8>>, closes: bool, streams: &mut Streams, sink: &mut Sink) {
    match typed {
        Some(mut data) => {
            data.insert(0, STDIN);
            send(sink, Message::Binary(data.into())).await;
        }
        None => {
            streams.stdin = None;
            if closes {
                send(sink, Message::Binary(vec![CLOSE, STDIN].into())).await;
            }
        }
    }
}

async fn resize((columns, rows): (u16, u16), sink: &mut Sink) {
    let mut data = vec![RESIZE];
    data.extend(serde_json::json!({"Width": columns, "Height": rows}).to_string().into_bytes());
    send(sink, Message::Binary(data.into())).await;
}

/// What the last word of the server means.
fn ended(status: &[u8]) -> Result<()> {
    if status.is_empty() {
        return Ok(());
    }
    let Ok(said) = serde_json::from_slice::<Value>(status) else {
        return Err(Error::message(String::from_utf8_lossy(status).trim().to_string()));
    };
    if said["status"] == "Success" {
        return Ok(());
    }
    if said["reason"] != "NonZeroExitCode" {
        return Err(Error::message(said["message"].as_str().unwrap_or_default()));
    }
    let causes = said["details"]["causes"].as_array();
    let code = causes.into_iter().flatten().find(|cause| cause["reason"] == "ExitCode");
    match code.and_then(|cause| cause["message"].as_str()).and_then(|code| code.parse::<i32>().ok()) {
        Some(code) => Err(Error::Code(format!("command terminated with exit code {code}"), code)),
        None => Err(Error::message("error stream protocol error: no ExitCode cause given")),
    }
}

#[cfg(test)]
mod tests {
    use super::ended;

    #[test]
    fn the_last_word_gives_the_exit_code() {
        let said = |status: &str| ended(status.as_bytes()).map_err(|error| error.printed());
        assert_eq!(said(""), Ok(()));
        assert_eq!(said(r#"{"metadata":{},"status":"Success"}"#), Ok(()));
        let failed = r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        assert_eq!(said(failed), Err(("command terminated with exit code 3".into(), 3)));
        let broken =
            r#"{"status":"Failure","reason":"InternalError","message":"Internal error occurred: x"}"#;
        assert_eq!(said(broken), Err(("error: Internal error occurred: x".into(), 1)));
    }
}
