//! Volumes behind a PersistentVolumeClaim that are a path of this host: hostPath and local.

use super::mount::{self, Ready};
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume,
};
use kube::Api;
use std::path::PathBuf;
use std::time::Duration;

const CALL: Duration = Duration::from_secs(10);

/// Name of the claim a volume stands for, and whether it is read-only. A generic ephemeral volume has a claim of its own.
pub fn claim(pod: &Pod, v: &Volume) -> Option<(String, bool)> {
    if let Some(c) = &v.persistent_volume_claim {
        return Some((c.claim_name.clone(), c.read_only == Some(true)));
    }
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    v.ephemeral.as_ref().map(|_| (format!("{pod_name}-{}", v.name), false))
}

/// The path on this host that is behind a claim.
pub async fn ready(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    read_only: bool,
) -> Result<Ready, String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let what = format!("error processing PVC {namespace}/{name}");
    let claim =
        get(&claims, name).await.map_err(|e| format!("{what}: failed to fetch PVC from API server: {e}"))?;
    let volume = bound(&claim).map_err(|e| format!("{what}: {e}"))?;
    let volume = get(&Api::<PersistentVolume>::all(client.clone()), &volume)
        .await
        .map_err(|e| format!("{what}: failed to fetch PV {volume} from API server: {e}"))?;
    let ready = path(&volume)?;
    Ok(Ready { read_only: read_only || ready.read_only, ..ready })
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

/// The volume a claim is bound to.
fn bound(claim: &PersistentVolumeClaim) -> Result<String, String> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".into());
    }
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    let volume = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|v| !v.is_empty());
    volume.filter(|_| phase == Some("Bound")).ok_or_else(|| "PVC is not bound".into())
}

fn path(volume: &PersistentVolume) -> Result<Ready, String> {
    let spec = volume.spec.clone().unwrap_or_default();
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err("block volumes are not supported by this kubelet".into());
    }
    if let Some(h) = &spec.host_path {
        return mount::host_path(h);
    }
    if let Some(local) = &spec.local {
        let kind = if PathBuf::from(&local.path).is_dir() { "Directory" } else { "File" };
        return mount::host_path(&HostPathVolumeSource {
            path: local.path.clone(),
            type_: Some(kind.into()),
        })
        .map_err(|_| format!("path {:?} does not exist", local.path));
    }
    Err("no volume plugin matched: this kubelet has no plugin for the volume's source".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_must_be_bound() {
        let claim = |text: &str| serde_yaml::from_str::<PersistentVolumeClaim>(text).unwrap();
        assert_eq!(bound(&claim("{spec: {volumeName: v}, status: {phase: Bound}}")), Ok("v".into()));
        assert!(bound(&claim("{spec: {volumeName: v}, status: {phase: Pending}}")).is_err());
        assert!(bound(&claim("{spec: {}, status: {phase: Bound}}")).is_err());
    }

    #[test]
    fn ephemeral_volumes_have_claims_of_their_own() {
        let pod: Pod = serde_yaml::from_str("{metadata: {name: p}}").unwrap();
        let volume = |text: &str| serde_yaml::from_str::<Volume>(text).unwrap();
        let named = volume("{name: v, persistentVolumeClaim: {claimName: c, readOnly: true}}");
        assert_eq!(claim(&pod, &named), Some(("c".into(), true)));
        assert_eq!(claim(&pod, &volume("{name: v, ephemeral: {}}")), Some(("p-v".into(), false)));
        assert_eq!(claim(&pod, &volume("{name: v, emptyDir: {}}")), None);
    }

    #[test]
    fn paths_of_this_host() {
        let volume = |text: &str| serde_yaml::from_str::<PersistentVolume>(text).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().display();
        assert_eq!(
            path(&volume(&format!("{{spec: {{local: {{path: {here}}}}}}}"))).unwrap().path,
            dir.path()
        );
        let gone = volume("{spec: {local: {path: /no/such}}}");
        assert_eq!(path(&gone).unwrap_err(), "path \"/no/such\" does not exist");
        assert!(path(&volume("{spec: {nfs: {server: s, path: /}}}")).is_err());
    }
}
