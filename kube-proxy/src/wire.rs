//! nftables' objects as netlink messages: sets, chains, rules, elements. No I/O.
//!
//! Registers. A frontend's key starts at [`KEY`]; what it is found to lead to is kept from [`FOUND`] on: the pool's
//! number in two registers, then the class. A chosen backend stands from [`CHOICE`] on: address, port. Registers keep
//! their values within a rule only, which is why a picker looks the frontend up again.
//!
//! `nft` loads the rules of every table before many of its commands, and versions of it die of a failed assertion
//! where the result of one look-up is part of the key of the next. It notices that by the register a look-up writes
//! to, so results that become keys begin with a word of padding, and the registers behind are loaded with the packet
//! mark before: `nft` then shows `meta mark` where a pool's number stands.

mod bytes;
mod rule;

use crate::chains::{AFFINITY, Chain, Kind, Settings, TABLE, picker};
use crate::model::{Class, Element, Family, Key, Set};
use crate::netlink::{Buffer, LIST_LIMIT, flag, subsystem};
use crate::state::Transaction;

pub use bytes::{backend_bytes, octets};
use bytes::{key_bytes, ranged, successor, value_bytes};
use rule::{GOTO, Rule, verdict};

const NEW_TABLE: u16 = 0;
/// Ask for a table.
pub const GET_TABLE: u16 = 1;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
/// Ask for a set's elements.
pub const GET_ELEMENT: u16 = 13;
const DEL_ELEMENT: u16 = 14;

const SET_INTERVAL: u32 = 4;
const SET_MAP: u32 = 8;
const SET_TIMEOUT: u32 = 16;
const SET_EVAL: u32 = 32;
const SET_CONCAT: u32 = 128;
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// Clients remembered at once; a client over the limit is still served, but not remembered.
const AFFINITY_SIZE: u32 = 1 << 20;

const KEY: u32 = 8;
const CHOICE: u32 = 9;
const FOUND: u32 = 17;
/// Registers of four bytes that a pool's number takes.
const POOL: u32 = 2;
/// What follows the pool's number: the class, the drawn index, or the client's address.
const NEXT: u32 = FOUND + POOL;

/// nftables' own names of data types, which `nft list` prints elements by.
#[derive(Clone, Copy)]
struct Field(u32, usize);
const PROTO: Field = Field(12, 1);
const PORT: Field = Field(13, 2);
const MARK: Field = Field(19, 4);

/// Number of the family in netlink messages.
pub fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn address(family: Family) -> Field {
    match family {
        Family::V4 => Field(7, 4),
        Family::V6 => Field(8, 16),
    }
}

fn padded(fields: &[Field]) -> usize {
    fields.iter().map(|f| f.1.next_multiple_of(4)).sum()
}

/// Type number of a concatenation: six bits a field.
fn type_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |n, f| (n << 6) | f.0)
}

/// Messages of one family's table.
pub struct Writer {
    family: Family,
    mark: u32,
    buffer: Buffer,
}

impl Writer {
    /// Starts a batch.
    pub fn new(settings: &Settings) -> Self {
        let mut buffer = Buffer::default();
        buffer.batch_begin();
        Self { family: settings.family, mark: settings.mark(), buffer }
    }

    /// Ends the batch. Its last message but one asks for an acknowledgement.
    pub fn finish(mut self) -> Buffer {
        self.buffer.want_ack();
        self.buffer.batch_end();
        self.buffer
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Buffer)) {
        self.buffer.begin(subsystem::NFTABLES, kind, flags, family_number(self.family), 0);
        body(&mut self.buffer);
        self.buffer.end();
    }

    /// Removes the table, whether it is there or not.
    pub fn remove_table(&mut self) {
        self.message(NEW_TABLE, flag::CREATE, |b| b.text(1, TABLE));
        self.message(DEL_TABLE, 0, |b| b.text(1, TABLE));
    }

    /// Makes an empty table with its sets and the fixed chains, in place of what was there.
    pub fn table(&mut self, chains: &[Chain]) {
        self.remove_table();
        self.message(NEW_TABLE, flag::CREATE, |b| b.text(1, TABLE));
        for (n, set) in Set::ALL.into_iter().enumerate() {
            self.data_set(set, n as u32 + 1);
        }
        self.affinity_map();
        for (n, kind) in Kind::ALL.into_iter().enumerate() {
            self.set(kind.dispatch(), SET_MAP, n as u32 + 101, &[MARK], Some((VERDICT_TYPE, 16)), None);
        }
        for chain in chains {
            self.chain(chain);
        }
        for chain in chains {
            self.rules(chain);
        }
    }

    fn data_set(&mut self, set: Set, id: u32) {
        let ip = address(self.family);
        let target = (type_of(&[MARK, MARK, MARK, MARK]), 16);
        let front: &[Field] = &[ip, PROTO, PORT];
        let (flags, key, data): (u32, Vec<Field>, Option<(u32, u32)>) = match set {
            Set::ClusterIps => (0, vec![ip], None),
            Set::ServiceCidrs => (SET_INTERVAL, vec![ip], None),
            Set::Services | Set::LocalServices => (SET_MAP, front.to_vec(), Some(target)),
            Set::Masquerade | Set::LocalPolicy | Set::Reject | Set::Drop => (0, front.to_vec(), None),
            Set::Firewall => (SET_MAP, front.to_vec(), Some((type_of(&[MARK, MARK, MARK]), 12))),
            Set::Sources => (SET_INTERVAL | SET_CONCAT, vec![MARK, MARK, ip], None),
            Set::Endpoints => {
                let data = [ip, PORT];
                (SET_MAP, vec![MARK, MARK, MARK], Some((type_of(&data), padded(&data) as u32)))
            }
            Set::StickyEndpoints => {
                let data = [MARK, ip, PORT];
                (SET_MAP, vec![MARK, MARK, MARK], Some((type_of(&data), padded(&data) as u32)))
            }
            Set::Members => (0, vec![ip, PORT, MARK, MARK], None),
            Set::Hairpin => (0, vec![ip, ip], None),
        };
        self.set(set.name(), flags, id, &key, data, None);
    }

    fn affinity_map(&mut self) {
        let ip = address(self.family);
        let data = [MARK, ip, PORT];
        let data = (type_of(&data), padded(&data) as u32);
        let flags = SET_MAP | SET_TIMEOUT | SET_EVAL;
        self.set(AFFINITY, flags, 100, &[MARK, MARK, ip], Some(data), Some(AFFINITY_SIZE));
    }

    fn set(
        &mut self,
        name: &str,
        flags: u32,
        id: u32,
        key: &[Field],
        data: Option<(u32, u32)>,
        size: Option<u32>,
    ) {
        let concat = flags & SET_INTERVAL != 0 && key.len() > 1;
        self.message(NEW_SET, flag::CREATE, |b| {
            b.text(1, TABLE);
            b.text(2, name);
            b.number(3, flags);
            b.number(4, type_of(key));
            b.number(5, padded(key) as u32);
            if let Some((kind, length)) = data {
                b.number(6, kind);
                b.number(7, length);
            }
            b.number(10, id);
            if size.is_some() || concat {
                b.nest(9, |b| describe(b, size, key, concat));
            }
        });
    }

    /// Makes a chain without rules.
    pub fn chain(&mut self, chain: &Chain) {
        self.message(NEW_CHAIN, flag::CREATE, |b| {
            b.text(1, TABLE);
            b.text(3, &chain.name);
            if let Some(hook) = chain.hook {
                b.nest(4, |b| {
                    b.number(1, hook.number);
                    b.number(2, hook.priority as u32);
                });
                b.number(5, 1);
                b.text(7, hook.kind);
            }
        });
    }

    /// Adds a chain's rules.
    pub fn rules(&mut self, chain: &Chain) {
        let (family, mark) = (self.family, self.mark);
        for rule in &chain.rules {
            self.message(NEW_RULE, flag::CREATE | flag::APPEND, |b| {
                b.text(1, TABLE);
                b.text(2, &chain.name);
                b.nest(4, |b| {
                    let mut w = Rule { b, family, mark };
                    rule.iter().for_each(|s| w.stmt(s));
                });
            });
        }
    }

    /// Writes a transaction.
    pub fn transaction(&mut self, t: &Transaction) {
        for (kind, class) in &t.pickers {
            self.picker(*kind, *class);
        }
        self.elements(DEL_ELEMENT, 0, &t.remove);
        self.elements(NEW_ELEMENT, flag::CREATE | flag::EXCL, &t.add);
    }

    fn picker(&mut self, kind: Kind, class: Class) {
        let chain = picker(kind, class);
        self.chain(&chain);
        self.rules(&chain);
        self.list(NEW_ELEMENT, flag::CREATE, kind.dispatch(), |b| {
            b.nest(1, |b| {
                b.nest(1, |b| b.attr(1, &class.word().to_ne_bytes()));
                b.nest(2, |b| verdict(b, GOTO, Some(&chain.name)));
            });
        });
    }

    fn elements(&mut self, kind: u16, flags: u16, list: &[Element]) {
        for run in list.chunk_by(|a, b| a.set == b.set) {
            let mut rest = run;
            while !rest.is_empty() {
                rest = self.some_elements(kind, flags, rest);
            }
        }
    }

    /// Writes as many elements of one set as fit into a message; gives back the others.
    fn some_elements<'a>(&mut self, kind: u16, flags: u16, list: &'a [Element]) -> &'a [Element] {
        let mut done = 0;
        let name = list.first().map_or("", |e| e.set.name());
        self.list(kind, flags, name, |b| {
            let start = b.since(0);
            for e in list {
                element(b, e);
                done += 1;
                if b.since(start) > LIST_LIMIT {
                    break;
                }
            }
        });
        list.get(done..).unwrap_or_default()
    }

    /// Adds remembered clients to the affinity map: key, data and milliseconds left, as the kernel gave them.
    pub fn remembered(&mut self, clients: &[Remembered]) {
        for part in clients.chunks(500) {
            self.list(NEW_ELEMENT, flag::CREATE, AFFINITY, |b| {
                for c in part {
                    b.nest(1, |b| {
                        b.nest(1, |b| b.attr(1, &c.key));
                        b.nest(2, |b| b.attr(1, &c.data));
                        b.attr(4, &c.timeout_ms.to_be_bytes());
                        b.attr(5, &c.left_ms.to_be_bytes());
                    });
                }
            });
        }
    }

    fn list(&mut self, kind: u16, flags: u16, set: &str, body: impl FnOnce(&mut Buffer)) {
        self.message(kind, flags, |b| {
            b.text(1, TABLE);
            b.text(2, set);
            b.nest(3, body);
        });
    }
}

/// One client of the affinity map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Pool and client address.
    pub key: Vec<u8>,
    /// Pool and backend.
    pub data: Vec<u8>,
    /// Full time in milliseconds.
    pub timeout_ms: u64,
    /// Time left in milliseconds.
    pub left_ms: u64,
}

fn describe(b: &mut Buffer, size: Option<u32>, key: &[Field], concat: bool) {
    if let Some(n) = size {
        b.number(1, n);
    }
    if concat {
        b.nest(2, |b| key.iter().for_each(|f| b.nest(1, |b| b.number(1, f.1.next_multiple_of(4) as u32))));
    }
}

fn element(b: &mut Buffer, e: &Element) {
    match e.key {
        Key::Span(low, high) => {
            // An interval is its start and an end mark after its last address
            b.nest(1, |b| b.nest(1, |b| b.attr(1, &octets(low))));
            if let Some(end) = successor(high) {
                b.nest(1, |b| {
                    b.number(3, 1);
                    b.nest(1, |b| b.attr(1, &octets(end)));
                });
            }
        }
        Key::Range(list, low, high) => b.nest(1, |b| {
            b.nest(1, |b| b.attr(1, &ranged(list, low)));
            b.nest(10, |b| b.attr(1, &ranged(list, high)));
        }),
        key => b.nest(1, |b| {
            b.nest(1, |b| b.attr(1, &key_bytes(key)));
            if let Some(data) = value_bytes(e) {
                b.nest(2, |b| b.attr(1, &data));
            }
        }),
    }
}
