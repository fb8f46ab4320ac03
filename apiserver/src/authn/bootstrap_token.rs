//! Bootstrap tokens: `ID.SECRET` of secrets in kube-system, for machines that join.

use std::collections::BTreeMap;

use serde_json::Value;

use super::lookup::{Lookup, text};
use super::service_account::{epoch_seconds, secret_value};
use crate::request::UserInfo;

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
/// What the names of those who join begin with.
pub const USER_PREFIX: &str = "system:bootstrap:";

/// Id and secret of a token of this form.
pub fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// The user of a token; `None` when it is no bootstrap token or not a good one. `now` in epoch seconds.
pub fn check(token: &str, objects: &dyn Lookup, now: i64) -> Option<UserInfo> {
    let (id, secret) = split(token)?;
    let stored = objects.get("secrets", "kube-system", &format!("bootstrap-token-{id}"))?;
    if !usable(&stored, now) || secret_value(&stored, "token-id") != id.as_bytes() {
        return None;
    }
    same(&secret_value(&stored, "token-secret"), secret.as_bytes()).then_some(())?;
    Some(UserInfo {
        name: format!("{USER_PREFIX}{id}"),
        uid: String::new(),
        groups: groups(&stored)?,
        extra: BTreeMap::new(),
    })
}

/// Compares without telling by its duration where two secrets differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

fn usable(secret: &Value, now: i64) -> bool {
    text(secret, "/type") == SECRET_TYPE
        && machinery::meta::deletion_timestamp(secret).is_none()
        && secret_value(secret, "usage-bootstrap-authentication") == b"true"
        && !expired(&secret_value(secret, "expiration"), now)
}

/// No expiry lasts for ever; one that cannot be read is past.
fn expired(expiration: &[u8], now: i64) -> bool {
    if expiration.is_empty() {
        return false;
    }
    let at = std::str::from_utf8(expiration).ok().and_then(epoch_seconds);
    at.is_none_or(|at| at <= now)
}

/// `None` when a group is outside the ones such tokens may give.
fn groups(secret: &Value) -> Option<Vec<String>> {
    let extra = String::from_utf8(secret_value(secret, "auth-extra-groups")).ok()?;
    let mut out = vec![GROUP.to_owned()];
    for group in extra.split(',').map(str::trim).filter(|g| !g.is_empty()) {
        let suffix = group.strip_prefix("system:bootstrappers:")?;
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, ':' | '-');
        let good = edge(suffix.chars().next()) && edge(suffix.chars().last()) && suffix.chars().all(inner);
        good.then(|| out.push(group.to_owned()))?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::super::lookup::fixture::Fixed;
    use super::*;

    fn store(changes: &[(&str, &str)]) -> Fixed {
        let mut data = serde_json::Map::new();
        let usual = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", "2030-01-01T00:00:00Z"),
            ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token"),
        ];
        for (key, value) in usual.iter().chain(changes) {
            data.insert((*key).to_owned(), json!(STANDARD.encode(value)));
        }
        Fixed::default().with(
            "secrets",
            json!({"type": SECRET_TYPE, "data": data,
            "metadata": {"namespace": "kube-system", "name": "bootstrap-token-abcdef"}}),
        )
    }

    #[test]
    fn good_and_bad() {
        let token = "abcdef.0123456789abcdef";
        let now = epoch_seconds("2026-01-01T00:00:00Z").expect("time");
        for (what, token, changes, good) in [
            ("usual", token, &[][..], true),
            ("wrong secret", "abcdef.0123456789abcdee", &[], false),
            ("unknown id", "abcdeg.0123456789abcdef", &[], false),
            ("not of this form", "abc.def", &[], false),
            ("expired", token, &[("expiration", "2025-01-01T00:00:00Z")], false),
            ("unreadable expiry", token, &[("expiration", "soon")], false),
            ("no expiry", token, &[("expiration", "")], true),
            ("not for this use", token, &[("usage-bootstrap-authentication", "false")], false),
            ("foreign group", token, &[("auth-extra-groups", "system:masters")], false),
        ] {
            assert_eq!(check(token, &store(changes), now).is_some(), good, "{what}");
        }
        let user = check(token, &store(&[]), now).expect("user");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, [GROUP, "system:bootstrappers:kubeadm:default-node-token"]);
    }
}
