//! One stored object as the cache keeps it: bytes ready to send and the little it is found by.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use super::scan::{Wanted, object_length, scan};
use super::spans::Spans;

/// What a watch event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// New, or new to the selector.
    Added,
    /// Changed.
    Modified,
    /// Gone, or gone from the selector.
    Deleted,
}

impl EventType {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    /// What a JSON watch frame of this type begins with.
    pub fn frame_start(self) -> &'static [u8] {
        match self {
            Self::Added => br#"{"type":"ADDED","object":"#,
            Self::Modified => br#"{"type":"MODIFIED","object":"#,
            Self::Deleted => br#"{"type":"DELETED","object":"#,
        }
    }
}

/// What a JSON watch frame ends with.
pub const FRAME_END: &[u8] = b"}\n";

/// An object at one revision. The bytes lie inside the watch frame of the event that made it, so that sending it to
/// a watcher or in a list copies and encodes nothing; what it is found by is where it stands in them.
pub struct Entry {
    frame: Bytes,
    event: EventType,
    key: Arc<str>,
    name_at: u32,
    version_at: u32,
    /// Its resourceVersion.
    pub rv: u64,
    spans: Spans,
    /// The bare protobuf message of the object, once somebody asked for it.
    pub proto: OnceLock<Bytes>,
    parsed: OnceLock<Arc<Value>>,
}

impl Entry {
    /// Makes an entry of a value as stored (JSON without resourceVersion; one that has it is mended). `key` is
    /// `namespace/name` or `name`. The error says what is wrong with the value.
    pub fn build(
        event: EventType,
        key: Arc<str>,
        rv: u64,
        value: &[u8],
        wanted: &Wanted,
    ) -> Result<Self, String> {
        let value = value.trim_ascii();
        let mended;
        let (found, value) = match scan(value, wanted)? {
            found if found.version.is_none() => (found, value),
            found => {
                let span = found.version.clone().unwrap_or_default();
                mended = [&value[..span.start], &value[span.end..]].concat();
                (scan(&mended, wanted)?, mended.as_slice())
            }
        };
        let (frame, version_at) = splice(event, value, found.members_at, found.members_empty, rv);
        let grown = frame.len() - event.frame_start().len() - FRAME_END.len() - value.len();
        Ok(Self {
            frame,
            event,
            name_at: key.find('/').map_or(0, |n| n as u32 + 1),
            version_at: version_at as u32,
            key,
            rv,
            spans: Spans::new(value, &found, grown),
            proto: OnceLock::new(),
            parsed: OnceLock::new(),
        })
    }

    /// The same object as another event at another revision: how a deletion shows the last state.
    pub fn at_revision(&self, event: EventType, rv: u64) -> Self {
        let (object, at) = (self.json(), self.version_at as usize);
        let digits = object[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut version = itoa::Buffer::new();
        let version = version.format(rv).as_bytes();
        let length = event.frame_start().len() + object.len() - digits + version.len() + FRAME_END.len();
        let mut frame = BytesMut::with_capacity(length);
        frame.put_slice(event.frame_start());
        frame.put_slice(&object[..at]);
        frame.put_slice(version);
        frame.put_slice(&object[at + digits..]);
        frame.put_slice(FRAME_END);
        Self {
            frame: frame.freeze(),
            event,
            key: self.key.clone(),
            name_at: self.name_at,
            version_at: self.version_at,
            rv,
            spans: self.spans.moved(self.version_at, digits, version.len()),
            proto: OnceLock::new(),
            parsed: OnceLock::new(),
        }
    }

    /// `namespace/name`, or `name`.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Namespace, empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        &self.key[..self.name_at.saturating_sub(1) as usize]
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.key[self.name_at as usize..]
    }

    /// The object's JSON, resourceVersion included.
    pub fn json(&self) -> &[u8] {
        &self.frame[self.event.frame_start().len()..self.frame.len() - FRAME_END.len()]
    }

    /// The JSON of its metadata.
    pub fn metadata_json(&self) -> &[u8] {
        let json = &self.json()[self.version_at as usize - VERSION_KEY.len() - 1..];
        &json[..object_length(json)]
    }

    /// The same, sharing the buffer.
    pub fn json_bytes(&self) -> Bytes {
        self.frame.slice(self.event.frame_start().len()..self.frame.len() - FRAME_END.len())
    }

    /// The object as a JSON watch frame of this type; shared when the entry was made by such an event.
    pub fn frame(&self, event: EventType) -> Bytes {
        if event == self.event {
            return self.frame.clone();
        }
        [event.frame_start(), self.json(), FRAME_END].concat().into()
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.spans.label(self.json(), key)
    }

    /// Labels, in the order of the object.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.spans.labels(self.json())
    }

    /// A selectable value, by its place among the collection's paths.
    pub fn value(&self, index: usize) -> Option<&str> {
        self.spans.value(self.json(), index)
    }

    /// uid, for those who compare identities.
    pub fn uid(&self) -> &str {
        self.spans.uid(self.json())
    }

    /// The object as a value. Null if the bytes are not JSON, which the skim at the door makes rare.
    pub fn parse(&self) -> Value {
        serde_json::from_slice(self.json()).unwrap_or_default()
    }

    /// The same, kept with the entry; for small objects that are asked for again and again.
    pub fn parsed(&self) -> Arc<Value> {
        self.parsed.get_or_init(|| Arc::new(self.parse())).clone()
    }

    /// The object as a typed value.
    pub fn parse_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.json())
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.frame.len()
    }
}

const VERSION_KEY: &[u8] = br#""resourceVersion":""#;

/// Builds the frame; also says where the version's digits begin within the object.
fn splice(event: EventType, value: &[u8], members_at: usize, empty: bool, rv: u64) -> (Bytes, usize) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(rv).as_bytes();
    let start = event.frame_start();
    let mut frame = BytesMut::with_capacity(start.len() + value.len() + VERSION_KEY.len() + digits.len() + 4);
    frame.put_slice(start);
    frame.put_slice(&value[..members_at]);
    frame.put_slice(VERSION_KEY);
    frame.put_slice(digits);
    frame.put_slice(if empty { b"\"" } else { b"\"," });
    frame.put_slice(&value[members_at..]);
    frame.put_slice(FRAME_END);
    (frame.freeze(), members_at + VERSION_KEY.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(event: EventType, json: &str) -> Entry {
        Entry::build(event, "ns/a".into(), 12, json.as_bytes(), &Wanted::default()).expect("builds")
    }

    #[test]
    fn puts_the_version_in() {
        let one = entry(EventType::Added, r#"{"metadata":{"name":"a","namespace":"ns"},"data":{}}"#);
        assert_eq!(
            one.json(),
            br#"{"metadata":{"resourceVersion":"12","name":"a","namespace":"ns"},"data":{}}"#
        );
        assert_eq!((one.namespace(), one.name()), ("ns", "a"));
        assert_eq!(one.metadata_json(), br#"{"resourceVersion":"12","name":"a","namespace":"ns"}"#);
        let empty = entry(EventType::Added, r#"{"metadata":{}}"#);
        assert_eq!(empty.metadata_json(), br#"{"resourceVersion":"12"}"#);
        assert_eq!(empty.json(), br#"{"metadata":{"resourceVersion":"12"}}"#);
        let stale = entry(EventType::Added, "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"3\"}}\n");
        assert_eq!(stale.json(), br#"{"metadata":{"resourceVersion":"12","name":"a"}}"#);
    }

    #[test]
    fn frames() {
        let one = entry(EventType::Modified, r#"{"metadata":{"name":"a"}}"#);
        assert_eq!(&one.frame(EventType::Modified)[..], b"{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"resourceVersion\":\"12\",\"name\":\"a\"}}}\n");
        assert!(one.frame(EventType::Added).starts_with(br#"{"type":"ADDED","object":{"metadata""#));
        let gone = one.at_revision(EventType::Deleted, 1300);
        assert_eq!(&gone.frame(EventType::Deleted)[..], b"{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"resourceVersion\":\"1300\",\"name\":\"a\"}}}\n");
    }

    #[test]
    fn what_it_is_found_by_moves_with_it() {
        let mut wanted = Wanted::default();
        for (path, default) in
            [("spec.nodeName", ""), ("spec.on", "false"), ("status.n", "0"), ("spec.x", "")]
        {
            wanted.add(path, default);
        }
        let json = r#" {"kind":"K","metadata":{"name":"a","uid":"u-1","labels":{"a":"b","c\/d":"\u0065f","g":""}},"spec":{"nodeName":"w1","x":"\"q\""},"status":{"n":7}}"#;
        let first =
            Entry::build(EventType::Added, "ns/a".into(), 9, json.as_bytes(), &wanted).expect("builds");
        let gone = first.at_revision(EventType::Deleted, 123_456);
        for entry in [&first, &gone, &gone.at_revision(EventType::Modified, 1)] {
            assert_eq!(entry.uid(), "u-1");
            assert_eq!(entry.labels().collect::<Vec<_>>(), [("a", "b"), ("c/d", "ef"), ("g", "")]);
            assert_eq!(
                (entry.label("c/d"), entry.label("g"), entry.label("x")),
                (Some("ef"), Some(""), None)
            );
            let values: Vec<_> = (0..5).map(|at| entry.value(at)).collect();
            assert_eq!(values, [Some("w1"), Some("false"), Some("7"), Some("\"q\""), None]);
        }
        let bare =
            Entry::build(EventType::Added, "a".into(), 9, br#"{"metadata":{}}"#, &wanted).expect("builds");
        assert_eq!((bare.uid(), bare.labels().count(), bare.value(2)), ("", 0, Some("0")));
    }
}
