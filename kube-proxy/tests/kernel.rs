//! The rules in a real kernel, in a network namespace of their own. Needs root; without it the tests say so and pass
//! over.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use daemon::nftables::Guard;
use kube_proxy::chains::{LocalTraffic, Settings};
use kube_proxy::kernel::Kernel;
use kube_proxy::model::{Element, Family, Key, Proto, Rules, Set};
use kube_proxy::parse::{EndpointInfo, Hint, PortInfo, ServiceInfo, SliceInfo};
use kube_proxy::render::{NodeView, render};
use kube_proxy::state::{Changes, State};

/// Runs in a thread that has a network namespace of its own with these addresses on its loopback.
fn isolated(addresses: &[&str], body: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: left out");
        return;
    }
    let addresses: Vec<String> = addresses.iter().map(|a| (*a).to_owned()).collect();
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        addresses.iter().for_each(|a| ip(&format!("addr add {a} dev lo")));
        ip("route add 10.96.0.0/16 dev lo src 10.99.0.1");
        body();
    });
    thread.join().unwrap();
}

fn ip(args: &str) {
    let done = Command::new("ip").args(args.split_whitespace()).status().unwrap();
    assert!(done.success(), "ip {args}");
}

fn settings() -> Settings {
    Settings {
        family: Family::V4,
        node_ips: vec!["10.99.0.1".parse().unwrap()],
        node_port_nets: vec![],
        local: LocalTraffic::Network("10.244.0.0/16".parse().unwrap()),
        masquerade_bit: 14,
        masquerade_all: false,
    }
}

fn service(ip: &str, proto: Proto, sticky: u32) -> ServiceInfo {
    ServiceInfo {
        cluster_ip: ip.parse().unwrap(),
        ports: vec![PortInfo { name: "".into(), proto, port: 80, node_port: 0 }],
        external_ips: vec![],
        vips: vec![],
        sources: vec![],
        restricted: false,
        sticky,
        internal_local: false,
        external_local: false,
        health_port: 0,
    }
}

fn slice(proto: Proto, port: u16, ips: impl IntoIterator<Item = IpAddr>) -> SliceInfo {
    let endpoint = |addr| EndpointInfo {
        addr,
        ready: true,
        serving: true,
        terminating: false,
        local: true,
        zone: Hint::Absent,
        node: Hint::Absent,
    };
    SliceInfo { ports: vec![("".into(), proto, port)], endpoints: ips.into_iter().map(endpoint).collect() }
}

/// The state and the kernel's table, changed together.
struct Table {
    state: State,
    kernel: Kernel,
    settings: Settings,
}

impl Table {
    fn new(settings: Settings) -> Self {
        Self { state: State::new(), kernel: Kernel::open().unwrap(), settings }
    }

    fn render(&self, name: &str, svc: &ServiceInfo, slice: &SliceInfo) -> Rules {
        let node = NodeView { ips: self.settings.node_ips.clone() };
        let old = self.state.rules(name).cloned().unwrap_or_default();
        render(name, svc, [slice].into_iter(), &node, &old)
    }

    fn set(&mut self, name: &str, svc: &ServiceInfo, slice: &SliceInfo) {
        let rules = self.render(name, svc, slice);
        let mut changes = Changes::default();
        self.state.replace(&name.into(), rules, &mut changes);
        self.kernel.apply(&self.settings, &changes.finish()).unwrap();
    }

    fn load(&mut self) {
        let all = self.state.full();
        self.kernel.load(&self.settings, &all).unwrap();
    }
}

/// Answers every connection with one letter.
fn serve(ip: &str, word: &'static [u8]) {
    let listener = TcpListener::bind((ip, 8080)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut s| s.write_all(word));
        }
    });
}

fn ask(to: &str) -> Result<String, std::io::ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    let mut s = TcpStream::connect_timeout(&to, Duration::from_secs(2)).map_err(|e| e.kind())?;
    let mut word = String::new();
    s.read_to_string(&mut word).map_err(|e| e.kind())?;
    Ok(word)
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|s| s.parse().unwrap()).collect()
}

/// Versions of nft die of rules they cannot turn into text, whatever table they were asked to work on.
fn listable() {
    let Ok(listing) = Command::new("nft").args(["list", "table", "ip", "kube-proxy"]).output() else {
        return;
    };
    assert!(listing.status.success(), "{}", String::from_utf8_lossy(&listing.stderr));
    assert!(listing.stderr.is_empty(), "{}", String::from_utf8_lossy(&listing.stderr));
    if std::env::var("SHOW").is_ok() {
        println!("{}", String::from_utf8_lossy(&listing.stdout));
    }
}

const NODE: &[&str] = &["10.99.0.1/32", "10.99.0.2/32", "10.99.0.3/32"];

#[test]
fn packets_follow_the_endpoints() {
    isolated(NODE, || {
        serve("10.99.0.2", b"A");
        serve("10.99.0.3", b"B");
        let mut t = Table::new(settings());
        t.load();
        let mut svc = service("10.96.0.10", Proto::Tcp, 0);
        svc.ports[0].node_port = 30080;
        t.set("ns/web", &svc, &slice(Proto::Tcp, 8080, ips(&["10.99.0.2"])));
        assert_eq!(ask("10.96.0.10:80").as_deref(), Ok("A"));
        assert_eq!(ask("10.99.0.1:30080").as_deref(), Ok("A"));
        t.set("ns/web", &svc, &slice(Proto::Tcp, 8080, ips(&["10.99.0.3"])));
        assert_eq!(ask("10.96.0.10:80").as_deref(), Ok("B"));
        t.set("ns/web", &svc, &slice(Proto::Tcp, 8080, ips(&["10.99.0.2", "10.99.0.3"])));
        let mut seen: Vec<String> = (0..40).map(|_| ask("10.96.0.10:80").unwrap()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["A", "B"]);

        let begin = Instant::now();
        t.set("ns/web", &svc, &slice(Proto::Tcp, 8080, []));
        assert_eq!(ask("10.96.0.10:80"), Err(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(ask("10.99.0.1:30080"), Err(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(
            ask("10.96.0.10:81"),
            Err(std::io::ErrorKind::ConnectionRefused),
            "a port without service"
        );
        assert!(begin.elapsed() < Duration::from_millis(900));
        listable();
    });
}

#[test]
fn affinity_holds_until_the_endpoint_goes_and_over_a_restart() {
    isolated(NODE, || {
        serve("10.99.0.2", b"A");
        serve("10.99.0.3", b"B");
        let svc = service("10.96.0.12", Proto::Tcp, 600);
        let both = slice(Proto::Tcp, 8080, ips(&["10.99.0.2", "10.99.0.3"]));
        let mut t = Table::new(settings());
        t.load();
        t.set("ns/sticky", &svc, &both);
        let first = ask("10.96.0.12:80").unwrap();
        assert!((0..20).all(|_| ask("10.96.0.12:80").as_ref() == Ok(&first)));
        t.load();
        assert!((0..20).all(|_| ask("10.96.0.12:80").as_ref() == Ok(&first)), "kept over a reload");
        let (other, ip) = if first == "A" { ("B", "10.99.0.3") } else { ("A", "10.99.0.2") };
        t.set("ns/sticky", &svc, &slice(Proto::Tcp, 8080, ips(&[ip])));
        assert_eq!(ask("10.96.0.12:80").as_deref(), Ok(other));
        t.set("ns/sticky", &svc, &both);
        assert!(
            (0..20).all(|_| ask("10.96.0.12:80").as_deref() == Ok(other)),
            "the new choice is remembered"
        );
        listable();
    });
}

#[test]
fn a_reload_keeps_open_connections() {
    isolated(NODE, || {
        let listener = TcpListener::bind("10.99.0.2:8080").unwrap();
        let mut t = Table::new(settings());
        t.load();
        t.set("ns/web", &service("10.96.0.10", Proto::Tcp, 0), &slice(Proto::Tcp, 8080, ips(&["10.99.0.2"])));
        let mut client =
            TcpStream::connect_timeout(&"10.96.0.10:80".parse().unwrap(), Duration::from_secs(2)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        t.load();
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        server.read_exact(&mut byte).unwrap();
    });
}

#[test]
fn udp_reaches_its_backend() {
    isolated(NODE, || {
        let server = UdpSocket::bind("10.99.0.2:5353").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut t = Table::new(settings());
        t.load();
        t.set("ns/dns", &service("10.96.0.14", Proto::Udp, 0), &slice(Proto::Udp, 5353, ips(&["10.99.0.2"])));
        let client = UdpSocket::bind("10.99.0.1:0").unwrap();
        client.connect("10.96.0.14:80").unwrap();
        client.send(b"x").unwrap();
        assert_eq!(server.recv(&mut [0; 4]).unwrap(), 1);
    });
}

#[test]
fn firewalled_and_foreign_objects() {
    isolated(NODE, || {
        serve("10.99.0.2", b"A");
        let mut svc = service("10.96.0.10", Proto::Tcp, 0);
        svc.vips = ips(&["10.96.255.1"]);
        (svc.sources, svc.restricted) = (vec!["192.0.2.0/24".parse().unwrap()], true);
        let one = slice(Proto::Tcp, 8080, ips(&["10.99.0.2"]));
        let mut t = Table::new(settings());
        t.load();
        t.set("ns/lb", &svc, &one);
        assert_eq!(ask("10.96.0.10:80").as_deref(), Ok("A"));
        assert_eq!(ask("10.96.255.1:80"), Err(std::io::ErrorKind::TimedOut));
        svc.sources.push("10.99.0.0/24".parse().unwrap());
        t.set("ns/lb", &svc, &one);
        assert_eq!(ask("10.96.255.1:80").as_deref(), Ok("A"));
        listable();
        t.kernel.remove(&t.settings).unwrap();
        t.kernel.remove(&t.settings).unwrap();
    });
}

/// Not a gate: prints what a large table costs. `SCALE=10000 cargo test -p kube-proxy --test kernel scale -- --nocapture`
#[test]
fn scale() {
    let services: u32 = std::env::var("SCALE").ok().and_then(|s| s.parse().ok()).unwrap_or(300);
    isolated(NODE, move || {
        serve("10.99.0.2", b"A");
        serve("10.99.0.3", b"B");
        let mut t = Table::new(settings());
        let address = |i: u32| IpAddr::from((0x0a60_0100 + i).to_be_bytes());
        let begin = Instant::now();
        for i in 0..services {
            let name = format!("ns/s-{i}");
            let pods = (0..10).map(|k| IpAddr::from((0x0ac8_0000 + i * 10 + k).to_be_bytes()));
            let rules = t.render(
                &name,
                &service(&address(i).to_string(), Proto::Tcp, 0),
                &slice(Proto::Tcp, 8080, pods),
            );
            t.state.replace(&name.into(), rules, &mut Changes::default());
        }
        let rendered = begin.elapsed();
        t.load();
        println!("{services} services: render {rendered:?}, load {:?}", begin.elapsed() - rendered);
        let begin = Instant::now();
        t.load();
        println!("reload over the old table: {:?}", begin.elapsed());
        let svc = service(&address(7).to_string(), Proto::Tcp, 0);
        let mut times = Vec::new();
        for n in 0..20 {
            let (ip, word) = if n % 2 == 0 { ("10.99.0.2", "A") } else { ("10.99.0.3", "B") };
            let begin = Instant::now();
            t.set("ns/s-7", &svc, &slice(Proto::Tcp, 8080, ips(&[ip])));
            times.push(begin.elapsed());
            assert_eq!(ask(&format!("{}:80", address(7))).as_deref(), Ok(word));
        }
        times.sort();
        println!("one change: median {:?}, worst {:?}", times[10], times[19]);
    });
}

#[test]
fn a_udp_flow_follows_its_service_after_the_clean_up() {
    isolated(NODE, || {
        let server = |ip: &str| {
            let s = UdpSocket::bind((ip, 5353)).unwrap();
            s.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            s
        };
        let (a, b) = (server("10.99.0.2"), server("10.99.0.3"));
        let mut t = Table::new(settings());
        t.load();
        let svc = service("10.96.0.14", Proto::Udp, 0);
        t.set("ns/dns", &svc, &slice(Proto::Udp, 5353, ips(&["10.99.0.2"])));
        let client = UdpSocket::bind("10.99.0.1:0").unwrap();
        client.connect("10.96.0.14:80").unwrap();
        client.send(b"x").unwrap();
        assert!(a.recv(&mut [0; 4]).is_ok());
        t.set("ns/dns", &svc, &slice(Proto::Udp, 5353, ips(&["10.99.0.3"])));
        client.send(b"x").unwrap();
        assert!(a.recv(&mut [0; 4]).is_ok(), "the kernel remembers the flow");
        let mut wanted = kube_proxy::conntrack::Wanted::default();
        kube_proxy::conntrack::want(&mut wanted, t.state.rules("ns/dns").unwrap());
        assert_eq!(kube_proxy::conntrack::clean(&t.kernel, Family::V4, &wanted).unwrap(), 1);
        client.send(b"x").unwrap();
        assert!(b.recv(&mut [0; 4]).is_ok());
        assert_eq!(
            kube_proxy::conntrack::clean(&t.kernel, Family::V4, &wanted).unwrap(),
            0,
            "right flows stay"
        );
    });
}

#[test]
fn both_families_and_service_networks_load() {
    isolated(NODE, || {
        let mut t = Table::new(settings());
        let span = Key::Span("10.96.0.0".parse().unwrap(), "10.96.255.255".parse().unwrap());
        let rules = Rules { elements: vec![Element::plain(Set::ServiceCidrs, span)], ..Rules::default() };
        t.state.replace(&"/service-cidrs".into(), rules, &mut Changes::default());
        t.load();
        assert_eq!(ask("10.96.0.77:80"), Err(std::io::ErrorKind::TimedOut), "an unassigned service address");
        let v6 = Settings {
            family: Family::V6,
            node_ips: vec!["fd00::1".parse().unwrap()],
            local: LocalTraffic::Network("fd00:244::/56".parse().unwrap()),
            ..settings()
        };
        let mut t = Table::new(v6);
        t.load();
        for sticky in [0, 600] {
            let mut svc = service("fd00:96::10", Proto::Tcp, sticky);
            (svc.vips, svc.restricted) = (ips(&["2001:db8::1"]), true);
            svc.sources = vec!["2001:db8:1::/48".parse().unwrap()];
            t.set("ns/six", &svc, &slice(Proto::Tcp, 8080, ips(&["fd00:244::2", "fd00:244::3"])));
        }
        t.load();
    });
}

/// Whether the guard hears something within a moment.
async fn hears(guard: &Guard, own: &[u32]) -> bool {
    tokio::time::timeout(Duration::from_millis(300), guard.heard(own)).await.is_ok()
}

#[test]
fn a_guard_hears_others_and_not_us() {
    isolated(&["10.99.0.1/32"], || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let guard = Guard::open("kube-proxy").unwrap();
            let (kernel, settings) = (Kernel::open().unwrap(), settings());
            let own = [kernel.port().unwrap()];
            kernel.load(&settings, &State::new().full()).unwrap();
            assert!(!hears(&guard, &own).await, "own load");
            assert!(kernel.present(&settings).unwrap());
            nft("add table ip another");
            assert!(!hears(&guard, &own).await, "another table");
            nft("delete chain ip kube-proxy nat-output");
            assert!(hears(&guard, &own).await, "a chain removed");
            nft("flush ruleset");
            assert!(hears(&guard, &own).await, "everything removed");
            assert!(!kernel.present(&settings).unwrap());
            guard.cover();
            kernel.load(&settings, &State::new().full()).unwrap();
            guard.uncover();
            assert!(!hears(&guard, &[]).await, "covered");
            nft("flush ruleset");
            assert!(hears(&guard, &own).await, "uncovered");
        });
    });
}

fn nft(args: &str) {
    let done = Command::new("nft").args(args.split_whitespace()).status().unwrap();
    assert!(done.success(), "nft {args}");
}
