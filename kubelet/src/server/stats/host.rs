//! The machine's own figures from /proc and the cgroup root.

use super::sample::{Cpu, Disk, Interface, Memory, now};
use std::path::Path;

/// Use of the node.
#[derive(Clone, Debug, Default)]
pub struct HostUse {
    /// CPU
    pub cpu: Cpu,
    /// memory
    pub memory: Memory,
    /// interfaces, the one with the default route first
    pub network: Vec<Interface>,
    /// start, Unix seconds
    pub booted: i64,
    /// most processes and the present number
    pub processes: (u64, u64),
}

/// Reads it; what cannot be read is zero.
pub fn read() -> HostUse {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = text("/proc/stat");
    let time = now();
    HostUse {
        cpu: Cpu { time, total: cpu_total(&stat, &text), rate: None },
        memory: memory(time, &text("/proc/meminfo"), &text),
        network: interfaces(&text("/proc/net/dev"), &text("/proc/net/route")),
        booted: word_after(&stat, "btime ").unwrap_or(0) as i64,
        processes: (
            text("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0),
            loadavg_processes(&text("/proc/loadavg")),
        ),
    }
}

/// Core nanoseconds: from the cgroup root where there is one, else from /proc/stat (in 1/100 s).
fn cpu_total(stat: &str, text: &impl Fn(&str) -> String) -> u64 {
    let v1 = text("/sys/fs/cgroup/cpuacct/cpuacct.usage").trim().parse().ok();
    let v2 = || word_after(&text("/sys/fs/cgroup/cpu.stat"), "usage_usec ").map(|usec| usec * 1000);
    v1.or_else(v2).unwrap_or_else(|| busy(stat) * 10_000_000)
}

/// All ticks but idle and iowait of the first line.
fn busy(stat: &str) -> u64 {
    let line = stat.lines().find(|l| l.starts_with("cpu ")).unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8).enumerate();
    ticks.filter(|(i, _)| *i != 3 && *i != 4).filter_map(|(_, t)| t.parse::<u64>().ok()).sum()
}

fn memory(time: i64, meminfo: &str, text: &impl Fn(&str) -> String) -> Memory {
    let kib = |name: &str| word_after(meminfo, name).unwrap_or(0) * 1024;
    let total = kib("MemTotal:");
    let stat = text("/sys/fs/cgroup/memory/memory.stat");
    let usage_v1: Option<u64> = text("/sys/fs/cgroup/memory/memory.usage_in_bytes").trim().parse().ok();
    let usage = usage_v1.unwrap_or_else(|| total.saturating_sub(kib("MemFree:")));
    let inactive = word_after(&stat, "total_inactive_file ").unwrap_or_else(|| kib("Inactive(file):"));
    let working_set = usage.saturating_sub(inactive);
    Memory {
        time,
        working_set,
        usage,
        rss: word_after(&stat, "total_rss ").unwrap_or_else(|| kib("AnonPages:")),
        available: Some(total.saturating_sub(working_set)),
        faults: word_after(&stat, "total_pgfault ").unwrap_or(0),
        major_faults: word_after(&stat, "total_pgmajfault ").unwrap_or(0),
    }
}

/// The first number after `name` at the beginning of a line.
fn word_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|l| l.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// `0.00 0.01 0.05 1/230 4242`: 230.
fn loadavg_processes(text: &str) -> u64 {
    let pair = text.split_whitespace().nth(3).unwrap_or_default();
    pair.split_once('/').and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

fn interfaces(dev: &str, route: &str) -> Vec<Interface> {
    let main = route.lines().skip(1).find_map(|l| {
        let mut words = l.split_whitespace();
        let (name, destination) = (words.next()?, words.next()?);
        (destination == "00000000").then(|| name.to_owned())
    });
    let mut all: Vec<Interface> = dev.lines().skip(2).filter_map(interface).collect();
    all.retain(|i| i.name != "lo" && !i.name.starts_with("veth"));
    all.sort_by_key(|i| Some(&i.name) != main.as_ref());
    all
}

fn interface(line: &str) -> Option<Interface> {
    let (name, rest) = line.split_once(':')?;
    let n: Vec<u64> = rest.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    Some(Interface {
        name: name.trim().to_owned(),
        rx: *n.first()?,
        rx_errors: *n.get(2)?,
        tx: *n.get(8)?,
        tx_errors: *n.get(10)?,
    })
}

/// Size and room of the file system a path is on.
pub fn disk(path: &Path) -> Option<Disk> {
    let s = nix::sys::statvfs::statvfs(path).ok()?;
    let unit = s.fragment_size();
    let (capacity, free) = (s.blocks() * unit, s.blocks_free() * unit);
    Some(Disk {
        capacity,
        available: s.blocks_available() * unit,
        used: capacity.saturating_sub(free),
        inodes: s.files(),
        inodes_free: s.files_free(),
        inodes_used: s.files().saturating_sub(s.files_free()),
    })
}

/// Bytes of the files directly in a directory.
pub fn dir_size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.flatten().filter_map(|e| e.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts() {
        assert_eq!(busy("cpu  10 20 30 400 50 6 7 8 9 1\ncpu0 1 1 1 1\n"), 10 + 20 + 30 + 6 + 7 + 8);
        assert_eq!(loadavg_processes("0.00 0.01 0.05 1/230 4242\n"), 230);
        let dev = "Inter-| R\n face |b\n  lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n cni0: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\neth0:10 1 2 0 0 0 0 0 20 1 3 0 0 0 0 0\n";
        let route = "Iface Destination Gateway\neth0 00000000 FE00\n";
        let got = interfaces(dev, route);
        assert_eq!(got.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["eth0", "cni0"]);
        assert_eq!((got[0].rx, got[0].rx_errors, got[0].tx, got[0].tx_errors), (10, 2, 20, 3));
    }

    #[test]
    fn memory_without_cgroup_v1_comes_from_meminfo() {
        let info = "MemTotal: 1000 kB\nMemFree: 400 kB\nAnonPages: 50 kB\nInactive(file): 100 kB\n";
        let got = memory(1, info, &|_: &str| String::new());
        assert_eq!((got.usage, got.working_set), (600 << 10, 500 << 10));
        assert_eq!((got.available, got.rss), (Some(500 << 10), 50 << 10));
    }

    #[test]
    fn this_machine_can_be_read() {
        let host = read();
        assert!(host.cpu.total > 0 && host.memory.usage > 0 && host.booted > 0);
        assert!(disk(Path::new("/")).unwrap().capacity > 0);
    }
}
