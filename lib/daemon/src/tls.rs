//! Server side TLS whose certificate, key and client CA follow their files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::DistinguishedName;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use crate::cert::{Reloading, certified_key, root_store};
use crate::trust::AnyClient;

/// A serving identity with, if wanted, a CA that client certificates are checked against. A client without a
/// certificate is let in and is nobody; one with a bad certificate fails its handshake.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<rustls::ServerConfig>,
}

impl ServerTls {
    /// From PEM files; they are followed when replaced.
    pub fn from_files(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self> {
        let (c, k) = (cert.to_owned(), key.to_owned());
        let load = move || load_identity(&c, &k);
        let identity = Reloading::new(vec![cert.to_owned(), key.to_owned()], load)
            .with_context(|| format!("serving certificate {}", cert.display()))?;
        Self::build(Arc::new(Resolver(identity)), trust(client_ca)?)
    }

    /// A certificate of our own making for `host`, as upstream's daemons make one when none is given.
    pub fn self_signed(host: &str) -> Result<Self> {
        Self::self_signed_with_ca(host, None)
    }

    /// As [`ServerTls::self_signed`], checking client certificates against `client_ca`.
    pub fn self_signed_with_ca(host: &str, client_ca: Option<&Path>) -> Result<Self> {
        let names = vec![host.to_string(), "localhost".to_string(), "127.0.0.1".to_string()];
        let made = rcgen::generate_simple_self_signed(names).context("self-signed certificate")?;
        let identity =
            certified_key(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes())?;
        Self::build(Arc::new(Fixed(Arc::new(identity))), trust(client_ca)?)
    }

    /// With a certificate chosen by the caller at each handshake (the kubelet's rotating serving certificate).
    pub fn from_resolver(resolver: Arc<dyn ResolvesServerCert>, client_ca: Option<&Path>) -> Result<Self> {
        Self::build(resolver, trust(client_ca)?)
    }

    /// Asks for a client certificate and takes any whose key the client holds. What it is worth must be judged with each
    /// request ([`crate::delegated::Delegated::judging`]). `identity` is certificate and key; without, one is made for
    /// `host`.
    pub fn asking(identity: Option<(&Path, &Path)>, host: &str) -> Result<Self> {
        let mut tls = match identity {
            Some((cert, key)) => Self::from_files(cert, key, None)?,
            None => Self::self_signed(host)?,
        };
        let resolver = tls.config.cert_resolver.clone();
        tls.config = Self::build(resolver, Some(Arc::new(AnyClient)))?.config;
        Ok(tls)
    }

    fn build(
        resolver: Arc<dyn ResolvesServerCert>,
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// The configuration to accept connections with. It may be kept: the files are looked at on each handshake.
    pub fn rustls_config(&self) -> Arc<rustls::ServerConfig> {
        self.config.clone()
    }
}

fn trust(client_ca: Option<&Path>) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    client_ca.map(|path| Ok(Arc::new(ClientCa::new(path, provider)?) as _)).transpose()
}

fn load_identity(cert: &Path, key: &Path) -> Result<CertifiedKey> {
    let cert_pem = std::fs::read(cert).with_context(|| format!("read {}", cert.display()))?;
    let key_pem = std::fs::read(key).with_context(|| format!("read {}", key.display()))?;
    certified_key(&cert_pem, &key_pem)
}

#[derive(Debug)]
struct Resolver(Reloading<CertifiedKey>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current().0)
    }
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A client certificate verifier that follows its CA file.
#[derive(Debug)]
struct ClientCa(Reloading<Arc<dyn ClientCertVerifier>>);

impl ClientCa {
    fn new(path: &Path, provider: Arc<rustls::crypto::CryptoProvider>) -> Result<Self> {
        let owned: PathBuf = path.to_owned();
        let load = move || load_verifier(&owned, provider.clone());
        let inner = Reloading::new(vec![path.to_owned()], load)
            .with_context(|| format!("client CA {}", path.display()))?;
        Ok(Self(inner))
    }

    fn now(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0.current().0)
    }
}

fn load_verifier(
    path: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let roots = root_store(&std::fs::read(path)?)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(builder.allow_unauthenticated().build()?)
}

impl ClientCertVerifier for ClientCa {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Hints borrow from a verifier that may be replaced; clients choose well enough without them.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.now().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.now().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.now().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.now().supported_verify_schemes()
    }
}
