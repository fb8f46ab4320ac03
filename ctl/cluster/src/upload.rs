//! The secret kube-system/kubeadm-certs: what another control plane needs, encrypted with a key only people know.

use std::path::Path;

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use coxctl_pki::seal;
use serde_json::{Map, Value, json};

/// The secret's name, in kube-system.
pub const NAME: &str = "kubeadm-certs";

/// The files shared by control planes with an etcd of their own: name in the PKI directory, mode.
pub const SHARED: [(&str, u32); 8] = [
    ("ca.crt", 0o644),
    ("ca.key", 0o600),
    ("front-proxy-ca.crt", 0o644),
    ("front-proxy-ca.key", 0o600),
    ("sa.pub", 0o600),
    ("sa.key", 0o600),
    ("etcd/ca.crt", 0o644),
    ("etcd/ca.key", 0o600),
];

/// The files shared by the control planes of this cluster: name, mode.
pub fn files(cluster: &coxctl_config::ClusterConfiguration) -> Vec<(&'static str, u32)> {
    let own = cluster.etcd.external.is_none();
    SHARED.into_iter().filter(|(file, _)| own || !file.starts_with("etcd/")).collect()
}

/// The secret's data from the files in `pki`; a missing file is an empty value.
///
/// # Errors
/// When a file is there but can't be read, or the key is bad.
pub fn seal_files(pki: &Path, files: &[(&str, u32)], key: &str) -> Result<Value> {
    let mut data = Map::new();
    for (file, _) in files {
        let path = pki.join(file);
        let sealed = match path.exists() {
            true => seal::seal(
                key,
                &std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?,
            )?,
            false => Vec::new(),
        };
        data.insert(seal::data_key(file), json!(BASE64_STANDARD.encode(sealed)));
    }
    Ok(data.into())
}

/// One file out of the secret's data; `None` when it is not in it.
///
/// # Errors
/// When it can't be decrypted.
pub fn open_file(data: &Value, file: &str, key: &str) -> Result<Option<Vec<u8>>> {
    let Some(raw) = data.get(seal::data_key(file)).and_then(Value::as_str).filter(|r| !r.is_empty()) else {
        return Ok(None);
    };
    let sealed = BASE64_STANDARD.decode(raw).with_context(|| format!("{file} in the secret is no base64"))?;
    seal::open(key, &sealed).map(Some).with_context(|| format!("reading {file} from the secret {NAME}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_travel_encrypted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), "certificate").unwrap();
        let (key, other) = (seal::certificate_key().unwrap(), seal::certificate_key().unwrap());
        let data = seal_files(dir.path(), &SHARED, &key).unwrap();
        assert_eq!(open_file(&data, "ca.crt", &key).unwrap().unwrap(), b"certificate");
        assert_eq!(open_file(&data, "etcd/ca.key", &key).unwrap(), None);
        assert!(open_file(&data, "ca.crt", &other).is_err());
    }
}
