//! A cluster's certificates: kubeadm's files, names and identities (`bootstrap` conventions of 1.36), ECDSA P-256 keys.
//!
//! Everything is idempotent: a file that is there is kept, so running a command again finishes what was begun.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Eku, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// Life of an authority's certificate: ten years, as kubeadm.
const CA_DAYS: i64 = 3650;
/// Life of a leaf: one year, as kubeadm.
const LEAF_DAYS: i64 = 365;

/// What a leaf certificate says of its holder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Common name: the user, or the server's name.
    pub cn: String,
    /// Organisations: the groups of a client.
    pub orgs: Vec<String>,
    /// DNS names a server answers to.
    pub dns: Vec<String>,
    /// Addresses a server answers on.
    pub ips: Vec<IpAddr>,
    /// May serve (serverAuth).
    pub server: bool,
    /// May call (clientAuth).
    pub client: bool,
}

impl Identity {
    /// A client of the given name and groups.
    pub fn client(cn: &str, orgs: &[&str]) -> Self {
        Self {
            cn: cn.into(),
            orgs: orgs.iter().map(|s| s.to_string()).collect(),
            client: true,
            ..Self::default()
        }
    }

    /// A server of the given name; `both` lets it call its peers too, as etcd members do.
    pub fn server(cn: &str, dns: &[&str], ips: &[IpAddr], both: bool) -> Self {
        Self {
            cn: cn.into(),
            dns: dns.iter().map(|s| s.to_string()).collect(),
            ips: ips.to_vec(),
            server: true,
            client: both,
            ..Self::default()
        }
    }
}

/// A certificate authority: certificate and key as PEM.
pub struct Authority {
    /// The certificate, PEM.
    pub cert_pem: String,
    key_pem: String,
}

impl Authority {
    /// Reads `dir/name.{crt,key}`, or makes and writes them.
    ///
    /// # Errors
    /// When the files can't be read or written, or hold no key of a known kind.
    pub fn load_or_create(dir: &Path, name: &str, cn: &str) -> Result<Self> {
        let (crt, key) = pair(dir, name);
        if crt.exists() && key.exists() {
            return Ok(Self { cert_pem: read(&crt)?, key_pem: read(&key)? });
        }
        let pair = KeyPair::generate()?;
        let cert = ca_params(cn)?.self_signed(&pair)?;
        write_file(&key, pair.serialize_pem().as_bytes(), 0o600)?;
        write_file(&crt, cert.pem().as_bytes(), 0o644)?;
        Ok(Self { cert_pem: cert.pem(), key_pem: pair.serialize_pem() })
    }

    /// Signs a new key for `who`; returns (certificate PEM, key PEM).
    ///
    /// # Errors
    /// When the authority's key is unusable.
    pub fn issue(&self, who: &Identity) -> Result<(String, String)> {
        let issuer = Issuer::from_ca_cert_pem(&self.cert_pem, KeyPair::from_pem(&self.key_pem)?)?;
        let pair = KeyPair::generate()?;
        let cert = leaf_params(who)?.signed_by(&pair, &issuer)?;
        Ok((cert.pem(), pair.serialize_pem()))
    }

    /// Issues `dir/name.{crt,key}` for `who` unless both are there.
    ///
    /// # Errors
    /// As [`Authority::issue`], and when the files can't be written.
    pub fn issue_files(&self, dir: &Path, name: &str, who: &Identity) -> Result<()> {
        let (crt, key) = pair(dir, name);
        if crt.exists() && key.exists() {
            return Ok(());
        }
        let (cert_pem, key_pem) = self.issue(who)?;
        write_file(&key, key_pem.as_bytes(), 0o600)?;
        write_file(&crt, cert_pem.as_bytes(), 0o644)
    }
}

/// Makes the service-account signing pair `sa.key` and `sa.pub` unless they are there.
///
/// # Errors
/// When the files can't be written.
pub fn service_account_pair(dir: &Path) -> Result<()> {
    let (key, public) = (dir.join("sa.key"), dir.join("sa.pub"));
    if key.exists() && public.exists() {
        return Ok(());
    }
    let pair = KeyPair::generate()?;
    write_file(&key, pair.serialize_pem().as_bytes(), 0o600)?;
    write_file(&public, pair.public_key_pem().as_bytes(), 0o600)
}

fn pair(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Writes a file of the given mode by renaming a finished one into place.
///
/// # Errors
/// When the directory can't be made or the file can't be written.
pub fn write_file(path: &Path, data: &[u8], mode: u32) -> Result<()> {
    let dir = path.parent().context("a file needs a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("file");
    let tmp = dir.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&tmp);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&tmp)
        .with_context(|| format!("writing {}", tmp.display()))?;
    file.write_all(data).with_context(|| format!("writing {}", tmp.display()))?;
    fs::rename(&tmp, path).with_context(|| format!("writing {}", path.display()))
}

fn base_params(cn: &str, orgs: &[String], days: i64) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    let mut dn = DistinguishedName::new();
    for org in orgs {
        dn.push(DnType::OrganizationName, org.clone());
    }
    dn.push(DnType::CommonName, cn);
    params.distinguished_name = dn;
    let start = OffsetDateTime::now_utc();
    params.not_before = start - Duration::minutes(5);
    params.not_after = start + Duration::days(days);
    Ok(params)
}

fn ca_params(cn: &str) -> Result<CertificateParams> {
    let mut params = base_params(cn, &[], CA_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.subject_alt_names = vec![SanType::DnsName(cn.try_into()?)];
    Ok(params)
}

fn leaf_params(who: &Identity) -> Result<CertificateParams> {
    let mut params = base_params(&who.cn, &who.orgs, LEAF_DAYS)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = [(who.server, Eku::ServerAuth), (who.client, Eku::ClientAuth)]
        .into_iter()
        .filter(|u| u.0)
        .map(|u| u.1)
        .collect();
    for name in &who.dns {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.subject_alt_names.extend(who.ips.iter().copied().map(SanType::IpAddress));
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use x509_parser::prelude::*;

    #[test]
    fn a_leaf_carries_its_identity_and_is_signed_by_its_authority() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::load_or_create(dir.path(), "ca", "kubernetes").unwrap();
        let (crt, _) = ca.issue(&Identity::client("system:node:n1", &["system:nodes"])).unwrap();
        let (_, leaf) = parse_x509_pem(crt.as_bytes()).unwrap();
        let (_, root) = parse_x509_pem(ca.cert_pem.as_bytes()).unwrap();
        let (leaf, root) = (leaf.parse_x509().unwrap(), root.parse_x509().unwrap());
        assert_eq!(leaf.subject().to_string(), "O=system:nodes, CN=system:node:n1");
        assert!(leaf.verify_signature(Some(root.public_key())).is_ok());
        assert!(root.is_ca() && !leaf.is_ca());
    }

    #[test]
    fn keys_are_private_and_a_second_run_keeps_them() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path(), "etcd/ca", "etcd-ca").unwrap();
        let again = Authority::load_or_create(dir.path(), "etcd/ca", "etcd-ca").unwrap();
        assert_eq!(first.cert_pem, again.cert_pem);
        let mode = fs::metadata(dir.path().join("etcd/ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
