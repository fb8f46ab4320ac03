//! The checks: pure functions of what is wanted and what is so.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::facts::ports;
use super::{Check, Command, Facts, Level, Wanted, kernel, proxy};
use crate::Made;

/// kubeadm's minimum of memory, in bytes.
const MEMORY: u64 = 1700 << 20;
/// Less room than this and a control plane does not come up; less than that and it soon fails.
const NO_ROOM: u64 = 200 << 20;
const LITTLE_ROOM: u64 = 2 << 30;
/// The kubelet's default threshold for the disk of images (`imagefs.available`), in percent.
const PRESSURE: u64 = 15;
/// Certificates are valid from five minutes before they are made; clocks that differ more break TLS.
const SKEW_LIMIT: i64 = 240;
/// Worth a word: leases and tokens count seconds.
const SKEW_NOTICE: i64 = 10;
/// The minor version this build serves.
const MINOR: u32 = 36;

fn check(
    name: impl Into<String>,
    level: Level,
    message: impl Into<String>,
    cure: impl Into<String>,
) -> Check {
    Check { name: name.into(), level, message: message.into(), cure: cure.into() }
}

fn error(name: impl Into<String>, message: impl Into<String>, cure: impl Into<String>) -> Check {
    check(name, Level::Error, message, cure)
}

fn warning(name: impl Into<String>, message: impl Into<String>, cure: impl Into<String>) -> Check {
    check(name, Level::Warning, message, cure)
}

/// Everything that is to be said about this machine.
pub fn all(wanted: &Wanted, facts: &Facts, made: &Made) -> Vec<Check> {
    let mut checks = privileged(facts);
    if wanted.command == Command::Reset {
        return checks;
    }
    checks.extend(runtime(wanted, facts));
    checks.extend(system(facts));
    checks.extend(room(facts));
    if wanted.command.makes_node() {
        checks.extend(previous(wanted, made));
        checks.extend(taken_ports(wanted, facts));
        checks.extend(taken_files(wanted, facts, made));
        checks.extend(settings(wanted, facts));
        checks.extend(tools(facts));
        checks.extend(node(wanted, facts));
        checks.extend(networks(wanted, facts));
        checks.extend(clock(wanted));
        checks.extend(wanted.found.iter().cloned());
    }
    if wanted.command.makes_control_plane() {
        checks.extend(size(wanted, facts));
        checks.extend(etcd(wanted, facts, made));
    }
    checks
}

fn privileged(facts: &Facts) -> Vec<Check> {
    let wrong = facts.uid != 0;
    let found =
        wrong.then(|| error("IsPrivilegedUser", "user is not running as root", "run the command with sudo"));
    found.into_iter().collect()
}

fn size(wanted: &Wanted, facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    if facts.cpus < 2 {
        let message = format!("the number of available CPUs {} is less than the required 2", facts.cpus);
        checks.push(error("NumCPU", message, "give the machine another CPU"));
    }
    if facts.memory < MEMORY {
        let message = format!(
            "the system RAM ({} MB) is less than the minimum {} MB",
            facts.memory >> 20,
            MEMORY >> 20
        );
        checks.push(error("Mem", message, "give the machine more memory"));
    }
    if minor(&wanted.kubernetes_version).is_some_and(|m| m > MINOR) {
        let message = format!(
            "Kubernetes version {} is newer than the 1.{MINOR} this coxctl knows",
            wanted.kubernetes_version
        );
        checks.push(warning("KubernetesVersion", message, "use a coxctl of that version"));
    }
    if facts.firewalld {
        let message = format!(
            "firewalld is active, please ensure ports [{} 10250] are open or your cluster may not function correctly",
            wanted.bind_port
        );
        checks.push(warning(
            "Firewalld",
            message,
            "open them with firewall-cmd --add-port, for etcd 2379-2380 too",
        ));
    }
    checks
}

/// The minor number of `v1.36.2`.
fn minor(version: &str) -> Option<u32> {
    let mut parts = version.trim_start_matches('v').split('.');
    (parts.next() == Some("1")).then(|| parts.next()?.parse().ok())?
}

fn taken_ports(wanted: &Wanted, facts: &Facts) -> Vec<Check> {
    let one = |(port, daemon): &(u16, &'static str)| {
        let holder = facts.taken.get(port).filter(|h| !h.ours)?;
        let by = if holder.pid == 0 {
            String::new()
        } else {
            format!(" by {} (process {})", holder.name, holder.pid)
        };
        let cure = if holder.pid == 0 {
            String::from("find out with `ss -ltnp`")
        } else {
            format!("stop {}", holder.name)
        };
        let message = format!("Port {port} is in use{by}; {daemon} needs it");
        let cure =
            format!("{cure}; if it is left of another cluster, run `coxctl reset` (or `kubeadm reset`)");
        Some(error(format!("Port-{port}"), message, cure))
    };
    ports(wanted).iter().filter_map(one).collect()
}

/// Files that must not be there, because we would not overwrite them.
pub fn paths(wanted: &Wanted) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    if wanted.command.makes_control_plane() {
        let names = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"];
        paths.extend(names.map(|n| format!("/etc/kubernetes/manifests/{n}.yaml").into()));
    }
    if matches!(wanted.command, Command::JoinWorker | Command::JoinControlPlane) {
        paths.extend(
            ["kubelet.conf", "bootstrap-kubelet.conf"].map(|n| format!("/etc/kubernetes/{n}").into()),
        );
    }
    if wanted.command == Command::JoinWorker && !wanted.ca_cert_path.as_os_str().is_empty() {
        paths.push(wanted.ca_cert_path.clone());
    }
    paths
}

/// `/a/b` as kubeadm puts it into a check's name.
fn dashed(path: &Path) -> String {
    path.display().to_string().replace('/', "-")
}

fn taken_files(wanted: &Wanted, facts: &Facts, made: &Made) -> Vec<Check> {
    let found = paths(wanted).into_iter().filter(|p| facts.files.contains(p) && !made.contains(p));
    let cure =
        "it is of another cluster or of kubeadm: run `coxctl reset` (or `kubeadm reset`), or remove it";
    let mut checks: Vec<Check> = found
        .map(|p| {
            error(format!("FileAvailable-{}", dashed(&p)), format!("{} already exists", p.display()), cure)
        })
        .collect();
    let data = wanted.etcd_data_dir.iter().filter(|_| wanted.command.makes_control_plane());
    for dir in data.filter(|d| facts.full_dirs.contains(*d) && !made.contains(&d.join("member"))) {
        checks.push(error(
            format!("DirAvailable-{}", dashed(dir)),
            format!("{} is not empty", dir.display()),
            "it holds another etcd's data: back it up and empty it, or run `coxctl reset`",
        ));
    }
    checks
}

/// Half of a previous install, or a whole one, of another kind.
fn previous(wanted: &Wanted, made: &Made) -> Vec<Check> {
    let Some(run) = made.run() else { return Vec::new() };
    let command = if wanted.command == Command::Init { "init" } else { "join" };
    if run.command == command && goes_on(&run.fingerprint, &wanted.fingerprint, run.finished) {
        return Vec::new();
    }
    let begun = if run.finished { "is part of a cluster" } else { "holds half of a previous install" };
    let other = if run.command == command { " with another configuration" } else { "" };
    let message = format!("this machine {begun}: `{}` was run here{other}", run.command);
    let cure = match run.finished || run.command != command {
        true => "run `coxctl reset` first".to_string(),
        false => format!("run `{}` again as it was, or `coxctl reset` to begin anew", run.command),
    };
    vec![error("PreviousInstall", message, cure)]
}

/// Whether a run is the same as the one before: all of its fingerprint, or while that has not finished the part before `|`,
/// so that arguments which were wrong can be mended.
fn goes_on(before: &str, now: &str, finished: bool) -> bool {
    let essence = |text: &str| text.split_once('|').map(|(first, _)| first.to_string());
    before == now || (!finished && essence(before).is_some() && essence(before) == essence(now))
}

fn runtime(wanted: &Wanted, facts: &Facts) -> Vec<Check> {
    if wanted.cri_socket.is_empty() {
        return Vec::new();
    }
    if let Some(trouble) = &facts.cri {
        let message = format!("container runtime is not running: {trouble}");
        // An upgrade looks at the runtime only for what it can do.
        let found = wanted.command.makes_node();
        return found
            .then(|| error("CRI", message, cri_cure(trouble, &wanted.cri_socket)))
            .into_iter()
            .collect();
    }
    let mut checks = Vec::new();
    if !facts.names_driver {
        checks.push(warning(
            "ContainerRuntimeVersion",
            "the container runtime does not tell its cgroup driver (CRI RuntimeConfig); it is taken from its configuration",
            "containerd 2.0 and newer can",
        ));
    }
    if let Some((image, false)) = facts.sandbox.as_ref().filter(|s| !wanted.images.contains(&s.0)) {
        let ours = wanted.images.iter().find(|i| i.contains("/pause:"));
        let ours = ours.map_or("coxswain.local/pause:1", String::as_str);
        checks.push(warning(
            "SandboxImage",
            format!("containerd starts pods with {image}, which is not on this machine: it would be pulled"),
            format!("set sandbox_image = \"{ours}\" in /etc/containerd/config.toml and restart containerd"),
        ));
    }
    checks
}

fn cri_cure(trouble: &str, socket: &str) -> String {
    let told = |signs: &[&str]| signs.iter().any(|s| trouble.contains(s));
    if told(&["unknown service", "nimplemented"]) {
        return "its CRI plug-in is off: take \"cri\" out of disabled_plugins in /etc/containerd/config.toml and restart containerd".into();
    }
    if told(&["there is no socket"]) {
        return format!(
            "install and start a runtime (apt install containerd), or give the right socket with --cri-socket; {socket} was tried"
        );
    }
    if told(&["nothing answers", "did not answer"]) {
        return "start it again (systemctl restart containerd) and see journalctl -u containerd".into();
    }
    "see the runtime's own log (journalctl -u containerd)".into()
}

fn system(facts: &Facts) -> Vec<Check> {
    let name = "SystemVerification";
    let mut checks = Vec::new();
    if !kernel::release_is_good(&facts.release) {
        let message = format!("unsupported kernel release: {}", facts.release);
        checks.push(error(name, message, "use a kernel 5.4, 5.10, 5.15 or 6 and later"));
    }
    match &facts.config {
        None => checks.push(warning(name, "the kernel's configuration can't be read", "")),
        Some(config) => {
            let missing = kernel::missing_options(config, facts.cgroup_v2);
            if !missing.is_empty() {
                let message = format!("missing required kernel options: {}", missing.join(", "));
                checks.push(error(name, message, "use a distribution's kernel"));
            }
        }
    }
    let missing = kernel::missing_controllers(&facts.controllers, facts.cgroup_v2);
    if !missing.is_empty() {
        let message = format!("missing cgroup controllers: {}", missing.join(", "));
        checks.push(error(name, message, "enable them on the kernel's command line (cgroup_enable=…)"));
    }
    if !facts.cgroup_v2 {
        let message =
            "cgroups v1 support is in maintenance mode; the kubelet is told to take it (failCgroupV1: false)";
        checks.push(warning(name, message, "boot with systemd.unified_cgroup_hierarchy=1"));
    }
    checks
}

fn room(facts: &Facts) -> Vec<Check> {
    let one = |room: &super::facts::Room| {
        let (path, free) = (room.path.display(), room.free >> 20);
        let cure = "free some space (df -h shows where)";
        if room.names < 1000 {
            let message = format!("{path}: the file system has no names (inodes) left");
            return Some(error("DiskSpace", message, "remove many small files (df -i shows where)"));
        }
        match room.free {
            0..NO_ROOM => {
                Some(error("DiskSpace", format!("{path}: the disk is full, {free} MB are free"), cure))
            }
            NO_ROOM..LITTLE_ROOM => {
                Some(warning("DiskSpace", format!("{path}: only {free} MB are free on the disk"), cure))
            }
            _ if room.free.saturating_mul(100) < room.size.saturating_mul(PRESSURE) => {
                let percent = room.free.saturating_mul(100) / room.size.max(1);
                let message = format!(
                    "{path}: {percent} % of the disk are free; below {PRESSURE} % the kubelet sees disk pressure, and no pods come here"
                );
                Some(warning(
                    "DiskSpace",
                    message,
                    format!("{cure}, or lower the kubelet's evictionHard thresholds"),
                ))
            }
            _ => None,
        }
    };
    facts.rooms.iter().filter_map(one).collect()
}

/// What ours can set by itself is only told when it can't.
fn settings(wanted: &Wanted, facts: &Facts) -> Vec<Check> {
    let v6 = wanted.pod_subnets.iter().chain(&wanted.service_subnets).any(|s| s.contains(':'));
    let names: &[&str] = if v6 {
        &["net/ipv4/ip_forward", "net/ipv6/conf/default/forwarding"]
    } else {
        &["net/ipv4/ip_forward"]
    };
    let mut checks = Vec::new();
    for name in names {
        let Some(Some((value, false))) = facts.settings.get(*name) else { continue };
        if value != "1" {
            let message =
                format!("/proc/sys/{name} contents are not set to 1, and it can't be set from here");
            let cure = format!("set it on the host: sysctl -w {}=1", name.replace('/', "."));
            checks.push(error(format!("FileContent--proc-sys-{}", dashed(Path::new(name))), message, cure));
        }
    }
    let bridge = "net/bridge/bridge-nf-call-iptables";
    if facts.settings.get(bridge).is_some_and(Option::is_none) {
        checks.push(warning(
            format!("FileContent--proc-sys-{}", dashed(Path::new(bridge))),
            "the kernel module br_netfilter is not loaded: pods can't reach services of pods on their own node",
            "modprobe br_netfilter, and put it into /etc/modules-load.d/",
        ));
    }
    checks
}

fn tools(facts: &Facts) -> Vec<Check> {
    let mut checks: Vec<Check> = facts
        .missing_tools
        .iter()
        .map(|t| {
            error(
                format!("FileExisting-{t}"),
                format!("{t} not found in system path"),
                "install it (util-linux, mount, coreutils)",
            )
        })
        .collect();
    if !facts.missing_plugins.is_empty() {
        let message = format!("CNI plug-ins are missing: {}", facts.missing_plugins.join(", "));
        checks.push(warning("CNIPlugins", message, "install containernetworking-plugins"));
    }
    if !facts.missing_programs.is_empty() {
        let message = facts.missing_programs.join("; ");
        checks.push(error("Programs", message, "give a bundle with --bundle FILE, or install the programs"));
    }
    checks
}

fn node(wanted: &Wanted, facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    if !facts.swaps.is_empty() {
        let message = format!(
            "swap is on ({}); the kubelet does not start with it unless failSwapOn: false is set",
            facts.swaps.join(", ")
        );
        checks.push(warning("Swap", message, "swapoff -a, and take it out of /etc/fstab"));
    }
    if !is_node_name(&wanted.node_name) {
        let message = format!("hostname \"{}\" is not a lowercase RFC 1123 subdomain", wanted.node_name);
        checks.push(warning("Hostname", message, "give another name with --node-name"));
    } else if !facts.resolves {
        let message = format!("hostname \"{}\" could not be resolved", wanted.node_name);
        checks.push(warning("Hostname", message, "put it into DNS or /etc/hosts"));
    }
    checks.extend(kubelet(wanted, facts));
    checks
}

fn is_node_name(name: &str) -> bool {
    let label = |l: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !l.is_empty() && l.chars().all(plain) && !l.starts_with('-') && !l.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn kubelet(wanted: &Wanted, facts: &Facts) -> Option<Check> {
    let version = wanted.bundled.as_deref().or(facts.kubelet.as_deref())?;
    let Some(kubelet) = minor(version) else {
        return Some(warning("KubeletVersion", format!("the kubelet's version is not one: {version}"), ""));
    };
    if kubelet + 3 < MINOR {
        let message = format!("the kubelet is {version}, older than this coxctl (1.{MINOR}) by more than 3");
        return Some(error("KubeletVersion", message, "upgrade the kubelet"));
    }
    let (plane, of) = (minor(&wanted.kubernetes_version)?, &wanted.kubernetes_version);
    if kubelet > plane {
        let message = format!("the kubelet version {version} is higher than the control plane version {of}");
        let cure = format!("upgrade the control planes first, or use a bundle of 1.{plane}");
        return Some(error("KubeletVersion", message, cure));
    }
    if kubelet + 3 < plane {
        let message = format!(
            "the kubelet version {version} is older than the control plane version {of} by more than 3"
        );
        return Some(error("KubeletVersion", message, format!("use a bundle of 1.{plane}")));
    }
    (wanted.command == Command::JoinControlPlane && kubelet + 1 < plane).then(|| {
        let message = format!(
            "a control plane of {version} can't join one of {of}: they may differ by one minor version"
        );
        error("KubernetesVersion", message, format!("use a bundle of 1.{plane}"))
    })
}

fn networks(wanted: &Wanted, facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(via) =
        Some(&wanted.server).filter(|s| !s.is_empty()).and_then(|s| proxy::for_https(s, &facts.env))
    {
        let message = format!("connection to \"https://{}\" uses proxy \"{via}\"", wanted.server);
        checks.push(warning("HTTPProxy", message, format!("add {} to NO_PROXY", wanted.server)));
    }
    if wanted.command != Command::Init {
        return checks;
    }
    for text in wanted.service_subnets.iter().chain(&wanted.pod_subnets) {
        let Ok(net) = text.parse::<IpNet>() else {
            checks.push(error("HTTPProxyCIDR", format!("{text} is not a CIDR"), "mend the configuration"));
            continue;
        };
        if let Some(via) = proxy::for_https(&first(net).to_string(), &facts.env) {
            let message = format!("connection to \"{text}\" uses proxy \"{via}\"");
            checks.push(warning("HTTPProxyCIDR", message, format!("add {text} to NO_PROXY")));
        }
    }
    checks
}

fn first(net: IpNet) -> IpAddr {
    net.hosts().next().unwrap_or(net.addr())
}

fn clock(wanted: &Wanted) -> Vec<Check> {
    let Some(skew) = wanted.clock_skew else { return Vec::new() };
    let way = if skew > 0 { "behind" } else { "ahead of" };
    let message = format!("this machine's clock is {} seconds {way} the API server's", skew.abs());
    let cure = "set the clock and keep it (apt install chrony; timedatectl)";
    match skew.abs() {
        s if s > SKEW_LIMIT => {
            vec![error("ClockSkew", format!("{message}: certificates would not be valid"), cure)]
        }
        s if s > SKEW_NOTICE => vec![warning("ClockSkew", message, cure)],
        _ => Vec::new(),
    }
}

fn etcd(wanted: &Wanted, facts: &Facts, _made: &Made) -> Vec<Check> {
    let gone = wanted.external_etcd_files.iter().filter(|f| !facts.files.contains(*f));
    let mut checks: Vec<Check> = gone
        .map(|f| {
            let message = format!("{} doesn't exist", f.display());
            error("ExternalEtcdClientCertificates", message, "copy the etcd client's files to this machine")
        })
        .collect();
    for (endpoint, answer) in &wanted.external_etcd_versions {
        let found = match answer {
            Err(trouble) => Some(format!("{endpoint} does not tell its version: {trouble}")),
            Ok(version) if !etcd_is_new_enough(version) => Some(format!("{endpoint} runs etcd {version}")),
            Ok(_) => None,
        };
        checks.extend(
            found.map(|m| {
                error("ExternalEtcdVersion", m, "use etcd 3.4 or newer that this machine can reach")
            }),
        );
    }
    checks
}

/// Ours needs less than upstream, which asks for 3.5.24.
fn etcd_is_new_enough(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split(['.', '-']).map(|p| p.parse::<u32>().ok());
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    matches!((major, minor), (Some(3), Some(4..)) | (Some(4..), Some(_)))
}

#[cfg(test)]
mod tests;
