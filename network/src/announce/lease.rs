//! Leases of addresses: what they say, and writing ourselves into them.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{HeaderValue, Request};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client};
use serde::Deserialize;

/// Time for one write: no longer than until doubt sets in, and enough for a server that is busy.
const CALL: Duration = Duration::from_secs(4);
const ADDRESS: &str = "coxswain.io/address";
const SERVICES: &str = "coxswain.io/services";
const INTERFACES: &str = "coxswain.io/interfaces";
/// When a Lease does not say.
const LENGTH: i32 = 5;

/// The user that Leases are written as: a node itself may write no other Lease than that of its heartbeat.
const ANNOUNCER: HeaderValue = HeaderValue::from_static("system:coxswain:announcer");

/// The same client in the name of that user.
pub fn as_announcer(client: &Client) -> Client {
    let namespace = client.default_namespace().to_string();
    let client = client.clone();
    let service = tower::service_fn(move |mut request: Request<Body>| {
        request.headers_mut().insert("impersonate-user", ANNOUNCER);
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(service, namespace)
}

/// A Service that uses an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub struct Party {
    pub namespace: String,
    pub name: String,
    /// Only nodes with ready endpoints of it may answer.
    pub local: bool,
}

/// What a Lease is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub address: IpAddr,
    pub parties: Vec<Party>,
    /// Names of links it may be announced on, a regular expression.
    pub interfaces: Option<String>,
}

/// Reads a Lease; `None` for one that is not of an address.
pub fn read(lease: &Lease) -> Option<Claim> {
    let note = |key: &str| lease.metadata.annotations.as_ref()?.get(key);
    let parties = note(SERVICES).and_then(|s| serde_json::from_str(s).ok()).unwrap_or_default();
    Some(Claim { address: note(ADDRESS)?.parse().ok()?, parties, interfaces: note(INTERFACES).cloned() })
}

/// Who holds it; empty for nobody.
pub fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref()).unwrap_or_default()
}

/// How long it is good without being renewed.
pub fn length(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|s| s.lease_duration_seconds).unwrap_or(LENGTH);
    Duration::from_secs(u64::try_from(seconds.clamp(1, 60)).unwrap_or(1))
}

/// The Lease's version, as a number to compare by.
pub fn version(lease: &Lease) -> u64 {
    lease.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Writes the holder, `None` to leave it to others.
///
/// # Errors
/// When the API server refuses or does not answer in time.
pub async fn write(api: &Api<Lease>, lease: &Lease, who: Option<&str>) -> Result<Lease> {
    let name = lease.metadata.name.clone().unwrap_or_default();
    let mut changed = lease.clone();
    changed.metadata.managed_fields = None;
    changed.spec = Some(spec(&lease.spec.clone().unwrap_or_default(), who));
    let params = PostParams::default();
    let call = api.replace(&name, &params, &changed);
    Ok(tokio::time::timeout(CALL, call).await.context("the API server does not answer")??)
}

fn spec(old: &LeaseSpec, who: Option<&str>) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let same = old.holder_identity.as_deref().filter(|h| !h.is_empty()) == who;
    let changes = old.lease_transitions.unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(who.unwrap_or_default().into()),
        lease_duration_seconds: old.lease_duration_seconds.or(Some(LENGTH)),
        acquire_time: if same { old.acquire_time.clone() } else { Some(now.clone()) },
        renew_time: Some(now),
        lease_transitions: Some(if same || who.is_none() { changes } else { changes.saturating_add(1) }),
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_says_what_it_is_about() {
        let lease: Lease = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "x", "resourceVersion": "7", "annotations": {
                ADDRESS: "10.0.0.1", INTERFACES: "^eth",
                SERVICES: r#"[{"namespace":"n","name":"s","uid":"u","local":true,"ports":["TCP/80"]}]"#}},
            "spec": {"holderIdentity": "a", "leaseDurationSeconds": 5},
        }))
        .unwrap();
        let claim = read(&lease).unwrap();
        assert_eq!(claim.parties, [Party { namespace: "n".into(), name: "s".into(), local: true }]);
        assert_eq!((holder(&lease), version(&lease), length(&lease).as_secs()), ("a", 7, 5));
        assert_eq!(read(&Lease::default()), None);
    }

    #[test]
    fn changes_of_the_holder_are_counted() {
        let none = LeaseSpec { lease_duration_seconds: Some(5), ..LeaseSpec::default() };
        let first = spec(&none, Some("a"));
        let again = spec(&first, Some("a"));
        assert_eq!((first.lease_transitions, again.lease_transitions), (Some(1), Some(1)));
        assert_eq!(first.acquire_time, again.acquire_time);
        let left = spec(&again, None);
        assert_eq!((left.holder_identity.as_deref(), left.lease_transitions), (Some(""), Some(1)));
        assert_eq!(spec(&left, Some("b")).lease_transitions, Some(2));
    }
}
