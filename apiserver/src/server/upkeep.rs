//! The store's health and its compaction.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::app::App;
use crate::health::Scope;

const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// Keeps the checks that depend on the store up to date. A store whose watch told of a write since the last look is well: a write
/// takes more of it than a question would. It is asked for its revision only when it is silent.
pub async fn watch_health(app: Arc<App>) {
    let mut seen = 0;
    loop {
        let told = std::mem::replace(&mut seen, app.cache.revision()) != seen && app.cache.is_healthy();
        let state = if told { Ok(()) } else { ask(&app).await };
        let fed = match (app.cache.is_synced(), app.cache.is_healthy()) {
            (true, true) => Ok(()),
            (false, _) => Err("the cache is not filled yet".to_owned()),
            (true, false) => Err("the watch of the store is down".to_owned()),
        };
        app.health.set("etcd", state.clone());
        app.health.set_scoped("etcd-readiness", Scope::Ready, state.and(fed));
        if app.cache.is_synced() {
            app.health.set_scoped("informer-sync", Scope::Ready, Ok(()));
        }
        tokio::time::sleep(HEALTH_EVERY).await;
    }
}

async fn ask(app: &App) -> Result<(), String> {
    match tokio::time::timeout(app.config.etcd_healthcheck_timeout, app.storage.revision()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("etcd did not answer in time".to_owned()),
    }
}

/// Forgets, every interval, what is older than an interval. Several servers take turns through the store's own counter.
pub async fn compact(app: Arc<App>) {
    let every = app.config.etcd_compaction_interval;
    let (mut counter, mut revision) = (0, 0);
    app.cache.synced().await;
    loop {
        match app.storage.compact(revision, counter).await {
            Ok((now, newest)) => {
                counter = now;
                revision = newest;
            }
            Err(error) => tracing::warn!(%error, "compaction failed"),
        }
        let jitter = rand::rng().random_range(1.0..1.02);
        tokio::time::sleep(every.mul_f64(jitter)).await;
    }
}
