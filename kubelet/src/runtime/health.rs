//! Watches over the runtime: its conditions, the network's, its version. CRI has no watch for these.

use super::cri;
use crate::context::{Context, RuntimeHealth};
use crate::runtime::relist::Relist;
use std::sync::Arc;
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(5);
const PERIOD_WHEN_SICK: Duration = Duration::from_millis(300);

/// Runs until the end of the process.
pub async fn run(ctx: Arc<Context>, relist: Arc<Relist>) {
    let mut announced = false;
    loop {
        let old = ctx.health.borrow().clone();
        let mut health = probe(&ctx, &old).await;
        health.pleg_error = relist.unhealthy();
        if let Some(e) = health.runtime_error.as_ref().filter(|_| !announced) {
            tracing::error!(error = %e, endpoint = %ctx.config.file.container_runtime_endpoint, "container runtime is down, waiting for it");
        }
        announced = health.runtime_error.is_some();
        let sick = announced || health.network_error.is_some() || health.pleg_error.is_some();
        ctx.health.send_if_modified(|h| {
            let changed = *h != health;
            *h = health;
            changed
        });
        tokio::time::sleep(if sick { PERIOD_WHEN_SICK } else { PERIOD }).await;
    }
}

async fn probe(ctx: &Context, old: &RuntimeHealth) -> RuntimeHealth {
    let mut out = old.clone();
    if out.runtime_version.is_empty() || out.runtime_error.is_some() {
        match ctx.runtime.version().await {
            Ok(v) => out.runtime_version = format!("{}://{}", v.runtime_name, v.runtime_version),
            Err(e) => {
                out.runtime_error = Some(e.to_string());
                return out;
            }
        }
    }
    match ctx.runtime.status().await {
        Ok(answer) => {
            out.seen = true;
            out.runtime_error = condition_error(
                &answer,
                "RuntimeReady",
                "container runtime status check may not have completed yet",
            );
            out.network_error =
                condition_error(&answer, "NetworkReady", "container runtime network not ready");
            out.handlers = handlers(&answer);
        }
        Err(e) => out.runtime_error = Some(e.to_string()),
    }
    out
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
