//! Certificates, read.

use std::net::IpAddr;

use anyhow::{Context, Result};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::authority::Identity;

/// How much before its making a certificate is valid, seconds: clocks differ (kubeadm's five minutes).
pub const BACKDATED: i64 = 300;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Of its holder.
    pub identity: Identity,
    /// Is an authority.
    pub is_ca: bool,
    /// Start of its life, seconds since 1970.
    pub not_before: i64,
    /// End of its life, seconds since 1970.
    pub not_after: i64,
    /// Its public key, SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
}

impl Seen {
    /// When it was made: the start of its life without the time it was dated back.
    pub fn made(&self) -> i64 {
        made(self.not_before, self.not_after)
    }
}

/// When a certificate of these dates was made. One that lives no longer than it would have been dated back was not dated
/// back.
pub fn made(not_before: i64, not_after: i64) -> i64 {
    if not_after - not_before > BACKDATED { not_before + BACKDATED } else { not_before }
}

/// Now, in seconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// No certificate, or one that can't be read.
pub fn read(pem: &str) -> Result<Seen> {
    let ders = ders(pem)?;
    let der = ders.first().context("no certificate in the text")?;
    let (_, cert) = x509_parser::parse_x509_certificate(der).context("reading a certificate")?;
    // As `openssl x509 -req` makes them when it is given no extensions; no daemon takes one.
    anyhow::ensure!(
        cert.version() == x509_parser::x509::X509Version::V3,
        "it is a certificate of X.509 version 1, which can't be used: have it signed with extensions (openssl x509 -req -copy_extensions copy)"
    );
    Ok(Seen {
        identity: identity(&cert),
        is_ca: cert.is_ca(),
        not_before: cert.validity().not_before.timestamp(),
        not_after: cert.validity().not_after.timestamp(),
        spki: cert.public_key().raw.to_vec(),
    })
}

/// All certificates of a PEM text, as DER.
///
/// # Errors
/// A block that is no base64.
pub fn ders(pem: &str) -> Result<Vec<Vec<u8>>> {
    let certs = rustls_pemfile::certs(&mut pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    Ok(certs.context("reading certificates")?.into_iter().map(|c| c.to_vec()).collect())
}

/// Whether one of the authorities in `ca_pem` signed the first certificate of `pem`. Times are not looked at.
pub fn signed_by(pem: &str, ca_pem: &str) -> bool {
    let (Ok(leaves), Ok(authorities)) = (ders(pem), ders(ca_pem)) else { return false };
    let Some(Ok((_, leaf))) = leaves.first().map(|d| x509_parser::parse_x509_certificate(d)) else {
        return false;
    };
    authorities.iter().any(|der| {
        x509_parser::parse_x509_certificate(der).is_ok_and(|(_, ca)| {
            ca.subject().as_raw() == leaf.issuer().as_raw()
                && leaf.verify_signature(Some(ca.public_key())).is_ok()
        })
    })
}

fn identity(cert: &X509Certificate<'_>) -> Identity {
    let subject = cert.subject();
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().unwrap_or_default().to_string();
    let mut out = Identity {
        cn: subject.iter_common_name().next().map(text).unwrap_or_default(),
        orgs: subject.iter_organization().map(text).collect(),
        ..Identity::default()
    };
    match cert.extended_key_usage() {
        Ok(Some(usage)) => {
            out.server = usage.value.server_auth || usage.value.any;
            out.client = usage.value.client_auth || usage.value.any;
        }
        // A leaf that names no usage may be used for any (RFC 5280, 4.2.1.12), as other tools' often are.
        _ => (out.server, out.client) = (!cert.is_ca(), !cert.is_ca()),
    }
    if let Ok(Some(names)) = cert.subject_alternative_name() {
        names.value.general_names.iter().for_each(|n| add_name(&mut out, n));
    }
    out
}

fn add_name(out: &mut Identity, name: &GeneralName<'_>) {
    match name {
        GeneralName::DNSName(dns) => out.dns.push(dns.to_string()),
        GeneralName::IPAddress(bytes) => out.ips.extend(address(bytes)),
        _ => {}
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_certificate_was_made() {
        for (before, after, want) in [(0, 31_536_300, 300), (0, 360, 300), (0, 300, 0), (100, 160, 100)] {
            assert_eq!(made(before, after), want);
        }
    }

    #[test]
    fn rubbish_is_no_certificate() {
        assert!(read("").is_err());
        assert!(read("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
        assert!(!signed_by("", ""));
    }
}
