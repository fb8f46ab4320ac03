//! Who owns whom. Pure: changes go in, keys of objects to look at come out.

use std::collections::BTreeSet;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{FOREGROUND, ORPHAN};
use crate::kit::meta::{has_finalizer, name, namespace, uid};

/// A UID, shared by all who mention it.
pub type Uid = Arc<str>;

/// Where an object is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub api_version: Arc<str>,
    pub kind: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// A reference to an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: Uid,
    pub api_version: Arc<str>,
    pub kind: Arc<str>,
    pub name: Arc<str>,
    pub block: bool,
}

/// An object as the graph knows it.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub owners: Vec<Owner>,
    /// In an order of their own, so that the same changes lead to the same looks.
    pub dependents: BTreeSet<Uid>,
    /// Known only from references to it.
    pub assumed: bool,
    /// It was there and is no more, or was looked for in vain.
    pub gone: bool,
    pub deleting: bool,
    /// Being deleted in the foreground: waiting for dependents.
    pub waiting: bool,
    pub orphaning: bool,
}

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Look {
    /// Whether the object should go, or may.
    Delete(Uid),
    /// Its dependents are to be let go.
    Orphan(Uid),
}

/// The graph of everything.
#[derive(Default)]
pub struct Graph {
    nodes: AHashMap<Uid, Node>,
    /// Strings that repeat (namespaces, kinds) are kept once.
    words: AHashSet<Arc<str>>,
}

impl Graph {
    fn word(&mut self, text: &str) -> Arc<str> {
        if let Some(word) = self.words.get(text) {
            return word.clone();
        }
        let word: Arc<str> = text.into();
        self.words.insert(word.clone());
        word
    }

    /// A node by UID.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// How many nodes there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The UIDs of objects of a kind that were really seen.
    pub fn of_kind<'a>(&'a self, api_version: &'a str, kind: &'a str) -> impl Iterator<Item = &'a Uid> {
        let is = move |n: &Node| !n.assumed && &*n.place.api_version == api_version && &*n.place.kind == kind;
        self.nodes.iter().filter(move |(_, n)| is(n)).map(|(u, _)| u)
    }

    fn owners_of(&mut self, meta: &ObjectMeta) -> Vec<Owner> {
        let references = meta.owner_references.iter().flatten();
        let mut owners: Vec<Owner> = Vec::new();
        for r in references {
            if owners.iter().any(|o| *o.uid == *r.uid) {
                continue;
            }
            let uid = self.nodes.get_key_value(r.uid.as_str()).map(|(k, _)| k.clone());
            owners.push(Owner {
                uid: uid.unwrap_or_else(|| r.uid.as_str().into()),
                api_version: self.word(&r.api_version),
                kind: self.word(&r.kind),
                name: r.name.as_str().into(),
                block: r.block_owner_deletion == Some(true),
            });
        }
        owners
    }

    /// An object was seen.
    pub fn upsert(&mut self, api_version: &str, kind: &str, meta: &ObjectMeta) -> Vec<Look> {
        let mut looks = Vec::new();
        let owners = self.owners_of(meta);
        let deleting = meta.deletion_timestamp.is_some();
        let waiting = deleting && has_finalizer(meta, FOREGROUND);
        let orphaning = deleting && has_finalizer(meta, ORPHAN);
        let key: Uid = match self.nodes.get_key_value(uid(meta)) {
            Some((key, _)) => key.clone(),
            None => uid(meta).into(),
        };
        let place = Place {
            api_version: self.word(api_version),
            kind: self.word(kind),
            namespace: self.word(namespace(meta)),
            name: name(meta).into(),
        };
        let before = self.nodes.get(&key).cloned();
        let dependents = before.as_ref().map(|n| n.dependents.clone()).unwrap_or_default();
        // What was assumed of it may have been wrong: those who assumed look again.
        if before.as_ref().is_some_and(|n| n.assumed && n.place != place) {
            looks.extend(dependents.iter().cloned().map(Look::Delete));
        }
        let node = Node {
            place,
            owners: owners.clone(),
            dependents,
            assumed: false,
            gone: false,
            deleting,
            waiting,
            orphaning,
        };
        self.nodes.insert(key.clone(), node);
        self.relink(&key, before.as_ref(), &owners, &mut looks);
        self.begun(&key, before.as_ref(), &mut looks);
        looks
    }

    /// Brings the owners' lists of dependents up to date.
    fn relink(&mut self, key: &Uid, before: Option<&Node>, owners: &[Owner], looks: &mut Vec<Look>) {
        let old = before.map(|n| n.owners.as_slice()).unwrap_or_default();
        for owner in old {
            let now = owners.iter().find(|o| o.uid == owner.uid);
            if now.is_none() {
                self.unlink(key, &owner.uid);
            }
            // One dependent fewer to wait for.
            if owner.block && !now.is_some_and(|o| o.block) && self.is_waiting(&owner.uid) {
                looks.push(Look::Delete(owner.uid.clone()));
            }
        }
        for owner in owners.iter().filter(|o| !old.iter().any(|x| x.uid == o.uid)) {
            self.link(key, owner, looks);
        }
    }

    fn is_waiting(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|n| n.waiting)
    }

    fn link(&mut self, key: &Uid, owner: &Owner, looks: &mut Vec<Look>) {
        let Some(namespace) = self.nodes.get(key).map(|n| n.place.namespace.clone()) else { return };
        if let Some(node) = self.nodes.get_mut(&owner.uid) {
            node.dependents.insert(key.clone());
            let place = &node.place;
            // A namespaced owner elsewhere is no owner, nor is one of another kind or name.
            let elsewhere = !place.namespace.is_empty() && place.namespace != namespace;
            let differs = place.kind != owner.kind || place.name != owner.name;
            // Those seen before looked for what is gone; nobody would look again for one that is seen only now.
            if node.gone || (!node.assumed && (elsewhere || differs)) {
                looks.push(Look::Delete(key.clone()));
            }
            return;
        }
        let place = Place {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace,
            name: owner.name.clone(),
        };
        let node = Node {
            place,
            owners: Vec::new(),
            dependents: [key.clone()].into_iter().collect(),
            assumed: true,
            gone: false,
            deleting: false,
            waiting: false,
            orphaning: false,
        };
        self.nodes.insert(owner.uid.clone(), node);
        looks.push(Look::Delete(owner.uid.clone()));
    }

    fn unlink(&mut self, key: &Uid, owner: &Uid) {
        let Some(node) = self.nodes.get_mut(owner) else { return };
        node.dependents.remove(key);
        if node.assumed && node.dependents.is_empty() {
            self.nodes.remove(owner);
        }
    }

    /// A deletion that began: in the foreground its dependents are looked at, and it itself; orphaning likewise.
    fn begun(&mut self, key: &Uid, before: Option<&Node>, looks: &mut Vec<Look>) {
        let Some(node) = self.nodes.get(key) else { return };
        if node.orphaning && !before.is_some_and(|b| b.orphaning) {
            looks.push(Look::Orphan(key.clone()));
        }
        if node.waiting && !before.is_some_and(|b| b.waiting) {
            looks.extend(node.dependents.iter().cloned().map(Look::Delete));
            looks.push(Look::Delete(key.clone()));
        }
    }

    /// An object is gone.
    pub fn remove(&mut self, uid: &str) -> Vec<Look> {
        let Some((key, node)) = self.nodes.remove_entry(uid) else { return Vec::new() };
        let mut looks: Vec<Look> = node.dependents.iter().cloned().map(Look::Delete).collect();
        for owner in &node.owners {
            self.unlink(&key, &owner.uid);
            if self.is_waiting(&owner.uid) {
                looks.push(Look::Delete(owner.uid.clone()));
            }
        }
        // Dependents keep their reference, so the place stays known until they are gone or changed.
        if !node.dependents.is_empty() {
            let ghost = Node {
                owners: Vec::new(),
                assumed: true,
                gone: true,
                deleting: false,
                waiting: false,
                orphaning: false,
                ..node
            };
            self.nodes.insert(key, ghost);
        }
        looks
    }

    /// Dependents that keep an owner in foreground deletion from going.
    pub fn blocking(&self, owner: &str) -> Vec<Uid> {
        let Some(node) = self.nodes.get(owner) else { return Vec::new() };
        // A cluster's object can't be owned by one in a namespace: it never goes for that, and would be waited for for ever.
        let possible = |d: &Node| node.place.namespace.is_empty() || !d.place.namespace.is_empty();
        let blocks = |uid: &&Uid| {
            let names = |d: &Node| d.owners.iter().any(|o| *o.uid == *owner && o.block);
            self.nodes.get(*uid).is_some_and(|d| possible(d) && names(d))
        };
        node.dependents.iter().filter(blocks).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

    /// `name [ns=N] [owner[!]=NAME]... [deleting=FINALIZER]`; UIDs are names, `!` blocks.
    fn meta(text: &str) -> ObjectMeta {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap();
        let mut meta = ObjectMeta {
            name: Some(name.into()),
            uid: Some(name.into()),
            namespace: Some("ns".into()),
            ..Default::default()
        };
        for word in words {
            let (key, value) = word.split_once('=').unwrap();
            match key {
                "ns" => meta.namespace = Some(value.into()),
                "deleting" => {
                    meta.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
                    meta.finalizers = Some(vec![value.into()]);
                }
                _ => meta.owner_references.get_or_insert_default().push(OwnerReference {
                    api_version: "v1".into(),
                    kind: "X".into(),
                    name: value.into(),
                    uid: value.into(),
                    controller: None,
                    block_owner_deletion: Some(key.ends_with('!')),
                }),
            }
        }
        meta
    }

    fn see(graph: &mut Graph, text: &str) -> Vec<String> {
        show(graph.upsert("v1", "X", &meta(text)))
    }

    fn show(looks: Vec<Look>) -> Vec<String> {
        let mut shown: Vec<String> = looks
            .iter()
            .map(|l| match l {
                Look::Delete(uid) => format!("delete? {uid}"),
                Look::Orphan(uid) => format!("orphan {uid}"),
            })
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn an_owner_never_seen_is_looked_for_and_found() {
        let mut g = Graph::default();
        assert_eq!(see(&mut g, "pod owner=rs"), ["delete? rs"]);
        assert!(g.get("rs").unwrap().assumed);
        assert!(see(&mut g, "rs").is_empty());
        assert_eq!(g.get("rs").unwrap().dependents.len(), 1);
        assert_eq!(see(&mut g, "other ns=elsewhere owner=rs"), ["delete? other"]);
    }

    #[test]
    fn dependents_of_what_is_gone_are_looked_at() {
        let mut g = Graph::default();
        see(&mut g, "rs");
        see(&mut g, "a owner=rs");
        see(&mut g, "b owner=rs");
        assert_eq!(show(g.remove("rs")), ["delete? a", "delete? b"]);
        g.remove("a");
        g.remove("b");
        assert_eq!(g.len(), 0, "nothing is kept for ever");
    }

    #[test]
    fn a_dependent_seen_after_its_owner_went_is_looked_at_too() {
        let mut g = Graph::default();
        see(&mut g, "rs");
        see(&mut g, "a owner=rs");
        g.remove("rs");
        assert_eq!(see(&mut g, "b owner=rs"), ["delete? b"]);
        assert!(see(&mut g, "rs").is_empty());
        assert!(see(&mut g, "c owner=rs").is_empty(), "it is back");
    }

    #[test]
    fn the_foreground_waits_for_what_blocks() {
        let mut g = Graph::default();
        see(&mut g, "rs");
        see(&mut g, "a owner!=rs");
        see(&mut g, "b owner=rs");
        assert_eq!(see(&mut g, "rs deleting=foregroundDeletion"), ["delete? a", "delete? b", "delete? rs"]);
        assert_eq!(g.blocking("rs"), ["a".into()]);
        assert_eq!(see(&mut g, "a owner=rs"), ["delete? rs"]);
        assert!(g.blocking("rs").is_empty());
        assert_eq!(show(g.remove("b")), ["delete? rs"]);
    }

    #[test]
    fn what_cannot_be_owned_is_not_waited_for() {
        let mut g = Graph::default();
        see(&mut g, "rs deleting=foregroundDeletion");
        see(&mut g, "near owner!=rs");
        see(&mut g, "elsewhere ns=other owner!=rs");
        see(&mut g, "cluster ns= owner!=rs");
        assert_eq!(g.blocking("rs"), ["elsewhere".into(), "near".into()]);
    }

    #[test]
    fn orphaning_is_told_once() {
        let mut g = Graph::default();
        see(&mut g, "rs");
        assert_eq!(see(&mut g, "rs deleting=orphan"), ["orphan rs"]);
        assert!(see(&mut g, "rs deleting=orphan").is_empty());
    }

    #[test]
    fn a_change_of_owner_moves_the_dependent() {
        let mut g = Graph::default();
        see(&mut g, "one");
        see(&mut g, "two");
        see(&mut g, "pod owner=one");
        see(&mut g, "pod owner=two");
        assert!(g.get("one").unwrap().dependents.is_empty());
        assert!(show(g.remove("one")).is_empty());
        assert_eq!(show(g.remove("two")), ["delete? pod"]);
    }
}
