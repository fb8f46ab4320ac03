//! Service-account tokens of projected volumes: asked for with TokenRequest, bound to the pod, renewed in time.

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{Api, api::PostParams};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

const CALL: Duration = Duration::from_secs(30);
/// No token is kept longer than this, whatever its life.
const LONGEST: i64 = 24 * 3600;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    pod: String,
    account: String,
    audience: String,
    seconds: i64,
}

#[derive(Clone, Debug)]
struct Held {
    token: String,
    issued: i64,
    expires: i64,
    jitter: i64,
}

impl Held {
    /// Unix second from which a new one is wanted: 80 % of its life or a day.
    fn refresh_at(&self) -> i64 {
        let life = (self.expires - self.issued).max(0);
        self.issued + (life * 8 / 10).min(LONGEST) - self.jitter
    }
}

/// Tokens of all pods.
#[derive(Default)]
pub struct Tokens {
    held: Mutex<HashMap<Key, Held>>,
}

impl Tokens {
    /// A token for a pod and the Unix second at which to ask again.
    pub async fn get(
        &self,
        client: Option<&kube::Client>,
        pod: &Pod,
        audience: &str,
        seconds: i64,
    ) -> Result<(String, i64), String> {
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_else(|| "default".into());
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let key = Key { pod: uid, account: account.clone(), audience: audience.into(), seconds };
        let now = jiff::Timestamp::now().as_second();
        let held = self.held.lock().get(&key).cloned();
        if let Some(h) = held.as_ref().filter(|h| now < h.refresh_at()) {
            return Ok((h.token.clone(), h.refresh_at()));
        }
        match request(client, pod, &account, audience, seconds).await {
            Ok((token, expires)) => {
                let fresh =
                    Held { token, issued: now, expires, jitter: i64::from(rand::random::<u8>() % 10) };
                let answer = (fresh.token.clone(), fresh.refresh_at().max(now + 10));
                self.held.lock().insert(key, fresh);
                Ok(answer)
            }
            // A token that still holds beats none while the API server is away.
            Err(e) => match held.filter(|h| now < h.expires) {
                Some(h) => Ok((h.token, now + 10)),
                None => Err(e),
            },
        }
    }

    /// Drops the tokens of a pod that is gone.
    pub fn forget(&self, uid: &str) {
        self.held.lock().retain(|k, _| k.pod != uid);
    }
}

async fn request(
    client: Option<&kube::Client>,
    pod: &Pod,
    account: &str,
    audience: &str,
    seconds: i64,
) -> Result<(String, i64), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let failed = |e: String| format!("failed to fetch token: {e}");
    let client =
        client.ok_or_else(|| failed("cannot use TokenManager when kubelet is in standalone mode".into()))?;
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..Default::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let params = PostParams::default();
    let call = api.create_token_request(account, &params, &body);
    let answer = tokio::time::timeout(CALL, call).await.map_err(|_| failed("deadline exceeded".into()))?;
    let status = answer.map_err(|e| failed(e.to_string()))?.status;
    let status = status.ok_or_else(|| failed("empty answer".into()))?;
    let (Some(token), Some(expires)) = (status.token, status.expiration_timestamp) else {
        return Err(failed("the answer has no token".into()));
    };
    Ok((token, expires.0.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_at_four_fifths_or_a_day() {
        let held =
            |life: i64| Held { token: String::new(), issued: 1000, expires: 1000 + life, jitter: 0_i64 };
        assert_eq!(held(1000).refresh_at(), 1800);
        assert_eq!(held(365 * 86_400).refresh_at(), 1000 + LONGEST);
    }
}
