//! The authenticators one after another, and what everybody gets besides.

use std::sync::Arc;

use async_trait::async_trait;

use super::bearer::{Bearer, Found};
use super::legacy::Trace;
use super::service_account::Tokens;
use super::{Authenticator, AuthnError, AuthnRequest};
use crate::request::{UserInfo, Warnings};

/// Asks each in turn. The first that knows the caller wins; wrong credentials count only when nobody does.
/// OpenID Connect and webhook authenticators have their place in `ways`, after the bearer tokens.
pub struct Chain {
    /// Front proxy, client certificates, bearer tokens.
    pub ways: Vec<Arc<dyn Authenticator>>,
    /// Bearer tokens again, for reviews.
    pub bearer: Arc<Bearer>,
    /// Whether callers without credentials are let in as such.
    pub anonymous: bool,
}

#[async_trait]
impl Authenticator for Chain {
    async fn authenticate(&self, request: &AuthnRequest<'_>) -> Result<Option<UserInfo>, AuthnError> {
        let mut wrong = Vec::new();
        for way in &self.ways {
            match way.authenticate(request).await {
                Ok(Some(user)) => return Ok(Some(authenticated(user))),
                Ok(None) => {}
                Err(AuthnError(text)) => wrong.push(text),
            }
        }
        match wrong.as_slice() {
            [] if self.anonymous => Ok(Some(UserInfo::anonymous())),
            [] => Ok(None),
            _ => Err(AuthnError(wrong.join("; "))),
        }
    }

    async fn check_token(
        &self,
        token: &str,
        audiences: &[String],
        warnings: &Warnings,
    ) -> Result<Option<Found>, AuthnError> {
        let mut trace = Trace::default();
        let found = self.bearer.check(token, audiences, machinery::time::now_unix(), &mut trace);
        self.bearer.took(&trace, warnings);
        let found = found?;
        Ok(found.map(|(user, audiences)| (authenticated(user), audiences)))
    }

    fn tokens(&self) -> Option<Arc<Tokens>> {
        Some(self.bearer.tokens.clone())
    }
}

/// Everybody known is in system:authenticated; somebody vouched for as anonymous is not.
fn authenticated(mut user: UserInfo) -> UserInfo {
    if user.name == "system:anonymous" || user.in_group("system:unauthenticated") {
        return user;
    }
    if !user.in_group("system:authenticated") {
        user.groups.push("system:authenticated".into());
    }
    user
}
