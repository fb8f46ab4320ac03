//! The secret kube-system/kubeadm-certs: what another control plane needs, encrypted with a key only people know.

use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use coxctl_config::ClusterConfiguration;
use coxctl_pki::seal;
use serde_json::{Map, Value, json};

/// The secret's name, in kube-system.
pub const NAME: &str = "kubeadm-certs";

/// The files shared by control planes with an etcd of their own: name in the PKI directory, mode.
const SHARED: [(&str, u32); 8] = [
    ("ca.crt", 0o644),
    ("ca.key", 0o600),
    ("front-proxy-ca.crt", 0o644),
    ("front-proxy-ca.key", 0o600),
    ("sa.pub", 0o600),
    ("sa.key", 0o600),
    ("etcd/ca.crt", 0o644),
    ("etcd/ca.key", 0o600),
];

/// A file that control planes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Its key in the secret's data.
    pub key: String,
    /// Where it lies, on every control plane alike.
    pub path: String,
    /// Its mode.
    pub mode: u32,
}

/// The files shared by the control planes of this cluster; with an etcd elsewhere, those by which it is reached.
pub fn files(cluster: &ClusterConfiguration) -> Vec<Shared> {
    let pki = |(file, mode): (&str, u32)| Shared {
        key: seal::data_key(file),
        path: format!("{}/{file}", cluster.certificates_dir),
        mode,
    };
    let Some(external) = &cluster.etcd.external else { return SHARED.into_iter().map(pki).collect() };
    let own = SHARED.into_iter().filter(|(file, _)| !file.starts_with("etcd/")).map(pki);
    let theirs = [
        ("external-etcd-ca.crt", &external.ca_file, 0o644),
        ("external-etcd.crt", &external.cert_file, 0o644),
        ("external-etcd.key", &external.key_file, 0o600),
    ];
    let theirs = theirs.into_iter().filter(|(_, path, _)| !path.is_empty());
    own.chain(theirs.map(|(key, path, mode)| Shared { key: key.into(), path: path.clone(), mode })).collect()
}

/// The secret's data from the files, which `place` finds; a missing file is an empty value.
///
/// # Errors
/// When a file is there but can't be read, or the key is bad.
pub fn seal_files(place: impl Fn(&str) -> PathBuf, files: &[Shared], key: &str) -> Result<Value> {
    let mut data = Map::new();
    for file in files {
        let path = place(&file.path);
        let sealed = match path.exists() {
            true => seal::seal(
                key,
                &std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?,
            )?,
            false => Vec::new(),
        };
        data.insert(file.key.clone(), json!(BASE64_STANDARD.encode(sealed)));
    }
    Ok(data.into())
}

/// One file out of the secret's data; `None` when it is not in it.
///
/// # Errors
/// When it can't be decrypted.
pub fn open_file(data: &Value, file: &Shared, key: &str) -> Result<Option<Vec<u8>>> {
    let name = &file.key;
    let Some(raw) = data.get(name).and_then(Value::as_str).filter(|r| !r.is_empty()) else {
        return Ok(None);
    };
    let sealed = BASE64_STANDARD.decode(raw).with_context(|| format!("{name} in the secret is no base64"))?;
    seal::open(key, &sealed).map(Some).with_context(|| format!("reading {name} from the secret {NAME}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_travel_encrypted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), "certificate").unwrap();
        let (key, other) = (seal::certificate_key().unwrap(), seal::certificate_key().unwrap());
        let cluster =
            ClusterConfiguration { certificates_dir: dir.path().display().to_string(), ..Default::default() };
        let files = files(&cluster);
        let named = |key: &str| files.iter().find(|f| f.key == key).unwrap();
        let data = seal_files(|p| PathBuf::from(p), &files, &key).unwrap();
        assert_eq!(open_file(&data, named("ca.crt"), &key).unwrap().unwrap(), b"certificate");
        assert_eq!(open_file(&data, named("etcd-ca.key"), &key).unwrap(), None);
        assert!(open_file(&data, named("ca.crt"), &other).is_err());
    }

    #[test]
    fn the_way_to_an_etcd_elsewhere_is_shared() {
        let mut cluster = ClusterConfiguration { certificates_dir: "/p".into(), ..Default::default() };
        cluster.etcd.external = Some(coxctl_config::ExternalEtcd {
            ca_file: "/e/ca.crt".into(),
            cert_file: "/e/client.crt".into(),
            key_file: "/e/client.key".into(),
            ..Default::default()
        });
        let names: Vec<String> = files(&cluster).iter().map(|f| format!("{}={}", f.key, f.path)).collect();
        assert_eq!(
            names.join(" "),
            "ca.crt=/p/ca.crt ca.key=/p/ca.key front-proxy-ca.crt=/p/front-proxy-ca.crt \
             front-proxy-ca.key=/p/front-proxy-ca.key sa.pub=/p/sa.pub sa.key=/p/sa.key \
             external-etcd-ca.crt=/e/ca.crt external-etcd.crt=/e/client.crt external-etcd.key=/e/client.key"
        );
    }
}
