//! Pins of authorities: `sha256:` and the hash of the public key.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The pin of every certificate in `pem`: `sha256:` and lower hex over the SubjectPublicKeyInfo.
///
/// # Errors
/// A text without certificates or with one that can't be read.
pub fn ca_hashes(pem: &str) -> Result<Vec<String>> {
    let ders = rustls_pemfile::certs(&mut pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    anyhow::ensure!(!ders.is_empty(), "no certificate in the text");
    ders.iter().map(|der| spki_hash(der)).collect()
}

fn spki_hash(der: &[u8]) -> Result<String> {
    let (_, cert) = x509_parser::parse_x509_certificate(der).context("reading a certificate")?;
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(cert.public_key().raw))))
}
