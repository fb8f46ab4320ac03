//! PEM files and the identities in them, watched for replacement.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// How often, at most, a file's stamp is looked at. A handshake or request asks; nothing runs in between.
const STAMP_INTERVAL: Duration = Duration::from_secs(1);

/// All certificates of a PEM text, in order. Other blocks are passed over.
pub fn certs_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certs: Vec<_> =
        rustls_pemfile::certs(&mut &pem[..]).collect::<Result<_, _>>().context("PEM certificates")?;
    if certs.is_empty() { Err(anyhow!("no certificate in PEM data")) } else { Ok(certs) }
}

/// The first private key of a PEM text (PKCS#1, PKCS#8 or SEC1).
pub fn key_from_pem(pem: &[u8]) -> Result<PrivateKeyDer<'static>> {
    rustls_pemfile::private_key(&mut &pem[..])
        .context("PEM private key")?
        .ok_or_else(|| anyhow!("no private key in PEM data"))
}

/// A chain and its key, ready for rustls.
pub fn certified_key(cert_pem: &[u8], key_pem: &[u8]) -> Result<CertifiedKey> {
    let key = rustls::crypto::ring::sign::any_supported_type(&key_from_pem(key_pem)?)
        .context("private key type")?;
    let certified = CertifiedKey::new(certs_from_pem(cert_pem)?, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(anyhow!("certificate and private key do not belong together"))
        }
        _ => Ok(certified),
    }
}

/// A trust store of every certificate in the PEM text.
pub fn root_store(pem: &[u8]) -> Result<rustls::RootCertStore> {
    let mut store = rustls::RootCertStore::empty();
    for cert in certs_from_pem(pem)? {
        store.add(cert).context("CA certificate")?;
    }
    Ok(store)
}

/// When a file was last replaced: modification time, size and inode, following links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp(SystemTime, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp(meta.modified().ok()?, meta.len(), meta.ino()))
}

struct Loaded<T> {
    value: Arc<T>,
    stamps: Vec<Option<Stamp>>,
    looked: Instant,
    generation: u64,
}

/// A value made from files, made again when one of them is replaced. A reload that fails keeps the last good value.
pub struct Reloading<T> {
    paths: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T> + Send + Sync>,
    state: Mutex<Loaded<T>>,
}

impl<T> std::fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").field("paths", &self.paths).finish()
    }
}

impl<T> Reloading<T> {
    /// Loads once; an error here is the caller's to report.
    pub fn new(paths: Vec<PathBuf>, load: impl Fn() -> Result<T> + Send + Sync + 'static) -> Result<Self> {
        let stamps = paths.iter().map(|p| stamp(p)).collect();
        let value = Arc::new(load()?);
        let state = Mutex::new(Loaded { value, stamps, looked: Instant::now(), generation: 0 });
        Ok(Self { paths, load: Box::new(load), state })
    }

    /// The value as of now, and a number that grows with each reload.
    pub fn current(&self) -> (Arc<T>, u64) {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= STAMP_INTERVAL {
            self.refresh(&mut state);
        }
        (state.value.clone(), state.generation)
    }

    /// Looks at the files now, without waiting for the next moment to do so.
    pub fn look(&self) {
        self.refresh(&mut self.state.lock());
    }

    fn refresh(&self, state: &mut Loaded<T>) {
        state.looked = Instant::now();
        let stamps: Vec<_> = self.paths.iter().map(|p| stamp(p)).collect();
        if stamps == state.stamps {
            return;
        }
        match (self.load)() {
            Ok(value) => {
                state.value = Arc::new(value);
                state.stamps = stamps;
                state.generation += 1;
                tracing::info!(files = ?self.paths, "reloaded after the files changed");
            }
            Err(error) => {
                tracing::warn!(files = ?self.paths, %error, "reload failed, keeping the previous one")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reload_follows_the_file_and_survives_rubbish() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        std::fs::write(&path, "1").unwrap();
        let p = path.clone();
        let load = move || Ok(std::fs::read_to_string(&p)?.parse::<u32>()?);
        let value = Reloading::new(vec![path.clone()], load).unwrap();
        assert_eq!(*value.current().0, 1);
        let expire = |v: &Reloading<u32>| v.state.lock().looked = Instant::now() - STAMP_INTERVAL;
        std::fs::write(&path, "rubbish").unwrap();
        expire(&value);
        assert_eq!(value.current(), (Arc::new(1), 0));
        std::fs::write(&path, "22").unwrap();
        expire(&value);
        assert_eq!(value.current(), (Arc::new(22), 1));
    }
}
