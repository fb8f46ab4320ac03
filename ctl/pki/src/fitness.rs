//! Does a certificate that is there fit its place?

use anyhow::{Context, Result, bail};

use crate::cluster::CertSpec;
use crate::files::{Pair, read};
use crate::key::Key;
use crate::x509::{self, Seen};

/// Reads a pair and holds it against its place: its own key, its authority, its usages, its names. Times are not looked
/// at.
///
/// # Errors
/// The first thing that does not fit, with its cure.
pub fn check(pair: &Pair, spec: &CertSpec, ca_pem: &str) -> Result<Seen> {
    let (crt, key) = (pair.crt.display(), pair.key.display());
    let pem = read(&pair.crt)?;
    let seen = x509::read(&pem)
        .with_context(|| format!("{crt} can't be read; move it away to have a new one made"))?;
    let secret = Key::from_pem(&read(&pair.key)?)
        .with_context(|| format!("{key} can't be read; move it and {crt} away to have new ones made"))?;
    if secret.spki() != seen.spki {
        bail!(
            "{key} is not the key of {crt}: put the two that belong together there, or move both away to have new ones made"
        );
    }
    let ca = spec.ca.unwrap_or_default();
    if !x509::signed_by(&pem, ca_pem) {
        bail!(
            "{crt} was not signed by this cluster's authority {ca}; it is left from another cluster: move {crt} and {key} away to have new ones made"
        );
    }
    let missing = missing(&seen, spec);
    if !missing.is_empty() {
        bail!(
            "{crt} does not hold {}: it is for another machine or another configuration; move {crt} and {key} away to have new ones made",
            missing.join(", ")
        );
    }
    Ok(seen)
}

/// What of its place a certificate lacks.
fn missing(seen: &Seen, spec: &CertSpec) -> Vec<String> {
    let (has, wants) = (&seen.identity, &spec.identity);
    let mut out = Vec::new();
    let mut need = |there: bool, what: String| out.extend((!there).then_some(what));
    need(has.server || !wants.server, "usage serverAuth".into());
    need(has.client || !wants.client, "usage clientAuth".into());
    // A client is who its certificate says; a server's name is not looked at by anybody.
    need(wants.server || has.cn == wants.cn, format!("name CN={}", wants.cn));
    let ours = spec.name == "apiserver";
    for dns in wants.dns.iter().filter(|n| !(ours && *n == "localhost")) {
        need(has.dns.iter().any(|h| h.eq_ignore_ascii_case(dns)), format!("DNS name {dns}"));
    }
    for ip in wants.ips.iter().filter(|i| !(ours && i.is_loopback())) {
        need(has.ips.contains(ip), format!("address {ip}"));
    }
    out
}

/// A line when a certificate is out of its time.
pub fn ages(name: &str, seen: &Seen) -> Option<String> {
    let now = x509::now();
    if seen.not_after <= now {
        return Some(format!("the certificate {name} has run out (on {})", date(seen.not_after)));
    }
    (seen.not_before > now).then(|| {
        format!("the certificate {name} is not valid before {}: is the clock right?", date(seen.not_before))
    })
}

/// A time as kubeadm writes it: `Nov 21, 2026 18:55 UTC`.
pub fn date(second: i64) -> String {
    let time = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%b %d, %Y %H:%M UTC").to_string()
}
