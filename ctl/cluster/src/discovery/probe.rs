//! One HTTPS request with the eyes open: what the server shows is kept, whether it is trusted or not.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;

use super::Fault;

/// Deadline of connecting, and of all that follows.
const CONNECT: Duration = Duration::from_secs(5);
const LOOKUP: Duration = Duration::from_secs(4);
const ANSWER: Duration = Duration::from_secs(10);
/// Deadline of a health port on the loopback, which is asked again.
const HEALTH: Duration = Duration::from_millis(500);
/// Nothing asked for here is larger.
const LIMIT: usize = 4 << 20;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The server's clock, from its Date header.
    pub date: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Asks `https://address/path` without credentials; the server must be signed by `ca_pem`, or may be anybody.
///
/// # Errors
/// A [`Fault`] that names what is in the way.
pub async fn get(address: &str, path: &str, ca_pem: Option<&str>) -> Result<Answer, Fault> {
    daemon::init_crypto();
    let tcp = connect(address).await?;
    let asking = ask(tcp, address, path, ca_pem);
    match tokio::time::timeout(ANSWER, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(unreachable(address, format!("no answer within {ANSWER:?}"))),
    }
}

fn unreachable(address: &str, cause: impl std::fmt::Display) -> Fault {
    Fault::Unreachable { address: address.into(), cause: cause.to_string() }
}

async fn connect(address: &str) -> Result<TcpStream, Fault> {
    let connecting = async {
        TcpStream::connect(resolve(address).await?.as_slice()).await.map_err(|e| unreachable(address, e))
    };
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(unreachable(address, format!("no connection within {CONNECT:?}"))),
    }
}

/// The addresses of a name, looked up by a thread of its own: the program must not wait at its end for a name server that
/// does not answer.
async fn resolve(address: &str) -> Result<Vec<SocketAddr>, Fault> {
    if let Ok(known) = address.parse() {
        return Ok(vec![known]);
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    let name = address.to_string();
    std::thread::spawn(move || {
        let _ = tell.send(name.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    });
    let unknown = |cause: String| Fault::Unknown { address: address.into(), cause };
    match tokio::time::timeout(LOOKUP, told).await {
        Ok(Ok(found)) => found.map_err(|e| unknown(e.to_string())),
        _ => Err(unknown(format!("no name server answers within {LOOKUP:?}"))),
    }
}

async fn ask(tcp: TcpStream, address: &str, path: &str, ca_pem: Option<&str>) -> Result<Answer, Fault> {
    let config = client_config(ca_pem).map_err(|e| Fault::Other(e.to_string()))?;
    let host = crate::discovery::host_of(address);
    let name = ServerName::try_from(host.to_string()).map_err(|e| Fault::Other(format!("{host}: {e}")))?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    let tls = tls.map_err(|e| tls_fault(address, &e))?;
    let wrong = |e: hyper::Error| Fault::NotApi { address: address.into(), what: e.to_string() };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(wrong)?;
    let driver = tokio::spawn(connection);
    let request = http::Request::get(path).header("host", address).header("accept", "application/json");
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| Fault::Other(e.to_string()))?;
    let response = sender.send_request(request).await.map_err(wrong)?;
    let status = response.status().as_u16();
    let date = response.headers().get("date").and_then(|d| d.to_str().ok()).map(str::to_string);
    let body = Limited::new(response.into_body(), LIMIT).collect().await;
    driver.abort();
    let body = body.map_err(|e| unreachable(address, e))?.to_bytes().to_vec();
    Ok(Answer { status, date, body })
}

fn client_config(ca_pem: Option<&str>) -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder();
    let Some(pem) = ca_pem else {
        let algorithms = builder.crypto_provider().signature_verification_algorithms;
        let anyone = Arc::new(Anyone(algorithms));
        return Ok(builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for cert in rustls_pemfile::certs(&mut pem.as_bytes()) {
        roots.add(cert?)?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn now() -> String {
    crate::token::secret::seconds(jiff::Timestamp::now())
}

/// A failed handshake: a port that speaks no TLS, a clock that is off, or a certificate of somebody else.
fn tls_fault(address: &str, error: &std::io::Error) -> Fault {
    let address = address.to_string();
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Fault::NotYetValid { address, now: now(), skew: None },
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Fault::Expired { address, now: now(), skew: None },
        Some(rustls::Error::InvalidCertificate(e)) => Fault::Untrusted { address, cause: e.to_string() },
        Some(rustls::Error::InvalidMessage(_)) => Fault::NotTls { address },
        Some(e) => Fault::NotApi { address, what: e.to_string() },
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => Fault::NotTls { address },
        None => unreachable(&address, error),
    }
}

/// Asks `http://address/path` and wants 200; for health ports on the loopback.
///
/// # Errors
/// When nobody answers, or otherwise.
pub async fn plain(address: &str, path: &str) -> anyhow::Result<()> {
    let tcp = connect(address).await?;
    let asking = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
        let driver = tokio::spawn(connection);
        let request = http::Request::get(path).header("host", address).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await;
        driver.abort();
        let status = response?.status();
        anyhow::ensure!(status == 200, "http://{address}{path} answers {status}");
        Ok(())
    };
    match tokio::time::timeout(HEALTH, asking).await {
        Ok(answer) => answer,
        Err(_) => anyhow::bail!("http://{address}{path} does not answer within {HEALTH:?}"),
    }
}

/// Trusts any certificate; whom it belongs to is found out by signature and hash afterwards.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
