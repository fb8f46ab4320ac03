//! Routes and masquerading in a real kernel, in a network namespace of their own. Needs root; without it the tests say
//! so and pass over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use coxswain_network::backend::{Backend, HostGw};
use coxswain_network::facts::{NodeFacts, Nodes};
use coxswain_network::masquerade;
use coxswain_network::routes::{Kernel, Netlink};

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
        let mut backend = HostGw::new(kernel.clone());
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
