//! Connections to kubelets (mutual TLS) and to pods and endpoints (whose certificates nobody vouches for).

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use daemon::trust::AnyServer;
use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use machinery::status::Status;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::Config;
use crate::http::RequestBody;

const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(90);

/// Who the other side has to be, and who we are to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A kubelet: our client certificate, its serving certificate as configured.
    Kubelet,
    /// A kubelet whose serving certificate the client said not to check.
    KubeletUnverified,
    /// A pod or endpoint: no certificate of ours, any of theirs.
    Anyone,
}

/// A client that keeps connections.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, RequestBody>;

/// The three ways to connect.
pub struct Transports {
    kubelet: Way,
    kubelet_unverified: Way,
    anyone: Way,
}

/// One way to connect: who we are, whom we believe, under which name.
pub struct Way {
    tls: Arc<ClientConfig>,
    client: HttpClient,
    name: Option<ServerName<'static>>,
}

/// Whose word on a server's certificate counts.
pub enum Roots<'a> {
    /// Nobody's: any certificate will do.
    Any,
    /// These CAs'.
    Pem(&'a [u8]),
}

/// A connection of either kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The transports of this process, made at first use: its flags do not change while it runs.
pub fn of(config: &Config) -> Result<Arc<Transports>, Status> {
    static MADE: OnceLock<Arc<Transports>> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let made =
        Transports::new(config).map_err(|e| Status::internal(format!("connecting to kubelets: {e:#}")))?;
    Ok(MADE.get_or_init(|| Arc::new(made)).clone())
}

impl Transports {
    /// Reads the files named by the flags.
    pub fn new(config: &Config) -> Result<Self> {
        let identity = match (&config.kubelet_client_certificate, &config.kubelet_client_key) {
            (Some(cert), Some(key)) => Some(Arc::new(Identity::new(cert, key)?)),
            _ => None,
        };
        let ca = config.kubelet_certificate_authority.as_deref();
        Ok(Self {
            kubelet: Way::trusting(ca, identity.clone())?,
            kubelet_unverified: Way::trusting(None, identity)?,
            anyone: Way::trusting(None, None)?,
        })
    }

    fn way(&self, trust: Trust) -> &Way {
        match trust {
            Trust::Kubelet => &self.kubelet,
            Trust::KubeletUnverified => &self.kubelet_unverified,
            Trust::Anyone => &self.anyone,
        }
    }

    /// The client for ordinary requests.
    pub fn client(&self, trust: Trust) -> &HttpClient {
        &self.way(trust).client
    }

    /// A fresh connection for an upgrade.
    pub async fn dial(&self, trust: Trust, uri: &Uri) -> Result<Box<dyn Io>> {
        self.way(trust).dial(uri).await
    }
}

impl Way {
    fn trusting(ca: Option<&Path>, identity: Option<Arc<Identity>>) -> Result<Self> {
        match ca {
            Some(path) => {
                let pem = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
                Self::new(Roots::Pem(&pem), identity, None)
            }
            // Kubelets make their own certificates when the cluster has no serving signer in use, and upstream does
            // not check them either unless it is given a CA
            None => Self::new(Roots::Any, identity, None),
        }
    }

    /// A way to servers whose certificate is for `name`; without one it has to be for the host in the URL.
    pub fn new(
        roots: Roots<'_>,
        identity: Option<Arc<Identity>>,
        name: Option<ServerName<'static>>,
    ) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match roots {
            Roots::Pem(pem) => builder.with_root_certificates(daemon::cert::root_store(pem)?),
            Roots::Any => builder.dangerous().with_custom_certificate_verifier(AnyServer::verifier()),
        };
        let config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity),
            None => builder.with_no_client_auth(),
        };
        let client = client(config.clone(), name.clone());
        let mut tls = config;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(tls), client, name })
    }

    /// The client for ordinary requests.
    pub fn client(&self) -> &HttpClient {
        &self.client
    }

    /// A fresh connection for an upgrade.
    pub async fn dial(&self, uri: &Uri) -> Result<Box<dyn Io>> {
        let host = uri.host().context("no host")?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let connecting = TcpStream::connect((host.as_str(), port));
        let tcp = tokio::time::timeout(CONNECT_DEADLINE, connecting)
            .await
            .with_context(|| format!("dial tcp {host}:{port}: i/o timeout"))?
            .with_context(|| format!("dial tcp {host}:{port}"))?;
        tcp.set_nodelay(true)?;
        if !https {
            return Ok(Box::new(tcp));
        }
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.clone()).context("server name")?,
        };
        let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
        let tls = tokio::time::timeout(HANDSHAKE_DEADLINE, connector.connect(name, tcp)).await;
        Ok(Box::new(
            tls.context("TLS handshake timeout")?.with_context(|| format!("TLS with {host}:{port}"))?,
        ))
    }
}

fn client(config: ClientConfig, name: Option<ServerName<'static>>) -> HttpClient {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_DEADLINE));
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    let builder = match name {
        Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name)),
        None => builder,
    };
    let connector = builder.enable_http1().wrap_connector(http);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .build(connector)
}

/// Our client certificate, following its files.
#[derive(Debug)]
pub struct Identity(daemon::cert::Reloading<Arc<CertifiedKey>>);

impl Identity {
    /// A certificate with its key, in PEM.
    pub fn new(cert: &Path, key: &Path) -> Result<Self> {
        let (c, k) = (cert.to_owned(), key.to_owned());
        let load = move || {
            let (cert, key) = (std::fs::read(&c)?, std::fs::read(&k)?);
            Ok(Arc::new(daemon::cert::certified_key(&cert, &key)?))
        };
        let files = vec![cert.to_owned(), key.to_owned()];
        let made = daemon::cert::Reloading::new(files, load)
            .with_context(|| format!("client certificate {}", cert.display()))?;
        Ok(Self(made))
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
