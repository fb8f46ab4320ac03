//! TokenReview: whose token is this.

use machinery::status::Status;
use serde_json::{Value, json};

use super::user_json;
use crate::authn::bearer::Found;
use crate::authn::{Authenticator, AuthnError};
use crate::request::{Ctx, Warnings};

/// Answers a TokenReview. Errors: BadRequest without a token.
pub async fn create(ctx: &Ctx, mut body: Value) -> Result<Value, Status> {
    body["status"] = answer(&*ctx.app.authenticator, &body, &ctx.warnings).await?;
    Ok(body)
}

async fn answer(
    authenticator: &dyn Authenticator,
    body: &Value,
    warnings: &Warnings,
) -> Result<Value, Status> {
    let token = body.pointer("/spec/token").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let asked: Vec<String> = body
        .pointer("/spec/audiences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    let own = authenticator.tokens().map(|t| t.audiences.clone()).unwrap_or_default();
    let audiences = if asked.is_empty() { own } else { asked };
    Ok(status(authenticator.check_token(token, &audiences, warnings).await))
}

fn status(found: Result<Option<Found>, AuthnError>) -> Value {
    match found {
        Ok(Some((user, audiences))) => {
            let mut status = json!({"authenticated": true, "user": user_json(&user)});
            if !audiences.is_empty() {
                status["audiences"] = json!(audiences);
            }
            status
        }
        Ok(None) => json!({"user": {}}),
        Err(AuthnError(why)) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::authn::bearer::{Bearer, Kept};
    use crate::authn::chain::Chain;
    use crate::authn::lookup::fixture::Fixed;
    use crate::authn::service_account::{self, Claims};

    #[tokio::test]
    async fn answers() {
        let tokens = Arc::new(service_account::tests::tokens());
        let audience = vec!["vault".to_owned()];
        let claims = Claims {
            namespace: "a",
            account: ("bot", "u"),
            audiences: &audience,
            seconds: 600,
            ..Claims::default()
        };
        let token = tokens.issue(&claims, machinery::time::now_unix()).expect("token");
        let account = json!({"metadata": {"namespace": "a", "name": "bot", "uid": "u"}});
        let objects = Arc::new(Fixed::default().with("serviceaccounts", account));
        let bearer =
            Arc::new(Bearer { fixed: None, tokens, bootstrap: false, objects, kept: Kept::default() });
        let chain = Chain { ways: vec![bearer.clone()], bearer, anonymous: false };
        let good = answer(
            &chain,
            &json!({"spec": {"token": token, "audiences": ["vault", "other"]}}),
            &Warnings::default(),
        )
        .await
        .expect("status");
        assert_eq!(good["authenticated"], true);
        assert_eq!(good["audiences"], json!(["vault"]));
        assert_eq!(good["user"]["username"], "system:serviceaccount:a:bot");
        assert_eq!(
            good["user"]["groups"],
            json!(["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"])
        );
        let wrong =
            answer(&chain, &json!({"spec": {"token": token}}), &Warnings::default()).await.expect("status");
        assert!(wrong.get("authenticated").is_none() && wrong["error"].is_string());
        let unknown =
            answer(&chain, &json!({"spec": {"token": "what"}}), &Warnings::default()).await.expect("status");
        assert_eq!(unknown, json!({"user": {}}));
        assert_eq!(
            answer(&chain, &json!({"spec": {}}), &Warnings::default()).await.expect_err("refused").code,
            400
        );
    }
}
