//! The cgroup tree of pods: names in both drivers' notation, creation, limits and removal on v1 and v2.

use crate::pods::resources::{self, Qos};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Limits of a pod's or QoS class's cgroup. None leaves the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// v1 cpu.shares (v2: converted to a weight)
    pub shares: Option<i64>,
    /// CFS quota in microseconds per `period`
    pub quota: Option<i64>,
    /// CFS period in microseconds
    pub period: i64,
    /// bytes
    pub memory: Option<i64>,
    /// processes
    pub pids: Option<i64>,
}

/// Where pods live in the tree.
#[derive(Clone, Debug)]
pub struct Layout {
    /// systemd slices instead of plain directories
    pub systemd: bool,
    /// --cgroup-root, "" or "/" for none
    pub root: String,
    /// QoS levels are made
    pub per_qos: bool,
}

impl Layout {
    /// cgroup_parent for the runtime: a path (cgroupfs) or the slice's name (systemd).
    pub fn parent(&self, qos: Qos, uid: &str) -> String {
        let path = self.path(qos, uid);
        if !self.systemd {
            return path;
        }
        path.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Directory of a pod below a hierarchy's root.
    pub fn path(&self, qos: Qos, uid: &str) -> String {
        let mut parts: Vec<String> = Vec::new();
        if self.per_qos {
            parts.push("kubepods".into());
            match qos {
                Qos::Guaranteed => {}
                Qos::Burstable => parts.push("burstable".into()),
                Qos::BestEffort => parts.push("besteffort".into()),
            }
        }
        parts.push(format!("pod{uid}"));
        self.render(&parts)
    }

    /// Directory of the node level (None) or of a QoS level.
    pub fn level(&self, qos: Option<Qos>) -> String {
        let mut parts = vec!["kubepods".to_owned()];
        match qos {
            Some(Qos::Burstable) => parts.push("burstable".into()),
            Some(Qos::BestEffort) => parts.push("besteffort".into()),
            _ => {}
        }
        self.render(&parts)
    }

    fn render(&self, parts: &[String]) -> String {
        let root = self.root.trim_end_matches('/');
        if !self.systemd {
            return format!("{root}/{}", parts.join("/"));
        }
        let (mut path, mut name) = (root.to_owned(), String::new());
        for part in parts {
            let escaped = part.replace('-', "_");
            name = if name.is_empty() { escaped } else { format!("{name}-{escaped}") };
            path = format!("{path}/{name}.slice");
        }
        path
    }
}

/// The limits a pod's own cgroup gets.
pub fn pod_limits(pod: &Pod, period_us: i64, cfs_quota: bool, pids_limit: i64) -> Limits {
    let Some(spec) = &pod.spec else { return Limits::default() };
    let (requests, limits) = (resources::pod_requests(pod), resources::pod_limits(pod));
    let get = |m: &resources::Amounts, k: &str| m.get(k).copied().unwrap_or(0);
    let cpu_request = match get(&requests, "cpu") {
        0 => get(&limits, "cpu"),
        r => r,
    };
    let qos = resources::qos(pod);
    let limited = |name: &str| qos == Qos::Guaranteed || resources::all_limited(spec, name);
    let quota = resources::quota(get(&limits, "cpu"), period_us);
    let memory = get(&limits, "memory");
    Limits {
        shares: Some(if qos == Qos::BestEffort { 2 } else { resources::shares(cpu_request) }),
        quota: (cfs_quota && quota > 0 && limited("cpu")).then_some(quota),
        period: period_us,
        memory: (memory > 0 && limited("memory")).then_some(memory),
        pids: (pids_limit > 0).then_some(pids_limit),
    }
}

/// The mounted hierarchies of this machine.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    /// true: the unified hierarchy carries the controllers
    pub v2: bool,
    /// v1: (mount point, controllers); v2: one entry without controllers
    hierarchies: Vec<(PathBuf, BTreeSet<String>)>,
}

impl Cgroups {
    /// Reads the mounts of this process. Empty when there are none (tests, odd containers): everything succeeds then.
    pub fn detect() -> Self {
        Self::from_mountinfo(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    /// From the text of /proc/self/mountinfo.
    pub fn from_mountinfo(text: &str) -> Self {
        let (mut v1, mut v2) = (Vec::new(), None);
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") => v2 = Some(PathBuf::from(point)),
                Some("cgroup") => {
                    let options = right.nth(1).unwrap_or_default();
                    let controllers =
                        options.split(',').filter(|o| *o != "rw" && *o != "ro").map(str::to_owned);
                    v1.retain(|(p, _): &(PathBuf, BTreeSet<String>)| p != Path::new(point));
                    v1.push((PathBuf::from(point), controllers.collect()));
                }
                _ => {}
            }
        }
        match v2 {
            Some(point) if v1.is_empty() => Self { v2: true, hierarchies: vec![(point, BTreeSet::new())] },
            _ => Self { v2: false, hierarchies: v1 },
        }
    }

    /// Mount point that carries a controller.
    pub fn mount_of(&self, controller: &str) -> Option<&Path> {
        let has = |(_, c): &&(PathBuf, BTreeSet<String>)| self.v2 || c.contains(controller);
        self.hierarchies.iter().find(has).map(|(p, _)| p.as_path())
    }

    /// Creates `path` where its limits live and writes them. Writing the same again changes nothing.
    pub fn ensure(&self, path: &str, limits: &Limits) -> io::Result<()> {
        if self.v2 {
            return self.ensure_v2(path, limits);
        }
        let controllers = ["cpu", "memory", "pids"];
        for controller in controllers {
            let Some(mount) = self.mount_of(controller) else { continue };
            let dir = mount.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(&dir)?;
            self.write_v1(&dir, controller, limits)?;
        }
        Ok(())
    }

    fn write_v1(&self, dir: &Path, controller: &str, limits: &Limits) -> io::Result<()> {
        let set = |file: &str, value: Option<i64>| match value {
            Some(v) => write(&dir.join(file), &v.to_string()),
            None => Ok(()),
        };
        match controller {
            "cpu" => {
                set("cpu.shares", limits.shares)?;
                if let Some(quota) = limits.quota {
                    set("cpu.cfs_period_us", Some(limits.period))?;
                    set("cpu.cfs_quota_us", Some(quota))?;
                }
                Ok(())
            }
            "memory" => set("memory.limit_in_bytes", limits.memory),
            _ => set("pids.max", limits.pids),
        }
    }

    fn ensure_v2(&self, path: &str, limits: &Limits) -> io::Result<()> {
        let Some((mount, _)) = self.hierarchies.first() else { return Ok(()) };
        let mut dir = mount.clone();
        for part in path.split('/').filter(|p| !p.is_empty()) {
            delegate(&dir);
            dir.push(part);
            match std::fs::create_dir(&dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        delegate(&dir);
        let set = |file: &str, value: Option<String>| value.map_or(Ok(()), |v| write(&dir.join(file), &v));
        set("cpu.weight", limits.shares.map(|s| resources::weight(s).to_string()))?;
        set("cpu.max", limits.quota.map(|q| format!("{q} {}", limits.period)))?;
        set("memory.max", limits.memory.map(|m| m.to_string()))?;
        set("pids.max", limits.pids.map(|p| p.to_string()))
    }

    /// Is `path` there (in the cpu hierarchy)?
    pub fn exists(&self, path: &str) -> bool {
        self.mount_of("cpu").is_none_or(|m| m.join(path.trim_start_matches('/')).is_dir())
    }

    /// Removes `path` and what is below, in every hierarchy. What the kernel still holds busy is an error.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let mut last = Ok(());
        for (mount, _) in &self.hierarchies {
            if let Err(e) = remove_tree(&mount.join(path.trim_start_matches('/'))) {
                last = Err(e);
            }
        }
        last
    }

    /// Kills every process in `path` and below. A call to the runtime that was broken off may leave one there that the
    /// runtime no longer knows.
    pub fn kill(&self, path: &str) {
        for (mount, _) in &self.hierarchies {
            kill_tree(&mount.join(path.trim_start_matches('/')));
        }
    }

    /// Names of the pod groups (`pod<uid>` parts) that exist below the given levels, as UIDs.
    pub fn pod_uids(&self, layout: &Layout) -> Vec<(String, String)> {
        let mut found = BTreeSet::new();
        for qos in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            let level = layout.level((qos != Qos::Guaranteed).then_some(qos));
            for (mount, _) in &self.hierarchies {
                let Ok(entries) = std::fs::read_dir(mount.join(level.trim_start_matches('/'))) else {
                    continue;
                };
                for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
                    let bare = name.strip_suffix(".slice").unwrap_or(&name);
                    let bare = bare.rsplit('-').next().unwrap_or(bare).to_owned();
                    let bare = if layout.systemd { bare } else { name.clone() };
                    if let Some(uid) = bare.strip_prefix("pod") {
                        let uid = if layout.systemd { uid.replace('_', "-") } else { uid.to_owned() };
                        found.insert((uid, format!("{level}/{name}")));
                    }
                }
            }
        }
        found.into_iter().collect()
    }
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    std::fs::write(path, value)
        .map_err(|e| io::Error::new(e.kind(), format!("write {value} to {}: {e}", path.display())))
}

/// Hands the controllers on to the children. A controller that is missing must not stop the others.
fn delegate(dir: &Path) {
    let Ok(present) = std::fs::read_to_string(dir.join("cgroup.controllers")) else { return };
    for controller in present.split_whitespace() {
        let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn kill_tree(dir: &Path) {
    use nix::sys::signal::{Signal, kill};
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        kill_tree(&entry.path());
    }
    let members = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 is a process that can't be seen from here, and to kill it would mean ourselves.
    for pid in members.lines().filter_map(|l| l.trim().parse().ok()).filter(|pid| *pid > 1) {
        let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_drivers() {
        let fs = Layout { systemd: false, root: "/".into(), per_qos: true };
        assert_eq!(fs.parent(Qos::Burstable, "a-b"), "/kubepods/burstable/poda-b");
        assert_eq!(fs.parent(Qos::Guaranteed, "a-b"), "/kubepods/poda-b");
        let sd = Layout { systemd: true, ..fs };
        assert_eq!(sd.parent(Qos::BestEffort, "a-b"), "kubepods-besteffort-poda_b.slice");
        assert_eq!(
            sd.path(Qos::BestEffort, "a-b"),
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-poda_b.slice"
        );
        assert_eq!(sd.parent(Qos::Burstable, "a-b"), "kubepods-burstable-poda_b.slice");
        assert_eq!(sd.parent(Qos::Guaranteed, "a-b"), "kubepods-poda_b.slice");
        assert_eq!(sd.path(Qos::Guaranteed, "a-b"), "/kubepods.slice/kubepods-poda_b.slice");
        assert_eq!(sd.level(None), "/kubepods.slice");
        assert_eq!(sd.level(Some(Qos::Burstable)), "/kubepods.slice/kubepods-burstable.slice");
    }

    #[test]
    fn slices_of_a_v1_machine_are_made_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        let c = Cgroups::from_mountinfo(&format!(
            "1 2 0:3 / {d}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             1 2 0:3 / {d}/memory rw - cgroup cgroup rw,memory\n\
             1 2 0:3 / {d}/pids rw - cgroup cgroup rw,pids\n\
             1 2 0:3 / {d}/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        ));
        let sd = Layout { systemd: true, root: String::new(), per_qos: true };
        let uid = "4f1e-9d";
        let mut made = Vec::new();
        for qos in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            let path = sd.path(qos, uid);
            c.ensure(&path, &Limits { pids: Some(9), ..Default::default() }).unwrap();
            made.push((uid.to_owned(), path));
        }
        made.sort();
        let pids = dir.path().join("pids/kubepods.slice/kubepods-pod4f1e_9d.slice/pids.max");
        assert_eq!(std::fs::read_to_string(&pids).unwrap(), "9");
        assert_eq!(c.pod_uids(&sd), made);
        // What the kernel removes with the group, a plain directory keeps.
        for (_, path) in &made {
            std::fs::remove_file(dir.path().join("pids").join(path.trim_start_matches('/')).join("pids.max"))
                .unwrap();
            c.remove(path).unwrap();
        }
        assert!(c.pod_uids(&sd).is_empty() && c.exists("/kubepods.slice"));
    }

    #[test]
    fn what_is_left_in_a_group_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("pids/kubepods/podx/c");
        std::fs::create_dir_all(&inner).unwrap();
        let line = format!("1 2 0:3 / {}/pids rw - cgroup cgroup rw,pids\n", dir.path().display());
        let mut left = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        std::fs::write(inner.join("cgroup.procs"), format!("0\nnonsense\n{}\n", left.id())).unwrap();
        Cgroups::from_mountinfo(&line).kill("/kubepods/podx");
        assert!(!left.wait().unwrap().success());
    }

    #[test]
    fn limits_follow_the_class() {
        let pod = |y: &str| serde_yaml::from_str::<Pod>(&format!("spec: {{containers: [{y}]}}")).unwrap();
        let g =
            pod_limits(&pod("{name: a, resources: {limits: {cpu: 500m, memory: 64Mi}}}"), 100_000, true, -1);
        assert_eq!((g.shares, g.quota, g.memory, g.pids), (Some(512), Some(50_000), Some(64 << 20), None));
        let b =
            pod_limits(&pod("{name: a, resources: {limits: {cpu: 500m}}}, {name: b}"), 100_000, true, 100);
        assert_eq!((b.quota, b.memory, b.pids), (None, None, Some(100)));
        assert_eq!(pod_limits(&pod("{name: a}"), 100_000, true, -1).shares, Some(2));
    }

    #[test]
    fn mounts_of_v1_v2_and_a_tree_made_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        let text = format!(
            "1 2 0:3 / {d}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n1 2 0:3 / {d}/memory rw - cgroup none rw,memory\n"
        );
        let c = Cgroups::from_mountinfo(&text);
        assert!(!c.v2);
        c.ensure(
            "/kubepods/podx",
            &Limits { shares: Some(7), memory: Some(9), period: 1, ..Default::default() },
        )
        .unwrap();
        assert!(c.exists("/kubepods/podx"));
        assert_eq!(std::fs::read_to_string(dir.path().join("cpu/kubepods/podx/cpu.shares")).unwrap(), "7");
        let v2 = Cgroups::from_mountinfo("1 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n");
        assert!(v2.v2);
        assert_eq!(v2.mount_of("memory"), Some(Path::new("/sys/fs/cgroup")));
    }
}
