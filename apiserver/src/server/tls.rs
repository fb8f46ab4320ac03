//! The serving side of TLS: a certificate that follows its files, and client certificates that are asked for but judged
//! by the authenticators, each against its own CA.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use daemon::cert::{Reloading, certified_key};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::config::Config;

/// The server's TLS: the given pair, or a self-signed one kept in the certificate directory.
pub fn server_config(config: &Config) -> Result<Arc<rustls::ServerConfig>> {
    let (cert, key) = match (&config.tls_cert_file, &config.tls_private_key_file) {
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        _ => {
            let pair = (config.cert_dir.join("apiserver.crt"), config.cert_dir.join("apiserver.key"));
            make_self_signed(config, &pair.0, &pair.1)?;
            pair
        }
    };
    let paths = vec![cert.clone(), key.clone()];
    let load = move || load_pair(&cert, &key);
    let identity = Reloading::new(paths, load).context("serving certificate")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(AnyCertificate(provider)))
        .with_cert_resolver(Arc::new(Resolver(identity)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn load_pair(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    Ok(Arc::new(certified_key(&read(cert)?, &read(key)?)?))
}

fn make_self_signed(config: &Config, cert: &Path, key: &Path) -> Result<()> {
    if cert.exists() && key.exists() {
        return Ok(());
    }
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "kubernetes".to_owned(),
        "kubernetes.default.svc".to_owned(),
    ];
    names.extend(config.advertise_address.map(|a| a.to_string()));
    let made = rcgen::generate_simple_self_signed(names).context("self-signed certificate")?;
    std::fs::create_dir_all(&config.cert_dir)
        .with_context(|| format!("create {}", config.cert_dir.display()))?;
    std::fs::write(cert, made.cert.pem()).with_context(|| format!("write {}", cert.display()))?;
    write_secret(key, made.signing_key.serialize_pem().as_bytes())
        .with_context(|| format!("write {}", key.display()))
}

fn write_secret(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

#[derive(Debug)]
struct Resolver(Reloading<Arc<CertifiedKey>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().0))
    }
}

/// Takes any client certificate whose key the client holds.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
