//! Putting a backup in the place of etcd's data: nothing is touched before the backup is verified and unpacked, the old data
//! is kept, and comes back when the restored etcd does not start.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use coxctl_config::{ClusterConfiguration, LocalEtcd};
use coxctl_machine::{Daemon, State};

use super::backup::{Snapshot, verify};
use crate::daemons::{self, etcd as unit};
use crate::host::Host;
use crate::{health, paths, say};

/// How long the restored control plane may take to be well.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is restored, and as whom.
pub struct Wanted<'a> {
    /// The snapshot.
    pub file: &'a Path,
    /// The cluster's configuration.
    pub cluster: &'a ClusterConfiguration,
    /// This machine's etcd.
    pub local: LocalEtcd,
    /// The name of its only member from now on.
    pub node: String,
    /// Where it is reached.
    pub advertise: String,
    /// `HOST:PORT` of this machine's API server.
    pub endpoint: String,
}

/// Restores; returns where the old data lies.
///
/// # Errors
/// When the backup is damaged, or the restored etcd or API server does not come up; then the old data is back.
pub async fn run(host: &Host, wanted: &Wanted<'_>) -> Result<Option<PathBuf>> {
    let snapshot = verify(wanted.file)?;
    say_snapshot(wanted.file, &snapshot);
    let data = PathBuf::from(&wanted.local.data_dir);
    earlier(&data, "restored").iter().for_each(|left| drop(std::fs::remove_dir_all(left)));
    let fresh = beside(&data, "restored");
    if let Err(error) = unpack(host, wanted, &fresh) {
        let _ = std::fs::remove_dir_all(&fresh);
        return Err(error.context("nothing was changed"));
    }
    let stopped = stop(host)?;
    let old = swap(&data, &fresh)?;
    match begin(host, wanted).await {
        Ok(()) => {
            start(host, &stopped)?;
            Ok(old)
        }
        Err(error) => {
            back(host, &data, old.as_deref(), &stopped)?;
            Err(error.context("the restored etcd does not come up; the old data is back"))
        }
    }
}

fn say_snapshot(file: &Path, snapshot: &Snapshot) {
    say::line(
        "etcd",
        format_args!("{} is whole: {} bytes, sha256 {}", file.display(), snapshot.size, snapshot.sha256),
    );
}

/// A directory of a new name beside another, on the same file system.
fn beside(dir: &Path, what: &str) -> PathBuf {
    let now = jiff::Zoned::now();
    let stamp = format!("{}-{:03}", now.strftime("%Y%m%d-%H%M%S"), now.millisecond());
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or("etcd");
    dir.join(format!(".{name}-{what}-{stamp}"))
}

/// What earlier tries put beside a directory under such a name, oldest first.
fn earlier(dir: &Path, what: &str) -> Vec<PathBuf> {
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or("etcd");
    let start = format!(".{name}-{what}-");
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let named = |p: &PathBuf| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&start));
    let mut found: Vec<PathBuf> = entries.filter(named).collect();
    found.sort();
    found
}

/// Unpacks the snapshot as the data of a new cluster of this member alone.
fn unpack(host: &Host, wanted: &Wanted<'_>, into: &Path) -> Result<()> {
    let (program, args) = match host.services().program("etcdutl".as_ref()) {
        Ok(program) => (program, vec!["snapshot".to_string(), "restore".into()]),
        Err(_) => {
            (host.services().program("etcdctl".as_ref())?, vec!["snapshot".to_string(), "restore".into()])
        }
    };
    let peer = unit::peer_url(&wanted.advertise);
    let output = Command::new(&program)
        .env("ETCDCTL_API", "3")
        .args(args)
        .arg(wanted.file)
        .arg(format!("--data-dir={}", into.display()))
        .arg(format!("--name={}", wanted.node))
        .arg(format!("--initial-cluster={}={peer}", wanted.node))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster-token=etcd-cluster-{}", jiff::Timestamp::now().as_second()))
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    ensure!(
        output.status.success() && into.join("member").is_dir(),
        "{} can't unpack the snapshot: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

const WRITERS: [&str; 5] =
    [daemons::CLOUD, daemons::SCHEDULER, daemons::CONTROLLER_MANAGER, daemons::API_SERVER, daemons::ETCD];

/// Stops those that write, etcd last; returns those that are here. One that stands still already was stopped by a try that
/// was killed.
fn stop(host: &Host) -> Result<Vec<&'static str>> {
    let mut ran = Vec::new();
    for name in WRITERS {
        match host.services().state(name)? {
            State::Absent => continue,
            State::Stopped => {}
            _ => {
                say::line("etcd", format_args!("Stopping {name}"));
                host.services().stop(name)?;
            }
        }
        ran.push(name);
    }
    Ok(ran)
}

/// Starts what ran before, but etcd, which runs.
fn start(host: &Host, stopped: &[&'static str]) -> Result<()> {
    for name in stopped.iter().rev().filter(|n| !matches!(**n, daemons::ETCD | daemons::API_SERVER)) {
        host.services().start(name)?;
    }
    Ok(())
}

/// Puts the fresh data in the place of the old, which moves aside; a try that was killed may have moved it already.
fn swap(data: &Path, fresh: &Path) -> Result<Option<PathBuf>> {
    let (member, place) = (data.join("member"), beside(data, "before-restore"));
    let old = if member.exists() { Some(place.clone()) } else { earlier(data, "before-restore").pop() };
    if member.exists() {
        std::fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
        std::fs::rename(&member, place.join("member")).context("moving the old data aside")?;
    }
    std::fs::rename(fresh.join("member"), &member).context("moving the restored data into place")?;
    let _ = std::fs::remove_dir_all(fresh);
    Ok(old)
}

async fn begin(host: &Host, wanted: &Wanted<'_>) -> Result<()> {
    let patches = crate::patches::given_or_kept(None);
    let daemon = crate::patches::daemon(patches.as_ref(), etcd_daemon(host, wanted))?;
    host.install(&daemon)?;
    host.services().start(daemons::ETCD)?;
    health::etcd(host, wanted.cluster, PATIENCE).await?;
    host.services().start(daemons::API_SERVER)?;
    health::api_server(host, paths::ADMIN, &wanted.endpoint, PATIENCE).await
}

fn etcd_daemon(host: &Host, wanted: &Wanted<'_>) -> Daemon {
    unit::unit(&unit::Member {
        name: &wanted.node,
        advertise: &wanted.advertise,
        pki: &wanted.cluster.certificates_dir,
        local: &wanted.local,
        existing: &[],
        version: super::program_version(host),
    })
}

/// Puts the old data back and starts everything with it.
fn back(host: &Host, data: &Path, old: Option<&Path>, stopped: &[&'static str]) -> Result<()> {
    let Some(old) = old else { return Ok(()) };
    stop(host)?;
    let failed = beside(data, "failed-restore");
    std::fs::create_dir_all(&failed)?;
    std::fs::rename(data.join("member"), failed.join("member")).context("moving the restored data away")?;
    std::fs::rename(old.join("member"), data.join("member")).context("moving the old data back")?;
    let _ = std::fs::remove_dir(old);
    for name in stopped.iter().rev() {
        host.services().start(name)?;
    }
    Ok(())
}

/// What the other control planes must do, in words.
pub fn advice(others: &[String]) -> String {
    if others.is_empty() {
        return String::new();
    }
    format!(
        "This etcd is now a cluster of one. The data of the other control planes ({}) is of the past: on each of them run\n\n  \
        coxctl reset --force\n\nand then the join command with --control-plane that \"coxctl token create --print-join-command --certificate-key \
        $(coxctl init phase upload-certs --upload-certs | tail -1)\" prints here.\n",
        others.join(", ")
    )
}

/// Refuses to restore where there is no etcd of ours.
///
/// # Errors
/// With an etcd elsewhere.
pub fn local(cluster: &ClusterConfiguration) -> Result<LocalEtcd> {
    match crate::init::local_etcd(cluster) {
        Some(local) => Ok(local),
        None => bail!("the cluster's etcd is elsewhere; restore it with its own means"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_data_moves_aside_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let (data, fresh) = (dir.path().join("etcd"), dir.path().join("etcd/.fresh"));
        for (place, text) in [(&data, "old"), (&fresh, "new")] {
            std::fs::create_dir_all(place.join("member")).unwrap();
            std::fs::write(place.join("member/db"), text).unwrap();
        }
        let old = swap(&data, &fresh).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(data.join("member/db")).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(old.join("member/db")).unwrap(), "old");
        assert!(!fresh.exists());
        // Killed after the old data had moved: the next try finds it.
        std::fs::remove_dir_all(data.join("member")).unwrap();
        std::fs::create_dir_all(fresh.join("member")).unwrap();
        assert_eq!(swap(&data, &fresh).unwrap(), Some(old));
    }

    #[test]
    fn others_are_told_what_to_do() {
        assert_eq!(advice(&[]), "");
        assert!(advice(&["b".into()]).contains("coxctl reset"));
    }
}
