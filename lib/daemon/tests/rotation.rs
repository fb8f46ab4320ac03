//! Certificates that are replaced while both ends run, in each way that a rotation replaces them.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use daemon::client::{from_kubeconfig, once_identified};
use daemon::serving::{Handler, PeerCert, Serving, text};
use daemon::tls::ServerTls;
use http::{Request, StatusCode};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

struct Authority(rcgen::Issuer<'static, rcgen::KeyPair>, String);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(rcgen::Issuer::new(params, key), pem)
    }

    /// Certificate and key.
    fn sign(&self, common: &str, name: &str) -> (String, String) {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, common);
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Both in one text, as the kubelet keeps them.
    fn combined(&self, common: &str) -> String {
        let (cert, key) = self.sign(common, "client");
        cert + &key
    }
}

/// A server for the name `kubernetes` that answers with the common name of whoever asks.
struct Mirror {
    dir: tempfile::TempDir,
    ca: Authority,
    address: SocketAddr,
}

impl Mirror {
    async fn start() -> Self {
        daemon::init_crypto();
        let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
        let mirror = Self { dir, ca, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        mirror.put("ca.crt", &mirror.ca.1);
        mirror.serving_pair("one");
        let (cert, key, ca) = (mirror.path("tls.crt"), mirror.path("tls.key"), mirror.path("ca.crt"));
        let tls = ServerTls::from_files(&cert, &key, Some(&ca)).unwrap();
        let listener = TcpListener::bind(mirror.address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let who: Handler = Arc::new(|request: Request<_>, _| {
            let peer = request.extensions().get::<PeerCert>().unwrap().0.clone();
            Box::pin(async move { text(StatusCode::OK, peer.map_or("nobody".into(), |c| common_name(&c))) })
        });
        let serving = Serving::new(address, Some(tls)).route("/who", who);
        tokio::spawn(serving.run_on(listener, CancellationToken::new()));
        Self { address, ..mirror }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    fn serving_pair(&self, common: &str) {
        let (cert, key) = self.ca.sign(common, "kubernetes");
        self.put("tls.crt", &cert);
        self.put("tls.key", &key);
    }

    /// As the kubelet does it: a new file, and a link that is switched over to it in one step.
    fn switch(&self, common: &str) {
        self.put(&format!("{common}.pem"), &self.ca.combined(common));
        symlink(format!("{common}.pem"), self.path("link")).unwrap();
        std::fs::rename(self.path("link"), self.path("current.pem")).unwrap();
    }

    fn kubeconfig(&self, user: &str) -> PathBuf {
        let server = format!("https://{}", self.address);
        let text = format!(
            "clusters: [{{name: c, cluster: {{server: '{server}', tls-server-name: kubernetes, certificate-authority: ca.crt}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
        );
        self.put("client.conf", &text);
        self.path("client.conf")
    }

    fn data(&self, common: &str) -> String {
        let (cert, key) = self.ca.sign(common, "client");
        let (cert, key) = (STANDARD.encode(cert), STANDARD.encode(key));
        format!("client-certificate-data: {cert}, client-key-data: {key}")
    }
}

const FILES: &str = "client-certificate: current.pem, client-key: current.pem";

fn common_name(der: &[u8]) -> String {
    let (_, cert) = x509_parser::parse_x509_certificate(der).unwrap();
    let names: Vec<_> = cert.subject().iter_common_name().collect();
    names.last().unwrap().as_str().unwrap().to_owned()
}

/// Who the server takes the client for; nothing when it turns it away.
async fn who(client: &kube::Client) -> String {
    client.request_text(Request::get("/who").body(vec![]).unwrap()).await.unwrap_or_default()
}

/// Asks until the answer is this; files are looked at once a second.
async fn until<F: Future<Output = String>>(wanted: &str, ask: impl Fn() -> F) {
    let reached = async { while ask().await != wanted {} };
    tokio::time::timeout(Duration::from_secs(10), reached).await.unwrap_or_else(|_| panic!("never {wanted}"));
}

#[tokio::test]
async fn a_client_follows_the_kubelets_link() {
    let mirror = Mirror::start().await;
    mirror.switch("first");
    let client = from_kubeconfig(&mirror.kubeconfig(FILES), "test").await.unwrap();
    assert_eq!(who(&client).await, "first");
    mirror.switch("second");
    until("second", || who(&client)).await;
}

#[tokio::test]
async fn a_client_follows_data_in_its_kubeconfig() {
    let mirror = Mirror::start().await;
    let file = mirror.kubeconfig(&mirror.data("first"));
    let client = from_kubeconfig(&file, "test").await.unwrap();
    assert_eq!(who(&client).await, "first");
    mirror.kubeconfig(&mirror.data("second"));
    until("second", || who(&client)).await;
}

#[tokio::test]
async fn a_client_waits_for_its_identity() {
    let mirror = Mirror::start().await;
    let path = mirror.path("client.conf");
    let waiting = tokio::spawn(async move { once_identified(&path, "test").await });
    tokio::task::yield_now().await;
    mirror.kubeconfig(FILES);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    mirror.switch("first");
    let client = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(who(&client).await, "first");
}

#[tokio::test]
async fn a_server_follows_its_certificate_and_its_clients_ca() {
    let mirror = Mirror::start().await;
    let served = || served(mirror.address, &mirror.ca.1);
    assert_eq!(served().await, "one");
    mirror.serving_pair("two");
    until("two", served).await;

    let stranger = Authority::new("other");
    mirror.put("current.pem", &stranger.combined("stranger"));
    let client = from_kubeconfig(&mirror.kubeconfig(FILES), "test").await.unwrap();
    assert_eq!(who(&client).await, "");
    mirror.put("ca.crt", &format!("{}{}", mirror.ca.1, stranger.1));
    until("stranger", || who(&client)).await;
}

async fn served(address: SocketAddr, ca: &str) -> String {
    let roots = daemon::cert::root_store(ca.as_bytes()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("kubernetes").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    common_name(&stream.get_ref().1.peer_certificates().unwrap()[0])
}

#[tokio::test]
async fn a_kubeconfig_that_is_wrong_is_no_reason_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.conf");
    std::fs::write(&path, "current-context: gone\n").unwrap();
    assert!(once_identified(&path, "test").await.is_err());
}
