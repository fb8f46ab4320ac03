//! What the table holds, kept per service, and how it changes: [`diff`] between two renderings of one service, counted
//! over services where two may name the same element.

use std::collections::{BTreeSet, HashMap};

use ahash::{HashMap as FastMap, HashSet as FastSet};

use crate::chains::Kind;
use crate::model::{Class, Element, Key, Rules, ServiceName, Set, Value};

/// A change of the table: pickers to make, then elements to take out, then elements to put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Chains that choose in a class, not there yet.
    pub pickers: Vec<(Kind, Class)>,
    /// Elements to delete, as they were.
    pub remove: Vec<Element>,
    /// Elements to add.
    pub add: Vec<Element>,
}

impl Transaction {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.pickers.is_empty() && self.remove.is_empty() && self.add.is_empty()
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.pickers.len() + self.remove.len() + self.add.len()
    }
}

/// Elements that go and come when one service's rules are replaced. Pure; knows nothing of other services.
pub fn diff(old: &Rules, new: &Rules) -> (Vec<Element>, Vec<Element>) {
    let before: FastSet<Element> = old.all().collect();
    let after: FastSet<Element> = new.all().collect();
    let gone = old.all().filter(|e| !after.contains(e)).collect();
    let come = new.all().filter(|e| !before.contains(e)).collect();
    (gone, come)
}

type Place = (Set, Key);
type Claim = (ServiceName, Value);

/// The desired content of one family's table.
#[derive(Debug, Default)]
pub struct State {
    services: FastMap<ServiceName, Rules>,
    claims: FastMap<Place, Vec<Claim>>,
    pickers: BTreeSet<(Kind, Class)>,
}

impl State {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rules of one service, if it has any.
    pub fn rules(&self, name: &str) -> Option<&Rules> {
        self.services.get(name)
    }

    /// Number of services with rules.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether no service has rules.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Replaces a service's rules and tells what changes in the table. An element that several services claim (an
    /// external address given twice, say) belongs to the one whose name sorts first.
    pub fn replace(&mut self, name: &ServiceName, new: Rules, out: &mut Changes) {
        let old = self.services.remove(name).unwrap_or_default();
        let (gone, come) = diff(&old, &new);
        for e in gone {
            self.withdraw(name, e, out);
        }
        for e in come {
            self.claim(name, e, out);
        }
        for kind_class in needed(&new) {
            if self.pickers.insert(kind_class) {
                out.pickers.push(kind_class);
            }
        }
        if new != Rules::default() {
            self.services.insert(name.clone(), new);
        }
    }

    fn claim(&mut self, name: &ServiceName, e: Element, out: &mut Changes) {
        if !e.set.shared() {
            return out.put((e.set, e.key), None, Some(e.value));
        }
        // Nearly always one: room for more would be most of what a large cluster's table takes here
        let claims = self.claims.entry((e.set, e.key)).or_insert_with(|| Vec::with_capacity(1));
        let before = claims.first().map(|c| c.1);
        let at = claims.partition_point(|c| c.0 < *name);
        claims.insert(at, (name.clone(), e.value));
        let after = claims.first().map(|c| c.1);
        out.put((e.set, e.key), before, after);
    }

    fn withdraw(&mut self, name: &ServiceName, e: Element, out: &mut Changes) {
        if !e.set.shared() {
            return out.put((e.set, e.key), Some(e.value), None);
        }
        let Some(claims) = self.claims.get_mut(&(e.set, e.key)) else { return };
        let before = claims.first().map(|c| c.1);
        claims.retain(|c| c.0 != *name || c.1 != e.value);
        let after = claims.first().map(|c| c.1);
        if claims.is_empty() {
            self.claims.remove(&(e.set, e.key));
        }
        out.put((e.set, e.key), before, after);
    }

    /// Everything, as one transaction for an empty table.
    pub fn full(&mut self) -> Transaction {
        self.pickers = self.services.values().flat_map(needed).collect();
        let own = self.services.values().flat_map(Rules::all).filter(|e| !e.set.shared());
        let shared = self.claims.iter().filter_map(|((set, key), claims)| {
            Some(Element { set: *set, key: *key, value: claims.first()?.1 })
        });
        let mut add: Vec<Element> = shared.chain(own).collect();
        add.sort_by_key(|e| e.set);
        Transaction { pickers: self.pickers.iter().copied().collect(), remove: Vec::new(), add }
    }
}

/// Pickers that a service's frontends may come to.
fn needed(rules: &Rules) -> Vec<(Kind, Class)> {
    let mut list: Vec<_> = rules.elements.iter().filter_map(picker_of).collect();
    list.sort_unstable();
    list.dedup();
    list
}

fn picker_of(e: &Element) -> Option<(Kind, Class)> {
    let (Key::Front(front), Value::Target(target)) = (e.key, e.value) else { return None };
    let kind = match (e.set, front.addr.is_unspecified()) {
        (Set::Services, false) => Kind::Address,
        (Set::Services, true) => Kind::NodePort,
        (_, false) => Kind::LocalAddress,
        (_, true) => Kind::LocalNodePort,
    };
    Some((kind, target.class))
}

/// Net changes gathered over several services: for each place what it held first and what it holds last.
#[derive(Debug, Default)]
pub struct Changes {
    pickers: Vec<(Kind, Class)>,
    places: FastMap<Place, (Option<Value>, Option<Value>)>,
    ignored: bool,
}

impl Changes {
    /// Gathers nothing, for when the whole table is made anew anyway.
    pub fn ignored() -> Self {
        Self { ignored: true, ..Self::default() }
    }

    fn put(&mut self, place: Place, before: Option<Value>, after: Option<Value>) {
        if self.ignored {
            return;
        }
        self.places.entry(place).and_modify(|p| p.1 = after).or_insert((before, after));
    }

    /// The transaction, ordered by set.
    pub fn finish(self) -> Transaction {
        let mut t = Transaction { pickers: self.pickers, ..Transaction::default() };
        for ((set, key), (before, after)) in self.places.into_iter().filter(|(_, (b, a))| b != a) {
            t.remove.extend(before.map(|value| Element { set, key, value }));
            t.add.extend(after.map(|value| Element { set, key, value }));
        }
        t.remove.sort_by_key(|e| (e.set, e.key));
        t.add.sort_by_key(|e| (e.set, e.key));
        t
    }
}

/// Content of a table as the kernel would hold it, for the tracer and for tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Elements.
    pub elements: HashMap<Place, Value>,
    /// Pickers.
    pub pickers: BTreeSet<(Kind, Class)>,
}

impl Content {
    /// Applies a transaction as the kernel does: removing what is absent or adding over something else is an error.
    pub fn apply(&mut self, t: &Transaction) -> Result<(), String> {
        self.pickers.extend(t.pickers.iter().copied());
        for e in &t.remove {
            let held = self.elements.remove(&(e.set, e.key));
            if held != Some(e.value) {
                return Err(format!("removing {e}, which held {held:?}"));
            }
        }
        for e in &t.add {
            if let Some(held) = self.elements.insert((e.set, e.key), e.value) {
                return Err(format!("adding {e} over {held:?}"));
            }
        }
        Ok(())
    }
}
