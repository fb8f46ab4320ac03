//! Netlink messages as bytes: a growing buffer with nested attributes, and a reader of replies. No I/O.

/// Sub-system numbers of nfnetlink.
pub mod subsystem {
    /// Connection tracking.
    pub const CTNETLINK: u16 = 1;
    /// nftables.
    pub const NFTABLES: u16 = 10;
}

/// Message flags.
pub mod flag {
    /// A request.
    pub const REQUEST: u16 = 1;
    /// Wants an acknowledgement.
    pub const ACK: u16 = 4;
    /// All objects.
    pub const DUMP: u16 = 0x300;
    /// Make it if it is not there.
    pub const CREATE: u16 = 0x400;
    /// Fail if it is there.
    pub const EXCL: u16 = 0x200;
    /// Put a rule at the end.
    pub const APPEND: u16 = 0x800;
}

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const HEADER: usize = 16;
/// Largest nested attribute is 65535 bytes; lists are split well before.
pub const LIST_LIMIT: usize = 60_000;

/// Messages under construction.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    message: usize,
    sequence: u32,
}

impl Buffer {
    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of the message begun last.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Begins a message of a sub-system. `family` is AF_INET and so on; `resource` is 0 except in batches.
    pub fn begin(&mut self, subsystem: u16, kind: u16, flags: u16, family: u8, resource: u16) {
        self.sequence += 1;
        self.message = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&((subsystem << 8) | kind).to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
    }

    /// Ends the message.
    pub fn end(&mut self) {
        let length = (self.bytes.len() - self.message) as u32;
        self.put(self.message, &length.to_ne_bytes());
    }

    /// Begins a batch of nftables messages.
    pub fn batch_begin(&mut self) {
        self.begin(0, BATCH_BEGIN, 0, 0, subsystem::NFTABLES);
        self.end();
    }

    /// Ends it.
    pub fn batch_end(&mut self) {
        self.begin(0, BATCH_END, 0, 0, subsystem::NFTABLES);
        self.end();
    }

    /// Asks for an acknowledgement of the message being built.
    pub fn want_ack(&mut self) {
        let at = self.message + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | flag::ACK;
        self.put(at, &flags.to_ne_bytes());
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// An attribute with plain bytes.
    pub fn attr(&mut self, kind: u16, data: &[u8]) {
        self.bytes.extend_from_slice(&((data.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An attribute with a number in network order, as nftables wants all its numbers.
    pub fn number(&mut self, kind: u16, n: u32) {
        self.attr(kind, &n.to_be_bytes());
    }

    /// A string attribute.
    pub fn text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    /// A nested attribute.
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        let at = self.open(kind);
        inner(self);
        self.close(at);
    }

    /// Opens a nested attribute; give what it returns to [`Buffer::close`].
    pub fn open(&mut self, kind: u16) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | 0x8000).to_ne_bytes());
        at
    }

    /// Closes a nested attribute.
    pub fn close(&mut self, at: usize) {
        let length = (self.bytes.len() - at) as u16;
        self.put(at, &length.to_ne_bytes());
    }

    /// Bytes written since a mark.
    pub fn since(&self, at: usize) -> usize {
        self.bytes.len() - at
    }
}

/// A received message: its type, its sequence number, and what follows the netlink header.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// Payload.
    pub payload: &'a [u8],
}

/// Type of an error or acknowledgement.
pub const ERROR: u16 = 2;
/// Type of the end of a dump.
pub const DONE: u16 = 3;

impl Message<'_> {
    /// Error number (positive) if this is an error; 0 for an acknowledgement.
    pub fn error(&self) -> Option<i32> {
        let code = self.payload.get(..4).filter(|_| self.kind == ERROR)?;
        Some(-i32::from_ne_bytes(code.try_into().ok()?))
    }

    /// Attributes after the four bytes of nfnetlink's own header.
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes(self.payload.get(4..).unwrap_or_default())
    }
}

/// Messages in a received datagram.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let head = bytes.get(..HEADER)?;
        let length = u32::from_ne_bytes(head[..4].try_into().ok()?) as usize;
        let payload = bytes.get(HEADER..length)?;
        let message = Message {
            kind: u16::from_ne_bytes(head[4..6].try_into().ok()?),
            sequence: u32::from_ne_bytes(head[8..12].try_into().ok()?),
            payload,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes in order, as type (without flags) and data.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head = self.0.get(..4)?;
        let length = u16::from_ne_bytes([head[0], head[1]]) as usize;
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let data = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, data))
    }
}

impl<'a> Attributes<'a> {
    /// The first attribute of a type.
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        Iterator::find(&mut self.clone(), |a| a.0 == kind).map(|a| a.1)
    }

    /// The attributes nested in the first attribute of a type.
    pub fn nested(&self, kind: u16) -> Option<Attributes<'a>> {
        self.find(kind).map(Attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut b = Buffer::default();
        b.begin(subsystem::NFTABLES, 12, flag::CREATE, 2, 0);
        b.text(1, "kube-proxy");
        b.nest(3, |b| b.nest(1, |b| b.number(2, 7)));
        b.end();
        let list: Vec<_> = messages(b.bytes()).collect();
        assert_eq!((list.len(), list[0].kind, list[0].sequence), (1, 0x0a0c, 1));
        let attrs = list[0].attributes();
        assert_eq!(attrs.find(1), Some(&b"kube-proxy\0"[..]));
        assert_eq!(attrs.nested(3).unwrap().nested(1).unwrap().find(2), Some(&[0, 0, 0, 7][..]));
    }

    proptest! {
        #[test]
        fn foreign_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for m in messages(&bytes) {
                m.error();
                m.attributes().for_each(drop);
            }
        }
    }
}
