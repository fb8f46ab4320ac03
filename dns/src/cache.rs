//! Answers of others, kept for as long as they allow, and half a minute at most.

use std::time::{Duration, Instant};

use ahash::HashMap;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{LowerName, Name, RData, RecordType};
use parking_lot::Mutex;

/// Longest time an answer is kept.
const LONGEST: Duration = Duration::from_secs(30);
/// Answers kept.
const SIZE: usize = 10_000;

/// A question, and whether DNSSEC records are wanted.
pub type Key = (LowerName, RecordType, bool);

struct Kept {
    message: Message,
    since: Instant,
    until: Instant,
}

/// The cache.
#[derive(Default)]
pub struct Cache {
    kept: Mutex<HashMap<Key, Kept>>,
}

/// Makes a key.
pub fn key(name: &Name, kind: RecordType, dnssec: bool) -> Key {
    (LowerName::new(name), kind, dnssec)
}

impl Cache {
    /// An answer that may still be given, its times shortened by its age.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Message> {
        let mut kept = self.kept.lock();
        let found = kept.get(key)?;
        if found.until <= now {
            kept.remove(key);
            return None;
        }
        let age = now.duration_since(found.since).as_secs() as u32;
        let mut message = found.message.clone();
        drop(kept);
        for r in message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals) {
            r.ttl = r.ttl.saturating_sub(age);
        }
        Some(message)
    }

    /// Keeps an answer, if it may be kept.
    pub fn put(&self, key: Key, message: &Message, now: Instant) {
        let Some(time) = lifetime(message) else { return };
        let mut kept = self.kept.lock();
        if kept.len() >= SIZE {
            make_room(&mut kept, now);
        }
        kept.insert(key, Kept { message: message.clone(), since: now, until: now + time });
    }

    /// Number of answers kept.
    pub fn len(&self) -> usize {
        self.kept.lock().len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Outdated answers go; if that does not help, every fourth.
fn make_room(kept: &mut HashMap<Key, Kept>, now: Instant) {
    kept.retain(|_, k| k.until > now);
    if kept.len() >= SIZE {
        let mut n = 0;
        kept.retain(|_, _| {
            n += 1;
            n % 4 != 0
        });
    }
}

/// How long an answer may be kept: its shortest time, or what the zone's authority says of names that do not exist.
fn lifetime(m: &Message) -> Option<Duration> {
    if m.metadata.truncation {
        return None;
    }
    let seconds = match m.metadata.response_code {
        ResponseCode::NoError if !m.answers.is_empty() => m.answers.iter().map(|r| r.ttl).min(),
        ResponseCode::NoError | ResponseCode::NXDomain => m.authorities.iter().find_map(|r| match &r.data {
            RData::SOA(soa) => Some(r.ttl.min(soa.minimum)),
            _ => None,
        }),
        _ => None,
    };
    seconds.filter(|s| *s > 0).map(|s| Duration::from_secs(s.into()).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    fn answer(name: &Name, ttl: u32) -> Message {
        let mut m = Message::response(1, OpCode::Query);
        m.add_answer(Record::from_rdata(name.clone(), ttl, RData::A(A::new(192, 0, 2, 1))));
        m
    }

    #[test]
    fn answers_age_and_go() {
        let (cache, now) = (Cache::default(), Instant::now());
        let name = Name::from_ascii("Example.com.").unwrap();
        cache.put(key(&name, RecordType::A, false), &answer(&name, 10), now);
        let lower = key(&name.to_lowercase(), RecordType::A, false);
        let at = |s| cache.get(&lower, now + Duration::from_secs(s)).map(|m| m.answers[0].ttl);
        assert_eq!((at(0), at(4)), (Some(10), Some(6)));
        assert_eq!(cache.get(&key(&name, RecordType::AAAA, false), now), None);
        assert_eq!(at(10), None);
        assert!(cache.is_empty());
    }

    #[test]
    fn what_must_not_be_kept() {
        let name = Name::from_ascii("example.com.").unwrap();
        let mut truncated = answer(&name, 10);
        truncated.metadata.truncation = true;
        let mut failed = answer(&name, 10);
        failed.metadata.response_code = ResponseCode::ServFail;
        assert_eq!([&truncated, &failed, &answer(&name, 0)].map(lifetime), [None; 3]);
        assert_eq!(lifetime(&answer(&name, 3600)), Some(LONGEST));
    }

    #[test]
    fn stays_small() {
        let (cache, now) = (Cache::default(), Instant::now());
        for i in 0..SIZE + 10 {
            let name = Name::from_ascii(format!("h{i}.example.com.")).unwrap();
            cache.put(key(&name, RecordType::A, false), &answer(&name, 10), now);
        }
        assert!(cache.len() <= SIZE);
    }
}
