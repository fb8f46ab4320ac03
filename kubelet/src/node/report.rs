//! Writing the node status: at once when something changed, else a heartbeat every five minutes.

use super::conditions;
use super::machine::Facts;
use super::status::{self, Inputs};
use crate::context::Context;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeStatus};
use kube::api::{Api, Patch, PatchParams};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Attempts before waiting for the next turn.
const TRIES: u32 = 5;
/// Images change seldom; the list is read no more often than this.
const IMAGES_AGE: Duration = Duration::from_secs(30);

/// The status a node is registered with.
pub fn first_status(ctx: &Context, facts: &Facts) -> NodeStatus {
    build(ctx, facts, &[])
}

fn build(ctx: &Context, facts: &Facts, images: &[ContainerImage]) -> NodeStatus {
    let view = ctx.node.borrow().clone();
    let health = ctx.health.borrow().clone();
    status::build(&Inputs {
        facts,
        view: &view,
        health: &health,
        pressure: *ctx.pressure.borrow(),
        images,
        hostname: &ctx.config.hostname,
        source: super::addresses::Source::of(&ctx.config),
        port: ctx.config.file.port,
        now: Timestamp::now(),
    })
}

/// Keeps the status true until cancelled.
pub async fn run(ctx: Arc<Context>, facts: Facts) {
    let mut reporter = Reporter {
        ctx: ctx.clone(),
        facts,
        images: Vec::new(),
        images_read: None,
        written: Instant::now(),
        // The Node was just made or adopted: the first turn writes a full status.
        first: true,
    };
    let (mut health, mut pressure, mut view) =
        (ctx.health.subscribe(), ctx.pressure.subscribe(), ctx.node.subscribe());
    let every = ctx.config.file.node_status_update_frequency.0.max(Duration::from_secs(1));
    loop {
        let turn = {
            health.borrow_and_update();
            pressure.borrow_and_update();
            view.borrow_and_update();
            reporter.turn().await
        };
        let wait =
            if turn.is_ok() { every.mul_f64(rand::random_range(1.0..1.04)) } else { Duration::from_secs(1) };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = health.changed() => if changed.is_err() { return },
            changed = pressure.changed() => if changed.is_err() { return },
            () = foreign_change(&mut view) => {}
        }
    }
}

/// Returns when the Node was deleted under us, or somebody else has written one of our conditions.
async fn foreign_change(view: &mut tokio::sync::watch::Receiver<Arc<crate::context::NodeView>>) {
    let before = view.borrow_and_update().node.clone();
    loop {
        if view.changed().await.is_err() {
            return std::future::pending().await;
        }
        match (&before, &view.borrow_and_update().node) {
            (Some(_), None) => return,
            (Some(before), Some(now)) if verdicts(before) != verdicts(now) => return,
            _ => {}
        }
    }
}

/// What the Node says of the conditions that are the kubelet's.
fn verdicts(node: &Node) -> Vec<(&str, &str)> {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ours = conditions.filter(|c| conditions::is_ours(&c.type_));
    ours.map(|c| (c.type_.as_str(), c.status.as_str())).collect()
}

struct Reporter {
    ctx: Arc<Context>,
    facts: Facts,
    images: Vec<ContainerImage>,
    images_read: Option<Instant>,
    written: Instant,
    first: bool,
}

impl Reporter {
    async fn turn(&mut self) -> Result<(), ()> {
        if self.ctx.node.borrow().node.is_none() && self.ctx.config.file.register_node {
            super::register::until_done(&self.ctx, &self.facts).await;
            self.first = true;
        }
        self.read_images().await;
        for attempt in 0..TRIES {
            match self.write().await {
                Ok(()) => return Ok(()),
                Err(error) if attempt + 1 == TRIES => {
                    tracing::error!(error = format!("{error:#}"), "update node status exceeds retry count");
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "error updating node status, will retry")
                }
            }
        }
        Err(())
    }

    async fn read_images(&mut self) {
        if self.images_read.is_some_and(|at| at.elapsed() < IMAGES_AGE) {
            return;
        }
        if let Ok(all) = self.ctx.runtime.list_images().await {
            self.images = status::images(all, self.ctx.config.file.node_status_max_images);
            self.images_read = Some(Instant::now());
        }
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        let Some(client) = self.ctx.client.clone() else { return Ok(()) };
        let node = self.ctx.node.borrow().node.clone();
        let Some(node) = node else { return Ok(()) };
        let old = node.status.clone().unwrap_or_default();
        let new = build(&self.ctx, &self.facts, &self.images);
        let report = self.ctx.config.file.node_status_report_frequency.0;
        let beat = self.first || self.written.elapsed() >= report;
        let Some(patch) = status::patch(&old, &new, beat) else { return Ok(()) };
        let api: Api<Node> = Api::all(client);
        let (name, params) = (&self.ctx.config.node_name, PatchParams::default());
        let patch = Patch::Strategic(patch);
        let written = tokio::time::timeout(CALL_DEADLINE, api.patch_status(name, &params, &patch)).await?;
        let written = match written {
            // Deleted: the next turn registers anew.
            Err(kube::Error::Api(e)) if e.code == 404 => {
                super::publish(&self.ctx, None);
                return Ok(());
            }
            other => other?,
        };
        self.tell(&old, &new);
        self.first = false;
        self.written = Instant::now();
        super::publish(&self.ctx, Some(Arc::new(written)));
        Ok(())
    }

    fn tell(&self, old: &NodeStatus, new: &NodeStatus) {
        let name = &self.ctx.config.node_name;
        // On the first turn the conditions in the API are those we registered with: they are news all the same.
        let before = if self.first { &[] } else { old.conditions.as_deref().unwrap_or_default() };
        for reason in conditions::events(before, new.conditions.as_deref().unwrap_or_default()) {
            super::record(&self.ctx, reason, &format!("Node {name} status is now: {reason}"));
        }
        let boot = |s: &NodeStatus| s.node_info.as_ref().map(|i| i.boot_id.clone()).unwrap_or_default();
        if let Some(message) = rebooted(name, &boot(old), &boot(new)) {
            let object = super::reference(name);
            self.ctx.events.record(object, crate::events::WARNING, "Rebooted", message);
        }
    }
}

fn rebooted(node: &str, old: &str, new: &str) -> Option<String> {
    let did = !old.is_empty() && !new.is_empty() && old != new;
    did.then(|| format!("Node {node} has been rebooted, boot id: {new}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_boot_id_is_a_reboot() {
        assert_eq!(rebooted("n", "", "b"), None);
        assert_eq!(rebooted("n", "b", "b"), None);
        assert_eq!(rebooted("n", "a", "b").unwrap(), "Node n has been rebooted, boot id: b");
    }
}
