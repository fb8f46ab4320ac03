//! How many objects there are of kinds the manager keeps no cache of, and word of those that go.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use control::backoff::Backoff;
use control::{Key, Queue};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Api, PartialObjectMeta};
use kube::core::DynamicObject;
use kube::runtime::watcher;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::plan::Of;
use crate::kit::discovery::{self, Resource};
use crate::kit::{Context, Kind};

/// What is served is asked again after this long.
const FRESH: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(20);
/// Objects of a page.
const PAGE: usize = 500;

/// Counts what is in no cache.
pub struct Counter {
    context: Context,
    queue: Queue<Key>,
    quotas: control::Cache<ResourceQuota>,
    served: Mutex<Option<(Vec<Resource>, Instant)>>,
    /// What is watched for objects that go.
    watched: Mutex<BTreeSet<Of>>,
}

impl Counter {
    /// Quotas of a namespace are put into `queue` when something of it goes.
    pub fn new(context: &Context, quotas: control::Cache<ResourceQuota>, queue: Queue<Key>) -> Self {
        let (served, watched) = (Mutex::default(), Mutex::default());
        Self { context: context.clone(), queue, quotas, served, watched }
    }

    async fn find(&self, (group, plural): &Of) -> Result<Option<Kind>> {
        let known = self.served.lock().clone().filter(|(_, at)| at.elapsed() < FRESH);
        let resources = match known {
            Some((resources, _)) => resources,
            None => {
                let found = discovery::preferred(&self.context.root).await?.resources;
                *self.served.lock() = Some((found.clone(), Instant::now()));
                found
            }
        };
        let is = |r: &&Resource| r.kind.group == *group && r.kind.plural == *plural && r.namespaced;
        Ok(resources.iter().find(is).filter(|r| r.can("list")).map(|r| r.kind.clone()))
    }

    /// How many objects of a resource a namespace has; `None` if there is no such resource.
    pub async fn count(&self, of: &Of, ns: &str) -> Result<Option<i64>> {
        let Some(kind) = self.find(of).await? else { return Ok(None) };
        self.watch(of, &kind);
        let page = self.page(&kind, ns, "limit=1").await?;
        let here = page["items"].as_array().map_or(0, Vec::len) as i64;
        Ok(Some(here + page["metadata"]["remainingItemCount"].as_i64().unwrap_or(0)))
    }

    /// The objects of a resource in a namespace; `None` if there is no such resource.
    pub async fn list(&self, of: &Of, ns: &str) -> Result<Option<Vec<Value>>> {
        let Some(kind) = self.find(of).await? else { return Ok(None) };
        self.watch(of, &kind);
        let (mut all, mut query) = (Vec::new(), format!("limit={PAGE}"));
        loop {
            let mut page = self.page(&kind, ns, &query).await?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                all.extend(items);
            }
            match page["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => query = format!("limit={PAGE}&continue={next}"),
                _ => return Ok(Some(all)),
            }
        }
    }

    async fn page(&self, kind: &Kind, ns: &str, query: &str) -> Result<Value> {
        let request = http::Request::get(format!("{}?{query}", kind.path(ns, ""))).body(Vec::new())?;
        let asked = self.context.writer.client();
        let page = tokio::time::timeout(DEADLINE, asked.request::<Value>(request)).await?;
        page.with_context(|| format!("list of {}", kind.plural))
    }

    /// Watches a resource from now on, by metadata: only that something goes matters.
    fn watch(&self, of: &Of, kind: &Kind) {
        if !self.watched.lock().insert(of.clone()) {
            return;
        }
        let dynamic = kind.dynamic();
        let api = Api::all_with(self.context.root.clone(), &dynamic);
        let (quotas, queue) = (self.quotas.clone(), self.queue.clone());
        self.context.tasks.spawn(format!("resourcequota watch of {}", kind.plural), async move {
            follow(api, quotas, queue).await;
        });
    }
}

async fn follow(
    api: Api<PartialObjectMeta<DynamicObject>>,
    quotas: control::Cache<ResourceQuota>,
    queue: Queue<Key>,
) {
    let open = || Box::pin(watcher(api.clone(), watcher::Config::default().any_semantic()));
    let mut stream = open();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Delete(object)) => {
                let ns = object.metadata.namespace.as_deref().unwrap_or_default();
                wake(&quotas, &queue, ns);
            }
            // What went while nobody watched is found by the regular count.
            Ok(_) => backoff.reset(),
            Err(error) => {
                tracing::debug!(%error, "watch for quotas failed");
                tokio::time::sleep(backoff.next_wait()).await;
                if control::cache::is_expired(&error) {
                    stream = open();
                }
            }
        }
    }
}

/// Has the quotas of a namespace counted anew soon.
pub fn wake(quotas: &control::Cache<ResourceQuota>, queue: &Queue<Key>, ns: &str) {
    for quota in quotas.by_namespace(ns) {
        queue.add_after(Key::of(&*quota), super::GATHER);
    }
}
