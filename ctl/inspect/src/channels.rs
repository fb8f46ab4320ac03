//! A session with a process in a container: its streams, multiplexed over one WebSocket connection.
//!
//! The first byte of a message names its channel. The server ends with a Status on the error channel.

use coxctl_kit::{Call, Cluster, Error, Result, Status};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{Method, Request};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Error as Fault, Message};

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
        other => coxctl_kit::connect_error(&cluster.server, &other),
    }
}

/// A connection on which whole messages are read and written.
pub trait Line:
    futures::Stream<Item = Result<Message, Fault>> + futures::Sink<Message, Error = Fault> + Unpin
{
}
impl<T: futures::Stream<Item = Result<Message, Fault>> + futures::Sink<Message, Error = Fault> + Unpin> Line
    for T
{
}

/// Moves bytes both ways until the far process has ended. Reading goes on while a write has to wait, as the far process
/// may read no more before what it has written is taken.
///
/// # Errors
/// The exit code of a process that failed ([`Error::Code`]), what the server reports, a connection that broke.
pub async fn session<S: Line>(socket: S, closes: bool, streams: Streams) -> Result<()> {
    let (sink, messages) = socket.split();
    let Streams { stdin, stdout, stderr, sizes } = streams;
    tokio::select! {
        ended = hear(messages, stdout, stderr) => ended,
        () = speak(sink, stdin, sizes, closes) => Ok(()),
    }
}

/// Takes messages until the last.
async fn hear<S: Line>(mut messages: SplitStream<S>, mut stdout: Write, mut stderr: Write) -> Result<()> {
    let mut status: Vec<u8> = Vec::new();
    loop {
        let Ok(message) = tokio::time::timeout(SILENCE, messages.next()).await else {
            return Err(Error::message("timed out waiting for the server"));
        };
        match message {
            Some(Ok(Message::Binary(data))) => receive(&data, &mut stdout, &mut stderr, &mut status)?,
            Some(Ok(Message::Close(_))) | None => return ended(&status),
            Some(Ok(_)) => {}
            Some(Err(cause)) if status.is_empty() => return Err(Error::message(cause.to_string())),
            Some(Err(_)) => return ended(&status),
        }
    }
}

/// Sends what is typed and how large the terminal is, for ever. That a connection can't be written to any more is heard by
/// the one who reads it.
async fn speak<S: Line>(
    mut sink: SplitSink<S, Message>,
    mut stdin: Option<mpsc::Receiver<Vec<u8>>>,
    mut sizes: Option<mpsc::Receiver<(u16, u16)>>,
    closes: bool,
) {
    let mut ping = tokio::time::interval(PING);
    loop {
        let message = tokio::select! {
            typed = next(&mut stdin) => match typed {
                Some(data) => Some(typed_message(data)),
                None => {
                    stdin = None;
                    closes.then(|| Message::Binary(vec![CLOSE, STDIN].into()))
                }
            },
            size = next(&mut sizes) => match size {
                Some(size) => Some(size_message(size)),
                None => {
                    sizes = None;
                    None
                }
            },
            _ = ping.tick() => Some(Message::Ping(Bytes::new())),
        };
        if let Some(message) = message {
            let _ = sink.send(message).await;
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

fn typed_message(mut data: Vec<u8>) -> Message {
    data.insert(0, STDIN);
    Message::Binary(data.into())
}

fn size_message((columns, rows): (u16, u16)) -> Message {
    let mut data = vec![RESIZE];
    data.extend(serde_json::json!({"Width": columns, "Height": rows}).to_string().into_bytes());
    Message::Binary(data.into())
}

fn receive(data: &[u8], stdout: &mut Write, stderr: &mut Write, status: &mut Vec<u8>) -> Result<()> {
    let Some((channel, rest)) = data.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Ok(());
    };
    let written = match *channel {
        STDOUT => stdout(rest),
        STDERR => stderr(rest),
        ERROR => {
            status.extend_from_slice(rest);
            Ok(())
        }
        _ => Ok(()),
    };
    written.map_err(|cause| Error::message(cause.to_string()))
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
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

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

    async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (near, far) = tokio::io::duplex(4096);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        (near, WebSocketStream::from_raw_socket(far, Role::Server, None).await)
    }

    fn kept(into: &Arc<Mutex<Vec<u8>>>) -> Write {
        let into = into.clone();
        Box::new(move |data| {
            into.lock()
                .map(|mut kept| kept.extend_from_slice(data))
                .map_err(|_| std::io::ErrorKind::Other.into())
        })
    }

    /// Reads messages until one that begins with `CLOSE`, and answers with output and a status.
    async fn serve(mut far: WebSocketStream<DuplexStream>, status: &'static [u8]) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        while let Some(Ok(message)) = far.next().await {
            let Message::Binary(data) = message else { continue };
            heard.push(data.to_vec());
            if data.first() == Some(&CLOSE) {
                break;
            }
        }
        for data in [&b"\x01out"[..], b"\x02err", b"\x01 more", status] {
            let _ = far.send(Message::Binary(data.to_vec().into())).await;
        }
        let _ = far.close(None).await;
        heard
    }

    #[tokio::test]
    async fn a_session_carries_all_streams() {
        let (near, far) = pair().await;
        let far = tokio::spawn(serve(far, b"\x03{\"status\":\"Success\"}"));
        let (out, err) = (Arc::default(), Arc::default());
        let (keys, stdin) = mpsc::channel(4);
        let (window, sizes) = mpsc::channel(4);
        let _ = window.send((80, 24)).await;
        let _ = keys.send(b"typed".to_vec()).await;
        // The end of what is typed is told once the size was taken.
        let end = async {
            window.closed_or_empty().await;
            drop(keys);
        };
        let streams =
            Streams { stdin: Some(stdin), stdout: kept(&out), stderr: kept(&err), sizes: Some(sizes) };
        let (ended, ()) = tokio::join!(session(near, true, streams), end);
        assert!(ended.is_ok());
        let text = |kept: &Arc<Mutex<Vec<u8>>>| {
            kept.lock().map(|kept| String::from_utf8_lossy(&kept).into_owned()).unwrap_or_default()
        };
        assert_eq!((text(&out), text(&err)), ("out more".into(), "err".into()));
        let mut heard = far.await.unwrap_or_default();
        heard.sort();
        assert_eq!(
            heard,
            [b"\0typed".to_vec(), b"\x04{\"Height\":24,\"Width\":80}".to_vec(), vec![CLOSE, STDIN]]
        );
    }

    /// Waits until what was sent was taken.
    trait Taken {
        async fn closed_or_empty(&self);
    }

    impl<T> Taken for mpsc::Sender<T> {
        async fn closed_or_empty(&self) {
            while self.capacity() < self.max_capacity() && !self.is_closed() {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_broken_connection_is_an_error() {
        let (near, far) = pair().await;
        drop(far);
        let nowhere = || -> Write { Box::new(|_| Ok(())) };
        let streams = Streams { stdin: None, stdout: nowhere(), stderr: nowhere(), sizes: None };
        assert!(session(near, true, streams).await.is_err());
    }
}
