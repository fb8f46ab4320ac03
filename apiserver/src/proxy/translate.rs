//! exec and attach for a client on WebSocket v5: its channels become SPDY streams towards the kubelet.
//!
//! The client's handshake is answered first, as upstream does; whatever goes wrong afterwards is told on the error
//! channel as a Status.

use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Method, Uri};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use machinery::status::Status;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::spdy::session::StreamWriter;
use super::spdy::{Session, Stream};
use super::transport::{Transports, Trust};
use super::websocket::{Input, V5, accept, channel, input, output};
use super::{relay, tunnel};
use crate::http::{Request, Response};
use crate::rest::params::Query;

/// Messages on their way to the client.
const QUEUE: usize = 16;
/// Longest final Status.
const MAX_STATUS: usize = 1 << 20;
/// What kubelets and runtimes speak over SPDY.
const PROTOCOL: &str = "v4.channel.k8s.io";

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Which streams the client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// standard input
    pub stdin: bool,
    /// standard output
    pub stdout: bool,
    /// standard error
    pub stderr: bool,
    /// a terminal, which has no standard error of its own
    pub tty: bool,
}

impl Wanted {
    /// From PodExecOptions or PodAttachOptions.
    pub fn from_query(query: &Query) -> Self {
        let tty = query.flag("tty");
        Self {
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            stderr: query.flag("stderr") && !tty,
            tty,
        }
    }

    /// The stream types to open, the error stream first.
    fn streams(self) -> Vec<&'static str> {
        let all = [
            ("error", true),
            ("stdin", self.stdin),
            ("stdout", self.stdout),
            ("stderr", self.stderr),
            ("resize", self.tty),
        ];
        all.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect()
    }

    /// The channel that tells the client the connection stands.
    fn first_channel(self) -> u8 {
        match (self.stdout, self.stderr) {
            (true, _) => channel::STDOUT,
            (_, true) => channel::STDERR,
            _ => channel::ERROR,
        }
    }
}

/// Answers the handshake; the rest happens in a task.
pub fn serve(
    transports: Arc<Transports>,
    uri: Uri,
    wanted: Wanted,
    mut request: Request,
) -> Result<Response, Status> {
    let response = accept(request.headers(), V5)?;
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(run(client, transports, uri, wanted));
    Ok(response)
}

async fn run(client: OnUpgrade, transports: Arc<Transports>, uri: Uri, wanted: Wanted) {
    let socket = match client.await {
        Ok(client) => WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, None).await,
        Err(error) => return tracing::debug!(%error, "client did not upgrade"),
    };
    let (mut sink, stream) = socket.split();
    let (tx, rx) = mpsc::channel(QUEUE);
    let writing = tokio::spawn(async move {
        write(&mut sink, rx).await;
    });
    let hello = output(wanted.first_channel(), &[]);
    if tx.send(hello).await.is_err() {
        return;
    }
    let inputs = Inputs { stream };
    match open(&transports, &uri, wanted).await {
        Ok(streams) => pump(streams, inputs, &tx).await,
        Err(status) => {
            let _ = tx.send(output(channel::ERROR, &status.to_json())).await;
        }
    }
    drop(tx);
    let _ = writing.await;
}

async fn write<S>(sink: &mut S, mut queue: mpsc::Receiver<Vec<u8>>)
where
    S: SinkExt<Message> + Unpin,
{
    while let Some(message) = queue.recv().await {
        if sink.feed(Message::binary(message)).await.is_err() {
            return;
        }
        while let Ok(more) = queue.try_recv() {
            if sink.feed(Message::binary(more)).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
    // Clients take a close without a code for a broken connection.
    let _ = sink.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await;
}

/// The streams of a session with a kubelet.
struct Streams {
    _session: Session,
    error: Stream,
    stdin: Option<StreamWriter>,
    resize: Option<StreamWriter>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    /// Kept, because dropping the readers would say that nobody listens.
    _readers: Vec<Stream>,
}

async fn open(transports: &Transports, uri: &Uri, wanted: Wanted) -> Result<Streams, Status> {
    let io = transports.dial(Trust::Kubelet, uri).await.map_err(|e| relay::dialing(&e))?;
    let asked = daemon::upgrade::ask(io, Method::POST, uri, tunnel::spdy_headers(PROTOCOL)).await;
    let kubelet = match asked.map_err(|e| relay::dialing(&e))? {
        daemon::upgrade::Answer::Switched(kubelet, _) => kubelet,
        daemon::upgrade::Answer::Refused(answer) => return Err(tunnel::refusal(answer).await),
    };
    let session = Session::start(TokioIo::new(kubelet), Bytes::new());
    streams(session, wanted).await.map_err(|e| Status::internal(format!("opening streams: {e}")))
}

async fn streams(session: Session, wanted: Wanted) -> std::io::Result<Streams> {
    let (mut error, mut stdout, mut stderr) = (None, None, None);
    let (mut stdin, mut resize, mut readers) = (None, None, Vec::new());
    for kind in wanted.streams() {
        let stream = session.open(vec![("streamtype".into(), kind.into())]).await?;
        match kind {
            "error" => error = Some(stream),
            "stdout" => stdout = Some(stream),
            "stderr" => stderr = Some(stream),
            _ => {
                let slot = if kind == "stdin" { &mut stdin } else { &mut resize };
                *slot = Some(stream.writer());
                readers.push(stream);
            }
        }
    }
    let error = error.ok_or_else(|| std::io::Error::other("no error stream"))?;
    // Nothing is ever written to it by the client.
    error.writer().finish().await?;
    Ok(Streams { _session: session, error, stdin, resize, stdout, stderr, _readers: readers })
}

/// Copies until the command has ended or the client is gone.
async fn pump(mut streams: Streams, mut inputs: Inputs, out: &mpsc::Sender<Vec<u8>>) {
    let (stdout, stderr) = (streams.stdout.take(), streams.stderr.take());
    let error = &mut streams.error;
    let outputs = async {
        tokio::join!(copy(stdout, channel::STDOUT, out), copy(stderr, channel::STDERR, out));
        let status = error.read_to_end(MAX_STATUS).await;
        let _ = out.send(output(channel::ERROR, &last_word(&status))).await;
    };
    tokio::select! {
        () = outputs => {}
        () = inputs.run(streams.stdin, streams.resize) => {}
    }
}

/// The Status a kubelet sent; without one the connection broke before the command ended.
fn last_word(status: &[u8]) -> Vec<u8> {
    match status.is_empty() {
        false => status.to_vec(),
        true => Status::internal("the connection to the container was lost").to_json(),
    }
}

async fn copy(stream: Option<Stream>, channel: u8, out: &mpsc::Sender<Vec<u8>>) {
    let Some(mut stream) = stream else { return };
    while let Some(data) = stream.read().await {
        if out.send(output(channel, &data)).await.is_err() {
            return;
        }
    }
}

/// What the client sends.
struct Inputs {
    stream: futures::stream::SplitStream<Socket>,
}

impl Inputs {
    /// Returns when the client is gone.
    async fn run(&mut self, mut stdin: Option<StreamWriter>, resize: Option<StreamWriter>) {
        while let Some(Ok(message)) = self.stream.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => text.into(),
                Message::Close(_) => return,
                _ => continue,
            };
            match (input(data), &stdin, &resize) {
                (Input::Stdin(data), Some(to), _) | (Input::Resize(data), _, Some(to)) => {
                    // A stream the other side has closed swallows what comes late.
                    let _ = to.write(data).await;
                }
                (Input::StdinClosed, Some(to), _) => {
                    let _ = to.finish().await;
                    stdin = None;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_by_options() {
        let table = [
            ("stdout=true&stderr=true", "error stdout stderr", 1),
            ("stdin=true&stdout=true&tty=true", "error stdin stdout resize", 1),
            ("stdin=true&stdout=true&stderr=true&tty=true", "error stdin stdout resize", 1),
            ("stderr=1", "error stderr", 2),
            ("stdin=1", "error stdin", 3),
        ];
        for (query, streams, first) in table {
            let wanted = Wanted::from_query(&Query::parse(query));
            assert_eq!(wanted.streams().join(" "), streams, "{query}");
            assert_eq!(wanted.first_channel(), first, "{query}");
        }
    }

    #[test]
    fn a_missing_status_is_a_failure() {
        assert_eq!(last_word(b"{}"), b"{}");
        let lost: Status = serde_json::from_slice(&last_word(b"")).unwrap();
        assert_eq!(lost.code, 500);
    }
}
