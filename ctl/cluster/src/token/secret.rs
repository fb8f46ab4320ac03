//! The secret a bootstrap token is kept in.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Token;

/// The namespace of bootstrap tokens.
pub const NAMESPACE: &str = "kube-system";
/// The type of their secrets.
pub const TYPE: &str = "bootstrap.kubernetes.io/token";

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The token.
    pub token: Token,
    /// Free words.
    pub description: String,
    /// Until when it is good; `None`: for ever.
    pub expires: Option<Timestamp>,
    /// `signing`, `authentication`.
    pub usages: Vec<String>,
    /// Groups its bearer is in, beyond `system:bootstrappers`.
    pub groups: Vec<String>,
}

impl Entry {
    /// The usual token of kubeadm: for signing and authentication, in the default group.
    pub fn usual(token: Token, ttl: Option<SignedDuration>, now: Timestamp) -> Self {
        Self {
            token,
            description: String::new(),
            expires: expiry(ttl, now),
            usages: vec!["signing".into(), "authentication".into()],
            groups: vec![crate::paths::BOOTSTRAPPERS.into()],
        }
    }

    /// The name of its secret.
    pub fn name(&self) -> String {
        name(&self.token.id)
    }

    /// Its secret, ready to be sent.
    pub fn object(&self) -> Value {
        let mut data = serde_json::Map::new();
        let mut put = |k: &str, v: &str| data.insert(k.into(), json!(v));
        put("token-id", &self.token.id);
        put("token-secret", &self.token.secret);
        if !self.description.is_empty() {
            put("description", &self.description);
        }
        if let Some(at) = self.expires {
            put("expiration", &seconds(at));
        }
        for usage in &self.usages {
            put(&format!("usage-bootstrap-{usage}"), "true");
        }
        if !self.groups.is_empty() {
            put("auth-extra-groups", &self.groups.join(","));
        }
        json!({"apiVersion": "v1", "kind": "Secret", "type": TYPE, "stringData": data,
            "metadata": {"name": self.name(), "namespace": NAMESPACE}})
    }

    /// Reads a secret; the error says what is wrong with it, for the one who lists.
    ///
    /// # Errors
    /// When it is no bootstrap token.
    pub fn read(secret: &Value) -> Result<Self, String> {
        let name = secret.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let text = |key: &str| data(secret, key);
        let id = text("token-id").unwrap_or_default();
        if self::name(&id) != name {
            return Err(format!("bootstrap token name is not of the form '{}': {name}", self::name("<id>")));
        }
        let whole = format!("{id}.{}", text("token-secret").unwrap_or_default());
        let token = Token::parse(&whole).map_err(|_| format!("the secret {name} holds no token"))?;
        let expires = match text("expiration") {
            Some(at) => {
                Some(at.parse().map_err(|_| format!("can't parse expiration time of {name}: {at:?}"))?)
            }
            None => None,
        };
        let used = |u: &&str| text(&format!("usage-bootstrap-{u}")).as_deref() == Some("true");
        Ok(Self {
            token,
            description: text("description").unwrap_or_default(),
            expires,
            usages: ["authentication", "signing"].iter().filter(|u| used(u)).map(|u| u.to_string()).collect(),
            groups: text("auth-extra-groups")
                .map(|g| g.split(',').filter(|g| !g.is_empty()).map(str::to_string).collect())
                .unwrap_or_default(),
        })
    }
}

/// When a token made now with this life ends; a life of nothing is without end.
pub fn expiry(ttl: Option<SignedDuration>, now: Timestamp) -> Option<Timestamp> {
    ttl.filter(|t| !t.is_zero()).and_then(|t| now.checked_add(t).ok())
}

/// RFC 3339 to the second, in UTC.
pub fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The name of the secret of a token.
pub fn name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// A value of a secret as text.
pub fn data(secret: &Value, key: &str) -> Option<String> {
    let raw = secret.get("data")?.get(key)?.as_str()?;
    String::from_utf8(BASE64_STANDARD.decode(raw).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(object: &Value) -> Value {
        let mut stored = object.clone();
        let data = object["stringData"].as_object().unwrap().iter();
        let data: serde_json::Map<_, _> =
            data.map(|(k, v)| (k.clone(), json!(BASE64_STANDARD.encode(v.as_str().unwrap())))).collect();
        stored["data"] = data.into();
        stored
    }

    #[test]
    fn a_secret_reads_back() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let token = Token::parse("abcdef.0123456789abcdef").unwrap();
        let mut entry = Entry::usual(token, Some(SignedDuration::from_hours(24)), now);
        let object = entry.object();
        assert_eq!(object["metadata"]["name"], "bootstrap-token-abcdef");
        assert_eq!(object["stringData"]["expiration"], "2026-01-03T03:04:05Z");
        entry.usages.sort();
        assert_eq!(Entry::read(&stored(&object)).unwrap(), entry);
        assert_eq!(expiry(Some(SignedDuration::ZERO), now), None);
    }

    #[test]
    fn strangers_are_named() {
        let bad = json!({"metadata": {"name": "bootstrap-token-zzzzzz"}, "data": {}});
        assert!(Entry::read(&bad).unwrap_err().contains("bootstrap-token-zzzzzz"));
    }
}
