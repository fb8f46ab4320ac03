//! Speaks DNS over UDP and TCP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData};
use parking_lot::RwLock;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::catalog::Catalog;
use crate::forward::Forwarder;
use crate::message::{Question, Request, read, write, write_code};
use crate::metrics::Metrics;
use crate::resolve::{Answer, Zone, resolve};

/// Names an alias may lead through.
const ALIASES: usize = 8;
/// A TCP connection without a question is closed after this.
const IDLE: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 1000;
const LARGEST: usize = 65_535;

/// What answers questions.
pub struct Resolver {
    /// The cluster's zone.
    pub zone: Zone,
    /// The cluster.
    pub catalog: Arc<RwLock<Catalog>>,
    /// The rest of the world.
    pub forwarder: Arc<Forwarder>,
    /// Whether the catalog is complete.
    pub synced: Arc<AtomicBool>,
    /// Counters.
    pub metrics: Metrics,
    turn: AtomicUsize,
}

/// A response, or what is left to do for one.
enum Step {
    Done(Message),
    /// Ask others about this question; what is known so far is in the message.
    Elsewhere(Option<Message>, Box<Question>),
}

impl Resolver {
    /// Joins the parts.
    pub fn new(
        zone: Zone,
        catalog: Arc<RwLock<Catalog>>,
        forwarder: Arc<Forwarder>,
        synced: Arc<AtomicBool>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self { zone, catalog, forwarder, synced, metrics, turn: AtomicUsize::new(0) })
    }

    fn inside(&self, name: &Name) -> bool {
        self.zone.name.zone_of(name)
    }

    /// As far as it goes without waiting.
    fn step(&self, q: &Question) -> Step {
        if q.query.query_class() != DNSClass::IN {
            return Step::Done(q.response(ResponseCode::Refused));
        }
        let inside = self.inside(q.query.name());
        if inside && !self.synced.load(Ordering::Acquire) {
            return Step::Done(q.response(ResponseCode::ServFail));
        }
        let mut message = q.response(ResponseCode::NoError);
        message.metadata.authoritative = true;
        let mut name = q.query.name().clone();
        for _ in 0..ALIASES {
            let found = resolve(&self.catalog.read(), &self.zone, &name, q.query.query_type());
            let Some(answer) = found else { return elsewhere(message, q, name) };
            let alias = answer.alias.clone();
            self.fill(&mut message, answer);
            match alias {
                None => return Step::Done(message),
                Some(next) => name = next,
            }
        }
        Step::Done(q.response(ResponseCode::ServFail))
    }

    fn fill(&self, message: &mut Message, mut answer: Answer) {
        message.metadata.response_code = answer.code();
        if answer.answers.is_empty() {
            message.authorities.push(self.zone.soa());
        }
        let addresses = answer.answers.iter().all(|r| matches!(r.data, RData::A(_) | RData::AAAA(_)));
        if addresses && answer.answers.len() > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % answer.answers.len();
            answer.answers.rotate_left(turn);
        }
        message.answers.append(&mut answer.answers);
        message.additionals.append(&mut answer.additionals);
    }

    /// Asks others, and joins what they say to what is known.
    async fn elsewhere(&self, known: Option<Message>, q: &Question, asked: &Question) -> Message {
        let found = match self.forwarder.kept(q) {
            Some(kept) => kept,
            None => self.forwarder.ask(q).await,
        };
        let mut message = known.unwrap_or_else(|| asked.response(ResponseCode::NoError));
        message.metadata.authoritative &= !message.answers.is_empty();
        message.metadata.response_code = found.metadata.response_code;
        message.metadata.authentic_data = found.metadata.authentic_data && message.answers.is_empty();
        message.answers.extend(found.answers);
        message.authorities.extend(found.authorities);
        message.additionals.extend(found.additionals);
        message
    }

    /// The response to a question.
    pub async fn respond(&self, q: &Question) -> Message {
        match self.step(q) {
            Step::Done(m) => m,
            Step::Elsewhere(known, other) => self.elsewhere(known, &other, q).await,
        }
    }

    fn count(&self, q: &Question, code: ResponseCode, tcp: bool, since: Instant) {
        let inside = self.inside(q.query.name());
        self.metrics.asked(tcp, q.query.query_type(), inside);
        self.metrics.answered(code, inside, since.elapsed().as_secs_f64());
    }
}

fn elsewhere(message: Message, q: &Question, name: Name) -> Step {
    let known = Some(message).filter(|m| !m.answers.is_empty());
    let mut other = q.clone();
    other.query.set_name(name);
    Step::Elsewhere(known, Box::new(other))
}

/// Sockets and listener for one address. `workers` sockets share the UDP port.
pub struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds. Port 0 takes any, the same for UDP and TCP.
    pub fn bind(addr: SocketAddr, workers: usize) -> Result<Self> {
        let tcp =
            bind(addr, Type::STREAM, Protocol::TCP).with_context(|| format!("listen on {addr}, TCP"))?;
        tcp.listen(1024)?;
        let tcp = TcpListener::from_std(tcp.into())?;
        let addr = tcp.local_addr()?;
        let one = |_| -> Result<UdpSocket> {
            let socket =
                bind(addr, Type::DGRAM, Protocol::UDP).with_context(|| format!("listen on {addr}, UDP"))?;
            Ok(UdpSocket::from_std(socket.into())?)
        };
        let udp = (0..workers.max(1)).map(one).collect::<Result<_>>()?;
        Ok(Self { udp, tcp })
    }

    /// Address bound.
    pub fn addr(&self) -> Result<SocketAddr> {
        Ok(self.tcp.local_addr()?)
    }
}

fn bind(addr: SocketAddr, kind: Type, protocol: Protocol) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if kind == Type::DGRAM {
        socket.set_reuse_port(true)?;
        let _ = socket.set_recv_buffer_size(4 << 20);
    } else {
        socket.set_reuse_address(true)?;
    }
    if addr.is_ipv6() && addr.ip() == IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Answers until cancelled.
pub async fn serve(sockets: Sockets, resolver: Arc<Resolver>, token: CancellationToken) {
    let mut tasks = tokio::task::JoinSet::new();
    for socket in sockets.udp {
        tasks.spawn(token.clone().run_until_cancelled_owned(udp(Arc::new(socket), resolver.clone())));
    }
    tasks.spawn(token.clone().run_until_cancelled_owned(tcp(sockets.tcp, resolver, token.clone())));
    while tasks.join_next().await.is_some() {}
}

async fn udp(socket: Arc<UdpSocket>, resolver: Arc<Resolver>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (n, from) = match socket.recv_from(&mut buffer).await {
            Ok(got) => got,
            // Connected-refused reports of clients that went; nothing to do
            Err(error) => {
                tracing::debug!(%error, "receiving");
                continue;
            }
        };
        match read(&buffer[..n]) {
            Request::Question(q) => question(&socket, &resolver, from, *q).await,
            Request::Refused(id, op, code) => send(&socket, from, write_code(id, op, code)).await,
            Request::Ignored => {}
        }
    }
}

/// What is known is answered here; what must be asked for goes to a task of its own.
async fn question(socket: &Arc<UdpSocket>, resolver: &Arc<Resolver>, from: SocketAddr, q: Question) {
    let since = Instant::now();
    match resolver.step(&q) {
        Step::Done(m) => {
            resolver.count(&q, m.metadata.response_code, false, since);
            send(socket, from, write(m, q.room())).await;
        }
        Step::Elsewhere(known, other) => {
            let (socket, resolver) = (socket.clone(), resolver.clone());
            tokio::spawn(async move {
                let m = resolver.elsewhere(known, &other, &q).await;
                resolver.count(&q, m.metadata.response_code, false, since);
                send(&socket, from, write(m, q.room())).await;
            });
        }
    }
}

async fn send(socket: &UdpSocket, to: SocketAddr, bytes: Option<Vec<u8>>) {
    if let Some(bytes) = bytes
        && let Err(error) = socket.send_to(&bytes, to).await
    {
        tracing::debug!(%to, %error, "sending");
    }
}

async fn tcp(listener: TcpListener, resolver: Arc<Resolver>, token: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (resolver, token) = (resolver.clone(), token.clone());
                tokio::spawn(async move {
                    let ended = token.run_until_cancelled(connection(stream, resolver)).await;
                    tracing::trace!(?ended, "connection closed");
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(mut stream: TcpStream, resolver: Arc<Resolver>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
        let mut bytes = vec![0; length.into()];
        tokio::time::timeout(IDLE, stream.read_exact(&mut bytes)).await??;
        let since = Instant::now();
        let response = match read(&bytes) {
            Request::Question(q) => {
                let m = resolver.respond(&q).await;
                resolver.count(&q, m.metadata.response_code, true, since);
                write(m, LARGEST)
            }
            Request::Refused(id, op, code) => write_code(id, op, code),
            Request::Ignored => return Ok(()),
        };
        let Some(bytes) = response else { return Ok(()) };
        let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
        let framed = [&length.to_be_bytes(), bytes.as_slice()].concat();
        tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
