//! A client's SPDY session over one connection: two tasks (reader, writer) and any number of streams.
//!
//! Queues are bounded. The peers do no flow control, so a stream nobody reads stops the whole connection, which
//! is what TCP would do to a single stream.

use super::frame::{Decoder, Encoder, Frame, Headers};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Frames waiting in either direction, of one stream or of the writer.
const QUEUE: usize = 16;
/// Largest payload put into one data frame.
const CHUNK: usize = 32 << 10;
/// How long the other side may take to accept a stream.
const ACCEPT_DEADLINE: Duration = Duration::from_secs(30);
const PING_PERIOD: Duration = Duration::from_secs(10);
const CANCEL: u32 = 5;

/// A running session. Dropping it closes the connection.
pub struct Session {
    shared: Arc<Shared>,
    frames: mpsc::Sender<Frame>,
    next_id: AtomicU32,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    streams: Mutex<Option<HashMap<u32, Peer>>>,
}

/// The reader's end of a stream.
struct Peer {
    accepted: Option<oneshot::Sender<bool>>,
    data: mpsc::Sender<Bytes>,
}

/// One stream. Dropping it resets it, unless both sides are done.
pub struct Stream {
    /// The stream's id.
    pub id: u32,
    writer: StreamWriter,
    data: mpsc::Receiver<Bytes>,
}

/// The writing half of a stream; cheap to clone.
#[derive(Clone)]
pub struct StreamWriter {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

impl Session {
    /// Starts a session over an upgraded connection; `early` are bytes already read from it.
    pub fn start<IO>(io: IO, early: Bytes) -> Self
    where
        IO: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let shared = Arc::new(Shared { streams: Mutex::new(Some(HashMap::new())) });
        let (frames, queue) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(write_frames(write, queue));
        tasks.spawn(read_all(read, early, shared.clone(), frames.clone()));
        tasks.spawn(keep_alive(frames.clone()));
        Self { shared, frames, next_id: AtomicU32::new(1), _tasks: tasks }
    }

    /// Opens a stream and waits until the other side has accepted it; data sent earlier would be lost.
    pub async fn open(&self, headers: Headers) -> io::Result<Stream> {
        let id = self.next_id.fetch_add(2, Ordering::Relaxed);
        let (accept, accepted) = oneshot::channel();
        let (tx, data) = mpsc::channel(QUEUE);
        self.shared.insert(id, Peer { accepted: Some(accept), data: tx })?;
        let syn =
            Frame::SynStream { id, associated: 0, priority: 0, fin: false, unidirectional: false, headers };
        self.frames.send(syn).await.map_err(|_| gone())?;
        match tokio::time::timeout(ACCEPT_DEADLINE, accepted).await {
            Ok(Ok(true)) => {
                let writer = StreamWriter { id, frames: self.frames.clone() };
                Ok(Stream { id, writer, data })
            }
            Ok(Ok(false)) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "stream refused")),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "stream was not accepted in time")),
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the streaming connection is closed")
}

impl Shared {
    fn insert(&self, id: u32, peer: Peer) -> io::Result<()> {
        let mut streams = self.streams.lock();
        streams.as_mut().ok_or_else(gone)?.insert(id, peer);
        Ok(())
    }

    fn data(&self, id: u32) -> Option<mpsc::Sender<Bytes>> {
        let streams = self.streams.lock();
        streams.as_ref()?.get(&id).map(|p| p.data.clone())
    }

    fn accept(&self, id: u32) {
        let mut streams = self.streams.lock();
        let waiting = streams.as_mut().and_then(|s| s.get_mut(&id)).and_then(|p| p.accepted.take());
        if let Some(waiting) = waiting {
            let _ = waiting.send(true);
        }
    }

    fn end(&self, id: u32) {
        let peer = self.streams.lock().as_mut().and_then(|s| s.remove(&id));
        if let Some(accepted) = peer.and_then(|p| p.accepted) {
            let _ = accepted.send(false);
        }
    }

    fn close(&self) {
        self.streams.lock().take();
    }
}

impl Stream {
    /// Next bytes; None at the other side's end.
    pub async fn read(&mut self) -> Option<Bytes> {
        self.data.recv().await
    }

    /// A handle to write with.
    pub fn writer(&self) -> StreamWriter {
        self.writer.clone()
    }

    /// Reads to the end, at most `limit` bytes.
    pub async fn read_to_end(&mut self, limit: usize) -> Bytes {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.read().await {
            let room = limit.saturating_sub(all.len());
            all.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        }
        all.freeze()
    }
}

impl StreamWriter {
    /// Sends bytes, split into frames.
    pub async fn write(&self, mut data: Bytes) -> io::Result<()> {
        while !data.is_empty() {
            let part = data.split_to(data.len().min(CHUNK));
            self.send(Frame::Data { id: self.id, fin: false, data: part }).await?;
        }
        Ok(())
    }

    /// Tells the other side that nothing more comes.
    pub async fn finish(&self) -> io::Result<()> {
        self.send(Frame::Data { id: self.id, fin: true, data: Bytes::new() }).await
    }

    /// Ends the stream in both directions.
    pub async fn reset(&self) -> io::Result<()> {
        self.send(Frame::RstStream { id: self.id, status: CANCEL }).await
    }

    async fn send(&self, frame: Frame) -> io::Result<()> {
        self.frames.send(frame).await.map_err(|_| gone())
    }
}

async fn write_frames<IO: AsyncWrite>(mut io: WriteHalf<IO>, mut queue: mpsc::Receiver<Frame>) {
    let mut encoder = Encoder::default();
    let mut buf = BytesMut::new();
    while let Some(frame) = queue.recv().await {
        if encoder.encode(&frame, &mut buf).is_err() {
            break;
        }
        while let Ok(more) = queue.try_recv() {
            if encoder.encode(&more, &mut buf).is_err() || buf.len() > 4 * CHUNK {
                break;
            }
        }
        if io.write_all(&buf).await.is_err() || io.flush().await.is_err() {
            break;
        }
        buf.clear();
    }
    let _ = io.shutdown().await;
}

async fn read_all<IO: AsyncRead>(
    mut io: ReadHalf<IO>,
    early: Bytes,
    shared: Arc<Shared>,
    frames: mpsc::Sender<Frame>,
) {
    let mut decoder = Decoder::default();
    let mut buf = BytesMut::from(&early[..]);
    'all: loop {
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(frame)) => deliver(frame, &shared, &frames).await,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "streaming connection broken");
                    break 'all;
                }
            }
        }
        buf.reserve(CHUNK);
        match io.read_buf(&mut buf).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    shared.close();
}

async fn deliver(frame: Frame, shared: &Shared, frames: &mpsc::Sender<Frame>) {
    match frame {
        Frame::Data { id, fin, data } => {
            if let Some(sink) = shared.data(id).filter(|_| !data.is_empty()) {
                // A reader that went away does not care.
                let _ = sink.send(data).await;
            }
            if fin {
                shared.end(id);
            }
        }
        Frame::SynReply { id, fin, .. } => {
            shared.accept(id);
            if fin {
                shared.end(id);
            }
        }
        Frame::RstStream { id, .. } => shared.end(id),
        // Even ids are the server's and want an answer. One that does not fit the queue is dropped: the
        // connection is busy, hence alive.
        Frame::Ping { id } if id % 2 == 0 => {
            let _ = frames.try_send(Frame::Ping { id });
        }
        _ => {}
    }
}

/// Keeps middle boxes from taking a quiet connection for a dead one.
async fn keep_alive(frames: mpsc::Sender<Frame>) {
    let mut id = 1u32;
    loop {
        tokio::time::sleep(PING_PERIOD).await;
        if frames.send(Frame::Ping { id }).await.is_err() {
            return;
        }
        id = id.wrapping_add(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that accepts every stream, echoes its data with the stream's first header value in front, and
    /// refuses streams of type "no".
    async fn echo_server(mut io: tokio::io::DuplexStream) {
        let (mut dec, mut enc) = (Decoder::default(), Encoder::default());
        let (mut buf, mut out) = (BytesMut::new(), BytesMut::new());
        loop {
            while let Some(frame) = dec.decode(&mut buf).unwrap() {
                for answer in answer(frame) {
                    enc.encode(&answer, &mut out).unwrap();
                }
            }
            io.write_all(&out.split()).await.unwrap();
            if io.read_buf(&mut buf).await.unwrap() == 0 {
                return;
            }
        }
    }

    fn answer(frame: Frame) -> Vec<Frame> {
        match frame {
            Frame::SynStream { id, headers, .. } if headers[0].1 == "no" => {
                vec![Frame::RstStream { id, status: 3 }]
            }
            Frame::SynStream { id, headers, .. } => vec![
                Frame::Ping { id: 2 },
                Frame::SynReply { id, fin: false, headers: vec![] },
                Frame::Data { id, fin: false, data: Bytes::from(headers[0].1.clone()) },
            ],
            Frame::Data { id, fin, data } => vec![Frame::Data { id, fin, data }],
            _ => vec![],
        }
    }

    fn kind(value: &str) -> Headers {
        vec![("streamType".to_string(), value.to_string())]
    }

    #[tokio::test]
    async fn streams_carry_bytes_both_ways_and_half_close() {
        let (ours, theirs) = tokio::io::duplex(1000);
        tokio::spawn(echo_server(theirs));
        let session = Session::start(ours, Bytes::new());
        let mut a = session.open(kind("a:")).await.unwrap();
        let mut b = session.open(kind("b:")).await.unwrap();
        assert_eq!((a.id, b.id), (1, 3));
        let big = Bytes::from(vec![7u8; 100_000]);
        a.writer().write(Bytes::from_static(b"one")).await.unwrap();
        a.writer().finish().await.unwrap();
        let writer = b.writer();
        tokio::spawn(async move {
            writer.write(big).await.unwrap();
            writer.finish().await.unwrap();
        });
        assert_eq!(a.read_to_end(100).await, "a:one");
        assert_eq!(b.read_to_end(1 << 20).await.len(), 100_002);
    }

    #[tokio::test]
    async fn a_refused_stream_is_an_error_and_leaves_the_session_usable() {
        let (ours, theirs) = tokio::io::duplex(1000);
        tokio::spawn(echo_server(theirs));
        let session = Session::start(ours, Bytes::new());
        let error = session.open(kind("no")).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(session.open(kind("yes")).await.is_ok());
    }

    #[tokio::test]
    async fn a_lost_connection_ends_all_streams() {
        let (ours, theirs) = tokio::io::duplex(1000);
        let server = tokio::spawn(echo_server(theirs));
        let session = Session::start(ours, Bytes::new());
        let mut a = session.open(kind("")).await.unwrap();
        server.abort();
        assert_eq!(a.read().await, None);
        assert!(session.open(kind("")).await.is_err());
    }
}
