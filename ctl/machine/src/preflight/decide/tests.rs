use super::*;
use crate::preflight::facts::{Holder, Room};
use std::collections::BTreeMap;

/// A machine on which nothing is wrong.
fn good() -> Facts {
    let setting = |value: &str| Some((value.to_string(), true));
    Facts {
        uid: 0,
        cpus: 2,
        memory: 4 << 30,
        release: "6.1.0-13-amd64".into(),
        cgroup_v2: true,
        controllers: ["cpu", "cpuset", "memory", "pids"].map(String::from).to_vec(),
        resolves: true,
        kubelet: Some("v1.36.2".into()),
        names_driver: true,
        config: Some(crate::preflight::kernel::parse_config(CONFIG)),
        settings: BTreeMap::from([
            ("net/ipv4/ip_forward".to_string(), setting("0")),
            ("net/bridge/bridge-nf-call-iptables".to_string(), setting("1")),
        ]),
        rooms: vec![Room { path: "/var/lib".into(), free: 50 << 30, size: 100 << 30, names: 1 << 20 }],
        ..Facts::default()
    }
}

const CONFIG: &str = "CONFIG_NAMESPACES=y\nCONFIG_NET_NS=y\nCONFIG_PID_NS=y\nCONFIG_IPC_NS=y\nCONFIG_UTS_NS=y\n\
    CONFIG_CPUSETS=y\nCONFIG_MEMCG=y\nCONFIG_INET=y\nCONFIG_EXT4_FS=m\nCONFIG_PROC_FS=y\nCONFIG_NF_TABLES=m\n\
    CONFIG_FAIR_GROUP_SCHED=y\nCONFIG_CGROUPS=y\nCONFIG_CGROUP_BPF=y\nCONFIG_CGROUP_PIDS=y\nCONFIG_CGROUP_SCHED=y\n";

fn wanted(command: Command) -> Wanted {
    Wanted {
        command,
        node_name: "n1".into(),
        bind_port: 6443,
        server: "10.0.0.1".into(),
        service_subnets: vec!["10.96.0.0/16".into()],
        pod_subnets: vec!["10.244.0.0/16".into()],
        etcd_data_dir: Some("/var/lib/etcd".into()),
        cri_socket: "unix:///run/containerd/containerd.sock".into(),
        ca_cert_path: "/etc/kubernetes/pki/ca.crt".into(),
        kubernetes_version: "v1.36.2".into(),
        fingerprint: "abc".into(),
        ..Wanted::default()
    }
}

fn said(command: Command, change: impl Fn(&mut Wanted, &mut Facts, &mut Made)) -> Vec<String> {
    let (mut wanted, mut facts, mut made) = (wanted(command), good(), Made::dry());
    change(&mut wanted, &mut facts, &mut made);
    let checks = all(&wanted, &facts, &made);
    for check in &checks {
        assert!(!check.message.is_empty() && !check.cure.ends_with('.'), "{check:?}");
    }
    checks.iter().map(|c| format!("{} {}", if c.level == Level::Error { "E" } else { "W" }, c.name)).collect()
}

const ALL: [Command; 6] = [
    Command::Init,
    Command::JoinWorker,
    Command::JoinControlPlane,
    Command::Reset,
    Command::UpgradeApply,
    Command::UpgradeNode,
];

#[test]
fn a_good_machine_is_silent() {
    for command in ALL {
        assert_eq!(said(command, |_, _, _| {}), Vec::<String>::new(), "{command:?}");
    }
}

/// Which commands say what, in the order of ALL: init, worker, control plane, reset, upgrade apply, upgrade node.
fn table(want: &str, said_by: &str, change: impl Fn(&mut Wanted, &mut Facts, &mut Made)) {
    let by: String =
        ALL.iter().map(|c| if said(*c, &change).contains(&want.to_string()) { 'x' } else { '-' }).collect();
    assert_eq!(by, said_by, "{want}");
}

#[test]
fn each_check_and_where_it_applies() {
    table("E IsPrivilegedUser", "xxxxxx", |_, f, _| f.uid = 1000);
    table("E NumCPU", "x-x---", |_, f, _| f.cpus = 1);
    table("E Mem", "x-x---", |_, f, _| f.memory = 1699 << 20);
    table("W KubernetesVersion", "x-x---", |w, _, _| w.kubernetes_version = "v1.37.0".into());
    table("W Firewalld", "x-x---", |_, f, _| f.firewalld = true);
    for (port, by) in [
        (6443, "x-x---"),
        (10259, "x-x---"),
        (10257, "x-x---"),
        (10250, "xxx---"),
        (2379, "x-x---"),
        (2380, "x-x---"),
    ] {
        table(&format!("E Port-{port}"), by, move |_, f, _| {
            f.taken.insert(port, Holder { pid: 7, name: "nginx".into(), ours: false });
        });
        table(&format!("E Port-{port}"), "------", move |_, f, _| {
            f.taken.insert(port, Holder { pid: 7, name: "ours".into(), ours: true });
        });
    }
    table("E Port-2379", "------", |w, f, _| {
        w.etcd_data_dir = None;
        f.taken.insert(2379, Holder::default());
    });
    table("E Port-7443", "x-x---", |w, f, _| {
        w.bind_port = 7443;
        f.taken.insert(7443, Holder::default());
    });
    for (path, by) in [
        ("/etc/kubernetes/manifests/kube-apiserver.yaml", "x-x---"),
        ("/etc/kubernetes/manifests/etcd.yaml", "x-x---"),
        ("/etc/kubernetes/kubelet.conf", "-xx---"),
        ("/etc/kubernetes/bootstrap-kubelet.conf", "-xx---"),
        ("/etc/kubernetes/pki/ca.crt", "-x----"),
    ] {
        let name = format!("E FileAvailable-{}", path.replace('/', "-"));
        table(&name, by, |_, f, _| {
            f.files.insert(path.into());
        });
        table(&name, "------", |_, f, made| {
            f.files.insert(path.into());
            made.file(Path::new(path)).unwrap_or_default();
        });
    }
    table("E DirAvailable--var-lib-etcd", "x-x---", |_, f, _| {
        f.full_dirs.insert("/var/lib/etcd".into());
    });
    table("E DirAvailable--var-lib-etcd", "------", |w, f, _| {
        w.etcd_data_dir = None;
        f.full_dirs.insert("/var/lib/etcd".into());
    });
    table("W HTTPProxy", "xxx---", |_, f, _| {
        f.env.insert("HTTPS_PROXY".into(), "http://p".into());
    });
    table("W HTTPProxyCIDR", "x-----", |_, f, _| {
        f.env.insert("HTTPS_PROXY".into(), "http://p".into());
    });
    table("W HTTPProxyCIDR", "------", |_, f, _| {
        f.env.insert("HTTPS_PROXY".into(), "http://p".into());
        f.env.insert("NO_PROXY".into(), "10.0.0.0/8".into());
    });
    table("E HTTPProxyCIDR", "x-----", |w, _, _| w.pod_subnets = vec!["10.244.0.0".into()]);
    table("E CRI", "xxx---", |_, f, _| f.cri = Some("there is no socket".into()));
    table("W ContainerRuntimeVersion", "xxx-xx", |_, f, _| f.names_driver = false);
    table("W SandboxImage", "xxx-xx", |_, f, _| {
        f.sandbox = Some(("registry.k8s.io/pause:3.6".into(), false))
    });
    table("W SandboxImage", "------", |w, f, _| {
        w.images = vec!["a/pause:1".into()];
        f.sandbox = Some(("a/pause:1".into(), false));
    });
    table("W Swap", "xxx---", |_, f, _| f.swaps = vec!["/dev/sda2".into()]);
    table("E FileExisting-losetup", "xxx---", |_, f, _| f.missing_tools = vec!["losetup".into()]);
    table("W CNIPlugins", "xxx---", |_, f, _| f.missing_plugins = vec!["portmap".into()]);
    table("E Programs", "xxx---", |_, f, _| f.missing_programs = vec!["no kubelet".into()]);
    table("E SystemVerification", "xxx-xx", |_, f, _| f.release = "4.19.0".into());
    table("E SystemVerification", "xxx-xx", |_, f, _| f.config = Some(BTreeMap::new()));
    table("E SystemVerification", "xxx-xx", |_, f, _| f.controllers.clear());
    table("W SystemVerification", "xxx-xx", |_, f, _| f.config = None);
    table("W SystemVerification", "xxx-xx", |_, f, _| f.cgroup_v2 = false);
    table("W Hostname", "xxx---", |_, f, _| f.resolves = false);
    table("W Hostname", "xxx---", |w, _, _| w.node_name = "Node_1".into());
    table("E KubeletVersion", "xxx---", |_, f, _| f.kubelet = Some("v1.32.9".into()));
    table("E KubeletVersion", "------", |_, f, _| f.kubelet = Some("v1.33.0".into()));
    table("E KubeletVersion", "xxx---", |w, _, _| w.kubernetes_version = "v1.35.0".into());
    table("E KubeletVersion", "xxx---", |w, _, _| w.bundled = Some("v1.37.0".into()));
    table("E KubernetesVersion", "--x---", |w, _, _| w.bundled = Some("v1.34.5".into()));
    table("E FileContent--proc-sys-net-ipv4-ip_forward", "xxx---", |_, f, _| {
        f.settings.insert("net/ipv4/ip_forward".into(), Some(("0".into(), false)));
    });
    table("E FileContent--proc-sys-net-ipv6-conf-default-forwarding", "xxx---", |w, f, _| {
        w.pod_subnets.push("fd00::/56".into());
        f.settings.insert("net/ipv6/conf/default/forwarding".into(), Some(("0".into(), false)));
    });
    table("W FileContent--proc-sys-net-bridge-bridge-nf-call-iptables", "xxx---", |_, f, _| {
        f.settings.insert("net/bridge/bridge-nf-call-iptables".into(), None);
    });
    table("E ExternalEtcdVersion", "x-x---", |w, _, _| {
        w.external_etcd_versions = vec![("https://e:2379".into(), Ok("3.3.25".into()))];
    });
    table("E ExternalEtcdVersion", "x-x---", |w, _, _| {
        w.external_etcd_versions = vec![("https://e:2379".into(), Err("refused".into()))];
    });
    table("E ExternalEtcdVersion", "------", |w, _, _| {
        w.external_etcd_versions = vec![("https://e:2379".into(), Ok("3.4.23".into()))];
    });
    table("E ExternalEtcdClientCertificates", "x-x---", |w, _, _| w.external_etcd_files = vec!["/a".into()]);
    table("E DiskSpace", "xxx-xx", |_, f, _| f.rooms[0].free = 100 << 20);
    table("W DiskSpace", "xxx-xx", |_, f, _| f.rooms[0].free = 1 << 30);
    table("W DiskSpace", "xxx-xx", |_, f, _| f.rooms[0].size = 400 << 30);
    table("E DiskSpace", "xxx-xx", |_, f, _| f.rooms[0].names = 10);
    table("E ClockSkew", "xxx---", |w, _, _| w.clock_skew = Some(-600));
    table("W ClockSkew", "xxx---", |w, _, _| w.clock_skew = Some(60));
    table("W ClockSkew", "------", |w, _, _| w.clock_skew = Some(2));
}

#[test]
fn previous_installs() {
    let begun = |command: &'static str, print: &'static str, finished: bool| {
        move |_: &mut Wanted, _: &mut Facts, made: &mut Made| {
            made.begin(command, print).unwrap_or_default();
            if finished {
                made.finish().unwrap_or_default();
            }
        }
    };
    table("E PreviousInstall", "-xx---", begun("init", "abc", false));
    table("E PreviousInstall", "x-----", begun("join", "abc", true));
    table("E PreviousInstall", "xxx---", begun("init", "other", false));
    let words = |finished| {
        let (wanted, facts, mut made) = (wanted(Command::Init), good(), Made::dry());
        begun("init", "other", finished)(&mut wanted.clone(), &mut good(), &mut made);
        all(&wanted, &facts, &made)
            .iter()
            .map(|c| format!("{}; {}", c.message, c.cure))
            .collect::<Vec<_>>()
            .join("")
    };
    assert_eq!(
        words(false),
        "this machine holds half of a previous install: `init` was run here with another configuration; \
         run `init` again as it was, or `coxctl reset` to begin anew"
    );
    assert!(words(true).contains("is part of a cluster"));
}

#[test]
fn cures_of_the_runtime() {
    let cure = |trouble: &str| cri_cure(trouble, "unix:///run/x.sock");
    assert!(
        cure("asking for the status: unknown service runtime.v1.RuntimeService").contains("disabled_plugins")
    );
    assert!(cure("there is no socket /run/x.sock").contains("--cri-socket"));
    assert!(cure("nothing answers at /run/x.sock").contains("restart"));
    assert!(cure("boom").contains("journalctl"));
}

#[test]
fn the_holder_of_a_port_is_named() {
    let mut facts = good();
    facts.taken.insert(6443, Holder { pid: 77, name: "nginx".into(), ours: false });
    let checks = all(&wanted(Command::Init), &facts, &Made::dry());
    assert_eq!(checks[0].message, "Port 6443 is in use by nginx (process 77); kube-apiserver needs it");
}
