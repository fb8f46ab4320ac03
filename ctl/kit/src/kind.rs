//! A kind of object a server has.

use serde::{Deserialize, Serialize};

/// One resource of one group and version, as discovery describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// The API group, empty for the core one.
    pub group: String,
    pub version: String,
    pub kind: String,
    /// The resource's name in paths.
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub categories: Vec<String>,
    /// Names without the resource's: `status`, `scale`.
    pub subresources: Vec<String>,
}

impl Kind {
    /// `apps/v1`, `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `/apis/apps/v1` or `/api/v1`.
    pub fn root(&self) -> String {
        let prefix = if self.group.is_empty() { "/api" } else { "/apis" };
        format!("{prefix}/{}", self.api_version())
    }

    /// The path of a collection, an object or a subresource. A namespace is left out for cluster-wide kinds.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>, subresource: Option<&str>) -> String {
        let mut path = self.root();
        if let Some(namespace) = namespace.filter(|namespace| self.namespaced && !namespace.is_empty()) {
            path.push_str(&format!("/namespaces/{}", escape(namespace)));
        }
        path.push('/');
        path.push_str(&self.plural);
        for part in [name, subresource].into_iter().flatten() {
            path.push('/');
            path.push_str(&escape(part));
        }
        path
    }

    /// How messages name the resource: `deployment.apps`, `pod`.
    pub fn printed(&self) -> String {
        with_group(&self.kind.to_lowercase(), &self.group)
    }

    /// `deployments.apps`, `pods`: how errors name it.
    pub fn group_resource(&self) -> String {
        with_group(&self.plural, &self.group)
    }

    /// Whether the server lets the resource be used with a verb.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// Whether this is a kind that a word without group and version means: plural, singular, kind or short name.
    pub fn is_called(&self, word: &str) -> bool {
        if word.is_empty() {
            // a server may leave the singular out
            return false;
        }
        self.plural == word || self.singular == word || self.kind.to_lowercase() == word
    }

    /// Whether the kind names an object's `apiVersion` and `kind`.
    pub fn is_of(&self, api_version: &str, kind: &str) -> bool {
        self.kind == kind && self.api_version() == api_version
    }
}

fn with_group(name: &str, group: &str) -> String {
    if group.is_empty() { name.into() } else { format!("{name}.{group}") }
}

/// Percent-encodes what a path segment may not hold.
pub fn escape(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b':'
            | b'@'
            | b'$'
            | b'+'
            | b'='
            | b'&' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Percent-encodes a query's key or value, a space as `+`.
pub fn escape_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
