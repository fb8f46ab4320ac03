//! What a document leaves out, filled in: kubeadm's constants, this build's own choices, facts about the machine.

use rand::Rng;

use crate::images::DEFAULT_IMAGE_REPOSITORY;
use crate::{
    ApiEndpoint, Arg, BootstrapToken, ClusterConfiguration, DEFAULT_CERTIFICATES_DIR, Etcd, Facts,
    GoDuration, Init, Join, KUBERNETES_VERSION, LocalEtcd, NodeRegistration, ResetConfiguration, Timeouts,
    UpgradeConfiguration, Warning, components, facts,
};

/// Group of whoever logs in with a bootstrap token.
pub const NODE_TOKEN_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// Pods' addresses when nothing is said. kubeadm has no default; here the network comes with the build and needs one.
pub const DEFAULT_POD_SUBNET: &str = "10.244.0.0/16";
/// Key algorithm when nothing is said (kubeadm: RSA-2048; this one is faster in every handshake).
pub const DEFAULT_ALGORITHM: &str = "ECDSA-P256";
/// Port of an API server.
pub const DEFAULT_BIND_PORT: i32 = 6443;
/// Where kubeadm keeps etcd's data.
pub const DEFAULT_ETCD_DIR: &str = "/var/lib/etcd";

/// Fills in everything `init` needs. Returned are choices of the file that deserve a line.
pub fn default_init(init: &mut Init, facts: &Facts) -> Vec<Warning> {
    let own = &mut init.init;
    if own.bootstrap_tokens.is_empty() {
        own.bootstrap_tokens.push(BootstrapToken::default());
    }
    own.bootstrap_tokens.iter_mut().for_each(default_token);
    default_node(&mut own.node_registration, facts);
    default_endpoint(&mut own.local_api_endpoint, facts);
    default_timeouts(&mut own.timeouts);
    let mut warnings = default_cluster(&mut init.cluster);
    warnings.extend(components::default_kubelet(&mut init.kubelet, &init.cluster));
    warnings.extend(components::default_proxy(&mut init.proxy, &init.cluster, &init.init.local_api_endpoint));
    warnings
}

/// Fills in what is true of the whole cluster. Returned are choices that have no effect here.
pub fn default_cluster(cluster: &mut ClusterConfiguration) -> Vec<Warning> {
    let mut warnings = crate::validate::without_effect(cluster);
    fill(&mut cluster.certificates_dir, DEFAULT_CERTIFICATES_DIR);
    fill(&mut cluster.cluster_name, "kubernetes");
    fill(&mut cluster.image_repository, DEFAULT_IMAGE_REPOSITORY);
    fill(&mut cluster.encryption_algorithm, DEFAULT_ALGORITHM);
    fill(&mut cluster.networking.service_subnet, "10.96.0.0/12");
    fill(&mut cluster.networking.pod_subnet, DEFAULT_POD_SUBNET);
    fill(&mut cluster.networking.dns_domain, "cluster.local");
    cluster.kubernetes_version = resolve_version(&cluster.kubernetes_version);
    warnings.extend(own_patch(&mut cluster.kubernetes_version));
    cluster.certificate_validity_period.get_or_insert(GoDuration::hours(8760));
    cluster.ca_certificate_validity_period.get_or_insert(GoDuration::hours(87600));
    default_etcd(&mut cluster.etcd);
    warnings
}

fn default_etcd(etcd: &mut Etcd) {
    match &mut etcd.external {
        None => fill(&mut etcd.local.get_or_insert_with(LocalEtcd::default).data_dir, DEFAULT_ETCD_DIR),
        Some(external) if external.http_endpoints.is_empty() => {
            external.http_endpoints.clone_from(&external.endpoints);
        }
        Some(_) => {}
    }
}

/// Fills in everything `join` needs. Returned are choices of the file that deserve a line.
pub fn default_join(join: &mut Join, facts: &Facts) -> Vec<Warning> {
    let own = &mut join.join;
    fill(&mut own.ca_cert_path, "/etc/kubernetes/pki/ca.crt");
    default_node(&mut own.node_registration, facts);
    if let Some(control_plane) = &mut own.control_plane {
        default_endpoint(&mut control_plane.local_api_endpoint, facts);
    }
    if own.discovery.tls_bootstrap_token.is_empty()
        && let Some(by_token) = &own.discovery.bootstrap_token
    {
        own.discovery.tls_bootstrap_token.clone_from(&by_token.token);
    }
    default_timeouts(&mut own.timeouts);
    Vec::new()
}

/// Fills in everything `reset` needs.
pub fn default_reset(reset: &mut ResetConfiguration, facts: &Facts) {
    fill(&mut reset.certificates_dir, DEFAULT_CERTIFICATES_DIR);
    fill(&mut reset.cri_socket, &chosen_socket(facts));
    default_timeouts(&mut reset.timeouts);
}

/// Fills in everything the `upgrade` commands need.
pub fn default_upgrade(upgrade: &mut UpgradeConfiguration) {
    let (apply, node, plan) = (&mut upgrade.apply, &mut upgrade.node, &mut upgrade.plan);
    for yes in [
        &mut apply.certificate_renewal,
        &mut apply.etcd_upgrade,
        &mut apply.image_pull_serial,
        &mut node.certificate_renewal,
        &mut node.etcd_upgrade,
        &mut node.image_pull_serial,
        &mut plan.etcd_upgrade,
    ] {
        yes.get_or_insert(true);
    }
    fill(&mut apply.image_pull_policy, "IfNotPresent");
    fill(&mut node.image_pull_policy, "IfNotPresent");
    upgrade.diff.context_lines.get_or_insert(3);
    default_timeouts(&mut upgrade.timeouts);
}

fn fill(field: &mut String, default: &str) {
    if field.is_empty() {
        *field = default.into();
    }
}

fn default_token(token: &mut BootstrapToken) {
    if token.token.is_empty() {
        token.token = new_token();
    }
    if token.expires.is_none() {
        token.ttl.get_or_insert(GoDuration::hours(24));
    }
    if token.usages.is_empty() {
        token.usages = vec!["signing".into(), "authentication".into()];
    }
    if token.groups.is_empty() {
        token.groups = vec![NODE_TOKEN_GROUP.into()];
    }
}

/// A new random bootstrap token `id.secret`.
pub fn new_token() -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut rng = rand::rng();
    let mut letters = |n: usize| {
        (0..n).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect::<String>()
    };
    format!("{}.{}", letters(6), letters(16))
}

/// The name: an argument of the kubelet wins over the field, the field over the host's name.
fn default_node(node: &mut NodeRegistration, facts: &Facts) {
    match overridden(&node.kubelet_extra_args) {
        Some(name) => node.name = name,
        None => fill(&mut node.name, &facts.hostname),
    }
    fill(&mut node.cri_socket, &chosen_socket(facts));
    if node.cri_socket.starts_with('/') {
        node.cri_socket.insert_str(0, "unix://");
    }
    fill(&mut node.image_pull_policy, "IfNotPresent");
    node.image_pull_serial.get_or_insert(true);
}

fn overridden(args: &[Arg]) -> Option<String> {
    args.iter().rev().find(|a| a.name == "hostname-override").map(|a| a.value.to_lowercase())
}

/// The one runtime that is there; containerd's when there is none; empty (which validation refuses) when there are several.
fn chosen_socket(facts: &Facts) -> String {
    match facts.cri_sockets.as_slice() {
        [] => facts::KNOWN_SOCKETS[0].into(),
        [one] => one.clone(),
        _ => String::new(),
    }
}

/// A loopback address would be told to other machines, so it gives way to the default route's.
fn default_endpoint(endpoint: &mut ApiEndpoint, facts: &Facts) {
    let loopback = endpoint.advertise_address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if (endpoint.advertise_address.is_empty() || loopback)
        && let Some(ip) = facts.default_ip
    {
        endpoint.advertise_address = ip.to_string();
    }
    if endpoint.bind_port == 0 {
        endpoint.bind_port = DEFAULT_BIND_PORT;
    }
}

fn default_timeouts(timeouts: &mut Option<Timeouts>) {
    let t = timeouts.get_or_insert_with(Timeouts::default);
    for (field, minutes) in [
        (&mut t.control_plane_component_health_check, 4),
        (&mut t.kubelet_health_check, 4),
        (&mut t.kubernetes_api_call, 1),
        (&mut t.etcd_api_call, 2),
        (&mut t.tls_bootstrap, 5),
        (&mut t.discovery, 5),
        (&mut t.upgrade_manifests, 5),
    ] {
        field.get_or_insert(GoDuration::minutes(minutes));
    }
}

/// A version in full: labels (`stable-1`, `latest`, `ci/…`) are this build's own version, which needs no network;
/// `1.36.2` and `v1.36.2` are the same.
pub fn resolve_version(given: &str) -> String {
    let label = ["stable", "latest", "ci/", "release/", "k8s-"].iter().any(|l| given.starts_with(l));
    match given {
        "" => KUBERNETES_VERSION.into(),
        _ if label => KUBERNETES_VERSION.into(),
        _ if given.starts_with(|c: char| c.is_ascii_digit()) => format!("v{given}"),
        _ => given.into(),
    }
}

/// Another patch of our minor version is as near as we come: what runs is this build.
fn own_patch(version: &mut String) -> Option<Warning> {
    let minor = |v: &str| v.rsplit_once('.').map(|(minor, _)| minor.to_string());
    let same_minor = minor(version).is_some_and(|m| minor(KUBERNETES_VERSION) == Some(m));
    if !same_minor || version == KUBERNETES_VERSION {
        return None;
    }
    let given = std::mem::replace(version, KUBERNETES_VERSION.into());
    Some(Warning(format!("kubernetesVersion: {given} is asked for, this build is {KUBERNETES_VERSION}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootstrapTokenDiscovery, JoinControlPlane};

    fn facts() -> Facts {
        Facts { hostname: "cp-1".into(), default_ip: "172.30.0.2".parse().ok(), ..Facts::default() }
    }

    #[test]
    fn an_empty_init_is_filled_in_and_valid() {
        let mut init = Init::default();
        assert_eq!(default_init(&mut init, &facts()), []);
        assert_eq!(crate::validate_init(&init), []);
        assert_eq!(init.init.node_registration.name, "cp-1");
        assert_eq!(init.init.local_api_endpoint.advertise_address, "172.30.0.2");
        assert_eq!(init.init.bootstrap_tokens[0].ttl, Some(GoDuration::hours(24)));
        assert_eq!(init.cluster.etcd.local.as_ref().unwrap().data_dir, "/var/lib/etcd");
        let before = init.clone();
        default_init(&mut init, &facts());
        assert_eq!(before, init, "defaulting twice changes nothing");
    }

    #[test]
    fn the_name_of_a_node() {
        for (given, arg, want) in [
            ("", None, "cp-1"),
            ("mine", None, "mine"),
            ("mine", Some("Other"), "other"),
            ("", Some("o"), "o"),
        ] {
            let mut node = NodeRegistration { name: given.into(), ..Default::default() };
            node.kubelet_extra_args
                .extend(arg.map(|v| Arg { name: "hostname-override".into(), value: v.into() }));
            default_node(&mut node, &facts());
            assert_eq!(node.name, want);
        }
    }

    #[test]
    fn the_runtime_that_is_there() {
        for (found, want) in [
            (vec![], "unix:///var/run/containerd/containerd.sock"),
            (vec!["unix:///x"], "unix:///x"),
            (vec!["unix:///x", "unix:///y"], ""),
        ] {
            let found = found.into_iter().map(String::from).collect();
            assert_eq!(chosen_socket(&Facts { cri_sockets: found, ..Facts::default() }), want);
        }
    }

    #[test]
    fn loopback_gives_way_but_other_addresses_stay() {
        for (given, want) in [("127.0.0.1", "172.30.0.2"), ("", "172.30.0.2"), ("10.9.9.9", "10.9.9.9")] {
            let mut endpoint = ApiEndpoint { advertise_address: given.into(), bind_port: 0 };
            default_endpoint(&mut endpoint, &facts());
            assert_eq!((endpoint.advertise_address.as_str(), endpoint.bind_port), (want, 6443));
        }
    }

    #[test]
    fn versions_and_labels() {
        for (given, want) in [
            ("", KUBERNETES_VERSION),
            ("stable-1", KUBERNETES_VERSION),
            ("latest-1.36", KUBERNETES_VERSION),
            ("ci/latest", KUBERNETES_VERSION),
            ("1.36.0", "v1.36.0"),
            ("v1.30.1", "v1.30.1"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(resolve_version(given), want);
        }
    }

    #[test]
    fn another_patch_of_the_same_minor_version_is_this_build() {
        for (given, want, warned) in [
            ("1.36.0", KUBERNETES_VERSION, true),
            (KUBERNETES_VERSION, KUBERNETES_VERSION, false),
            ("v1.30.1", "v1.30.1", false),
        ] {
            let mut cluster = ClusterConfiguration { kubernetes_version: given.into(), ..Default::default() };
            assert_eq!(!default_cluster(&mut cluster).is_empty(), warned, "{given}");
            assert_eq!(cluster.kubernetes_version, want);
        }
    }

    #[test]
    fn a_join_logs_in_with_the_token_it_was_found_by() {
        let mut join = Join::default();
        join.join.control_plane = Some(JoinControlPlane::default());
        join.join.discovery.bootstrap_token =
            Some(BootstrapTokenDiscovery { token: "abcdef.0123456789abcdef".into(), ..Default::default() });
        default_join(&mut join, &facts());
        assert_eq!(join.join.discovery.tls_bootstrap_token, "abcdef.0123456789abcdef");
        assert_eq!(join.join.control_plane.unwrap().local_api_endpoint.bind_port, 6443);
    }

    #[test]
    fn external_etcd_has_no_local_one() {
        let mut init = Init::default();
        init.cluster.etcd.external =
            Some(crate::ExternalEtcd { endpoints: vec!["http://e:2379".into()], ..Default::default() });
        default_init(&mut init, &facts());
        assert!(init.cluster.etcd.local.is_none());
        assert_eq!(init.cluster.etcd.external.unwrap().http_endpoints, ["http://e:2379"]);
    }
}
