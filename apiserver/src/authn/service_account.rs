//! Service-account tokens: what stands in them and when they are good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use daemon::cert::Reloading;
use serde_json::{Value, json};

use super::jwt;
use super::keys::{PublicKey, SigningKey, public_keys_of_file};
use super::legacy::{self, Sort, Trace, Uses};
use super::lookup::{Lookup, text};
use crate::config::Config;
use crate::request::UserInfo;

/// Seconds by which clocks may differ.
const LEEWAY: i64 = 60;
/// Seconds for which tokens of an object under deletion still hold.
const DELETION_GRACE: i64 = 60;
/// What the names of service-account users begin with.
pub const USER_PREFIX: &str = "system:serviceaccount:";

/// Namespace and name of a service-account user.
pub fn split_user(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(USER_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups of every service account of a namespace.
pub fn groups_of(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")]
}

/// The keys of one moment.
struct Keys {
    signing: Option<SigningKey>,
    public: Vec<PublicKey>,
}

impl Keys {
    fn read(signing: Option<&Path>, public: &[PathBuf]) -> anyhow::Result<Keys> {
        let signing = signing.map(SigningKey::from_file).transpose()?;
        let mut public = read_public(public)?;
        if let Some(key) = signing.as_ref().filter(|_| public.is_empty()) {
            public.push(key.public().clone());
        }
        Ok(Keys { signing, public })
    }
}

/// Keys and rules of service-account tokens; the keys follow their files.
pub struct Tokens {
    keys: Reloading<Keys>,
    issuers: Vec<String>,
    /// Audiences that mean this API; the first is the default of requested tokens.
    pub audiences: Vec<String>,
    /// Longest life of a token in seconds, 0 for no limit.
    pub max_seconds: i64,
    /// Whether tokens of the usual hour get a year.
    pub extend: bool,
    /// Whether bound objects are looked up.
    lookup: bool,
    jwks_uri: Option<String>,
    /// What tokens were used.
    pub uses: Uses,
}

/// A name and uid a token is bound to.
pub type Bound<'a> = (&'a str, &'a str);

/// What a new token says.
#[derive(Clone, Debug, Default)]
pub struct Claims<'a> {
    /// Namespace of the account and of what it is bound to.
    pub namespace: &'a str,
    /// The account.
    pub account: Bound<'a>,
    /// The pod it is bound to.
    pub pod: Option<Bound<'a>>,
    /// The node it is bound to, or the pod's node; the uid may be unknown.
    pub node: Option<Bound<'a>>,
    /// The secret it is bound to.
    pub secret: Option<Bound<'a>>,
    /// Who the token is for.
    pub audiences: &'a [String],
    /// Life in seconds.
    pub seconds: i64,
    /// Seconds after which use is warned about, 0 for never.
    pub warn_after: i64,
}

impl Tokens {
    /// Reads keys and issuers as the flags say.
    pub fn from_config(config: &Config) -> anyhow::Result<Tokens> {
        let (signing, public) =
            (config.service_account_signing_key_file.clone(), config.service_account_key_file.clone());
        let files = signing.iter().chain(&public).cloned().collect();
        let signs = signing.is_some();
        let keys = Reloading::new(files, move || Keys::read(signing.as_deref(), &public))?;
        let issuers = config.service_account_issuer.clone();
        if signs && issuers.is_empty() {
            bail!("--service-account-signing-key-file needs --service-account-issuer");
        }
        let audiences = if config.api_audiences.is_empty() { &issuers } else { &config.api_audiences };
        Ok(Tokens {
            keys,
            audiences: audiences.clone(),
            issuers,
            max_seconds: i64::try_from(config.service_account_max_token_expiration.as_secs()).unwrap_or(0),
            extend: config.service_account_extend_token_expiration,
            lookup: config.service_account_lookup,
            jwks_uri: config.service_account_jwks_uri.clone(),
            uses: Uses::default(),
        })
    }

    /// Signs a token; `now` in seconds of the epoch.
    pub fn issue(&self, claims: &Claims<'_>, now: i64) -> anyhow::Result<String> {
        let keys = self.keys.current().0;
        let key = keys.signing.as_ref().context("no --service-account-signing-key-file")?;
        let issuer = self.issuers.first().context("no --service-account-issuer")?;
        jwt::sign(key, &to_json(claims, issuer, now))
    }

    /// Whether a token claims to come from here, so that a fault in it is a refusal and not somebody else's matter.
    pub fn is_ours(&self, token: &str) -> bool {
        jwt::issuer(token).is_some_and(|i| i == legacy::ISSUER || self.issuers.contains(&i))
    }

    /// Checks a token for one of `audiences`; the user and the audiences both sides share.
    pub fn check(
        &self,
        token: &str,
        audiences: &[String],
        objects: &dyn Lookup,
        now: i64,
        trace: &mut Trace,
    ) -> Result<(UserInfo, Vec<String>), String> {
        let claims = jwt::verify(token, &self.keys.current().0.public).map_err(|e| e.to_string())?;
        if claims.get("iss").and_then(Value::as_str) == Some(legacy::ISSUER) {
            let user = legacy::check(token, &claims, self.lookup.then_some(objects), now, trace)?;
            let shared: Vec<String> =
                self.audiences.iter().filter(|a| audiences.contains(a)).cloned().collect();
            return if shared.is_empty() {
                Err("the token is not for this audience".into())
            } else {
                Ok((user, shared))
            };
        }
        let shared = shared_audiences(&claims, audiences)?;
        check_times(&claims, now)?;
        let user = user_of(&claims)?;
        if self.lookup {
            check_bound(&claims, objects, now)?;
        }
        let due = private(&claims).get("warnafter").and_then(Value::as_i64).filter(|at| *at != 0);
        trace.sort = due.map(|at| if now > at { Sort::Stale } else { Sort::Fresh });
        Ok((user, shared))
    }

    /// The document at /.well-known/openid-configuration; `None` when the issuer is no URL.
    pub fn discovery(&self, host: &str) -> Option<Value> {
        let issuer = self.issuers.first().filter(|i| i.starts_with("https://"))?;
        let keys = self.keys.current().0;
        let mut algorithms: Vec<&str> = keys.public.iter().map(|k| k.algorithm.name()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        let uri = self.jwks_uri.clone().unwrap_or_else(|| format!("https://{host}/openid/v1/jwks"));
        Some(json!({
            "issuer": issuer,
            "jwks_uri": uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        }))
    }

    /// The key set at /openid/v1/jwks.
    pub fn jwks(&self) -> Value {
        json!({"keys": self.keys.current().0.public.iter().map(PublicKey::jwk).collect::<Vec<_>>()})
    }
}

fn read_public(files: &[PathBuf]) -> anyhow::Result<Vec<PublicKey>> {
    let mut all: Vec<PublicKey> = Vec::new();
    for file in files {
        for key in public_keys_of_file(file)? {
            if !all.iter().any(|k| k.kid == key.kid) {
                all.push(key);
            }
        }
    }
    Ok(all)
}

fn to_json(claims: &Claims<'_>, issuer: &str, now: i64) -> Value {
    let reference = |(name, uid): Bound<'_>| {
        if uid.is_empty() { json!({"name": name}) } else { json!({"name": name, "uid": uid}) }
    };
    let mut private = json!({"namespace": claims.namespace, "serviceaccount": reference(claims.account)});
    for (key, bound) in [("pod", claims.pod), ("node", claims.node), ("secret", claims.secret)] {
        if let Some(bound) = bound {
            private[key] = reference(bound);
        }
    }
    if claims.warn_after > 0 {
        private["warnafter"] = json!(now + claims.warn_after);
    }
    json!({
        "aud": claims.audiences,
        "exp": now + claims.seconds,
        "iat": now,
        "iss": issuer,
        "jti": uuid::Uuid::new_v4().to_string(),
        "kubernetes.io": private,
        "nbf": now,
        "sub": format!("{USER_PREFIX}{}:{}", claims.namespace, claims.account.0),
    })
}

fn shared_audiences(claims: &Value, wanted: &[String]) -> Result<Vec<String>, String> {
    let named: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let shared: Vec<String> = wanted.iter().filter(|w| named.contains(&w.as_str())).cloned().collect();
    if shared.is_empty() {
        Err(format!("the token's audiences {named:?} are none of {wanted:?}"))
    } else {
        Ok(shared)
    }
}

fn check_times(claims: &Value, now: i64) -> Result<(), String> {
    let number = |key: &str| claims.get(key).and_then(Value::as_i64);
    match number("exp") {
        None => return Err("the token has no expiry".into()),
        Some(exp) if now > exp + LEEWAY => return Err("service account token has expired".into()),
        Some(_) => {}
    }
    if number("nbf").is_some_and(|n| now + LEEWAY < n) {
        return Err("service account token is not valid yet".into());
    }
    Ok(())
}

/// The user a service account is.
pub fn account_user(namespace: &str, name: &str, uid: &str) -> UserInfo {
    UserInfo {
        name: format!("{USER_PREFIX}{namespace}:{name}"),
        uid: uid.to_owned(),
        groups: groups_of(namespace),
        extra: BTreeMap::new(),
    }
}

fn private(claims: &Value) -> &Value {
    claims.get("kubernetes.io").unwrap_or(&Value::Null)
}

fn user_of(claims: &Value) -> Result<UserInfo, String> {
    let p = private(claims);
    let (namespace, name) = (text(p, "/namespace"), text(p, "/serviceaccount/name"));
    if namespace.is_empty()
        || name.is_empty()
        || text(claims, "/sub") != format!("{USER_PREFIX}{namespace}:{name}")
    {
        return Err("the token's subject and claims disagree".into());
    }
    let mut user = account_user(namespace, name, text(p, "/serviceaccount/uid"));
    let extras = [
        ("pod-name", text(p, "/pod/name").to_owned()),
        ("pod-uid", text(p, "/pod/uid").to_owned()),
        ("node-name", text(p, "/node/name").to_owned()),
        ("node-uid", text(p, "/node/uid").to_owned()),
        (
            "credential-id",
            claims.get("jti").and_then(Value::as_str).map(|j| format!("JTI={j}")).unwrap_or_default(),
        ),
    ];
    for (key, value) in extras.into_iter().filter(|(_, v)| !v.is_empty()) {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    }
    Ok(user)
}

/// The account and what the token is bound to must exist. A pod's node is on record only and not looked up.
fn check_bound(claims: &Value, objects: &dyn Lookup, now: i64) -> Result<(), String> {
    let p = private(claims);
    let namespace = text(p, "/namespace");
    let bound = |key: &str| {
        let reference = p.get(key).filter(|r| r.is_object());
        reference.map(|r| (text(r, "/name").to_owned(), text(r, "/uid").to_owned()))
    };
    let check = |resource: &str, ns: &str, key: &str| match bound(key) {
        Some((name, uid)) => exists(objects, (resource, ns), (&name, &uid), now),
        None => Ok(()),
    };
    check("serviceaccounts", namespace, "serviceaccount")?;
    check("secrets", namespace, "secret")?;
    check("pods", namespace, "pod")?;
    if p.get("pod").is_none() { check("nodes", "", "node") } else { Ok(()) }
}

fn exists(objects: &dyn Lookup, place: (&str, &str), bound: Bound<'_>, now: i64) -> Result<(), String> {
    let (resource, namespace) = place;
    let (name, uid) = bound;
    let Some(object) = objects.get(resource, namespace, name) else {
        return Err(format!("{resource} {namespace}/{name} is gone"));
    };
    if text(&object, "/metadata/uid") != uid {
        return Err(format!("{resource} {namespace}/{name} is another one now"));
    }
    let deleted = machinery::meta::deletion_timestamp(&object).and_then(epoch_seconds);
    match deleted {
        Some(at) if at + DELETION_GRACE < now => {
            Err(format!("{resource} {namespace}/{name} is being deleted"))
        }
        _ => Ok(()),
    }
}

/// Seconds since the epoch of an RFC 3339 time.
pub fn epoch_seconds(time: &str) -> Option<i64> {
    machinery::time::parse(time).map(machinery::time::to_unix)
}

/// A decoded value of a secret, empty when there is none.
pub fn secret_value(secret: &Value, key: &str) -> Vec<u8> {
    use base64::Engine;
    let encoded = secret.get("data").and_then(|d| d.get(key)).and_then(Value::as_str).unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default()
}

#[cfg(test)]
pub mod tests {
    use super::super::lookup::fixture::Fixed;
    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// Rules around a fresh key.
    pub fn tokens() -> Tokens {
        let pem = rcgen::KeyPair::generate().expect("key").serialize_pem();
        let load = move || {
            let signing = SigningKey::from_pem(pem.as_bytes())?;
            Ok(Keys { public: vec![signing.public().clone()], signing: Some(signing) })
        };
        let keys = Reloading::new(vec![], load).expect("signing key");
        let issuers = vec!["https://kubernetes.default.svc.cluster.local".to_owned()];
        Tokens {
            keys,
            audiences: issuers.clone(),
            issuers,
            max_seconds: 0,
            extend: true,
            lookup: true,
            jwks_uri: None,
            uses: Uses::default(),
        }
    }

    fn object(namespace: &str, name: &str, uid: &str, deleted: Option<i64>) -> Value {
        let mut o = json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}});
        if namespace.is_empty() {
            o["metadata"].as_object_mut().expect("map").remove("namespace");
        }
        if let Some(at) = deleted {
            let time = jiff::Timestamp::from_second(at).expect("time");
            o["metadata"]["deletionTimestamp"] = json!(time.to_string());
        }
        o
    }

    fn claims(audiences: &[String]) -> Claims<'_> {
        Claims {
            namespace: "a",
            account: ("bot", "u1"),
            pod: Some(("p", "u2")),
            node: Some(("n", "u3")),
            audiences,
            seconds: 3600,
            ..Claims::default()
        }
    }

    fn store() -> Fixed {
        Fixed::default().with("serviceaccounts", object("a", "bot", "u1", None))
    }

    #[test]
    fn a_good_token_names_its_user() {
        let tokens = tokens();
        let token = tokens.issue(&claims(&tokens.audiences), NOW).expect("token");
        let store = store().with("pods", object("a", "p", "u2", None));
        let (user, audiences) =
            tokens.check(&token, &tokens.audiences, &store, NOW, &mut Trace::default()).expect("good");
        assert_eq!(user.name, "system:serviceaccount:a:bot");
        assert_eq!(user.uid, "u1");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a"]);
        assert_eq!(audiences, tokens.audiences);
        assert_eq!(user.extra["authentication.kubernetes.io/pod-uid"], ["u2"]);
        assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n"]);
        assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));
    }

    #[test]
    fn bad_tokens() {
        let tokens = tokens();
        let token = tokens.issue(&claims(&tokens.audiences), NOW).expect("token");
        let pod = |uid, deleted| store().with("pods", object("a", "p", uid, deleted));
        let other = vec!["vault".to_owned()];
        let api = tokens.audiences.clone();
        for (what, store, audiences, now, want) in [
            ("in time", pod("u2", None), &api, NOW + 3600, "ok"),
            ("expired", pod("u2", None), &api, NOW + 3661, "has expired"),
            ("too early", pod("u2", None), &api, NOW - 61, "not valid yet"),
            ("wrong audience", pod("u2", None), &other, NOW, "audiences"),
            ("pod gone", store(), &api, NOW, "pods a/p is gone"),
            ("pod replaced", pod("u9", None), &api, NOW, "pods a/p is another one now"),
            ("pod going", pod("u2", Some(NOW - 30)), &api, NOW, "ok"),
            ("pod gone by now", pod("u2", Some(NOW - 61)), &api, NOW, "pods a/p is being deleted"),
            (
                "account gone",
                Fixed::default().with("pods", object("a", "p", "u2", None)),
                &api,
                NOW,
                "serviceaccounts a/bot is gone",
            ),
        ] {
            match (tokens.check(&token, audiences, &store, now, &mut Trace::default()), want) {
                (Ok(_), "ok") => {}
                (Err(e), w) if e.contains(w) && w != "ok" => {}
                (got, _) => panic!("{what}: {got:?}"),
            }
        }
    }

    #[test]
    fn wrong_key() {
        let (mine, other) = (tokens(), tokens());
        let token = other.issue(&claims(&mine.audiences), NOW).expect("token");
        let store = store().with("pods", object("a", "p", "u2", None));
        assert!(mine.is_ours(&token));
        let err =
            mine.check(&token, &mine.audiences, &store, NOW, &mut Trace::default()).expect_err("refused");
        assert!(err.contains("signature"), "{err}");
    }

    #[test]
    fn bound_to_a_node_or_secret() {
        let tokens = tokens();
        let audiences = tokens.audiences.clone();
        let plain = Claims { pod: None, node: None, ..claims(&audiences) };
        for (resource, namespace, claims) in [
            ("nodes", "", Claims { node: Some(("x", "u4")), ..plain.clone() }),
            ("secrets", "a", Claims { secret: Some(("x", "u4")), ..plain.clone() }),
        ] {
            let token = tokens.issue(&claims, NOW).expect("token");
            let good = store().with(resource, object(namespace, "x", "u4", None));
            assert!(
                tokens.check(&token, &audiences, &good, NOW, &mut Trace::default()).is_ok(),
                "{resource}"
            );
            assert!(
                tokens.check(&token, &audiences, &store(), NOW, &mut Trace::default()).is_err(),
                "{resource} gone"
            );
        }
    }

    /// A token of account a/bot that lies in a Secret the account names, and both of them.
    pub fn legacy(tokens: &Tokens) -> (String, Fixed) {
        use base64::Engine;
        let keys = tokens.keys.current().0;
        let key = keys.signing.as_ref().expect("key");
        let p = "kubernetes.io/serviceaccount/";
        let token = jwt::sign(
            key,
            &json!({"iss": legacy::ISSUER, "sub": "system:serviceaccount:a:bot",
            format!("{p}namespace"): "a", format!("{p}secret.name"): "s",
            format!("{p}service-account.name"): "bot", format!("{p}service-account.uid"): "u1"}),
        )
        .expect("token");
        let encoded = base64::engine::general_purpose::STANDARD.encode(&token);
        let secret = json!({"metadata": {"namespace": "a", "name": "s"}, "data": {"token": encoded}});
        let mut account = object("a", "bot", "u1", None);
        account["secrets"] = json!([{"name": "s"}]);
        (token, Fixed::default().with("serviceaccounts", account).with("secrets", secret))
    }

    #[test]
    fn legacy_tokens_live_with_their_secret() {
        let tokens = tokens();
        let (token, good) = legacy(&tokens);
        let mut trace = Trace::default();
        assert!(tokens.check(&token, &tokens.audiences, &good, NOW, &mut trace).is_ok());
        assert_eq!(trace.sort, Some(Sort::Auto));
        assert!(tokens.check(&token, &tokens.audiences, &store(), NOW, &mut trace).is_err());
        let other = vec!["vault".to_owned()];
        assert!(tokens.check(&token, &other, &good, NOW, &mut trace).is_err(), "only for this API");
    }

    #[test]
    fn tokens_due_to_be_renewed_are_counted_apart() {
        let tokens = tokens();
        let plain = Claims { pod: None, node: None, ..claims(&tokens.audiences) };
        for (warn_after, later, want) in
            [(0, 0, None), (600, 600, Some(Sort::Fresh)), (600, 601, Some(Sort::Stale))]
        {
            let claims = Claims { warn_after, ..plain.clone() };
            let token = tokens.issue(&claims, NOW).expect("token");
            let mut trace = Trace::default();
            let found = tokens.check(&token, &tokens.audiences, &store(), NOW + later, &mut trace);
            assert!(found.is_ok());
            assert_eq!(trace.sort, want);
        }
    }

    #[test]
    fn user_names() {
        assert_eq!(split_user("system:serviceaccount:a:b"), Some(("a", "b")));
        for bad in
            ["system:serviceaccount:a", "system:serviceaccount:a:b:c", "alice", "system:serviceaccount::b"]
        {
            assert_eq!(split_user(bad), None, "{bad}");
        }
    }
}
