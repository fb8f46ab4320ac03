//! Objects of a kind as the API server has them, and how far a cache has come.

use std::collections::BTreeMap;

use control::Cache;
use kube::Resource;
use kube::runtime::watcher::Event;
use rand::Rng;
use rand::rngs::StdRng;

/// The objects by `namespace/name`, and all that ever happened to them.
pub struct Store<T> {
    pub objects: BTreeMap<String, T>,
    log: Vec<Event<T>>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), log: Vec::new() }
    }
}

/// Where an object is kept.
pub fn place<T: Resource>(object: &T) -> String {
    control::Key::of(object).to_string()
}

impl<T: Resource<DynamicType = ()> + Clone> Store<T> {
    /// Stores an object at a version of the whole.
    pub fn put(&mut self, mut object: T, version: u64) {
        object.meta_mut().resource_version = Some(version.to_string());
        self.log.push(Event::Apply(object.clone()));
        self.objects.insert(place(&object), object);
    }

    /// Takes an object away.
    pub fn remove(&mut self, place: &str, version: u64) {
        if let Some(mut object) = self.objects.remove(place) {
            object.meta_mut().resource_version = Some(version.to_string());
            self.log.push(Event::Delete(object));
        }
    }

    /// How much has happened.
    pub fn len(&self) -> usize {
        self.log.len()
    }
}

/// A cache, and how much of what happened it shows.
pub struct View<T> {
    pub cache: Cache<T>,
    at: usize,
    /// How slow it is: it moves every so many times.
    pace: u32,
}

impl<T: Resource<DynamicType = ()> + Clone + Send + Sync + 'static> View<T> {
    /// An empty cache of any pace.
    pub fn new(rng: &mut StdRng) -> Self {
        let pace = [1, 1, 3, 8][rng.random_range(0..4)];
        Self { cache: Cache::detached(), at: 0, pace }
    }

    /// Lists anew: what happened in between is not told one by one.
    pub fn list(&mut self, store: &Store<T>) {
        self.cache.take(Event::Init, None);
        store.objects.values().for_each(|o| self.cache.take(Event::InitApply(o.clone()), None));
        self.cache.take(Event::InitDone, None);
        self.at = store.len();
    }

    /// Takes some news, or none.
    pub fn drift(&mut self, store: &Store<T>, rng: &mut StdRng) {
        if rng.random_range(0..self.pace) == 0 {
            self.take(store, rng.random_range(0..5));
        }
    }

    /// Takes all news.
    pub fn follow(&mut self, store: &Store<T>) {
        self.take(store, store.len());
    }

    fn take(&mut self, store: &Store<T>, most: usize) {
        let end = store.len().min(self.at + most);
        store.log[self.at..end].iter().for_each(|e| self.cache.take(e.clone(), None));
        self.at = end;
    }
}
