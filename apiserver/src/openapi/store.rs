//! Finished documents, compressed.

use std::io::{Read, Write};
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use parking_lot::Mutex;

use crate::discovery::negotiate;

/// A document as gzip.
#[derive(Clone)]
pub struct Packed {
    /// The compressed bytes.
    pub bytes: Bytes,
    /// Quoted hash of the plain bytes.
    pub etag: String,
}

impl Packed {
    /// Packs a document.
    pub fn of(plain: &[u8]) -> Self {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
        // Writing into a Vec does not fail.
        let _ = gzip.write_all(plain);
        Self { bytes: gzip.finish().unwrap_or_default().into(), etag: negotiate::etag(plain) }
    }

    /// Packs a document of JSON.
    pub fn of_json(value: &serde_json::Value) -> Self {
        Self::of(&serde_json::to_vec(value).unwrap_or_default())
    }

    /// The plain bytes.
    pub fn unpack(&self) -> Bytes {
        let mut plain = Vec::with_capacity(self.bytes.len() * 12);
        match GzDecoder::new(self.bytes.as_ref()).read_to_end(&mut plain) {
            Ok(_) => plain.into(),
            Err(_) => Bytes::new(),
        }
    }
}

struct Entry {
    key: u64,
    name: String,
    packed: Packed,
}

static KEPT: LazyLock<Mutex<Vec<Entry>>> = LazyLock::new(Mutex::default);
/// Documents kept at most; there is one for each group version, and two of v2.
const MOST: usize = 256;

/// The document of this name for this set of resources, made when it is not there yet.
pub fn get(key: u64, name: &str, make: impl FnOnce() -> Packed) -> Packed {
    if let Some(found) = KEPT.lock().iter().find(|e| e.key == key && e.name == name) {
        return found.packed.clone();
    }
    let packed = make();
    let mut kept = KEPT.lock();
    // Documents of an older set of resources will not be asked for again.
    kept.retain(|e| e.name != name);
    if kept.len() >= MOST {
        kept.remove(0);
    }
    kept.push(Entry { key, name: name.to_string(), packed: packed.clone() });
    packed
}
