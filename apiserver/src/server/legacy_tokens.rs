//! The use of tokens that lie in Secrets, noted by the day on the Secret, so that those nobody uses can be cleaned away; and
//! since when it is noted (the controller manager's legacy-serviceaccount-token-cleaner reads both).

use std::sync::Arc;
use std::time::Duration;

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::app::App;
use crate::authn::service_account::{LAST_USED, Use};
use crate::internal;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Says since when uses are noted, then notes them.
pub async fn run(app: Arc<App>) {
    let uses = app.authenticator.tokens().and_then(|tokens| tokens.uses.listen());
    app.reader.synced().await;
    while let Err(status) = begin(&app).await {
        tracing::debug!(error = status.message, "it can't be said yet since when the use of tokens is noted");
        tokio::time::sleep(RETRY).await;
    }
    let Some(mut uses) = uses else { return std::future::pending().await };
    while let Some(used) = uses.recv().await {
        if let Err(status) = note(&app, &used).await {
            // The next use is noted again.
            tracing::debug!(
                error = status.message,
                secret = used.secret,
                "the use of a token could not be noted"
            );
        }
    }
    std::future::pending().await
}

/// The map is made once; what is no date in it is put right.
async fn begin(app: &Arc<App>) -> Result<(), Status> {
    let since = json!({"since": jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()});
    let Some(mut map) = internal::get(app, "configmaps", NAMESPACE, NAME) else {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE},
            "data": since});
        return match internal::create(app, "v1", "configmaps", NAMESPACE, map).await {
            Err(status) if status.reason != "AlreadyExists" => Err(status),
            _ => Ok(()),
        };
    };
    if is_date(&map["data"]["since"]) {
        return Ok(());
    }
    map["data"] = since;
    internal::update(app, "v1", "configmaps", NAMESPACE, map).await.map(|_| ())
}

fn is_date(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<jiff::civil::Date>().is_ok())
}

async fn note(app: &Arc<App>, used: &Use) -> Result<(), Status> {
    let Some(mut secret) = internal::get(app, "secrets", &used.namespace, &used.secret) else {
        return Ok(());
    };
    if meta::label(&secret, LAST_USED) == Some(&used.day) {
        return Ok(());
    }
    meta::set_label(&mut secret, LAST_USED, &used.day);
    internal::update(app, "v1", "secrets", &used.namespace, secret).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (value, want) in [(json!("2026-11-22"), true), (json!("22.11.2026"), false), (json!(null), false)]
        {
            assert_eq!(is_date(&value), want, "{value}");
        }
    }
}
