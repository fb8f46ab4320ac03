//! Tokens that lie in Secrets: when they are good, and what their use leaves behind (a count, a day on the Secret, a warning).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use machinery::meta;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

use super::lookup::{Lookup, text};
use super::service_account::{account_user, secret_value, split_user};
use crate::request::UserInfo;

/// Issuer of tokens kept in secrets.
pub const ISSUER: &str = "kubernetes/serviceaccount";
/// On a token's Secret: the day on which it was used last.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// On a token's Secret: the day from which on it is refused.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Told to those who use a token that was made for their account unasked.
const ADVICE: &str = "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.";
/// Uses waiting to be noted; beyond it they are not, until the next time.
const USES: usize = 256;
const DAY: i64 = 24 * 3600;

/// What a token turned out to be, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Put into a Secret by somebody who wanted it there.
    Manual,
    /// Made for every account in older clusters.
    Auto,
    /// The same, refused since nobody used it for long.
    Invalid,
    /// Issued for a pod, and due to be renewed by now.
    Stale,
    /// Issued for a pod, and fresh.
    Fresh,
}

/// What a check brought to light beside the user.
#[derive(Debug, Default)]
pub struct Trace {
    /// What sort of token it was, if it counts.
    pub sort: Option<Sort>,
    /// What the caller is to be told.
    pub warning: Option<&'static str>,
    secret: Option<Use>,
}

/// A token was used that lies in a Secret which does not say so for this day.
#[derive(Debug, Clone, PartialEq)]
pub struct Use {
    /// Of the Secret.
    pub namespace: String,
    /// Its name.
    pub secret: String,
    /// Which Secret of that name.
    pub uid: String,
    /// `2026-01-31`.
    pub day: String,
}

/// Counts uses, and tells whoever notes them.
pub struct Uses {
    counts: [AtomicU64; 5],
    sender: mpsc::Sender<Use>,
    receiver: Mutex<Option<mpsc::Receiver<Use>>>,
}

impl Default for Uses {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(USES);
        Self { counts: Default::default(), sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Uses {
    /// The uses from now on, for one listener.
    pub fn listen(&self) -> Option<mpsc::Receiver<Use>> {
        self.receiver.lock().take()
    }

    /// Takes in what a check found.
    pub fn take(&self, trace: &Trace) {
        if let Some(sort) = trace.sort {
            self.counts[sort as usize].fetch_add(1, Ordering::Relaxed);
        }
        if let Some(used) = &trace.secret {
            // Who listens is behind: the next use will do.
            let _ = self.sender.try_send(used.clone());
        }
    }

    /// The counters under upstream's names.
    pub fn encode(&self) -> String {
        let count = |sort: Sort| self.counts[sort as usize].load(Ordering::Relaxed);
        let (manual, auto) = (count(Sort::Manual), count(Sort::Auto));
        let mut out = String::new();
        for (name, help, value) in [
            ("legacy_tokens", "Uses of tokens kept in Secrets", manual + auto),
            ("legacy_manual_token_uses", "Uses of tokens put into Secrets by hand", manual),
            ("legacy_auto_token_uses", "Uses of tokens made for accounts unasked", auto),
            ("invalid_legacy_auto_token_uses", "Refused uses of such tokens", count(Sort::Invalid)),
            ("stale_tokens", "Uses of projected tokens that should have been renewed", count(Sort::Stale)),
            ("valid_tokens", "Uses of fresh projected tokens", count(Sort::Fresh)),
        ] {
            let name = format!("serviceaccount_{name}_total");
            let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} counter\n{name} {value}");
        }
        out
    }
}

/// The user of a token from a Secret. With `objects` the Secret must still hold it, and the account must be the same.
pub fn check(
    token: &str,
    claims: &Value,
    objects: Option<&dyn Lookup>,
    now: i64,
    trace: &mut Trace,
) -> Result<UserInfo, String> {
    let claim = |key: &str| {
        let value = claims.get(format!("kubernetes.io/serviceaccount/{key}")).and_then(Value::as_str);
        value.filter(|c| !c.is_empty()).ok_or(format!("{key} claim is missing"))
    };
    let (namespace, secret) = (claim("namespace")?, claim("secret.name")?);
    let (name, uid) = (claim("service-account.name")?, claim("service-account.uid")?);
    if split_user(text(claims, "/sub")) != Some((namespace, name)) {
        return Err("sub claim is invalid".into());
    }
    trace.sort = Some(Sort::Manual);
    let Some(objects) = objects else { return Ok(account_user(namespace, name, uid)) };
    trace.sort = None;
    let stored = objects.get("secrets", namespace, secret).ok_or("Token has been invalidated")?;
    if meta::deletion_timestamp(&stored).is_some() {
        return Err("Token has been invalidated".into());
    }
    if secret_value(&stored, "token") != token.as_bytes() {
        return Err("Token does not match server's copy".into());
    }
    let account = account(objects, namespace, name, uid)?;
    trace.secret = unsaid(&stored, namespace, now);
    if meta::label(&stored, INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
        trace.sort = Some(Sort::Invalid);
        return Err(format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{name} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        ));
    }
    let named = super::lookup::items(&account, "/secrets").any(|s| text(s, "/name") == secret);
    (trace.sort, trace.warning) =
        if named { (Some(Sort::Auto), Some(ADVICE)) } else { (Some(Sort::Manual), None) };
    Ok(account_user(namespace, name, uid))
}

/// The account a token is for; other than with bound tokens, one under deletion is none any more.
fn account(
    objects: &dyn Lookup,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<std::sync::Arc<Value>, String> {
    let account = (objects.get("serviceaccounts", namespace, name))
        .ok_or_else(|| format!("serviceaccounts {name:?} not found"))?;
    if meta::deletion_timestamp(&account).is_some() {
        return Err(format!("ServiceAccount {namespace}/{name} has been deleted"));
    }
    match meta::uid(&account) {
        same if same == uid => Ok(account),
        other => Err(format!("ServiceAccount UID ({other}) does not match claim ({uid})")),
    }
}

/// The use of a Secret that does not say yet that it was used today. Another server's clock may be in tomorrow already.
fn unsaid(secret: &Value, namespace: &str, now: i64) -> Option<Use> {
    let (today, tomorrow) = (day(now)?, day(now + DAY)?);
    let said = meta::label(secret, LAST_USED);
    if said == Some(today.as_str()) || said == Some(tomorrow.as_str()) {
        return None;
    }
    Some(Use {
        namespace: namespace.to_owned(),
        secret: meta::name(secret).to_owned(),
        uid: meta::uid(secret).to_owned(),
        day: today,
    })
}

/// The UTC day of a time in epoch seconds.
pub fn day(at: i64) -> Option<String> {
    Some(jiff::Timestamp::from_second(at).ok()?.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use serde_json::json;

    use super::super::lookup::fixture::Fixed;
    use super::*;

    /// 2027-01-15.
    const NOW: i64 = 1_800_000_000;

    fn claims() -> Value {
        let p = "kubernetes.io/serviceaccount/";
        json!({"iss": ISSUER, "sub": "system:serviceaccount:a:bot",
            format!("{p}namespace"): "a", format!("{p}secret.name"): "s",
            format!("{p}service-account.name"): "bot", format!("{p}service-account.uid"): "u1"})
    }

    fn secret(labels: Value) -> Value {
        let token = base64::engine::general_purpose::STANDARD.encode("t");
        json!({"metadata": {"namespace": "a", "name": "s", "uid": "u5", "labels": labels}, "data": {"token": token}})
    }

    fn account(secrets: Value) -> Value {
        json!({"metadata": {"namespace": "a", "name": "bot", "uid": "u1"}, "secrets": secrets})
    }

    fn gone(mut object: Value) -> Value {
        object["metadata"]["deletionTimestamp"] = json!("2027-01-15T07:59:50Z");
        object
    }

    #[test]
    fn what_a_use_is() {
        let (auto, used) = (json!([{"name": "s"}]), |day: &str| json!({LAST_USED: day}));
        let invalid = json!({INVALID_SINCE: "2027-01-01", LAST_USED: "2025-12-31"});
        for (what, secret, account, sort, noted, want) in [
            ("by hand", secret(json!({})), account(json!([])), Some(Sort::Manual), true, ""),
            ("said today", secret(used("2027-01-15")), account(json!([])), Some(Sort::Manual), false, ""),
            ("said tomorrow", secret(used("2027-01-16")), account(json!([])), Some(Sort::Manual), false, ""),
            ("said yesterday", secret(used("2027-01-14")), account(auto.clone()), Some(Sort::Auto), true, ""),
            ("refused", secret(invalid), account(auto), Some(Sort::Invalid), true, "has been marked invalid"),
            ("going", gone(secret(json!({}))), account(json!([])), None, false, "Token has been invalidated"),
            (
                "account going",
                secret(json!({})),
                gone(account(json!([]))),
                None,
                false,
                "ServiceAccount a/bot has been deleted",
            ),
        ] {
            let objects = Fixed::default().with("secrets", secret).with("serviceaccounts", account);
            let mut trace = Trace::default();
            let found = check("t", &claims(), Some(&objects), NOW, &mut trace);
            let error = found.err().unwrap_or_default();
            assert!(error.contains(want) && error.is_empty() == want.is_empty(), "{what}: {error}");
            assert_eq!(trace.sort, sort, "{what}");
            assert_eq!(trace.warning.is_some(), sort == Some(Sort::Auto), "{what}");
            let want =
                Use { namespace: "a".into(), secret: "s".into(), uid: "u5".into(), day: "2027-01-15".into() };
            assert_eq!(trace.secret, noted.then_some(want), "{what}");
        }
    }

    #[test]
    fn bad_ones() {
        let objects = Fixed::default().with("secrets", secret(json!({})));
        let mut other = claims();
        other["sub"] = json!("system:serviceaccount:a:else");
        for (token, claims, want) in [
            ("x", claims(), "Token does not match server's copy"),
            ("t", claims(), "serviceaccounts \"bot\" not found"),
            ("t", other, "sub claim is invalid"),
            ("t", json!({}), "namespace claim is missing"),
        ] {
            let got = check(token, &claims, Some(&objects), NOW, &mut Trace::default());
            assert_eq!(got.expect_err("refused"), want);
        }
        let empty = Fixed::default();
        let got = check("t", &claims(), Some(&empty), NOW, &mut Trace::default());
        assert_eq!(got.expect_err("refused"), "Token has been invalidated");
    }

    #[test]
    fn uses_are_counted_and_told() {
        let uses = Uses::default();
        let mut told = uses.listen().expect("nobody listens yet");
        assert!(uses.listen().is_none());
        let used = unsaid(&secret(json!({})), "a", NOW);
        uses.take(&Trace { sort: Some(Sort::Auto), warning: None, secret: used.clone() });
        uses.take(&Trace { sort: Some(Sort::Manual), ..Trace::default() });
        uses.take(&Trace { sort: Some(Sort::Invalid), ..Trace::default() });
        assert_eq!(told.try_recv().ok(), used);
        assert!(told.try_recv().is_err());
        let text = uses.encode();
        for line in [
            "serviceaccount_legacy_tokens_total 2",
            "serviceaccount_legacy_auto_token_uses_total 1",
            "serviceaccount_invalid_legacy_auto_token_uses_total 1",
            "serviceaccount_valid_tokens_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }
}
