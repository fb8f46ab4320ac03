//! A shared watch cache of one kind: listed and watched once per process, read by everyone.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use daemon::tasks::Tasks;
use futures::StreamExt;
use kube::Resource;
use kube::api::Api;
use kube::runtime::watcher;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::kinds::Watchable;

/// Waits between attempts to reach the API server.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A cluster that starts is ready within seconds; until a cache was filled once, waits stay short for this long.
const STARTING: Duration = Duration::from_secs(10);
const STARTING_WAIT: Duration = Duration::from_millis(250);
/// A watch that is back within this time is not worth a line: that is a connection changed, or a start in parallel.
const SILENCE: Duration = Duration::from_secs(3);

/// Namespace and name; the namespace is empty for cluster-scoped objects.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of<T: Resource>(object: &T) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.is_empty() {
            true => f.write_str(&self.name),
            false => write!(f, "{}/{}", self.namespace, self.name),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A change: `old` is `None` for a new object, `new` for a vanished one.
#[derive(Debug)]
pub struct Event<T> {
    pub key: Key,
    pub old: Option<Arc<T>>,
    pub new: Option<Arc<T>>,
}

impl<T> Clone for Event<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), old: self.old.clone(), new: self.new.clone() }
    }
}

impl<T> Event<T> {
    /// The object as it is, or as it last was.
    pub fn object(&self) -> Option<&Arc<T>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

/// Makes an object lighter before it is kept.
pub type Trim<T> = Arc<dyn Fn(&mut T) + Send + Sync>;
type IndexFn<T> = Box<dyn Fn(&T) -> Vec<String> + Send + Sync>;
type Handler<T> = Box<dyn Fn(&Event<T>) + Send + Sync>;

/// What to watch and how to keep it.
pub struct Options<T> {
    pub labels: Option<String>,
    pub fields: Option<String>,
    pub trim: Option<Trim<T>>,
}

impl<T> Default for Options<T> {
    fn default() -> Self {
        Self { labels: None, fields: None, trim: None }
    }
}

impl<T> Options<T> {
    /// Only objects with these labels.
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Only objects with these fields.
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// Drops what no reader needs.
    pub fn trim(mut self, trim: impl Fn(&mut T) + Send + Sync + 'static) -> Self {
        self.trim = Some(Arc::new(trim));
        self
    }

    fn config(&self) -> watcher::Config {
        let mut config = watcher::Config::default().any_semantic();
        if let Some(labels) = &self.labels {
            config = config.labels(labels);
        }
        if let Some(fields) = &self.fields {
            config = config.fields(fields);
        }
        config
    }
}

/// A shared handle to a cache.
pub struct Cache<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<T> {
    store: RwLock<Store<T>>,
    handlers: RwLock<Vec<Handler<T>>>,
    synced: watch::Sender<bool>,
    seen: AtomicU64,
}

struct Store<T> {
    objects: AHashMap<Arc<str>, AHashMap<Arc<str>, Arc<T>>>,
    indices: Vec<Index<T>>,
    /// A listing under way: the keys it has shown so far, and their newest version.
    listing: Option<(AHashSet<Key>, u64)>,
}

struct Index<T> {
    name: Cow<'static, str>,
    of: IndexFn<T>,
    entries: AHashMap<String, AHashSet<Key>>,
}

impl<T> Cache<T>
where
    T: Resource + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
{
    /// Starts watching; returns at once. The watch lives as long as `tasks`.
    pub fn start(api: Api<T>, options: Options<T>, tasks: &Tasks) -> Self {
        let cache = Self::detached();
        let config = options.config();
        let name = format!("cache {}", api.resource_url());
        let (follower, trim) = (cache.clone(), options.trim);
        tasks.spawn(name.clone(), async move { follower.follow(&name, api, config, trim).await });
        cache
    }

    async fn follow(self, name: &str, api: Api<T>, config: watcher::Config, trim: Option<Trim<T>>) {
        let mut trouble = Trouble::new();
        let mut stream = Box::pin(watcher(api.clone(), config.clone()));
        while let Some(event) = stream.next().await {
            match event {
                Ok(watcher::Event::Init) => self.take(watcher::Event::Init, None),
                Ok(event) => {
                    trouble.over(name);
                    self.take(event, trim.as_ref());
                }
                Err(error) => {
                    let expired = is_expired(&error);
                    // A place that is too old is the ordinary end of an outage, and a list the ordinary answer.
                    let wait = trouble.wait(name, &error, self.is_synced(), expired);
                    tokio::time::sleep(wait).await;
                    if expired {
                        stream = Box::pin(watcher(api.clone(), config.clone()));
                    }
                }
            }
        }
    }
}

/// True if the watch can't start again where it was: only a new list helps, and the watcher would not make one by itself.
pub fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// A watch that does not work, since when, and what was said about it.
struct Trouble {
    started: Instant,
    backoff: Backoff,
    since: Option<Instant>,
    said: Option<String>,
}

impl Trouble {
    fn new() -> Self {
        let backoff = Backoff::new(RETRY.0, RETRY.1);
        Self { started: Instant::now(), backoff, since: None, said: None }
    }

    fn over(&mut self, name: &str) {
        if self.since.take().is_none() {
            return;
        }
        self.backoff.reset();
        if self.said.take().is_some() {
            tracing::info!(name, "watch works again");
        }
    }

    /// Says once what is wrong, if it lasts, and how long to wait.
    fn wait(&mut self, name: &str, error: &dyn std::error::Error, filled: bool, usual: bool) -> Duration {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let text = daemon::logging::brief(error);
        if !usual && now - since >= SILENCE && self.said.as_ref() != Some(&text) {
            tracing::warn!(name, error = text, "watch failed");
            self.said = Some(text);
        } else {
            tracing::debug!(name, error = text, "watch failed");
        }
        let wait = self.backoff.next_wait();
        if !filled && now - self.started < STARTING { wait.min(STARTING_WAIT) } else { wait }
    }
}

impl<T: Resource + Clone + Send + Sync + 'static> Cache<T> {
    /// A cache nobody fills but [`Cache::take`]: for tests, and for watches of another make.
    pub fn detached() -> Self {
        let store = Store { objects: AHashMap::new(), indices: Vec::new(), listing: None };
        let inner = Inner {
            store: RwLock::new(store),
            handlers: RwLock::default(),
            synced: watch::channel(false).0,
            seen: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Applies one watch event.
    pub fn take(&self, event: watcher::Event<T>, trim: Option<&Trim<T>>) {
        match event {
            watcher::Event::Init => self.inner.store.write().listing = Some(Default::default()),
            watcher::Event::InitApply(object) => self.apply(object, trim, true),
            watcher::Event::InitDone => self.end_listing(),
            watcher::Event::Apply(object) => self.apply(object, trim, false),
            watcher::Event::Delete(object) => {
                self.note(&object);
                self.remove(&Key::of(&object), Some(object));
            }
        }
    }

    fn note(&self, object: &T) {
        if let Some(version) = version_of(object) {
            self.inner.seen.fetch_max(version, Ordering::AcqRel);
        }
    }

    fn apply(&self, mut object: T, trim: Option<&Trim<T>>, listed: bool) {
        object.meta_mut().managed_fields = None;
        if let Some(trim) = trim {
            trim(&mut object);
        }
        let new = Arc::new(object);
        let key = Key::of(&*new);
        let old = {
            let mut store = self.inner.store.write();
            if listed && let Some((shown, newest)) = store.listing.as_mut() {
                shown.insert(key.clone());
                *newest = (*newest).max(version_of(&*new).unwrap_or(0));
            }
            store.insert(key.clone(), new.clone())
        };
        // Lists are not in the order of versions: what a listing has seen counts when it is whole.
        if !listed {
            self.note(&new);
        }
        // A relist shows everything again; what has not changed wakes nobody.
        let same = |o: &Arc<T>| {
            o.meta().resource_version == new.meta().resource_version && o.meta().uid == new.meta().uid
        };
        if !old.as_ref().is_some_and(same) {
            self.tell(&Event { key, old, new: Some(new) });
        }
    }

    fn remove(&self, key: &Key, last: Option<T>) {
        let old = self.inner.store.write().remove(key);
        let Some(old) = last.map(Arc::new).or(old) else { return };
        self.tell(&Event { key: key.clone(), old: Some(old), new: None });
    }

    fn end_listing(&self) {
        let (shown, newest) = self.inner.store.write().listing.take().unwrap_or_default();
        let gone: Vec<Key> = self.keys().into_iter().filter(|k| !shown.contains(k)).collect();
        gone.iter().for_each(|key| self.remove(key, None));
        self.inner.seen.fetch_max(newest, Ordering::AcqRel);
        self.inner.synced.send_replace(true);
    }

    fn tell(&self, event: &Event<T>) {
        for handler in self.inner.handlers.read().iter() {
            handler(event);
        }
    }

    /// Calls `handler` for everything there is now, then for every change, in order, inside the cache's task:
    /// it must be quick and must not block.
    pub fn handle(&self, handler: impl Fn(&Event<T>) + Send + Sync + 'static) {
        let mut handlers = self.inner.handlers.write();
        for object in self.list() {
            handler(&Event { key: Key::of(&*object), old: None, new: Some(object) });
        }
        handlers.push(Box::new(handler));
    }

    /// One object. `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.inner.store.read().objects.get(namespace)?.get(name).cloned()
    }

    /// One object by key.
    pub fn get_key(&self, key: &Key) -> Option<Arc<T>> {
        self.get(&key.namespace, &key.name)
    }

    /// Everything, in no order.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.inner.store.read().objects.values().flat_map(|n| n.values().cloned()).collect()
    }

    /// Everything in a namespace, in no order.
    pub fn by_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let store = self.inner.store.read();
        store.objects.get(namespace).map(|n| n.values().cloned().collect()).unwrap_or_default()
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Key> {
        let store = self.inner.store.read();
        let keys = |(ns, names): (&Arc<str>, &AHashMap<Arc<str>, Arc<T>>)| {
            let ns = ns.clone();
            names
                .keys()
                .map(move |name| Key { namespace: ns.clone(), name: name.clone() })
                .collect::<Vec<_>>()
        };
        store.objects.iter().flat_map(keys).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.store.read().objects.values().map(|n| n.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an index: `of` gives the values an object is found by. A second index of the same name is not made.
    pub fn add_index(
        &self,
        name: impl Into<Cow<'static, str>>,
        of: impl Fn(&T) -> Vec<String> + Send + Sync + 'static,
    ) {
        let name = name.into();
        let mut store = self.inner.store.write();
        if store.indices.iter().any(|i| i.name == name) {
            return;
        }
        let mut index = Index { name, of: Box::new(of), entries: AHashMap::new() };
        for (ns, names) in &store.objects {
            for (name, object) in names {
                index.insert(&Key { namespace: ns.clone(), name: name.clone() }, object);
            }
        }
        store.indices.push(index);
    }

    /// Objects found by a value of an index; empty if there is no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<T>> {
        let store = self.inner.store.read();
        let Some(index) = store.indices.iter().find(|i| i.name == index) else { return Vec::new() };
        let keys = index.entries.get(value).into_iter().flatten();
        keys.filter_map(|k| store.objects.get(&k.namespace)?.get(&k.name).cloned()).collect()
    }

    /// The newest resource version this cache has seen. Versions of one API server grow through all kinds, so a
    /// write at or below it is visible here.
    pub fn resource_version(&self) -> u64 {
        self.inner.seen.load(Ordering::Acquire)
    }

    /// Whether the first listing is complete.
    pub fn is_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }

    /// Waits for the first listing.
    pub fn synced(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut receiver = self.inner.synced.subscribe();
        async move {
            // An error means the cache is gone, and with it whoever waits.
            let _ = receiver.wait_for(|synced| *synced).await;
        }
    }
}

/// The numeric resource version of an object.
pub fn version_of<T: Resource>(object: &T) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

impl<T> Index<T> {
    fn insert(&mut self, key: &Key, object: &T) {
        for value in (self.of)(object) {
            self.entries.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, object: &T) {
        for value in (self.of)(object) {
            if let Some(keys) = self.entries.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.entries.remove(&value);
                }
            }
        }
    }
}

impl<T> Store<T> {
    fn insert(&mut self, key: Key, new: Arc<T>) -> Option<Arc<T>> {
        let names = self.objects.entry(key.namespace.clone()).or_default();
        let old = names.insert(key.name.clone(), new.clone());
        for index in &mut self.indices {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.insert(&key, &new);
        }
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<T>> {
        let names = self.objects.get_mut(&key.namespace)?;
        let old = names.remove(&key.name)?;
        if names.is_empty() {
            self.objects.remove(&key.namespace);
        }
        self.indices.iter_mut().for_each(|index| index.remove(key, &old));
        Some(old)
    }
}

/// The caches of a process, one per type, made when first asked for.
#[derive(Clone)]
pub struct Caches {
    client: kube::Client,
    tasks: Tasks,
    made: Arc<Mutex<AHashMap<TypeId, (Box<dyn Any + Send + Sync>, watch::Receiver<bool>)>>>,
}

impl Caches {
    /// No caches yet.
    pub fn new(client: kube::Client, tasks: Tasks) -> Self {
        Self { client, tasks, made: Arc::default() }
    }

    /// The cache of a kind in all namespaces, whole but for managed fields.
    pub fn of<T: Watchable>(&self) -> Cache<T> {
        self.with(Options::default)
    }

    /// The cache of a kind; `options` counts only for the first who asks.
    pub fn with<T: Watchable>(&self, options: impl FnOnce() -> Options<T>) -> Cache<T> {
        let mut made = self.made.lock();
        if let Some(cache) = made.get(&TypeId::of::<T>()).and_then(|(c, _)| c.downcast_ref::<Cache<T>>()) {
            return cache.clone();
        }
        let cache = Cache::start(Api::all(self.client.clone()), options(), &self.tasks);
        let synced = cache.inner.synced.subscribe();
        made.insert(TypeId::of::<T>(), (Box::new(cache.clone()), synced));
        cache
    }

    /// Waits until every cache made so far has its first listing.
    pub async fn synced(&self) {
        let waiting: Vec<_> = self.made.lock().values().map(|(_, synced)| synced.clone()).collect();
        for mut synced in waiting {
            let _ = synced.wait_for(|s| *s).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::watcher::Event as Watch;

    fn object(name: &str, version: &str, label: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("ns".into());
        object.metadata.name = Some(name.into());
        object.metadata.resource_version = Some(version.into());
        object.metadata.labels = Some([("l".to_string(), label.to_string())].into());
        object
    }

    fn label(object: &ConfigMap) -> Vec<String> {
        object.metadata.labels.iter().flatten().map(|(_, v)| v.clone()).collect()
    }

    fn names(mut found: Vec<Arc<ConfigMap>>) -> Vec<String> {
        found.sort_by_key(|o| o.metadata.name.clone());
        found.iter().filter_map(|o| o.metadata.name.clone()).collect()
    }

    #[test]
    fn a_relist_removes_what_is_gone_and_is_silent_about_the_same() {
        let cache = Cache::detached();
        cache.add_index("label", label);
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = log.clone();
        cache.handle(move |e: &Event<ConfigMap>| {
            seen.lock().push(format!("{} {} {}", e.key, e.old.is_some(), e.new.is_some()));
        });
        let take = |e| cache.take(e, None);
        take(Watch::Init);
        take(Watch::InitApply(object("a", "1", "x")));
        take(Watch::InitApply(object("b", "2", "x")));
        assert!(!cache.is_synced());
        take(Watch::InitDone);
        assert!(cache.is_synced());
        take(Watch::Init);
        take(Watch::InitApply(object("b", "2", "x")));
        take(Watch::InitApply(object("c", "7", "y")));
        take(Watch::InitDone);
        take(Watch::Apply(object("b", "9", "y")));
        assert_eq!(
            *log.lock(),
            ["ns/a false true", "ns/b false true", "ns/c false true", "ns/a true false", "ns/b true true"]
        );
        assert_eq!(names(cache.by_index("label", "y")), ["b", "c"]);
        assert!(cache.by_index("label", "x").is_empty());
        assert_eq!(
            (names(cache.by_namespace("ns")), cache.resource_version()),
            (vec!["b".into(), "c".into()], 9)
        );
    }

    #[test]
    fn a_late_handler_and_index_see_what_is_there() {
        let cache = Cache::detached();
        cache.take(Watch::Apply(object("a", "1", "x")), None);
        let count = Arc::new(AtomicU64::new(0));
        let seen = count.clone();
        cache.handle(move |_: &Event<ConfigMap>| {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        cache.add_index("label", label);
        assert_eq!(
            (count.load(Ordering::Relaxed), names(cache.by_index("label", "x"))),
            (1, vec!["a".into()])
        );
        cache.take(Watch::Delete(object("a", "2", "x")), None);
        assert_eq!((count.load(Ordering::Relaxed), cache.len()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_once_a_cache_was_filled_or_the_start_is_long_past() {
        let error = std::io::Error::other("refused");
        let mut trouble = Trouble::new();
        let waits: Vec<bool> =
            (0..4).map(|_| trouble.wait("t", &error, false, false) <= STARTING_WAIT).collect();
        assert_eq!(waits, [true; 4]);
        assert!(trouble.said.is_none(), "a short trouble is not worth a line");
        tokio::time::advance(STARTING).await;
        assert!(trouble.wait("t", &error, false, false) > STARTING_WAIT);
        assert_eq!(trouble.said.as_deref(), Some("refused"));
        trouble.over("t");
        assert!(trouble.said.is_none() && trouble.wait("t", &error, true, true) < STARTING_WAIT);
    }
}
