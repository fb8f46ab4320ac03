//! Evicting pods side by side, and waiting until they are gone.

use super::drain::Drain;
use crate::flags::{DryRun, error};
use crate::output::{named, suffix};
use anyhow::Result;
use coxctl_kit::{Cluster, Error, Kind, Write, out};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::time::Duration;

/// How long to wait before a refused eviction is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often a pod that goes away is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Moves pods away.
pub struct Evictor<'a> {
    cluster: &'a Cluster,
    pods: Kind,
    /// False when pods are deleted instead.
    evicts: bool,
    grace: Option<i64>,
    skip_after: u64,
    dry: DryRun,
}

impl<'a> Evictor<'a> {
    /// Evicts where the server can and the user does not forbid it.
    pub async fn new(cluster: &'a Cluster, pods: Kind, flags: &Drain, dry: DryRun) -> Result<Self> {
        let evicts = !flags.disable_eviction && pods.subresources.iter().any(|s| s == "eviction");
        let grace = Some(flags.grace_period).filter(|g| *g >= 0);
        Ok(Self { cluster, pods, evicts, grace, skip_after: flags.skip_wait_for_delete_timeout, dry })
    }

    /// Moves all of them away, within the limit.
    pub async fn all(&self, pods: Vec<Value>, timeout: Option<Duration>) -> Result<()> {
        if self.dry == DryRun::Client {
            let doing = if self.evicts { "evicting" } else { "deleting" };
            pods.iter().for_each(|pod| self.say(doing, pod));
            return Ok(());
        }
        // As many at once as the server takes without queueing them behind each other.
        let work = stream::iter(&pods).map(|pod| self.one(pod)).buffer_unordered(64).collect::<Vec<_>>();
        let done = match timeout {
            None => work.await,
            Some(limit) => match tokio::time::timeout(limit, work).await {
                Ok(done) => done,
                Err(_) => return Err(error(late(&pods, limit))),
            },
        };
        let errors: Vec<Error> =
            done.into_iter().filter_map(|d| d.err().map(crate::target::kit_error)).collect();
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Error::message(Error::many(errors).to_string()).into()),
        }
    }

    fn say(&self, doing: &str, pod: &Value) {
        let (namespace, name) = (machinery::meta::namespace(pod), machinery::meta::name(pod));
        out::line(&format!("{doing} pod {namespace}/{name}{}", suffix(self.dry)));
    }

    async fn one(&self, pod: &Value) -> Result<()> {
        let gone = if self.evicts { self.evict(pod).await? } else { self.delete(pod).await? };
        if gone || self.dry == DryRun::Server {
            return Ok(());
        }
        self.until_gone(pod).await?;
        let word = if self.evicts { "evicted" } else { "deleted" };
        out::line(&format!("{} {word}", named(pod)));
        Ok(())
    }

    fn options(&self) -> Value {
        let mut options = json!({});
        if let Some(grace) = self.grace {
            options["gracePeriodSeconds"] = json!(grace);
        }
        if self.dry == DryRun::Server {
            options["dryRun"] = json!(["All"]);
        }
        options
    }

    /// Asks until the disruption budgets allow it; true when the pod was gone already.
    async fn evict(&self, pod: &Value) -> Result<bool> {
        let (namespace, name) = (machinery::meta::namespace(pod), machinery::meta::name(pod));
        let metadata = json!({"name": name, "namespace": namespace});
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": self.options()});
        loop {
            self.say("evicting", pod);
            let (kind, write) = (&self.pods, Write::default());
            let sent = self.cluster.create_sub(kind, Some(namespace), name, "eviction", &body, &write).await;
            let Err(cause) = sent else { return Ok(false) };
            let place = format!("pods/{name:?} -n {namespace:?}");
            if cause.is_not_found() {
                return Ok(true);
            } else if cause.is("TooManyRequests") {
                out::note(&format!("error when evicting {place} (will retry after 5s): {cause}"));
            } else if terminating(&cause) && !pod["metadata"]["deletionTimestamp"].is_null() {
                return Ok(false);
            } else if terminating(&cause) {
                out::note(&format!(
                    "error when evicting pod {name:?} from terminating namespace {namespace:?} (will retry after 5s): {cause}"
                ));
            } else {
                return Err(error(format!("error when evicting {place}: {cause}")));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn delete(&self, pod: &Value) -> Result<bool> {
        self.say("deleting", pod);
        let (namespace, name) = (machinery::meta::namespace(pod), machinery::meta::name(pod));
        match self.cluster.delete(&self.pods, Some(namespace), name, &self.options()).await {
            Ok(_) => Ok(false),
            Err(e) if e.is_not_found() => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    /// Follows a pod until it is gone. A watch that may not be opened is replaced by looking now and then.
    async fn until_gone(&self, pod: &Value) -> Result<()> {
        let (namespace, name) = (machinery::meta::namespace(pod), machinery::meta::name(pod));
        let uid = machinery::meta::uid(pod);
        loop {
            match self.cluster.get(&self.pods, Some(namespace), name, None).await {
                Err(e) if e.is_not_found() => return Ok(()),
                Err(e) => {
                    return Err(error(format!(
                        "error when waiting for pod {name:?} in namespace {namespace:?} to terminate: {e}"
                    )));
                }
                Ok(live) if machinery::meta::uid(&live) != uid || self.skips(&live) => return Ok(()),
                Ok(_) => {}
            }
            if let Ok(mut events) = self.cluster.follow(&self.pods, Some(namespace), name).await {
                while let Some(Ok(event)) = events.next().await {
                    let other = machinery::meta::uid(&event.object) != uid;
                    if event.what == "DELETED" || other || self.skips(&event.object) {
                        return Ok(());
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Pods that have been going away for too long are not waited for.
    fn skips(&self, pod: &Value) -> bool {
        let since =
            pod["metadata"]["deletionTimestamp"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
        let long = |t: jiff::Timestamp| {
            jiff::Timestamp::now().as_second() - t.as_second() > self.skip_after.cast_signed()
        };
        self.skip_after > 0 && since.is_some_and(long)
    }
}

fn terminating(cause: &Error) -> bool {
    let causes = cause.status().map(|s| s.details["causes"].clone()).unwrap_or_default();
    cause.is("Forbidden")
        && causes.as_array().is_some_and(|c| c.iter().any(|c| c["reason"] == "NamespaceTerminating"))
}

fn late(pods: &[Value], limit: Duration) -> String {
    let one = |pod: &Value| {
        let (namespace, name) = (machinery::meta::namespace(pod), machinery::meta::name(pod));
        format!(
            "error when evicting pods/{name:?} -n {namespace:?}: global timeout reached: {}s",
            limit.as_secs()
        )
    };
    match pods {
        [pod] => one(pod),
        pods => format!("[{}]", pods.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}
