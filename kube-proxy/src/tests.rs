//! Services in the model: golden text of the chains, packets traced through the table, changes against full loads.

use expect_test::expect_file;
use proptest::prelude::*;

use crate::chains::{Kind, LocalTraffic, Settings, fixed, picker};
use crate::model::{Class, Family, Frontend, Key, Proto, Rules, Set, Value};
use crate::parse::{EndpointInfo, Hint, PortInfo, ServiceInfo, SliceInfo};
use crate::render::{NodeView, render};
use crate::state::{Changes, Content, State};
use crate::trace::{Fate, Memory, Packet, trace};

fn settings() -> Settings {
    Settings {
        family: Family::V4,
        node_ips: vec!["172.30.0.1".parse().unwrap()],
        node_port_nets: vec![],
        local: LocalTraffic::Network("10.244.0.0/16".parse().unwrap()),
        masquerade_bit: 14,
        masquerade_all: false,
    }
}

fn node() -> NodeView {
    NodeView { ips: settings().node_ips }
}

/// `ip[!]` words: `10.244.1.2` here, `10.244.2.2` elsewhere; `!` not ready, `~` terminating but serving.
fn slice(words: &str) -> SliceInfo {
    let endpoint = |w: &str| EndpointInfo {
        addr: w.trim_end_matches(['!', '~']).parse().unwrap(),
        ready: !w.ends_with(['!', '~']),
        serving: !w.ends_with('!'),
        terminating: w.ends_with('~'),
        local: w.starts_with("10.244.1."),
        zone: Hint::Absent,
        node: Hint::Absent,
    };
    SliceInfo {
        ports: vec![("http".into(), Proto::Tcp, 8080)],
        endpoints: words.split_whitespace().map(endpoint).collect(),
    }
}

/// Words: `np` node port 30080, `lb` 203.0.113.1, `ext` 198.51.100.1, `etp` and `itp` policies Local, `sticky`,
/// `src=NET`.
fn service(words: &str) -> ServiceInfo {
    let has = |w: &str| words.split_whitespace().any(|x| x == w);
    let sources: Vec<ipnet::IpNet> =
        words.split_whitespace().filter_map(|w| w.strip_prefix("src=")?.parse().ok()).collect();
    let ips = |yes, ip: &str| if yes { vec![ip.parse().unwrap()] } else { vec![] };
    ServiceInfo {
        cluster_ip: "10.96.0.10".parse().unwrap(),
        ports: vec![PortInfo {
            name: "http".into(),
            proto: Proto::Tcp,
            port: 80,
            node_port: if has("np") { 30080 } else { 0 },
        }],
        external_ips: ips(has("ext"), "198.51.100.1"),
        vips: ips(has("lb"), "203.0.113.1"),
        restricted: !sources.is_empty(),
        sources,
        sticky: if has("sticky") { 600 } else { 0 },
        internal_local: has("itp"),
        external_local: has("etp"),
        health_port: 0,
    }
}

fn content(name: &str, svc: &ServiceInfo, slices: &[SliceInfo]) -> Content {
    let mut state = State::new();
    let rules = render(name, svc, slices.iter(), &node(), &Rules::default());
    state.replace(&name.into(), rules, &mut Changes::default());
    let mut content = Content::default();
    content.apply(&state.full()).unwrap();
    content
}

fn packet(source: &str, to: &str) -> Packet {
    let (ip, port) = to.rsplit_once(':').unwrap();
    let iif = if source == "172.30.0.1" {
        ""
    } else if source.starts_with("10.244.1.") {
        "cni0"
    } else {
        "eth0"
    };
    let to = Frontend { addr: ip.parse().unwrap(), proto: Proto::Tcp, port: port.parse().unwrap() };
    Packet { source: source.parse().unwrap(), iif: iif.into(), to }
}

fn words(fate: Fate) -> String {
    match fate {
        Fate::Passes => "passes".into(),
        Fate::Refused => "refused".into(),
        Fate::Dropped => "dropped".into(),
        Fate::Translated { to, masqueraded } => {
            let list: Vec<String> = to.iter().map(|b| b.to_string().replace(" . ", ":")).collect();
            format!("{}{}", list.join(" "), if masqueraded { " masq" } else { "" })
        }
    }
}

#[test]
fn chains_as_text() {
    let class = |size, sticky| Class { size, sticky };
    let mut chains = fixed(&settings());
    chains.push(picker(Kind::Address, class(3, 0)));
    chains.push(picker(Kind::LocalNodePort, class(2, 10800)));
    let text: String = chains.iter().map(|c| c.to_string()).collect();
    expect_file!["golden/chains.txt"].assert_eq(&text);
}

#[test]
fn elements_as_text() {
    let mut text = String::new();
    for (svc, eps) in [
        ("", "10.244.1.2 10.244.2.2"),
        ("np lb ext", "10.244.1.2 10.244.2.2"),
        ("np lb etp src=192.0.2.0/25 src=192.0.2.128/25", "10.244.1.2 10.244.2.2"),
        ("np sticky", "10.244.2.2"),
        ("np itp etp", "10.244.2.2"),
        ("np", ""),
    ] {
        let rules = render("ns/web", &service(svc), [slice(eps)].iter(), &node(), &Rules::default());
        text += &format!("# {svc} | {eps}\n");
        rules.all().for_each(|e| text += &format!("{e}\n"));
    }
    expect_file!["golden/elements.txt"].assert_eq(&text);
}

/// service | endpoints | source -> destination | what becomes of it
const PACKETS: &str = "
      | 10.244.1.2 10.244.2.2 | 10.244.1.9 10.96.0.10:80    | 10.244.1.2:8080 10.244.2.2:8080
      | 10.244.1.2 10.244.2.2 | 172.30.0.1 10.96.0.10:80    | 10.244.1.2:8080 10.244.2.2:8080 masq
      | 10.244.1.2            | 10.244.1.2 10.96.0.10:80    | 10.244.1.2:8080 masq
      | 10.244.1.2! 10.244.2.2 | 10.244.1.9 10.96.0.10:80   | 10.244.2.2:8080
      | 10.244.1.2~           | 10.244.1.9 10.96.0.10:80    | 10.244.1.2:8080
      |                       | 10.244.1.9 10.96.0.10:80    | refused
      |                       | 172.30.0.1 10.96.0.10:80    | refused
      | 10.244.1.2            | 10.244.1.9 10.96.0.10:81    | refused
      | 10.244.1.2            | 10.244.1.9 10.96.0.11:80    | passes
 np   | 10.244.2.2            | 192.0.2.7 172.30.0.1:30080  | 10.244.2.2:8080 masq
 np   | 10.244.2.2            | 172.30.0.1 172.30.0.1:30080 | 10.244.2.2:8080 masq
 np   | 10.244.2.2            | 192.0.2.7 172.30.0.1:30081  | passes
 np   |                       | 192.0.2.7 172.30.0.1:30080  | refused
 np   |                       | 10.244.1.9 172.30.0.1:30080 | refused
 np etp | 10.244.1.2 10.244.2.2 | 192.0.2.7 172.30.0.1:30080  | 10.244.1.2:8080
 np etp | 10.244.2.2          | 192.0.2.7 172.30.0.1:30080  | dropped
 np etp | 10.244.2.2          | 10.244.1.9 172.30.0.1:30080 | 10.244.2.2:8080
 np etp | 10.244.2.2          | 172.30.0.1 172.30.0.1:30080 | 10.244.2.2:8080 masq
 np etp |                     | 192.0.2.7 172.30.0.1:30080  | refused
 lb   | 10.244.2.2            | 192.0.2.7 203.0.113.1:80    | 10.244.2.2:8080 masq
 lb etp | 10.244.2.2          | 192.0.2.7 203.0.113.1:80    | dropped
 lb etp | 10.244.1.2 10.244.2.2 | 192.0.2.7 203.0.113.1:80  | 10.244.1.2:8080
 lb etp | 10.244.1.2~ 10.244.2.2 | 192.0.2.7 203.0.113.1:80 | 10.244.1.2:8080
 lb src=192.0.2.0/24 | 10.244.2.2 | 192.0.2.7 203.0.113.1:80 | 10.244.2.2:8080 masq
 lb src=192.0.2.0/24 | 10.244.2.2 | 198.51.100.9 203.0.113.1:80 | dropped
 lb src=192.0.2.0/24 | 10.244.2.2 | 198.51.100.9 10.96.0.10:80 | 10.244.2.2:8080 masq
 ext  | 10.244.2.2            | 192.0.2.7 198.51.100.1:80   | 10.244.2.2:8080 masq
 itp  | 10.244.1.2 10.244.2.2 | 10.244.1.9 10.96.0.10:80    | 10.244.1.2:8080
 itp  | 10.244.2.2            | 10.244.1.9 10.96.0.10:80    | dropped
 itp  |                       | 10.244.1.9 10.96.0.10:80    | refused
 itp np | 10.244.2.2          | 192.0.2.7 172.30.0.1:30080  | 10.244.2.2:8080 masq
 sticky | 10.244.1.2 10.244.2.2 | 10.244.1.9 10.96.0.10:80  | 10.244.1.2:8080";

#[test]
fn packets_traced() {
    for line in PACKETS.lines().skip(1) {
        let cols: Vec<&str> = line.split('|').map(str::trim).collect();
        let (source, to) = cols[2].split_once(' ').unwrap();
        let content = content("ns/web", &service(cols[0]), &[slice(cols[1])]);
        let fate = trace(&settings(), &content, &mut Memory::default(), &packet(source, to.trim()));
        assert_eq!(words(fate), cols[3], "{line}");
    }
}

#[test]
fn affinity_is_kept_while_the_endpoint_is_there() {
    let svc = service("sticky");
    let mut memory = Memory::default();
    let ask = |memory: &mut Memory, eps: &str| {
        let content = content("ns/web", &svc, &[slice(eps)]);
        words(trace(&settings(), &content, memory, &packet("10.244.1.9", "10.96.0.10:80")))
    };
    assert_eq!(ask(&mut memory, "10.244.1.5"), "10.244.1.5:8080");
    assert_eq!(ask(&mut memory, "10.244.1.2 10.244.1.5"), "10.244.1.5:8080");
    assert_eq!(ask(&mut memory, "10.244.1.2 10.244.2.2"), "10.244.1.2:8080");
    assert_eq!(ask(&mut memory, "10.244.1.2 10.244.1.5"), "10.244.1.2:8080", "the old choice is forgotten");
}

#[test]
fn unassigned_service_addresses_are_dropped() {
    let mut content = content("ns/web", &service(""), &[slice("10.244.1.2")]);
    let span = Key::Span("10.96.0.0".parse().unwrap(), "10.96.255.255".parse().unwrap());
    content.elements.insert((Set::ServiceCidrs, span), Value::None);
    let fate = |to| words(trace(&settings(), &content, &mut Memory::default(), &packet("10.244.1.9", to)));
    assert_eq!(
        [fate("10.96.0.11:80"), fate("10.96.0.10:80"), fate("10.97.0.1:80")],
        ["dropped", "10.244.1.2:8080", "passes"]
    );
}

#[test]
fn an_address_claimed_twice_goes_to_the_first_name_and_back() {
    let (mut state, mut content) = (State::new(), Content::default());
    content.apply(&state.full()).unwrap();
    let mut step = |state: &mut State, name: &str, rules: Rules| {
        let mut changes = Changes::default();
        state.replace(&name.into(), rules, &mut changes);
        content.apply(&changes.finish()).unwrap();
        let fate =
            trace(&settings(), &content, &mut Memory::default(), &packet("192.0.2.7", "198.51.100.1:80"));
        words(fate)
    };
    let rules = |name: &str, ip: &str, ep: &str| {
        let svc = ServiceInfo { cluster_ip: ip.parse().unwrap(), ..service("ext") };
        render(name, &svc, [slice(ep)].iter(), &node(), &Rules::default())
    };
    assert_eq!(step(&mut state, "ns/b", rules("ns/b", "10.96.0.2", "10.244.2.2")), "10.244.2.2:8080 masq");
    assert_eq!(step(&mut state, "ns/a", rules("ns/a", "10.96.0.1", "10.244.2.1")), "10.244.2.1:8080 masq");
    assert_eq!(step(&mut state, "ns/a", Rules::default()), "10.244.2.2:8080 masq");
    assert_eq!(step(&mut state, "ns/b", Rules::default()), "passes");
}

fn any_service() -> impl Strategy<Value = String> {
    let flags = ["np", "lb", "ext", "etp", "itp", "sticky", "src=192.0.2.0/24"];
    prop::sample::subsequence(flags.to_vec(), 0..=flags.len()).prop_map(|w| w.join(" "))
}

fn any_endpoints() -> impl Strategy<Value = String> {
    let one = (1u8..3, 2u8..12, prop::sample::select(vec!["", "", "!", "~"]))
        .prop_map(|(n, i, s)| format!("10.244.{n}.{i}{s}"));
    prop::collection::vec(one, 0..9).prop_map(|v| v.join(" "))
}

proptest! {
    /// Any sequence of changes leaves the table as a load from nothing would make it, but for the order of slots.
    #[test]
    fn changes_lead_where_a_full_load_does(steps in prop::collection::vec((0usize..3, prop::option::of((any_service(), any_endpoints()))), 1..12)) {
        let (mut state, mut content) = (State::new(), Content::default());
        let mut last: Vec<Option<(String, String)>> = vec![None; 3];
        for (i, what) in steps {
            let name: crate::model::ServiceName = format!("ns/s{i}").into();
            let old = state.rules(&name).cloned().unwrap_or_default();
            let rules = match &what {
                Some((svc, eps)) => {
                    let svc = ServiceInfo { cluster_ip: format!("10.96.0.{i}").parse().unwrap(), ..service(svc) };
                    render(&name, &svc, [slice(eps)].iter(), &node(), &old)
                }
                None => Rules::default(),
            };
            let mut changes = Changes::default();
            state.replace(&name, rules, &mut changes);
            content.apply(&changes.finish()).map_err(TestCaseError::fail)?;
            last[i] = what;
        }
        let mut fresh = Content::default();
        let full = state.full();
        fresh.apply(&full).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&fresh.elements, &content.elements);
        prop_assert!(fresh.pickers.is_subset(&content.pickers));
    }
}
