//! Node ports: one record of bits in the store, replaced only when it is still the one that was read.

use super::range::{band, order};
use crate::storage::{Error, Kv, Outcome, Storage};
use base64::Engine;
use bytes::Bytes;
use rand::Rng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The node ports of a cluster.
#[derive(Clone)]
pub struct Ports {
    storage: Arc<dyn Storage>,
    key: String,
    first: u16,
    last: u16,
    /// Changes of one server take turns: what is left to contend with is other servers.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Why a port could not be had; the texts are what clients see.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Somebody has it.
    #[error("provided port is already allocated")]
    Taken(u16),
    /// It lies outside the range.
    #[error("provided port is not in the valid range. The range of valid ports is {1}")]
    OutOfRange(u16, String),
    /// All are taken.
    #[error("range is full")]
    Full,
    /// The store did not do it.
    #[error("{0}")]
    Store(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Store(error.to_string())
    }
}

/// How often a change is tried again after somebody else was faster.
const ATTEMPTS: usize = 64;

/// Bits, the lowest port first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bits(Vec<u8>);

impl Bits {
    /// From the stored form: one large number, most significant byte first.
    fn from_number(bytes: &[u8]) -> Self {
        Bits(bytes.iter().rev().copied().collect())
    }

    fn to_number(&self) -> Vec<u8> {
        let used = self.0.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        self.0.iter().take(used).rev().copied().collect()
    }

    fn has(&self, i: usize) -> bool {
        self.0.get(i / 8).is_some_and(|b| b & (1 << (i % 8)) != 0)
    }

    fn put(&mut self, i: usize, on: bool) {
        if self.0.len() <= i / 8 {
            self.0.resize(i / 8 + 1, 0);
        }
        if let Some(byte) = self.0.get_mut(i / 8) {
            if on { *byte |= 1 << (i % 8) } else { *byte &= !(1 << (i % 8)) }
        }
    }
}

impl Ports {
    /// The ports from `first` to `last`, kept below `prefix` in the store.
    pub fn new(storage: Arc<dyn Storage>, prefix: &str, (first, last): (u16, u16)) -> Self {
        let key = format!("{}/ranges/servicenodeports", prefix.trim_end_matches('/'));
        Self { storage, key, first, last, turn: Arc::default() }
    }

    /// `first-last`.
    pub fn range(&self) -> String {
        format!("{}-{}", self.first, self.last)
    }

    fn size(&self) -> usize {
        usize::from(self.last.saturating_sub(self.first)) + 1
    }

    /// Takes the ports in `wanted`; a zero stands for any free one. Gives them back in the same order.
    /// Either all are taken or none. With `dry` nothing is written.
    pub async fn take(&self, wanted: &[u16], dry: bool) -> Result<Vec<u16>, Refused> {
        if let Some(port) = wanted.iter().find(|p| **p != 0 && !(self.first..=self.last).contains(p)) {
            return Err(Refused::OutOfRange(*port, self.range()));
        }
        let mut taken = Vec::new();
        self.change(dry, |bits| {
            taken = self.pick(bits, wanted)?;
            Ok(true)
        })
        .await?;
        Ok(taken)
    }

    fn pick(&self, bits: &mut Bits, wanted: &[u16]) -> Result<Vec<u16>, Refused> {
        let mut taken = vec![0; wanted.len()];
        // Those asked for by number first, so that a free choice cannot be one of them.
        for (slot, port) in taken.iter_mut().zip(wanted).filter(|(_, p)| **p != 0) {
            let i = usize::from(port - self.first);
            if bits.has(i) {
                return Err(Refused::Taken(*port));
            }
            bits.put(i, true);
            *slot = *port;
        }
        for slot in taken.iter_mut().filter(|p| **p == 0) {
            let i = self.free(bits).ok_or(Refused::Full)?;
            bits.put(i, true);
            *slot = self.first + u16::try_from(i).unwrap_or_default();
        }
        Ok(taken)
    }

    fn free(&self, bits: &Bits) -> Option<usize> {
        let size = self.size() as u128;
        let random = rand::rng().random_range(0..size);
        order(size, band(size, 32, 16, 128), random).map(|i| i as usize).find(|i| !bits.has(*i))
    }

    /// Gives ports back.
    pub async fn release(&self, ports: &[u16]) -> Result<(), Refused> {
        if ports.is_empty() {
            return Ok(());
        }
        self.change(false, |bits| {
            let held: Vec<usize> = ports
                .iter()
                .filter_map(|p| Some(usize::from(p.checked_sub(self.first)?)))
                .filter(|i| bits.has(*i))
                .collect();
            held.iter().for_each(|i| bits.put(*i, false));
            Ok(!held.is_empty())
        })
        .await
    }

    /// Every port that is taken.
    pub async fn taken(&self) -> Result<Vec<u16>, Refused> {
        let kv = self.storage.get(&self.key).await?.kv;
        let bits = decode(kv.as_ref())?;
        Ok((0..self.size()).filter(|i| bits.has(*i)).map(|i| self.first + i as u16).collect())
    }

    /// Makes sure of some ports and frees others, in one change.
    pub async fn correct(&self, taken: &[u16], freed: &[u16]) -> Result<(), Refused> {
        self.change(false, |bits| {
            let before = bits.clone();
            for (ports, on) in [(freed, false), (taken, true)] {
                for i in ports
                    .iter()
                    .filter(|p| (self.first..=self.last).contains(p))
                    .map(|p| usize::from(p - self.first))
                {
                    bits.put(i, on);
                }
            }
            Ok(bits.to_number() != before.to_number())
        })
        .await
    }

    /// Reads, changes and writes back, again when somebody else wrote in between. `edit` says whether to write.
    async fn change(
        &self,
        dry: bool,
        mut edit: impl FnMut(&mut Bits) -> Result<bool, Refused>,
    ) -> Result<(), Refused> {
        let _turn = self.turn.lock().await;
        let mut seen = self.storage.get(&self.key).await?.kv;
        for attempt in 0..ATTEMPTS {
            let mut bits = decode(seen.as_ref())?;
            if !edit(&mut bits)? || dry {
                return Ok(());
            }
            let value = self.encode(&bits);
            let outcome = match &seen {
                None => self.storage.create(&self.key, value, None).await?,
                Some(kv) => self.storage.update(&self.key, value, kv.mod_revision, None).await?,
            };
            match outcome {
                Outcome::Done(_) => return Ok(()),
                Outcome::Conflict(now) => seen = now,
            }
            let pause = rand::rng().random_range(0.0..=attempt.min(20) as f64);
            tokio::time::sleep(Duration::from_secs_f64(pause / 1000.0)).await;
        }
        Err(Refused::Store("the record of node ports kept changing".into()))
    }

    fn encode(&self, bits: &Bits) -> Bytes {
        let data = base64::engine::general_purpose::STANDARD.encode(bits.to_number());
        let record = json!({"apiVersion": "v1", "kind": "RangeAllocation", "metadata": {}, "range": self.range(), "data": data});
        Bytes::from(record.to_string())
    }
}

/// The record's bits, whichever of the two stored forms it has.
fn decode(kv: Option<&Kv>) -> Result<Bits, Refused> {
    let Some(kv) = kv else { return Ok(Bits::default()) };
    let unreadable = |why: String| Refused::Store(format!("record of node ports: {why}"));
    let json = crate::cache::feed::stored_json(&kv.value).map_err(unreadable)?;
    let record: Value = serde_json::from_slice(&json).map_err(|e| unreadable(e.to_string()))?;
    let text = record.get("data").and_then(Value::as_str).unwrap_or_default();
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(text).map_err(|e| unreadable(e.to_string()))?;
    Ok(Bits::from_number(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_as_a_number() {
        let mut bits = Bits::default();
        bits.put(0, true);
        bits.put(9, true);
        assert_eq!(bits.to_number(), [0b10, 0b1]);
        assert_eq!(Bits::from_number(&[0b10, 0b1]), bits);
        bits.put(9, false);
        assert_eq!(bits.to_number(), [1]);
        assert!(!bits.has(4000));
    }
}
