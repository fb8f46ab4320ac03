//! What is left over: dead containers, old sandboxes, unused images, long logs, directories of pods long gone.

pub mod eviction;
pub mod images;
pub mod logs;

use crate::context::Context;
use crate::pods::host::{Host, now_ns};
use crate::pods::table::{ContainerState, PodView};
use crate::volumes::teardown;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Container and sandbox collection.
const PERIOD: Duration = Duration::from_secs(60);

/// Ids to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// containers
    pub containers: Vec<String>,
    /// sandboxes
    pub sandboxes: Vec<String>,
}

/// What may go: of every container the dead ones beyond `keep`; sandboxes that are not ready, hold nothing, and are
/// not the newest of their pod. Pure.
pub fn garbage(
    views: &[Arc<PodView>],
    live: &HashSet<String>,
    keep: usize,
    min_age_ns: i64,
    now: i64,
) -> Garbage {
    let mut out = Garbage::default();
    for view in views.iter().filter(|v| live.contains(&v.uid)) {
        let mut kept: HashMap<&str, usize> = HashMap::new();
        for c in &view.containers {
            let n = kept.entry(c.name.as_str()).or_default();
            *n += 1;
            // the newest instance is the container's present; `keep` more are its past
            let past = *n > keep + 1 || (*n > 1 && keep == 0);
            if past && c.state == ContainerState::Exited && now - c.created_at >= min_age_ns {
                out.containers.push(c.id.clone());
            }
        }
        for s in view.sandboxes.iter().skip(1).filter(|s| !s.ready) {
            let used =
                view.containers.iter().any(|c| c.sandbox_id == s.id && !out.containers.contains(&c.id));
            if !used {
                out.sandboxes.push(s.id.clone());
            }
        }
    }
    out
}

/// Runs until the end of the process.
pub async fn run(host: Arc<Host>) {
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tick.tick().await;
        let ctx = &host.ctx;
        let entries = ctx.pods.list();
        let live: HashSet<String> = entries.iter().map(|e| e.uid().to_owned()).collect();
        let age = i64::try_from(ctx.config.min_container_age.as_nanos()).unwrap_or(0);
        let found = garbage(&host.relist.views(), &live, ctx.config.max_dead_per_container, age, now_ns());
        for id in &found.containers {
            let _ = ctx.runtime.remove_container(id).await;
        }
        for id in &found.sandboxes {
            let _ = ctx.runtime.remove_sandbox(id).await;
        }
        orphaned_dirs(&host, &live);
        logs::remove_dead_links();
    }
}

/// Directories, logs and cgroups of pods that are neither known nor running.
fn orphaned_dirs(host: &Host, live: &HashSet<String>) {
    if host.ctx.sync_loop_ns.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        return;
    }
    let running: HashSet<String> = host.relist.views().iter().map(|v| v.uid.clone()).collect();
    let known = |uid: &str| live.contains(uid) || running.contains(uid);
    let young = |m: std::io::Result<std::fs::Metadata>| {
        m.and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok()).is_none_or(|age| age < PERIOD)
    };
    for entry in std::fs::read_dir(host.ctx.config.pods_dir()).into_iter().flatten().flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if !known(&uid)
            && !young(entry.metadata())
            && let Err(e) = teardown::remove_pod_dir(&entry.path())
        {
            tracing::warn!(%uid, error = %e, "directory of a pod long gone cannot be removed");
        }
    }
    for entry in std::fs::read_dir(&host.ctx.config.file.pod_logs_dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let uid = name.rsplit('_').next().unwrap_or_default();
        if !known(uid) && !young(entry.metadata()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    for (uid, path) in host.cgroups.pod_uids(&host.layout) {
        if !known(&uid) && host.cgroups.remove(&path).is_err() {
            // The next round removes it.
            host.cgroups.kill(&path);
        }
    }
}

/// Starts all collectors.
pub fn start(
    ctx: &Arc<Context>,
    host: &Arc<Host>,
    kill: tokio::sync::mpsc::UnboundedSender<crate::pods::manager::Message>,
) {
    ctx.spawn("container gc", run(host.clone()));
    ctx.spawn("image gc", images::run(host.clone()));
    ctx.spawn("log rotation", logs::run(host.clone()));
    ctx.spawn("eviction", eviction::run(host.clone(), kill));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::table::{RuntimeContainer, RuntimeSandbox};

    fn view() -> Arc<PodView> {
        let container = |id: &str, sandbox: &str, state| RuntimeContainer {
            name: "a".into(),
            id: id.into(),
            sandbox_id: sandbox.into(),
            state,
            ..Default::default()
        };
        let sandbox = |id: &str, ready| RuntimeSandbox { id: id.into(), ready, ..Default::default() };
        Arc::new(PodView {
            uid: "u".into(),
            sandboxes: vec![sandbox("s3", true), sandbox("s2", false), sandbox("s1", false)],
            containers: vec![
                container("c4", "s3", ContainerState::Running),
                container("c3", "s2", ContainerState::Exited),
                container("c2", "s1", ContainerState::Exited),
                container("c1", "s1", ContainerState::Exited),
            ],
            ..Default::default()
        })
    }

    #[test]
    fn one_dead_instance_is_kept() {
        let live = HashSet::from(["u".to_owned()]);
        let got = garbage(&[view()], &live, 1, 0, 100);
        assert_eq!(got, Garbage { containers: vec!["c2".into(), "c1".into()], sandboxes: vec!["s1".into()] });
        assert_eq!(garbage(&[view()], &live, 1, 1000, 100), Garbage::default());
        assert_eq!(garbage(&[view()], &HashSet::new(), 1, 0, 100), Garbage::default());
    }
}
