//! Authentication and authorisation handed to the API server: client certificates (already checked by TLS),
//! TokenReview and SubjectAccessReview, with answers kept for a short while as upstream does.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use crate::authorities::Watched;

/// `--authentication-token-webhook-cache-ttl`'s default.
const TOKEN_TTL: Duration = Duration::from_secs(10);
/// `--authorization-webhook-cache-(un)authorized-ttl`'s default.
const VERDICT_TTL: Duration = Duration::from_secs(10);
/// Entries kept at most; the whole is dropped when it is reached, which costs one review each.
const CACHE_LIMIT: usize = 4096;
const REVIEW_DEADLINE: Duration = Duration::from_secs(10);

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// `system:anonymous` of group `system:unauthenticated`.
    pub fn anonymous() -> Self {
        let groups = vec!["system:unauthenticated".to_string()];
        Self { name: "system:anonymous".into(), groups, ..Self::default() }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// A path such as `/metrics`.
    Path { verb: String, path: String },
    /// A resource, such as `nodes/proxy`.
    Resource {
        verb: String,
        group: String,
        version: String,
        resource: String,
        subresource: String,
        namespace: String,
        name: String,
    },
}

impl Attributes {
    /// A core, cluster-scoped resource with a subresource: what the kubelet asks about itself.
    pub fn node(verb: &str, subresource: &str, name: &str) -> Self {
        Self::Resource {
            verb: verb.into(),
            group: String::new(),
            version: "v1".into(),
            resource: "nodes".into(),
            subresource: subresource.into(),
            namespace: String::new(),
            name: name.into(),
        }
    }

    /// A path asked for with an HTTP method.
    pub fn path(method: &http::Method, path: &str) -> Self {
        Self::Path { verb: method.as_str().to_ascii_lowercase(), path: path.into() }
    }
}

/// The API server's answers, remembered.
pub struct Delegated {
    client: kube::Client,
    authorities: Option<Arc<Watched>>,
    tokens: Memory<String, Option<User>>,
    verdicts: Memory<(User, Attributes), bool>,
}

impl Delegated {
    /// `client` must be allowed to create token reviews and subject access reviews (`system:auth-delegator`).
    pub fn new(client: kube::Client) -> Self {
        let (tokens, verdicts) = (Memory::new(TOKEN_TTL), Memory::new(VERDICT_TTL));
        Self { client, authorities: None, tokens, verdicts }
    }

    /// For a server whose TLS lets any client certificate in ([`crate::tls::ServerTls::asking`]): the certificate is
    /// judged here, by the authorities of the cluster, and a front proxy's says whose request it brings.
    pub fn judging(mut self, authorities: Arc<Watched>) -> Self {
        self.authorities = Some(authorities);
        self
    }

    /// The user of a request: the subject of its verified client certificate, else of its bearer token. `None` when
    /// there is neither or the token is refused.
    pub async fn authenticate(&self, headers: &HeaderMap, peer: Option<&CertificateDer<'_>>) -> Option<User> {
        let known = match &self.authorities {
            Some(authorities) => peer.and_then(|cert| authorities.current()?.user(headers, cert)),
            None => peer.and_then(user_of_cert),
        };
        if known.is_some() {
            return known;
        }
        let token = bearer(headers)?;
        if let Some(known) = self.tokens.get(&token) {
            return known;
        }
        match self.review_token(&token).await {
            Ok(user) => {
                self.tokens.put(token, user.clone());
                user
            }
            Err(error) => {
                tracing::warn!(%error, "token review failed");
                None
            }
        }
    }

    async fn review_token(&self, token: &str) -> anyhow::Result<Option<User>> {
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let spec = TokenReviewSpec { token: token.to_string(), ..Default::default() };
        let review = TokenReview { spec, ..Default::default() };
        let answer =
            tokio::time::timeout(REVIEW_DEADLINE, api.create(&PostParams::default(), &review)).await??;
        let status = answer.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        let user = status.user.unwrap_or_default();
        Ok(Some(User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        }))
    }

    /// Whether `user` may do it. A failed review is a refusal.
    pub async fn authorize(&self, user: &User, attributes: &Attributes) -> bool {
        if user.groups.iter().any(|g| g == "system:masters") {
            return true;
        }
        let key = (user.clone(), attributes.clone());
        if let Some(known) = self.verdicts.get(&key) {
            return known;
        }
        match self.review_access(user, attributes).await {
            Ok(allowed) => {
                self.verdicts.put(key, allowed);
                allowed
            }
            Err(error) => {
                tracing::warn!(%error, "subject access review failed");
                false
            }
        }
    }

    async fn review_access(&self, user: &User, attributes: &Attributes) -> anyhow::Result<bool> {
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = SubjectAccessReview { spec: review_spec(user, attributes), ..Default::default() };
        let answer =
            tokio::time::timeout(REVIEW_DEADLINE, api.create(&PostParams::default(), &review)).await??;
        Ok(answer.status.is_some_and(|s| s.allowed))
    }
}

fn review_spec(user: &User, attributes: &Attributes) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        groups: Some(user.groups.clone()),
        uid: Some(user.uid.clone()).filter(|u| !u.is_empty()),
        extra: Some(user.extra.clone()).filter(|e| !e.is_empty()),
        ..Default::default()
    };
    match attributes.clone() {
        Attributes::Path { verb, path } => {
            let asked = NonResourceAttributes { path: Some(path), verb: Some(verb) };
            spec.non_resource_attributes = Some(asked);
        }
        Attributes::Resource { verb, group, version, resource, subresource, namespace, name } => {
            let some = |s: String| Some(s).filter(|s| !s.is_empty());
            spec.resource_attributes = Some(ResourceAttributes {
                verb: some(verb),
                group: some(group),
                version: some(version),
                resource: some(resource),
                subresource: some(subresource),
                namespace: some(namespace),
                name: some(name),
                ..Default::default()
            });
        }
    }
    spec
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_string())
}

/// Common name is the user, organisations are the groups.
pub fn user_of_cert(cert: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = x509_parser::parse_x509_certificate(cert).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_string();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_string).collect();
    groups.push("system:authenticated".into());
    Some(User { name, groups, ..User::default() })
}

/// A map whose entries expire.
struct Memory<K, V> {
    ttl: Duration,
    entries: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Hash + Eq, V: Clone> Memory<K, V> {
    fn new(ttl: Duration) -> Self {
        Self { ttl, entries: Mutex::new(HashMap::new()) }
    }

    fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock();
        entries.get(key).filter(|(made, _)| made.elapsed() < self.ttl).map(|(_, v)| v.clone())
    }

    fn put(&self, key: K, value: V) {
        let mut entries = self.entries.lock();
        if entries.len() >= CACHE_LIMIT {
            entries.clear();
        }
        entries.insert(key, (Instant::now(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_subject_is_user_and_groups() {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:a");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        let cert = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let user = user_of_cert(cert.der()).unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups),
            ("system:node:a", vec!["system:nodes".to_string(), "system:authenticated".to_string()])
        );
    }

    #[test]
    fn bearer_tokens() {
        let with = |v: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, v.parse().unwrap());
            bearer(&headers)
        };
        assert_eq!(with("Bearer abc"), Some("abc".into()));
        assert_eq!(with("bearer  abc "), Some("abc".into()));
        assert_eq!(with("Basic abc"), None);
        assert_eq!(with("Bearer "), None);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_expire() {
        let memory = Memory::new(Duration::from_secs(10));
        memory.put("a", 1);
        assert_eq!(memory.get(&"a"), Some(1));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(memory.get(&"a"), None);
    }
}
