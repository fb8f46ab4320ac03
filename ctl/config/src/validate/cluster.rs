//! Rules of the cluster's document.

use machinery::field::Path;
use machinery::names::is_dns1123_subdomain;

use super::{absolute, alt_names, each, host_port, network};
use crate::{Arg, ClusterConfiguration, ExternalEtcd, FieldError, GoDuration, KUBERNETES_VERSION, Warning};

/// The key algorithms, as named in documents.
pub const ALGORITHMS: [&str; 5] = ["ECDSA-P256", "ECDSA-P384", "RSA-2048", "RSA-3072", "RSA-4096"];
/// kubeadm's feature gates of 1.36.
const GATES: [&str; 3] = ["NodeLocalCRISocket", "RootlessControlPlane", "PublicKeysECDSA"];

/// Checks a ClusterConfiguration, after defaulting.
pub fn validate_cluster(cluster: &ClusterConfiguration) -> Vec<FieldError> {
    let mut errors = network::validate(cluster);
    errors.extend(version(&cluster.kubernetes_version));
    errors.extend(absolute(&Path::new("certificatesDir"), &cluster.certificates_dir));
    errors.extend(alt_names(&Path::new("apiServer.certSANs"), &cluster.api_server.cert_sans));
    if !cluster.control_plane_endpoint.is_empty() {
        errors.extend(host_port(&Path::new("controlPlaneEndpoint"), &cluster.control_plane_endpoint));
    }
    let name = &cluster.cluster_name;
    errors.extend(each(&Path::new("clusterName"), is_dns1123_subdomain(name), name));
    errors.extend(etcd(cluster));
    errors.extend(arguments(cluster));
    errors.extend(gates(cluster));
    errors.extend(keys(cluster));
    errors
}

/// A build makes clusters of its own minor version alone.
fn version(text: &str) -> Option<FieldError> {
    let path = Path::new("kubernetesVersion");
    let Some((major, minor)) = major_minor(text) else {
        let detail = format!(
            "version {text:?} doesn't match patterns for neither semantic version nor labels (stable, latest, ...)"
        );
        return Some(FieldError::invalid(&path, text, detail));
    };
    let detail =
        format!("this build makes clusters of version {KUBERNETES_VERSION} (or leave the field out)");
    (Some((major, minor)) != major_minor(KUBERNETES_VERSION))
        .then(|| FieldError::invalid(&path, text, detail))
}

fn major_minor(text: &str) -> Option<(u32, u32)> {
    let (core, _) = text.strip_prefix('v')?.split_once(['-', '+']).unwrap_or((&text[1..], ""));
    let parts: Option<Vec<u32>> = core.split('.').map(|p| p.parse().ok()).collect();
    match parts?.as_slice() {
        [major, minor, _patch] => Some((*major, *minor)),
        _ => None,
    }
}

fn etcd(cluster: &ClusterConfiguration) -> Vec<FieldError> {
    let path = Path::new("etcd");
    match (&cluster.etcd.local, &cluster.etcd.external) {
        (Some(_), Some(_)) => {
            vec![FieldError::invalid(&path, "", "either .Etcd.Local or .Etcd.External is required, not both")]
        }
        (None, Some(external)) => external_etcd(&path.child("external"), external),
        (Some(local), None) => {
            let path = path.child("local");
            let mut errors: Vec<FieldError> =
                absolute(&path.child("dataDir"), &local.data_dir).into_iter().collect();
            errors.extend(alt_names(&path.child("serverCertSANs"), &local.server_cert_sans));
            errors.extend(alt_names(&path.child("peerCertSANs"), &local.peer_cert_sans));
            errors
        }
        (None, None) => {
            vec![FieldError::invalid(&path, "", "either .Etcd.Local or .Etcd.External is required")]
        }
    }
}

fn external_etcd(path: &Path, etcd: &ExternalEtcd) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if etcd.endpoints.is_empty() {
        errors.push(FieldError::required(
            &path.child("endpoints"),
            "at least one endpoint of an external etcd",
        ));
    }
    let mutual = !etcd.cert_file.is_empty() && !etcd.key_file.is_empty();
    if etcd.cert_file.is_empty() != etcd.key_file.is_empty() || (mutual && etcd.ca_file.is_empty()) {
        let detail = "setting .Etcd.External.CertFile or .Etcd.External.KeyFile requires the other and .Etcd.External.CAFile";
        errors.push(FieldError::invalid(path, "", detail));
    }
    for (name, file) in
        [("caFile", &etcd.ca_file), ("certFile", &etcd.cert_file), ("keyFile", &etcd.key_file)]
    {
        errors.extend(absolute(&path.child(name), file).filter(|_| !file.is_empty()));
    }
    let secure = mutual || !etcd.ca_file.is_empty();
    errors.extend(urls(&path.child("endpoints"), &etcd.endpoints, secure));
    errors.extend(urls(&path.child("httpEndpoints"), &etcd.http_endpoints, false));
    errors
}

fn urls(path: &Path, urls: &[String], secure: bool) -> Vec<FieldError> {
    let check = |(i, url): (usize, &String)| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let detail = match scheme {
            "https" | "http" if rest.trim_end_matches('/').is_empty() => "the URL names no host",
            "https" => return None,
            "http" if !secure => return None,
            "http" => "the URL must be using the HTTPS scheme",
            _ => "the URL is neither http nor https",
        };
        Some(FieldError::invalid(&path.index(i), url.as_str(), detail))
    };
    urls.iter().enumerate().filter_map(check).collect()
}

fn arguments(cluster: &ClusterConfiguration) -> Vec<FieldError> {
    let none: &[Arg] = &[];
    let lists = [
        ("apiServer.extraArgs", cluster.api_server.extra_args.as_slice()),
        ("controllerManager.extraArgs", &cluster.controller_manager.extra_args),
        ("scheduler.extraArgs", &cluster.scheduler.extra_args),
        ("etcd.local.extraArgs", cluster.etcd.local.as_ref().map_or(none, |l| &l.extra_args)),
    ];
    let check = |(path, args): (&str, &[Arg])| {
        let mut errors = super::machine::unnamed(&Path::new(path), args);
        errors.extend(switches(&Path::new(path), args));
        errors
    };
    lists.into_iter().flat_map(check).collect()
}

/// A daemon ends at once when its feature gates are no list of switches.
fn switches(path: &Path, args: &[Arg]) -> Vec<FieldError> {
    let wrong = |value: &str| {
        value.split(',').map(str::trim).filter(|s| !s.is_empty()).find_map(|switch| {
            let (name, on) = switch.split_once('=').unwrap_or((switch, ""));
            let fits = !name.is_empty() && on.parse::<bool>().is_ok();
            (!fits).then(|| format!("{switch:?} does not switch a feature: want NAME=true or NAME=false"))
        })
    };
    let gates = args.iter().enumerate().filter(|(_, a)| a.name == "feature-gates");
    gates
        .filter_map(|(i, a)| Some((i, a, wrong(&a.value)?)))
        .map(|(i, a, detail)| FieldError::invalid(&path.index(i).child("value"), a.value.as_str(), detail))
        .collect()
}

fn gates(cluster: &ClusterConfiguration) -> Vec<FieldError> {
    let path = Path::new("featureGates");
    let check = |(gate, on): (&String, &bool)| match gate.as_str() {
        "NodeLocalCRISocket" if !on => Some(FieldError::invalid(
            &path.key(gate),
            *on,
            "cannot set feature gate to false, feature is locked to true",
        )),
        known if GATES.contains(&known) => None,
        _ => {
            Some(FieldError::invalid(&path, gate.as_str(), format!("unrecognized feature-gate key: {gate}")))
        }
    };
    cluster.feature_gates.iter().filter_map(check).collect()
}

fn keys(cluster: &ClusterConfiguration) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !ALGORITHMS.contains(&cluster.encryption_algorithm.as_str()) {
        let path = Path::new("encryptionAlgorithm");
        errors.push(FieldError::not_supported(&path, cluster.encryption_algorithm.as_str(), &ALGORITHMS));
    }
    for (name, period) in [
        ("certificateValidityPeriod", cluster.certificate_validity_period),
        ("caCertificateValidityPeriod", cluster.ca_certificate_validity_period),
    ] {
        if let Some(bad) = period.filter(|p| *p < GoDuration::minutes(1)) {
            let detail = "a certificate must live for a minute at least";
            errors.push(FieldError::invalid(&Path::new(name), bad.to_string(), detail));
        }
    }
    errors
}

/// Lines on what a document asks for and this build does otherwise or not at all. Takes a document before defaulting.
pub fn without_effect(cluster: &ClusterConfiguration) -> Vec<Warning> {
    let mut out = Vec::new();
    let mut say = |text: String| out.push(Warning(text));
    let volumes = [
        ("apiServer", &cluster.api_server.extra_volumes),
        ("controllerManager", &cluster.controller_manager.extra_volumes),
        ("scheduler", &cluster.scheduler.extra_volumes),
    ];
    for (component, _) in volumes.iter().filter(|(_, v)| !v.is_empty()) {
        say(format!(
            "{component}.extraVolumes: the control plane runs on the machine itself, not in pods, and sees its files anyway"
        ));
    }
    let none = Vec::new();
    let envs = [
        ("apiServer", &cluster.api_server.extra_envs),
        ("controllerManager", &cluster.controller_manager.extra_envs),
        ("scheduler", &cluster.scheduler.extra_envs),
        ("etcd.local", cluster.etcd.local.as_ref().map_or(&none, |l| &l.extra_envs)),
    ];
    for (component, env) in envs.iter().flat_map(|(c, all)| all.iter().map(move |e| (c, e))) {
        if env.get("valueFrom").is_some_and(|v| !v.is_null()) {
            let name = env["name"].as_str().unwrap_or_default();
            say(format!(
                "{component}.extraEnvs: {name} has no value: valueFrom is for pods, and the control plane is daemons of the machine"
            ));
        }
    }
    let images = |l: &crate::LocalEtcd| !l.image_repository.is_empty() || !l.image_tag.is_empty();
    if cluster.etcd.local.as_ref().is_some_and(images) {
        say("etcd.local: imageRepository and imageTag have no effect, etcd is a program of the machine, not an image".into());
    }
    if cluster.image_repository == "registry.k8s.io" {
        say("imageRepository: registry.k8s.io holds none of this build's images; the ones that come with the build are used".into());
    }
    for gate in ["RootlessControlPlane", "PublicKeysECDSA"]
        .iter()
        .filter(|g| cluster.feature_gates.get(**g) == Some(&true))
    {
        say(format!("featureGates: {gate} has no effect here"));
    }
    periods(cluster, &mut say);
    out
}

fn periods(cluster: &ClusterConfiguration, say: &mut impl FnMut(String)) {
    let (year, ten) = (GoDuration::hours(8760), GoDuration::hours(87600));
    let leaf = cluster.certificate_validity_period.unwrap_or(year);
    let ca = cluster.ca_certificate_validity_period.unwrap_or(ten);
    if leaf > ca {
        say(format!("certificateValidityPeriod: {leaf} is longer than the authority's own {ca}"));
    }
    for (name, given, default) in
        [("certificateValidityPeriod", leaf, year), ("caCertificateValidityPeriod", ca, ten)]
    {
        if given > default {
            say(format!("{name}: the value {given} is above the default {default}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arg, LocalEtcd, default_cluster};

    fn errors(change: impl FnOnce(&mut ClusterConfiguration)) -> Vec<String> {
        let mut cluster = ClusterConfiguration::default();
        change(&mut cluster);
        default_cluster(&mut cluster);
        validate_cluster(&cluster).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_cluster_of_defaults_is_fine() {
        assert_eq!(errors(|_| {}), [""; 0]);
        assert_eq!(errors(|c| c.kubernetes_version = "1.36.0".into()), [""; 0]);
    }

    #[test]
    fn each_rule_names_its_field() {
        type Change = fn(&mut ClusterConfiguration);
        let cases: [(Change, &str); 11] = [
            (
                |c| c.kubernetes_version = "v1.30.1".into(),
                "kubernetesVersion: Invalid value: \"v1.30.1\": this build",
            ),
            (
                |c| c.kubernetes_version = "newest".into(),
                "kubernetesVersion: Invalid value: \"newest\": version",
            ),
            (
                |c| c.certificates_dir = "pki".into(),
                "certificatesDir: Invalid value: \"pki\": path is not absolute",
            ),
            (
                |c| c.api_server.cert_sans = vec!["a b".into()],
                "apiServer.certSANs[0]: Invalid value: \"a b\": altName",
            ),
            (|c| c.control_plane_endpoint = "x:99999".into(), "controlPlaneEndpoint: Invalid value"),
            (
                |c| c.encryption_algorithm = "DSA".into(),
                "encryptionAlgorithm: Unsupported value: \"DSA\": supported values: \"ECDSA-P256\"",
            ),
            (
                |c| c.certificate_validity_period = Some(GoDuration(0)),
                "certificateValidityPeriod: Invalid value: \"0s\"",
            ),
            (
                |c| {
                    c.feature_gates.insert("Foo".into(), true);
                },
                "unrecognized feature-gate key: Foo",
            ),
            (|c| c.scheduler.extra_args = vec![Arg::default()], "scheduler.extraArgs[0].name"),
            (
                |c| c.api_server.extra_args = vec![gates("A=true,B"), gates("A=true")],
                "apiServer.extraArgs[0].value: Invalid value: \"A=true,B\": \"B\" does not switch a feature",
            ),
            (
                |c| c.etcd.local = Some(LocalEtcd { data_dir: "x".into(), ..Default::default() }),
                "etcd.local.dataDir",
            ),
        ];
        for (change, want) in cases {
            let got = errors(change).join("\n");
            assert!(got.contains(want), "{got:?} lacks {want:?}");
        }
    }

    fn gates(value: &str) -> Arg {
        Arg { name: "feature-gates".into(), value: value.into() }
    }

    #[test]
    fn an_etcd_elsewhere() {
        let check = |ca: &str, cert: &str, key: &str, url: &str| {
            let etcd = ExternalEtcd {
                endpoints: vec![url.into()],
                ca_file: ca.into(),
                cert_file: cert.into(),
                key_file: key.into(),
                ..Default::default()
            };
            errors(|c| c.etcd.external = Some(etcd)).join("\n")
        };
        assert_eq!(check("", "", "", "http://e:2379"), "");
        assert_eq!(check("/ca", "/c", "/k", "https://e:2379"), "");
        assert!(check("", "/c", "/k", "https://e:2379").contains("requires the other"));
        assert!(check("/ca", "/c", "", "https://e:2379").contains("requires the other"));
        assert!(check("/ca", "/c", "/k", "http://e:2379").contains("HTTPS scheme"));
        assert!(check("ca", "", "", "https://e:2379").contains("etcd.external.caFile"));
        assert!(check("", "", "", "e:2379").contains("neither http nor https"));
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let mut cluster = ClusterConfiguration {
            image_repository: "registry.k8s.io".into(),
            certificate_validity_period: Some(GoDuration::hours(100_000)),
            ..Default::default()
        };
        cluster.scheduler.extra_volumes.push(Default::default());
        cluster.api_server.extra_envs = vec![
            serde_json::json!({"name": "A", "valueFrom": {"fieldRef": {}}}),
            serde_json::json!({"name": "B", "value": "b"}),
        ];
        let lines = without_effect(&cluster);
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert_eq!(without_effect(&ClusterConfiguration::default()), []);
    }
}
