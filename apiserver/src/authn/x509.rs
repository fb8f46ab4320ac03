//! Client certificates: who they name, and whether a CA of ours made them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ahash::AHashMap;
use anyhow::{Context, anyhow};
use async_trait::async_trait;
use daemon::cert::Reloading;
use parking_lot::RwLock;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::X509Certificate;

use super::{Authenticator, AuthnError, AuthnRequest};
use crate::request::UserInfo;

/// Attribute of the subject that carries the user's uid.
const UID: &str = "1.3.6.1.4.1.57683.2";
/// Judged certificates that are kept; past it all are forgotten and judged anew.
const MAX_KEPT: usize = 8192;

/// Judges client certificates against one CA bundle, which follows its file. A chain once found good is not worked
/// through again until it expires or the bundle changes, since one client asks often with the same certificate.
pub struct Verifier {
    bundle: Reloading<Arc<dyn ClientCertVerifier>>,
    good: RwLock<Good>,
}

#[derive(Default)]
struct Good {
    /// Of the bundle they were judged by.
    generation: u64,
    kept: AHashMap<Vec<u8>, Kept>,
}

struct Kept {
    user: Option<UserInfo>,
    not_before: i64,
    not_after: i64,
}

impl Verifier {
    /// Reads the CA bundle, now and whenever it is replaced.
    pub fn from_file(path: &Path) -> anyhow::Result<Verifier> {
        let file = path.to_owned();
        let load = move || {
            let pem = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            bundle(&pem).with_context(|| file.display().to_string())
        };
        let bundle = Reloading::new(vec![path.to_owned()], load)?;
        Ok(Verifier { bundle, good: RwLock::default() })
    }

    /// Makes a verifier of a PEM text of CA certificates.
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<Verifier> {
        let pem = pem.to_vec();
        Ok(Verifier { bundle: Reloading::new(vec![], move || bundle(&pem))?, good: RwLock::default() })
    }

    /// The user a chain names, `None` when it names none (no common name); an error when the chain is not good.
    pub fn check(&self, chain: &[CertificateDer<'static>], now: i64) -> Result<Option<UserInfo>, String> {
        let Some((leaf, rest)) = chain.split_first() else { return Ok(None) };
        let (bundle, generation) = self.bundle.current();
        if let Some(user) = self.kept(leaf, generation, now) {
            return Ok(user);
        }
        let seconds = u64::try_from(now).map_err(|_| "the clock is before 1970".to_owned())?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        bundle.verify_client_cert(leaf, rest, time).map_err(|e| format!("client certificate: {e}"))?;
        self.keep(leaf, generation)
    }

    fn kept(&self, leaf: &CertificateDer<'static>, generation: u64, now: i64) -> Option<Option<UserInfo>> {
        let good = self.good.read();
        let kept = good.kept.get(leaf.as_ref()).filter(|_| good.generation == generation)?;
        (kept.not_before <= now && now <= kept.not_after).then(|| kept.user.clone())
    }

    fn keep(&self, leaf: &CertificateDer<'static>, generation: u64) -> Result<Option<UserInfo>, String> {
        let (_, cert) =
            x509_parser::parse_x509_certificate(leaf).map_err(|e| format!("client certificate: {e}"))?;
        let user = user_of(&cert, leaf);
        let validity = cert.validity();
        let kept = Kept {
            user: user.clone(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        };
        let mut good = self.good.write();
        if good.kept.len() >= MAX_KEPT || good.generation < generation {
            *good = Good { generation, kept: AHashMap::new() };
        }
        if good.generation == generation {
            good.kept.insert(leaf.to_vec(), kept);
        }
        Ok(user)
    }
}

fn bundle(pem: &[u8]) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let roots = daemon::cert::root_store(pem)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    made.map_err(|e| anyhow!("CA bundle: {e}"))
}

fn user_of(cert: &X509Certificate<'_>, der: &[u8]) -> Option<UserInfo> {
    let subject = cert.subject();
    let name = subject.iter_common_name().last()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
    let by_oid = subject.iter_attributes().find(|a| a.attr_type().to_id_string() == UID);
    let uid = by_oid.and_then(|a| a.as_str().ok()).unwrap_or_default().to_owned();
    let id = format!("X509SHA256={}", hex::encode(Sha256::digest(der)));
    let extra = BTreeMap::from([("authentication.kubernetes.io/credential-id".to_owned(), vec![id])]);
    (!name.is_empty()).then_some(UserInfo { name, uid, groups, extra })
}

/// Users by client certificate.
pub struct ClientCertificates {
    /// The CA of `--client-ca-file`.
    pub verifier: Verifier,
}

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(&self, request: &AuthnRequest<'_>) -> Result<Option<UserInfo>, AuthnError> {
        self.verifier.check(request.peer_certs, machinery::time::now_unix()).map_err(AuthnError)
    }
}

#[cfg(test)]
pub mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
        Issuer, KeyPair,
    };

    use super::*;

    /// A CA that can sign client certificates.
    pub struct Ca {
        issuer: Issuer<'static, KeyPair>,
        /// Its certificate.
        pub pem: String,
    }

    /// A fresh CA.
    pub fn ca() -> Ca {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![]).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        let pem = params.self_signed(&key).expect("ca").pem();
        Ca { issuer: Issuer::new(params, key), pem }
    }

    impl Ca {
        /// A client certificate valid in the years given.
        pub fn client(&self, name: &str, group: &str, years: (i32, i32)) -> CertificateDer<'static> {
            let mut params = CertificateParams::new(vec![]).expect("params");
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.distinguished_name.push(DnType::OrganizationName, group);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
            let key = KeyPair::generate().expect("key");
            params.signed_by(&key, &self.issuer).expect("certificate").der().clone()
        }
    }

    #[test]
    fn another_bundle_is_another_judge() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("ca.crt");
        let (old, new) = (ca(), ca());
        std::fs::write(&path, &old.pem).expect("write");
        let verifier = Verifier::from_file(&path).expect("verifier");
        let years = (2020, 2040);
        let now = 56 * 31_557_600;
        let mine = [old.client("alice", "dev", years)];
        assert!(verifier.check(&mine, now).is_ok());
        std::fs::write(dir.path().join("next"), &new.pem).expect("write");
        std::fs::rename(dir.path().join("next"), &path).expect("rename");
        verifier.bundle.look();
        assert!(verifier.check(&mine, now).is_err(), "judged anew");
        assert!(verifier.check(&[new.client("bob", "dev", years)], now).is_ok());
    }

    #[test]
    fn who_and_whether() {
        let (mine, other) = (ca(), ca());
        let verifier = Verifier::from_pem(mine.pem.as_bytes()).expect("verifier");
        let at = |year: i64| (year - 1970) * 31_557_600;
        let good = mine.client("alice", "dev", (2020, 2040));
        for _ in 0..2 {
            let user = verifier.check(std::slice::from_ref(&good), at(2026)).expect("good").expect("user");
            assert_eq!((user.name.as_str(), user.groups.as_slice()), ("alice", &["dev".to_owned()][..]));
            assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
        }
        assert!(verifier.check(&[good], at(2045)).is_err(), "kept certificates expire too");
        assert!(verifier.check(&[mine.client("bob", "dev", (2020, 2021))], at(2026)).is_err(), "expired");
        assert!(
            verifier.check(&[mine.client("bob", "dev", (2030, 2040))], at(2026)).is_err(),
            "not yet valid"
        );
        assert!(
            verifier.check(&[other.client("eve", "system:masters", (2020, 2040))], at(2026)).is_err(),
            "wrong CA"
        );
        assert_eq!(verifier.check(&[], at(2026)), Ok(None));
        assert_eq!(verifier.check(&[mine.client("", "dev", (2020, 2040))], at(2026)), Ok(None), "nameless");
    }
}
