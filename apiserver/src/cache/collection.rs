//! All objects of one place in the store: the current state, the recent past, and who watches.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use imbl::OrdMap;
use machinery::kinds::{Gvk, Resource};
use machinery::schema::{FieldKind, Type};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::entry::{Entry, EventType};
use super::filter::Filter;
use super::scan::Wanted;

/// Events kept at least, and at most, for watches from a version.
const HISTORY_MIN: usize = 100;
const HISTORY_MAX: usize = 8192;
/// Events younger than this are kept up to the maximum.
const HISTORY_AGE: Duration = Duration::from_secs(75);
/// Events a watcher may lag behind before it is dropped.
const WATCHER_BUFFER: usize = 1024;

/// The entries of a collection in key order, at one moment.
pub type Snapshot = OrdMap<Arc<str>, Arc<Entry>>;

/// A change as observers inside the server see it.
pub struct Change {
    /// The entry as it was.
    pub old: Option<Arc<Entry>>,
    /// The entry as it is.
    pub new: Option<Arc<Entry>>,
}

/// A change as watchers see it.
pub struct Event {
    /// What the store did.
    pub kind: EventType,
    /// The entry as it is; for a deletion the last state at the revision of the deletion.
    pub entry: Arc<Entry>,
    /// The entry as it was.
    pub prev: Option<Arc<Entry>>,
    left: OnceLock<Arc<Entry>>,
}

impl Event {
    /// What this event is to somebody who sees only what matches `filter`; None if nothing.
    pub fn seen_by(&self, filter: &Filter) -> Option<EventType> {
        let before = self.prev.as_ref().is_some_and(|prev| filter.matches(prev));
        let now = self.kind != EventType::Deleted && filter.matches(&self.entry);
        match (before, now) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }

    /// The entry to show for an event of this type: the last state that matched when it left the selector.
    pub fn shown(&self, seen: EventType) -> &Arc<Entry> {
        if seen != EventType::Deleted || self.kind == EventType::Deleted {
            return &self.entry;
        }
        self.left.get_or_init(|| match &self.prev {
            Some(prev) => Arc::new(prev.at_revision(EventType::Deleted, self.entry.rv)),
            None => self.entry.clone(),
        })
    }
}

struct Watcher {
    filter: Arc<Filter>,
    sender: mpsc::Sender<Delivery>,
}

/// One event on its way to one watcher.
pub struct Delivery {
    /// What it is to that watcher.
    pub seen: EventType,
    /// The event.
    pub event: Arc<Event>,
}

/// A running subscription. The receiver ends when the watcher was too slow, or the cache lost its history.
pub struct Subscription {
    /// What there was at the start, and the revision it was at; None for a watch from a version.
    pub initial: Option<(Snapshot, u64)>,
    /// Events of the past that the watcher has not seen.
    pub backlog: Vec<Delivery>,
    /// Events from now on.
    pub events: mpsc::Receiver<Delivery>,
    /// The revision at the start.
    pub revision: u64,
    /// What is watched.
    pub filter: Arc<Filter>,
}

/// From where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The state now, then changes.
    Now,
    /// Changes after a revision.
    Revision(u64),
}

type Observer = Arc<dyn Fn(&Change) + Send + Sync>;

#[derive(Default)]
struct State {
    map: Snapshot,
    history: VecDeque<(Instant, Arc<Event>)>,
    /// Everything after this revision is in the history.
    history_from: u64,
    /// The revision of the newest change.
    last: u64,
    watchers: Vec<Watcher>,
    /// Watchers that only care for one value of the indexed field, or for one name.
    by_value: AHashMap<Box<str>, Vec<Watcher>>,
    by_key: AHashMap<Box<str>, Vec<Watcher>>,
    observers: Vec<Observer>,
}

/// A collection.
pub struct Collection {
    /// Full key prefix with a slash at its end.
    pub prefix: String,
    /// Group, version and kind of what is stored.
    pub stored: Gvk,
    /// Schema of what is stored, for built-in kinds.
    pub object_type: Option<&'static Type>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    paths: Vec<(String, usize)>,
    wanted: Wanted,
    trigger: Option<usize>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Collection {
    /// An empty collection for a resource, kept under `prefix`.
    pub fn new(resource: &Resource, prefix: &str) -> Self {
        let mut collection = Self {
            prefix: prefix.to_owned(),
            stored: resource.storage_version.clone().unwrap_or_else(|| resource.gvk()),
            object_type: resource.storage_type(),
            namespaced: resource.namespaced,
            paths: Vec::new(),
            wanted: Wanted::default(),
            trigger: None,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        for field in resource.field_labels.iter().filter(|f| f.present) {
            collection.add_path(&field.path);
        }
        collection.trigger = collection.value_index("spec.nodeName");
        collection
    }

    fn add_path(&mut self, path: &str) {
        if matches!(path, "metadata.name" | "metadata.namespace") || self.value_index(path).is_some() {
            return;
        }
        // Two labels stand for a value that lies elsewhere in the object.
        let place = match (path, self.stored.kind.as_str()) {
            ("source", "Event") => "source.component",
            ("status.successful", "Job") => "status.succeeded",
            _ => path,
        };
        let index = self.wanted.add(place, default_at(self.object_type, place));
        self.paths.push((path.to_owned(), index));
    }

    /// Where the value of a selectable path stands in `Entry::values`.
    pub fn value_index(&self, path: &str) -> Option<usize> {
        self.paths.iter().find(|(p, _)| p == path).map(|(_, index)| *index)
    }

    /// What the skim over an object looks for.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// One entry.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let state = self.state.lock();
        if namespace.is_empty() {
            return state.map.get(name).cloned();
        }
        let mut key = String::with_capacity(namespace.len() + name.len() + 1);
        key.push_str(namespace);
        key.push('/');
        key.push_str(name);
        state.map.get(key.as_str()).cloned()
    }

    /// Everything, as of now. Costs nothing but a reference.
    pub fn snapshot(&self) -> Snapshot {
        self.state.lock().map.clone()
    }

    /// Everything, as of now, and the revision of the newest change in it.
    pub fn snapshot_at(&self) -> (Snapshot, u64) {
        let state = self.state.lock();
        (state.map.clone(), state.last)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.state.lock().map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entries of a namespace, or all when it is empty.
    pub fn list(&self, namespace: &str) -> Vec<Arc<Entry>> {
        in_namespace(&self.snapshot(), namespace).map(|(_, e)| e.clone()).collect()
    }

    /// A receiver of the revision of the newest change.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Adds an observer; it is called for what there is first.
    pub fn observe(&self, observer: Observer) {
        let mut state = self.state.lock();
        for entry in state.map.values() {
            observer(&Change { old: None, new: Some(entry.clone()) });
        }
        state.observers.push(observer);
    }

    /// Starts a subscription. Err carries the oldest revision that one could start from.
    pub fn subscribe(&self, filter: Arc<Filter>, from: From, revision: u64) -> Result<Subscription, u64> {
        let (sender, events) = mpsc::channel(WATCHER_BUFFER);
        let mut state = self.state.lock();
        let (mut initial, mut backlog) = (None, Vec::new());
        match from {
            From::Now => initial = Some((state.map.clone(), revision.max(state.last))),
            From::Revision(after) if after < state.history_from => return Err(state.history_from),
            From::Revision(after) => backlog = past(&state.history, after, &filter),
        }
        state.add_watcher(self.trigger, Watcher { filter: filter.clone(), sender });
        let revision = revision.max(state.last);
        Ok(Subscription { initial, backlog, events, revision, filter })
    }

    /// Takes the place of everything known: after the first list, or after the watch's history was lost. Those who watch
    /// learn the difference if nothing can have been missed, otherwise their streams end.
    pub fn replace(&self, entries: Vec<Entry>, revision: u64) {
        let new: Snapshot = entries.into_iter().map(|e| (e.key().clone(), Arc::new(e))).collect();
        let mut state = self.state.lock();
        let old = std::mem::replace(&mut state.map, new.clone());
        state.history.clear();
        state.history_from = revision;
        state.last = new.values().map(|e| e.rv).max().unwrap_or(0);
        state.watchers.clear();
        state.by_key.clear();
        state.by_value.clear();
        for change in difference(&old, &new) {
            state.observers.iter().for_each(|observer| observer(&change));
        }
        drop(state);
        self.changed.send_replace(revision);
    }

    /// Takes in one changed object.
    pub fn put(&self, key: &str, created: bool, rv: u64, value: &[u8]) -> Result<(), String> {
        let event = if created { EventType::Added } else { EventType::Modified };
        let entry = Arc::new(Entry::build(event, key.into(), rv, value, &self.wanted)?);
        let mut state = self.state.lock();
        let prev = state.map.insert(entry.key().clone(), entry.clone());
        let kind = if prev.is_some() { EventType::Modified } else { EventType::Added };
        state.publish(self.trigger, Event { kind, entry, prev, left: OnceLock::new() });
        drop(state);
        self.changed.send_replace(rv);
        Ok(())
    }

    /// Takes in a deletion.
    pub fn remove(&self, key: &str, rv: u64) {
        let mut state = self.state.lock();
        let Some(prev) = state.map.remove(key) else { return };
        let entry = Arc::new(prev.at_revision(EventType::Deleted, rv));
        state.publish(
            self.trigger,
            Event { kind: EventType::Deleted, entry, prev: Some(prev), left: OnceLock::new() },
        );
        drop(state);
        self.changed.send_replace(rv);
    }

    /// Forgets events that are old and watchers that are gone.
    pub fn tidy(&self) {
        let mut state = self.state.lock();
        state.trim();
        state.watchers.retain(|w| !w.sender.is_closed());
        for group in [true, false] {
            let map = if group { &mut state.by_key } else { &mut state.by_value };
            map.retain(|_, list| {
                list.retain(|w| !w.sender.is_closed());
                !list.is_empty()
            });
        }
    }

    /// How many watchers there are.
    pub fn watchers(&self) -> usize {
        let state = self.state.lock();
        let indexed = state.by_key.values().chain(state.by_value.values()).map(Vec::len).sum::<usize>();
        state.watchers.len() + indexed
    }
}

impl State {
    fn add_watcher(&mut self, trigger: Option<usize>, watcher: Watcher) {
        let filter = watcher.filter.clone();
        if let Some(name) = filter.name() {
            let key = join_key(&filter.namespace, name);
            self.by_key.entry(key.into()).or_default().push(watcher);
        } else if let Some(value) = trigger.and_then(|index| filter.value(index)) {
            self.by_value.entry(value.into()).or_default().push(watcher);
        } else {
            self.watchers.push(watcher);
        }
    }

    fn publish(&mut self, trigger: Option<usize>, event: Event) {
        self.last = event.entry.rv;
        let event = Arc::new(event);
        self.notify(trigger, &event);
        let change = Change {
            old: event.prev.clone(),
            new: (event.kind != EventType::Deleted).then(|| event.entry.clone()),
        };
        self.observers.iter().for_each(|observer| observer(&change));
        self.history.push_back((Instant::now(), event));
        self.trim();
    }

    fn notify(&mut self, trigger: Option<usize>, event: &Arc<Event>) {
        deliver(&mut self.watchers, event);
        if !self.by_key.is_empty() {
            // A watch by name may name the namespace or span all of them.
            for key in [&**event.entry.key(), event.entry.name()] {
                if let Some(list) = self.by_key.get_mut(key) {
                    deliver(list, event);
                }
                if event.entry.namespace().is_empty() {
                    break;
                }
            }
        }
        let Some(index) = trigger.filter(|_| !self.by_value.is_empty()) else { return };
        let (now, before) =
            (event.entry.value(index), event.prev.as_ref().and_then(|prev| prev.value(index)));
        for value in [now, before.filter(|before| Some(*before) != now)].into_iter().flatten() {
            if let Some(list) = self.by_value.get_mut(value) {
                deliver(list, event);
            }
        }
    }

    fn trim(&mut self) {
        let now = Instant::now();
        while self.history.len() > HISTORY_MIN {
            let Some((at, _)) = self.history.front() else { return };
            if self.history.len() <= HISTORY_MAX && now.duration_since(*at) < HISTORY_AGE {
                return;
            }
            if let Some((_, event)) = self.history.pop_front() {
                self.history_from = event.entry.rv;
            }
        }
    }
}

/// Hands an event to those it concerns; who is gone or too slow is dropped, which ends its stream.
fn deliver(watchers: &mut Vec<Watcher>, event: &Arc<Event>) {
    watchers.retain(|watcher| {
        let Some(seen) = event.seen_by(&watcher.filter) else { return true };
        watcher.sender.try_send(Delivery { seen, event: event.clone() }).is_ok()
    });
}

fn past(history: &VecDeque<(Instant, Arc<Event>)>, after: u64, filter: &Filter) -> Vec<Delivery> {
    let start = history.partition_point(|(_, event)| event.entry.rv <= after);
    (history.range(start..))
        .filter_map(|(_, event)| Some(Delivery { seen: event.seen_by(filter)?, event: event.clone() }))
        .collect()
}

/// `namespace/name`, or `name` alone.
pub fn join_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// The part of a snapshot that lies in a namespace; all of it when that is empty.
pub fn in_namespace<'s>(
    snapshot: &'s Snapshot,
    namespace: &str,
) -> impl Iterator<Item = (&'s Arc<str>, &'s Arc<Entry>)> {
    let (from, to): (Arc<str>, Arc<str>) = match namespace {
        "" => ("".into(), "\u{10ffff}".into()),
        _ => (format!("{namespace}/").into(), format!("{namespace}0").into()),
    };
    snapshot.range(from..to)
}

fn difference(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    for (key, entry) in old {
        if !new.contains_key(key) {
            changes.push(Change { old: Some(entry.clone()), new: None });
        }
    }
    for (key, entry) in new {
        let before = old.get(key);
        if before.is_none_or(|b| b.rv != entry.rv) {
            changes.push(Change { old: before.cloned(), new: Some(entry.clone()) });
        }
    }
    changes
}

/// What a missing value at a path counts as: upstream compares with the text of the zero value.
fn default_at(object_type: Option<&'static Type>, path: &str) -> &'static str {
    let Some(mut ty) = object_type else { return "" };
    let mut kind = None;
    for segment in path.split('.') {
        let Some(field) = ty.field(segment) else { return "" };
        kind = Some(field.kind);
        match field.ty() {
            Some(next) => ty = next,
            None => break,
        }
    }
    match kind {
        Some(FieldKind::Bool) => "false",
        Some(FieldKind::Int32 | FieldKind::Int64) => "0",
        _ => "",
    }
}
