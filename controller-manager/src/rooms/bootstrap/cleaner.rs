//! Deletes bootstrap tokens when their time is over.

use std::sync::Arc;
use std::time::Duration;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::token;
use crate::kit::{Context, Write, meta};

/// Starts the cleaner. Keys are the Secrets of tokens.
pub fn start(context: Context) {
    let tokens = super::tokens(&context, token::LIFE);
    let queue: Queue<Key> = Queue::new();
    let q = queue.clone();
    tokens.handle(move |event| q.add(event.key.clone()));
    let room = Arc::new((context.clone(), tokens));
    context.run(Options::new("token-cleaner-controller", 1), queue, move |key| {
        let room = room.clone();
        async move { sync(&room.0, &room.1, &key).await }
    });
}

async fn sync(context: &Context, tokens: &Cache<Secret>, key: &Key) -> Outcome {
    let Some(secret) = tokens.get_key(key) else { return Ok(None) };
    if let Some(wait) = plan(&secret, Timestamp::now()) {
        return Ok(wait);
    }
    match context.writer.send(&Write::delete(&*secret)).await {
        // Conflict: another token of that name stands there now, and its own event has come or will come.
        Err(failure) if !failure.not_found() && !failure.conflict() => Err(failure.into()),
        Err(_) => Ok(None),
        Ok(_) => {
            tracing::info!(secret = %key, "expired bootstrap token deleted");
            Ok(None)
        }
    }
}

/// `None`: to be deleted now; else when to look again, if ever.
fn plan(secret: &Secret, now: Timestamp) -> Option<Option<Duration>> {
    match token::end(secret) {
        None => Some(None),
        Some(_) if secret.metadata.deletion_timestamp.is_some() => Some(None),
        Some(at) if at > now => Some(Some(meta::until(at, now) + Duration::from_millis(1))),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tests::secret;
    use super::*;
    use crate::testing::now;

    #[test]
    fn a_token_goes_when_its_time_is_over() {
        let judge = |line: &str| plan(&secret(line), now());
        assert_eq!(judge("bootstrap-token-a"), Some(None));
        assert_eq!(judge("bootstrap-token-a expiration=2026-01-01T09:00:00Z"), None);
        assert_eq!(judge("bootstrap-token-a expiration=soon"), None);
        assert_eq!(
            judge("bootstrap-token-a expiration=2026-01-01T10:00:05Z"),
            Some(Some(Duration::from_millis(5001)))
        );
    }
}
