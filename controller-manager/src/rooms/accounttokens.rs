//! Secrets of service accounts: each of the type is filled with a token that stands as long as it, and goes with its
//! account. (Secrets are made by users; pods have tokens of their own.)

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::cache::Options as CacheOptions;
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::Api;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::certificates::signer::{pkcs8, tagged};
use crate::kit::meta::{annotation, name, namespace, uid};
use crate::kit::{Context, Write};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const BY_ACCOUNT: &str = "account";
/// After this many failures a Secret is left until something changes.
const RETRIES: u32 = 10;

/// Signs tokens with the service account key.
enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

impl Signer {
    /// Reads a private key: RSA, or ECDSA on P-256.
    fn from_pem(pem: &str) -> Result<Self> {
        let text = pkcs8(pem)?;
        let block = x509_parser::pem::Pem::iter_from_buffer(text.as_bytes())
            .filter_map(Result::ok)
            .find(|block| block.label == "PRIVATE KEY");
        let der = block.context("no private key in PEM")?.contents;
        if let Ok(pair) = RsaKeyPair::from_pkcs8(&der) {
            return Ok(Signer::Rsa(Box::new(pair)));
        }
        let (curve, random) = (&signature::ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        EcdsaKeyPair::from_pkcs8(curve, &der, &random)
            .map(|pair| Signer::Ecdsa(Box::new(pair)))
            .map_err(|e| anyhow!("the key is neither RSA nor ECDSA on P-256: {e}"))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Signer::Rsa(_) => "RS256",
            Signer::Ecdsa(_) => "ES256",
        }
    }

    /// What the API server knows the key by: the digest of its public half.
    fn id(&self) -> String {
        // The identifiers of the two kinds, in DER.
        const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        const P256: &[u8] =
            &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
        let (kind, key) = match self {
            Signer::Rsa(pair) => (RSA, pair.public_key().as_ref()),
            Signer::Ecdsa(pair) => (P256, pair.public_key().as_ref()),
        };
        let whole = [tagged(0x30, kind), tagged(0x03, &[&[0], key].concat())].concat();
        URL_SAFE_NO_PAD.encode(Sha256::digest(tagged(0x30, &whole)))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Signer::Rsa(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut out);
                signed.map(|()| out).map_err(|_| anyhow!("a token could not be signed"))
            }
            Signer::Ecdsa(pair) => {
                let signed =
                    pair.sign(&random, message).map_err(|_| anyhow!("a token could not be signed"))?;
                Ok(signed.as_ref().to_vec())
            }
        }
    }

    /// The token of an account that lives in a Secret. It has no end.
    fn token(&self, account: &ServiceAccount, secret: &str) -> Result<String> {
        let (ns, user) = (namespace(&account.metadata), name(&account.metadata));
        let head = json!({"alg": self.algorithm(), "kid": self.id()});
        let claims = json!({
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": ns,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": user,
            "kubernetes.io/serviceaccount/service-account.uid": uid(&account.metadata),
            "sub": format!("system:serviceaccount:{ns}:{user}"),
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&head), part(&claims));
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes())?)))
    }
}

struct Room {
    context: Context,
    secrets: Cache<Secret>,
    accounts: Cache<ServiceAccount>,
    signer: Signer,
    ca: Option<String>,
}

/// Starts the controller; without a key to sign with there is none.
pub fn start(context: Context) {
    let Some(path) = context.config.service_account_private_key_file.clone() else {
        tracing::info!("no --service-account-private-key-file, Secrets of service accounts are not filled");
        return;
    };
    let read = std::fs::read_to_string(&path).map_err(anyhow::Error::from);
    let signer = match read.and_then(|pem| Signer::from_pem(&pem)) {
        Ok(signer) => signer,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "no key to sign tokens with");
            return;
        }
    };
    let ca = context.config.root_ca_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    let options = CacheOptions::default().fields(format!("type={TYPE}"));
    let room = Arc::new(Room {
        secrets: Cache::start(Api::all(context.root.clone()), options, &context.tasks),
        accounts: context.caches.of(),
        signer,
        ca,
        context: context.clone(),
    });
    room.secrets.add_index(BY_ACCOUNT, |secret: &Secret| {
        account_of(secret).map(|k| k.to_string()).into_iter().collect()
    });
    let queue: Queue<Key> = Queue::new();
    let q = queue.clone();
    room.secrets.handle(move |event| q.add(event.key.clone()));
    let (q, secrets) = (queue.clone(), room.secrets.clone());
    room.accounts.handle(move |event| {
        let same =
            event.old.as_ref().map(|a| uid(&a.metadata)) == event.new.as_ref().map(|a| uid(&a.metadata));
        if !same {
            let all = secrets.by_index(BY_ACCOUNT, &event.key.to_string());
            all.iter().for_each(|s| q.add(Key::of(&**s)));
        }
    });
    let workers = context.config.workers("serviceaccount-token", 5);
    let options = Options::new("serviceaccount-token-controller", workers).max_retries(RETRIES);
    context.run(options, queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

/// The account a Secret is for.
fn account_of(secret: &Secret) -> Option<Key> {
    let account = annotation(&secret.metadata, ACCOUNT).filter(|a| !a.is_empty())?;
    Some(Key::new(namespace(&secret.metadata), account))
}

/// Whether an account is the one a Secret is for.
fn is_of(secret: &Secret, account: &ServiceAccount) -> bool {
    let wanted = annotation(&secret.metadata, ACCOUNT_UID).unwrap_or_default();
    wanted.is_empty() || wanted == uid(&account.metadata)
}

/// The Secret as it should read, if it does not.
fn filled(
    secret: &Secret,
    account: &ServiceAccount,
    ca: Option<&str>,
    token: impl FnOnce() -> Result<String>,
) -> Result<Option<Secret>> {
    let mut full = secret.clone();
    let data = full.data.get_or_insert_default();
    if let Some(ca) = ca {
        data.insert("ca.crt".into(), ByteString(ca.into()));
    }
    data.insert("namespace".into(), ByteString(namespace(&secret.metadata).into()));
    if data.get("token").is_none_or(|t| t.0.is_empty()) {
        data.insert("token".into(), ByteString(token()?.into_bytes()));
    }
    let annotations = full.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_UID.into(), uid(&account.metadata).into());
    Ok((full != *secret).then_some(full))
}

fn lists(account: &ServiceAccount, secret: &str) -> bool {
    account.secrets.iter().flatten().any(|s| s.name.as_deref() == Some(secret))
}

/// The account without that Secret.
fn without(account: &ServiceAccount, secret: &str) -> ServiceAccount {
    let mut account = account.clone();
    account.secrets.iter_mut().for_each(|s| s.retain(|s| s.name.as_deref() != Some(secret)));
    account
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        self.secrets.synced().await;
        let Some(secret) = self.secrets.get_key(&key) else { return self.gone(&key).await };
        if secret.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let Some(of) = account_of(&secret) else { return Ok(None) };
        let write = match self.account(&of, &secret).await? {
            // Nobody's token opens a door.
            None => Some(Write::delete(&*secret)),
            Some(account) => {
                let token = || self.signer.token(&account, name(&secret.metadata));
                filled(&secret, &account, self.ca.as_deref(), token)?.map(|full| Write::update(&full))
            }
        };
        let Some(write) = write else { return Ok(None) };
        match self.context.writer.send(&write).await {
            Err(failure) if failure.not_found() => Ok(None),
            other => Ok(other.map(|_| None)?),
        }
    }

    /// Takes the name of a Secret that is gone out of the accounts that list it.
    async fn gone(&self, key: &Key) -> Outcome {
        let listing: Vec<_> =
            self.accounts.by_namespace(&key.namespace).into_iter().filter(|a| lists(a, &key.name)).collect();
        if listing.is_empty() {
            return Ok(None);
        }
        // One of that name may have been made again.
        let secrets: Api<Secret> = Api::namespaced(self.context.writer.client(), &key.namespace);
        if secrets.get_opt(&key.name).await.context("secret")?.is_some() {
            return Ok(None);
        }
        for account in listing {
            match self.context.writer.send(&Write::update(&without(&account, &key.name))).await {
                Err(failure) if failure.not_found() => {}
                other => drop(other?),
            }
        }
        Ok(None)
    }

    /// The account of a Secret; that it is gone is believed only of the API server.
    async fn account(&self, of: &Key, secret: &Secret) -> Result<Option<Arc<ServiceAccount>>> {
        if let Some(account) = self.accounts.get_key(of).filter(|a| is_of(secret, a)) {
            return Ok(Some(account));
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.context.writer.client(), &of.namespace);
        let live = api.get_opt(&of.name).await.context("service account")?;
        Ok(live.filter(|a| is_of(secret, a)).map(Arc::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(uid: &str) -> ServiceAccount {
        serde_yaml::from_str(&format!("{{metadata: {{name: robot, namespace: ns, uid: {uid}}}}}"))
            .expect("an account")
    }

    fn secret(annotations: &str) -> Secret {
        let text =
            format!("{{metadata: {{name: s, namespace: ns, annotations: {{{annotations}}}}}, type: {TYPE}}}");
        serde_yaml::from_str(&text).expect("a secret")
    }

    #[test]
    fn secrets_are_filled_once() {
        let (account, empty) = (account("u1"), secret("kubernetes.io/service-account.name: robot"));
        let full = filled(&empty, &account, Some("CA"), || Ok("T".into())).unwrap().expect("a change");
        let data = full.data.clone().unwrap();
        let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
        assert_eq!(
            (text("token"), text("ca.crt"), text("namespace")),
            ("T".into(), "CA".into(), "ns".into())
        );
        assert_eq!(annotation(&full.metadata, ACCOUNT_UID), Some("u1"));
        let again = |ca| filled(&full, &account, Some(ca), || Err(anyhow!("no second token"))).unwrap();
        assert!(again("CA").is_none());
        assert_eq!(again("NEW").unwrap().data.unwrap()["ca.crt"].0, b"NEW");
    }

    #[test]
    fn an_account_forgets_a_secret_that_is_gone() {
        let mut account = account("u1");
        account.secrets = serde_yaml::from_str("[{name: a}, {name: b}]").unwrap();
        assert!(lists(&account, "a") && !lists(&account, "c"));
        let rest = without(&account, "a");
        assert!(!lists(&rest, "a") && lists(&rest, "b"));
    }

    #[test]
    fn a_secret_is_for_one_account() {
        assert!(is_of(&secret(""), &account("u1")));
        let bound = secret("kubernetes.io/service-account.uid: u1");
        assert!(is_of(&bound, &account("u1")) && !is_of(&bound, &account("u2")));
        assert_eq!(account_of(&secret("")), None);
    }

    #[test]
    fn tokens_verify() {
        let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let signer = Signer::from_pem(&pem).expect("a signer");
        let token = signer.token(&account("u1"), "s").expect("a token");
        let (message, signed) = token.rsplit_once('.').expect("three parts");
        let Signer::Ecdsa(pair) = &signer else { panic!("an ECDSA key") };
        let public = signature::UnparsedPublicKey::new(
            &signature::ECDSA_P256_SHA256_FIXED,
            pair.public_key().as_ref(),
        );
        let signed = URL_SAFE_NO_PAD.decode(signed).unwrap();
        assert!(public.verify(message.as_bytes(), &signed).is_ok());
        let claims = URL_SAFE_NO_PAD.decode(message.split_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:ns:robot");
        assert_eq!(claims["kubernetes.io/serviceaccount/service-account.uid"], "u1");
    }
}
