//! Watches and writes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use control::cache::Options as Watch;
use control::events::reference;
use control::runner::{self, Options, Outcome};
use control::{Cache, Key, Queue, Recorder};
use daemon::tasks::Tasks;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use crate::config::Flags;
use crate::disk;
use crate::plan::{self, ForClaim, ForVolume, Here, NODE_LABEL, SELECTED_NODE, node_label};

const CALL: Duration = Duration::from_secs(15);
/// After a node was found too full, so long until a claim that stays is looked at again.
const FULL: Duration = Duration::from_secs(30);

struct Room {
    here: Here,
    client: kube::Client,
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
    recorder: Recorder,
}

/// What is looked at: a claim, or a volume (without a namespace).
type Item = Key;

/// Starts watching; the work goes on in `tasks`.
///
/// # Errors
/// The node is not known, or the directory can't be made.
pub async fn start(flags: Flags, client: kube::Client, tasks: &Tasks) -> Result<()> {
    disk::prepare(&flags.root).with_context(|| format!("{}", flags.root.display()))?;
    let here = Here {
        hostname: hostname(&client, &flags.node_name).await?,
        provisioner: flags.provisioner_name,
        node: flags.node_name,
        root: flags.root,
    };
    let mine = Watch::default().labels(format!("{NODE_LABEL}={}", node_label(&here.node)));
    let keep = here.clone();
    let room = Arc::new(Room {
        claims: Cache::start(Api::all(client.clone()), claims_of(keep), tasks),
        volumes: Cache::start(Api::all(client.clone()), mine, tasks),
        classes: Cache::start(Api::all(client.clone()), Watch::default(), tasks),
        recorder: Recorder::start(client.clone(), &here.provisioner, Some(&here.node), tasks),
        client,
        here,
    });
    let queue: Queue<Item> = Queue::new();
    wake(&room, &queue);
    tracing::info!(node = room.here.node, root = %room.here.root.display(), "started");
    let filled = (room.claims.synced(), room.volumes.synced(), room.classes.synced());
    let (token, inner) = (tasks.token().clone(), tasks.clone());
    tasks.spawn_result("waiting for caches", async move {
        let all = async { tokio::join!(filled.0, filled.1, filled.2) };
        if token.run_until_cancelled(all).await.is_some() {
            room.sweep().await;
            let work = move |key: Item| {
                let room = room.clone();
                async move { room.sync(key).await }
            };
            runner::start(Options::new("local-path", 2), queue, &inner, work);
        }
        Ok(())
    });
    Ok(())
}

/// All claims are seen, as there is no way to ask for those of a node; of others' next to nothing is kept.
fn claims_of(here: Here) -> Watch<PersistentVolumeClaim> {
    Watch::default().trim(move |claim: &mut PersistentVolumeClaim| {
        if !plan::is_ours(claim, &here) {
            (claim.spec, claim.status) = (None, None);
            claim.metadata.annotations = None;
            claim.metadata.labels = None;
        }
    })
}

async fn hostname(client: &kube::Client, node: &str) -> Result<String> {
    let api: Api<Node> = Api::all(client.clone());
    let node = within(api.get(node)).await.context("reading this node")?;
    let label = node.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/hostname"));
    label.cloned().context("this node has no label kubernetes.io/hostname")
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T> {
    Ok(tokio::time::timeout(CALL, call).await.context("the API server does not answer")??)
}

fn wake(room: &Arc<Room>, queue: &Queue<Item>) {
    let (q, here) = (queue.clone(), room.here.clone());
    room.claims.handle(move |event| {
        if event.new.as_ref().is_some_and(|c| plan::is_ours(c, &here)) {
            q.add(event.key.clone());
        }
    });
    let q = queue.clone();
    room.volumes.handle(move |event| {
        if event.new.is_some() {
            q.add(event.key.clone());
        }
    });
    let (q, claims, here) = (queue.clone(), room.claims.clone(), room.here.clone());
    room.classes.handle(move |_| {
        let ours = claims.list().into_iter().filter(|c| plan::is_ours(c, &here));
        ours.for_each(|c| q.add(Key::of(&*c)));
    });
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work).await.context("the disk's thread")??)
}

fn is_code(error: &anyhow::Error, code: u16) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.code == code)
}

impl Room {
    async fn sync(&self, key: Item) -> Outcome {
        if key.namespace.is_empty() {
            return self.volume(&key).await;
        }
        let Some(claim) = self.claims.get_key(&key) else { return Ok(None) };
        let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
        let class = self.classes.get("", class);
        match plan::claim(&claim, class.as_deref(), &self.here) {
            ForClaim::Nothing(why) => {
                tracing::debug!(claim = %key, why, "nothing to do");
                Ok(None)
            }
            ForClaim::Refuse(why) => {
                self.recorder.warning(&reference(&*claim), "ProvisioningFailed", failed(&claim, &why));
                Ok(None)
            }
            ForClaim::Make { directory, volume } => self.make(&claim, directory, *volume).await,
        }
    }

    async fn make(
        &self,
        claim: &PersistentVolumeClaim,
        directory: String,
        volume: PersistentVolume,
    ) -> Outcome {
        let about = reference(claim);
        if let Some(why) = self.too_full(claim).await? {
            self.recorder.warning(&about, "ProvisioningFailed", failed(claim, &why));
            self.send_elsewhere(claim).await?;
            return Ok(Some(FULL));
        }
        let words = format!("External provisioner is provisioning volume for claim {:?}", path(claim));
        self.recorder.normal(&about, "Provisioning", words);
        let made = self.write(directory, &volume).await;
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        match &made {
            Ok(()) => {
                let words = format!("Successfully provisioned volume {name}");
                self.recorder.normal(&about, "ProvisioningSucceeded", words);
                tracing::info!(volume = name, claim = path(claim), "made");
            }
            Err(error) => {
                self.recorder.warning(&about, "ProvisioningFailed", failed(claim, &format!("{error:#}")));
            }
        }
        made.map(|()| None)
    }

    /// First the directory, then the volume: a volume without a directory would be of no use, a directory without a
    /// volume is found by the next look, or swept.
    async fn write(&self, directory: String, volume: &PersistentVolume) -> Result<()> {
        let root = self.here.root.clone();
        on_disk(move || disk::make(&root, &directory)).await.context("making its directory")?;
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let params = PostParams::default();
        let Err(error) = within(api.create(&params, volume)).await else { return Ok(()) };
        if !is_code(&error, 409) {
            return Err(error.context("making its volume"));
        }
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let there = within(api.get(name)).await?;
        let uid = |v: &PersistentVolume| v.spec.as_ref().and_then(|s| s.claim_ref.as_ref()?.uid.clone());
        if uid(&there) != uid(volume) {
            bail!("there is another volume {name}");
        }
        Ok(())
    }

    /// Whether the claim asks for more than the file system has left. Nothing holds a pod to its size afterwards.
    async fn too_full(&self, claim: &PersistentVolumeClaim) -> Result<Option<String>> {
        let root = self.here.root.clone();
        let free = on_disk(move || disk::free(&root)).await.context("asking for free space")?;
        let wanted = plan::requested(claim);
        let node = &self.here.node;
        Ok((wanted > free).then(|| format!("{wanted} bytes are requested, node {node:?} has {free} free")))
    }

    /// Gives the claim back to the scheduler, which may find another node.
    async fn send_elsewhere(&self, claim: &PersistentVolumeClaim) -> Result<()> {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let version = claim.metadata.resource_version.as_deref();
        let patch = json!({"metadata": {"resourceVersion": version, "annotations": {SELECTED_NODE: null}}});
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let params = PatchParams::default();
        match within(api.patch(name, &params, &Patch::Merge(patch))).await {
            Err(error) if is_code(&error, 404) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn volume(&self, key: &Item) -> Outcome {
        let Some(known) = self.volumes.get_key(key) else { return Ok(None) };
        if matches!(plan::volume(&known, &self.here), ForVolume::Nothing(_)) {
            return Ok(None);
        }
        // Data depend on it: what is to be deleted is looked at once more, live.
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let Some(volume) = within(api.get_opt(&key.name)).await? else { return Ok(None) };
        match plan::volume(&volume, &self.here) {
            ForVolume::Nothing(_) => Ok(None),
            ForVolume::LetGo => self.let_go(&volume).await.map(|()| None),
            ForVolume::Refuse(why) => {
                tracing::warn!(volume = %key, why, "not deleted");
                self.recorder.warning(&reference(&volume), "VolumeFailedDelete", why);
                Ok(None)
            }
            ForVolume::Delete { directory } => {
                let deleted = self.delete(&volume, directory).await;
                if let Err(error) = &deleted {
                    let words = format!("{error:#}");
                    self.recorder.warning(&reference(&volume), "VolumeFailedDelete", words);
                }
                deleted.map(|()| None)
            }
        }
    }

    async fn delete(&self, volume: &PersistentVolume, directory: String) -> Result<()> {
        let root = self.here.root.clone();
        on_disk(move || disk::remove(&root, &directory)).await.context("deleting its directory")?;
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let same = Preconditions { uid: volume.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..Default::default() };
        match within(api.delete(name, &params)).await {
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => return Ok(()),
            other => drop(other?),
        }
        tracing::info!(volume = name, "deleted");
        self.let_go(volume).await
    }

    /// Takes our finalizer off, and only ours.
    async fn let_go(&self, volume: &PersistentVolume) -> Result<()> {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let uid = volume.metadata.uid.as_deref();
        // By the strategic patch a finalizer is named, not counted: others may come and go meanwhile.
        let patch =
            json!({"metadata": {"uid": uid, "$deleteFromPrimitiveList/finalizers": [plan::FINALIZER]}});
        match within(api.patch(name, &PatchParams::default(), &Patch::Strategic(patch))).await {
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes empty directories whose claim and volume are gone.
    async fn sweep(&self) {
        let claims = self.claims.list().into_iter().filter_map(|c| c.metadata.uid.clone());
        let volumes = self.volumes.list();
        let volumes = volumes.iter().filter_map(|v| v.metadata.name.as_deref()?.strip_prefix("pvc-"));
        let known: std::collections::HashSet<String> = claims.chain(volumes.map(str::to_owned)).collect();
        let root = self.here.root.clone();
        match on_disk(move || disk::sweep(&root, |uid| known.contains(uid))).await {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => tracing::info!(?gone, "removed empty directories of claims that are gone"),
            Err(error) => tracing::warn!("looking for leftovers: {error:#}"),
        }
    }
}

fn path(claim: &PersistentVolumeClaim) -> String {
    let part = |p: &Option<String>| p.clone().unwrap_or_default();
    format!("{}/{}", part(&claim.metadata.namespace), part(&claim.metadata.name))
}

fn failed(claim: &PersistentVolumeClaim, why: &str) -> String {
    let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
    format!("failed to provision volume with StorageClass {class:?}: {why}")
}
