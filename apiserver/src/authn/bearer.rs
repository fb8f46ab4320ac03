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

use super::lookup::Lookup;
use super::service_account::Tokens;
use super::static_tokens::StaticTokens;
use super::{Authenticator, AuthnError, AuthnRequest, bootstrap_token};
use crate::request::UserInfo;

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
pub struct Kept(Mutex<HashMap<[u8; 32], (Instant, UserInfo)>>);

impl Kept {
    fn get(&self, key: &[u8; 32]) -> Option<UserInfo> {
        let mut kept = self.0.lock();
        match kept.get(key) {
            Some((at, user)) if at.elapsed() < TTL => Some(user.clone()),
            Some(_) => {
                kept.remove(key);
                None
            }
            None => None,
        }
    }

    fn put(&self, key: [u8; 32], user: UserInfo) {
        let mut kept = self.0.lock();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, (Instant::now(), user));
    }
}

impl Bearer {
    /// Checks a token for one of `audiences`; `None` when it is nobody's. `now` in epoch seconds.
    pub fn check(&self, token: &str, audiences: &[String], now: i64) -> Result<Option<Found>, AuthnError> {
        let shared =
            || self.tokens.audiences.iter().filter(|a| audiences.contains(a)).cloned().collect::<Vec<_>>();
        // Tokens that carry no audience are for this API alone.
        let for_api =
            |user: UserInfo| Some((user, shared())).filter(|(_, s)| audiences.is_empty() || !s.is_empty());
        if let Some(user) = self.fixed.as_ref().and_then(|f| f.check(token)) {
            return Ok(for_api(user));
        }
        if self.tokens.is_ours(token) {
            return self.tokens.check(token, audiences, &*self.objects, now).map(Some).map_err(AuthnError);
        }
        let joining = self.bootstrap.then(|| bootstrap_token::check(token, &*self.objects, now)).flatten();
        Ok(joining.and_then(for_api))
    }

    fn check_kept(&self, token: &str) -> Result<Option<UserInfo>, AuthnError> {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let key = <[u8; 32]>::try_from(digest.as_ref()).unwrap_or_default();
        if let Some(user) = self.kept.get(&key) {
            return Ok(Some(user));
        }
        let found = self.check(token, &self.tokens.audiences, machinery::time::now_unix())?;
        let user = found.map(|(user, _)| user);
        // A token for joining ends to the second.
        if let Some(user) = user.as_ref().filter(|u| !u.name.starts_with(bootstrap_token::USER_PREFIX)) {
            self.kept.put(key, user.clone());
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
        let mut found = self.check_kept(&token);
        // Another server may have stored what the token rests on a moment ago.
        if !matches!(found, Ok(Some(_))) && self.may_be_new(&token) {
            self.objects.caught_up().await;
            found = self.check_kept(&token);
        }
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
}
