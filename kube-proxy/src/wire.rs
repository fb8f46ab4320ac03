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

use std::net::IpAddr;

use crate::chains::{AFFINITY, Chain, Kind, Settings, Stmt, TABLE, picker};
use crate::model::{Backend, Class, Element, Family, Frontend, Key, Set, Value};
use crate::netlink::{Buffer, LIST_LIMIT, flag, subsystem};
use crate::state::Transaction;

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

fn ranged(list: u64, ip: IpAddr) -> Vec<u8> {
    [&list.to_ne_bytes()[..], &octets(ip)].concat()
}

fn successor(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(a) => u32::from(a).checked_add(1).map(|n| IpAddr::V4(n.into())),
        IpAddr::V6(a) => u128::from(a).checked_add(1).map(|n| IpAddr::V6(n.into())),
    }
}

/// An address as it stands in a packet.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn front_bytes(f: Frontend) -> Vec<u8> {
    let mut bytes = octets(f.addr);
    let [high, low] = f.port.to_be_bytes();
    bytes.extend_from_slice(&[f.proto as u8, 0, 0, 0, high, low, 0, 0]);
    bytes
}

/// A backend as the maps hold it.
pub fn backend_bytes(b: Backend) -> Vec<u8> {
    let [high, low] = b.port.to_be_bytes();
    [octets(b.addr), vec![high, low, 0, 0]].concat()
}

fn key_bytes(key: Key) -> Vec<u8> {
    match key {
        Key::Addr(ip) | Key::Span(ip, _) => octets(ip),
        Key::Pair(ip) => [octets(ip), octets(ip)].concat(),
        Key::Front(f) => front_bytes(f),
        Key::Slot(pool, n) => [&pool.to_ne_bytes()[..], &n.to_ne_bytes()].concat(),
        Key::Member(pool, b) => [&backend_bytes(b)[..], &pool.to_ne_bytes()].concat(),
        Key::Range(list, ip, _) => ranged(list, ip),
    }
}

const PADDING: [u8; 4] = [0; 4];

fn value_bytes(e: &Element) -> Option<Vec<u8>> {
    match e.value {
        Value::None => None,
        Value::Target(t) => {
            Some([&PADDING[..], &t.pool.to_ne_bytes(), &t.class.word().to_ne_bytes()].concat())
        }
        Value::Backend(b) if e.set == Set::StickyEndpoints => {
            Some([&PADDING[..], &backend_bytes(b)].concat())
        }
        Value::Backend(b) => Some(backend_bytes(b)),
        Value::List(n) => Some([&PADDING[..], &n.to_ne_bytes()].concat()),
    }
}

const DROP: i32 = 0;
const JUMP: i32 = -3;
const GOTO: i32 = -4;

fn verdict(b: &mut Buffer, code: i32, chain: Option<&str>) {
    b.nest(2, |b| {
        b.number(1, code as u32);
        if let Some(name) = chain {
            b.text(2, name);
        }
    });
}

/// Expressions of one rule.
struct Rule<'a> {
    b: &'a mut Buffer,
    family: Family,
    mark: u32,
}

/// Base of a header field.
#[derive(Clone, Copy)]
enum Header {
    Network = 1,
    Transport = 2,
}

impl Rule<'_> {
    fn expr(&mut self, name: &str, body: impl FnOnce(&mut Buffer)) {
        self.b.nest(1, |b| {
            b.text(1, name);
            b.nest(2, body);
        });
    }

    fn words(&self) -> u32 {
        address(self.family).1 as u32 / 4
    }

    fn payload(&mut self, header: Header, offset: u32, length: u32, register: u32) {
        self.expr("payload", |b| {
            b.number(1, register);
            b.number(2, header as u32);
            b.number(3, offset);
            b.number(4, length);
        });
    }

    fn saddr(&mut self, register: u32) {
        let offset = if self.family == Family::V4 { 12 } else { 8 };
        self.payload(Header::Network, offset, self.words() * 4, register);
    }

    fn daddr(&mut self, register: u32) {
        let offset = if self.family == Family::V4 { 16 } else { 24 };
        self.payload(Header::Network, offset, self.words() * 4, register);
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.expr("meta", |b| {
            b.number(2, key);
            b.number(1, register);
        });
    }

    fn compare(&mut self, register: u32, not: bool, data: &[u8]) {
        self.expr("cmp", |b| {
            b.number(1, register);
            b.number(2, u32::from(not));
            b.nest(3, |b| b.attr(1, data));
        });
    }

    /// `register = (register & mask) ^ xor`
    fn bitwise(&mut self, register: u32, mask: &[u8], xor: &[u8]) {
        self.expr("bitwise", |b| {
            b.number(1, register);
            b.number(2, register);
            b.number(3, mask.len() as u32);
            b.nest(4, |b| b.attr(1, mask));
            b.nest(5, |b| b.attr(1, xor));
        });
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.expr("immediate", |b| {
            b.number(1, 0);
            b.nest(2, |b| verdict(b, code, chain));
        });
    }

    fn lookup(&mut self, set: &str, from: u32, into: Option<u32>, not: bool) {
        self.expr("lookup", |b| {
            b.text(1, set);
            b.number(2, from);
            if let Some(register) = into {
                b.number(3, register);
            }
            if not {
                b.number(5, 1);
            }
        });
    }

    fn ct(&mut self, key: u32, bit: u32) {
        self.expr("ct", |b| {
            b.number(2, key);
            b.number(1, KEY);
        });
        self.has_bit(bit);
    }

    fn has_bit(&mut self, bit: u32) {
        self.bitwise(KEY, &bit.to_ne_bytes(), &[0; 4]);
        self.compare(KEY, true, &[0; 4]);
    }

    fn local(&mut self, flag: u32) {
        self.expr("fib", |b| {
            b.number(1, KEY);
            b.number(2, 3);
            b.number(3, flag);
        });
        self.compare(KEY, false, &2u32.to_ne_bytes());
    }

    fn within(&mut self, net: ipnet::IpNet, not: bool) {
        if u32::from(net.prefix_len()) < self.words() * 32 {
            let mask = octets(net.netmask());
            let zero = vec![0; mask.len()];
            self.bitwise(KEY, &mask, &zero);
        }
        self.compare(KEY, not, &octets(net.network()));
    }

    fn iif(&mut self, name: &str, prefix: bool, not: bool) {
        self.meta(6, KEY);
        let mut bytes = name.as_bytes().to_vec();
        if !prefix {
            bytes.resize(16, 0);
        }
        self.compare(KEY, not, &bytes);
    }

    /// Puts the frontend's key into registers.
    fn front(&mut self, kind: Kind) {
        let words = self.words();
        if kind.node_port() {
            let none = vec![0; words as usize * 4];
            self.daddr(KEY);
            self.bitwise(KEY, &none, &none);
        } else {
            self.daddr(KEY);
        }
        self.meta(16, KEY + words);
        self.payload(Header::Transport, 2, 2, KEY + words + 1);
    }

    /// Loads registers with the packet mark, for what `nft` makes of them; see the head of this file.
    fn pretend(&mut self, registers: std::ops::Range<u32>) {
        registers.for_each(|r| self.meta(3, r));
    }

    /// Finds pool and class of the frontend, at [`FOUND`].
    fn find(&mut self, kind: Kind) {
        self.front(kind);
        self.pretend(FOUND..NEXT + 1);
        self.lookup(kind.map().name(), KEY, Some(FOUND - 1), false);
    }

    fn random(&mut self, size: u32) {
        self.expr("numgen", |b| {
            b.number(1, NEXT);
            b.number(2, size);
            b.number(3, 1);
            b.number(4, 0);
        });
    }

    /// Register of the chosen backend's port.
    fn port(&self) -> u32 {
        CHOICE + self.words()
    }

    /// Draws a backend of the pool, at [`CHOICE`].
    fn draw(&mut self, class: Class) {
        self.random(class.size);
        if class.sticky == 0 {
            return self.lookup(Set::Endpoints.name(), FOUND, Some(CHOICE), false);
        }
        self.choose(Set::StickyEndpoints.name());
    }

    /// Looks a padded backend up by the key at [`FOUND`].
    fn choose(&mut self, map: &str) {
        self.pretend(CHOICE..self.port() + 1);
        self.lookup(map, FOUND, Some(CHOICE - 1), false);
        self.pretend(CHOICE - 1..CHOICE);
    }

    fn translate(&mut self) {
        let (family, port) = (family_number(self.family), self.port());
        self.expr("nat", |b| {
            b.number(1, 1);
            b.number(2, family.into());
            b.number(3, CHOICE);
            b.number(5, port);
        });
    }

    /// Works on the affinity map: 0 add, 1 renew, 2 delete.
    fn affinity(&mut self, operation: u32, seconds: u32) {
        self.expr("dynset", |b| {
            b.text(1, AFFINITY);
            b.number(3, operation);
            b.number(4, FOUND);
            b.number(5, CHOICE - 1);
            if seconds > 0 {
                b.attr(6, &(u64::from(seconds) * 1000).to_be_bytes());
            }
        });
    }

    /// The members' key is backend and pool, so the pool is looked up once more, behind the backend.
    fn stick(&mut self, kind: Kind, class: Class) {
        let port = self.port();
        self.find(kind);
        self.pretend(port + 1..port + 1 + POOL);
        self.lookup(kind.map().name(), KEY, Some(port), false);
        self.saddr(NEXT);
        self.choose(AFFINITY);
        self.lookup(Set::Members.name(), CHOICE, None, false);
        self.affinity(1, class.sticky);
        self.translate();
    }

    /// The kernel wants registers with data even to delete.
    fn forget(&mut self, kind: Kind) {
        self.find(kind);
        self.saddr(NEXT);
        self.pretend(CHOICE - 1..self.port() + 1);
        self.affinity(2, 0);
    }

    fn remember(&mut self, kind: Kind, class: Class) {
        self.find(kind);
        self.draw(class);
        self.saddr(NEXT);
        self.affinity(0, class.sticky);
        self.translate();
    }

    fn set_mark(&mut self, set: bool) {
        let mark = self.mark;
        self.meta(3, KEY);
        let xor = if set { mark } else { 0 };
        self.bitwise(KEY, &(!mark).to_ne_bytes(), &xor.to_ne_bytes());
        self.expr("meta", |b| {
            b.number(2, 3);
            b.number(3, KEY);
        });
    }

    fn reject(&mut self, reset: bool) {
        let code = if self.family == Family::V4 { 3 } else { 4 };
        self.expr("reject", |b| {
            b.number(1, u32::from(reset));
            b.attr(2, &[if reset { 0 } else { code }]);
        });
    }

    fn unlisted(&mut self) {
        self.front(Kind::Address);
        self.pretend(FOUND..NEXT);
        self.lookup(Set::Firewall.name(), KEY, Some(FOUND - 1), false);
        self.saddr(NEXT);
        self.lookup(Set::Sources.name(), FOUND, None, true);
    }

    fn stmt(&mut self, s: &Stmt) {
        match s {
            Stmt::CtNew => self.ct(0, 8),
            Stmt::CtDnat => self.ct(2, 32),
            Stmt::Marked => {
                self.meta(3, KEY);
                self.has_bit(self.mark);
            }
            Stmt::Tcp => {
                self.meta(16, KEY);
                self.compare(KEY, false, &[6]);
            }
            Stmt::Daddr(net, not) => {
                self.daddr(KEY);
                self.within(*net, *not);
            }
            Stmt::Saddr(net, not) => {
                self.saddr(KEY);
                self.within(*net, *not);
            }
            Stmt::DaddrLocal => self.local(2),
            Stmt::SaddrLocal => self.local(1),
            Stmt::Iif { name, prefix, not } => self.iif(name, *prefix, *not),
            Stmt::DaddrIn(set) => {
                self.daddr(KEY);
                self.lookup(set.name(), KEY, None, false);
            }
            Stmt::FrontIn(kind, set) => {
                self.front(*kind);
                self.lookup(set.name(), KEY, None, false);
            }
            Stmt::Hairpin => {
                self.saddr(KEY);
                self.daddr(KEY + self.words());
                self.lookup(Set::Hairpin.name(), KEY, None, false);
            }
            Stmt::Unlisted => self.unlisted(),
            other => self.action(other),
        }
    }

    fn action(&mut self, s: &Stmt) {
        match s {
            Stmt::Mark => self.set_mark(true),
            Stmt::Unmark => self.set_mark(false),
            Stmt::Masquerade => self.expr("masq", |b| b.number(1, 16)),
            Stmt::Drop => self.verdict(DROP, None),
            Stmt::Reset => self.reject(true),
            Stmt::Unreachable => self.reject(false),
            Stmt::Jump(chain) => self.verdict(JUMP, Some(chain)),
            Stmt::Goto(chain) => self.verdict(GOTO, Some(chain)),
            Stmt::Dispatch(kind) => {
                self.find(*kind);
                self.lookup(kind.dispatch(), NEXT, Some(0), false);
            }
            Stmt::Random(kind, class) => {
                self.find(*kind);
                self.draw(*class);
                self.translate();
            }
            Stmt::Stick(kind, class) => self.stick(*kind, *class),
            Stmt::Forget(kind) => self.forget(*kind),
            Stmt::Remember(kind, class) => self.remember(*kind, *class),
            _ => {}
        }
    }
}
