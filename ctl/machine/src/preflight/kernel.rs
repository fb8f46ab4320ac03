//! What the kernel must be and have: kubeadm's validators, with nftables in place of the iptables parts that ours do not use.

use std::collections::BTreeMap;

/// Options without which pods can't run. One of each group must be there.
const REQUIRED: [&[&str]; 12] = [
    &["NAMESPACES"],
    &["NET_NS"],
    &["PID_NS"],
    &["IPC_NS"],
    &["UTS_NS"],
    &["CPUSETS"],
    &["MEMCG"],
    &["INET"],
    &["EXT4_FS", "XFS_FS", "BTRFS_FS"],
    &["PROC_FS"],
    &["NF_TABLES"],
    &["FAIR_GROUP_SCHED"],
];
/// Options that cgroup v2 needs too.
const REQUIRED_V2: [&[&str]; 4] = [&["CGROUPS"], &["CGROUP_BPF"], &["CGROUP_PIDS"], &["CGROUP_SCHED"]];
/// Controllers the kubelet needs.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "devices", "freezer", "memory", "pids"];

/// Whether this release is one kubeadm takes: 5.4, 5.10, 5.15, or 6 and later.
pub fn release_is_good(release: &str) -> bool {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    major >= 6 || (major == 5 && [4, 10, 15].contains(&minor))
}

/// Options of a kernel configuration that are built in or modules.
pub fn parse_config(text: &str) -> BTreeMap<String, bool> {
    let one = |line: &str| {
        let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
        Some((name.to_string(), matches!(value.trim(), "y" | "m")))
    };
    text.lines().filter_map(one).collect()
}

/// Options that are missing.
pub fn missing_options(config: &BTreeMap<String, bool>, v2: bool) -> Vec<String> {
    let more: &[&[&str]] = if v2 { &REQUIRED_V2 } else { &[] };
    let has = |names: &&&[&str]| !names.iter().any(|n| config.get(*n).copied().unwrap_or(false));
    REQUIRED.iter().chain(more).filter(has).map(|names| format!("CONFIG_{}", names[0])).collect()
}

/// Controllers that are missing. With v2, devices and freezer are part of the kernel rather than controllers.
pub fn missing_controllers(there: &[String], v2: bool) -> Vec<String> {
    let needed = CONTROLLERS.iter().filter(|c| !v2 || !["devices", "freezer"].contains(c));
    needed.filter(|c| !there.iter().any(|t| t == *c)).map(ToString::to_string).collect()
}

/// Controllers of cgroup v1: those that are enabled in /proc/cgroups.
pub fn parse_v1_controllers(text: &str) -> Vec<String> {
    let one = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(3) == Some(&"1")).then(|| fields[0].to_string())
    };
    text.lines().filter(|l| !l.starts_with('#')).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        for (release, want) in [
            ("5.10.0-28-amd64", true),
            ("5.4.1", true),
            ("5.11.0", false),
            ("4.19.0", false),
            ("6.1.0-13-amd64", true),
            ("6.18.5", true),
            ("10.0", true),
            ("", false),
        ] {
            assert_eq!(release_is_good(release), want, "{release}");
        }
    }

    #[test]
    fn options_and_controllers() {
        let all: String =
            REQUIRED.iter().chain(&REQUIRED_V2).map(|n| format!("CONFIG_{}=y\n", n[n.len() - 1])).collect();
        assert_eq!(missing_options(&parse_config(&all), true), Vec::<String>::new());
        let some =
            all.replace("CONFIG_MEMCG=y", "# CONFIG_MEMCG is not set").replace("CONFIG_CGROUP_BPF=y", "");
        assert_eq!(missing_options(&parse_config(&some), true), ["CONFIG_MEMCG", "CONFIG_CGROUP_BPF"]);
        assert_eq!(missing_options(&parse_config(&some), false), ["CONFIG_MEMCG"]);
        let v1 =
            "#subsys_name hierarchy num_cgroups enabled\ncpuset 1 2 1\ncpu 2 2 1\nmemory 0 1 0\npids 4 1 1\n";
        let there = parse_v1_controllers(v1);
        assert_eq!(missing_controllers(&there, false), ["devices", "freezer", "memory"]);
        assert_eq!(missing_controllers(&there, true), ["memory"]);
    }
}
