//! The certificate the kubelet serves with: configured files, one signed by the cluster, or one of its own making.

use super::request::{self, Wish};
use super::store::{self, Store};
use crate::config::Config;
use crate::context::{Context, NodeView};
use anyhow::Context as _;
use daemon::tls::ServerTls;
use jiff::Timestamp;
use parking_lot::RwLock;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rcgen::{KeyUsagePurpose, string::Ia5String};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(900);
const YEAR: Duration = Duration::from_secs(365 * 86400);

/// The serving identity as configured. With serverTLSBootstrap, which beats files, handshakes fail until the cluster
/// has signed.
pub fn tls(ctx: &Arc<Context>) -> anyhow::Result<ServerTls> {
    let file = &ctx.config.file;
    let ca = &file.authentication.x509.client_ca_file;
    let ca = (!ca.is_empty()).then(|| Path::new(ca));
    if file.server_tls_bootstrap && ctx.client.is_some() {
        let slot = Arc::new(Slot::default());
        ctx.spawn("serving certificate", keep(ctx.clone(), slot.clone()));
        return ServerTls::from_resolver(slot, ca);
    }
    if !file.tls_cert_file.is_empty() && !file.tls_private_key_file.is_empty() {
        return ServerTls::from_files(
            Path::new(&file.tls_cert_file),
            Path::new(&file.tls_private_key_file),
            ca,
        );
    }
    let (cert, key) = (ctx.config.cert_dir.join("kubelet.crt"), ctx.config.cert_dir.join("kubelet.key"));
    if !(cert.exists() && key.exists()) {
        self_signed(&ctx.config, &cert, &key).context("self-signed serving certificate")?;
    }
    ServerTls::from_files(&cert, &key, ca)
}

/// The present certificate, if there is one.
#[derive(Debug, Default)]
struct Slot(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Slot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().clone()
    }
}

impl Slot {
    fn load(&self, pem: &[u8]) -> anyhow::Result<()> {
        *self.0.write() = Some(Arc::new(daemon::cert::certified_key(pem, pem)?));
        Ok(())
    }
}

/// Gets, renews, and gets anew when the node's names change.
async fn keep(ctx: Arc<Context>, slot: Arc<Slot>) {
    let Some(client) = ctx.client.clone() else { return };
    let store = Store::new(&ctx.config.cert_dir, "kubelet-server");
    store.heal();
    // A restart serves at once, before the node's names are known.
    if let Some(pem) = store.read().filter(|pem| in_date(pem)) {
        let _ = slot.load(&pem);
    }
    let mut views = ctx.node.subscribe();
    let mut attempt = 0;
    while let Some(sans) = other_names(&mut views, &ctx.config, &[]).await {
        let good = store.read().filter(|pem| in_date(pem) && covers(pem, &sans));
        if let Some(validity) = good.and_then(|pem| slot.load(&pem).and_then(|()| store::validity(&pem)).ok())
        {
            let due = super::renewal(validity, store.obtained(), rand::random(), Timestamp::now());
            tokio::select! {
                () = super::sleep_until(due) => {}
                _ = other_names(&mut views, &ctx.config, &sans) => continue,
            }
        }
        let outcome = tokio::select! {
            outcome = fetch(&client, &store, &ctx.config.node_name, sans.clone()) => outcome,
            _ = other_names(&mut views, &ctx.config, &sans) => continue,
        };
        match outcome {
            Ok(()) => attempt = 0,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "getting a serving certificate");
                tokio::time::sleep(super::backoff(attempt)).await;
                attempt += 1;
            }
        }
    }
}

/// The node's names, as soon as there are some and they are not those of `known`; `None` at the end.
async fn other_names(
    views: &mut watch::Receiver<Arc<NodeView>>,
    config: &Config,
    known: &[SanType],
) -> Option<Vec<SanType>> {
    loop {
        let sans = names(&views.borrow_and_update().clone(), config);
        if !sans.is_empty() && sans != known {
            return Some(sans);
        }
        views.changed().await.ok()?;
    }
}

fn in_date(pem: &[u8]) -> bool {
    store::validity(pem).is_ok_and(|(_, to)| Timestamp::now() < to)
}

fn covers(pem: &[u8], sans: &[SanType]) -> bool {
    let Some(cert) = daemon::cert::certs_from_pem(pem).ok().and_then(|c| c.into_iter().next()) else {
        return false;
    };
    let Ok((_, cert)) = x509_parser::parse_x509_certificate(&cert) else { return false };
    let Ok(Some(names)) = cert.subject_alternative_name() else { return false };
    let has = |san: &SanType| {
        names.value.general_names.iter().any(|n| match (n, san) {
            (x509_parser::extensions::GeneralName::DNSName(a), SanType::DnsName(b)) => *a == b.as_str(),
            (x509_parser::extensions::GeneralName::IPAddress(a), SanType::IpAddress(b)) => match b {
                std::net::IpAddr::V4(b) => *a == b.octets(),
                std::net::IpAddr::V6(b) => *a == b.octets(),
            },
            _ => false,
        })
    };
    sans.iter().all(has)
}

async fn fetch(client: &kube::Client, store: &Store, node: &str, sans: Vec<SanType>) -> anyhow::Result<()> {
    let key = store.pending_key()?;
    let outcome = request::obtain(client, &Wish::serving(node, sans), &key, PATIENCE).await;
    store.drop_pending_key();
    let pair = key.serialize_pem();
    let cert = outcome?;
    daemon::cert::certified_key(&cert, pair.as_bytes()).context("the issued certificate")?;
    let path = store.put(&cert, pair.as_bytes(), Timestamp::now())?;
    tracing::info!(path = %path.display(), "new serving certificate");
    Ok(())
}

fn names(view: &NodeView, config: &Config) -> Vec<SanType> {
    if view.addresses.is_empty() {
        return Vec::new();
    }
    let mut ips = view.addresses.clone();
    let host = match config.hostname.parse() {
        Ok(ip) if ips.contains(&ip) => None,
        Ok(ip) => {
            ips.push(ip);
            None
        }
        Err(_) => Ia5String::try_from(config.hostname.clone()).ok().map(SanType::DnsName),
    };
    host.into_iter().chain(ips.into_iter().map(SanType::IpAddress)).collect()
}

/// A CA for this once and a certificate by it, both in the certificate file, as upstream makes them.
fn self_signed(config: &Config, cert: &Path, key: &Path) -> anyhow::Result<()> {
    if let Some(dir) = cert.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let host = config.node_name.clone();
    let now = Timestamp::now();
    let (ca_key, leaf_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut ca = dated(CertificateParams::default(), now)?;
    ca.distinguished_name.push(DnType::CommonName, format!("{host}-ca@{}", now.as_second()));
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let mut leaf = dated(CertificateParams::new(vec![host.clone()])?, now)?;
    leaf.distinguished_name.push(DnType::CommonName, format!("{host}@{}", now.as_second()));
    leaf.subject_alt_names.extend(config.node_ips.iter().map(|ip| SanType::IpAddress(*ip)));
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let leaf_pem = leaf.signed_by(&leaf_key, &Issuer::new(ca, ca_key))?.pem();
    store::write_private(key, leaf_key.serialize_pem().as_bytes())?;
    std::fs::write(cert, format!("{leaf_pem}{ca_pem}"))?;
    Ok(())
}

/// Valid for a year from an hour ago, because clocks differ.
fn dated(mut params: CertificateParams, now: Timestamp) -> anyhow::Result<CertificateParams> {
    let at = |t: Timestamp| {
        let civil = t.to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(i32::from(civil.year()), civil.month() as u8, civil.day() as u8)
    };
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = at(now.checked_sub(Duration::from_secs(3600))?);
    params.not_after = at(now.checked_add(YEAR)?);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_as_host_name_is_an_address() {
        let view = NodeView { addresses: vec!["10.0.0.1".parse().unwrap()], ..NodeView::default() };
        let sans = |hostname: &str| names(&view, &Config { hostname: hostname.into(), ..Config::default() });
        let ip = |s: &str| SanType::IpAddress(s.parse().unwrap());
        assert_eq!(sans("n1"), [SanType::DnsName("n1".try_into().unwrap()), ip("10.0.0.1")]);
        assert_eq!(sans("10.0.0.1"), [ip("10.0.0.1")]);
        assert_eq!(sans("10.0.0.2"), [ip("10.0.0.1"), ip("10.0.0.2")]);
        assert!(names(&NodeView::default(), &Config::default()).is_empty());
    }

    #[test]
    fn a_self_made_pair_serves_and_names_its_host() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            node_name: "n1".into(),
            node_ips: vec!["10.0.0.1".parse().unwrap()],
            ..Default::default()
        };
        let (cert, key) = (dir.path().join("kubelet.crt"), dir.path().join("kubelet.key"));
        self_signed(&config, &cert, &key).unwrap();
        daemon::init_crypto();
        assert!(ServerTls::from_files(&cert, &key, None).is_ok());
        let pem = std::fs::read(&cert).unwrap();
        let host = SanType::DnsName("n1".try_into().unwrap());
        let ip = SanType::IpAddress("10.0.0.1".parse().unwrap());
        assert!(covers(&pem, &[host, ip]));
        assert!(!covers(&pem, &[SanType::IpAddress("10.0.0.2".parse().unwrap())]));
        assert_eq!(daemon::cert::certs_from_pem(&pem).unwrap().len(), 2);
    }
}
