//! Certificate signing requests: approving kubelets' own, signing what is approved, and clearing away old ones.
//!
//! Upstream leaves serving certificates of kubelets to an approver of the cluster's own; [`serving`] is one.

mod request;
mod serving;
pub(crate) mod signer;

pub use serving::start as start_serving_approver;

use std::sync::Arc;
use std::time::Duration;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest as Csr, CertificateSigningRequestCondition as Condition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, PostParams};

use crate::kit::meta::created;
use crate::kit::{Context, Write};
use request::Request;
use signer::Signers;

const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

fn queue() -> Queue<Key> {
    Queue::with_backoff(Duration::from_millis(200), Duration::from_secs(1000))
}

fn condition<'a>(csr: &'a Csr, kind: &str) -> Option<&'a Condition> {
    csr.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind && c.status == "True")
}

fn issued(csr: &Csr) -> bool {
    csr.status.as_ref().and_then(|s| s.certificate.as_ref()).is_some_and(|c| !c.0.is_empty())
}

fn add(csr: &Csr, kind: &str, reason: &str, message: &str) -> Csr {
    let mut csr = csr.clone();
    let now = Some(Time(Timestamp::now()));
    csr.status.get_or_insert_default().conditions.get_or_insert_default().push(Condition {
        type_: kind.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: now.clone(),
        last_transition_time: now,
    });
    csr
}

/// Starts the approver.
pub fn start_approver(context: Context) {
    let requests: Cache<Csr> = context.caches.of();
    let queue = queue();
    let q = queue.clone();
    requests.handle(move |event| q.add(event.key.clone()));
    let room = Arc::new((context.clone(), requests));
    context.run(Options::new("certificatesigningrequest-approving-controller", 5), queue, move |key| {
        let room = room.clone();
        async move { approve(&room.0, &room.1, &key).await }
    });
}

/// The permission a request needs to be approved, and what is said then. `None`: not ours to approve.
fn approval(csr: &Csr) -> Option<(&'static str, &'static str)> {
    if issued(csr) || condition(csr, "Approved").is_some() || condition(csr, "Denied").is_some() {
        return None;
    }
    if csr.spec.signer_name != KUBELET_CLIENT {
        return None;
    }
    let request = Request::parse(&csr.spec.request.0).ok()?;
    request.is_kubelet_client(csr.spec.usages.as_deref().unwrap_or_default()).ok()?;
    let own = csr.spec.username.as_deref() == Some(request.common_name.as_str());
    Some(match own {
        true => {
            ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.")
        }
        false => ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
    })
}

async fn approve(context: &Context, requests: &Cache<Csr>, key: &Key) -> Outcome {
    let Some(csr) = requests.get_key(key) else { return Ok(None) };
    // A node's own request may pass either door, as upstream's recognisers are tried in turn.
    let Some((subresource, message)) = approval(&csr) else { return Ok(None) };
    let mut doors = vec![(subresource, message)];
    if subresource == "selfnodeclient" {
        doors.push(("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."));
    }
    for (subresource, message) in doors {
        if allowed(context, &csr, subresource).await? {
            tracing::info!(csr = %key, subresource, "approving");
            let approved = add(&csr, "Approved", "AutoApproved", message);
            context.writer.send(&Write::update(&approved).subresource("approval")).await?;
            return Ok(None);
        }
    }
    // Not allowed now; a permission granted later is found by looking again.
    anyhow::bail!("recognized csr {key} but subject access review was not approved")
}

async fn allowed(context: &Context, csr: &Csr, subresource: &str) -> anyhow::Result<bool> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: csr.spec.username.clone(),
            uid: csr.spec.uid.clone(),
            groups: csr.spec.groups.clone(),
            extra: csr.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".into()),
                resource: Some("certificatesigningrequests".into()),
                verb: Some("create".into()),
                subresource: Some(subresource.into()),
                version: Some("*".into()),
                ..Default::default()
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(context.writer.client());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

/// Starts the signers.
pub fn start_signer(context: Context) {
    let signers = match Signers::new(&context.config) {
        Ok(signers) => Arc::new(signers),
        Err(error) => return tracing::error!(error = format!("{error:#}"), "certificates cannot be signed"),
    };
    if signers.is_empty() {
        return tracing::info!("no signing certificate is given, nothing is signed");
    }
    let requests: Cache<Csr> = context.caches.of();
    let queue = queue();
    let q = queue.clone();
    requests.handle(move |event| q.add(event.key.clone()));
    let room = Arc::new((context.clone(), requests, signers));
    context.run(Options::new("certificatesigningrequest-signing-controller", 5), queue, move |key| {
        let room = room.clone();
        async move { sign(&room.0, &room.1, &room.2, &key).await }
    });
}

async fn sign(context: &Context, requests: &Cache<Csr>, signers: &Signers, key: &Key) -> Outcome {
    let Some(csr) = requests.get_key(key) else { return Ok(None) };
    if issued(&csr) || condition(&csr, "Approved").is_none() || condition(&csr, "Failed").is_some() {
        return Ok(None);
    }
    let signed = match signers.sign(&csr, Timestamp::now()) {
        None => return Ok(None),
        Some(Ok(pem)) => {
            let mut csr = (*csr).clone();
            csr.status.get_or_insert_default().certificate = Some(ByteString(pem.into_bytes()));
            csr
        }
        Some(Err(signer::Refusal::Invalid(why))) => add(&csr, "Failed", "SignerValidationFailure", &why),
        Some(Err(signer::Refusal::Broken(error))) => return Err(error),
    };
    tracing::info!(csr = %key, signer = csr.spec.signer_name, issued = issued(&signed), "request settled");
    context.writer.send(&Write::update_status(&signed)).await?;
    Ok(None)
}

/// Starts the cleaner.
pub fn start_cleaner(context: Context) {
    let requests: Cache<Csr> = context.caches.of();
    let queue = queue();
    let q = queue.clone();
    requests.handle(move |event| q.add(event.key.clone()));
    let room = Arc::new((context.clone(), requests));
    context.run(Options::new("certificatesigningrequest-cleaner-controller", 1), queue, move |key| {
        let room = room.clone();
        async move {
            let Some(csr) = room.1.get_key(&key) else { return Ok(None) };
            let now = Timestamp::now();
            let at = expires(&csr);
            if at > now {
                return Ok(Some(crate::kit::meta::until(at, now) + Duration::from_secs(1)));
            }
            match room.0.writer.send(&Write::delete(&*csr)).await {
                Err(failure) if !failure.not_found() => Err(failure.into()),
                _ => Ok(None),
            }
        }
    });
}

/// When a request is cleared away: an hour after it was settled, a day if it never was, and at once when the
/// certificate it led to has expired.
fn expires(csr: &Csr) -> Timestamp {
    let hours = |n: i64| SignedDuration::from_hours(n);
    let at = |c: &Condition| c.last_update_time.as_ref().map_or(created(&csr.metadata), |t| t.0);
    let settled = ["Denied", "Failed", "Approved"].iter().filter_map(|k| condition(csr, k));
    let by_state = settled.map(|c| at(c) + hours(1)).min();
    let by_state = by_state.unwrap_or_else(|| created(&csr.metadata) + hours(24));
    let certificate = csr.status.as_ref().and_then(|s| s.certificate.as_ref());
    match certificate.and_then(|c| request::not_after(&c.0)) {
        Some(end) => end.min(by_state),
        None => by_state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::time;

    fn kubelet(user: &str) -> Csr {
        let mut csr = Csr::default();
        csr.spec.signer_name = KUBELET_CLIENT.into();
        csr.spec.username = Some(user.into());
        csr.spec.usages = Some(vec!["digital signature".into(), "client auth".into()]);
        csr.spec.request =
            ByteString(request::tests::pem("system:node:a", &["system:nodes"], &[]).into_bytes());
        csr.metadata.creation_timestamp = Some(time("2026-01-01T00:00:00Z"));
        csr
    }

    #[test]
    fn who_is_approved_by_which_permission() {
        assert_eq!(approval(&kubelet("system:bootstrap:abc")).unwrap().0, "nodeclient");
        assert_eq!(approval(&kubelet("system:node:a")).unwrap().0, "selfnodeclient");
        let approved = add(&kubelet("system:node:a"), "Approved", "x", "y");
        assert_eq!(approval(&approved), None);
        let mut serving = kubelet("system:node:a");
        serving.spec.signer_name = "kubernetes.io/kubelet-serving".into();
        assert_eq!(approval(&serving), None);
        let mut other = kubelet("system:node:a");
        other.spec.usages = Some(vec!["server auth".into()]);
        assert_eq!(approval(&other), None);
    }

    #[test]
    fn old_requests_go() {
        assert_eq!(expires(&kubelet("x")), time("2026-01-02T00:00:00Z").0);
        let mut denied = add(&kubelet("x"), "Denied", "x", "y");
        denied.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].last_update_time =
            Some(time("2026-01-01T05:00:00Z"));
        assert_eq!(expires(&denied), time("2026-01-01T06:00:00Z").0);
        // The hour counts from the first word, whatever was said after.
        let mut failed = add(&denied, "Failed", "x", "y");
        failed.status.as_mut().unwrap().conditions.as_mut().unwrap()[1].last_update_time =
            Some(time("2026-01-01T07:00:00Z"));
        assert_eq!(expires(&failed), time("2026-01-01T06:00:00Z").0);
    }
}
