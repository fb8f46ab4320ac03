//! Bearer tokens of every sort, with a short memory of those found good.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;

use super::legacy::Trace;
use super::lookup::Lookup;
use super::service_account::Tokens;
use super::static_tokens::StaticTokens;
use super::{Authenticator, AuthnError, AuthnRequest, bootstrap_token};
use crate::request::{UserInfo, Warnings};

/// How long a good token is believed without looking again, as upstream has it.
const TTL: Duration = Duration::from_secs(10);
/// Good tokens remembered; past it all are forgotten and checked anew.
const MAX_KEPT: usize = 4096;
/// How browsers carry a token: as a WebSocket subprotocol of this form.
const WEBSOCKET_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// A user and the audiences the token and the question share.
pub type Found = (UserInfo, Vec<String>);

/// All sources of bearer tokens, asked in upstream's order.
pub struct Bearer {
    /// The static token file.
    pub fixed: Option<StaticTokens>,
    /// Service accounts.
    pub tokens: Arc<Tokens>,
    /// Whether bootstrap tokens are taken.
    pub bootstrap: bool,
    /// Where secrets and bound objects are.
    pub objects: Arc<dyn Lookup>,
    /// Tokens found good lately.
    pub kept: Kept,
}

/// Tokens found good lately, by their hash.
#[derive(Default)]
pub struct Kept(Mutex<HashMap<[u8; 32], Good>>);

#[derive(Clone)]
struct Good {
    at: Instant,
    user: UserInfo,
    /// Told to the caller each time.
    warning: Option<&'static str>,
}

impl Kept {
    fn get(&self, key: &[u8; 32]) -> Option<Good> {
        let mut kept = self.0.lock();
        match kept.get(key) {
            Some(good) if good.at.elapsed() < TTL => Some(good.clone()),
            Some(_) => {
                kept.remove(key);
                None
            }
            None => None,
        }
    }

    fn put(&self, key: [u8; 32], user: UserInfo, warning: Option<&'static str>) {
        let mut kept = self.0.lock();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, Good { at: Instant::now(), user, warning });
    }
}

impl Bearer {
    /// Checks a token for one of `audiences`; `None` when it is nobody's. `now` in epoch seconds.
    /// `trace` is for `took`.
    pub fn check(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
        trace: &mut Trace,
    ) -> Result<Option<Found>, AuthnError> {
        let shared =
            || self.tokens.audiences.iter().filter(|a| audiences.contains(a)).cloned().collect::<Vec<_>>();
        // Tokens that carry no audience are for this API alone.
        let for_api =
            |user: UserInfo| Some((user, shared())).filter(|(_, s)| audiences.is_empty() || !s.is_empty());
        if let Some(user) = self.fixed.as_ref().and_then(|f| f.check(token)) {
            return Ok(for_api(user));
        }
        if self.tokens.is_ours(token) {
            let found = self.tokens.check(token, audiences, &*self.objects, now, trace);
            return found.map(Some).map_err(AuthnError);
        }
        let joining = self.bootstrap.then(|| bootstrap_token::check(token, &*self.objects, now)).flatten();
        Ok(joining.and_then(for_api))
    }

    /// What a check leaves behind, once it is the last word on a token.
    pub fn took(&self, trace: &Trace, warnings: &Warnings) {
        self.tokens.uses.take(trace);
        if let Some(warning) = trace.warning {
            warnings.add(warning);
        }
    }

    fn check_kept(&self, token: &str, trace: &mut Trace) -> Result<Option<UserInfo>, AuthnError> {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let key = <[u8; 32]>::try_from(digest.as_ref()).unwrap_or_default();
        if let Some(good) = self.kept.get(&key) {
            trace.warning = good.warning;
            return Ok(Some(good.user));
        }
        let found = self.check(token, &self.tokens.audiences, machinery::time::now_unix(), trace)?;
        let user = found.map(|(user, _)| user);
        // A token for joining ends to the second.
        if let Some(user) = user.as_ref().filter(|u| !u.name.starts_with(bootstrap_token::USER_PREFIX)) {
            self.kept.put(key, user.clone(), trace.warning);
        }
        Ok(user)
    }

    /// Whether a token looks like one whose objects this server may not have seen yet.
    fn may_be_new(&self, token: &str) -> bool {
        self.tokens.is_ours(token) || (self.bootstrap && bootstrap_token::split(token).is_some())
    }
}

#[async_trait]
impl Authenticator for Bearer {
    async fn authenticate(&self, request: &AuthnRequest<'_>) -> Result<Option<UserInfo>, AuthnError> {
        let Some(token) = token_of(request.headers) else { return Ok(None) };
        let mut trace = Trace::default();
        let mut found = self.check_kept(&token, &mut trace);
        // Another server may have stored what the token rests on a moment ago.
        if !matches!(found, Ok(Some(_))) && self.may_be_new(&token) {
            self.objects.caught_up().await;
            trace = Trace::default();
            found = self.check_kept(&token, &mut trace);
        }
        self.took(&trace, request.warnings);
        found?.map(Some).ok_or_else(|| AuthnError("invalid bearer token".into()))
    }
}

/// The token a request carries.
pub fn token_of(headers: &HeaderMap) -> Option<String> {
    let header = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let from_header =
        header.trim().split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let token = from_header.map(|(_, t)| t.trim().to_owned()).filter(|t| !t.is_empty());
    token.or_else(|| {
        let protocols = headers.get_all("sec-websocket-protocol").iter().filter_map(|v| v.to_str().ok());
        let mut each = protocols.flat_map(|p| p.split(',')).map(str::trim);
        let encoded = each.find_map(|p| p.strip_prefix(WEBSOCKET_PREFIX))?;
        String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok().filter(|t| !t.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_tokens_stand() {
        for (header, value, want) in [
            ("authorization", "Bearer abc", Some("abc")),
            ("authorization", "bearer  abc ", Some("abc")),
            ("authorization", "Basic abc", None),
            ("authorization", "Bearer", None),
            ("authorization", "Bearer ", None),
            (
                "sec-websocket-protocol",
                "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj",
                Some("abc"),
            ),
            ("sec-websocket-protocol", "v4.channel.k8s.io", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header, value.parse().expect("value"));
            assert_eq!(token_of(&headers).as_deref(), want, "{value:?}");
        }
    }

    #[tokio::test]
    async fn a_kept_token_still_warns_and_counts_once() {
        let tokens = Arc::new(super::super::service_account::tests::tokens());
        let (token, objects) = super::super::service_account::tests::legacy(&tokens);
        let objects = Arc::new(objects);
        let bearer = Bearer { fixed: None, tokens, bootstrap: false, objects, kept: Kept::default() };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("header"));
        for _ in 0..2 {
            let warnings = Warnings::default();
            let request = AuthnRequest {
                headers: &headers,
                peer_certs: &[],
                peer_addr: ([127, 0, 0, 1], 1).into(),
                path: "/",
                warnings: &warnings,
            };
            assert!(bearer.authenticate(&request).await.is_ok_and(|user| user.is_some()));
            assert_eq!(warnings.list().len(), 1);
        }
        assert!(bearer.tokens.uses.encode().contains("serviceaccount_legacy_auto_token_uses_total 1"));
    }
}
