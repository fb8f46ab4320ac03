//! Routes and masquerading in a real kernel, in a network namespace of their own. Needs root; without it the tests say
//! so and pass over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use coxswain_network::backend::{Backend, Mesh};
use coxswain_network::facts::{NodeFacts, Nodes};
use coxswain_network::masquerade;
use coxswain_network::plan::{Mode, Overlay};
use coxswain_network::routes::{Kernel, Netlink};

const OVERLAY: Overlay = Overlay { vni: 7, port: 4790 };

fn isolated<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: left out");
        return;
    }
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        sh("ip link set lo up");
        sh("ip link add eth0 mtu 1430 type veth peer name eth1");
        sh("ip addr add 172.30.0.1/24 dev eth0");
        sh("ip link set eth0 up");
        sh("ip link set eth1 up");
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
    });
    thread.join().unwrap();
}

fn sh(command: &str) -> String {
    let mut words = command.split_whitespace();
    let done = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn nodes(list: &[(&str, u8)]) -> Nodes {
    let facts = |n: u8| NodeFacts {
        ips: vec![IpAddr::from([172, 30, 0, n])],
        cidrs: vec![format!("10.244.{n}.0/24").parse().unwrap()],
        available: false,
        ..NodeFacts::default()
    };
    list.iter().map(|(name, n)| ((*name).to_owned(), facts(*n))).collect::<BTreeMap<_, _>>()
}

fn shown() -> Vec<String> {
    let text = sh("ip route show proto 184");
    text.lines().map(|l| l.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn routes_follow_nodes_and_leave_foreign_ones_alone() {
    isolated(|| async {
        sh("ip route add 10.244.77.0/24 via 172.30.0.77");
        let (kernel, mut disturbances) = Netlink::open().unwrap();
        let kernel = Arc::new(kernel);
        let mut backend = Mesh::new(kernel.clone(), Mode::HostGw, OVERLAY, None);
        backend.apply(&nodes(&[("a", 1), ("b", 2), ("c", 3)]), "a").await.unwrap();
        assert_eq!(shown(), ["10.244.2.0/24 via 172.30.0.2", "10.244.3.0/24 via 172.30.0.3"]);
        backend.apply(&nodes(&[("a", 1), ("c", 3)]), "a").await.unwrap();
        assert_eq!(shown(), ["10.244.3.0/24 via 172.30.0.3"]);
        assert!(sh("ip route").contains("10.244.77.0/24"));
        assert_eq!(kernel.mtu(Some(IpAddr::from([172, 30, 0, 1])), None).await.unwrap(), 1430);
        sh("ip route del 10.244.3.0/24");
        let noticed = tokio::time::timeout(std::time::Duration::from_secs(5), disturbances.next());
        noticed.await.expect("the loss of a route is noticed");
        backend.apply(&nodes(&[("a", 1), ("c", 3)]), "a").await.unwrap();
        assert_eq!(shown(), ["10.244.3.0/24 via 172.30.0.3"]);
    });
}

fn sorted(command: &str) -> String {
    let text = sh(command);
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// The link, who is behind it, and the routes into it.
fn tunnel() -> String {
    let link = sh("ip -d -o link show dev coxswain.7");
    let wanted =
        ["id 7", "local 172.30.0.1", "dev eth0", "dstport 4790", "nolearning", "mtu 1380", "LOWER_UP"];
    for part in wanted {
        assert!(link.contains(part), "{part}: {link}");
    }
    let inside = sh("ip -o -4 addr show dev coxswain.7");
    assert!(inside.contains("inet 10.244.1.0/32 "), "{inside}");
    let parts =
        ["bridge fdb show dev coxswain.7", "ip neigh show dev coxswain.7", "ip route show dev coxswain.7"];
    parts.map(sorted).join("\n")
}

/// The kernel's number for the link, another each time it is made.
fn number() -> String {
    sh("ip -o link show dev coxswain.7").split(':').next().unwrap().to_owned()
}

const BOTH: &str = "0e:43:ac:1e:00:02 dst 172.30.0.2 self permanent
0e:43:ac:1e:00:03 dst 172.30.0.3 self permanent
10.244.2.0 lladdr 0e:43:ac:1e:00:02 PERMANENT
10.244.3.0 lladdr 0e:43:ac:1e:00:03 PERMANENT
10.244.2.0/24 via 10.244.2.0 proto 184 onlink
10.244.3.0/24 via 10.244.3.0 proto 184 onlink";

#[test]
fn a_tunnel_follows_nodes() {
    isolated(|| async {
        sh("ip link add coxswain.9 type vxlan id 9 dstport 4799");
        let (kernel, mut disturbances) = Netlink::open().unwrap();
        let mut mesh = Mesh::new(Arc::new(kernel), Mode::Vxlan, OVERLAY, None);
        let three = nodes(&[("a", 1), ("b", 2), ("c", 3)]);
        mesh.apply(&three, "a").await.unwrap();
        assert_eq!((tunnel().as_str(), mesh.overhead()), (BOTH, 50));
        assert!(!sh("ip link").contains("coxswain.9"), "a tunnel of another number is gone");
        let index = number();
        mesh.apply(&three, "a").await.unwrap();
        assert_eq!(tunnel(), BOTH);
        assert_eq!(number(), index, "it is still the same link");

        // A node that moved, and one that left
        let mut two = nodes(&[("a", 1), ("b", 2)]);
        two.get_mut("b").unwrap().ips = vec![IpAddr::from([172, 30, 0, 8])];
        mesh.apply(&two, "a").await.unwrap();
        assert_eq!(
            tunnel(),
            "0e:43:ac:1e:00:08 dst 172.30.0.8 self permanent\n10.244.2.0 lladdr 0e:43:ac:1e:00:08 PERMANENT\n10.244.2.0/24 via 10.244.2.0 proto 184 onlink"
        );

        // Others tear it down in different ways
        for harm in ["ip link del coxswain.7", "ip link set coxswain.7 down", "ip route flush proto 184"] {
            while tokio::time::timeout(std::time::Duration::from_millis(200), disturbances.next())
                .await
                .is_ok()
            {}
            mesh.apply(&three, "a").await.unwrap();
            while tokio::time::timeout(std::time::Duration::from_millis(200), disturbances.next())
                .await
                .is_ok()
            {}
            sh(harm);
            let noticed = tokio::time::timeout(std::time::Duration::from_secs(5), disturbances.next());
            noticed.await.unwrap_or_else(|_| panic!("{harm} is noticed"));
            mesh.apply(&three, "a").await.unwrap();
            assert_eq!(tunnel(), BOTH, "{harm}");
        }
    });
}

#[test]
fn far_nodes_get_a_tunnel_and_near_ones_a_route() {
    isolated(|| async {
        sh("ip route add default via 172.30.0.254");
        let (kernel, _disturbances) = Netlink::open().unwrap();
        let mut mesh = Mesh::new(Arc::new(kernel), Mode::Auto, OVERLAY, None);
        let mut three = nodes(&[("a", 1), ("b", 2), ("c", 3)]);
        mesh.apply(&three, "a").await.unwrap();
        assert_eq!(shown(), ["10.244.2.0/24 via 172.30.0.2", "10.244.3.0/24 via 172.30.0.3"]);
        assert!(!sh("ip link").contains("coxswain"));
        three.get_mut("c").unwrap().ips = vec![IpAddr::from([192, 168, 7, 3])];
        mesh.apply(&three, "a").await.unwrap();
        assert_eq!(shown(), ["10.244.2.0/24 via 172.30.0.2", "10.244.3.0/24 via 10.244.3.0"]);
        assert!(tunnel().contains("0e:43:c0:a8:07:03 dst 192.168.7.3 self permanent"));
        three.remove("c");
        mesh.apply(&three, "a").await.unwrap();
        assert_eq!(shown(), ["10.244.2.0/24 via 172.30.0.2"]);
        assert!(!sh("ip link").contains("coxswain"), "the tunnel went with the last far node");
    });
}

#[test]
fn both_families_go_through_the_tunnel() {
    isolated(|| async {
        let (kernel, _disturbances) = Netlink::open().unwrap();
        let mut mesh = Mesh::new(Arc::new(kernel), Mode::Vxlan, OVERLAY, None);
        let mut two = nodes(&[("a", 1), ("b", 2)]);
        for (name, cidr) in [("a", "fd01:0:0:1::/64"), ("b", "fd01:0:0:2::/64")] {
            two.get_mut(name).unwrap().cidrs.push(cidr.parse().unwrap());
        }
        mesh.apply(&two, "a").await.unwrap();
        mesh.apply(&two, "a").await.unwrap();
        assert!(sh("ip -6 route show dev coxswain.7").contains("fd01:0:0:2::/64 via fd01:0:0:2:: proto 184"));
        assert!(sh("ip -6 neigh show dev coxswain.7").contains("fd01:0:0:2:: lladdr 0e:43:ac:1e:00:02"));
        two.remove("b");
        mesh.apply(&two, "a").await.unwrap();
        assert_eq!(sh("ip -6 route show proto 184"), "");
        assert_eq!(sh("bridge fdb show dev coxswain.7"), "");
    });
}

/// Packets through two ends of a tunnel, each in a namespace of its own.
#[test]
fn pods_talk_through_the_tunnel() {
    isolated(|| async {
        let far = format!("cxn-{}", std::process::id());
        let cleanup = Cleanup(format!("ip netns del {far}"));
        sh(&format!("ip netns add {far}"));
        sh(&format!("ip link set eth1 netns {far}"));
        for command in
            ["ip addr add 172.30.0.2/24 dev eth1", "ip link set eth1 mtu 1430 up", "ip link set lo up"]
        {
            sh(&format!("ip netns exec {far} {command}"));
        }
        sh("ip addr add 10.244.1.1/24 dev lo");
        sh(&format!("ip netns exec {far} ip addr add 10.244.2.1/24 dev lo"));
        let both = nodes(&[("a", 1), ("b", 2)]);
        let (kernel, _disturbances) = Netlink::open().unwrap();
        Mesh::new(Arc::new(kernel), Mode::Vxlan, OVERLAY, None).apply(&both, "a").await.unwrap();
        let (name, there) = (far.clone(), both.clone());
        std::thread::spawn(move || {
            let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (kernel, _disturbances) = Netlink::open().unwrap();
                Mesh::new(Arc::new(kernel), Mode::Vxlan, OVERLAY, None).apply(&there, "b").await.unwrap();
            });
        })
        .join()
        .unwrap();
        // As large as it goes, and in pieces
        for size in ["56", "1352", "5000"] {
            let answer = sh(&format!("ping -c 1 -W 5 -s {size} -I 10.244.1.1 10.244.2.1"));
            assert!(answer.contains(" 0% packet loss"), "{answer}");
        }
        let counted = sh("ip -s -o link show dev coxswain.7");
        assert!(!counted.contains("RX: bytes packets errors dropped missed mcast 0 0 "), "{counted}");
        drop(cleanup);
    });
}

struct Cleanup(String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        sh(&self.0);
    }
}

#[test]
fn masquerading_loads_and_loads_again() {
    isolated(|| async {
        let rules =
            masquerade::rules(&["10.244.1.0/24".parse().unwrap()], &["10.244.0.0/16".parse().unwrap()]);
        masquerade::load(&rules).await.unwrap();
        masquerade::load(&rules).await.unwrap();
        let listed = sh("nft list ruleset");
        assert_eq!(listed.matches("masquerade").count(), 1, "{listed}");
        assert!(masquerade::load("nonsense").await.is_err());
    });
}
