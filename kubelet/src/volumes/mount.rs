//! Setting up a pod's volumes. Running it again changes only what changed; that is also how updates reach running pods.

use super::atomic::{self, Payload};
use super::objects::Objects;
use super::payload;
use super::tokens::Tokens;
use crate::context::NodeView;
use crate::pods::resources;
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, Pod, ProjectedVolumeSource, Volume,
    VolumeProjection,
};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const CONFIG_MAP: &str = "kubernetes.io~configmap";

/// A volume that is ready for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// directory or file on the host
    pub path: PathBuf,
    /// mounted read-only whatever the container says
    pub read_only: bool,
}

/// All volumes of a pod, and when (Unix seconds) they want to be looked at again.
#[derive(Clone, Debug, Default)]
pub struct Mounted {
    /// by volume name
    pub volumes: HashMap<String, Ready>,
    /// next token renewal
    pub again_at: Option<i64>,
}

/// Why a pod's volumes are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// what FailedMount says
    pub text: String,
    /// the claim that is not bound, if that is all
    pub claim: Option<String>,
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self { text, claim: None }
    }
}

/// What setting up needs.
pub struct Mounter<'a> {
    /// the pod's directory
    pub pod_dir: PathBuf,
    /// the pod
    pub pod: &'a Pod,
    /// what is mounted already
    pub before: &'a Mounted,
    /// ConfigMaps and Secrets
    pub objects: &'a Objects,
    /// tokens
    pub tokens: &'a Tokens,
    /// client for tokens
    pub client: Option<&'a kube::Client>,
    /// the node, for resource fields
    pub node: &'a NodeView,
    /// the pod's addresses
    pub pod_ips: &'a [String],
    /// the host's addresses
    pub host_ips: &'a [String],
}

impl Mounter<'_> {
    /// Sets up every volume the pod names.
    pub async fn mount_all(&self) -> Result<Mounted, Fault> {
        let mut out = Mounted::default();
        let spec = self.pod.spec.as_ref();
        for volume in spec.and_then(|s| s.volumes.as_ref()).into_iter().flatten() {
            let ready = match (super::claims::claim(self.pod, volume), self.client) {
                (Some((name, read_only)), Some(client)) => {
                    self.claimed(client, volume, &name, read_only).await?
                }
                _ => self
                    .mount(volume, &mut out.again_at)
                    .await
                    .map_err(|e| format!("MountVolume.SetUp failed for volume \"{}\" : {e}", volume.name))?,
            };
            out.volumes.insert(volume.name.clone(), ready);
        }
        Ok(out)
    }

    /// What is behind a claim. Once it is there it stays, whatever becomes of the claim: data may be on it.
    async fn claimed(
        &self,
        client: &kube::Client,
        volume: &Volume,
        name: &str,
        read_only: bool,
    ) -> Result<Ready, Fault> {
        if let Some(ready) = self.before.volumes.get(&volume.name) {
            return Ok(ready.clone());
        }
        let node = self.node.node.as_deref();
        let found = super::claims::ready(client, self.pod, volume, name, node).await?;
        if let (Some(gid), true, false) = (self.fs_group(), found.owned, read_only) {
            let context = self.pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
            let policy = context.and_then(|c| c.fs_group_change_policy.as_deref());
            give(&found.ready.path, gid, policy).map_err(|e| {
                format!(
                    "MountVolume.SetUp failed for volume \"{}\" : applyFSGroup failed for vol {0}: {e}",
                    found.volume
                )
            })?;
        }
        Ok(Ready { read_only: read_only || found.ready.read_only, ..found.ready })
    }

    async fn mount(&self, v: &Volume, again: &mut Option<i64>) -> Result<Ready, String> {
        if let Some(e) = &v.empty_dir {
            return self.empty_dir(&v.name, e);
        }
        if let Some(h) = &v.host_path {
            return host_path(h);
        }
        if let Some(c) = &v.config_map {
            let files = self.config_map(&c.name, c.items.as_ref(), c.default_mode, c.optional).await?;
            return self.project(CONFIG_MAP, &v.name, &files);
        }
        if let Some(s) = &v.secret {
            let name = s.secret_name.as_deref().unwrap_or_default();
            let files = self.secret(name, s.items.as_ref(), s.default_mode, s.optional).await?;
            return self.project("kubernetes.io~secret", &v.name, &files);
        }
        if let Some(d) = &v.downward_api {
            let items = d.items.as_deref().unwrap_or_default();
            let files = self.downward(items, d.default_mode)?;
            return self.project("kubernetes.io~downward-api", &v.name, &files);
        }
        if let Some(p) = &v.projected {
            let files = self.projected(p, again).await?;
            return self.project("kubernetes.io~projected", &v.name, &files);
        }
        if v.image.is_some() {
            // mounted by the runtime itself, from the image
            return Ok(Ready { path: PathBuf::new(), read_only: true });
        }
        Err("no volume plugin matched: this kubelet has no plugin for the volume's source".into())
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    async fn config_map(
        &self,
        name: &str,
        items: Option<&Vec<KeyToPath>>,
        mode: Option<i32>,
        optional: Option<bool>,
    ) -> Result<Payload, String> {
        let object = self.objects.config_map(self.namespace(), name).await?;
        payload::config_map(object.as_deref(), self.namespace(), name, items, mode, optional == Some(true))
    }

    async fn secret(
        &self,
        name: &str,
        items: Option<&Vec<KeyToPath>>,
        mode: Option<i32>,
        optional: Option<bool>,
    ) -> Result<Payload, String> {
        let object = self.objects.secret(self.namespace(), name).await?;
        payload::secret(object.as_deref(), self.namespace(), name, items, mode, optional == Some(true))
    }

    fn dir(&self, plugin: &str, name: &str) -> PathBuf {
        self.pod_dir.join("volumes").join(plugin).join(name)
    }

    fn fs_group(&self) -> Option<u32> {
        let context = self.pod.spec.as_ref()?.security_context.as_ref()?;
        context.fs_group.and_then(|g| u32::try_from(g).ok())
    }

    fn downward(
        &self,
        items: &[k8s_openapi::api::core::v1::DownwardAPIVolumeFile],
        mode: Option<i32>,
    ) -> Result<Payload, String> {
        let mut files =
            payload::downward(self.pod, items, mode, self.pod_ips, self.host_ips, &self.node.allocatable)?;
        // a resource is asked of the container the item names
        for item in items {
            let Some(r) = &item.resource_field_ref else { continue };
            let Some(file) = files.get_mut(&item.path) else { continue };
            let none = Default::default();
            file.data =
                crate::pods::env::resource_field(self.pod, &none, r, &self.node.allocatable)?.into_bytes();
        }
        Ok(files)
    }

    async fn projected(&self, p: &ProjectedVolumeSource, again: &mut Option<i64>) -> Result<Payload, String> {
        let mut out = Payload::new();
        for source in p.sources.iter().flatten() {
            out.extend(self.projection(source, p.default_mode, again).await?);
        }
        Ok(out)
    }

    async fn projection(
        &self,
        s: &VolumeProjection,
        mode: Option<i32>,
        again: &mut Option<i64>,
    ) -> Result<Payload, String> {
        if let Some(c) = &s.config_map {
            return self.config_map(&c.name, c.items.as_ref(), mode, c.optional).await;
        }
        if let Some(c) = &s.secret {
            return self.secret(&c.name, c.items.as_ref(), mode, c.optional).await;
        }
        if let Some(d) = &s.downward_api {
            return self.downward(d.items.as_deref().unwrap_or_default(), mode);
        }
        if let Some(t) = &s.service_account_token {
            let audience = t.audience.as_deref().unwrap_or_default();
            let seconds = t.expiration_seconds.unwrap_or(3600);
            let (token, refresh) = self.tokens.get(self.client, self.pod, audience, seconds).await?;
            *again = Some(again.map_or(refresh, |a| a.min(refresh)));
            let file = self.token_file(token, mode);
            return Ok(Payload::from([(t.path.clone(), file)]));
        }
        Err("projected volume source is not supported".into())
    }

    /// Tokens are private to the user who needs them where that is known.
    fn token_file(&self, token: String, mode: Option<i32>) -> atomic::File {
        let default = u32::try_from(mode.unwrap_or(0o644)).unwrap_or(0o644);
        let (mode, owner) = match (self.fs_group(), self.single_user()) {
            (Some(_), _) => (0o600, None),
            (None, Some(user)) => (0o600, Some(user)),
            (None, None) => (default, None),
        };
        atomic::File { data: token.into_bytes(), mode, owner }
    }

    /// The one user all containers run as, if there is one.
    fn single_user(&self) -> Option<u32> {
        let spec = self.pod.spec.as_ref()?;
        let pod_user = spec.security_context.as_ref().and_then(|s| s.run_as_user);
        let mut users = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(pod_user));
        let first = users.next()??;
        users.all(|u| u == Some(first)).then_some(first).and_then(|u| u32::try_from(u).ok())
    }

    fn project(&self, plugin: &str, name: &str, files: &Payload) -> Result<Ready, String> {
        let dir = self.dir(plugin, name);
        ensure_dir(&dir, 0o777).map_err(|e| e.to_string())?;
        if plugin != CONFIG_MAP {
            // what may be secret stays off the disk
            self.tmpfs(&dir, &EmptyDirVolumeSource::default())?;
        }
        let group = self.fs_group();
        let finish = |version: &Path| match group {
            Some(gid) => own(version, gid, true),
            None => Ok(()),
        };
        atomic::write(&dir, files, finish).map_err(|e| e.to_string())?;
        if let Some(gid) = group {
            own_one(&dir, gid, true).map_err(|e| e.to_string())?;
        }
        Ok(Ready { path: dir, read_only: true })
    }

    fn empty_dir(&self, name: &str, e: &EmptyDirVolumeSource) -> Result<Ready, String> {
        let dir = self.dir("kubernetes.io~empty-dir", name);
        let fresh = !dir.exists();
        ensure_dir(&dir, 0o777).map_err(|e| e.to_string())?;
        let medium = e.medium.as_deref().unwrap_or_default();
        if medium == "Memory" {
            self.tmpfs(&dir, e)?;
        } else if medium.starts_with("HugePages") {
            return Err(format!("medium {medium} is not supported"));
        }
        if let (Some(gid), true) = (self.fs_group(), fresh) {
            own(&dir, gid, false).map_err(|e| e.to_string())?;
        }
        Ok(Ready { path: dir, read_only: false })
    }

    fn tmpfs(&self, dir: &Path, e: &EmptyDirVolumeSource) -> Result<(), String> {
        if is_mount_point(dir) {
            return Ok(());
        }
        let memory = resources::pod_limits(self.pod).get("memory").copied().filter(|m| *m > 0);
        let node = self.node.allocatable.get("memory").map(resources::value).filter(|m| *m > 0);
        let wanted = e.size_limit.as_ref().map(resources::value).filter(|m| *m > 0);
        let size = [memory, wanted, node].into_iter().flatten().min();
        let options = size.map_or("mode=777".to_owned(), |s| format!("mode=777,size={s}"));
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|e| format!("mounting tmpfs on {}: {e}", dir.display()))
    }
}

/// Is a file system mounted right here? (Its device differs from its parent's.)
pub fn is_mount_point(dir: &Path) -> bool {
    let device = |p: &Path| fs::metadata(p).map(|m| m.dev()).ok();
    match (device(dir), dir.parent().and_then(device)) {
        (Some(own), Some(parent)) => own != parent,
        _ => false,
    }
}

fn ensure_dir(dir: &Path, mode: u32) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
        let _ = fs::set_permissions(parent, fs::Permissions::from_mode(0o750));
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
}

/// Gives a tree to a group: group and mode bits as fsGroup wants them.
fn own(path: &Path, gid: u32, read_only: bool) -> io::Result<()> {
    own_one(path, gid, read_only)?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)?.flatten() {
            own(&entry.path(), gid, read_only)?;
        }
    }
    Ok(())
}

/// Gives a volume to a group, all of it, or with `OnRootMismatch` only if its root is not the group's yet.
fn give(path: &Path, gid: u32, policy: Option<&str>) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    let wanted = if meta.is_dir() { 0o2770 } else { 0o660 };
    let given = meta.gid() == gid && meta.permissions().mode() & wanted == wanted;
    if policy == Some("OnRootMismatch") && given {
        return Ok(());
    }
    own(path, gid, false)
}

fn own_one(path: &Path, gid: u32, read_only: bool) -> io::Result<()> {
    std::os::unix::fs::lchown(path, None, Some(gid))?;
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mut mode = meta.permissions().mode() & 0o7777;
    mode |= if read_only { 0o440 } else { 0o660 };
    if meta.is_dir() {
        mode |= 0o2110;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Checks (and for the OrCreate types makes) a path of the host.
pub fn host_path(h: &HostPathVolumeSource) -> Result<Ready, String> {
    let path = PathBuf::from(&h.path);
    let kind = h.type_.as_deref().unwrap_or_default();
    let create = |e: io::Error| format!("hostPath {} could not be made: {e}", path.display());
    match kind {
        "DirectoryOrCreate" if !path.exists() => {
            fs::create_dir_all(&path).map_err(create)?;
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o755));
        }
        "FileOrCreate" if !path.exists() => {
            fs::File::create(&path).map_err(create)?;
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o644));
        }
        _ => {}
    }
    let meta = fs::metadata(&path).ok();
    let is = |test: fn(&fs::Metadata) -> bool| meta.as_ref().is_some_and(test);
    let (ok, what) = match kind {
        "" => (true, ""),
        "Directory" | "DirectoryOrCreate" => (is(fs::Metadata::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(fs::Metadata::is_file), "a file"),
        "Socket" => (is(|m| m.file_type().is_socket()), "a socket file"),
        "CharDevice" => (is(|m| m.file_type().is_char_device()), "a character device"),
        "BlockDevice" => (is(|m| m.file_type().is_block_device()), "a block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    match ok {
        true => Ok(Ready { path, read_only: false }),
        false => Err(format!("hostPath type check failed: {} is not {what}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::tasks::Tasks;
    use k8s_openapi::api::core::v1::ConfigMap;

    #[test]
    fn host_path_types() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name: &str, kind: &str| {
            host_path(&HostPathVolumeSource {
                path: dir.path().join(name).display().to_string(),
                type_: Some(kind.into()),
            })
            .map(|_| ())
        };
        assert!(check("x", "Directory").unwrap_err().ends_with("is not a directory"));
        assert!(check("x", "DirectoryOrCreate").is_ok());
        assert!(check("x", "Directory").is_ok());
        assert!(check("x", "File").unwrap_err().contains("hostPath type check failed"));
        assert!(check("f", "FileOrCreate").is_ok());
        assert!(check("f", "Socket").is_err());
        assert!(check("nothing", "").is_ok());
    }

    #[test]
    fn a_group_is_given_all_or_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "x").unwrap();
        let set = |mode: u32| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o7777;
        set(0o600);
        let gid = fs::metadata(&file).unwrap().gid();
        give(dir.path(), gid, Some("OnRootMismatch")).unwrap();
        assert_eq!((mode(dir.path()) & 0o2770, mode(&file)), (0o2770, 0o660));
        set(0o600);
        give(dir.path(), gid, Some("OnRootMismatch")).unwrap();
        assert_eq!(mode(&file), 0o600);
        give(dir.path(), gid, None).unwrap();
        assert_eq!(mode(&file), 0o660);
    }

    #[tokio::test]
    async fn a_missing_config_map_fails_and_then_works() {
        let dir = tempfile::tempdir().unwrap();
        let pod: Pod = serde_yaml::from_str("metadata: {name: p, namespace: n, uid: u}\nspec: {containers: [], volumes: [{name: v, configMap: {name: m}}, {name: e, emptyDir: {}}]}").unwrap();
        let objects = Objects::new(None, Tasks::new(Default::default()));
        let (tokens, node) = (Tokens::default(), NodeView::default());
        let mounter = Mounter {
            pod_dir: dir.path().join("u"),
            pod: &pod,
            before: &Mounted::default(),
            objects: &objects,
            tokens: &tokens,
            client: None,
            node: &node,
            pod_ips: &[],
            host_ips: &[],
        };
        let error = mounter.mount_all().await.unwrap_err();
        assert_eq!(error.text, "MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found");
        let map: ConfigMap = serde_yaml::from_str("data: {k: one}").unwrap();
        objects.put_config_map("n", "m", map);
        let mounted = mounter.mount_all().await.unwrap();
        let path = dir.path().join("u/volumes/kubernetes.io~configmap/v");
        assert_eq!(mounted.volumes["v"], Ready { path: path.clone(), read_only: true });
        assert_eq!(fs::read_to_string(path.join("k")).unwrap(), "one");
        let mode = fs::metadata(&mounted.volumes["e"].path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o777);
    }
}
