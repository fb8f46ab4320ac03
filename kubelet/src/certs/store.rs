//! Certificate and key in one PEM file with a date in its name, and a link `NAME-current.pem` to the newest.

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Pairs of one purpose in a directory.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    name: &'static str,
}

impl Store {
    /// `kubelet-client` or `kubelet-server` in the certificate directory.
    pub fn new(dir: &Path, name: &'static str) -> Self {
        Self { dir: dir.to_owned(), name }
    }

    /// The link to the newest pair.
    pub fn current(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.name))
    }

    /// Writes a pair and points the link at it; a crash leaves the old pair or the new one.
    pub fn put(&self, cert_pem: &[u8], key_pem: &[u8], now: Timestamp) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(&self.dir)?;
        let date = now.strftime("%Y-%m-%d-%H-%M-%S");
        let path = self.dir.join(format!("{}-{date}.pem", self.name));
        let mut content = cert_pem.to_vec();
        if !content.ends_with(b"\n") {
            content.push(b'\n');
        }
        content.extend_from_slice(key_pem);
        write_private(&path, &content)?;
        let link = self.dir.join(format!("{}-current.pem.new", self.name));
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&path, &link)?;
        fs::rename(&link, self.current())?;
        Ok(path)
    }

    /// The newest pair, if there is one: its PEM text.
    pub fn read(&self) -> Option<Vec<u8>> {
        fs::read(self.current()).ok()
    }

    /// A key that outlives a crash between request and certificate: read, or made and kept.
    pub fn pending_key(&self) -> anyhow::Result<rcgen::KeyPair> {
        let path = self.pending_path();
        if let Ok(pem) = fs::read_to_string(&path)
            && let Ok(key) = rcgen::KeyPair::from_pem(&pem)
        {
            return Ok(key);
        }
        fs::create_dir_all(&self.dir)?;
        let key = rcgen::KeyPair::generate()?;
        write_private(&path, key.serialize_pem().as_bytes())?;
        Ok(key)
    }

    /// Forgets the pending key, after it has got its certificate or was refused one.
    pub fn drop_pending_key(&self) {
        let _ = fs::remove_file(self.pending_path());
    }

    fn pending_path(&self) -> PathBuf {
        self.dir.join(format!("{}.key.tmp", self.name))
    }
}

/// Writes a file nobody else may read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().ok_or_else(|| anyhow!("{} has no file name", path.display()))?;
    let temp = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    let _ = fs::remove_file(&temp);
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temp)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temp, path).with_context(|| format!("write {}", path.display()))
}

/// First and last moment of the first certificate in a PEM text.
pub fn validity(pem: &[u8]) -> anyhow::Result<(Timestamp, Timestamp)> {
    let certs = daemon::cert::certs_from_pem(pem)?;
    let first = certs.first().ok_or_else(|| anyhow!("no certificate"))?;
    let (_, cert) = x509_parser::parse_x509_certificate(first).map_err(|e| anyhow!("certificate: {e}"))?;
    let v = cert.validity();
    Ok((Timestamp::from_second(v.not_before.timestamp())?, Timestamp::from_second(v.not_after.timestamp())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn pairs_are_private_and_the_link_moves() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "kubelet-client");
        let made = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        store.put(b"old", b"old", at("2026-01-01T00:00:00Z")).unwrap();
        let path = store.put(cert.as_bytes(), key.as_bytes(), at("2026-01-02T03:04:05Z")).unwrap();
        assert!(path.ends_with("kubelet-client-2026-01-02-03-04-05.pem"));
        assert_eq!(fs::read_link(store.current()).unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let pem = store.read().unwrap();
        assert!(daemon::cert::certified_key(&pem, &pem).is_ok());
        let (from, to) = validity(&pem).unwrap();
        assert!(from < to);
    }

    #[test]
    fn a_pending_key_survives_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "kubelet-client");
        let first = store.pending_key().unwrap().serialize_pem();
        assert_eq!(store.pending_key().unwrap().serialize_pem(), first);
        store.drop_pending_key();
        assert_ne!(store.pending_key().unwrap().serialize_pem(), first);
    }
}
