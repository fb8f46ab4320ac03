//! Taking in objects that match and have no controller, and letting go those that no longer match.

use std::sync::Arc;

use control::{Cache, Namespaced, Watchable};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource;
use kube::api::Api;
use serde_json::json;

use super::context::Context;
use super::meta::{controller, controller_ref, name, namespace, selects, uid};
use super::write::{Format, Write};

/// Index by the UID of the controller; objects without one are under `orphan:<namespace>`.
pub const BY_CONTROLLER: &str = "controller";

/// The cache of a kind, indexed by controller.
pub fn owned_cache<T: Watchable>(context: &Context) -> Cache<T> {
    let cache: Cache<T> = context.caches.of();
    cache.add_index(BY_CONTROLLER, |object: &T| {
        let meta = object.meta();
        vec![controller(meta).map_or_else(|| format!("orphan:{}", namespace(meta)), |c| c.uid.clone())]
    });
    cache
}

/// Objects controlled by an owner, and those of its namespace that nobody controls.
pub fn owned_and_orphans<T>(cache: &Cache<T>, owner: &ObjectMeta) -> (Vec<Arc<T>>, Vec<Arc<T>>)
where
    T: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let orphans = format!("orphan:{}", namespace(owner));
    (cache.by_index(BY_CONTROLLER, uid(owner)), cache.by_index(BY_CONTROLLER, &orphans))
}

/// Patches that change who controls what.
#[derive(Debug, Default)]
pub struct Claim {
    pub adopt: Vec<Write>,
    pub release: Vec<Write>,
}

/// What to adopt and release.
pub fn claim<O, T>(owner: &O, selector: &LabelSelector, owned: &[Arc<T>], orphans: &[Arc<T>]) -> Claim
where
    O: Resource<DynamicType = ()>,
    T: Resource<DynamicType = ()>,
{
    claim_where(owner, owned, orphans, |object| selects(selector, object.meta().labels.as_ref()))
}

/// As [`claim`], with the caller's word on what belongs to the owner. An owner being deleted changes nothing.
pub fn claim_where<O, T>(owner: &O, owned: &[Arc<T>], orphans: &[Arc<T>], fits: impl Fn(&T) -> bool) -> Claim
where
    O: Resource<DynamicType = ()>,
    T: Resource<DynamicType = ()>,
{
    if owner.meta().deletion_timestamp.is_some() {
        return Claim::default();
    }
    let alive = |o: &&Arc<T>| o.meta().deletion_timestamp.is_none();
    let release = owned.iter().filter(|o| !fits(o)).map(|o| release_patch(&**o, owner.meta())).collect();
    let wanted = orphans.iter().filter(|o| fits(o)).filter(alive);
    Claim { adopt: wanted.map(|o| adopt_patch(&**o, owner)).collect(), release }
}

fn adopt_patch<O, T>(object: &T, owner: &O) -> Write
where
    O: Resource<DynamicType = ()>,
    T: Resource<DynamicType = ()>,
{
    let body = json!({"metadata": {"ownerReferences": [controller_ref(owner)], "uid": uid(object.meta())}});
    Write::patch(object, Format::Strategic, body).note("adopt")
}

fn release_patch<T: Resource<DynamicType = ()>>(object: &T, owner: &ObjectMeta) -> Write {
    let remove = json!([{"$patch": "delete", "uid": uid(owner)}]);
    let body = json!({"metadata": {"uid": uid(object.meta()), "ownerReferences": remove}});
    Write::patch(object, Format::Strategic, body).note("release")
}

impl Claim {
    /// Nothing to change.
    pub fn is_empty(&self) -> bool {
        self.adopt.is_empty() && self.release.is_empty()
    }

    /// Sends the patches. Before the first adoption the owner is read live: a cache may not know yet that it went.
    pub async fn apply<O: Namespaced>(&self, context: &Context, owner: &O) -> anyhow::Result<()> {
        for write in &self.release {
            match context.writer.send(write).await {
                Err(failure) if failure.not_found() || failure.invalid() => {}
                other => drop(other?),
            }
        }
        if self.adopt.is_empty() {
            return Ok(());
        }
        confirm(context, owner).await?;
        for write in &self.adopt {
            match context.writer.send(write).await {
                Err(failure) if failure.not_found() => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}

async fn confirm<O: Namespaced>(context: &Context, owner: &O) -> anyhow::Result<()> {
    let meta = owner.meta();
    let api: Api<O> = Api::namespaced(context.writer.client(), namespace(meta));
    let live = api.get(name(meta)).await?;
    let same = live.meta().uid == meta.uid && live.meta().deletion_timestamp.is_none();
    anyhow::ensure!(same, "{} is gone or going, it adopts nothing", name(meta));
    Ok(())
}
