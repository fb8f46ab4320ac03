//! Which tokens nobody uses, and what is done about one. Pure.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount, Volume};
use serde_json::json;

use crate::kit::Write;
use crate::kit::meta::{annotation, created, label, name, uid};
use crate::kit::write::Format;

/// The day a token was last used, written by the API server.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The day from which on a token is refused.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// A day as labels have it.
pub fn date(text: &str) -> Option<Date> {
    let found: Date = text.parse().ok()?;
    // Other spellings of a day are none.
    (found.to_string() == text).then_some(found)
}

/// What counts as long ago.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    today: Date,
    /// What was made or used from here on stays.
    from: Timestamp,
}

impl Term {
    /// A term that ends now; nothing while uses have not been noted for all of it. They are from the day after the
    /// noted one on.
    pub fn new(since: Date, period: Duration, now: Timestamp) -> Option<Self> {
        let day = since.checked_add(1.day()).ok()?;
        let noted = day.to_zoned(TimeZone::UTC).ok()?.timestamp();
        let period = SignedDuration::try_from(period).ok()?;
        let from = now.checked_sub(period).ok()?;
        (noted <= from).then(|| Self { today: now.to_zoned(TimeZone::UTC).date(), from })
    }

    fn first_day(&self) -> Date {
        self.from.to_zoned(TimeZone::UTC).date()
    }
}

/// Whether a token is older than the term and was not used in it. One whose last use cannot be read is let be.
pub fn unused(secret: &Secret, term: &Term) -> bool {
    let meta = &secret.metadata;
    let used = match label(meta, LAST_USED) {
        None => false,
        Some(text) => date(text).is_none_or(|day| day >= term.first_day()),
    };
    !used && meta.deletion_timestamp.is_none() && created(meta) < term.from
}

/// Whether a token was made for an account by itself: the account names it.
pub fn made_for(secret: &Secret, account: &ServiceAccount) -> bool {
    let (meta, bound) = (&secret.metadata, annotation(&secret.metadata, ACCOUNT_UID).unwrap_or_default());
    let named = account.secrets.iter().flatten().any(|s| s.name == meta.name);
    let its = annotation(meta, ACCOUNT).is_some_and(|a| !a.is_empty() && a == name(&account.metadata));
    named && its && (bound.is_empty() || bound == uid(&account.metadata))
}

/// The next step on the way of an unused token: declared invalid today, or deleted if it has been for the whole term.
pub fn write(secret: &Secret, term: &Term) -> Option<Write> {
    let meta = &secret.metadata;
    let Some(since) = label(meta, INVALID_SINCE).and_then(date) else {
        let labels = json!({INVALID_SINCE: term.today.to_string()});
        let body = json!({"metadata": {"uid": meta.uid, "labels": labels}});
        return Some(Write::patch(secret, Format::Merge, body).note("invalid from today"));
    };
    if since >= term.first_day() {
        return None;
    }
    let mut write = Write::delete(secret).note("invalid for long");
    // Whoever labels it used in this moment saves it.
    write.body["preconditions"]["resourceVersion"] = json!(meta.resource_version);
    Some(write)
}

/// The Secrets a pod names, wherever it does.
pub fn uses(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut found: Vec<String> = spec.image_pull_secrets.iter().flatten().map(|r| r.name.clone()).collect();
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for container in plain {
        let from = container.env_from.iter().flatten().filter_map(|e| e.secret_ref.as_ref());
        found.extend(from.map(|r| r.name.clone()));
        let values = container.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
        found.extend(values.filter_map(|v| v.secret_key_ref.as_ref()).map(|r| r.name.clone()));
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        let from = container.env_from.iter().flatten().filter_map(|e| e.secret_ref.as_ref());
        found.extend(from.map(|r| r.name.clone()));
        let values = container.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
        found.extend(values.filter_map(|v| v.secret_key_ref.as_ref()).map(|r| r.name.clone()));
    }
    found.extend(spec.volumes.iter().flatten().flat_map(of_volume));
    found.retain(|name| !name.is_empty());
    found
}

fn of_volume(volume: &Volume) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(volume.secret.as_ref().and_then(|s| s.secret_name.clone()));
    found.extend(volume.azure_file.as_ref().map(|s| s.secret_name.clone()));
    let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    found.extend(sources.filter_map(|s| s.secret.as_ref()).map(|s| s.name.clone()));
    let references = [
        volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.cinder.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.flex_volume.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.scale_io.as_ref().map(|v| &v.secret_ref),
        volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.storageos.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.csi.as_ref().and_then(|v| v.node_publish_secret_ref.as_ref()),
    ];
    found.extend(references.into_iter().flatten().map(|r| r.name.clone()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;

    const YEAR: Duration = Duration::from_secs(365 * 86400);

    /// The term of a year that ends on 2026-01-01 at ten.
    fn term() -> Term {
        Term::new(date("2024-06-01").unwrap(), YEAR, now()).unwrap()
    }

    fn secret(made: &str, labels: &str) -> Secret {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: s, namespace: ns, uid: u, resourceVersion: '7', creationTimestamp: '{made}T00:00:00Z', labels: {{{labels}}}, annotations: {{kubernetes.io/service-account.name: robot, kubernetes.io/service-account.uid: r}}}}}}"
        ))
        .unwrap()
    }

    #[test]
    fn uses_must_have_been_noted_for_the_whole_term() {
        let begins = |since: &str| Term::new(date(since).unwrap(), YEAR, now()).is_some();
        assert!(begins("2024-12-31") && begins("2024-01-01"));
        assert!(!begins("2025-01-01") && !begins("2025-12-31"));
        assert_eq!([date("2025-1-1"), date("yesterday"), date("20250101")], [None; 3]);
    }

    #[test]
    fn old_and_unused_ones() {
        let judge = |made: &str, labels: &str| unused(&secret(made, labels), &term());
        assert!(judge("2024-01-01", ""));
        assert!(!judge("2025-06-01", ""));
        assert!(judge("2024-01-01", "kubernetes.io/legacy-token-last-used: '2024-12-31'"));
        assert!(!judge("2024-01-01", "kubernetes.io/legacy-token-last-used: '2025-01-01'"));
        assert!(!judge("2024-01-01", "kubernetes.io/legacy-token-last-used: never"));
    }

    #[test]
    fn only_those_an_account_names() {
        let account = |text: &str| -> ServiceAccount {
            serde_yaml::from_str(&format!("{{metadata: {{name: robot, uid: r}}, {text}}}")).unwrap()
        };
        let token = secret("2024-01-01", "");
        assert!(made_for(&token, &account("secrets: [{name: s}]")));
        assert!(!made_for(&token, &account("secrets: [{name: t}]")));
        assert!(!made_for(&token, &account("")));
        let mut other = account("secrets: [{name: s}]");
        other.metadata.uid = Some("q".into());
        assert!(!made_for(&token, &other));
    }

    #[test]
    fn first_invalid_then_gone() {
        let step = |labels: &str| write(&secret("2024-01-01", labels), &term());
        let marked = step("").unwrap();
        assert_eq!(marked.body["metadata"]["labels"][INVALID_SINCE], "2026-01-01");
        assert_eq!(marked.body["metadata"]["uid"], "u");
        assert_eq!(step("kubernetes.io/legacy-token-invalid-since: soon").unwrap().body, marked.body);
        assert_eq!(step("kubernetes.io/legacy-token-invalid-since: '2025-01-01'"), None);
        let gone = step("kubernetes.io/legacy-token-invalid-since: '2024-12-31'").unwrap();
        assert_eq!(gone.body["preconditions"], json!({"uid": "u", "resourceVersion": "7"}));
    }

    #[test]
    fn wherever_pods_name_them() {
        let pod: Pod = serde_yaml::from_str(
            "{spec: {imagePullSecrets: [{name: a}], containers: [{name: c, envFrom: [{secretRef: {name: b}}], env: [{name: E, valueFrom: {secretKeyRef: {name: c, key: k}}}]}], initContainers: [{name: i, envFrom: [{secretRef: {name: d}}]}], ephemeralContainers: [{name: e, envFrom: [{secretRef: {name: e}}]}], volumes: [{name: v, secret: {secretName: f}}, {name: w, projected: {sources: [{secret: {name: g}}]}}, {name: x, csi: {driver: d, nodePublishSecretRef: {name: h}}}]}}",
        )
        .unwrap();
        assert_eq!(uses(&pod).concat(), "abcdefgh");
    }
}
