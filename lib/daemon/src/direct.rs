//! The shortest way to write many small objects to the API server: requests go straight onto one HTTP/2 connection that is kept for
//! them. There is no task, no queue and no pool for each, and of an answer nothing is read but whether the object was taken. Requests
//! that are made together leave in one write.
//!
//! All else is as with the ordinary client: the identity follows its files, writes are held back by the fence, and a server that names
//! a time to wait is asked again after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong, RecvStream};
use http::{HeaderValue, Method, Request, Response, Version, header};
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::TokioIo;
use kube::core::Status;
use parking_lot::Mutex;
use tower::Service as _;

use crate::client::{
    BoxError, KEEPALIVE, KEEPALIVE_DEADLINE, RETRIES, Shared, asked_to_wait, held_back, join, spread,
};

/// A connection over which nothing was sent this many probes long is closed.
const IDLE: u32 = 3;
/// So many connections in a row may turn out dead before anything is sent.
const FRESH: u32 = 3;
/// Answers that are no success are read so far.
const LONGEST_REFUSAL: usize = 64 << 10;

type Wire = TokioIo<hyper_rustls::MaybeHttpsStream<TokioIo<tokio::net::TcpStream>>>;

/// A handle to write with; cheap to clone.
#[derive(Clone)]
pub struct Direct {
    /// For servers without HTTP/2, and identities that are not ours to show.
    client: kube::Client,
    straight: Option<Arc<Straight>>,
}

/// Over an ordinary client.
impl From<kube::Client> for Direct {
    fn from(client: kube::Client) -> Self {
        Self { client, straight: None }
    }
}

impl Direct {
    pub(crate) fn new(client: kube::Client, shared: Arc<Shared>) -> Self {
        Self {
            client,
            straight: Some(Arc::new(Straight {
                shared,
                line: Arc::default(),
                plain: AtomicBool::new(false),
                opening: tokio::sync::Mutex::new(()),
                opened: AtomicU64::new(0),
            })),
        }
    }

    /// Posts JSON. There is no deadline but the caller's.
    ///
    /// # Errors
    /// As those of the ordinary client: what the API server refuses is its Status, all else leaves open whether it was done.
    pub async fn post(&self, path: &str, body: Bytes) -> kube::Result<()> {
        if let Some(straight) = self.straight.as_ref().filter(|s| !s.plain.load(Ordering::Relaxed))
            && let Some(done) = straight.post(path, &body).await
        {
            return done;
        }
        // Boxed, so that the future of the usual way stays small.
        Box::pin(self.by_client(path, body)).await
    }

    async fn by_client(&self, path: &str, body: Bytes) -> kube::Result<()> {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(body.to_vec()).map_err(kube::Error::HttpError)?;
        self.client.request_text(request).await.map(drop)
    }
}

struct Straight {
    shared: Arc<Shared>,
    line: Arc<Mutex<Option<Line>>>,
    /// The server speaks no HTTP/2.
    plain: AtomicBool,
    /// Held by who opens a connection; the others wait for it.
    opening: tokio::sync::Mutex<()>,
    opened: AtomicU64,
}

/// An open connection.
#[derive(Clone)]
struct Line {
    number: u64,
    /// Of the identity it was made with.
    generation: u64,
    sender: SendRequest<Bytes>,
    /// Something was sent since the last probe.
    used: Arc<AtomicBool>,
}

impl Straight {
    /// `None`: the server speaks no HTTP/2.
    async fn post(&self, path: &str, body: &Bytes) -> Option<kube::Result<()>> {
        for tried in 0.. {
            let answer = match self.once(path, body).await {
                Ok(Some(answer)) => answer,
                Ok(None) => return None,
                Err(error) => return Some(Err(kube::Error::Service(error))),
            };
            match asked_to_wait(&answer).filter(|_| tried < RETRIES) {
                Some(wait) => tokio::time::sleep(spread(wait)).await,
                None => return Some(settle(answer).await),
            }
        }
        None
    }

    async fn once(&self, path: &str, body: &Bytes) -> Result<Option<Response<RecvStream>>, BoxError> {
        let Some(mut line) = self.ready().await? else { return Ok(None) };
        if held_back(self.shared.target.fence.as_ref(), &Method::POST) {
            return Err(anyhow!("not the leader any more").into());
        }
        line.used.store(true, Ordering::Relaxed);
        let (answer, mut stream) = line.sender.send_request(self.request(path)?, false)?;
        stream.send_data(body.clone(), true)?;
        Ok(Some(answer.await?))
    }

    fn request(&self, path: &str) -> Result<Request<()>, BoxError> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = join(&self.shared.target.server, path)?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.shared.identify(headers);
        Ok(request)
    }

    /// A connection that takes a request now. One that is dead is replaced: nothing was sent over it yet.
    async fn ready(&self) -> Result<Option<Line>, BoxError> {
        let mut tries = 0;
        loop {
            let Some(Line { number, generation, sender, used }) = self.line().await? else { return Ok(None) };
            match sender.ready().await {
                Ok(sender) => return Ok(Some(Line { number, generation, sender, used })),
                Err(error) if tries >= FRESH => return Err(error.into()),
                Err(_) => hang_up(&self.line, number),
            }
            tries += 1;
        }
    }

    async fn line(&self) -> Result<Option<Line>, BoxError> {
        let generation = self.shared.pools().0;
        if let Some(line) = self.line.lock().as_ref().filter(|l| l.generation == generation).cloned() {
            return Ok(Some(line));
        }
        Box::pin(self.open(generation)).await
    }

    /// One opens a connection, and the others take it.
    async fn open(&self, generation: u64) -> Result<Option<Line>, BoxError> {
        let _opening = self.opening.lock().await;
        if let Some(line) = self.line.lock().as_ref().filter(|l| l.generation >= generation).cloned() {
            return Ok(Some(line));
        }
        let line = self.connect().await?;
        *self.line.lock() = line.clone();
        Ok(line)
    }

    async fn connect(&self) -> Result<Option<Line>, BoxError> {
        let (generation, pools) = self.shared.pools();
        let stream = pools.connector.clone().call(self.shared.target.server.clone()).await?;
        if !stream.connected().is_negotiated_h2() {
            self.plain.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        let (sender, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let used = Arc::new(AtomicBool::new(false));
        tokio::spawn(drive(connection, number, used.clone(), self.line.clone()));
        Ok(Some(Line { number, generation, sender, used }))
    }
}

/// No new request goes over this connection.
fn hang_up(line: &Mutex<Option<Line>>, number: u64) {
    let mut line = line.lock();
    if line.as_ref().is_some_and(|l| l.number == number) {
        *line = None;
    }
}

/// Moves what is sent and received, until the connection ends, or the server does not answer, or nothing was sent for a while.
async fn drive(
    mut connection: Connection<Wire, Bytes>,
    number: u64,
    used: Arc<AtomicBool>,
    line: Arc<Mutex<Option<Line>>>,
) {
    let pings = connection.ping_pong();
    tokio::select! {
        end = connection => tracing::debug!(?end, "a connection for writing has ended"),
        () = watch_over(pings, &used, || hang_up(&line, number)) => {}
    }
    hang_up(&line, number);
}

async fn watch_over(pings: Option<PingPong>, used: &AtomicBool, retire: impl Fn()) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    let mut idle = 0;
    while idle < IDLE {
        tokio::time::sleep(KEEPALIVE).await;
        if !used.swap(false, Ordering::Relaxed) {
            idle += 1;
            continue;
        }
        idle = 0;
        let answer = tokio::time::timeout(KEEPALIVE_DEADLINE, pings.ping(Ping::opaque())).await;
        if !matches!(answer, Ok(Ok(_))) {
            return tracing::debug!("a connection for writing does not answer");
        }
    }
    // Who holds it already may still use it.
    retire();
    tokio::time::sleep(KEEPALIVE_DEADLINE.max(Duration::from_secs(1))).await;
}

async fn settle(answer: Response<RecvStream>) -> kube::Result<()> {
    let (head, mut body) = answer.into_parts();
    let taken = head.status.is_success();
    let mut text = Vec::new();
    // To its end even if nothing is read of it: a stream that is dropped earlier is reset, which costs both sides more.
    while let Some(chunk) = body.data().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(_) if taken => break,
            Err(error) => return Err(kube::Error::Service(error.into())),
        };
        let _ = body.flow_control().release_capacity(chunk.len());
        if !taken && text.len() < LONGEST_REFUSAL {
            text.extend_from_slice(&chunk);
        }
    }
    if taken { Ok(()) } else { Err(refusal(head.status.as_u16(), &text)) }
}

fn refusal(code: u16, text: &[u8]) -> kube::Error {
    let status = serde_json::from_slice::<Status>(text).unwrap_or_else(|_| {
        let words = String::from_utf8_lossy(text);
        Status::failure(words.trim(), "Failed to parse error data").with_code(code)
    });
    kube::Error::Api(status.boxed())
}
