//! Rules as lists of expressions.

use super::{AFFINITY, CHOICE, FOUND, Family, KEY, NEXT, POOL, Set, address, family_number, octets};
use crate::chains::{Kind, Stmt};
use crate::model::Class;
use crate::netlink::Buffer;
const DROP: i32 = 0;
const JUMP: i32 = -3;
pub(super) const GOTO: i32 = -4;

pub(super) fn verdict(b: &mut Buffer, code: i32, chain: Option<&str>) {
    b.nest(2, |b| {
        b.number(1, code as u32);
        if let Some(name) = chain {
            b.text(2, name);
        }
    });
}

/// Expressions of one rule.
pub(super) struct Rule<'a> {
    pub(super) b: &'a mut Buffer,
    pub(super) family: Family,
    pub(super) mark: u32,
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

    pub(super) fn stmt(&mut self, s: &Stmt) {
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
