//! The use of tokens that lie in Secrets, noted by the day on the Secret, so that those nobody uses can be cleaned away; and
//! since when it is noted (the controller manager's legacy-serviceaccount-token-cleaner reads both).

use std::sync::Arc;
use std::time::Duration;

use machinery::meta;
use machinery::status::Status;
use machinery::time::now_unix;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::app::App;
use crate::authn::legacy::{LAST_USED, Use, day};
use crate::internal;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// The map is not made again sooner: in a cluster of servers of which some don't note uses, it is deleted by those.
const MAKE_EVERY: Duration = Duration::from_secs(30 * 60);

/// Says since when uses are noted, and notes them.
pub async fn run(app: Arc<App>) {
    app.reader.synced().await;
    match app.authenticator.tokens().and_then(|tokens| tokens.uses.listen()) {
        Some(uses) => tokio::join!(keep(&app), note_all(&app, uses)).0,
        None => keep(&app).await,
    }
    std::future::pending().await
}

/// Keeps the map that says since when.
async fn keep(app: &Arc<App>) {
    let Some(mut changed) = app.reader.changed("configmaps") else { return };
    let (mut made, mut wait) = (None::<Instant>, RETRY.0);
    loop {
        let map = internal::get(app, "configmaps", NAMESPACE, NAME);
        let due = made.filter(|_| map.is_none()).map(|at| at + MAKE_EVERY).filter(|at| *at > Instant::now());
        let kept = if due.is_some() { Ok(false) } else { begin(app, map).await };
        match kept {
            Ok(new) => {
                made = if new { Some(Instant::now()) } else { made };
                wait = RETRY.0;
                let again = due.unwrap_or_else(|| Instant::now() + MAKE_EVERY);
                // Other maps change too; that costs a look into the cache.
                let _ = tokio::time::timeout_at(again, changed.changed()).await;
            }
            Err(status) => {
                tracing::debug!(
                    error = status.message,
                    "it can't be said yet since when uses of tokens are noted"
                );
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
}

/// Makes the map if there is none; what is no date in it is put right. True if it was made.
async fn begin(app: &Arc<App>, map: Option<Value>) -> Result<bool, Status> {
    let today = day(now_unix()).unwrap_or_default();
    let Some(mut map) = map else {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": {"since": today}});
        return match internal::create(app, "v1", "configmaps", NAMESPACE, map).await {
            Err(status) if status.reason == "AlreadyExists" => Ok(false),
            outcome => outcome.map(|_| true),
        };
    };
    if is_date(&map["data"]["since"]) {
        return Ok(false);
    }
    meta::member_mut(&mut map, "data").insert("since".into(), today.into());
    match internal::update(app, "v1", "configmaps", NAMESPACE, map).await {
        Err(status) if !matches!(status.reason.as_str(), "NotFound" | "Conflict") => Err(status),
        _ => Ok(false),
    }
}

fn is_date(value: &Value) -> bool {
    let day = value.as_str().and_then(|text| Some((text, text.parse::<jiff::civil::Date>().ok()?)));
    day.is_some_and(|(text, day)| day.to_string() == text)
}

async fn note_all(app: &Arc<App>, mut uses: mpsc::Receiver<Use>) {
    while let Some(used) = uses.recv().await {
        if let Err(status) = note(app, &used).await {
            // The next use is noted again.
            let (error, secret) = (status.message, used.secret);
            tracing::debug!(error, secret, "the use of a token could not be noted");
        }
    }
}

async fn note(app: &Arc<App>, used: &Use) -> Result<(), Status> {
    let stored = internal::get(app, "secrets", &used.namespace, &used.secret);
    let Some(mut secret) = stored.filter(|s| meta::uid(s) == used.uid) else { return Ok(()) };
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
        for (value, want) in [
            (json!("2026-11-22"), true),
            (json!("22.11.2026"), false),
            (json!("20261122"), false),
            (json!(null), false),
        ] {
            assert_eq!(is_date(&value), want, "{value}");
        }
    }
}
