//! Discovery by token: a signature proves that cluster-info was written by a cluster that knows the token; a pin, that its
//! authority is the wanted one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use coxctl_config::BootstrapTokenDiscovery;
use coxctl_pki::{
    ca_hashes,
    token::{Token, verify},
};
use serde_json::{Value, json};

use super::{Fault, Found, probe};
use crate::clusterinfo::{Cluster, cluster_of, signature_key};
use crate::say;

/// Where everybody may read it.
pub const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Finds and trusts the cluster.
///
/// # Errors
/// A [`Fault`], after as long as it may pass by itself.
pub async fn find(
    by: &BootstrapTokenDiscovery,
    login: &str,
    limit: Duration,
    explicit: bool,
) -> Result<Found> {
    let token = Token::parse(&by.token)?;
    let address = &by.api_server_endpoint;
    let (begin, mut pause, mut said) = (Instant::now(), FIRST_PAUSE, false);
    loop {
        let fault = match attempt(by, &token).await {
            Ok((cluster, skew)) => {
                let login = if login.is_empty() { &by.token } else { login };
                return Ok(Found { cluster, credentials: json!({"token": login}), skew });
            }
            Err(fault) => fault,
        };
        let patience = fault.patience(limit, explicit);
        if begin.elapsed() + pause > patience {
            return Err(fault).context("couldn't validate the identity of the API Server");
        }
        if !said {
            say::line(
                "discovery",
                format_args!("Waiting for {address} (up to {} s): {fault}", patience.as_secs()),
            );
            said = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LAST_PAUSE);
    }
}

async fn attempt(by: &BootstrapTokenDiscovery, token: &Token) -> Result<(Cluster, Option<i64>), Fault> {
    let address = &by.api_server_endpoint;
    let answer = probe::get(address, CLUSTER_INFO, None).await?;
    let skew = answer.date.as_deref().and_then(skew);
    let kubeconfig = signed(&answer, token, address)?;
    let cluster = cluster_of(&kubeconfig).map_err(|e| Fault::Other(format!("cluster-info: {e:#}")))?;
    if by.ca_cert_hashes.is_empty() {
        return Ok((cluster, skew));
    }
    pinned(&cluster.ca_pem, &by.ca_cert_hashes, address)?;
    let again = probe::get(address, CLUSTER_INFO, Some(&cluster.ca_pem)).await;
    let again = again.map_err(|f| with_skew(f, skew))?;
    match kubeconfig_in(&again.body) == Some(kubeconfig) {
        true => Ok((cluster, skew)),
        false => Err(Fault::Differs { address: address.clone() }),
    }
}

/// The kubeconfig of cluster-info, if the token signed it.
fn signed(answer: &probe::Answer, token: &Token, address: &str) -> Result<String, Fault> {
    let address = address.to_string();
    let object: Value = match (answer.status, serde_json::from_slice(&answer.body)) {
        (200, Ok(object)) => object,
        (401 | 403, Ok::<Value, _>(_)) => return Err(Fault::NoClusterInfo { address }),
        (404, Ok(object)) if object["kind"] == "Status" => return Err(Fault::NoClusterInfo { address }),
        (500.., Ok(object)) if object["kind"] == "Status" => {
            return Err(Fault::Unreachable {
                address,
                cause: object["message"].as_str().unwrap_or("it is starting").into(),
            });
        }
        (status, _) => return Err(Fault::NotApi { address, what: format!("it answers {status}") }),
    };
    let data = &object["data"];
    let Some(kubeconfig) = data["kubeconfig"].as_str() else { return Err(Fault::NoClusterInfo { address }) };
    match data[signature_key(&token.id)].as_str() {
        None => Err(Fault::UnknownToken { id: token.id.clone() }),
        Some(signature) if verify(kubeconfig, token, signature) => Ok(kubeconfig.to_string()),
        Some(_) => Err(Fault::BadSignature { id: token.id.clone(), address }),
    }
}

/// The kubeconfig in the body of cluster-info.
pub fn kubeconfig_in(body: &[u8]) -> Option<String> {
    let object: Value = serde_json::from_slice(body).ok()?;
    object["data"]["kubeconfig"].as_str().map(str::to_string)
}

/// Any authority of the bundle with any of the pins is enough.
fn pinned(ca_pem: &str, pins: &[String], address: &str) -> Result<(), Fault> {
    let have = ca_hashes(ca_pem).map_err(|e| Fault::Other(format!("the cluster's authority: {e:#}")))?;
    if have.iter().any(|h| pins.iter().any(|p| p.eq_ignore_ascii_case(h))) {
        return Ok(());
    }
    Err(Fault::OtherAuthority { have: have.join(", "), want: pins.join(", "), address: address.into() })
}

/// The server's clock less ours, in seconds.
pub fn skew(date: &str) -> Option<i64> {
    let theirs = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(theirs.as_second() - jiff::Timestamp::now().as_second())
}

fn with_skew(fault: Fault, seen: Option<i64>) -> Fault {
    match fault {
        Fault::NotYetValid { address, now, .. } => Fault::NotYetValid { address, now, skew: seen },
        Fault::Expired { address, now, .. } => Fault::Expired { address, now, skew: seen },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coxctl_pki::token::sign;

    fn answer(status: u16, body: Value) -> probe::Answer {
        probe::Answer { status, date: None, body: body.to_string().into_bytes() }
    }

    #[test]
    fn only_the_tokens_own_signature_counts() {
        let token = Token::parse("abcdef.0123456789abcdef").unwrap();
        let other = Token::parse("abcdef.0123456789abcdee").unwrap();
        let of = |t: &Token| {
            answer(200, json!({"data": {"kubeconfig": "k", "jws-kubeconfig-abcdef": sign("k", t)}}))
        };
        assert_eq!(signed(&of(&token), &token, "a:1").unwrap(), "k");
        assert!(matches!(signed(&of(&other), &token, "a:1"), Err(Fault::BadSignature { .. })));
        let unsigned = answer(200, json!({"data": {"kubeconfig": "k"}}));
        assert!(matches!(signed(&unsigned, &token, "a:1"), Err(Fault::UnknownToken { .. })));
        let none = answer(404, json!({"kind": "Status"}));
        assert!(matches!(signed(&none, &token, "a:1"), Err(Fault::NoClusterInfo { .. })));
        let stranger = probe::Answer { status: 404, date: None, body: b"nginx".to_vec() };
        assert!(matches!(signed(&stranger, &token, "a:1"), Err(Fault::NotApi { .. })));
    }

    #[test]
    fn clocks_are_compared() {
        let now = jiff::Timestamp::now().as_second();
        let date = jiff::fmt::rfc2822::DateTimePrinter::new();
        let at = |s: i64| {
            date.timestamp_to_rfc9110_string(&jiff::Timestamp::from_second(now + s).unwrap()).unwrap()
        };
        assert!((skew(&at(600)).unwrap() - 600).abs() <= 1);
        assert_eq!(skew("yesterday"), None);
    }
}
