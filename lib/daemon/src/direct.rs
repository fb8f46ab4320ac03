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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Target, over, share};
    use crate::fence::Fence;
    use crate::tls::ServerTls;
    use futures::future::join_all;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::server::TlsStream;

    /// The number of the connection, the path and the body.
    type Seen = Arc<Mutex<Vec<(usize, String, String)>>>;

    const CONFLICT: &str =
        r#"{"kind":"Status","status":"Failure","message":"bound already","reason":"Conflict","code":409}"#;

    /// A server whose answers are told by the path: `/201`, `/409`, `/end` closes the connection after the answer, and `/busy` is
    /// sent away once.
    async fn server(protocol: &'static str) -> (Target, Seen) {
        crate::init_crypto();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            server: format!("https://{}", listener.local_addr().unwrap()).parse().unwrap(),
            ca_pem: None,
            insecure: true,
            server_name: None,
            namespace: "default".into(),
            anonymous: Arc::default(),
            fence: None,
        };
        let mut tls = (*ServerTls::self_signed("localhost").unwrap().rustls_config()).clone();
        tls.alpn_protocols = vec![protocol.into()];
        let (acceptor, seen) = (TlsAcceptor::from(Arc::new(tls)), Seen::default());
        let noted = seen.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, noted) = (acceptor.clone(), noted.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    match protocol {
                        "h2" => drop(serve(stream, number, noted).await),
                        _ => drop(serve_plainly(stream, number, noted).await),
                    }
                });
            }
        });
        (target, seen)
    }

    async fn serve(stream: TlsStream<TcpStream>, number: usize, seen: Seen) -> Result<(), h2::Error> {
        let mut connection = h2::server::handshake(stream).await?;
        while let Some(request) = connection.accept().await {
            let (request, mut respond) = request?;
            let (head, mut body) = request.into_parts();
            let (seen, path) = (seen.clone(), head.uri.path().to_string());
            let ends = path == "/end";
            tokio::spawn(async move {
                let mut text = Vec::new();
                while let Some(Ok(chunk)) = body.data().await {
                    text.extend_from_slice(&chunk);
                }
                let before = seen.lock().iter().filter(|(_, p, _)| *p == path).count();
                let (code, wait, words) = match path.as_str() {
                    "/busy" if before == 0 => (429, Some("0"), ""),
                    "/409" => (409, None, CONFLICT),
                    "/500" => (500, None, "no JSON"),
                    _ => (201, None, "{}"),
                };
                seen.lock().push((number, path, String::from_utf8(text).unwrap()));
                let mut answer = Response::builder().status(code);
                if let Some(wait) = wait {
                    answer = answer.header(header::RETRY_AFTER, wait);
                }
                let mut sending = respond.send_response(answer.body(()).unwrap(), false).unwrap();
                let _ = sending.send_data(Bytes::from_static(words.as_bytes()), true);
            });
            if ends {
                connection.graceful_shutdown();
            }
        }
        Ok(())
    }

    async fn serve_plainly(
        mut stream: TlsStream<TcpStream>,
        number: usize,
        seen: Seen,
    ) -> std::io::Result<()> {
        let mut text = Vec::new();
        while !text.ends_with(b"{}") {
            let mut some = [0; 1024];
            let n = stream.read(&mut some).await?;
            text.extend_from_slice(&some[..n]);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default().to_string();
        seen.lock().push((number, path, "{}".into()));
        stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}").await?;
        stream.flush().await
    }

    fn direct(target: &Target) -> Direct {
        let shared = share(target.clone(), None, None, "test").unwrap();
        Direct::new(over(shared.clone()), shared)
    }

    async fn post(direct: &Direct, path: &str) -> Result<(), String> {
        let call = direct.post(path, Bytes::from_static(b"{}"));
        let done = tokio::time::timeout(Duration::from_secs(30), call).await.expect("an answer");
        done.map_err(|error| match error {
            kube::Error::Api(status) => format!("{} {}", status.code, status.message),
            other => format!("unclear: {other}"),
        })
    }

    #[tokio::test]
    async fn what_is_posted_together_shares_a_connection_and_refusals_are_told() {
        let (target, seen) = server("h2").await;
        let direct = direct(&target);
        let done = join_all(["/a", "/409", "/500", "/b"].map(|path| post(&direct, path))).await;
        assert_eq!(done, [Ok(()), Err("409 bound already".into()), Err("500 no JSON".into()), Ok(())]);
        let mut got = seen.lock().clone();
        got.sort();
        let want = ["/409", "/500", "/a", "/b"].map(|path| (0, path.to_string(), "{}".to_string()));
        assert_eq!(got, want);
    }

    #[tokio::test]
    async fn a_busy_server_is_asked_again() {
        let (target, seen) = server("h2").await;
        assert_eq!(post(&direct(&target), "/busy").await, Ok(()));
        assert_eq!(seen.lock().len(), 2);
    }

    #[tokio::test]
    async fn a_connection_that_ended_is_replaced() {
        let (target, seen) = server("h2").await;
        let direct = direct(&target);
        assert_eq!(post(&direct, "/end").await, Ok(()));
        // Until the news of the end has come the old one may still be tried: then it is not clear what was done.
        while seen.lock().last().is_none_or(|(number, ..)| *number == 0) {
            let _ = post(&direct, "/a").await;
        }
        assert_eq!(post(&direct, "/b").await, Ok(()));
    }

    #[tokio::test]
    async fn a_former_leader_writes_nothing() {
        let (target, seen) = server("h2").await;
        let fence = Fence::default();
        let direct = direct(&target.fenced(&fence));
        assert_eq!(post(&direct, "/a").await, Ok(()));
        fence.close();
        let refused = post(&direct, "/b").await.unwrap_err();
        assert!(refused.contains("not the leader any more"), "{refused}");
        assert_eq!(seen.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_server_without_http2_is_reached_by_the_ordinary_client() {
        let (target, seen) = server("http/1.1").await;
        let direct = direct(&target);
        assert_eq!([post(&direct, "/a").await, post(&direct, "/b").await], [Ok(()), Ok(())]);
        let paths: Vec<String> = seen.lock().iter().map(|(_, path, _)| path.clone()).collect();
        assert_eq!(paths, ["/a", "/b"]);
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let (mut target, _) = server("h2").await;
        target.server = "https://127.0.0.1:1".parse().unwrap();
        assert!(post(&direct(&target), "/a").await.unwrap_err().starts_with("unclear: "));
    }
}
