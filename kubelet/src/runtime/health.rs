//! Watches over the runtime: its conditions, the network's, its version. CRI has no watch for these.

use super::{RuntimeError, cri};
use crate::context::{Context, RuntimeHealth};
use crate::runtime::relist::Relist;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const PERIOD: Duration = Duration::from_secs(5);
const PERIOD_WHEN_SICK: Duration = Duration::from_millis(300);
/// A runtime that is away for less than this (a restart) says nothing about the node.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs until the end of the process.
pub async fn run(ctx: Arc<Context>, relist: Arc<Relist>) {
    let mut announced = false;
    let mut answered: Option<Instant> = None;
    loop {
        let old = ctx.health.borrow().clone();
        let probed = probe(&ctx, &old).await;
        let failing = probed.is_err();
        let mut health = match probed {
            Ok(health) => {
                answered = Some(Instant::now());
                health
            }
            Err(error) => while_away(old, &error, answered),
        };
        health.pleg_error = relist.unhealthy();
        if let Some(e) = health.runtime_error.as_ref().filter(|_| !announced) {
            tracing::error!(error = %e, endpoint = %ctx.config.file.container_runtime_endpoint, "container runtime is down, waiting for it");
        }
        announced = health.runtime_error.is_some();
        let sick = failing || announced || health.network_error.is_some() || health.pleg_error.is_some();
        ctx.health.send_if_modified(|h| {
            let changed = *h != health;
            *h = health;
            changed
        });
        tokio::time::sleep(if sick { PERIOD_WHEN_SICK } else { PERIOD }).await;
    }
}

/// Takes the relist's health into the published one at once.
pub fn refresh(ctx: &Context, relist: &Relist) {
    ctx.health.send_if_modified(|h| {
        let now = relist.unhealthy();
        let changed = h.pleg_error != now;
        h.pleg_error = now;
        changed
    });
}

/// Health while the runtime does not answer: what it was, until patience ends.
fn while_away(old: RuntimeHealth, error: &RuntimeError, answered: Option<Instant>) -> RuntimeHealth {
    match answered {
        Some(at) if at.elapsed() < PATIENCE => old,
        Some(_) => RuntimeHealth { runtime_error: Some("container runtime is down".into()), ..old },
        None => RuntimeHealth { runtime_error: Some(error.to_string()), ..old },
    }
}

async fn probe(ctx: &Context, old: &RuntimeHealth) -> Result<RuntimeHealth, RuntimeError> {
    let mut out = old.clone();
    // another version may have come up after an outage
    if out.runtime_version.is_empty() || out.runtime_error.is_some() {
        let v = ctx.runtime.version().await?;
        out.runtime_version = format!("{}://{}", v.runtime_name, v.runtime_version);
    }
    let answer = ctx.runtime.status().await?;
    out.seen = true;
    out.runtime_error = condition_error(&answer, "RuntimeReady", "container runtime not ready");
    out.network_error = condition_error(&answer, "NetworkReady", "container runtime network not ready");
    out.handlers = handlers(&answer);
    Ok(out)
}

fn condition_error(answer: &cri::StatusResponse, kind: &str, prefix: &str) -> Option<String> {
    let conditions = answer.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    match conditions.iter().find(|c| c.r#type == kind) {
        Some(c) if c.status => None,
        Some(c) => Some(format!("{prefix}: {kind}=false reason:{} message:{}", c.reason, c.message)),
        None => Some(prefix.to_owned()),
    }
}

fn handlers(answer: &cri::StatusResponse) -> Vec<(String, bool, bool)> {
    let features = |h: &cri::RuntimeHandler| {
        let f = h.features.as_ref();
        (
            h.name.clone(),
            f.is_some_and(|f| f.recursive_read_only_mounts),
            f.is_some_and(|f| f.user_namespaces),
        )
    };
    answer.runtime_handlers.iter().map(features).collect()
}
