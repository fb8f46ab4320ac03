//! The certificates of a control plane: kubeadm's table as data, and the care of the files.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use coxctl_config::{ClusterConfiguration, LocalEtcd, service_address, split_host_port};

use crate::authority::{Authority, Identity, Terms};
use crate::files::{Pair, announce, read, write_file};
use crate::key::Key;
use crate::{Record, fitness, x509};

/// Files a joining control plane needs from an existing one, relative to the directory of certificates (local etcd).
pub const SHARED_FILES: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "sa.pub",
    "sa.key",
    "etcd/ca.crt",
    "etcd/ca.key",
];

/// One pair of files of the cluster's PKI.
#[derive(Debug, Clone, PartialEq)]
pub struct CertSpec {
    /// Name of the phase: `apiserver`, `etcd-ca`, …; `sa` is the service accounts' signing pair.
    pub name: &'static str,
    /// File name below the directory of certificates, without ending: `apiserver`, `etcd/ca`.
    pub base: &'static str,
    /// Phase name of the authority that signs it; none for authorities and for `sa`.
    pub ca: Option<&'static str>,
    /// What it says of its holder.
    pub identity: Identity,
}

/// What became of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was there and is good.
    Kept,
    /// It was made.
    Made,
    /// It was there, had run out, and was made anew.
    Renewed,
    /// The authority is external (certificate without key): what is there verifies.
    External,
}

/// What became of all pairs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// By phase name, in order.
    pub outcomes: Vec<(String, Outcome)>,
    /// What deserves a line.
    pub warnings: Vec<String>,
}

/// Every pair a control plane of this node needs, in kubeadm's order of phases (each authority before what it signs); with
/// external etcd none of etcd's. The service accounts' pair is the last.
///
/// # Errors
/// A service CIDR without a first address.
pub fn cluster_certificates(
    cluster: &ClusterConfiguration,
    node: &str,
    advertise: IpAddr,
) -> Result<Vec<CertSpec>> {
    let client = |cn: &str| Identity::client(cn, &[]);
    let spec = |name, base, ca, identity| CertSpec { name, base, ca, identity };
    let mut out = vec![
        spec("ca", "ca", None, authority("kubernetes")),
        spec("apiserver", "apiserver", Some("ca"), api_server(cluster, node, advertise)?),
        spec(
            "apiserver-kubelet-client",
            "apiserver-kubelet-client",
            Some("ca"),
            client("kube-apiserver-kubelet-client"),
        ),
        spec("front-proxy-ca", "front-proxy-ca", None, authority("front-proxy-ca")),
        spec(
            "front-proxy-client",
            "front-proxy-client",
            Some("front-proxy-ca"),
            client("front-proxy-client"),
        ),
    ];
    if cluster.etcd.external.is_none() {
        let none = LocalEtcd::default();
        let local = cluster.etcd.local.as_ref().unwrap_or(&none);
        let member = |more: &[String]| etcd_member(node, advertise, more);
        let ca = Some("etcd-ca");
        out.extend([
            spec("etcd-ca", "etcd/ca", None, authority("etcd-ca")),
            spec("etcd-server", "etcd/server", ca, member(&local.server_cert_sans)),
            spec("etcd-peer", "etcd/peer", ca, member(&local.peer_cert_sans)),
            spec(
                "etcd-healthcheck-client",
                "etcd/healthcheck-client",
                ca,
                client("kube-etcd-healthcheck-client"),
            ),
            spec("apiserver-etcd-client", "apiserver-etcd-client", ca, client("kube-apiserver-etcd-client")),
        ]);
    }
    out.push(spec("sa", "sa", None, Identity::default()));
    Ok(out)
}

fn authority(cn: &str) -> Identity {
    Identity { cn: cn.into(), ..Identity::default() }
}

/// kubeadm's names and addresses, and ours: the loopback, by which a machine's own tools call.
fn api_server(cluster: &ClusterConfiguration, node: &str, advertise: IpAddr) -> Result<Identity> {
    let domain = &cluster.networking.dns_domain;
    let service = service_address(cluster, 1).with_context(|| {
        format!("serviceSubnet {:?} has no first address", cluster.networking.service_subnet)
    })?;
    let mut out =
        Identity::server("kube-apiserver", &[], &[service, advertise, Ipv4Addr::LOCALHOST.into()], false);
    out.dns = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", node]
        .map(String::from)
        .into();
    out.dns.push(format!("kubernetes.default.svc.{domain}"));
    let (endpoint, _) = split_host_port(&cluster.control_plane_endpoint);
    add_names(&mut out, &cluster.api_server.cert_sans);
    add_names(&mut out, &[endpoint.to_string()]);
    Ok(out)
}

fn etcd_member(node: &str, advertise: IpAddr, more: &[String]) -> Identity {
    let ips = [advertise, Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let mut out = Identity::server(node, &[node, "localhost"], &ips, true);
    add_names(&mut out, more);
    out
}

/// Adds names and addresses (what is neither is left out; validation has named it); sorts the names, each once.
fn add_names(to: &mut Identity, names: &[String]) {
    for name in names {
        match name.parse::<IpAddr>() {
            Ok(ip) => to.ips.push(ip),
            Err(_) if name.is_empty() || name.contains(['/', ' ', '_']) => {}
            Err(_) => to.dns.push(name.clone()),
        }
    }
    to.dns.sort();
    to.dns.dedup();
    let mut seen = Vec::new();
    to.ips.retain(|ip| !seen.contains(ip) && (seen.push(*ip), true).1);
}

/// Base name of the files of an authority, by its phase name.
pub fn authority_base(name: &str) -> &str {
    if name == "etcd-ca" { "etcd/ca" } else { name }
}

/// Sees to one pair below `pki`: keeps a good one, makes a missing one, repairs a half-written one.
///
/// # Errors
/// A pair that is there and does not fit: signed by another authority, for other names, key of another certificate; an
/// authority without key whose leaf is missing; files that can't be read or written.
pub fn ensure(
    pki: &Path,
    spec: &CertSpec,
    cluster: &ClusterConfiguration,
    record: Record<'_>,
) -> Result<(Outcome, Vec<String>)> {
    let terms = Terms::of(cluster)?;
    Pair::new(pki, spec.base).settle()?;
    match spec.ca {
        Some(ca) => ensure_leaf(pki, spec, ca, &terms, record),
        None if spec.name == "sa" => ensure_signing_pair(pki, &terms, record),
        None => ensure_authority(pki, spec, &terms, record),
    }
}

/// [`ensure`] for all of `specs`, in order.
///
/// # Errors
/// As [`ensure`]; the first one stops.
pub fn ensure_all(
    pki: &Path,
    specs: &[CertSpec],
    cluster: &ClusterConfiguration,
    record: Record<'_>,
) -> Result<Report> {
    let mut report = Report::default();
    for spec in specs {
        let (outcome, warnings) = ensure(pki, spec, cluster, record)?;
        report.outcomes.push((spec.name.into(), outcome));
        report.warnings.extend(warnings);
    }
    Ok(report)
}

/// Whether a certificate that is there can stay, before anything is made.
///
/// # Errors
/// When it is of another cluster, another machine or another configuration.
pub fn fits(pki: &Path, spec: &CertSpec) -> Result<()> {
    let pair = Pair::new(pki, spec.base);
    let Some(ca) = spec.ca.filter(|_| pair.crt.exists() && pair.key.exists()) else { return Ok(()) };
    let base = authority_base(ca);
    match Authority::load(pki, base)? {
        Some(ca) => fitness::check(&pair, spec, &ca.cert_pem).map(drop),
        None => bail!(
            "{} is there without its authority {}: it is left from another cluster; move it and its key away to have new ones made",
            pair.crt.display(),
            pki.join(base).with_extension("crt").display()
        ),
    }
}

fn write_pair(pair: &Pair, crt: &str, key: &str, record: Record<'_>) -> Result<()> {
    announce(&pair.key, record)?;
    if !pair.crt.exists() {
        record(&pair.crt)?;
    }
    pair.write(crt, key)
}

fn ensure_authority(
    pki: &Path,
    spec: &CertSpec,
    terms: &Terms,
    record: Record<'_>,
) -> Result<(Outcome, Vec<String>)> {
    let pair = Pair::new(pki, spec.base);
    if let Some(found) = Authority::load(pki, spec.base)? {
        let seen = x509::read(&found.cert_pem)?;
        if !seen.is_ca {
            bail!(
                "{} is no certificate of an authority: move it and its key away to have new ones made",
                pair.crt.display()
            );
        }
        let outcome = if found.can_sign() { Outcome::Kept } else { Outcome::External };
        return Ok((outcome, fitness::ages(spec.name, &seen).into_iter().collect()));
    }
    // A key alone is what a crash between the two leaves, or what somebody gave: it is used.
    let made = match pair.key.exists() {
        true => {
            let key = Key::from_pem(&read(&pair.key)?).with_context(|| format!("{}", pair.key.display()))?;
            Authority::with_key(&spec.identity.cn, terms, key)?
        }
        false => Authority::create(&spec.identity.cn, terms)?,
    };
    write_pair(&pair, &made.cert_pem, &made.key_pem().context("a new authority has a key")?, record)?;
    Ok((Outcome::Made, Vec::new()))
}

fn ensure_leaf(
    pki: &Path,
    spec: &CertSpec,
    ca: &str,
    terms: &Terms,
    record: Record<'_>,
) -> Result<(Outcome, Vec<String>)> {
    let pair = Pair::new(pki, spec.base);
    let base = authority_base(ca);
    let authority = Authority::load(pki, base)?.with_context(|| {
        let crt = Pair::new(pki, base).crt;
        format!(
            "{} is not there, which signs {}: make it first (phase certs/{ca}), or copy it here",
            crt.display(),
            spec.name
        )
    })?;
    match (pair.crt.exists(), pair.key.exists()) {
        (true, true) => return look_over(&pair, spec, &authority, terms, record),
        (_, _) if authority.can_sign() => {}
        (crt, _) => bail!(
            "{} is missing and the key of its authority {ca} is not here (an external authority): have {} signed there and put both files in place",
            if crt { pair.key.display() } else { pair.crt.display() },
            spec.name
        ),
    }
    let half =
        pair.crt.exists().then(|| format!("{} had no key: the pair was made anew", pair.crt.display()));
    let (crt, key) = authority.issue_on(&spec.identity, terms)?;
    write_pair(&pair, &crt, &key, record)?;
    Ok((Outcome::Made, half.into_iter().collect()))
}

/// A pair that is there: does it fit, and is it in its time?
fn look_over(
    pair: &Pair,
    spec: &CertSpec,
    authority: &Authority,
    terms: &Terms,
    record: Record<'_>,
) -> Result<(Outcome, Vec<String>)> {
    let seen = fitness::check(pair, spec, &authority.cert_pem)?;
    let expired = seen.not_after <= x509::now();
    if expired && authority.can_sign() {
        let (crt, key) = authority.issue_on(&spec.identity, terms)?;
        write_pair(pair, &crt, &key, record)?;
        return Ok((Outcome::Renewed, Vec::new()));
    }
    let outcome = if authority.can_sign() { Outcome::Kept } else { Outcome::External };
    Ok((outcome, fitness::ages(spec.name, &seen).into_iter().collect()))
}

/// The pair service account tokens are signed with and checked by.
fn ensure_signing_pair(pki: &Path, terms: &Terms, record: Record<'_>) -> Result<(Outcome, Vec<String>)> {
    let (secret, public) = (pki.join("sa.key"), pki.join("sa.pub"));
    if !secret.exists() && public.exists() {
        bail!(
            "{} is there without {}: tokens can't be signed; put the key there, or move the public half away to have a new pair made",
            public.display(),
            secret.display()
        );
    }
    let (key, made) = match secret.exists() {
        true => (Key::from_pem(&read(&secret)?).with_context(|| format!("{}", secret.display()))?, false),
        false => (Key::generate(terms.algorithm)?, true),
    };
    if made {
        announce(&secret, record)?;
        write_file(&secret, key.to_pem().as_bytes(), 0o600)?;
    }
    if public.exists() {
        check_public(&public, &key)?;
    } else {
        announce(&public, record)?;
        write_file(&public, key.public_pem().as_bytes(), 0o600)?;
    }
    Ok((if made { Outcome::Made } else { Outcome::Kept }, Vec::new()))
}

/// The file of public keys may hold old ones too; the key's own must be among them.
fn check_public(public: &Path, key: &Key) -> Result<()> {
    let text = read(public)?;
    let wanted: String = key.public_pem().lines().filter(|l| !l.starts_with('-')).collect();
    let held: String = text.split_whitespace().collect();
    anyhow::ensure!(
        held.contains(&wanted),
        "{} does not hold the public half of sa.key: tokens would be signed by one key and checked by another. Move {} away to have it written from sa.key",
        public.display(),
        public.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests;
