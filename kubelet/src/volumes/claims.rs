//! Volumes behind a PersistentVolumeClaim that are a path of this host: hostPath and local.

use super::mount::{self, Fault, Ready};
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, Node, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
    PersistentVolumeClaim, Pod, Volume,
};
use kube::Api;
use kube::runtime::wait::{Condition, await_condition};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::Duration;

const CALL: Duration = Duration::from_secs(10);
/// How long a claim may be half bound before that is worth an event.
const BINDING: Duration = Duration::from_secs(2);

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// the PersistentVolume's name
    pub volume: String,
    /// where it is
    pub ready: Ready,
    /// it can be given to the pod's group; what hostPath leads to may be anything of the host, and is left as it is
    pub owned: bool,
}

/// Name of the claim a volume stands for, and whether it is read-only. A generic ephemeral volume has a claim of its own.
pub fn claim(pod: &Pod, v: &Volume) -> Option<(String, bool)> {
    if let Some(c) = &v.persistent_volume_claim {
        return Some((c.claim_name.clone(), c.read_only == Some(true)));
    }
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    v.ephemeral.as_ref().map(|_| (format!("{pod_name}-{}", v.name), false))
}

/// The path on this host that is behind a claim of the pod.
pub async fn ready(
    client: &kube::Client,
    pod: &Pod,
    v: &Volume,
    name: &str,
    node: Option<&Node>,
) -> Result<Found, Fault> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let unprocessed = |why: String, claim: Option<String>| Fault {
        text: format!(
            "Unable to attach or mount volumes: unmounted volumes=[{0}], unattached volumes=[], failed to process volumes=[{0}]: error processing PVC {namespace}/{name}: {why}",
            v.name
        ),
        claim,
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let mut fetched = get(&claims, name).await;
    if fetched.as_ref().is_ok_and(half_bound) {
        let _ = tokio::time::timeout(BINDING, await_condition(claims.clone(), name, Bound)).await;
        fetched = get(&claims, name).await;
    }
    let claim = fetched.map_err(|e| {
        unprocessed(format!("failed to fetch PVC from API server: {e}"), Some(name.to_owned()))
    })?;
    if v.ephemeral.is_some() && !owned_by(&claim, pod) {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        let why =
            format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)");
        return Err(unprocessed(why, None));
    }
    let volume = bound(&claim).map_err(|e| unprocessed(e, Some(name.to_owned())))?;
    let volume = get(&Api::<PersistentVolume>::all(client.clone()), &volume)
        .await
        .map_err(|e| unprocessed(format!("failed to fetch PV {volume} from API server: {e}"), None))?;
    let uid = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()?.uid.clone());
    if uid != claim.metadata.uid {
        let pv = volume.metadata.name.as_deref().unwrap_or_default();
        let why = format!(
            "PV {pv} object is bound to a different PVC: expected {:?}, found {:?}",
            claim.metadata.uid.unwrap_or_default(),
            uid.unwrap_or_default()
        );
        return Err(unprocessed(why, None));
    }
    if let Some(why) = mode_objection(pod, &v.name, &volume) {
        return Err(unprocessed(why, None));
    }
    Ok(found(&volume, node)?)
}

fn owned_by(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    owners.any(|o| o.controller == Some(true) && Some(&o.uid) == pod.metadata.uid.as_ref())
}

async fn get<K>(api: &Api<K>, name: &str) -> Result<K, String>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let answer = tokio::time::timeout(CALL, api.get(name)).await;
    answer.map_err(|_| "context deadline exceeded".to_owned())?.map_err(|e| match e {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    })
}

struct Bound;

impl Condition<PersistentVolumeClaim> for Bound {
    fn matches_object(&self, claim: Option<&PersistentVolumeClaim>) -> bool {
        claim.is_some_and(|c| bound(c).is_ok())
    }
}

/// Watches a claim until it is bound; false if it can't be watched.
pub async fn bound_once(client: kube::Client, namespace: String, name: String) -> bool {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client, &namespace);
    await_condition(claims, &name, Bound).await.is_ok()
}

/// A claim whose volume is settled, which is when the scheduler places its pods, while its phase has not been written yet.
fn half_bound(claim: &PersistentVolumeClaim) -> bool {
    let settled = claim.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(BIND_COMPLETED));
    settled && bound(claim).is_err() && claim.metadata.deletion_timestamp.is_none()
}

/// The volume a claim is bound to.
fn bound(claim: &PersistentVolumeClaim) -> Result<String, String> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".into());
    }
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    let volume = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|v| !v.is_empty());
    volume.filter(|_| phase == Some("Bound")).ok_or_else(|| "PVC is not bound".into())
}

fn is_block(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().and_then(|s| s.volume_mode.as_deref()) == Some("Block")
}

/// A block device is no file system, and the other way round.
fn mode_objection(pod: &Pod, name: &str, volume: &PersistentVolume) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let all = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mounted = all().any(|c| c.volume_mounts.iter().flatten().any(|m| m.name == name));
    let device = all().any(|c| c.volume_devices.iter().flatten().any(|d| d.name == name));
    match is_block(volume) {
        true if mounted => {
            Some(format!("volume {name} has volumeMode Block, but is specified in volumeMounts"))
        }
        false if device => {
            Some(format!("volume {name} has volumeMode Filesystem, but is specified in volumeDevices"))
        }
        _ => None,
    }
}

fn found(volume: &PersistentVolume, node: Option<&Node>) -> Result<Found, String> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    if !reaches(volume, node) {
        return Err(format!(
            "MountVolume.NodeAffinity check failed for volume \"{name}\" : no matching NodeSelectorTerms"
        ));
    }
    let spec = volume.spec.clone().unwrap_or_default();
    if let Some(h) = &spec.host_path {
        let failed = |e| format!("MountVolume.SetUp failed for volume \"{name}\" : {e}");
        let ready = if is_block(volume) { device(&h.path) } else { mount::host_path(h) };
        return Ok(Found { ready: ready.map_err(failed)?, volume: name, owned: false });
    }
    let Some(local) = &spec.local else {
        return Err(format!(
            "MountVolume.SetUp failed for volume \"{name}\" : no volume plugin matched: this kubelet has no plugin for the volume's source"
        ));
    };
    let path = PathBuf::from(&local.path);
    let ready = match is_block(volume) {
        true => device(&local.path),
        false if path.is_dir() => mount::host_path(&HostPathVolumeSource {
            path: local.path.clone(),
            type_: Some("Directory".into()),
        }),
        false if path.exists() => {
            Err(format!("path {:?} is not a directory, and devices are not formatted here", local.path))
        }
        false => Err(format!("path {:?} does not exist", local.path)),
    };
    let failed = |e| format!("MountVolume.NewMounter initialization failed for volume \"{name}\" : {e}");
    Ok(Found { ready: ready.map_err(failed)?, owned: !is_block(volume), volume: name })
}

fn device(path: &str) -> Result<Ready, String> {
    let real = std::fs::canonicalize(path).map_err(|_| format!("path {path:?} does not exist"))?;
    let is_device = std::fs::metadata(&real).is_ok_and(|m| m.file_type().is_block_device());
    match is_device {
        true => Ok(Ready { path: real, read_only: false }),
        false => Err(format!("path {path:?} is not a block device")),
    }
}

/// Whether the volume is meant for this node; without knowledge of the node only what is meant for all is.
fn reaches(volume: &PersistentVolume, node: Option<&Node>) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()?.required.as_ref());
    affinity
        .is_none_or(|required| required.node_selector_terms.iter().any(|t| node.is_some_and(|n| term(t, n))))
}

fn term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = node.metadata.name.as_deref();
    expressions.iter().all(|e| holds(e, labels.get(&e.key).map(String::as_str)))
        && fields.iter().all(|e| e.key == "metadata.name" && holds(e, name))
}

fn holds(e: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = e.values.as_deref().unwrap_or_default();
    let listed = |v: &str| values.iter().any(|x| x == v);
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = values.first().and_then(|v| number(v));
    match e.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(bound).is_some_and(|(v, b)| v > b),
        "Lt" => value.and_then(number).zip(bound).is_some_and(|(v, b)| v < b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume_of(text: &str) -> PersistentVolume {
        serde_yaml::from_str(&format!("{{metadata: {{name: pv}}, spec: {text}}}")).unwrap()
    }

    #[test]
    fn claims_must_be_bound() {
        let claim = |text: &str| serde_yaml::from_str::<PersistentVolumeClaim>(text).unwrap();
        assert_eq!(bound(&claim("{spec: {volumeName: v}, status: {phase: Bound}}")), Ok("v".into()));
        assert!(bound(&claim("{spec: {volumeName: v}, status: {phase: Pending}}")).is_err());
        assert!(bound(&claim("{spec: {}, status: {phase: Bound}}")).is_err());
        let settled =
            "metadata: {annotations: {pv.kubernetes.io/bind-completed: 'yes'}}, spec: {volumeName: v}";
        let half = |phase: &str| half_bound(&claim(&format!("{{{settled}, status: {{phase: {phase}}}}}")));
        assert_eq!([half("Pending"), half("Bound")], [true, false]);
        assert!(!half_bound(&claim("{spec: {volumeName: v}, status: {phase: Pending}}")));
    }

    #[test]
    fn ephemeral_volumes_have_claims_of_their_own() {
        let pod: Pod = serde_yaml::from_str("{metadata: {name: p, uid: u}}").unwrap();
        let volume = |text: &str| serde_yaml::from_str::<Volume>(text).unwrap();
        let named = volume("{name: v, persistentVolumeClaim: {claimName: c, readOnly: true}}");
        assert_eq!(claim(&pod, &named), Some(("c".into(), true)));
        assert_eq!(claim(&pod, &volume("{name: v, ephemeral: {}}")), Some(("p-v".into(), false)));
        assert_eq!(claim(&pod, &volume("{name: v, emptyDir: {}}")), None);
        let made = |uid: &str| {
            serde_yaml::from_str::<PersistentVolumeClaim>(&format!(
                "{{metadata: {{ownerReferences: [{{apiVersion: v1, kind: Pod, name: p, uid: {uid}, controller: true}}]}}}}"
            ))
            .unwrap()
        };
        assert!(owned_by(&made("u"), &pod) && !owned_by(&made("w"), &pod));
    }

    #[test]
    fn paths_of_this_host() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().display();
        let local = found(&volume_of(&format!("{{local: {{path: {here}}}}}")), None).unwrap();
        assert_eq!((local.ready.path.as_path(), local.owned), (dir.path(), true));
        let host =
            found(&volume_of(&format!("{{hostPath: {{path: {here}, type: Directory}}}}")), None).unwrap();
        assert!(!host.owned);
        let error = |text: &str| found(&volume_of(text), None).unwrap_err();
        assert_eq!(
            error("{local: {path: /no/such}}"),
            "MountVolume.NewMounter initialization failed for volume \"pv\" : path \"/no/such\" does not exist"
        );
        assert!(error("{nfs: {server: s, path: /}}").contains("no volume plugin matched"));
        assert!(
            error(&format!("{{volumeMode: Block, local: {{path: {here}}}}}"))
                .contains("is not a block device")
        );
    }

    #[test]
    fn volumes_of_other_nodes() {
        let only = |terms: &str| {
            volume_of(&format!(
                "{{local: {{path: /}}, nodeAffinity: {{required: {{nodeSelectorTerms: [{terms}]}}}}}}"
            ))
        };
        let node: Node =
            serde_yaml::from_str("{metadata: {name: n, labels: {kubernetes.io/hostname: n}}}").unwrap();
        let host = |value: &str| {
            format!(
                "{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{value}]}}]}}"
            )
        };
        assert!(reaches(&only(&host("n")), Some(&node)));
        assert!(reaches(&only(&format!("{}, {}", host("m"), host("n"))), Some(&node)));
        assert!(reaches(
            &only("{matchFields: [{key: metadata.name, operator: In, values: [n]}]}"),
            Some(&node)
        ));
        assert!(!reaches(&only("{}"), Some(&node)));
        let error = found(&only(&host("m")), Some(&node)).unwrap_err();
        assert_eq!(
            error,
            "MountVolume.NodeAffinity check failed for volume \"pv\" : no matching NodeSelectorTerms"
        );
        assert!(found(&only(&host("n")), None).is_err());
    }

    #[test]
    fn devices_are_not_mounted() {
        let pod = |text: &str| {
            serde_yaml::from_str::<Pod>(&format!("{{spec: {{containers: [{{name: c, {text}}}]}}}}")).unwrap()
        };
        let mounts = pod("volumeMounts: [{name: v, mountPath: /v}]");
        let devices = pod("volumeDevices: [{name: v, devicePath: /dev/v}]");
        let (block, files) = (volume_of("{volumeMode: Block}"), volume_of("{}"));
        assert!(mode_objection(&mounts, "v", &block).is_some_and(|w| w.ends_with("in volumeMounts")));
        assert!(mode_objection(&devices, "v", &files).is_some_and(|w| w.ends_with("in volumeDevices")));
        assert!(
            mode_objection(&mounts, "v", &files).is_none() && mode_objection(&devices, "v", &block).is_none()
        );
    }
}
