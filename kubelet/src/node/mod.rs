//! The Node object: registration, status, lease.
//!
//! [`machine`] reads the host, [`capacity`] and [`conditions`] decide (pure), [`status`] builds and compares,
//! [`register`], [`report`] and [`lease`] write. What the rest of the kubelet needs to know of the node is published
//! as [`crate::context::NodeView`].

pub mod addresses;
pub mod capacity;
pub mod conditions;
pub mod lease;
pub mod machine;
pub mod register;
pub mod report;
pub mod status;

use crate::context::{Context, NodeView};
use control::cache::{Cache, Options};
use daemon::tasks::Tasks;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::Api;
use std::sync::Arc;

/// The version of Kubernetes this kubelet is.
pub const VERSION: &str = "v1.36.2";

/// Starts everything about the node. Returns once addresses, capacity and allocatable are known; the rest goes on
/// in tasks until cancelled.
pub async fn start(ctx: &Arc<Context>) -> anyhow::Result<()> {
    let mut facts = machine::read(&ctx.config.root_dir);
    if let Some(hollow) = ctx.config.hollow {
        (facts.cores, facts.memory) = (hollow.cores, hollow.memory);
    }
    let addresses = addresses::find(&ctx.config).await;
    let capacity = capacity::capacity(&facts, &ctx.config.file);
    let allocatable = capacity::allocatable(&capacity, &ctx.config.file)?;
    ctx.node.send_replace(Arc::new(NodeView { node: None, addresses, capacity, allocatable }));
    record(ctx, "Starting", "Starting kubelet.");
    if ctx.client.is_some() {
        ctx.spawn("node", run(ctx.clone(), facts));
    }
    Ok(())
}

async fn run(ctx: Arc<Context>, facts: machine::Facts) {
    if ctx.config.file.register_node {
        register::until_done(&ctx, &facts).await;
    }
    watch(&ctx);
    tokio::join!(lease::run(ctx.clone()), report::run(ctx.clone(), facts));
}

/// The Node as an event's object; upstream uses the name for the UID.
pub fn reference(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".into()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..Default::default()
    }
}

/// A Normal event on the node.
pub fn record(ctx: &Context, reason: &str, message: &str) {
    ctx.events.record(reference(&ctx.config.node_name), crate::events::NORMAL, reason, message);
}

/// Follows the Node object into the node view.
fn watch(ctx: &Arc<Context>) {
    let Some(client) = ctx.client.clone() else { return };
    let options = Options::<Node>::default()
        .fields(format!("metadata.name={}", ctx.config.node_name))
        .trim(|n: &mut Node| n.metadata.managed_fields = None);
    let cache = Cache::start(Api::all(client), options, &Tasks::new(ctx.cancel.clone()));
    let ctx = ctx.clone();
    cache.handle(move |event| publish(&ctx, event.new.clone()));
}

/// Puts the Node into the view, and tells of its being (un)schedulable.
pub fn publish(ctx: &Context, node: Option<Arc<Node>>) {
    let closed = |n: &Option<Arc<Node>>| {
        n.as_ref().map(|n| n.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false))
    };
    let before = closed(&ctx.node.borrow().node);
    let after = closed(&node);
    ctx.node.send_modify(|view| {
        let mut new = (**view).clone();
        new.node = node;
        *view = Arc::new(new);
    });
    if let (Some(before), Some(after)) = (before, after)
        && before != after
    {
        let reason = if after { "NodeNotSchedulable" } else { "NodeSchedulable" };
        record(ctx, reason, &format!("Node {} status is now: {reason}", ctx.config.node_name));
    }
}
