//! A bootstrap token as its Secret tells it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

/// Type of the Secrets.
pub const TYPE: &str = "bootstrap.kubernetes.io/token";
/// What the names of the Secrets begin with; the rest is the token's id.
const PREFIX: &str = "bootstrap-token-";
/// The data keys that say how long a token lives.
pub const LIFE: &[&str] = &["expiration"];
/// The data keys a signer reads.
pub const SIGNING: &[&str] = &["token-id", "token-secret", "expiration", "usage-bootstrap-signing"];

/// A token that signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub secret: String,
}

fn value<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let bytes = secret.data.as_ref().and_then(|d| d.get(key));
    bytes.and_then(|b| std::str::from_utf8(&b.0).ok()).unwrap_or_default()
}

/// When the token ends; `None` if never. An end that cannot be read is long past.
pub fn end(secret: &Secret) -> Option<Timestamp> {
    match value(secret, "expiration") {
        "" => None,
        text => Some(text.parse().unwrap_or(Timestamp::MIN)),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

/// The token of a Secret, if it is whole, in date at `now` and made for signing; else why not.
pub fn signing(secret: &Secret, now: Timestamp) -> Result<Token, &'static str> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let id = value(secret, "token-id");
    if secret.metadata.deletion_timestamp.is_some() {
        return Err("is being deleted");
    }
    if !is_id(id) || name.strip_prefix(PREFIX) != Some(id) {
        return Err("token-id is not the one in the name");
    }
    if value(secret, "token-secret").is_empty() {
        return Err("token-secret is missing");
    }
    if end(secret).is_some_and(|at| at <= now) {
        return Err("has expired");
    }
    if value(secret, "usage-bootstrap-signing") != "true" {
        return Err("is not for signing");
    }
    Ok(Token { id: id.into(), secret: value(secret, "token-secret").into() })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::now;
    use k8s_openapi::ByteString;

    /// `name key=value…`
    pub fn secret(line: &str) -> Secret {
        let mut words = line.split_whitespace();
        let mut secret = Secret { type_: Some(TYPE.into()), ..Secret::default() };
        secret.metadata.name = words.next().map(String::from);
        secret.metadata.namespace = Some("kube-system".into());
        let pair = |w: &str| w.split_once('=').map(|(k, v)| (k.to_string(), ByteString(v.into())));
        secret.data = Some(words.filter_map(pair).collect());
        secret
    }

    #[test]
    fn only_whole_tokens_in_date_sign() {
        let good = "bootstrap-token-abcdef token-id=abcdef token-secret=s usage-bootstrap-signing=true";
        let judge = |line: &str| signing(&secret(line), now()).map(|t| t.id);
        assert_eq!(judge(good), Ok("abcdef".into()));
        assert_eq!(judge(&format!("{good} expiration=2026-01-01T10:00:01Z")), Ok("abcdef".into()));
        assert_eq!(judge(&format!("{good} expiration=2026-01-01T10:00:00Z")), Err("has expired"));
        assert_eq!(judge(&format!("{good} expiration=tomorrow")), Err("has expired"));
        assert_eq!(judge(&good.replace("=true", "=yes")), Err("is not for signing"));
        assert_eq!(judge(&good.replace("-abcdef", "-abcdeg")), Err("token-id is not the one in the name"));
        assert_eq!(judge(&good.replace("token-secret=s", "")), Err("token-secret is missing"));
    }
}
