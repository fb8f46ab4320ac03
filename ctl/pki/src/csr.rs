//! `certs generate-csr`: keys, and requests to have them signed elsewhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use coxctl_config::Init;
use serde_json::{Value, json};

use crate::authority::{Terms, request};
use crate::cluster::cluster_certificates;
use crate::expiry::Dirs;
use crate::files::write_file;
use crate::key::Algorithm;
use crate::nodeconf::{KubeconfigSpec, advertise_ip, cluster_kubeconfigs};

/// Writes a key and a request beside it for every leaf of a control plane, and kubeconfigs that lack only their
/// certificate. Returned are the requests' paths.
///
/// # Errors
/// A file that is there already (nothing is written then), or can't be written.
pub fn generate(dirs: &Dirs, init: &Init) -> Result<Vec<PathBuf>> {
    let algorithm = Terms::of(&init.cluster)?.algorithm;
    let local = &init.init.local_api_endpoint;
    let node = &init.init.node_registration.name;
    let leaves = cluster_certificates(&init.cluster, node, advertise_ip(local)?)?;
    let leaves: Vec<_> = leaves.into_iter().filter(|s| s.ca.is_some()).collect();
    let confs = cluster_kubeconfigs(&init.cluster, node, local, true);
    let bases = leaves.iter().map(|s| dirs.pki.join(s.base));
    let taken = bases.flat_map(|b| [with(&b, ".key"), with(&b, ".csr")]);
    let files = confs.iter().map(|s| dirs.kubeconfigs.join(s.file));
    let taken: Vec<PathBuf> =
        taken.chain(files.flat_map(|f| [with(&f, ".csr"), f])).filter(|p| p.exists()).collect();
    let names: Vec<String> = taken.iter().map(|p| p.display().to_string()).collect();
    ensure!(names.is_empty(), "these files are there already and are not written over: {}", names.join(", "));
    let mut out = Vec::new();
    for leaf in &leaves {
        let base = dirs.pki.join(leaf.base);
        let (csr, key) = request(&leaf.identity, algorithm)?;
        write_file(&with(&base, ".key"), key.as_bytes(), 0o600)?;
        out.push(written(with(&base, ".csr"), &csr)?);
    }
    for spec in &confs {
        out.push(kubeconfig(&dirs.kubeconfigs, spec, &init.cluster.cluster_name, algorithm)?);
    }
    Ok(out)
}

fn kubeconfig(dir: &Path, spec: &KubeconfigSpec, cluster: &str, algorithm: Algorithm) -> Result<PathBuf> {
    let path = dir.join(spec.file);
    let (csr, key) = request(&spec.identity(), algorithm)?;
    let credentials = json!({"client-key-data": BASE64_STANDARD.encode(key)});
    let mut document = spec.document(cluster, "", credentials);
    // Whoever signs adds the authority and the certificate.
    if let Some(cluster) = document["clusters"][0]["cluster"].as_object_mut() {
        cluster.remove("certificate-authority-data");
    }
    write_file(&path, text(&document)?.as_bytes(), 0o600)?;
    written(with(&path, ".csr"), &csr)
}

fn text(document: &Value) -> Result<String> {
    serde_yaml::to_string(document).context("writing a kubeconfig")
}

fn written(path: PathBuf, csr: &str) -> Result<PathBuf> {
    write_file(&path, csr.as_bytes(), 0o644)?;
    Ok(path)
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use coxctl_config::{Facts, default_init};

    #[test]
    fn requests_stand_beside_their_keys_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs { pki: dir.path().join("pki"), kubeconfigs: dir.path().into() };
        let mut init = Init::default();
        let ip = "172.30.0.2".parse().ok();
        default_init(&mut init, &Facts { hostname: "cp-1".into(), default_ip: ip, ..Facts::default() });
        let made = generate(&dirs, &init).unwrap();
        assert_eq!(made.len(), 7 + 5);
        let key = std::fs::read_to_string(dirs.pki.join("etcd/server.key")).unwrap();
        assert!(Key::from_pem(&key).is_ok());
        let csr = std::fs::read_to_string(dirs.pki.join("apiserver.csr")).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(csr.as_bytes()).unwrap();
        use x509_parser::prelude::FromDer;
        let (_, csr) =
            x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).unwrap();
        csr.verify_signature().unwrap();
        assert_eq!(csr.certification_request_info.subject.to_string(), "CN=kube-apiserver");
        let asked: Vec<_> = csr.requested_extensions().unwrap().collect();
        use x509_parser::extensions::ParsedExtension::{ExtendedKeyUsage, SubjectAlternativeName};
        assert!(asked.iter().any(|e| matches!(e, ExtendedKeyUsage(usage) if usage.server_auth)));
        assert!(asked.iter().any(|e| matches!(e, SubjectAlternativeName(_))));
        let conf: Value =
            serde_yaml::from_slice(&std::fs::read(dir.path().join("scheduler.conf")).unwrap()).unwrap();
        assert!(conf["users"][0]["user"]["client-key-data"].is_string());
        assert!(conf["clusters"][0]["cluster"].get("certificate-authority-data").is_none());
        let error = generate(&dirs, &init).unwrap_err().to_string();
        assert!(error.contains("apiserver.key") && error.contains("scheduler.conf.csr"), "{error}");
    }
}
