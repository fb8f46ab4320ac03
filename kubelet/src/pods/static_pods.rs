//! Static pods: manifests in a directory (or one file), and their mirror pods in the API.

use crate::context::Context;
use crate::pods::table::Source;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Annotation: where the pod came from.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// Annotation: when it was first seen.
pub const SEEN: &str = "kubernetes.io/config.seen";
/// Annotation: hash of the manifest.
pub const HASH: &str = "kubernetes.io/config.hash";
/// Annotation of mirror pods: hash of the static pod they show.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// FNV-1a with 128 bits, hex: the UID of a static pod.
fn fnv128(parts: &[&str]) -> String {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in parts.iter().flat_map(|p| p.bytes()) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B);
    }
    format!("{hash:032x}")
}

/// A manifest as the pod it makes on this node.
pub fn from_manifest(text: &str, path: &Path, node: &str) -> Result<Pod, String> {
    // By way of JSON: decoding all of a pod's types from YAML directly would be a megabyte of code.
    let value: serde_json::Value = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
    let json = serde_json::to_vec(&value).map_err(|e| e.to_string())?;
    let mut pod: Pod = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
    let name = pod.metadata.name.clone().filter(|n| !n.is_empty()).ok_or("the pod has no name")?;
    let spec = pod.spec.as_mut().ok_or("the pod has no spec")?;
    if spec.containers.is_empty() {
        return Err("the pod has no containers".into());
    }
    refuse_references(spec)?;
    spec.node_name = Some(node.to_owned());
    let everything = Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Default::default()
    };
    spec.tolerations.get_or_insert_default().push(everything);
    defaults(spec);
    let uid = match pod.metadata.uid.clone().filter(|u| !u.is_empty()) {
        Some(own) => own,
        None => {
            let dump = serde_json::to_string(&pod).unwrap_or_default();
            fnv128(&[&dump, "host:", node, "file:", &path.display().to_string()])
        }
    };
    pod.metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    pod.metadata.uid = Some(uid.clone());
    let notes = pod.metadata.annotations.get_or_insert_default();
    notes.insert(SOURCE.into(), Source::File.as_str().into());
    notes.insert(HASH.into(), uid);
    notes.insert(SEEN.into(), jiff::Timestamp::now().to_string());
    pod.status = None;
    Ok(pod)
}

/// A static pod must run without the API server, so it may not refer to its objects.
fn refuse_references(spec: &k8s_openapi::api::core::v1::PodSpec) -> Result<(), String> {
    let probe = Pod { spec: Some(spec.clone()), ..Default::default() };
    let refs = crate::volumes::objects::references(&probe);
    let claims = spec.volumes.iter().flatten().any(|v| v.persistent_volume_claim.is_some());
    let account = spec.service_account_name.as_deref().is_some_and(|s| !s.is_empty());
    if claims || account || !refs.config_maps.is_empty() || !refs.secrets.is_empty() {
        return Err("static pods may not reference API objects".into());
    }
    Ok(())
}

/// The defaults the API server would have set and the kubelet relies on.
fn defaults(spec: &mut k8s_openapi::api::core::v1::PodSpec) {
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.enable_service_links.get_or_insert(true);
    for c in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let latest = c.image.as_deref().is_some_and(|i| {
            i.ends_with(":latest") || !i.rsplit('/').next().unwrap_or(i).contains([':', '@'])
        });
        let policy = if latest { "Always" } else { "IfNotPresent" };
        c.image_pull_policy.get_or_insert_with(|| policy.into());
        if let Some(r) = &mut c.resources {
            // requests default to limits
            if let Some(limits) = r.limits.clone() {
                let requests = r.requests.get_or_insert_default();
                for (k, v) in limits {
                    requests.entry(k).or_insert(v);
                }
            }
        }
    }
}

/// All manifests below `path` (a directory or a file); bad ones are logged and left out.
pub fn read_all(path: &Path, node: &str) -> Vec<Pod> {
    let mut files: Vec<PathBuf> = match path.is_dir() {
        true => std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).collect(),
        false => vec![path.to_owned()],
    };
    files.sort();
    let hidden = |p: &PathBuf| p.file_name().is_none_or(|n| n.to_string_lossy().starts_with('.'));
    let mut out = Vec::new();
    for file in files.into_iter().filter(|p| p.is_file() && !hidden(p)) {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match from_manifest(&text, &file, node) {
            Ok(pod) => out.push(pod),
            Err(e) => tracing::error!(file = %file.display(), error = %e, "static pod manifest not usable"),
        }
    }
    out
}

/// Reads the manifests whenever the directory changes (and now and then, for file systems that do not tell).
pub async fn watch(ctx: Arc<Context>, tx: mpsc::Sender<Vec<Pod>>) {
    let path = PathBuf::from(&ctx.config.file.static_pod_path);
    let changed = Arc::new(Notify::new());
    let watching = Arc::new(AtomicBool::new(false));
    let period = ctx.config.file.file_check_frequency.0.max(Duration::from_secs(1));
    let mut last: Option<Vec<Pod>> = None;
    loop {
        // before reading, so that nothing is missed; the directory may come (back) later
        if !watching.load(Ordering::Relaxed) {
            notify_changes(&path, changed.clone(), watching.clone());
        }
        let wait = if watching.load(Ordering::Relaxed) { period } else { period.min(ABSENT) };
        let mut pods = read_all(&path, &ctx.config.node_name);
        keep_seen(&mut pods, last.as_deref().unwrap_or_default());
        if last.as_ref() != Some(&pods) {
            last = Some(pods.clone());
            if tx.send(pods).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = changed.notified() => {
                // writers may still be at it
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How often a directory that is not there is looked for.
const ABSENT: Duration = Duration::from_secs(1);

/// `config.seen` is of the first reading.
fn keep_seen(pods: &mut [Pod], old: &[Pod]) {
    for pod in pods {
        let known = old.iter().find(|o| o.metadata.uid == pod.metadata.uid);
        let seen = known.and_then(|o| o.metadata.annotations.as_ref()?.get(SEEN).cloned());
        if let (Some(seen), Some(notes)) = (seen, pod.metadata.annotations.as_mut()) {
            notes.insert(SEEN.into(), seen);
        }
    }
}

fn notify_changes(path: &Path, changed: Arc<Notify>, watching: Arc<AtomicBool>) {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE;
    let Ok(inotify) = Inotify::init(InitFlags::IN_CLOEXEC) else { return };
    if inotify.add_watch(path, flags).is_err() {
        return;
    }
    watching.store(true, Ordering::Relaxed);
    // A plain thread: it blocks in read for the life of the directory.
    std::thread::spawn(move || {
        while let Ok(events) = inotify.read_events() {
            changed.notify_one();
            if events.iter().any(|e| e.mask.contains(AddWatchFlags::IN_IGNORED)) {
                break;
            }
        }
        watching.store(false, Ordering::Relaxed);
        changed.notify_one();
    });
}

/// What the mirror task works on, by `namespace/name`.
#[derive(Default)]
pub struct MirrorState {
    /// static pods that shall have a mirror
    pub wanted: HashMap<String, Arc<Pod>>,
    /// mirror pods in the API
    pub present: HashMap<String, Arc<Pod>>,
}

/// Keeps the mirror pods in the API in step with the static pods.
pub struct Mirrors {
    /// shared with the manager
    pub state: Mutex<MirrorState>,
    /// wakes the task
    pub wake: Notify,
}

impl Default for Mirrors {
    fn default() -> Self {
        Self { state: Mutex::default(), wake: Notify::new() }
    }
}

/// Is this mirror the one for that static pod?
pub fn mirrors(mirror: &Pod, of: &Pod) -> bool {
    let hash = |p: &Pod, key: &str| p.annotations().get(key).cloned();
    mirror.metadata.deletion_timestamp.is_none() && hash(mirror, MIRROR) == hash(of, HASH)
}

impl Mirrors {
    /// Runs until the end of the process.
    pub async fn run(self: Arc<Self>, ctx: Arc<Context>) {
        let Some(client) = ctx.client.clone() else { return };
        let mut node = ctx.node.subscribe();
        let mut delay = Duration::from_millis(500);
        loop {
            let settled = self.settle(&client, &ctx).await;
            delay =
                if settled { Duration::from_millis(500) } else { (delay * 2).min(Duration::from_secs(10)) };
            let retry = async {
                match settled {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(delay).await,
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                _ = node.changed(), if !settled => {}
                () = retry => {}
            }
        }
    }

    async fn settle(&self, client: &kube::Client, ctx: &Context) -> bool {
        let (wanted, present) = {
            let s = self.state.lock();
            (s.wanted.clone(), s.present.clone())
        };
        ctx.metrics.mirror_pods.set(i64::try_from(present.len()).unwrap_or(0));
        let mut settled = true;
        for (key, mirror) in &present {
            let fits = wanted.get(key).is_some_and(|w| mirrors(mirror, w));
            if !fits {
                settled &= delete(client, mirror).await;
            }
        }
        for (key, pod) in wanted.iter().filter(|(k, _)| !present.contains_key(*k)) {
            let outcome = create(client, ctx, pod).await;
            if let Err(e) = &outcome {
                tracing::debug!(pod = %key, error = %e, "mirror pod not made, will retry");
            }
            settled &= outcome.is_ok();
        }
        settled
    }
}

async fn delete(client: &kube::Client, mirror: &Pod) -> bool {
    let api: Api<Pod> = Api::namespaced(client.clone(), &mirror.namespace().unwrap_or_default());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: mirror.uid(), resource_version: None }),
        ..Default::default()
    };
    match tokio::time::timeout(Duration::from_secs(30), api.delete(&mirror.name_any(), &params)).await {
        Ok(Ok(_)) => true,
        Ok(Err(kube::Error::Api(s))) => s.code == 404 || s.code == 409,
        _ => false,
    }
}

async fn create(client: &kube::Client, ctx: &Context, pod: &Pod) -> Result<(), String> {
    let node = ctx.node.borrow().node.clone().ok_or("the node is not registered yet")?;
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let call = api
        .create(&PostParams::default(), &mirror_of(pod, &node.name_any(), &node.uid().unwrap_or_default()))
        .await;
    match call {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(s)) if s.code == 409 => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}

/// The mirror of a static pod.
pub fn mirror_of(pod: &Pod, node: &str, node_uid: &str) -> Pod {
    let mut out = pod.clone();
    let mut notes: BTreeMap<String, String> = out.metadata.annotations.take().unwrap_or_default();
    if let Some(hash) = notes.get(HASH).cloned() {
        notes.insert(MIRROR.into(), hash);
    }
    out.metadata.annotations = Some(notes);
    out.metadata.finalizers = None;
    out.metadata.uid = None;
    out.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.into(),
        uid: node_uid.into(),
        controller: Some(true),
        ..Default::default()
    }]);
    out.status = None;
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: 'a:1'}]}";

    #[test]
    fn a_manifest_becomes_a_pod() {
        let pod = from_manifest(TEXT, Path::new("/m/web.yaml"), "Node-1").unwrap();
        assert_eq!(pod.name_any(), "web-node-1");
        assert_eq!(pod.namespace().as_deref(), Some("default"));
        assert_eq!(pod.uid(), pod.annotations().get(HASH).cloned());
        let again = from_manifest(TEXT, Path::new("/m/web.yaml"), "Node-1").unwrap();
        assert_eq!(again.uid(), pod.uid());
        let changed = from_manifest(&TEXT.replace("a:1", "a:2"), Path::new("/m/web.yaml"), "Node-1").unwrap();
        assert_ne!(changed.uid(), pod.uid());
        let mirror = mirror_of(&pod, "Node-1", "nu");
        assert!(mirrors(&mirror, &pod) && !mirrors(&mirror, &changed));
        assert_eq!(mirror.owner_references()[0].uid, "nu");
    }

    #[test]
    fn references_and_nonsense_are_refused() {
        let with =
            |spec: &str| from_manifest(&format!("metadata: {{name: a}}\nspec: {spec}"), Path::new("x"), "n");
        assert!(with("{containers: []}").is_err());
        assert!(with("{containers: [{name: c}], volumes: [{name: v, configMap: {name: m}}]}").is_err());
        assert!(with("{containers: [{name: c}], serviceAccountName: s}").is_err());
        assert!(from_manifest("]", Path::new("x"), "n").is_err());
    }

    #[test]
    fn hidden_and_bad_files_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), TEXT).unwrap();
        std::fs::write(dir.path().join(".b.yaml"), TEXT).unwrap();
        std::fs::write(dir.path().join("c.yaml"), "{{{").unwrap();
        assert_eq!(read_all(dir.path(), "n").len(), 1);
    }
}
