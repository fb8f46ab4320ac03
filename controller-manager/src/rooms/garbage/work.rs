//! Looks at objects one by one and deletes, strips or frees them.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, anyhow};
use control::runner::Outcome;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::Api;
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::graph::{Look, Node, Place, Uid};
use super::monitors::Shared;
use super::{FOREGROUND, ORPHAN};
use crate::kit::discovery::Resource;
use crate::kit::meta::{has_finalizer, name, namespace, uid};
use crate::kit::write::{Format, Verb};
use crate::kit::{Context, Write};

/// Owners known to be absent, so that a thousand dependents cost one look.
const ABSENT_LIMIT: usize = 500;
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Worker {
    context: Context,
    shared: Shared,
    absent: Mutex<HashSet<(String, String, String, String, String)>>,
}

/// The owners of an object by what became of them.
#[derive(Default)]
struct Owners {
    solid: Vec<OwnerReference>,
    dangling: Vec<OwnerReference>,
    waiting: Vec<OwnerReference>,
}

impl Worker {
    pub fn new(context: Context, shared: Shared) -> Self {
        Self { context, shared, absent: Mutex::default() }
    }

    /// One look at one object.
    pub async fn look(&self, look: Look) -> Outcome {
        match look {
            Look::Delete(uid) => self.consider(&uid).await?,
            Look::Orphan(uid) => self.orphan(&uid).await?,
        }
        Ok(None)
    }

    fn node(&self, uid: &str) -> Option<Node> {
        self.shared.graph.lock().get(uid).cloned()
    }

    fn resource(&self, api_version: &str, kind: &str) -> Result<Resource> {
        let kinds = self.shared.kinds.read();
        let exact = kinds.get(&(api_version.to_string(), kind.to_string())).cloned();
        // A reference may name a version that is served, but not the one we prefer.
        let group = |v: &str| v.rsplit_once('/').map_or(String::new(), |(g, _)| g.to_string());
        let other = || {
            let same =
                |((v, k), _): &(&(String, String), &Resource)| k == kind && group(v) == group(api_version);
            kinds.iter().find(same).map(|(_, r)| r.clone())
        };
        exact.or_else(other).ok_or_else(|| {
            self.shared.rediscover.notify_one();
            anyhow!("no resource is known for {api_version} {kind}")
        })
    }

    /// The object's metadata as the API server has it now.
    async fn live(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Option<ObjectMeta>> {
        let kind = &resource.kind;
        let dynamic = kind.dynamic();
        let client = self.context.writer.client();
        let api: Api<DynamicObject> = match resource.namespaced {
            true => Api::namespaced_with(client, namespace, &dynamic),
            false => Api::all_with(client, &dynamic),
        };
        let found = tokio::time::timeout(DEADLINE, api.get_metadata_opt(name)).await??;
        Ok(found.map(|o| o.metadata))
    }

    async fn consider(&self, uid_: &Uid) -> Result<()> {
        let Some(node) = self.node(uid_) else { return Ok(()) };
        if node.deleting && !node.waiting {
            return Ok(());
        }
        let resource = self.resource(&node.place.api_version, &node.place.kind)?;
        if resource.namespaced && node.place.namespace.is_empty() {
            // A cluster-scoped object names a namespaced owner: nothing follows from that for itself, but others may
            // have named the owner as it should be.
            self.forget(uid_);
            return Ok(());
        }
        let live = self.live(&resource, &node.place.namespace, &node.place.name).await?;
        let Some(meta) = live.filter(|m| uid(m) == &**uid_) else {
            return self.vanished(uid_, &node);
        };
        if node.assumed {
            // It is there; its own watch will tell the rest.
            return Ok(());
        }
        if node.waiting {
            return self.foreground(uid_, &resource, &meta).await;
        }
        self.judge(&node, &resource, &meta).await
    }

    /// What was thought to be there is not: as good as a deletion seen.
    fn vanished(&self, uid: &Uid, node: &Node) -> Result<()> {
        let place = &node.place;
        self.remember_absent(&place.api_version, &place.kind, &place.namespace, &place.name, uid);
        self.forget(uid);
        Ok(())
    }

    /// Has all looked at that name an owner as theirs.
    fn forget(&self, owner: &Uid) {
        let looks = self.shared.graph.lock().remove(owner);
        looks.into_iter().for_each(|l| self.shared.queue.add(l));
    }

    fn remember_absent(&self, api_version: &str, kind: &str, namespace: &str, name: &str, uid: &str) {
        let mut absent = self.absent.lock();
        if absent.len() >= ABSENT_LIMIT {
            absent.clear();
        }
        absent.insert((api_version.into(), kind.into(), namespace.into(), name.into(), uid.into()));
    }

    async fn judge(&self, node: &Node, resource: &Resource, meta: &ObjectMeta) -> Result<()> {
        let references = meta.owner_references.clone().unwrap_or_default();
        if references.is_empty() {
            return Ok(());
        }
        let owners = self.classify(node, references, meta).await?;
        if !owners.solid.is_empty() {
            if owners.dangling.is_empty() && owners.waiting.is_empty() {
                return Ok(());
            }
            let body = json!({"metadata": {"ownerReferences": owners.solid, "resourceVersion": meta.resource_version}});
            return self.patch(resource, meta, body, "strip owners that are gone").await;
        }
        if !owners.waiting.is_empty() && !node.dependents.is_empty() {
            self.unblock_cycles(node, resource, meta).await?;
            return self.delete(resource, meta, "Foreground").await;
        }
        let policy = if has_finalizer(meta, ORPHAN) {
            "Orphan"
        } else if has_finalizer(meta, FOREGROUND) {
            "Foreground"
        } else {
            "Background"
        };
        self.delete(resource, meta, policy).await
    }

    /// If a dependent is itself in foreground deletion, a cycle could wait for itself: this one stops blocking.
    async fn unblock_cycles(&self, node: &Node, resource: &Resource, meta: &ObjectMeta) -> Result<()> {
        let waiting = node.dependents.iter().any(|d| self.node(d).is_some_and(|n| n.waiting));
        let references = meta.owner_references.clone().unwrap_or_default();
        if !waiting || references.iter().all(|r| r.block_owner_deletion != Some(true)) {
            return Ok(());
        }
        let freed: Vec<_> = references
            .into_iter()
            .map(|r| OwnerReference { block_owner_deletion: Some(false), ..r })
            .collect();
        let body = json!({"metadata": {"ownerReferences": freed, "resourceVersion": meta.resource_version}});
        self.patch(resource, meta, body, "stop blocking owners").await
    }

    async fn classify(
        &self,
        node: &Node,
        references: Vec<OwnerReference>,
        meta: &ObjectMeta,
    ) -> Result<Owners> {
        let mut owners = Owners::default();
        for reference in references {
            let live = self.owner(&node.place, &reference, meta).await?;
            match live {
                None => owners.dangling.push(reference),
                Some(owner) if owner.deletion_timestamp.is_some() && has_finalizer(&owner, FOREGROUND) => {
                    owners.waiting.push(reference);
                }
                Some(_) => owners.solid.push(reference),
            }
        }
        Ok(owners)
    }

    /// The owner a reference means, if it exists.
    async fn owner(
        &self,
        place: &Place,
        reference: &OwnerReference,
        meta: &ObjectMeta,
    ) -> Result<Option<ObjectMeta>> {
        let r = reference;
        let known = |ns: &str| {
            let key = (r.api_version.clone(), r.kind.clone(), ns.to_string(), r.name.clone(), r.uid.clone());
            self.absent.lock().contains(&key)
        };
        if known(&place.namespace) || known("") {
            return Ok(None);
        }
        let resource = self.resource(&r.api_version, &r.kind)?;
        if resource.namespaced && place.namespace.is_empty() {
            // Cannot be, and the object must not go for it.
            return Ok(Some(ObjectMeta::default()));
        }
        if let Some(owner) = self.node(&r.uid).filter(|n| !n.assumed)
            && resource.namespaced
            && owner.place.namespace != place.namespace
        {
            self.warn_namespace(place, reference, meta);
        }
        let ns = if resource.namespaced { place.namespace.to_string() } else { String::new() };
        let live = self.live(&resource, &ns, &r.name).await?;
        let found = live.filter(|m| uid(m) == r.uid);
        if found.is_none() {
            self.remember_absent(&r.api_version, &r.kind, &ns, &r.name, &r.uid);
        }
        Ok(found)
    }

    fn warn_namespace(&self, place: &Place, reference: &OwnerReference, meta: &ObjectMeta) {
        let object = ObjectReference {
            api_version: Some(place.api_version.to_string()),
            kind: Some(place.kind.to_string()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..Default::default()
        };
        let message = format!(
            "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
            reference.api_version,
            reference.kind,
            place.namespace,
            reference.name,
            reference.uid,
            place.namespace
        );
        self.context.recorder.warning(&object, "OwnerRefInvalidNamespace", message);
    }

    /// An owner in foreground deletion: its blocking dependents are looked at; when there is none it may go.
    async fn foreground(&self, uid: &Uid, resource: &Resource, meta: &ObjectMeta) -> Result<()> {
        let blocking = self.shared.graph.lock().blocking(uid);
        if blocking.is_empty() {
            return self.remove_finalizer(resource, meta, FOREGROUND).await;
        }
        for dependent in blocking {
            if !self.node(&dependent).is_some_and(|n| n.waiting) {
                self.shared.queue.add(Look::Delete(dependent));
            }
        }
        Ok(())
    }

    async fn orphan(&self, uid_: &Uid) -> Result<()> {
        let Some(node) = self.node(uid_).filter(|n| n.orphaning) else { return Ok(()) };
        for dependent in &node.dependents {
            if let Some(dependent_node) = self.node(dependent) {
                self.let_go(uid_, dependent, &dependent_node).await?;
            }
        }
        let resource = self.resource(&node.place.api_version, &node.place.kind)?;
        match self
            .live(&resource, &node.place.namespace, &node.place.name)
            .await?
            .filter(|m| uid(m) == &**uid_)
        {
            // Those that have been seen meanwhile are let go too.
            Some(_) if self.node(uid_).is_some_and(|n| !n.dependents.is_subset(&node.dependents)) => {
                self.shared.queue.add(Look::Orphan(uid_.clone()));
                Ok(())
            }
            Some(meta) => self.remove_finalizer(&resource, &meta, ORPHAN).await,
            None => Ok(()),
        }
    }

    /// Takes the reference to `owner` off a dependent.
    async fn let_go(&self, owner: &Uid, dependent: &Uid, node: &Node) -> Result<()> {
        let resource = self.resource(&node.place.api_version, &node.place.kind)?;
        let live = self.live(&resource, &node.place.namespace, &node.place.name).await?;
        let Some(meta) = live.filter(|m| uid(m) == &**dependent) else { return Ok(()) };
        let references = meta.owner_references.clone().unwrap_or_default();
        let kept: Vec<_> = references.iter().filter(|r| r.uid != **owner).cloned().collect();
        if kept.len() == references.len() {
            return Ok(());
        }
        let body = json!({"metadata": {"ownerReferences": kept, "resourceVersion": meta.resource_version}});
        self.patch(&resource, &meta, body, "orphan").await
    }

    async fn remove_finalizer(&self, resource: &Resource, meta: &ObjectMeta, finalizer: &str) -> Result<()> {
        let kept: Vec<&String> = meta.finalizers.iter().flatten().filter(|f| *f != finalizer).collect();
        if kept.len() == meta.finalizers.iter().flatten().count() {
            return Ok(());
        }
        let body = json!({"metadata": {"finalizers": kept, "resourceVersion": meta.resource_version}});
        self.patch(resource, meta, body, "remove finalizer").await
    }

    fn write(&self, verb: Verb, resource: &Resource, meta: &ObjectMeta, body: Value, note: &str) -> Write {
        Write {
            verb,
            kind: resource.kind.clone(),
            namespace: namespace(meta).into(),
            name: name(meta).into(),
            subresource: "",
            body,
            query: "",
            note: note.into(),
        }
    }

    async fn patch(&self, resource: &Resource, meta: &ObjectMeta, body: Value, note: &str) -> Result<()> {
        self.send(self.write(Verb::Patch(Format::Merge), resource, meta, body, note)).await
    }

    async fn delete(&self, resource: &Resource, meta: &ObjectMeta, policy: &str) -> Result<()> {
        let body = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy,
            "preconditions": {"uid": meta.uid, "resourceVersion": meta.resource_version},
        });
        self.send(self.write(Verb::Delete, resource, meta, body, policy)).await
    }

    async fn send(&self, write: Write) -> Result<()> {
        tracing::debug!(%write, namespace = write.namespace, "garbage collection");
        match self.context.writer.send_as::<Value>(&write).await {
            Err(failure) if failure.not_found() => Ok(()),
            Err(failure) => Err(failure.into()),
            Ok(_) => Ok(()),
        }
    }
}
