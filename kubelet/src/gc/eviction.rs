//! Pressure on memory, disk and processes: conditions, reclaim at node level, eviction of one pod at a time.

use crate::context::Pressure;
use crate::events::{self, WARNING};
use crate::gc::images;
use crate::pods::host::Host;
use crate::pods::manager::Message;
use crate::pods::resources;
use crate::pods::table::PodEntry;
use crate::pods::worker::KillOrder;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const PERIOD: Duration = Duration::from_secs(10);

/// What is left of one signal, and of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// bytes, inodes or process ids left
    pub available: u64,
    /// of how many
    pub capacity: u64,
}

/// Threshold in absolute numbers: a quantity or a percentage of the capacity. None when it is no threshold.
pub fn threshold(text: &str, capacity: u64) -> Option<u64> {
    match text.strip_suffix('%') {
        Some(p) => {
            let percent: f64 = p.parse().ok()?;
            Some((capacity as f64 * percent / 100.0) as u64)
        }
        None => u64::try_from(resources::value(&Quantity(text.to_owned()))).ok(),
    }
}

/// Signals under their thresholds.
pub fn crossed<'a>(
    levels: &HashMap<&'a str, Level>,
    hard: &std::collections::BTreeMap<String, String>,
) -> Vec<&'a str> {
    let mut out: Vec<&str> = levels
        .iter()
        .filter(|(signal, level)| {
            let limit = hard.get(**signal).and_then(|t| threshold(t, level.capacity));
            level.capacity > 0 && limit.is_some_and(|l| l > 0 && level.available < l)
        })
        .map(|(s, _)| *s)
        .collect();
    out.sort_unstable();
    out
}

fn levels(root: &str, image_fs: Option<&str>) -> HashMap<&'static str, Level> {
    let mut out = HashMap::new();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim_start_matches(':')
            .trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<u64>()
            .ok()
            .map(|k| k * 1024)
    };
    if let (Some(available), Some(capacity)) = (field("MemAvailable"), field("MemTotal")) {
        out.insert("memory.available", Level { available, capacity });
    }
    let mut disk = |path: &str, bytes: &'static str, inodes: &'static str| {
        let Ok(s) = nix::sys::statvfs::statvfs(path) else { return };
        let unit = s.fragment_size();
        out.insert(bytes, Level { available: s.blocks_available() * unit, capacity: s.blocks() * unit });
        out.insert(inodes, Level { available: s.files_available(), capacity: s.files() });
    };
    disk(root, "nodefs.available", "nodefs.inodesFree");
    disk(image_fs.unwrap_or(root), "imagefs.available", "imagefs.inodesFree");
    out
}

/// Memory pods are ranked by: over their request first, then lower priority, then most above the request.
pub fn rank(pods: &[PodEntry], usage: impl Fn(&PodEntry) -> i64) -> Vec<String> {
    let mut list: Vec<(bool, i32, i64, String)> = pods
        .iter()
        .filter(|p| !resources::is_critical(&p.pod) && !p.terminating && !p.finished)
        .map(|p| {
            let over = usage(p) - resources::pod_requests(&p.pod).get("memory").copied().unwrap_or(0);
            let priority = p.pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
            (over <= 0, priority, -over, p.uid().to_owned())
        })
        .collect();
    list.sort();
    list.into_iter().map(|(.., uid)| uid).collect()
}

fn memory_usage(host: &Host, pod: &PodEntry) -> i64 {
    let Some(mount) = host.cgroups.mount_of("memory") else { return 0 };
    let dir = mount.join(pod.cgroup.trim_start_matches('/'));
    let file = if host.cgroups.v2 { "memory.current" } else { "memory.usage_in_bytes" };
    std::fs::read_to_string(dir.join(file)).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}

fn pressure_of(signals: &[&str]) -> Pressure {
    let any = |prefix: &str| signals.iter().any(|s| s.starts_with(prefix));
    Pressure { memory: any("memory"), disk: any("nodefs") || any("imagefs"), pid: any("pid") }
}

/// Runs until the end of the process.
pub async fn run(host: Arc<Host>, kill: mpsc::UnboundedSender<Message>) {
    let hard = host.ctx.config.file.eviction_hard();
    let hold = host.ctx.config.file.eviction_pressure_transition_period.0;
    let mut last_seen: HashMap<&'static str, Instant> = HashMap::new();
    let mut tick = tokio::time::interval(PERIOD);
    let image_fs = image_fs(&host).await;
    loop {
        tick.tick().await;
        let root = host.ctx.config.root_dir.display().to_string();
        let now_levels = levels(&root, image_fs.as_deref());
        let met = crossed(&now_levels, &hard);
        for signal in &met {
            last_seen.insert(signal, Instant::now());
        }
        last_seen.retain(|_, at| at.elapsed() < hold);
        let held: Vec<&str> = last_seen.keys().copied().collect();
        let pressure = pressure_of(&held);
        host.ctx.pressure.send_if_modified(|p| {
            let changed = *p != pressure;
            *p = pressure;
            changed
        });
        if let Some(signal) = met.first() {
            relieve(&host, signal, &now_levels, &hard, &kill).await;
        }
    }
}

async fn image_fs(host: &Host) -> Option<String> {
    let info = host.ctx.runtime.image_fs_info().await.ok()?;
    info.image_filesystems.first()?.fs_id.as_ref().map(|id| id.mountpoint.clone())
}

async fn relieve(
    host: &Host,
    signal: &str,
    levels: &HashMap<&'static str, Level>,
    hard: &std::collections::BTreeMap<String, String>,
    kill: &mpsc::UnboundedSender<Message>,
) {
    let resource = match signal.split('.').next() {
        Some("memory") => "memory",
        Some("pid") => "pids",
        _ if signal.ends_with("inodesFree") => "inodes",
        _ => "ephemeral-storage",
    };
    let node = events::node_ref(&host.ctx.config.node_name);
    host.ctx.events.record(
        node,
        WARNING,
        "EvictionThresholdMet",
        format!("Attempting to reclaim {resource}"),
    );
    if resource != "memory" && resource != "pids" {
        let _ = images::collect(host, Some(())).await;
        let again = self::levels(&host.ctx.config.root_dir.display().to_string(), None);
        if crossed(&again, hard).iter().all(|s| !s.starts_with("nodefs") && !s.starts_with("imagefs")) {
            return;
        }
    }
    let pods = host.ctx.pods.list();
    let Some(uid) = rank(&pods, |p| memory_usage(host, p)).into_iter().next() else { return };
    let Some(victim) = pods.iter().find(|p| p.uid() == uid) else { return };
    let level = levels.get(signal).copied().unwrap_or(Level { available: 0, capacity: 0 });
    let limit = hard.get(signal).and_then(|t| threshold(t, level.capacity)).unwrap_or(0);
    let message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {limit}, available: {}. ",
        level.available
    );
    host.ctx.metrics.evictions.inc();
    host.ctx.events.record(events::pod_ref(&victim.pod), WARNING, "Evicted", message.clone());
    let order =
        KillOrder { reason: "Evicted".into(), message, grace: Some(1), disruption: true, rejected: false };
    let _ = kill.send(Message::Kill(uid, order));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn thresholds_by_quantity_and_percent() {
        assert_eq!(threshold("100Mi", 0), Some(100 << 20));
        assert_eq!(threshold("10%", 1000), Some(100));
        assert_eq!(threshold("x%", 1000), None);
        let hard = BTreeMap::from([
            ("memory.available".to_owned(), "10%".to_owned()),
            ("nodefs.available".to_owned(), "50".to_owned()),
        ]);
        let levels = HashMap::from([
            ("memory.available", Level { available: 99, capacity: 1000 }),
            ("nodefs.available", Level { available: 50, capacity: 1000 }),
        ]);
        assert_eq!(crossed(&levels, &hard), ["memory.available"]);
        assert_eq!(pressure_of(&["memory.available"]), Pressure { memory: true, disk: false, pid: false });
    }

    #[test]
    fn the_greediest_goes_first() {
        let entry = |name: &str, spec: &str| PodEntry {
            pod: Arc::new(
                serde_yaml::from_str(&format!("metadata: {{name: {name}, uid: {name}}}\nspec: {spec}"))
                    .unwrap(),
            ),
            ..Default::default()
        };
        let pods = [
            entry("modest", "{containers: [{name: a, resources: {requests: {memory: 1Ki}}}]}"),
            entry("greedy", "{containers: [{name: a}]}"),
            entry("vip", "{priority: 100, containers: [{name: a}]}"),
            entry("critical", "{priority: 2000000000, containers: [{name: a}]}"),
        ];
        assert_eq!(rank(&pods, |_| 1000), ["greedy", "vip", "modest"]);
    }
}
