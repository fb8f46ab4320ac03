//! Signs the cluster-info ConfigMap with every bootstrap token that is made for it, so that who joins by token can
//! trust what it reads before it knows the cluster's CA.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::runner::{Options, Outcome};
use control::{Cache, Queue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;
use ring::hmac;

use super::token::{self, Token};
use crate::kit::{Context, Write, meta};

const MAP: (&str, &str) = ("kube-public", "cluster-info");
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

struct Room {
    context: Context,
    maps: Cache<ConfigMap>,
    tokens: Cache<Secret>,
}

/// Starts the signer. There is one key: the ConfigMap.
pub fn start(context: Context) {
    let fields = control::cache::Options::default().fields(format!("metadata.name={}", MAP.1));
    let maps: Cache<ConfigMap> =
        Cache::start(Api::namespaced(context.root.clone(), MAP.0), fields, &context.tasks);
    let tokens = super::tokens(&context, token::SIGNING);
    let queue: Queue<()> = Queue::with_backoff(Duration::from_millis(20), Duration::from_secs(60));
    let (by_map, by_token) = (queue.clone(), queue.clone());
    maps.handle(move |_| by_map.add(()));
    tokens.handle(move |_| by_token.add(()));
    let room = Arc::new(Room { context: context.clone(), maps, tokens });
    context.run(Options::new("bootstrap-signer-controller", 1), queue, move |()| {
        let room = room.clone();
        async move { sync(&room).await }
    });
}

async fn sync(room: &Room) -> Outcome {
    // Half a view would take good signatures away.
    room.tokens.synced().await;
    room.maps.synced().await;
    let Some(map) = room.maps.get(MAP.0, MAP.1) else { return Ok(None) };
    let now = Timestamp::now();
    let secrets = room.tokens.list();
    let tokens: Vec<Token> = secrets.iter().filter_map(|s| token::signing(s, now).ok()).collect();
    if let Some(signed) = plan(&map, &tokens) {
        let ids: Vec<&str> = tokens.iter().map(|t| t.id.as_str()).collect();
        room.context.writer.send(&Write::update(&signed)).await?;
        tracing::info!(tokens = ?ids, "cluster-info is signed");
    }
    let next = secrets.iter().filter_map(|s| token::end(s)).filter(|at| *at > now).min();
    Ok(next.map(|at| meta::until(at, now) + Duration::from_millis(1)))
}

/// The map with exactly the signatures of `tokens`; `None` if it has them already. One without content is left alone.
fn plan(map: &ConfigMap, tokens: &[Token]) -> Option<ConfigMap> {
    let data = map.data.as_ref()?;
    let content = data.get(CONTENT).filter(|c| !c.is_empty())?;
    let mut wanted: BTreeMap<String, String> =
        data.iter().filter(|(k, _)| !k.starts_with(SIGNATURE)).map(|(k, v)| (k.clone(), v.clone())).collect();
    wanted.extend(tokens.iter().map(|t| (format!("{SIGNATURE}{}", t.id), sign(content, t))));
    (wanted != *data).then(|| ConfigMap { data: Some(wanted), ..map.clone() })
}

/// A detached JSON web signature: header, nothing, HMAC-SHA256 of header and content. Readers compare the whole, so
/// the header's bytes matter.
fn sign(content: &str, token: &Token) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, token.id));
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret.as_bytes());
    let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, input.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str) -> Token {
        Token { id: id.into(), secret: "0123456789abcdef".into() }
    }

    fn map(keys: &[(&str, &str)]) -> ConfigMap {
        let data = keys.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        ConfigMap { data: Some(data), ..ConfigMap::default() }
    }

    #[test]
    fn a_signature_is_the_one_any_reader_computes() {
        // header {"alg":"HS256","kid":"abcdef"}; the digest was computed with openssl
        assert_eq!(
            sign("content", &token("abcdef")),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..psz1NayrXM3IaFzKZGsb5n_mBl7MjtlsZ1xE8MRmF_4"
        );
    }

    #[test]
    fn signatures_come_stay_and_go() {
        let keys = |m: &ConfigMap| m.data.clone().unwrap_or_default().into_keys().collect::<Vec<_>>();
        let signed = plan(&map(&[("kubeconfig", "x"), ("other", "y")]), &[token("aaaaaa")]).unwrap();
        assert_eq!(keys(&signed), ["jws-kubeconfig-aaaaaa", "kubeconfig", "other"]);
        assert_eq!(plan(&signed, &[token("aaaaaa")]), None);
        let next = plan(&signed, &[token("bbbbbb")]).unwrap();
        assert_eq!(keys(&next), ["jws-kubeconfig-bbbbbb", "kubeconfig", "other"]);
        let mut forged = signed.clone();
        forged.data.get_or_insert_default().insert("jws-kubeconfig-aaaaaa".into(), "forged".into());
        assert_eq!(plan(&forged, &[token("aaaaaa")]), Some(signed));
        assert_eq!(plan(&map(&[("other", "y")]), &[token("aaaaaa")]), None);
    }
}
