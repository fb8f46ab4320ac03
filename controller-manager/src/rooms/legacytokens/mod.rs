//! Tokens in Secrets that were once made for every service account: those nobody has used for long are first declared
//! invalid, and deleted when nobody has missed them for as long again.

mod plan;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use control::Queue;
use control::runner::{Options, Outcome};
use jiff::Timestamp;
use jiff::civil::Date;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::api::{Api, ListParams};

use crate::kit::Context;
use crate::kit::meta::{name, namespace};
use plan::{Term, unused, uses, write};

const TYPE: &str = "kubernetes.io/service-account-token";
/// Where the API server says since when it notes the use of tokens.
const TRACKING: (&str, &str) = ("kube-system", "kube-apiserver-legacy-service-account-token-tracking");
const SINCE: &str = "since";
/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Starts the cleaner. It keeps no caches: what it looks at once a day it asks for then.
pub fn start(context: Context) {
    let queue: Queue<()> = Queue::with_backoff(Duration::from_secs(1), Duration::from_secs(1000));
    queue.add(());
    let room = Arc::new(context.clone());
    context.run(Options::new("legacy-serviceaccount-token-cleaner-controller", 1), queue, move |()| {
        let room = room.clone();
        async move { sync(&room).await }
    });
}

async fn sync(context: &Context) -> Outcome {
    let period = context.config.legacy_service_account_token_clean_up_period;
    let Some(since) = tracked_since(context).await? else { return Ok(Some(INTERVAL)) };
    let Some(term) = Term::new(since, period, Timestamp::now()) else { return Ok(Some(INTERVAL)) };
    for (account, secrets) in candidates(context, &term).await? {
        let pods = used_in(context, &account).await?;
        for secret in secrets.iter().filter(|s| !pods.contains(name(&s.metadata))) {
            let Some(write) = write(secret, &term) else { continue };
            tracing::info!(secret = name(&secret.metadata), namespace = account, %write, "unused token");
            match context.writer.send(&write).await {
                Err(failure) if !failure.not_found() && !failure.conflict() => return Err(failure.into()),
                _ => {}
            }
        }
    }
    Ok(Some(INTERVAL))
}

/// Since when uses are noted; without that nothing is known to be unused.
async fn tracked_since(context: &Context) -> anyhow::Result<Option<Date>> {
    let api: Api<ConfigMap> = Api::namespaced(context.writer.client(), TRACKING.0);
    let map = api.get_opt(TRACKING.1).await.context("when tracking began")?;
    let text = map.and_then(|m| m.data?.remove(SINCE));
    let since = text.as_deref().and_then(plan::date);
    if since.is_none() {
        tracing::info!(map = TRACKING.1, ?text, "it is not known since when the use of tokens is noted");
    }
    Ok(since)
}

/// Tokens made for accounts and not used within the term, by namespace.
async fn candidates(context: &Context, term: &Term) -> anyhow::Result<Vec<(String, Vec<Secret>)>> {
    let secrets: Api<Secret> = Api::all(context.root.clone());
    let params = ListParams::default().fields(&format!("type={TYPE}")).match_any();
    let mut secrets = secrets.list(&params).await.context("tokens")?.items;
    secrets.retain(|secret| unused(secret, term));
    secrets.sort_by(|a, b| a.metadata.namespace.cmp(&b.metadata.namespace));
    let mut found: Vec<(String, Vec<Secret>)> = Vec::new();
    for secret in secrets {
        let ns = namespace(&secret.metadata).to_string();
        match found.last_mut().filter(|(last, _)| *last == ns) {
            Some((_, list)) => list.push(secret),
            None => found.push((ns, vec![secret])),
        }
    }
    for (ns, list) in &mut found {
        let accounts: Api<ServiceAccount> = Api::namespaced(context.root.clone(), ns);
        let accounts = accounts.list(&ListParams::default()).await.context("accounts")?.items;
        list.retain(|secret| accounts.iter().any(|account| plan::made_for(secret, account)));
    }
    found.retain(|(_, list)| !list.is_empty());
    Ok(found)
}

/// The Secrets that pods of a namespace name.
async fn used_in(context: &Context, ns: &str) -> anyhow::Result<HashSet<String>> {
    let pods: Api<Pod> = Api::namespaced(context.root.clone(), ns);
    let pods = pods.list(&ListParams::default()).await.context("pods")?.items;
    Ok(pods.iter().flat_map(uses).collect())
}
