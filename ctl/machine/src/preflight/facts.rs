//! What is so on this machine, gathered for the checks to decide upon.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use super::{Wanted, kernel};
use crate::{Services, State, cri, files, process};

/// A name is resolved, a program asked for its version, within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whether a name can be resolved is no reason to wait longer.
const RESOLVING: Duration = Duration::from_millis(300);
/// Directories whose file systems must have room.
const ROOM: [&str; 6] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    crate::paths::VERSIONS,
    "/etc/kubernetes",
    crate::paths::STATE,
    "/var/log",
];
/// Programs kubeadm looks for.
const TOOLS: [&str; 3] = ["losetup", "mount", "cp"];
/// Plug-ins of our pod network.
const PLUGINS: [&str; 4] = ["bridge", "host-local", "portmap", "loopback"];

/// Who holds a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// Process id, 0 when it can't be found.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// It is the daemon of ours that belongs there.
    pub ours: bool,
}

/// Room on a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The directory asked for.
    pub path: PathBuf,
    /// Free bytes.
    pub free: u64,
    /// All bytes.
    pub size: u64,
    /// Free names (inodes); file systems without a limit say `u64::MAX`.
    pub names: u64,
}

/// What is so.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Effective user.
    pub uid: u32,
    /// Processors.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// firewalld runs.
    pub firewalld: bool,
    /// Ports that can't be listened on.
    pub taken: BTreeMap<u16, Holder>,
    /// Which of the asked paths are there.
    pub files: BTreeSet<PathBuf>,
    /// Directories that are not empty.
    pub full_dirs: BTreeSet<PathBuf>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// What is wrong with the runtime.
    pub cri: Option<String>,
    /// The runtime names its cgroup driver.
    pub names_driver: bool,
    /// Pause image the runtime is configured with, if it says; and whether it is there.
    pub sandbox: Option<(String, bool)>,
    /// Entries of /proc/swaps.
    pub swaps: Vec<String>,
    /// Programs that are not on the PATH.
    pub missing_tools: Vec<String>,
    /// CNI plug-ins that are nowhere.
    pub missing_plugins: Vec<String>,
    /// Kernel release.
    pub release: String,
    /// Kernel configuration, if it can be read.
    pub config: Option<BTreeMap<String, bool>>,
    /// cgroup v2.
    pub cgroup_v2: bool,
    /// Controllers.
    pub controllers: Vec<String>,
    /// The node's name can be resolved.
    pub resolves: bool,
    /// What the kubelet says of its version, or why it doesn't.
    pub kubelet: Option<String>,
    /// Settings: value, and whether it could be changed; none when there is no such setting.
    pub settings: BTreeMap<String, Option<(String, bool)>>,
    /// File systems.
    pub rooms: Vec<Room>,
    /// Wanted programs that are nowhere, in words.
    pub missing_programs: Vec<String>,
}

/// Ports and the daemons of ours that belong there.
pub fn ports(wanted: &Wanted) -> Vec<(u16, &'static str)> {
    let mut ports = Vec::new();
    if wanted.command.makes_control_plane() {
        ports.extend([
            (wanted.bind_port, "kube-apiserver"),
            (10259, "kube-scheduler"),
            (10257, "kube-controller-manager"),
        ]);
    }
    if wanted.command.makes_node() {
        ports.extend([(10250, "kubelet"), (6444, "coxswain-balancer")]);
    }
    if wanted.command.makes_control_plane() && wanted.etcd_data_dir.is_some() {
        ports.extend([(2379, "coxswain-etcd"), (2380, "coxswain-etcd")]);
    }
    ports
}

/// Settings that are looked at.
pub const SETTINGS: [&str; 3] =
    ["net/ipv4/ip_forward", "net/ipv6/conf/default/forwarding", "net/bridge/bridge-nf-call-iptables"];

/// Looks at everything; no finding is an error here.
pub async fn gather(wanted: &Wanted, services: &dyn Services) -> Facts {
    let mut facts = Facts {
        uid: nix::unistd::geteuid().as_raw(),
        env: std::env::vars().collect(),
        release: text("/proc/sys/kernel/osrelease").trim().to_string(),
        ..Facts::default()
    };
    if wanted.command == super::Command::Reset {
        return facts;
    }
    machine(&mut facts);
    system(&mut facts);
    facts.files = super::decide::paths(wanted).into_iter().filter(|p| files::there(p)).collect();
    facts.files.extend(wanted.external_etcd_files.iter().filter(|p| p.is_file()).cloned());
    let dirs = wanted.etcd_data_dir.iter().cloned();
    facts.full_dirs = dirs.filter(|d| files::names(d).is_ok_and(|n| !n.is_empty())).collect();
    facts.taken = taken(&ports(wanted), services);
    facts.rooms = rooms(wanted);
    facts.missing_programs = wanted
        .programs
        .iter()
        .filter_map(|p| services.program(Path::new(p)).err())
        .map(|e| e.to_string())
        .collect();
    if wanted.command.makes_node() {
        facts.resolves = resolves(&wanted.node_name).await;
        facts.kubelet = kubelet_version(services);
    }
    runtime(&mut facts, &wanted.cri_socket).await;
    facts
}

fn machine(facts: &mut Facts) {
    facts.cpus = std::thread::available_parallelism().map_or(1, usize::from);
    facts.memory = memory(&text("/proc/meminfo"));
    facts.firewalld = Path::new("/run/firewalld.pid").exists() || running("firewalld");
    facts.swaps = swaps(&text("/proc/swaps"));
    facts.missing_tools = TOOLS.iter().filter(|t| !on_path(t)).map(ToString::to_string).collect();
    let dirs = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
    let nowhere = |p: &&&str| !dirs.iter().any(|d| Path::new(d).join(p).exists());
    facts.missing_plugins = PLUGINS.iter().filter(nowhere).map(ToString::to_string).collect();
}

fn system(facts: &mut Facts) {
    facts.config = kernel_config(&facts.release);
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers");
    facts.cgroup_v2 = v2.exists();
    facts.controllers = if facts.cgroup_v2 {
        text("/sys/fs/cgroup/cgroup.controllers").split_whitespace().map(Into::into).collect()
    } else {
        kernel::parse_v1_controllers(&text("/proc/cgroups"))
    };
    facts.settings = SETTINGS.iter().map(|name| (name.to_string(), setting(name))).collect();
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn swaps(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|l| l.split_whitespace().next()).map(Into::into).collect()
}

fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).any(|d| d.join(tool).exists())
}

/// Whether a process of this name lives.
fn running(name: &str) -> bool {
    let pids = files::names(Path::new("/proc")).unwrap_or_default();
    pids.iter().any(|p| text(&format!("/proc/{p}/comm")).trim() == name)
}

fn setting(name: &str) -> Option<(String, bool)> {
    let path = Path::new("/proc/sys").join(name);
    let value = fs::read_to_string(&path).ok()?;
    let writable = fs::OpenOptions::new().write(true).open(&path).is_ok();
    Some((value.trim().to_string(), writable))
}

fn kernel_config(release: &str) -> Option<BTreeMap<String, bool>> {
    let packed = fs::File::open("/proc/config.gz").ok().and_then(|file| {
        let mut text = String::new();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).ok()?;
        Some(text)
    });
    let places = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
    let plain = || places.iter().find_map(|p| fs::read_to_string(p).ok());
    packed.or_else(plain).map(|text| kernel::parse_config(&text))
}

fn rooms(wanted: &Wanted) -> Vec<Room> {
    let etcd = wanted.etcd_data_dir.iter().cloned();
    let mut rooms: Vec<Room> =
        etcd.chain(ROOM.iter().map(PathBuf::from)).filter_map(|path| room(&path)).collect();
    // One line per file system, named by the first directory on it.
    let mut seen = BTreeSet::new();
    rooms.retain(|r| seen.insert((r.free, r.names)));
    rooms
}

/// Free bytes where a path is, or will be.
pub fn free(path: &Path) -> Option<u64> {
    room(path).map(|r| r.free)
}

fn room(path: &Path) -> Option<Room> {
    let there = path.ancestors().find(|p| p.exists())?;
    let stat = nix::sys::statvfs::statvfs(there).ok()?;
    let names = if stat.files() == 0 { u64::MAX } else { stat.files_available() };
    Some(Room {
        path: path.into(),
        free: stat.blocks_available() * stat.fragment_size(),
        size: stat.blocks() * stat.fragment_size(),
        names,
    })
}

fn taken(ports: &[(u16, &'static str)], services: &dyn Services) -> BTreeMap<u16, Holder> {
    let free = |port: u16| {
        ["0.0.0.0", "::"].iter().all(|a| match TcpListener::bind((*a, port)) {
            Ok(_) => true,
            Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
        })
    };
    let mut all = BTreeMap::new();
    for (port, daemon) in ports.iter().filter(|(port, _)| !free(*port)) {
        let mut holder = holder(*port).unwrap_or_default();
        holder.ours = matches!(services.state(daemon), Ok(State::Running { pid, .. }) if pid == holder.pid);
        all.insert(*port, holder);
    }
    all
}

/// Finds the process that listens on a port, by the socket's inode.
fn holder(port: u16) -> Option<Holder> {
    let tables = text("/proc/net/tcp") + &text("/proc/net/tcp6");
    let inode = listening_inode(&tables, port)?;
    let wanted = format!("socket:[{inode}]");
    let pids = files::names(Path::new("/proc")).ok()?;
    for pid in pids.iter().filter_map(|p| p.parse::<u32>().ok()) {
        let fds = format!("/proc/{pid}/fd");
        let has = files::names(Path::new(&fds)).unwrap_or_default();
        let link = |fd: &String| {
            fs::read_link(format!("{fds}/{fd}")).is_ok_and(|l| l.as_os_str() == wanted.as_str())
        };
        if has.iter().any(link) {
            return Some(Holder { pid, name: text(&format!("/proc/{pid}/comm")).trim().into(), ours: false });
        }
    }
    None
}

fn listening_inode(tables: &str, port: u16) -> Option<String> {
    let end = format!(":{port:04X}");
    let one = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&end) && *fields.get(3)? == "0A";
        listens.then(|| fields.get(9).map(ToString::to_string))?
    };
    tables.lines().find_map(one)
}

async fn resolves(name: &str) -> bool {
    use std::net::ToSocketAddrs;
    let (tell, told) = tokio::sync::oneshot::channel();
    let name = name.to_string();
    // A thread of its own: the program must not wait at its end for a name server that does not answer.
    std::thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs().is_ok_and(|mut all| all.next().is_some());
        let _ = tell.send(found);
    });
    matches!(tokio::time::timeout(RESOLVING, told).await, Ok(Ok(true)))
}

fn kubelet_version(services: &dyn Services) -> Option<String> {
    let program = services.program(Path::new("kubelet")).ok()?;
    let said = process::output(Process::new(program).arg("--version"), PATIENCE).ok()?;
    Some(said.trim().trim_start_matches("Kubernetes ").to_string())
}

async fn runtime(facts: &mut Facts, socket: &str) {
    if socket.is_empty() {
        return;
    }
    if let Err(error) = cri::ready(socket).await {
        facts.cri = Some(format!("{error:#}"));
        return;
    }
    facts.names_driver = matches!(cri::cgroup_driver(socket).await, Ok(Some(_)));
    let image = cri::sandbox_image(&cri::configuration(socket).await.unwrap_or_default());
    if !image.is_empty() {
        let there = cri::has_image(socket, &image).await.unwrap_or(false);
        facts.sandbox = Some((image, there));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files() {
        assert_eq!(memory("MemTotal:       1740000 kB\nMemFree: 1 kB\n"), 1_740_000 * 1024);
        assert_eq!(swaps("Filename Type Size\n/dev/sda2 partition 1 0 -2\n"), ["/dev/sda2"]);
        assert!(swaps("Filename Type Size\n").is_empty());
        let tcp = "  sl  local_address rem_address st\n   0: 0100007F:192B 00000000:0000 0A 0:0 0:0 0 0 0 777 1\n   \
            1: 0100007F:28 0100007F:192B 01 0:0 0:0 0 0 0 888 1\n";
        assert_eq!(listening_inode(tcp, 6443).as_deref(), Some("777"));
        assert_eq!(listening_inode(tcp, 40), None);
    }

    #[test]
    fn the_holder_of_a_port_is_found() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let holder = holder(port).unwrap_or_default();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.name.is_empty());
        Ok(())
    }

    #[test]
    fn room_is_that_of_the_nearest_directory() {
        let room = room(Path::new("/no/such/directory"));
        assert!(room.is_some_and(|r| r.path == Path::new("/no/such/directory") && r.free > 0));
    }
}
