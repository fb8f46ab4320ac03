//! Rules of one machine's documents: init, join, reset, upgrade.

use machinery::field::Path;
use machinery::names::is_dns1123_subdomain;

use super::{absolute, each, host_port, validate_cluster};
use crate::{
    ApiEndpoint, Arg, BootstrapToken, Discovery, FieldError, GoDuration, Init, Join, NodeRegistration,
    ResetConfiguration, UpgradeConfiguration,
};

/// Flags that may stand beside `--config` (kubeadm's list, and our own `bundle` and `bin-dir`, which no document has).
const BESIDE_CONFIG: [&str; 20] = [
    "config",
    "ignore-preflight-errors",
    "dry-run",
    "kubeconfig",
    "node-name",
    "kubeconfig-dir",
    "upload-certs",
    "print-manifest",
    "rootfs",
    "v",
    "yes",
    "force",
    "output",
    "print-join-command",
    "log-file",
    "show-managed-fields",
    "allow-missing-template-keys",
    "bundle",
    "bin-dir",
    "color",
];

/// Refuses flags that a configuration file must say instead.
///
/// # Errors
/// Names every flag that may not stand beside `--config`.
pub fn check_mixed(flags: &[String]) -> Result<(), String> {
    let bad: Vec<&str> = flags.iter().map(String::as_str).filter(|f| !may_stand_beside_config(f)).collect();
    if bad.is_empty() {
        Ok(())
    } else {
        Err(format!("can not mix '--config' with arguments [{}]", bad.join(" ")))
    }
}

fn may_stand_beside_config(flag: &str) -> bool {
    BESIDE_CONFIG.contains(&flag) || flag.starts_with("skip-")
}

/// The checks to ignore: the flag's and the file's together, lower case, each once.
///
/// # Errors
/// `all` beside other names.
pub fn ignored_checks(flag: &[String], file: &[String]) -> Result<Vec<String>, FieldError> {
    let mut all: Vec<String> = flag.iter().chain(file).map(|n| n.trim().to_lowercase()).collect();
    all.sort();
    all.dedup();
    if all.len() > 1 && all.iter().any(|n| n == "all") {
        let detail = "don't specify individual checks if 'all' is used";
        return Err(FieldError::invalid(&Path::new("ignore-preflight-errors"), all.join(","), detail));
    }
    Ok(all)
}

/// Checks all of `init`'s documents, after defaulting.
pub fn validate_init(init: &Init) -> Vec<FieldError> {
    let own = &init.init;
    let mut errors = node(&Path::new("nodeRegistration"), &own.node_registration);
    for (i, token) in own.bootstrap_tokens.iter().enumerate() {
        errors.extend(bootstrap_token(&Path::new("bootstrapTokens").index(i), token));
    }
    errors.extend(certificate_key(&Path::new("certificateKey"), &own.certificate_key));
    errors.extend(endpoint(&Path::new("localAPIEndpoint"), &own.local_api_endpoint));
    errors.extend(validate_cluster(&init.cluster));
    errors
}

/// Checks a JoinConfiguration, after defaulting.
pub fn validate_join(join: &Join) -> Vec<FieldError> {
    let own = &join.join;
    let mut errors = discovery(&Path::new("discovery"), &own.discovery);
    errors.extend(node(&Path::new("nodeRegistration"), &own.node_registration));
    errors.extend(absolute(&Path::new("caCertPath"), &own.ca_cert_path));
    if let Some(control_plane) = &own.control_plane {
        let path = Path::new("controlPlane");
        errors.extend(endpoint(&path.child("localAPIEndpoint"), &control_plane.local_api_endpoint));
        errors.extend(certificate_key(&path.child("certificateKey"), &control_plane.certificate_key));
    }
    errors
}

/// Checks a ResetConfiguration, after defaulting.
pub fn validate_reset(reset: &ResetConfiguration) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        socket(&Path::new("criSocket"), &reset.cri_socket).into_iter().collect();
    errors.extend(absolute(&Path::new("certificatesDir"), &reset.certificates_dir));
    errors.extend(ignored_checks(&[], &reset.ignore_preflight_errors).err());
    let known = ["MNT_FORCE", "MNT_DETACH", "MNT_EXPIRE", "UMOUNT_NOFOLLOW"];
    for flag in reset.unmount_flags.iter().filter(|f| !known.contains(&f.as_str())) {
        errors.push(FieldError::not_supported(&Path::new("unmountFlags"), flag.as_str(), &known));
    }
    errors
}

/// Checks an UpgradeConfiguration, after defaulting.
pub fn validate_upgrade(upgrade: &UpgradeConfiguration) -> Vec<FieldError> {
    let lists = [
        &upgrade.apply.ignore_preflight_errors,
        &upgrade.node.ignore_preflight_errors,
        &upgrade.plan.ignore_preflight_errors,
    ];
    let mut errors: Vec<FieldError> =
        lists.into_iter().filter_map(|l| ignored_checks(&[], l).err()).collect();
    for (name, policy) in
        [("apply", &upgrade.apply.image_pull_policy), ("node", &upgrade.node.image_pull_policy)]
    {
        errors.extend(pull_policy(&Path::new(name).child("imagePullPolicy"), policy));
    }
    errors
}

fn node(path: &Path, node: &NodeRegistration) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = path.child("name");
    match node.name.is_empty() {
        true => {
            let detail = "--node-name or .nodeRegistration.name in the config file is a required value, this machine has no host name";
            errors.push(FieldError::required(&name, detail));
        }
        false => errors.extend(each(&name, is_dns1123_subdomain(&node.name), &node.name)),
    }
    errors.extend(socket(&path.child("criSocket"), &node.cri_socket));
    errors.extend(pull_policy(&path.child("imagePullPolicy"), &node.image_pull_policy));
    errors.extend(ignored_checks(&[], &node.ignore_preflight_errors).err());
    errors.extend(unnamed(&path.child("kubeletExtraArgs"), &node.kubelet_extra_args));
    for (i, taint) in node.taints.iter().flatten().enumerate() {
        errors.extend(taint_effect(&path.child("taints").index(i), taint));
    }
    errors
}

fn taint_effect(path: &Path, taint: &serde_json::Value) -> Option<FieldError> {
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let text = |key: &str| taint.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_string();
    if text("key").is_empty() {
        return Some(FieldError::required(&path.child("key"), ""));
    }
    let effect = text("effect");
    (!known.contains(&effect.as_str()))
        .then(|| FieldError::not_supported(&path.child("effect"), effect, &known))
}

fn socket(path: &Path, socket: &str) -> Option<FieldError> {
    if socket.is_empty() {
        let detail = "found multiple CRI endpoints on the host; choose one by --cri-socket or this field";
        return Some(FieldError::required(path, detail));
    }
    match socket.split_once("://") {
        Some(("unix", file)) => absolute(path, file),
        Some((scheme, _)) => {
            let detail = format!("only URL scheme \"unix\" is supported, got {scheme:?}");
            Some(FieldError::invalid(path, socket, detail))
        }
        None => absolute(path, socket),
    }
}

fn pull_policy(path: &Path, policy: &str) -> Option<FieldError> {
    let known = ["Always", "IfNotPresent", "Never"];
    (!known.contains(&policy)).then(|| FieldError::not_supported(path, policy, &known))
}

/// Arguments need names.
pub(super) fn unnamed(path: &Path, args: &[Arg]) -> Vec<FieldError> {
    let bad = args.iter().enumerate().filter(|(_, a)| a.name.is_empty() || a.name.starts_with('-'));
    bad.map(|(i, a)| {
        FieldError::invalid(
            &path.index(i).child("name"),
            a.name.as_str(),
            "an argument's name, without dashes",
        )
    })
    .collect()
}

fn endpoint(path: &Path, endpoint: &ApiEndpoint) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (at, address) = (path.child("advertiseAddress"), endpoint.advertise_address.as_str());
    match address.parse::<std::net::IpAddr>() {
        Err(_) if address.is_empty() => errors.push(FieldError::required(
            &at,
            "this machine has no default route and not just one address; give the address other machines reach it by (--apiserver-advertise-address)",
        )),
        Err(_) => errors.push(FieldError::invalid(&at, address, "ip address is not valid")),
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
            errors.push(FieldError::invalid(&at, address, "must be the address of one machine"));
        }
        Ok(_) => {}
    }
    if !(1..=65535).contains(&endpoint.bind_port) {
        errors.push(FieldError::invalid(
            &path.child("bindPort"),
            endpoint.bind_port,
            "port number is not valid",
        ));
    }
    errors
}

fn certificate_key(path: &Path, key: &str) -> Option<FieldError> {
    let fine = key.is_empty() || (key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit()));
    // The key opens the cluster's secrets, so a bad one is not repeated.
    (!fine).then(|| FieldError::invalid(path, "<hidden>", "must be 32 bytes as 64 hexadecimal digits"))
}

fn is_token(text: &str) -> bool {
    let word = |t: &str, n| t.len() == n && t.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    text.split_once('.').is_some_and(|(id, secret)| word(id, 6) && word(secret, 16))
}

fn bootstrap_token(path: &Path, token: &BootstrapToken) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = token_form(&path.child("token"), &token.token).into_iter().collect();
    if token.ttl.is_some() && token.expires.is_some() {
        errors.push(FieldError::invalid(
            &path.child("expires"),
            "",
            "ttl and expires are mutually exclusive",
        ));
    }
    if let Some(ttl) = token.ttl.filter(|t| *t < GoDuration(0)) {
        errors.push(FieldError::invalid(&path.child("ttl"), ttl.to_string(), "must not be negative"));
    }
    let known = ["signing", "authentication"];
    for (i, usage) in token.usages.iter().enumerate().filter(|(_, u)| !known.contains(&u.as_str())) {
        errors.push(FieldError::not_supported(&path.child("usages").index(i), usage.as_str(), &known));
    }
    for (i, group) in token.groups.iter().enumerate().filter(|(_, g)| !is_bootstrap_group(g)) {
        let detail =
            r"bootstrap group is invalid (must match \Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z)";
        errors.push(FieldError::invalid(&path.child("groups").index(i), group.as_str(), detail));
    }
    errors
}

/// Whether a token may put its users into this group.
pub fn is_bootstrap_group(group: &str) -> bool {
    let Some(tail) = group.strip_prefix("system:bootstrappers:") else { return false };
    let fine = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b':' || b == b'-';
    tail.len() <= 256
        && tail.bytes().all(fine)
        && tail.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
}

fn token_form(path: &Path, token: &str) -> Option<FieldError> {
    let detail = r#"the bootstrap token is not of the form "[a-z0-9]{6}.[a-z0-9]{16}""#;
    // The secret half stays out of messages.
    let shown = token.split('.').next().unwrap_or_default();
    (!is_token(token)).then(|| FieldError::invalid(path, shown, detail))
}

fn discovery(path: &Path, discovery: &Discovery) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match (&discovery.bootstrap_token, &discovery.file) {
        (None, None) => errors.push(FieldError::invalid(path, "", "bootstrapToken or file must be set")),
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, "", "bootstrapToken and file cannot both be set"));
        }
        (Some(_), None) => errors.extend(by_token(&path.child("bootstrapToken"), discovery)),
        (None, Some(file)) => {
            errors.extend(by_file(&path.child("file.kubeConfigPath"), &file.kube_config_path))
        }
    }
    if !discovery.tls_bootstrap_token.is_empty() {
        errors.extend(token_form(&path.child("tlsBootstrapToken"), &discovery.tls_bootstrap_token));
    }
    errors
}

fn by_token(path: &Path, discovery: &Discovery) -> Vec<FieldError> {
    let Some(by) = &discovery.bootstrap_token else { return Vec::new() };
    let mut errors: Vec<FieldError> = token_form(&path.child("token"), &by.token).into_iter().collect();
    let endpoint = path.child("apiServerEndpoint");
    match by.api_server_endpoint.is_empty() {
        true => errors.push(FieldError::required(&endpoint, "APIServerEndpoint is not set")),
        false => errors.extend(host_port(&endpoint, &by.api_server_endpoint)),
    }
    let hashes = path.child("caCertHashes");
    if by.ca_cert_hashes.is_empty() && !by.unsafe_skip_ca_verification {
        let detail = "using token-based discovery without caCertHashes can be unsafe. Set unsafeSkipCAVerification as true in the config file or pass --discovery-token-unsafe-skip-ca-verification flag to continue";
        errors.push(FieldError::invalid(&hashes, "", detail));
    }
    for (i, hash) in by.ca_cert_hashes.iter().enumerate().filter(|(_, h)| !is_pin(h)) {
        let detail = "a hash is \"sha256:\" and 64 hexadecimal digits";
        errors.push(FieldError::invalid(&hashes.index(i), hash.as_str(), detail));
    }
    errors
}

fn is_pin(text: &str) -> bool {
    let hex = text.get(..7).filter(|p| p.eq_ignore_ascii_case("sha256:")).map(|_| &text[7..]);
    hex.is_some_and(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn by_file(path: &Path, file: &str) -> Option<FieldError> {
    if file.is_empty() {
        return Some(FieldError::required(path, ""));
    }
    let fine = file.starts_with("https://") || std::path::Path::new(file).exists();
    (!fine).then(|| FieldError::invalid(path, file, "not a valid HTTPS URL or a file on disk"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BootstrapTokenDiscovery, Facts, FileDiscovery, JoinControlPlane, default_init, default_join,
    };

    fn facts() -> Facts {
        Facts { hostname: "n1".into(), default_ip: "10.0.0.1".parse().ok(), ..Facts::default() }
    }

    fn init_errors(change: impl FnOnce(&mut Init)) -> String {
        let mut init = Init::default();
        change(&mut init);
        default_init(&mut init, &facts());
        super::super::report(&validate_init(&init))
    }

    #[test]
    fn rules_of_init() {
        type Change = fn(&mut Init);
        let cases: [(Change, &str); 14] = [
            (
                |i| i.init.node_registration.name = "Node_1".into(),
                "nodeRegistration.name: Invalid value: \"Node_1\"",
            ),
            (
                |i| i.init.node_registration.cri_socket = "tcp://x".into(),
                "only URL scheme \"unix\" is supported, got \"tcp\"",
            ),
            (
                |i| i.init.node_registration.image_pull_policy = "Maybe".into(),
                "nodeRegistration.imagePullPolicy: Unsupported value",
            ),
            (
                |i| i.init.node_registration.ignore_preflight_errors = vec!["all".into(), "Swap".into()],
                "don't specify individual checks",
            ),
            (
                |i| {
                    i.init.node_registration.taints =
                        Some(vec![serde_json::json!({"key": "a", "effect": "Go"})])
                },
                "nodeRegistration.taints[0].effect",
            ),
            (
                |i| i.init.local_api_endpoint.advertise_address = "0.0.0.0".into(),
                "must be the address of one machine",
            ),
            (|i| i.init.local_api_endpoint.advertise_address = "host".into(), "ip address is not valid"),
            (
                |i| i.init.local_api_endpoint.bind_port = 70000,
                "localAPIEndpoint.bindPort: Invalid value: 70000: port number is not valid",
            ),
            (|i| i.init.certificate_key = "abc".into(), "certificateKey: Invalid value: \"<hidden>\""),
            (
                |i| {
                    i.init.bootstrap_tokens =
                        vec![BootstrapToken { token: "abc.secret".into(), ..Default::default() }]
                },
                "bootstrapTokens[0].token: Invalid value: \"abc\"",
            ),
            (
                |i| {
                    i.init.bootstrap_tokens =
                        vec![BootstrapToken { usages: vec!["x".into()], ..Default::default() }]
                },
                "bootstrapTokens[0].usages[0]",
            ),
            (
                |i| {
                    i.init.bootstrap_tokens =
                        vec![BootstrapToken { groups: vec!["system:masters".into()], ..Default::default() }]
                },
                "bootstrap group is invalid",
            ),
            (
                |i| {
                    i.init.bootstrap_tokens =
                        vec![BootstrapToken { ttl: Some(GoDuration(-1)), ..Default::default() }]
                },
                "bootstrapTokens[0].ttl",
            ),
            (|i| i.cluster.certificates_dir = "x".into(), "certificatesDir"),
        ];
        for (change, want) in cases {
            let got = init_errors(change);
            assert!(got.contains(want), "{got:?} lacks {want:?}");
        }
    }

    #[test]
    fn a_machine_without_name_route_or_choice_of_runtime() {
        let mut init = Init::default();
        let sockets = vec!["unix:///a".into(), "unix:///b".into()];
        default_init(&mut init, &Facts { cri_sockets: sockets, ..Facts::default() });
        let got = super::super::report(&validate_init(&init));
        for want in ["nodeRegistration.name: Required", "criSocket: Required", "advertiseAddress: Required"] {
            assert!(got.contains(want), "{got:?} lacks {want:?}");
        }
    }

    fn join_errors(change: impl FnOnce(&mut Join)) -> String {
        let mut join = Join::default();
        join.join.discovery.bootstrap_token = Some(BootstrapTokenDiscovery {
            token: "abcdef.0123456789abcdef".into(),
            api_server_endpoint: "10.0.0.1:6443".into(),
            ca_cert_hashes: vec![format!("sha256:{}", "a".repeat(64))],
            ..Default::default()
        });
        change(&mut join);
        default_join(&mut join, &facts());
        super::super::report(&validate_join(&join))
    }

    fn by(join: &mut Join) -> &mut BootstrapTokenDiscovery {
        join.join.discovery.bootstrap_token.get_or_insert_default()
    }

    #[test]
    fn rules_of_join() {
        assert_eq!(join_errors(|_| {}), "[]");
        type Change = fn(&mut Join);
        let cases: [(Change, &str); 9] = [
            (
                |j| j.join.discovery.bootstrap_token = None,
                "discovery: Invalid value: \"\": bootstrapToken or file must be set",
            ),
            (
                |j| j.join.discovery.file = Some(FileDiscovery::default()),
                "bootstrapToken and file cannot both be set",
            ),
            (|j| by(j).token = "x".into(), "discovery.bootstrapToken.token"),
            (|j| by(j).api_server_endpoint = String::new(), "APIServerEndpoint is not set"),
            (|j| by(j).ca_cert_hashes.clear(), "without caCertHashes can be unsafe"),
            (|j| by(j).ca_cert_hashes = vec!["md5:x".into()], "discovery.bootstrapToken.caCertHashes[0]"),
            (|j| j.join.discovery.tls_bootstrap_token = "x".into(), "discovery.tlsBootstrapToken"),
            (|j| j.join.ca_cert_path = "x".into(), "caCertPath"),
            (
                |j| {
                    j.join.control_plane =
                        Some(JoinControlPlane { certificate_key: "x".into(), ..Default::default() })
                },
                "controlPlane.certificateKey",
            ),
        ];
        for (change, want) in cases {
            let got = join_errors(change);
            assert!(got.contains(want), "{got:?} lacks {want:?}");
        }
    }

    #[test]
    fn discovery_files_are_there_or_far() {
        for (file, fine) in [("/etc/hostname-that-is-not", false), ("https://x/y", true), ("http://x", false)]
        {
            let got = join_errors(|j| {
                j.join.discovery.bootstrap_token = None;
                j.join.discovery.file = Some(FileDiscovery { kube_config_path: file.into() });
            });
            assert_eq!(got == "[]", fine, "{got}");
        }
    }

    #[test]
    fn flags_beside_a_file() {
        let flags = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(check_mixed(&flags(&["config", "skip-phases", "v", "bundle"])), Ok(()));
        let bad = check_mixed(&flags(&["config", "pod-network-cidr", "token"]));
        assert_eq!(bad, Err("can not mix '--config' with arguments [pod-network-cidr token]".into()));
    }

    #[test]
    fn ignored_checks_of_flag_and_file_join() {
        let list = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(ignored_checks(&list(&["Swap", "numcpu"]), &list(&["swap"])).unwrap(), ["numcpu", "swap"]);
        assert!(ignored_checks(&list(&["all"]), &list(&["swap"])).is_err());
        assert_eq!(ignored_checks(&list(&["All"]), &[]).unwrap(), ["all"]);
    }

    #[test]
    fn rules_of_reset_and_upgrade() {
        let mut reset = ResetConfiguration { unmount_flags: vec!["MNT_X".into()], ..Default::default() };
        crate::default_reset(&mut reset, &facts());
        assert!(
            super::super::report(&validate_reset(&reset))
                .contains("unmountFlags: Unsupported value: \"MNT_X\"")
        );
        let mut upgrade = UpgradeConfiguration::default();
        crate::default_upgrade(&mut upgrade);
        assert_eq!(validate_upgrade(&upgrade), []);
        upgrade.node.image_pull_policy = "x".into();
        assert!(super::super::report(&validate_upgrade(&upgrade)).contains("node.imagePullPolicy"));
    }
}
