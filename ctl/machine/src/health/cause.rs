//! What a daemon's last words usually mean, and what helps.

/// Why a daemon ended, and what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// What is wrong.
    pub cause: &'static str,
    /// What to do.
    pub cure: &'static str,
}

/// The one cause that may go away by itself: a dependency that is late.
const LATE: &str = "something the daemon depends on does not answer";

impl Cause {
    /// May it pass without anybody doing something?
    pub fn passes(&self) -> bool {
        self.cause == LATE
    }
}

/// Signs (any of them, in lower case) and what they mean. The first that is found counts, so the telling ones come first.
const CAUSES: &[(&[&str], Cause)] = &[
    (
        &["no space left on device", "disk quota exceeded", "enospc"],
        Cause {
            cause: "the disk is full",
            cure: "free some space (df -h shows where) and run the command again",
        },
    ),
    (
        &["address already in use", "eaddrinuse"],
        Cause {
            cause: "another process holds the port",
            cure: "find it with `ss -ltnp` and stop it, or choose another port in the configuration",
        },
    ),
    (
        &["cannot assign requested address", "eaddrnotavail"],
        Cause {
            cause: "the address to listen on is not one of this machine's",
            cure: "give an address of this machine (`ip addr`) as advertise address",
        },
    ),
    (
        &["cluster id mismatch", "cluster ids mismatch", "request cluster id mismatch"],
        Cause {
            cause: "etcd's data directory belongs to another cluster",
            cure: "run `coxctl reset` on this machine, or remove the old data from /var/lib/etcd",
        },
    ),
    (
        &["member count is unequal", "member count unequal"],
        Cause {
            cause: "the list of etcd members here is not the one the cluster has",
            cure: "see `coxctl etcd member list` on a control plane, remove members that never came up, and join again",
        },
    ),
    (
        &["has already been bootstrapped"],
        Cause {
            cause: "an etcd member of this name was part of the cluster before",
            cure: "remove it on a control plane with `coxctl etcd member remove`, then join again",
        },
    ),
    (
        &["member has been permanently removed", "the member has been removed"],
        Cause {
            cause: "this etcd member was removed from its cluster",
            cure: "run `coxctl reset` on this machine and join it again",
        },
    ),
    (
        &[
            "database file is locked",
            "resource temporarily unavailable\" path",
            "cannot lock",
            "bolt: timeout",
        ],
        Cause { cause: "another etcd uses the data directory", cure: "stop the other etcd on this machine" },
    ),
    (
        &[
            "wal: crc mismatch",
            "walpb: crc mismatch",
            "snapshot file doesn't exist",
            "failed to recover v3 backend",
            "page 0 already freed",
            "invalid database",
        ],
        Cause {
            cause: "etcd's data is damaged",
            cure: "restore a backup with `coxctl etcd restore`, or on a cluster of several members remove this one and join again",
        },
    ),
    (
        &["certificate not valid yet", "notvalidyet", "is before 20"],
        Cause {
            cause: "a certificate lies in the future: the clocks of the machines differ",
            cure: "set the clock (`timedatectl`, chrony) and run the command again",
        },
    ),
    (
        &[
            "certificate has expired",
            "certificate expired",
            "certificateexpired",
            "has expired or is not yet valid",
        ],
        Cause {
            cause: "a certificate has expired, or this machine's clock is ahead",
            cure: "check `date` and `coxctl certs check-expiration`; `coxctl certs renew all` makes new ones",
        },
    ),
    (
        &[
            "signed by unknown authority",
            "unknownissuer",
            "unknown issuer",
            "unknown ca",
            "unknownca",
            "bad certificate authority",
        ],
        Cause {
            cause: "a certificate was signed by another authority: files of two clusters are mixed",
            cure: "run `coxctl reset` on the machine that is new and join it again, or put the right ca.crt in place",
        },
    ),
    (
        &["certificate is valid for", "notvalidforname", "doesn't contain any ip sans", "not valid for name"],
        Cause {
            cause: "a certificate does not name the address that is called",
            cure: "add the address to apiServer.certSANs (or the etcd SANs), remove that certificate and run the command again",
        },
    ),
    (
        &["private key does not match", "keymismatch", "key values mismatch", "inconsistentkeys"],
        Cause {
            cause: "a certificate and its key do not belong together",
            cure: "remove both files and run the command again",
        },
    ),
    (
        &[
            "unknown flag",
            "unexpected argument",
            "flag provided but not defined",
            "invalid value for",
            "invalid value '",
            "invalid argument \"",
            "unknown shorthand flag",
            "parse error",
            "error verifying flags",
        ],
        Cause {
            cause: "the daemon does not take one of its arguments",
            cure: "look at extraArgs in the configuration; another version of the daemon may want other flags",
        },
    ),
    (
        &[
            "failed to load kubelet config",
            "failed to validate kubelet configuration",
            "strict decoding error",
            "unknown field",
        ],
        Cause {
            cause: "a configuration file holds what the daemon does not take",
            cure: "mend the file that is named, or remove it and run the command again",
        },
    ),
    (
        &["cgroup v1", "cgroups v1", "failcgroupv1"],
        Cause {
            cause: "this machine has cgroup v1, which the kubelet was told to refuse",
            cure: "set failCgroupV1: false in the KubeletConfiguration, or boot with cgroup v2",
        },
    ),
    (
        &["swap on", "swap is enabled", "failswapon"],
        Cause {
            cause: "swap is on, and the kubelet was told to refuse it",
            cure: "turn it off (`swapoff -a`, and take it out of /etc/fstab), or set failSwapOn: false",
        },
    ),
    (
        &[
            "containerd.sock",
            "crio.sock",
            "cri-dockerd.sock",
            "container runtime is down",
            "validate service connection",
        ],
        Cause {
            cause: "the container runtime does not answer",
            cure: "start it (`systemctl start containerd`) and see its log",
        },
    ),
    (
        &["read-only file system", "erofs"],
        Cause {
            cause: "the daemon may not write where it has to: the file system, or the unit's sandbox, is read-only",
            cure: "look at mount options, and at ReadWritePaths of the unit",
        },
    ),
    (
        &["permission denied", "operation not permitted", "eacces", "eperm"],
        Cause {
            cause: "the daemon lacks a right on a file or a socket",
            cure: "look at owner and mode of what is named above, and at the unit's CapabilityBoundingSet",
        },
    ),
    (
        &["too many open files", "emfile"],
        Cause {
            cause: "the limit of open files is too low",
            cure: "raise LimitNOFILE of the unit, or inotify's limits (sysctl fs.inotify)",
        },
    ),
    (
        &["cannot allocate memory", "out of memory", "enomem"],
        Cause { cause: "memory ran out", cure: "give the machine more memory, or stop what else runs on it" },
    ),
    (
        &["no such file or directory", "does not exist", "can't be run", "enoent"],
        Cause {
            cause: "a file the daemon was told to read is missing",
            cure: "run the command again, it makes what is missing; with an external CA put the named file in place",
        },
    ),
    (
        &["no such host", "failed to lookup", "name resolution", "name or service not known"],
        Cause {
            cause: "a host name can't be resolved",
            cure: "put it into DNS or /etc/hosts, or use an address",
        },
    ),
    (
        &[
            "connection refused",
            "connect: no route to host",
            "network is unreachable",
            "i/o timeout",
            "deadline exceeded",
            "timed out",
        ],
        Cause {
            cause: LATE,
            cure: "see whether that runs (`coxctl etcd member list`, `systemctl status`), and whether a firewall is in between",
        },
    ),
];

/// The likely cause and cure told by a daemon's last words.
pub fn likely_cause(words: &str) -> Option<Cause> {
    told(words).map(|(_, cause)| cause)
}

/// The last line that tells a cause, and the cause.
pub fn told(words: &str) -> Option<(&str, Cause)> {
    CAUSES.iter().find_map(|(signs, cause)| {
        let tells =
            |line: &&str| !is_warning(line) && signs.iter().any(|sign| line.to_lowercase().contains(sign));
        words.lines().rev().find(tells).map(|line| (line.trim(), *cause))
    })
}

/// What the daemon itself takes for no reason to end, by klog's first letter and four digits.
fn is_warning(line: &str) -> bool {
    let digits = line.strip_prefix(['W', 'I']).and_then(|rest| rest.get(..4));
    digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_causes() {
        let cases = [
            ("listen tcp 127.0.0.1:2379: bind: address already in use", "another process holds the port"),
            (
                "Error: Address in use... os error 98: Address already in use (os error 98)",
                "another process holds the port",
            ),
            ("listen tcp 10.9.9.9:2380: bind: cannot assign requested address", "not one of this machine's"),
            ("open /var/lib/etcd/member/wal: permission denied", "lacks a right"),
            ("open /etc/kubernetes/pki/ca.crt: no such file or directory", "is missing"),
            ("No such file or directory (os error 2)", "is missing"),
            ("write /var/lib/etcd/member/snap/db: no space left on device", "disk is full"),
            ("tls: x509: certificate has expired or is not yet valid: current time ...", "expired"),
            (
                "x509: certificate has expired or is not yet valid: current time 2026-01-01T00:00:00Z is before 2026-02-01",
                "clocks",
            ),
            ("invalid peer certificate: Expired: certificate expired: verification time", "expired"),
            ("invalid peer certificate: certificate not valid yet: NotValidYet", "clocks"),
            ("x509: certificate signed by unknown authority (possibly because of ...)", "another authority"),
            ("invalid peer certificate: UnknownIssuer", "another authority"),
            ("x509: certificate is valid for 10.0.0.1, not 10.0.0.2", "does not name the address"),
            ("request sent was ignored (cluster ID mismatch: peer[abc]=1, local=2)", "another cluster"),
            ("error validating peerURLs {..}: member count is unequal", "list of etcd members"),
            ("member 8e9e05c52164694d has already been bootstrapped", "was part of the cluster before"),
            ("the member has been permanently removed from the cluster", "was removed from its cluster"),
            ("error: unexpected argument '--bogus' found", "one of its arguments"),
            ("flag provided but not defined: -feature-gates", "one of its arguments"),
            ("tls: private key does not match public key", "do not belong together"),
            ("open x: too many open files", "limit of open files"),
            ("dial unix /run/containerd/containerd.sock: connect: connection refused", "container runtime"),
            ("dial tcp 127.0.0.1:2379: connect: connection refused", "does not answer"),
            ("walpb: crc mismatch", "data is damaged"),
        ];
        for (words, want) in cases {
            let got = likely_cause(words).map_or("nothing", |c| c.cause);
            assert!(got.contains(want), "{words:?}: {got}");
        }
        assert_eq!(likely_cause("started"), None);
        assert_eq!(
            likely_cause("W1121 19:20:18 1 x.rs:1] \"going on\" error=Permission denied (os error 13)"),
            None
        );
    }

    #[test]
    fn signs_are_lower_case_and_sentences_have_no_stop() {
        for (signs, cause) in CAUSES {
            assert!(signs.iter().all(|s| s.to_lowercase() == **s), "{signs:?}");
            assert!(!cause.cause.ends_with('.') && !cause.cure.ends_with('.'), "{cause:?}");
        }
    }
}
