//! A packet tracer: what the chains do with the first packet of a connection, worked out from the model alone. Tests
//! judge rules by it without a kernel, and it answers "where would this packet go?".

use std::net::IpAddr;

use ahash::HashMap;

use crate::chains::{Chain, Kind, Settings, Stmt, fixed, picker};
use crate::model::{Backend, Frontend, Key, Proto, Set, Target, Value};
use crate::state::Content;

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Input interface; empty for one made on this node.
    pub iif: String,
    /// Destination.
    pub to: Frontend,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Goes on to where it was sent, untouched.
    Passes,
    /// Translated to one of these backends; masqueraded or not.
    Translated {
        /// Backends that may be chosen.
        to: Vec<Backend>,
        /// Whether the source address is replaced.
        masqueraded: bool,
    },
    /// Refused at once.
    Refused,
    /// Dropped.
    Dropped,
}

/// Clients remembered by affinity: client and pool to backend.
pub type Memory = HashMap<(IpAddr, u64), Backend>;

/// Follows a packet through the table. `memory` is the affinity map; a remembering rule takes the first endpoint.
pub fn trace(s: &Settings, content: &Content, memory: &mut Memory, packet: &Packet) -> Fate {
    let mut chains = fixed(s);
    chains.extend(content.pickers.iter().map(|(k, c)| picker(*k, *c)));
    let chains = chains.into_iter().map(|c| (c.name.clone(), c)).collect();
    let mut walk = Walk { s, content, memory, packet, chains, marked: false, now: packet.to, choice: None };
    walk.journey()
}

/// Where a chain ends.
enum End {
    Continue,
    Accept,
    Refuse,
    Drop,
    Masquerade,
}

struct Walk<'a> {
    s: &'a Settings,
    content: &'a Content,
    memory: &'a mut Memory,
    packet: &'a Packet,
    chains: HashMap<String, Chain>,
    marked: bool,
    now: Frontend,
    choice: Option<Vec<Backend>>,
}

impl Walk<'_> {
    /// Hooks in the order a packet meets them, from outside or from this node.
    fn journey(&mut self) -> Fate {
        let first: &[&str] = if self.packet.iif.is_empty() {
            &["filter-output-pre-dnat", "nat-output", "filter-output"]
        } else {
            &["filter-prerouting-pre-dnat", "nat-prerouting", "?"]
        };
        let backends = match self.pass(first) {
            Err(fate) => return fate,
            Ok(()) => self.choice.clone(),
        };
        let Some(to) = backends else { return Fate::Passes };
        let each = to.iter().map(|b| {
            self.now = Frontend { addr: b.addr, port: b.port, ..self.packet.to };
            matches!(self.run("nat-postrouting"), End::Masquerade)
        });
        // Every backend is tried, not only up to the first
        let masqueraded = each.filter(|b| *b).count() > 0;
        Fate::Translated { to, masqueraded }
    }

    fn pass(&mut self, hooks: &[&str]) -> Result<(), Fate> {
        for hook in hooks {
            let local = self.choice.is_none() && self.s.node_ips.contains(&self.now.addr);
            let name = match (*hook, local) {
                ("?", true) => "filter-input",
                ("?", false) => "filter-forward",
                (name, _) => name,
            };
            match self.run(name) {
                End::Refuse => return Err(Fate::Refused),
                End::Drop => return Err(Fate::Dropped),
                _ => {}
            }
            if let Some(b) = self.choice.as_ref().and_then(|c| c.first()) {
                self.now = Frontend { addr: b.addr, port: b.port, ..self.packet.to };
            }
        }
        Ok(())
    }

    fn run(&mut self, chain: &str) -> End {
        let rules = self.chains.get(chain).map(|c| c.rules.clone()).unwrap_or_default();
        for rule in rules {
            match self.rule(&rule) {
                Some(End::Continue) | None => {}
                Some(end) => return end,
            }
        }
        End::Continue
    }

    /// Nothing: the rule did not end the chain.
    fn rule(&mut self, rule: &[Stmt]) -> Option<End> {
        for stmt in rule {
            match stmt {
                Stmt::Mark => self.marked = true,
                Stmt::Unmark => self.marked = false,
                Stmt::Masquerade => return Some(End::Masquerade),
                Stmt::Drop => return Some(End::Drop),
                Stmt::Reset | Stmt::Unreachable => return Some(End::Refuse),
                Stmt::Jump(c) => match self.run(c) {
                    End::Continue => {}
                    end => return Some(end),
                },
                // After a goto the chain that was left does not go on: acceptance stands for its end
                Stmt::Goto(c) => return Some(self.leave(c)),
                Stmt::Dispatch(k) => {
                    let target = self.target(*k)?;
                    return Some(self.leave(&k.chain(target.class)));
                }
                Stmt::Random(k, _) | Stmt::Remember(k, _) | Stmt::Stick(k, _) => {
                    return self.choose(*k, stmt);
                }
                Stmt::Forget(k) => {
                    let pool = self.target(*k)?.pool;
                    self.memory.remove(&(self.packet.source, pool));
                }
                matching => {
                    if !self.matches(matching) {
                        return None;
                    }
                }
            }
        }
        None
    }

    fn leave(&mut self, chain: &str) -> End {
        match self.run(chain) {
            End::Continue => End::Accept,
            end => end,
        }
    }

    fn choose(&mut self, kind: Kind, stmt: &Stmt) -> Option<End> {
        let target = self.target(kind)?;
        let client = (self.packet.source, target.pool);
        let pool = self.pool(target);
        let choice = match stmt {
            Stmt::Stick(..) => {
                let b = *self.memory.get(&client)?;
                self.holds(Set::Members, Key::Member(target.pool, b)).then_some(vec![b])?
            }
            Stmt::Remember(..) => {
                let b = *pool.first()?;
                self.memory.entry(client).or_insert(b);
                vec![b]
            }
            _ => pool,
        };
        self.choice = Some(choice);
        Some(End::Accept)
    }

    fn pool(&self, t: Target) -> Vec<Backend> {
        let set = if t.class.sticky > 0 { Set::StickyEndpoints } else { Set::Endpoints };
        let slot = |n| match self.content.elements.get(&(set, Key::Slot(t.pool, n))) {
            Some(Value::Backend(b)) => Some(*b),
            _ => None,
        };
        (0..t.class.size).filter_map(slot).collect()
    }

    fn front(&self, kind: Kind) -> Frontend {
        let addr = if kind.node_port() { self.s.family.any() } else { self.now.addr };
        Frontend { addr, ..self.now }
    }

    fn target(&self, kind: Kind) -> Option<Target> {
        match self.content.elements.get(&(kind.map(), Key::Front(self.front(kind)))) {
            Some(Value::Target(t)) => Some(*t),
            _ => None,
        }
    }

    fn holds(&self, set: Set, key: Key) -> bool {
        self.content.elements.contains_key(&(set, key))
    }

    fn own(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.s.node_ips.contains(&ip)
    }

    fn matches(&self, stmt: &Stmt) -> bool {
        match stmt {
            Stmt::CtNew => true,
            Stmt::CtDnat => self.choice.is_some(),
            Stmt::Marked => self.marked,
            Stmt::Tcp => self.now.proto == Proto::Tcp,
            Stmt::Daddr(net, not) => net.contains(&self.now.addr) != *not,
            Stmt::Saddr(net, not) => net.contains(&self.packet.source) != *not,
            Stmt::DaddrLocal => self.own(self.now.addr),
            Stmt::SaddrLocal => self.own(self.packet.source),
            Stmt::Iif { name, prefix: true, not } => self.packet.iif.starts_with(name.as_str()) != *not,
            Stmt::Iif { name, not, .. } => (self.packet.iif == *name) != *not,
            Stmt::DaddrIn(set) => self.holds(*set, Key::Addr(self.now.addr)) || self.spans(*set),
            Stmt::FrontIn(kind, set) => self.holds(*set, Key::Front(self.front(*kind))),
            Stmt::Hairpin => {
                self.packet.source == self.now.addr && self.holds(Set::Hairpin, Key::Pair(self.now.addr))
            }
            Stmt::Unlisted => self.unlisted(),
            _ => false,
        }
    }

    fn spans(&self, set: Set) -> bool {
        let within = |k: &Key| matches!(k, Key::Span(a, b) if (*a..=*b).contains(&self.now.addr));
        self.content.elements.keys().any(|(s, k)| *s == set && within(k))
    }

    fn unlisted(&self) -> bool {
        let key = (Set::Firewall, Key::Front(self.now));
        let Some(Value::List(list)) = self.content.elements.get(&key) else { return false };
        let listed = |k: &Key| matches!(k, Key::Range(n, a, b) if n == list && (*a..=*b).contains(&self.packet.source));
        !self.content.elements.keys().any(|(s, k)| *s == Set::Sources && listed(k))
    }
}
