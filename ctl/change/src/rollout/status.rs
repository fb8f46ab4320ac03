//! `rollout status`. In a pipe it prints what kubectl prints; on a terminal every pod's progress and why it waits.

use super::Common;
use super::progress::{look, why_waiting};
use crate::flags::{duration, error};
use crate::target::{Target, each, select};
use anyhow::Result;
use coxctl_kit::{Call, Cluster, Globals, out};
use futures::StreamExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

/// Flags of `rollout status`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub common: Common,
    /// Pin to a specific revision for showing its status.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    pub revision: i64,
    /// The length of time to wait before ending watch, zero means never.
    #[arg(long, default_value = "0s")]
    pub timeout: String,
    /// Watch the status of the rollout until it's done.
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub watch: bool,
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    if flags.revision < 0 {
        return Err(error(format!("revision must be a positive integer: {}", flags.revision)));
    }
    let chosen = flags.common.select()?;
    let timeout = duration(&flags.timeout)?;
    let cluster = globals.connect().await?;
    let found = select(&cluster, &chosen).await?;
    if found.is_empty() {
        out::note(&format!("No resources found in {} namespace.", cluster.namespace));
        return Ok(0);
    }
    each(found, async |target| {
        let work = follow(flags, &cluster, &target);
        match timeout {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work)
                .await
                .unwrap_or_else(|_| Err(error("timed out waiting for the condition"))),
        }
    })
    .await
}

async fn follow(flags: &Flags, cluster: &Cluster, target: &Target) -> Result<()> {
    look(&target.object, flags.revision)?;
    let mut pods = Pods::new(cluster, target);
    loop {
        let mut events = cluster.follow(&target.kind, target.ns(), &target.name).await?;
        let mut last: Option<Value> = None;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                changed = pods.changed() => {
                    if let (true, Some(object)) = (changed, &last) {
                        pods.show(object);
                    }
                    continue;
                }
            };
            let Some(Ok(event)) = event else { break };
            match event.what.as_str() {
                "ADDED" | "MODIFIED" => {
                    let (text, done) = look(&event.object, flags.revision)?;
                    pods.say(&text);
                    if done || !flags.watch {
                        return Ok(());
                    }
                    pods.show(&event.object);
                    last = Some(event.object);
                }
                "DELETED" => return Err(error("object has been deleted")),
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

type Events = futures::stream::BoxStream<'static, coxctl_kit::Result<coxctl_kit::Event>>;

/// The pods of a rollout, followed only where somebody looks on.
struct Pods {
    cluster: Cluster,
    path: String,
    selector: String,
    interactive: bool,
    events: Option<Events>,
    known: BTreeMap<String, Value>,
    said: String,
    shown: BTreeMap<String, String>,
}

impl Pods {
    fn new(cluster: &Cluster, target: &Target) -> Self {
        let selector = machinery::selector::LabelSelector::from_json(&target.object["spec"]["selector"]);
        Self {
            cluster: cluster.clone(),
            path: format!("/api/v1/namespaces/{}/pods", target.ns().unwrap_or_default()),
            selector: selector.map(|s| s.to_string()).unwrap_or_default(),
            interactive: std::io::stdout().is_terminal(),
            events: None,
            known: BTreeMap::new(),
            said: String::new(),
            shown: BTreeMap::new(),
        }
    }

    /// Prints a line about the whole rollout; a person is not told the same twice.
    fn say(&mut self, text: &str) {
        if !self.interactive || self.said != text {
            out::line(text);
        }
        self.said = text.to_string();
    }

    /// Waits for a pod to change. Without a terminal nothing ever does.
    async fn changed(&mut self) -> bool {
        if !self.interactive {
            return std::future::pending().await;
        }
        if self.events.is_none() {
            let call = Call::get(&self.path).query("labelSelector", &self.selector);
            self.events = self.cluster.watch(call).await.ok();
        }
        let Some(events) = &mut self.events else { return std::future::pending().await };
        match events.next().await {
            Some(Ok(event)) => {
                self.note(&event.what, event.object);
                true
            }
            _ => {
                self.events = None;
                tokio::time::sleep(Duration::from_secs(1)).await;
                false
            }
        }
    }

    fn note(&mut self, what: &str, pod: Value) {
        let name = machinery::meta::name(&pod).to_string();
        match what {
            "DELETED" => drop(self.known.remove(&name)),
            "ADDED" | "MODIFIED" => drop(self.known.insert(name, pod)),
            _ => {}
        }
    }

    /// Tells what is new about each pod.
    fn show(&mut self, _workload: &Value) {
        if !self.interactive {
            return;
        }
        for line in news(&self.known, &mut self.shown) {
            out::line(&line);
        }
    }
}

/// Lines about pods whose state is another than what was shown last.
fn news(known: &BTreeMap<String, Value>, shown: &mut BTreeMap<String, String>) -> Vec<String> {
    let mut out = Vec::new();
    for (name, pod) in known {
        let state = why_waiting(pod).unwrap_or_else(|| "ready".into());
        if shown.get(name) != Some(&state) {
            let node = pod["spec"]["nodeName"].as_str().map(|n| format!(" on {n}")).unwrap_or_default();
            out.push(format!("  pod {name}{node}: {state}"));
            shown.insert(name.clone(), state);
        }
    }
    let gone: Vec<String> = shown.keys().filter(|name| !known.contains_key(*name)).cloned().collect();
    for name in gone {
        out.push(format!("  pod {name}: gone"));
        shown.remove(&name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_news_is_told() {
        let ready = json!({"spec": {"nodeName": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let mut known = BTreeMap::from([("a".to_string(), ready)]);
        let mut shown = BTreeMap::new();
        assert_eq!(news(&known, &mut shown), ["  pod a on n: ready"]);
        assert!(news(&known, &mut shown).is_empty());
        known.clear();
        assert_eq!(news(&known, &mut shown), ["  pod a: gone"]);
    }
}
