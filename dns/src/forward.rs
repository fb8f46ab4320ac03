//! Questions about the rest of the world, passed on to the resolvers of the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::cache::{Cache, key};
use crate::message::Question;
use crate::metrics::Metrics;

/// One attempt at one resolver. A packet may get lost, so each is asked twice before a question fails.
const ATTEMPT: Duration = Duration::from_secs(1);
const ROUNDS: usize = 2;
/// All attempts together.
const TOTAL: Duration = Duration::from_secs(5);
/// Failures in a row that take a resolver out, and for how long before one question tries it again.
const FAILURES: u32 = 2;
const REST: Duration = Duration::from_secs(2);
/// How long that question waits; the attempt itself goes on without it.
const PATIENCE: Duration = Duration::from_millis(250);
/// Questions under way.
const AT_ONCE: usize = 1000;
/// Resolvers of a resolv.conf that count, as in libc.
const RESOLVERS: usize = 15;
const PAYLOAD: u16 = 1232;

/// Resolvers named in a resolv.conf, without those in `loops` (our own addresses) and without loopback ones: in a pod
/// those would be ourselves.
pub fn resolvers(text: &str, loops: &[IpAddr]) -> Vec<SocketAddr> {
    let words = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    };
    let usable = text.lines().filter_map(words).filter(|ip| !ip.is_loopback() && !loops.contains(ip));
    usable.take(RESOLVERS).map(|ip| SocketAddr::new(ip, 53)).collect()
}

#[derive(Default)]
struct Health {
    failures: u32,
    try_again: Option<Instant>,
}

struct Resolver {
    addr: SocketAddr,
    health: Mutex<Health>,
}

/// What to do with a resolver now.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    Ask,
    /// It was down; somebody should see whether it still is.
    Probe,
    Leave,
}

impl Resolver {
    fn usable(&self, now: Instant) -> Use {
        let mut h = self.health.lock();
        if h.failures < FAILURES {
            return Use::Ask;
        }
        let due = h.try_again.is_none_or(|t| t <= now);
        if due {
            h.try_again = Some(now + REST);
        }
        if due { Use::Probe } else { Use::Leave }
    }

    fn note(&self, worked: bool) {
        let mut h = self.health.lock();
        match worked {
            true => *h = Health::default(),
            false => {
                h.failures = h.failures.saturating_add(1);
                h.try_again = Some(Instant::now() + REST);
            }
        }
    }
}

/// Asks others.
pub struct Forwarder {
    resolvers: Vec<Arc<Resolver>>,
    cache: Cache,
    under_way: Semaphore,
    metrics: Metrics,
}

impl Forwarder {
    /// Asks these, in this order.
    pub fn new(resolvers: Vec<SocketAddr>, metrics: Metrics) -> Arc<Self> {
        let resolvers =
            resolvers.into_iter().map(|addr| Arc::new(Resolver { addr, health: Mutex::default() })).collect();
        Arc::new(Self { resolvers, cache: Cache::default(), under_way: Semaphore::new(AT_ONCE), metrics })
    }

    /// A kept answer.
    pub fn kept(&self, q: &Question) -> Option<Message> {
        let found = self.cache.get(&key(q.query.name(), q.query.query_type(), q.dnssec()), Instant::now());
        self.metrics.cache(found.is_some());
        found
    }

    /// Asks. An answer that cannot be had is a server failure.
    pub async fn ask(&self, q: &Question) -> Message {
        let Ok(_permit) = self.under_way.try_acquire() else { return failure(q) };
        let asked = tokio::time::timeout(TOTAL, self.try_all(q)).await;
        match asked.ok().flatten() {
            Some(message) => {
                let key = key(q.query.name(), q.query.query_type(), q.dnssec());
                self.cache.put(key, &message, Instant::now());
                message
            }
            None => failure(q),
        }
    }

    async fn try_all(&self, q: &Question) -> Option<Message> {
        for round in 0..ROUNDS {
            for resolver in &self.resolvers {
                let answer = match resolver.usable(Instant::now()) {
                    Use::Ask => attempt(resolver, q, &self.metrics).await,
                    Use::Probe if round == 0 => self.probe(resolver, q).await,
                    _ => None,
                };
                if answer.is_some() {
                    return answer;
                }
            }
        }
        None
    }

    /// Asks one that was down. A question never waits long for a resolver that is known to be silent.
    async fn probe(&self, resolver: &Arc<Resolver>, q: &Question) -> Option<Message> {
        let (resolver, q, metrics) = (Arc::clone(resolver), q.clone(), self.metrics.clone());
        let asked = tokio::spawn(async move { attempt(&resolver, &q, &metrics).await });
        tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?
    }
}

async fn attempt(resolver: &Resolver, q: &Question, metrics: &Metrics) -> Option<Message> {
    let answer = tokio::time::timeout(ATTEMPT, exchange(resolver.addr, q)).await;
    let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    resolver.note(answer.is_ok());
    metrics.forwarded(answer.is_ok());
    answer.inspect_err(|error| tracing::debug!(resolver = %resolver.addr, %error, "no answer")).ok()
}

fn failure(q: &Question) -> Message {
    q.response(ResponseCode::ServFail)
}

fn request(q: &Question) -> (u16, Message) {
    let mut m = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    m.metadata.recursion_desired = true;
    m.metadata.checking_disabled = q.unchecked;
    m.add_query(q.query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    edns.set_dnssec_ok(q.dnssec());
    m.set_edns(edns);
    (m.metadata.id, m)
}

/// Asks over UDP from a port of its own, and over TCP when the answer did not fit.
async fn exchange(addr: SocketAddr, q: &Question) -> std::io::Result<Message> {
    let (id, message) = request(q);
    let bytes = message.to_vec().map_err(std::io::Error::other)?;
    let any: IpAddr =
        if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(addr).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; usize::from(PAYLOAD) * 4];
    loop {
        let n = socket.recv(&mut buffer).await?;
        match answer(&buffer[..n], id, &q.query) {
            Some(m) if m.metadata.truncation => return by_tcp(addr, &bytes, id, &q.query).await,
            Some(m) => return Ok(m),
            // Not an answer to this question: somebody guesses, or an old packet
            None => {}
        }
    }
}

async fn by_tcp(addr: SocketAddr, bytes: &[u8], id: u16, query: &Query) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(addr).await?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    answer(&buffer, id, query).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

fn answer(bytes: &[u8], id: u16, query: &Query) -> Option<Message> {
    let m = Message::from_vec(bytes).ok()?;
    let same = |q: &Query| q.name() == query.name() && q.query_type() == query.query_type();
    (m.metadata.id == id && m.queries.first().is_some_and(same)).then_some(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_that_are_not_ourselves() {
        let text = "# comment\nsearch x\nnameserver 10.96.0.10\nnameserver 127.0.0.53\nnameserver  192.0.2.1 \nnameserver 2001:db8::1\nnameserver bad\n";
        let found = resolvers(text, &["10.96.0.10".parse().unwrap()]);
        assert_eq!(found, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
    }

    #[test]
    fn a_dead_resolver_is_left_alone_for_a_while() {
        let r = Resolver { addr: "192.0.2.1:53".parse().unwrap(), health: Mutex::default() };
        let now = Instant::now();
        r.note(false);
        assert_eq!(r.usable(now), Use::Ask);
        r.note(false);
        assert_eq!(r.usable(now), Use::Leave);
        assert_eq!(r.usable(now + REST * 2), Use::Probe, "one may try");
        assert_eq!(r.usable(now + REST * 2), Use::Leave, "but only one");
        r.note(true);
        assert_eq!(r.usable(now), Use::Ask);
    }
}
