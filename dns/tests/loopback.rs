//! The server over real sockets on the loopback, with a resolver of the outside that is also ours.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use coxswain_dns::catalog::{Catalog, Endpoint, Form, Port, Service, Slice};
use coxswain_dns::forward::Forwarder;
use coxswain_dns::metrics::Metrics;
use coxswain_dns::resolve::Zone;
use coxswain_dns::server::{Resolver, Sockets, serve};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

fn cluster() -> Catalog {
    let mut c = Catalog::new();
    c.set_namespace("ns", true);
    let port = || vec![Port { name: "http".into(), proto: "tcp", port: 80 }];
    let svc = |form| Some(Service { form, ports: port(), publish: false });
    c.set_service("ns", "web", svc(Form::Cluster(vec!["10.96.0.20".parse().unwrap()])));
    c.set_service("ns", "many", svc(Form::Headless));
    c.set_service("ns", "out", svc(Form::External("example.com".into())));
    let endpoints =
        (0..100).map(|i| Endpoint { addr: IpAddr::from([10, 244, 0, i]), host: None, ready: true });
    let slice = Slice { name: "m".into(), ports: port(), endpoints: endpoints.collect() };
    c.set_slice("ns", "m", Some(("many".into(), slice)));
    c
}

async fn start(upstreams: Vec<SocketAddr>, token: &CancellationToken) -> SocketAddr {
    let metrics = Metrics::new(daemon::metrics::Metrics::new());
    let forwarder = Forwarder::new(upstreams, metrics.clone());
    let zone = Zone::new("cluster.local", 5).unwrap();
    let resolver = Resolver::new(
        zone,
        Arc::new(RwLock::new(cluster())),
        forwarder,
        Arc::new(AtomicBool::new(true)),
        metrics,
    );
    let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let addr = sockets.addr().unwrap();
    tokio::spawn(serve(sockets, resolver, token.clone()));
    addr
}

/// A resolver that knows example.com only, and counts.
async fn outside() -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    lossy(0).await
}

/// The same, deaf to the first few packets.
async fn lossy(lost: usize) -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 2000];
        loop {
            let (n, from) = socket.recv_from(&mut buffer).await.unwrap();
            if counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < lost {
                continue;
            }
            let request = Message::from_vec(&buffer[..n]).unwrap();
            let mut m = Message::response(request.metadata.id, request.metadata.op_code);
            m.add_queries(request.queries.clone());
            let name = request.queries[0].name().clone();
            if name.to_string() == "example.com." {
                m.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
            } else {
                m.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&m.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (addr, count)
}

fn request(name: &str, kind: RecordType, edns: bool) -> Message {
    let mut m = Message::new(7, MessageType::Query, OpCode::Query);
    m.metadata.recursion_desired = true;
    m.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if edns {
        let mut e = Edns::new();
        e.set_max_payload(4096);
        m.set_edns(e);
    }
    m
}

async fn udp(addr: SocketAddr, m: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&m.to_vec().unwrap(), addr).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let n = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.unwrap().unwrap();
    let answer = Message::from_vec(&buffer[..n]).unwrap();
    assert_eq!(answer.metadata.id, m.metadata.id);
    assert_eq!(answer.queries, m.queries);
    answer
}

async fn tcp(stream: &mut TcpStream, m: &Message) -> Message {
    let bytes = m.to_vec().unwrap();
    stream.write_all(&[&(bytes.len() as u16).to_be_bytes(), bytes.as_slice()].concat()).await.unwrap();
    let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_and_tcp() {
    let token = CancellationToken::new();
    let addr = start(vec![], &token).await;
    let m = udp(addr, &request("web.ns.svc.cluster.local.", RecordType::A, false)).await;
    assert_eq!((m.answers.len(), m.metadata.authoritative, m.answers[0].ttl), (1, true, 5));
    let none = udp(addr, &request("nope.ns.svc.cluster.local.", RecordType::A, true)).await;
    assert_eq!((none.metadata.response_code, none.authorities.len()), (ResponseCode::NXDomain, 1));
    assert!(none.edns.is_some());
    let empty = udp(addr, &request("web.ns.svc.cluster.local.", RecordType::AAAA, false)).await;
    assert_eq!((empty.metadata.response_code, empty.authorities.len()), (ResponseCode::NoError, 1));

    let many = request("many.ns.svc.cluster.local.", RecordType::A, false);
    let short = udp(addr, &many).await;
    assert!(short.metadata.truncation && short.answers.len() < 40);
    let mut stream = TcpStream::connect(addr).await.unwrap();
    for _ in 0..2 {
        let whole = tcp(&mut stream, &many).await;
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (100, false));
    }
    let large = udp(addr, &request("many.ns.svc.cluster.local.", RecordType::A, true)).await;
    assert_eq!((large.answers.len(), large.metadata.truncation), (100, false));
    token.cancel();
}

#[tokio::test]
async fn other_names_are_asked_elsewhere_and_kept() {
    let token = CancellationToken::new();
    let (other, count) = outside().await;
    let addr = start(vec![other], &token).await;
    for _ in 0..3 {
        let m = udp(addr, &request("example.com.", RecordType::A, false)).await;
        assert_eq!(
            (m.answers.len(), m.metadata.authoritative, m.metadata.recursion_available),
            (1, false, true)
        );
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
    let alias = udp(addr, &request("out.ns.svc.cluster.local.", RecordType::A, false)).await;
    let kinds: Vec<_> = alias.answers.iter().map(|r| r.record_type()).collect();
    assert_eq!(kinds, [RecordType::CNAME, RecordType::A]);
    let none = udp(addr, &request("nope.example.", RecordType::A, false)).await;
    assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
    token.cancel();
}

#[tokio::test]
async fn without_resolvers_other_names_fail_at_once() {
    let token = CancellationToken::new();
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    for upstreams in [vec![], vec![nobody]] {
        let addr = start(upstreams, &token).await;
        let begin = Instant::now();
        let m = udp(addr, &request("example.com.", RecordType::A, false)).await;
        assert_eq!(m.metadata.response_code, ResponseCode::ServFail);
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
    token.cancel();
}

#[tokio::test]
async fn a_lost_packet_is_sent_again_and_a_silent_resolver_costs_little() {
    let token = CancellationToken::new();
    let (other, count) = lossy(1).await;
    let addr = start(vec![other], &token).await;
    let m = udp(addr, &request("example.com.", RecordType::A, false)).await;
    assert_eq!((m.answers.len(), count.load(std::sync::atomic::Ordering::SeqCst)), (1, 2));
    let (silent, _) = lossy(usize::MAX).await;
    let addr = start(vec![silent], &token).await;
    let fails = async |name: &str| {
        let begin = Instant::now();
        let m = udp(addr, &request(name, RecordType::A, false)).await;
        assert_eq!(m.metadata.response_code, ResponseCode::ServFail);
        begin.elapsed()
    };
    assert!(fails("a.example.").await < Duration::from_secs(4), "found to be silent");
    assert!(fails("b.example.").await < Duration::from_secs(1), "known to be silent");
    token.cancel();
}

/// Not a gate: prints how many questions a second one socket takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate() {
    let token = CancellationToken::new();
    let addr = start(vec![], &token).await;
    let n: usize = std::env::var("QUESTIONS").ok().and_then(|s| s.parse().ok()).unwrap_or(2000);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(addr).await.unwrap();
    let bytes = request("web.ns.svc.cluster.local.", RecordType::A, true).to_vec().unwrap();
    let begin = Instant::now();
    let mut buffer = [0; 2000];
    for _ in 0..n / 20 {
        for _ in 0..20 {
            socket.send(&bytes).await.unwrap();
        }
        for _ in 0..20 {
            let got = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await;
            got.expect("an answer for every question").unwrap();
        }
    }
    println!("{:.0} questions a second", n as f64 / begin.elapsed().as_secs_f64());
    token.cancel();
}
