//! Acting as somebody else, for those who may.

use http::HeaderMap;
use machinery::status::Status;

use crate::app::App;
use crate::authn::impersonate;
use crate::request::UserInfo;

/// The user the headers name, if they name one and the caller may act as such; the headers are taken out.
pub async fn apply(app: &App, caller: &UserInfo, headers: &mut HeaderMap) -> Result<Option<UserInfo>, Status> {
    let Some(wanted) = impersonate::wanted(headers)? else { return Ok(None) };
    let user = impersonate::impersonate(caller, wanted, &*app.authorizer).await?;
    impersonate::strip(headers);
    Ok(Some(user))
}
