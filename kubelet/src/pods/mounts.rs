//! The mounts of one container: its volumes, the hosts file, the termination message file.

use super::cri_config;
use super::dns;
use super::host::Host;
use crate::runtime::cri;
use crate::volumes::mount::Mounted;
use crate::volumes::subpath;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// All mounts of a container, or the message of CreateContainerConfigError.
pub fn container_mounts(
    host: &Host,
    pod: &Pod,
    c: &Container,
    mounted: &Mounted,
    env: &[(String, String)],
    pod_ips: &[String],
) -> Result<Vec<cri::Mount>, String> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let pod_dir = host.ctx.config.pod_dir(uid);
    let mut out = Vec::new();
    for (index, m) in c.volume_mounts.iter().flatten().enumerate() {
        out.push(one(pod, c, m, index, mounted, env, &pod_dir)?);
    }
    let covers = |path: &str| c.volume_mounts.iter().flatten().any(|m| m.mount_path == path);
    if !covers("/etc/hosts") && !pod_ips.is_empty() {
        out.push(hosts_mount(host, pod, &pod_dir, pod_ips).map_err(|e| e.to_string())?);
    }
    out.push(message_mount(c, &pod_dir).map_err(|e| e.to_string())?);
    Ok(out)
}

fn one(
    pod: &Pod,
    c: &Container,
    m: &VolumeMount,
    index: usize,
    mounted: &Mounted,
    env: &[(String, String)],
    pod_dir: &Path,
) -> Result<cri::Mount, String> {
    let volume = mounted.volumes.get(&m.name);
    let volume = volume.ok_or_else(|| {
        format!(
            "mount cannot be satisfied for container {:?}, because the volume is missing: {}",
            c.name, m.name
        )
    })?;
    let read_only = m.read_only == Some(true);
    let sub = sub_path(m, env)?;
    if let Some(image) = image_volume(pod, &m.name) {
        let image = Some(cri::ImageSpec { image, ..Default::default() });
        return Ok(cri::Mount {
            container_path: absolute(&m.mount_path),
            image,
            readonly: true,
            ..Default::default()
        });
    }
    let path = match sub.as_str() {
        "" => volume.path.clone(),
        sub => {
            let target = pod_dir.join("volume-subpaths").join(&m.name).join(&c.name).join(index.to_string());
            subpath::bind(&volume.path, sub, &target, volume.read_only).map_err(|e| {
                format!(
                    "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {e}",
                    m.name, c.name
                )
            })?
        }
    };
    let propagation = match m.mount_propagation.as_deref() {
        Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
        _ => cri::MountPropagation::PropagationPrivate,
    };
    Ok(cri::Mount {
        container_path: absolute(&m.mount_path),
        host_path: path.display().to_string(),
        readonly: read_only || volume.read_only,
        propagation: propagation as i32,
        recursive_read_only: m.recursive_read_only.as_deref() == Some("Enabled"),
        ..Default::default()
    })
}

/// The devices of a container: its volumes in block mode.
pub fn container_devices(c: &Container, mounted: &Mounted) -> Result<Vec<cri::Device>, String> {
    let devices = c.volume_devices.iter().flatten().map(|d| {
        let volume = mounted.volumes.get(&d.name).ok_or_else(|| {
            format!(
                "mount cannot be satisfied for container {:?}, because the volume is missing: {}",
                c.name, d.name
            )
        })?;
        Ok(cri::Device {
            container_path: d.device_path.clone(),
            host_path: volume.path.display().to_string(),
            permissions: if volume.read_only { "r" } else { "mrw" }.into(),
        })
    });
    devices.collect()
}

fn image_volume(pod: &Pod, name: &str) -> Option<String> {
    let volume = pod.spec.as_ref()?.volumes.as_ref()?.iter().find(|v| v.name == name)?;
    volume.image.as_ref()?.reference.clone()
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn sub_path(m: &VolumeMount, env: &[(String, String)]) -> Result<String, String> {
    let Some(expr) = m.sub_path_expr.as_deref().filter(|e| !e.is_empty()) else {
        return Ok(m.sub_path.clone().unwrap_or_default());
    };
    let unknown = std::cell::RefCell::new(None);
    let out = super::env::expand(expr, |name| {
        let found = env.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        if found.is_none() {
            *unknown.borrow_mut() = Some(name.to_owned());
        }
        found
    });
    match unknown.into_inner() {
        Some(name) => Err(format!("missing value for \"{name}\"")),
        None => Ok(out),
    }
}

fn hosts_mount(host: &Host, pod: &Pod, pod_dir: &Path, pod_ips: &[String]) -> io::Result<cri::Mount> {
    let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let text = match host_network {
        true => dns::host_network_hosts_file(pod, &fs::read_to_string("/etc/hosts").unwrap_or_default()),
        false => dns::hosts_file(pod, pod_ips, &host.ctx.config.file.cluster_domain),
    };
    let path = pod_dir.join("etc-hosts");
    // written in place: containers that run already have this very file mounted
    if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        fs::create_dir_all(pod_dir)?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(cri::Mount {
        container_path: "/etc/hosts".into(),
        host_path: path.display().to_string(),
        ..Default::default()
    })
}

fn message_mount(c: &Container, pod_dir: &Path) -> io::Result<cri::Mount> {
    let dir = pod_dir.join("containers").join(&c.name);
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{:08x}", rand::random::<u32>()));
    fs::File::create(&path)?;
    // the process in the container may be any user
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(cri::Mount {
        container_path: cri_config::message_path(c).to_owned(),
        host_path: path.display().to_string(),
        ..Default::default()
    })
}
