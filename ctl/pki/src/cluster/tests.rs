use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::unrecorded;
use coxctl_config::{ExternalEtcd, GoDuration, default_cluster};

fn cluster() -> ClusterConfiguration {
    let mut cluster = ClusterConfiguration::default();
    default_cluster(&mut cluster);
    cluster
}

fn specs(cluster: &ClusterConfiguration) -> Vec<CertSpec> {
    cluster_certificates(cluster, "cp-1", "172.30.0.2".parse().unwrap()).unwrap()
}

fn make(pki: &Path, cluster: &ClusterConfiguration) -> Result<Report> {
    ensure_all(pki, &specs(cluster), cluster, &mut unrecorded)
}

fn outcomes(report: &Report) -> Vec<Outcome> {
    report.outcomes.iter().map(|o| o.1).collect()
}

/// kubeadm's table, one pair a line: name, authority, CN, usages, names, addresses.
#[test]
fn the_table_of_kubeadm() {
    let mut cluster = cluster();
    cluster.control_plane_endpoint = "lb.example:8443".into();
    cluster.api_server.cert_sans = vec!["10.9.9.9".into(), "*.api.example".into(), "kubernetes".into()];
    let text: String = specs(&cluster)
        .iter()
        .map(|s| {
            let usages = [(s.identity.server, "server"), (s.identity.client, "client")];
            let usages: Vec<&str> = usages.iter().filter(|u| u.0).map(|u| u.1).collect();
            let ips: Vec<String> = s.identity.ips.iter().map(ToString::to_string).collect();
            let (ca, cn) = (s.ca.unwrap_or("-"), &s.identity.cn);
            format!(
                "{} {} {ca} {cn} [{}] {:?} [{}]\n",
                s.name,
                s.base,
                usages.join(","),
                s.identity.dns,
                ips.join(" ")
            )
        })
        .collect();
    expect_test::expect![[r#"
        ca ca - kubernetes [] [] []
        apiserver apiserver ca kube-apiserver [server] ["*.api.example", "cp-1", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "lb.example", "localhost"] [10.96.0.1 172.30.0.2 127.0.0.1 10.9.9.9]
        apiserver-kubelet-client apiserver-kubelet-client ca kube-apiserver-kubelet-client [client] [] []
        front-proxy-ca front-proxy-ca - front-proxy-ca [] [] []
        front-proxy-client front-proxy-client front-proxy-ca front-proxy-client [client] [] []
        etcd-ca etcd/ca - etcd-ca [] [] []
        etcd-server etcd/server etcd-ca cp-1 [server,client] ["cp-1", "localhost"] [172.30.0.2 127.0.0.1 ::1]
        etcd-peer etcd/peer etcd-ca cp-1 [server,client] ["cp-1", "localhost"] [172.30.0.2 127.0.0.1 ::1]
        etcd-healthcheck-client etcd/healthcheck-client etcd-ca kube-etcd-healthcheck-client [client] [] []
        apiserver-etcd-client apiserver-etcd-client etcd-ca kube-apiserver-etcd-client [client] [] []
        sa sa - - [] [] []
    "#]]
    .assert_eq(&text.replace(" -  []", " - - []"));
}

#[test]
fn external_etcd_needs_no_certificates_of_ours() {
    let mut cluster = cluster();
    cluster.etcd.external = Some(ExternalEtcd::default());
    assert!(!specs(&cluster).iter().any(|s| s.name.contains("etcd")));
}

#[test]
fn all_is_made_once_and_kept_after() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let mut told = Vec::new();
    let all = specs(&cluster());
    let first = ensure_all(&pki, &all, &cluster(), &mut |p| {
        assert!(!p.exists(), "{} was made before it was told", p.display());
        told.push(p.strip_prefix(dir.path()).unwrap().display().to_string());
        Ok(())
    })
    .unwrap();
    assert!(outcomes(&first).iter().all(|o| *o == Outcome::Made));
    assert_eq!(told.len(), 2 + 22, "two directories and eleven pairs: {told:?}");
    assert_eq!(told[0], "pki");
    let again = make(&pki, &cluster()).unwrap();
    assert!(outcomes(&again).iter().all(|o| *o == Outcome::Kept));
    assert_eq!(again.warnings, [""; 0]);
    for (file, mode) in [("ca.crt", 0o644), ("ca.key", 0o600), ("sa.pub", 0o600), ("etcd/server.key", 0o600)]
    {
        assert_eq!(fs::metadata(pki.join(file)).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
}

#[test]
fn halves_are_mended() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &cluster()).unwrap();
    let ca_key = fs::read(dir.path().join("ca.key")).unwrap();
    for lost in ["apiserver.crt", "front-proxy-client.key", "sa.pub"] {
        fs::remove_file(dir.path().join(lost)).unwrap();
    }
    let report = make(dir.path(), &cluster()).unwrap();
    let made: Vec<&str> =
        report.outcomes.iter().filter(|o| o.1 == Outcome::Made).map(|o| o.0.as_str()).collect();
    assert_eq!(made, ["apiserver", "front-proxy-client"]);
    assert!(report.warnings[0].contains("front-proxy-client.crt had no key"));
    assert!(dir.path().join("sa.pub").exists());
    // An authority's key without certificate is used, not thrown away.
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    let (outcome, _) = ensure(dir.path(), &specs(&cluster())[0], &cluster(), &mut unrecorded).unwrap();
    assert_eq!((outcome, fs::read(dir.path().join("ca.key")).unwrap()), (Outcome::Made, ca_key));
}

#[test]
fn what_does_not_fit_is_named_with_its_cure() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path();
    make(pki, &cluster()).unwrap();
    let keep = |name: &str| fs::read(pki.join(name)).unwrap();
    let fails = || format!("{:#}", make(pki, &cluster()).unwrap_err());
    let (crt, key) = (keep("apiserver.crt"), keep("apiserver.key"));

    fs::write(pki.join("apiserver.key"), keep("front-proxy-client.key")).unwrap();
    assert!(fails().contains("is not the key of"), "{}", fails());
    fs::write(pki.join("apiserver.key"), &key).unwrap();

    fs::copy(pki.join("front-proxy-client.crt"), pki.join("apiserver.crt")).unwrap();
    fs::copy(pki.join("front-proxy-client.key"), pki.join("apiserver.key")).unwrap();
    assert!(fails().contains("was not signed by") && fails().contains("move"), "{}", fails());

    fs::copy(pki.join("apiserver-kubelet-client.crt"), pki.join("apiserver.crt")).unwrap();
    fs::copy(pki.join("apiserver-kubelet-client.key"), pki.join("apiserver.key")).unwrap();
    assert!(fails().contains("serverAuth"), "{}", fails());

    fs::write(pki.join("apiserver.crt"), "rubbish").unwrap();
    assert!(fails().contains("no certificate in the text"), "{}", fails());
    fs::write(pki.join("apiserver.crt"), &crt).unwrap();
    fs::write(pki.join("apiserver.key"), &key).unwrap();

    let mut other = cluster();
    other.api_server.cert_sans = vec!["new.example".into()];
    let error = format!("{:#}", make(pki, &other).unwrap_err());
    assert!(error.contains("new.example") && error.contains("apiserver.crt"), "{error}");

    fs::write(pki.join("sa.pub"), Key::generate(Default::default()).unwrap().public_pem()).unwrap();
    assert!(fails().contains("does not hold the public half"), "{}", fails());
    fs::remove_file(pki.join("sa.key")).unwrap();
    assert!(fails().contains("tokens can't be signed"), "{}", fails());
}

#[test]
fn a_loopback_name_of_ours_is_not_asked_of_kubeadms_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let all = specs(&cluster());
    let mut without = all[1].clone();
    without.identity.dns.retain(|n| n != "localhost");
    without.identity.ips.retain(|i| !i.is_loopback());
    ensure_all(dir.path(), &[all[0].clone(), without], &cluster(), &mut unrecorded).unwrap();
    let (outcome, _) = ensure(dir.path(), &all[1], &cluster(), &mut unrecorded).unwrap();
    assert_eq!(outcome, Outcome::Kept);
}

#[test]
fn an_external_authority_is_enough_when_its_leaves_are_there() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &cluster()).unwrap();
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    let report = make(dir.path(), &cluster()).unwrap();
    let external: Vec<&str> =
        report.outcomes.iter().filter(|o| o.1 == Outcome::External).map(|o| o.0.as_str()).collect();
    assert_eq!(external, ["ca", "apiserver", "apiserver-kubelet-client"]);
    fs::remove_file(dir.path().join("apiserver.crt")).unwrap();
    let error = format!("{:#}", make(dir.path(), &cluster()).unwrap_err());
    assert!(error.contains("apiserver.crt is missing") && error.contains("external authority"), "{error}");
}

#[test]
fn what_has_run_out_is_renewed_or_remarked_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut short = cluster();
    short.certificate_validity_period = Some(GoDuration(0));
    make(dir.path(), &short).unwrap();
    let report = make(dir.path(), &cluster()).unwrap();
    let renewed = report.outcomes.iter().filter(|o| o.1 == Outcome::Renewed).count();
    assert_eq!((renewed, report.warnings.len()), (7, 0));
    assert!(outcomes(&make(dir.path(), &cluster()).unwrap()).iter().all(|o| *o == Outcome::Kept));

    // Authorities are never renewed, and leaves only by an authority that can.
    let dir = tempfile::tempdir().unwrap();
    short.ca_certificate_validity_period = Some(GoDuration(0));
    make(dir.path(), &short).unwrap();
    fs::remove_file(dir.path().join("front-proxy-ca.key")).unwrap();
    let report = make(dir.path(), &cluster()).unwrap();
    let texts = report.warnings.join("\n");
    for want in [
        "ca has run out",
        "front-proxy-ca has run out",
        "front-proxy-client has run out",
        "etcd-ca has run out",
    ] {
        assert!(texts.contains(want), "{texts}");
    }
}

#[test]
fn a_leaf_without_authority_says_what_to_make_first() {
    let dir = tempfile::tempdir().unwrap();
    let error = ensure(dir.path(), &specs(&cluster())[1], &cluster(), &mut unrecorded).unwrap_err();
    assert!(error.to_string().contains("phase certs/ca"), "{error}");
}

/// The openssl program, where there is one, agrees that the chains hold and the server's names are right.
#[test]
fn openssl_agrees() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &cluster()).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let run = |args: &[&str]| std::process::Command::new("openssl").args(args).output();
    let (ca, crt) = (path("ca.crt"), path("apiserver.crt"));
    let Ok(found) = run(&[
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-verify_ip",
        "10.96.0.1",
        "-CAfile",
        &ca,
        &crt,
    ]) else {
        eprintln!("no openssl on this machine");
        return;
    };
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    for (ca, leaf, purpose) in [
        ("ca", "apiserver-kubelet-client", "sslclient"),
        ("front-proxy-ca", "front-proxy-client", "sslclient"),
        ("etcd/ca", "etcd/peer", "sslserver"),
        ("etcd/ca", "etcd/peer", "sslclient"),
    ] {
        let (ca, crt) = (path(&format!("{ca}.crt")), path(&format!("{leaf}.crt")));
        let found = run(&["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &ca, &crt]).unwrap();
        assert!(found.status.success(), "{leaf}: {}", String::from_utf8_lossy(&found.stderr));
    }
}

/// An authority made by openssl, as kubeadm's are: RSA, PKCS#1, its name a PrintableString.
#[test]
fn leaves_of_a_foreign_authority_verify() {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("ca.crt", include_str!("../../testdata/foreign-ca.crt")),
        ("ca.key", include_str!("../../testdata/foreign-ca.key")),
    ] {
        fs::write(dir.path().join(file), text).unwrap();
    }
    let all = specs(&cluster());
    let report = ensure_all(dir.path(), &all[..3], &cluster(), &mut unrecorded).unwrap();
    assert_eq!(outcomes(&report), [Outcome::Kept, Outcome::Made, Outcome::Made]);
    assert_eq!(
        outcomes(&ensure_all(dir.path(), &all[..3], &cluster(), &mut unrecorded).unwrap()),
        [Outcome::Kept; 3]
    );
}
