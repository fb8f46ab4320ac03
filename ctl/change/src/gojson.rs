//! Hashes of objects, over JSON as Go's encoder writes it.

use coxctl_kit::print::json::compact;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The ten characters that `--append-hash` adds to names: vowels and digits that could spell words are replaced.
pub fn name_hash(value: &Value) -> String {
    let digest = hex::encode(Sha256::digest(compact(value)));
    let letter = |c| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        c => c,
    };
    digest.chars().take(10).map(letter).collect()
}
