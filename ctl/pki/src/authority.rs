//! Certificate authorities: made, loaded (with or without their key), and signing.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use coxctl_config::ClusterConfiguration;
use rand::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Eku, IsCa,
    Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

pub use crate::files::write_file;
use crate::files::{Pair, read};
use crate::key::{Algorithm, Key, pem};
use crate::subject;
use crate::x509::{self, BACKDATED};

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

/// Of what kind and how long certificates are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Algorithm of new keys.
    pub algorithm: Algorithm,
    /// Life of leaves, seconds from their making.
    pub leaf: i64,
    /// Life of authorities, seconds from their making.
    pub authority: i64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { algorithm: Algorithm::default(), leaf: 8760 * 3600, authority: 87600 * 3600 }
    }
}

impl Terms {
    /// Those of a cluster; what its document leaves out is kubeadm's default.
    ///
    /// # Errors
    /// An unknown algorithm.
    pub fn of(cluster: &ClusterConfiguration) -> Result<Self> {
        let default = Self::default();
        let seconds = |d: Option<coxctl_config::GoDuration>, or| d.map_or(or, |d| d.whole_seconds());
        Ok(Self {
            algorithm: cluster.encryption_algorithm.parse()?,
            leaf: seconds(cluster.certificate_validity_period, default.leaf),
            authority: seconds(cluster.ca_certificate_validity_period, default.authority),
        })
    }
}

/// A certificate authority; without its key it can be trusted but can't sign.
pub struct Authority {
    /// The certificate, PEM.
    pub cert_pem: String,
    key: Option<Key>,
}

impl Authority {
    /// A new authority of this name.
    ///
    /// # Errors
    /// No randomness.
    pub fn create(cn: &str, terms: &Terms) -> Result<Self> {
        Self::with_key(cn, terms, Key::generate(terms.algorithm)?)
    }

    /// A new certificate for an authority whose key is there.
    ///
    /// # Errors
    /// A key that can't sign.
    pub fn with_key(cn: &str, terms: &Terms, key: Key) -> Result<Self> {
        let cert_pem = ca_params(cn, terms)?.self_signed(key.pair())?.pem();
        Ok(Self { cert_pem, key: Some(key) })
    }

    /// Reads the authority of this base name; none when there is no certificate. A key that is not there is fine.
    ///
    /// # Errors
    /// Files that can't be read; a key that is not the certificate's.
    pub fn load(dir: &Path, base: &str) -> Result<Option<Self>> {
        let pair = Pair::new(dir, base);
        if !pair.crt.exists() {
            return Ok(None);
        }
        let cert_pem = read(&pair.crt)?;
        let seen = x509::read(&cert_pem).with_context(|| format!("{}", pair.crt.display()))?;
        let key = match pair.key.exists() {
            true => {
                Some(Key::from_pem(&read(&pair.key)?).with_context(|| format!("{}", pair.key.display()))?)
            }
            false => None,
        };
        anyhow::ensure!(
            key.as_ref().is_none_or(|k| k.spki() == seen.spki),
            "{} is not the key of {}: put the two that belong together there, or move both away to have new ones made",
            pair.key.display(),
            pair.crt.display()
        );
        Ok(Some(Self { cert_pem, key }))
    }

    /// Reads `dir/name.{crt,key}`, or makes and writes them by kubeadm's defaults.
    ///
    /// # Errors
    /// When the files can't be read or written, or hold no key of a known kind.
    pub fn load_or_create(dir: &Path, name: &str, cn: &str) -> Result<Self> {
        if let Some(found) = Self::load(dir, name)? {
            return Ok(found);
        }
        let made = Self::create(cn, &Terms::default())?;
        Pair::new(dir, name).write(&made.cert_pem, &made.key_pem().unwrap_or_default())?;
        Ok(made)
    }

    /// Whether it can sign.
    pub fn can_sign(&self) -> bool {
        self.key.is_some()
    }

    /// Its key as PEM, when it is there.
    pub fn key_pem(&self) -> Option<String> {
        self.key.as_ref().map(Key::to_pem)
    }

    /// Signs a new key for `who` by kubeadm's defaults; returns (certificate PEM, key PEM).
    ///
    /// # Errors
    /// When the authority's key is not there or unusable.
    pub fn issue(&self, who: &Identity) -> Result<(String, String)> {
        self.issue_on(who, &Terms::default())
    }

    /// Signs a new key for `who`; returns (certificate PEM, key PEM).
    ///
    /// # Errors
    /// When the authority's key is not there or unusable; a name no certificate can hold.
    pub fn issue_on(&self, who: &Identity, terms: &Terms) -> Result<(String, String)> {
        let signer = self.key.as_ref().context("the authority's key is not here, so it can't sign")?;
        let issuer = Issuer::from_ca_cert_pem(&self.cert_pem, signer.pair())?;
        let key = Key::generate(terms.algorithm)?;
        let cert = leaf_params(who, terms.leaf)?.signed_by(key.pair(), &issuer)?;
        if who.orgs.len() < 2 {
            return Ok((cert.pem(), key.to_pem()));
        }
        let der = subject::replaced(cert.der(), who, signer.pair())
            .context("writing the groups of a certificate")?;
        Ok((pem("CERTIFICATE", &der), key.to_pem()))
    }
}

/// A request for a certificate of `who`, and its new key, both PEM.
///
/// # Errors
/// A name no certificate can hold.
pub fn request(who: &Identity, algorithm: Algorithm) -> Result<(String, String)> {
    let key = Key::generate(algorithm)?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = name(&who.cn, &who.orgs);
    params.subject_alt_names = alt_names(who)?;
    // Asked for too, so that who signs may copy all that a request asks for.
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = usages(who);
    Ok((params.serialize_request(key.pair())?.pem()?, key.to_pem()))
}

fn name(cn: &str, orgs: &[String]) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    for org in orgs {
        out.push(DnType::OrganizationName, org.clone());
    }
    out.push(DnType::CommonName, cn);
    out
}

fn base_params(cn: &str, orgs: &[String], life: i64) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = name(cn, orgs);
    // Random and positive, in kubeadm's range.
    let serial: u64 = rand::rng().random_range(1..i64::MAX as u64);
    params.serial_number = Some(SerialNumber::from(serial));
    let start = x509::now();
    params.not_before = OffsetDateTime::from_unix_timestamp(start - BACKDATED)?;
    params.not_after = OffsetDateTime::from_unix_timestamp(start.saturating_add(life))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    Ok(params)
}

fn ca_params(cn: &str, terms: &Terms) -> Result<CertificateParams> {
    let mut params = base_params(cn, &[], terms.authority)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    params.subject_alt_names = vec![SanType::DnsName(cn.try_into()?)];
    Ok(params)
}

fn leaf_params(who: &Identity, life: i64) -> Result<CertificateParams> {
    let mut params = base_params(&who.cn, &who.orgs, life)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = usages(who);
    params.subject_alt_names = alt_names(who)?;
    Ok(params)
}

fn usages(who: &Identity) -> Vec<Eku> {
    let all = [(who.server, Eku::ServerAuth), (who.client, Eku::ClientAuth)];
    all.into_iter().filter(|u| u.0).map(|u| u.1).collect()
}

fn alt_names(who: &Identity) -> Result<Vec<SanType>> {
    let mut out = Vec::new();
    for name in &who.dns {
        let name =
            name.as_str().try_into().with_context(|| format!("{name:?} can't stand in a certificate"))?;
        out.push(SanType::DnsName(name));
    }
    out.extend(who.ips.iter().copied().map(SanType::IpAddress));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_leaf_carries_its_identity_and_is_signed_by_its_authority() {
        let ca = Authority::create("kubernetes", &Terms::default()).unwrap();
        let other = Authority::create("kubernetes", &Terms::default()).unwrap();
        let mut who = Identity::client("system:node:n1", &["system:nodes"]);
        who.dns = vec!["a.example".into(), "*.b.example".into()];
        who.ips = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let (crt, key) = ca.issue(&who).unwrap();
        let (leaf, root) = (x509::read(&crt).unwrap(), x509::read(&ca.cert_pem).unwrap());
        assert_eq!(leaf.identity, who);
        assert_eq!(leaf.spki, Key::from_pem(&key).unwrap().spki());
        assert!(x509::signed_by(&crt, &ca.cert_pem) && !x509::signed_by(&crt, &other.cert_pem));
        assert!(x509::signed_by(&crt, &(other.cert_pem + &ca.cert_pem)), "any of a bundle will do");
        assert!(root.is_ca && !leaf.is_ca);
        assert_eq!(
            (root.identity.dns, root.identity.cn),
            (vec!["kubernetes".to_string()], "kubernetes".to_string())
        );
    }

    #[test]
    fn several_groups_all_come_through() {
        for pem in [None, Some(crate::key::tests::RSA_PKCS1)] {
            let key = pem.map_or_else(|| Key::generate(Algorithm::EcdsaP384), Key::from_pem).unwrap();
            let ca = Authority::with_key("kubernetes", &Terms::default(), key).unwrap();
            let who = Identity::client("jané", &["a", "b", "c"]);
            let (crt, key) = ca.issue(&who).unwrap();
            let seen = x509::read(&crt).unwrap();
            assert_eq!((&seen.identity, seen.spki), (&who, Key::from_pem(&key).unwrap().spki()));
            assert!(x509::signed_by(&crt, &ca.cert_pem));
        }
    }

    #[test]
    fn lives_are_as_asked_and_dated_back() {
        let terms = Terms { leaf: 180, authority: 600, ..Terms::default() };
        let ca = Authority::create("ca", &terms).unwrap();
        let (crt, _) = ca.issue_on(&Identity::client("x", &[]), &terms).unwrap();
        let (leaf, root) = (x509::read(&crt).unwrap(), x509::read(&ca.cert_pem).unwrap());
        assert_eq!(leaf.not_after - leaf.not_before, 180 + 300);
        assert_eq!(root.not_after - root.not_before, 600 + 300);
        assert!((x509::now() - leaf.made()).abs() < 60);
    }

    #[test]
    fn keys_are_private_and_a_second_run_keeps_them() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path(), "etcd/ca", "etcd-ca").unwrap();
        let again = Authority::load_or_create(dir.path(), "etcd/ca", "etcd-ca").unwrap();
        assert_eq!(first.cert_pem, again.cert_pem);
        let mode = std::fs::metadata(dir.path().join("etcd/ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_rsa_authority_of_kubeadm_signs_leaves_of_either_kind() {
        let key = Key::from_pem(crate::key::tests::RSA_PKCS1).unwrap();
        let ca = Authority::with_key("kubernetes", &Terms::default(), key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Pair::new(dir.path(), "ca").write(&ca.cert_pem, crate::key::tests::RSA_PKCS1).unwrap();
        let ca = Authority::load(dir.path(), "ca").unwrap().unwrap();
        assert!(ca.can_sign());
        for algorithm in [Algorithm::EcdsaP256, Algorithm::EcdsaP384] {
            let terms = Terms { algorithm, ..Terms::default() };
            let (crt, _) = ca.issue_on(&Identity::client("x", &[]), &terms).unwrap();
            assert!(x509::signed_by(&crt, &ca.cert_pem));
        }
    }

    #[test]
    fn a_key_of_another_authority_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Authority::create("a", &Terms::default()), Authority::create("b", &Terms::default()));
        Pair::new(dir.path(), "ca").write(&a.unwrap().cert_pem, &b.unwrap().key_pem().unwrap()).unwrap();
        let error = Authority::load(dir.path(), "ca").err().unwrap().to_string();
        assert!(error.contains("ca.key is not the key of"), "{error}");
    }

    #[test]
    fn an_authority_without_key_is_trusted_but_signs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let made = Authority::load_or_create(dir.path(), "ca", "ca").unwrap();
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        let ca = Authority::load(dir.path(), "ca").unwrap().unwrap();
        assert_eq!((ca.can_sign(), &ca.cert_pem), (false, &made.cert_pem));
        assert!(ca.issue(&Identity::client("x", &[])).unwrap_err().to_string().contains("key is not here"));
        assert!(Authority::load(dir.path(), "other").unwrap().is_none());
    }

    #[test]
    fn requests_carry_the_identity() {
        let who = Identity::server("etcd", &["localhost"], &["10.0.0.1".parse().unwrap()], true);
        let (csr, key) = request(&who, Algorithm::EcdsaP256).unwrap();
        assert!(csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        assert!(Key::from_pem(&key).is_ok());
    }
}
