//! `certs watch`: renews certificates in time, for as long as the machine runs. Daemons notice new files by themselves.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::json;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use crate::expiry::{Dirs, KNOWN, Place};
use crate::files::write_file;
use crate::rotation::{Rotation, Turn, time};
use crate::x509;

/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(500);

/// Renews certificates in time until `token` is cancelled. The state goes to `status` (JSON) after each look.
///
/// # Errors
/// None of a certificate's: those are logged and tried again.
pub async fn watch(dirs: Dirs, status: Option<PathBuf>, token: CancellationToken) -> Result<()> {
    let mut rotation = Rotation::new(rand::random());
    let changes = Changes::new();
    if let Err(error) = &changes {
        tracing::warn!("changes of files are not noticed, only the clock counts: {error:#}");
    }
    let changes = changes.ok();
    loop {
        changes.iter().for_each(|c| c.look_at(&dirs));
        let turn = rotation.turn(&dirs, x509::now());
        tell(&turn);
        if let Some(path) = &status {
            write_status(path, &turn);
        }
        let rest = Duration::from_secs(u64::try_from(turn.next - x509::now()).unwrap_or(0).max(1));
        tracing::debug!(seconds = rest.as_secs(), "resting");
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            () = tokio::time::sleep(rest) => {}
            () = changed(changes.as_ref()) => tokio::time::sleep(SETTLE).await,
        }
    }
}

fn tell(turn: &Turn) {
    turn.renewed.iter().for_each(|what| tracing::info!("renewed {what}"));
    turn.failed.iter().for_each(|(name, why)| tracing::error!("renewing {name} failed: {why}"));
    turn.warnings.iter().for_each(|what| tracing::warn!("{what}"));
}

fn write_status(path: &std::path::Path, turn: &Turn) {
    let text =
        json!({"looked": time(x509::now()), "next": time(turn.next), "certificates": turn.certificates});
    if let Err(error) = write_file(path, format!("{text:#}\n").as_bytes(), 0o644) {
        tracing::warn!("writing the status failed: {error:#}");
    }
}

/// inotify on the directories of certificates.
struct Changes {
    inotify: Inotify,
    ready: AsyncFd<OwnedFd>,
}

impl Changes {
    fn new() -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).context("inotify")?;
        let ready = daemon::files::readable(inotify.as_fd().try_clone_to_owned()?).context("inotify")?;
        Ok(Self { inotify, ready })
    }

    /// Follows the directories; those already followed stay so, those that are not there come in at a later turn.
    fn look_at(&self, dirs: &Dirs) {
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        for dir in [&dirs.pki, &dirs.pki.join("etcd"), &dirs.kubeconfigs] {
            let _ = self.inotify.add_watch(dir, flags);
        }
    }

    /// Waits for a change of one of the files we care for.
    async fn next(&self) {
        loop {
            let Ok(mut ready) = self.ready.readable().await else { return std::future::pending().await };
            let events = self.inotify.read_events().unwrap_or_default();
            ready.clear_ready();
            if events.iter().any(|e| e.name.as_deref().is_some_and(is_ours)) {
                return;
            }
        }
    }
}

async fn changed(changes: Option<&Changes>) {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

/// Whether a change of this file may change what is due.
fn is_ours(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let stem = name.strip_suffix(".crt").or_else(|| name.strip_suffix(".key"));
    KNOWN.iter().any(|k| match k.place {
        Place::Pair(base) => stem == base.rsplit('/').next(),
        Place::Kubeconfig(file) => file == name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::tests::control_plane;

    #[test]
    fn only_certificates_wake_us() {
        for (name, ours) in [
            ("apiserver.crt", true),
            ("server.key", true),
            ("admin.conf", true),
            (".apiserver.crt.next", false),
            ("certs.json", false),
            ("kubelet.conf", false),
        ] {
            assert_eq!(is_ours(OsStr::new(name)), ours, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_due_at_the_start_is_renewed_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 0);
        let (status, token) = (dir.path().join("status.json"), CancellationToken::new());
        token.cancel();
        watch(dirs, Some(status.clone()), token).await.unwrap();
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(status).unwrap()).unwrap();
        assert_eq!(told["certificates"].as_array().unwrap().len(), 15);
        let apiserver = &told["certificates"][1];
        assert_eq!(apiserver["name"], "apiserver");
        let end: jiff::Timestamp = apiserver["notAfter"].as_str().unwrap().parse().unwrap();
        assert!(end > jiff::Timestamp::now());
    }

    #[tokio::test]
    async fn a_change_of_a_certificate_wakes() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = control_plane(dir.path(), 3600);
        let changes = Changes::new().unwrap();
        changes.look_at(&dirs);
        std::fs::write(dirs.pki.join("other.txt"), "x").unwrap();
        crate::renew(&dirs, "etcd-peer", None).unwrap();
        tokio::time::timeout(Duration::from_secs(20), changes.next()).await.unwrap();
    }
}
