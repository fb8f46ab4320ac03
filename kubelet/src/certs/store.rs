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
        self.point_at(&path)?;
        self.thin(&path);
        Ok(path)
    }

    /// All dated pairs, oldest first: their names sort by date.
    fn pairs(&self) -> Vec<PathBuf> {
        let prefix = format!("{}-", self.name);
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|e| e.path());
        let dated = |path: &PathBuf| {
            let rest = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(&prefix));
            rest.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()) && r.ends_with(".pem"))
        };
        let mut pairs: Vec<PathBuf> = entries.filter(dated).collect();
        pairs.sort();
        pairs
    }

    /// Removes old pairs: with lives of minutes they would fill the directory.
    fn thin(&self, newest: &Path) {
        const KEPT: usize = 5;
        let old: Vec<PathBuf> = self.pairs().into_iter().filter(|p| p != newest).collect();
        for path in old.iter().rev().skip(KEPT - 1) {
            let _ = fs::remove_file(path);
        }
    }

    /// Points the link at the newest whole pair when it leads nowhere, as after a crash or a hand's mistake.
    pub fn heal(&self) {
        let whole =
            |path: &Path| fs::read(path).is_ok_and(|pem| daemon::cert::certified_key(&pem, &pem).is_ok());
        if whole(&self.current()) {
            return;
        }
        let Some(newest) = self.pairs().into_iter().rev().find(|p| whole(p)) else { return };
        match self.point_at(&newest) {
            Ok(()) => tracing::warn!(pair = %newest.display(), "link to the current certificate mended"),
            Err(error) => tracing::warn!(%error, "link to the current certificate is broken"),
        }
    }

    fn point_at(&self, path: &Path) -> std::io::Result<()> {
        let link = self.dir.join(format!("{}-current.pem.new", self.name));
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(path, &link)?;
        fs::rename(&link, self.current())
    }

    /// When the newest pair was written.
    pub fn obtained(&self) -> Option<Timestamp> {
        Timestamp::try_from(fs::metadata(self.current()).ok()?.modified().ok()?).ok()
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

/// Common name of the first certificate in a PEM text.
pub fn common_name(pem: &[u8]) -> Option<String> {
    let certs = daemon::cert::certs_from_pem(pem).ok()?;
    let (_, cert) = x509_parser::parse_x509_certificate(certs.first()?).ok()?;
    let name = cert.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
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
    fn old_pairs_go_and_a_broken_link_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "kubelet-client");
        let made = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for second in 0..8 {
            let at = Timestamp::from_second(1_800_000_000 + second).unwrap();
            store.put(cert.as_bytes(), key.as_bytes(), at).unwrap();
        }
        let pairs = store.pairs();
        assert_eq!((pairs.len(), fs::read_link(store.current()).unwrap()), (5, pairs[4].clone()));
        fs::write(&pairs[4], "cut off").unwrap();
        store.heal();
        assert_eq!(fs::read_link(store.current()).unwrap(), pairs[3]);
        fs::remove_file(store.current()).unwrap();
        store.heal();
        assert_eq!(fs::read_link(store.current()).unwrap(), pairs[3]);
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
