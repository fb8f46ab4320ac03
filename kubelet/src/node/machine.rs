//! What the machine is: cores, memory, disk, identities. Reading is here and forgiving; parsing is pure.

use k8s_openapi::api::core::v1::{NodeSwapStatus, NodeSystemInfo};
use std::collections::BTreeMap;
use std::path::Path;

/// Facts that do not change while the machine is up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// online cores
    pub cores: u64,
    /// bytes of memory
    pub memory: u64,
    /// bytes of swap
    pub swap: u64,
    /// bytes of the file system the kubelet's root is on
    pub disk: u64,
    /// bytes of huge pages by page size in KiB
    pub hugepages: BTreeMap<u64, u64>,
    /// nodeInfo, less what the runtime tells
    pub info: NodeSystemInfo,
}

/// Reads them all. What cannot be read stays empty.
pub fn read(root_dir: &Path) -> Facts {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let meminfo = text("/proc/meminfo");
    Facts {
        cores: cores(&text("/proc/cpuinfo")),
        memory: kib(&meminfo, "MemTotal:") * 1024,
        swap: kib(&meminfo, "SwapTotal:") * 1024,
        disk: existing(root_dir).and_then(crate::server::stats::host::disk).map_or(0, |d| d.capacity),
        hugepages: hugepages(),
        info: info(&text, kib(&meminfo, "SwapTotal:") * 1024),
    }
}

/// The path or the nearest parent that is there.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|p| p.exists())
}

fn cores(cpuinfo: &str) -> u64 {
    let listed = cpuinfo.lines().filter(|l| l.starts_with("processor")).count() as u64;
    let counted = || std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    if listed > 0 { listed } else { counted() }
}

fn kib(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|w| w.parse().ok()).unwrap_or(0)
}

/// /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
fn hugepages() -> BTreeMap<u64, u64> {
    let Ok(dirs) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return BTreeMap::new() };
    let one = |dir: std::fs::DirEntry| {
        let size = hugepage_size(&dir.file_name().to_string_lossy())?;
        let count =
            std::fs::read_to_string(dir.path().join("nr_hugepages")).ok()?.trim().parse::<u64>().ok()?;
        Some((size, count * size * 1024))
    };
    dirs.flatten().filter_map(one).collect()
}

fn hugepage_size(dir: &str) -> Option<u64> {
    dir.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
}

fn info(text: &impl Fn(&str) -> String, swap: u64) -> NodeSystemInfo {
    let uname = nix::sys::utsname::uname().ok();
    let machine = uname.as_ref().map(|u| u.machine().to_string_lossy().into_owned()).unwrap_or_default();
    let first = |paths: &[&str]| {
        paths.iter().map(|p| text(p).trim().to_owned()).find(|t| !t.is_empty()).unwrap_or_default()
    };
    let machine_id = first(&["/etc/machine-id", "/var/lib/dbus/machine-id"]);
    let system_uuid = first(&["/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid"]);
    NodeSystemInfo {
        system_uuid: if system_uuid.is_empty() { machine_id.clone() } else { system_uuid },
        machine_id,
        boot_id: first(&["/proc/sys/kernel/random/boot_id"]),
        kernel_version: uname.map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default(),
        os_image: os_image(&first(&["/etc/os-release", "/usr/lib/os-release"])),
        kubelet_version: super::VERSION.into(),
        operating_system: "linux".into(),
        architecture: architecture(&machine).into(),
        swap: (swap > 0).then(|| NodeSwapStatus { capacity: i64::try_from(swap).ok() }),
        ..Default::default()
    }
}

/// Go's name of a machine type.
pub fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" => "arm",
        "i686" | "i386" => "386",
        other => other,
    }
}

fn os_image(os_release: &str) -> String {
    let value = os_release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    value.map_or_else(|| "Linux".to_owned(), |v| v.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts() {
        assert_eq!(cores("processor\t: 0\nmodel: x\n\nprocessor\t: 1\n"), 2);
        assert!(cores("") >= 1);
        assert_eq!(kib("MemTotal:       24576 kB\nMemFree: 1 kB\n", "MemTotal:"), 24576);
        assert_eq!(hugepage_size("hugepages-2048kB"), Some(2048));
        assert_eq!(hugepage_size("hugepages-x"), None);
        assert_eq!(
            os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_image(""), "Linux");
        assert_eq!(architecture("x86_64"), "amd64");
    }

    #[test]
    fn this_machine() {
        let facts = read(Path::new("/no/such/dir"));
        assert!(facts.memory > 0 && facts.disk > 0);
        assert_eq!(facts.info.boot_id.len(), 36);
    }
}
