//! The balancer between real clients and real servers with TLS, which die, come back and fall ill.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use coxswain_balancer::config::Config;
use coxswain_balancer::run::run_on;
use daemon::cert::root_store;
use daemon::tls::ServerTls;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

/// A CA and a certificate for the name `kubernetes`, as files.
fn certificates(dir: &Path) {
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["kubernetes".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let files = [("ca.crt", ca.pem()), ("tls.crt", leaf.pem()), ("tls.key", key.serialize_pem())];
    files.iter().for_each(|(name, pem)| std::fs::write(dir.join(name), pem).unwrap());
}

/// A server that says its own port, until it is killed. `/readyz` answers what it is told to.
struct Server {
    address: SocketAddr,
    ready: Arc<AtomicU16>,
    running: Option<JoinHandle<()>>,
    acceptor: TlsAcceptor,
}

impl Server {
    async fn start(dir: &Path) -> Self {
        let tls = ServerTls::from_files(&dir.join("tls.crt"), &dir.join("tls.key"), None).unwrap();
        let mut server = Self {
            address: "127.0.0.1:0".parse().unwrap(),
            ready: Arc::new(AtomicU16::new(200)),
            running: None,
            acceptor: TlsAcceptor::from(tls.rustls_config()),
        };
        server.revive().await;
        server
    }

    async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (acceptor, ready, port) = (self.acceptor.clone(), self.ready.clone(), self.address.port());
        self.running = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(talk(stream, acceptor.clone(), ready.clone(), port));
            }
        }));
    }

    async fn kill(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
    }

    fn name(&self) -> String {
        self.address.to_string()
    }
}

async fn talk(stream: TcpStream, acceptor: TlsAcceptor, ready: Arc<AtomicU16>, port: u16) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    loop {
        let head = head(&mut stream).await?;
        let code = if head.starts_with("GET /readyz ") { ready.load(Ordering::SeqCst) } else { 200 };
        let body = port.to_string();
        let answer = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
}

async fn head<S: AsyncReadExt + Unpin>(stream: &mut S) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(stream.read_u8().await.ok()? as char);
    }
    Some(text)
}

/// A balancer in front of servers, and a client's view of it.
struct Bench {
    dir: tempfile::TempDir,
    listen: SocketAddr,
    health: SocketAddr,
    token: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
    client: TlsConnector,
}

impl Bench {
    async fn start(dir: tempfile::TempDir, prefer: &str, servers: &[&Server]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        // Given back at once for the balancer to take
        let health = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let config = Config {
            prefer: prefer.to_owned(),
            servers: servers.iter().map(|s| s.name()).collect(),
            ca_file: Some(dir.path().join("ca.crt")),
            health,
            state: dir.path().join("servers.json"),
            ..Config::default()
        };
        let token = CancellationToken::new();
        let file = dir.path().join("balancer.yaml");
        write_config(&file, prefer, servers);
        let running = tokio::spawn(run_on(config, Some(file), listener, token.clone()));
        let roots = root_store(&std::fs::read(dir.path().join("ca.crt")).unwrap()).unwrap();
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { dir, listen, health, token, running, client: TlsConnector::from(Arc::new(tls)) }
    }

    async fn open(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.listen).await?;
        self.client.connect(ServerName::try_from("kubernetes").unwrap(), stream).await
    }

    /// Port of the server that answered.
    async fn ask(&self) -> Option<u16> {
        ask_on(&mut self.open().await.ok()?).await
    }

    async fn shown(&self) -> String {
        let mut stream = TcpStream::connect(self.health).await.unwrap();
        stream.write_all(b"GET /servers HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Waits until so many servers are in this state.
    async fn until(&self, state: &str, count: usize) {
        let wanted = format!("\"state\": \"{state}\"");
        let reached = async {
            while TcpStream::connect(self.health).await.is_err() {}
            while self.shown().await.matches(&wanted).count() != count {}
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        assert!(reached.is_ok(), "not {count} {state}: {}", self.shown().await);
    }
}

async fn ask_on(stream: &mut TlsStream<TcpStream>) -> Option<u16> {
    stream.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.ok()?;
    head(stream).await?;
    let mut body = [0; 5];
    stream.read_exact(&mut body).await.ok()?;
    String::from_utf8_lossy(&body).parse().ok()
}

fn write_config(file: &PathBuf, prefer: &str, servers: &[&Server]) {
    let servers: Vec<String> = servers.iter().map(|s| format!("'{}'", s.name())).collect();
    let partial = file.with_extension("new");
    std::fs::write(&partial, format!("prefer: '{prefer}'\nservers: [{}]\n", servers.join(", "))).unwrap();
    std::fs::rename(partial, file).unwrap();
}

#[tokio::test]
async fn no_request_fails_while_one_server_lives() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let mut servers = [Server::start(dir.path()).await, Server::start(dir.path()).await];
    let bench = Bench::start(dir, "", &[&servers[0], &servers[1]]).await;
    bench.until("healthy", 2).await;
    for round in 0..6 {
        let victim = round % 2;
        let alive = servers[1 - victim].address.port();
        servers[victim].kill().await;
        if round > 3 {
            // Found out by the checks alone
            bench.until("unhealthy", 1).await;
        }
        for _ in 0..50 {
            assert_eq!(bench.ask().await, Some(alive), "round {round}");
        }
        servers[victim].revive().await;
        bench.until("healthy", 2).await;
    }
}

#[tokio::test]
async fn a_watch_moves_from_a_server_that_is_not_ready_and_is_left_alone_after() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let servers = [Server::start(dir.path()).await, Server::start(dir.path()).await];
    let own = servers[0].name();
    let bench = Bench::start(dir, &own, &[&servers[0], &servers[1]]).await;
    bench.until("healthy", 2).await;
    let mut watch = bench.open().await.unwrap();
    assert_eq!(ask_on(&mut watch).await, Some(servers[0].address.port()), "the preferred one");
    servers[0].ready.store(500, Ordering::SeqCst);
    let cut = tokio::time::timeout(Duration::from_secs(20), watch.read_u8()).await;
    assert!(cut.expect("the watch is cut").is_err());
    let mut watch = bench.open().await.unwrap();
    assert_eq!(ask_on(&mut watch).await, Some(servers[1].address.port()));
    servers[0].ready.store(200, Ordering::SeqCst);
    bench.until("healthy", 2).await;
    assert_eq!(bench.ask().await, Some(servers[0].address.port()), "new clients come home");
    assert_eq!(ask_on(&mut watch).await, Some(servers[1].address.port()), "old ones stay");
}

#[tokio::test]
async fn servers_that_are_all_ill_are_used_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let servers = [Server::start(dir.path()).await, Server::start(dir.path()).await];
    servers.iter().for_each(|s| s.ready.store(503, Ordering::SeqCst));
    let bench = Bench::start(dir, "", &[&servers[0], &servers[1]]).await;
    bench.until("unhealthy", 2).await;
    let mut watch = bench.open().await.unwrap();
    assert!(ask_on(&mut watch).await.is_some());
    assert!(bench.shown().await.contains("/readyz answers 503"));
}

#[tokio::test]
async fn a_foreign_certificate_is_no_healthy_server() {
    let (dir, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(dir.path());
    certificates(foreign.path());
    let (stranger, friend) = (Server::start(foreign.path()).await, Server::start(dir.path()).await);
    let bench = Bench::start(dir, &stranger.name(), &[&friend]).await;
    bench.until("unhealthy", 1).await;
    assert_eq!(bench.ask().await, Some(friend.address.port()));
}

#[tokio::test]
async fn the_configuration_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let servers = [Server::start(dir.path()).await, Server::start(dir.path()).await];
    let bench = Bench::start(dir, "", &[&servers[0]]).await;
    bench.until("healthy", 1).await;
    write_config(&bench.dir.path().join("balancer.yaml"), &servers[1].name(), &[&servers[0]]);
    bench.until("healthy", 2).await;
    assert_eq!(bench.ask().await, Some(servers[1].address.port()));
}

#[tokio::test]
async fn it_ends_in_good_order() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let server = Server::start(dir.path()).await;
    let bench = Bench::start(dir, "", &[&server]).await;
    bench.until("healthy", 1).await;
    let mut idle = bench.open().await.unwrap();
    assert!(ask_on(&mut idle).await.is_some());
    bench.token.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), bench.running).await;
    ended.expect("it ends").unwrap().unwrap();
    assert!(idle.read_u8().await.is_err());
    assert!(TcpStream::connect(bench.listen).await.is_err());
}
