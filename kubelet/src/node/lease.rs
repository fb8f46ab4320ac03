//! The node's heartbeat: a Lease in kube-node-lease, renewed every quarter of its duration.

use crate::context::Context;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Api, ObjectMeta, PostParams};
use std::sync::Arc;
use std::time::Duration;

const NAMESPACE: &str = "kube-node-lease";
const LONGEST_WAIT: Duration = Duration::from_secs(7);
/// Attempts to write before waiting for the next turn.
const TRIES: u32 = 5;

/// Renews until cancelled.
pub async fn run(ctx: Arc<Context>) {
    let Some(client) = ctx.client.clone() else { return };
    let seconds = ctx.config.file.node_lease_duration_seconds.max(1);
    let every = Duration::from_secs(seconds.unsigned_abs().into()).mul_f64(0.25);
    let deadline = every.max(Duration::from_secs(1));
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut last: Option<Lease> = None;
    loop {
        last = turn(&ctx, &api, last, deadline).await;
        tokio::time::sleep(every.mul_f64(rand::random_range(1.0..1.04))).await;
    }
}

/// One renewal with its retries; the lease as last written, None to begin with a read next time.
async fn turn(ctx: &Context, api: &Api<Lease>, mut last: Option<Lease>, deadline: Duration) -> Option<Lease> {
    let mut wait = Duration::from_millis(100);
    for _ in 0..TRIES {
        let writing = write(ctx, api, last.take());
        match tokio::time::timeout(deadline, writing).await.map_err(anyhow::Error::from).flatten() {
            Ok(lease) => return Some(lease),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "failed to update the node lease"),
        }
        tokio::time::sleep(wait.mul_f64(rand::random_range(1.0..1.2))).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    None
}

async fn write(ctx: &Context, api: &Api<Lease>, last: Option<Lease>) -> anyhow::Result<Lease> {
    let name = &ctx.config.node_name;
    let known = match last {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let owner = ctx.node.borrow().node.as_ref().and_then(|n| n.metadata.uid.clone());
    let params = PostParams::default();
    let seconds = ctx.config.file.node_lease_duration_seconds;
    match known {
        Some(known) => {
            let wanted = renewed(known, name, owner, seconds, Timestamp::now());
            Ok(api.replace(name, &params, &wanted).await?)
        }
        None => {
            let fresh = Lease {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    namespace: Some(NAMESPACE.into()),
                    ..Default::default()
                },
                spec: None,
            };
            Ok(api.create(&params, &renewed(fresh, name, owner, seconds, Timestamp::now())).await?)
        }
    }
}

fn renewed(mut lease: Lease, node: &str, owner: Option<String>, seconds: i32, now: Timestamp) -> Lease {
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(node.to_owned());
    spec.lease_duration_seconds = Some(seconds);
    spec.renew_time = Some(MicroTime(now));
    let owned = lease.metadata.owner_references.as_ref().is_some_and(|o| !o.is_empty());
    if let Some(uid) = owner.filter(|_| !owned) {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: node.to_owned(),
            uid,
            ..Default::default()
        }]);
    }
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_moves_the_time_and_owns_once() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let first = renewed(Lease::default(), "n", None, 40, at(1));
        assert_eq!(first.metadata.owner_references, None);
        let second = renewed(first, "n", Some("u".into()), 40, at(2));
        assert_eq!(second.metadata.owner_references.as_ref().unwrap()[0].uid, "u");
        let third = renewed(second, "n", Some("other".into()), 40, at(3));
        assert_eq!(third.metadata.owner_references.as_ref().unwrap()[0].uid, "u");
        let spec = third.spec.unwrap();
        assert_eq!((spec.renew_time, spec.lease_duration_seconds), (Some(MicroTime(at(3))), Some(40)));
    }
}
