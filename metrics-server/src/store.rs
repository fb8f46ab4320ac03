//! The last two points of every node and container, and the rates made of them.
//!
//! Upstream's rules: a rate needs two points, the second after the first; a container that started after the point
//! before is another one; one that has run for ten seconds but not for a whole resolution is measured from its start.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::RwLock;

use crate::decode::{PodKey, Point, Reading};

/// A container younger than this has no rate from its start.
const YOUNG: i64 = 10_000_000_000;

/// What something uses, over `window` nanoseconds up to `time` (Unix nanoseconds).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// When the later point was taken.
    pub time: i64,
    /// Between the two.
    pub window: i64,
    /// Billionths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

/// What a pod uses: its containers by name. Time and window are those of the container measured first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodUsage {
    /// As in [`Usage`].
    pub time: i64,
    /// As in [`Usage`].
    pub window: i64,
    /// In order of their names.
    pub containers: Vec<(Box<str>, Usage)>,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    last: Point,
    before: Option<Point>,
}

impl Pair {
    /// The point that came, with that of before that belongs to it.
    fn next(known: Option<&Pair>, new: Point, resolution: i64) -> Pair {
        let age = new.time - new.start;
        if new.start != 0 && (YOUNG..resolution).contains(&age) {
            let birth = Point { time: new.start, cpu: 0, ..new };
            return Pair { last: new, before: Some(birth) };
        }
        // One that started since is another
        let before = known.filter(|known| new.start < known.last.time).and_then(|known| {
            let earlier = known.before.filter(|before| before.time < new.time);
            if new.time > known.last.time { Some(known.last) } else { earlier }
        });
        Pair { last: new, before }
    }

    /// How long a container without a rate has to go until it can be measured from its start, nanoseconds.
    fn youth(&self) -> Option<i64> {
        let left = YOUNG - (self.last.time - self.last.start);
        (self.before.is_none() && self.last.start != 0 && left > 0).then_some(left)
    }

    /// None with one point only, and when the counter went back.
    fn usage(&self) -> Option<Usage> {
        let before = self.before?;
        let window = self.last.time - before.time;
        let used = self.last.cpu.checked_sub(before.cpu)?;
        if window <= 0 {
            return None;
        }
        let cpu = (used as f64 / (window as f64 / 1e9)) as u64;
        Some(Usage { time: self.last.time, window, cpu, memory: self.last.memory })
    }
}

type Containers = Vec<(Box<str>, Pair)>;

/// What is known of a node.
#[derive(Default)]
struct Node {
    own: Option<Pair>,
    pods: AHashMap<PodKey, Containers>,
    /// Its last scrape failed: what is known is kept to measure from, but not shown.
    silent: bool,
}

#[derive(Default)]
struct Inner {
    nodes: AHashMap<Arc<str>, Node>,
    /// Where each pod is.
    places: AHashMap<PodKey, Arc<str>>,
}

/// The store. It holds what the last scrapes of each node showed, and no more.
pub struct Store {
    resolution: i64,
    inner: RwLock<Inner>,
}

impl Store {
    /// Empty, for points `resolution` apart.
    pub fn new(resolution: Duration) -> Self {
        let resolution = i64::try_from(resolution.as_nanos()).unwrap_or(i64::MAX);
        Self { resolution, inner: RwLock::default() }
    }

    /// Takes what a node's kubelet said. The answer is how long to wait until a container that has no rate yet can have
    /// one, if there is such a container.
    pub fn take(&self, name: &Arc<str>, reading: Reading) -> Option<Duration> {
        let mut inner = self.inner.write();
        let old = inner.nodes.remove(name).unwrap_or_default();
        old.pods
            .keys()
            .filter(|key| !reading.pods.contains_key(*key))
            .for_each(|key| inner.forget(key, name));
        let own = reading.node.map(|point| Pair::next(old.own.as_ref(), Point { start: 0, ..point }, 0));
        let pods = reading.pods.into_iter().map(|(key, points)| {
            let next = self.advance(old.pods.get(&key), points);
            (key, next)
        });
        let node = Node { own, pods: pods.collect(), silent: false };
        for key in node.pods.keys() {
            inner.places.insert(key.clone(), name.clone());
        }
        let wait = node.pods.values().flatten().filter_map(|(_, pair)| pair.youth()).min();
        inner.nodes.insert(name.clone(), node);
        wait.map(|nanos| Duration::from_nanos(nanos.unsigned_abs()))
    }

    fn advance(&self, known: Option<&Containers>, points: Vec<(Box<str>, Point)>) -> Containers {
        let of = |name: &str| known?.iter().find(|(known, _)| **known == *name).map(|(_, pair)| pair);
        let next = points.into_iter().map(|(name, point)| {
            let pair = Pair::next(of(&name), point, self.resolution);
            (name, pair)
        });
        let mut next: Containers = next.collect();
        next.sort_by(|a, b| a.0.cmp(&b.0));
        next
    }

    /// A kubelet did not answer: what is known is old.
    pub fn silence(&self, node: &str) {
        if let Some(node) = self.inner.write().nodes.get_mut(node) {
            node.silent = true;
        }
    }

    /// Drops nodes that are no more.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut inner = self.inner.write();
        inner.nodes.retain(|name, _| is_there(name));
        inner.places.retain(|_, node| is_there(node));
    }

    /// What a node uses.
    pub fn node(&self, name: &str) -> Option<Usage> {
        let inner = self.inner.read();
        inner.nodes.get(name).filter(|node| !node.silent)?.own.as_ref()?.usage()
    }

    /// What a pod uses; none unless all its containers have two points.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodUsage> {
        let key = format!("{namespace}/{name}");
        let inner = self.inner.read();
        let node = inner.nodes.get(inner.places.get(key.as_str())?).filter(|node| !node.silent)?;
        let known = node.pods.get(key.as_str())?;
        if known.iter().any(|(_, pair)| pair.before.is_none()) {
            return None;
        }
        let measured = known.iter().filter_map(|(name, pair)| Some((name.clone(), pair.usage()?)));
        let containers: Vec<_> = measured.collect();
        let first =
            containers.iter().map(|(_, usage)| *usage).min_by_key(|usage| usage.time).unwrap_or_default();
        Some(PodUsage { time: first.time, window: first.window, containers })
    }

    /// Whether anything can be told.
    pub fn ready(&self) -> bool {
        self.counts() != (0, 0)
    }

    /// Nodes and containers that can be told.
    pub fn counts(&self) -> (usize, usize) {
        let inner = self.inner.read();
        let two = |pair: &Pair| pair.before.is_some();
        let containers = inner.nodes.values().flat_map(|node| node.pods.values().flatten());
        let nodes = inner.nodes.values().filter(|node| node.own.as_ref().is_some_and(two)).count();
        (nodes, containers.filter(|(_, pair)| two(pair)).count())
    }
}

impl Inner {
    /// A pod that was on this node, unless it has been seen on another since.
    fn forget(&mut self, key: &PodKey, node: &Arc<str>) {
        if self.places.get(key) == Some(node) {
            self.places.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn point(start: i64, time: i64, cpu: u64) -> Point {
        Point { start: start * SECOND, time: time * SECOND, cpu: cpu * SECOND as u64, memory: 7 }
    }

    fn reading(node: Point, containers: &[(&str, Point)]) -> Reading {
        let mut reading = Reading { node: Some(node), ..Reading::default() };
        if !containers.is_empty() {
            let points = containers.iter().map(|(name, point)| ((*name).into(), *point)).collect();
            reading.pods.insert("n/p".into(), points);
        }
        reading
    }

    fn store() -> (Store, Arc<str>) {
        (Store::new(Duration::from_secs(15)), "a".into())
    }

    #[test]
    fn two_points_make_a_rate() {
        let (store, node) = store();
        store.take(&node, reading(point(0, 100, 10), &[("c", point(1, 100, 4))]));
        assert_eq!((store.node("a"), store.pod("n", "p"), store.ready()), (None, None, false));
        store.take(&node, reading(point(0, 115, 25), &[("c", point(1, 115, 7))]));
        let want = Usage { time: 115 * SECOND, window: 15 * SECOND, cpu: 1_000_000_000, memory: 7 };
        assert_eq!(store.node("a"), Some(want));
        let pod = store.pod("n", "p").unwrap();
        assert_eq!(pod.containers, [("c".into(), Usage { cpu: 200_000_000, ..want })]);
        assert_eq!((store.counts(), store.ready()), ((1, 1), true));
    }

    #[test]
    fn the_same_point_again_keeps_the_one_before() {
        let (store, node) = store();
        for time in [100, 115, 115] {
            store.take(&node, reading(point(0, time, time as u64), &[("c", point(1, time, time as u64))]));
        }
        assert_eq!(store.node("a").unwrap().window, 15 * SECOND);
        store.take(&node, reading(point(0, 90, 90), &[]));
        assert_eq!(store.node("a"), None, "an older one than both has none before it");
    }

    #[test]
    fn a_counter_that_went_back_has_no_rate() {
        let (store, node) = store();
        store.take(&node, reading(point(0, 100, 10), &[]));
        store.take(&node, reading(point(0, 115, 3), &[]));
        assert_eq!(store.node("a"), None);
        store.take(&node, reading(point(0, 130, 6), &[]));
        assert_eq!(store.node("a").unwrap().cpu, 200_000_000);
    }

    #[test]
    fn a_restarted_container_is_another() {
        let (store, node) = store();
        let node_point = point(0, 100, 1);
        store.take(&node, reading(node_point, &[("c", point(1, 100, 50)), ("d", point(1, 100, 1))]));
        store.take(&node, reading(node_point, &[("c", point(110, 115, 2)), ("d", point(1, 115, 2))]));
        assert_eq!(store.pod("n", "p"), None, "one container without a rate leaves its pod without");
        store.take(&node, reading(node_point, &[("c", point(110, 130, 17)), ("d", point(1, 130, 3))]));
        assert_eq!(store.pod("n", "p").unwrap().containers[0].1.cpu, 1_000_000_000);
    }

    #[test]
    fn a_young_container_is_measured_from_its_start() {
        let (store, node) = store();
        let wait = store.take(&node, reading(point(0, 100, 1), &[("c", point(97, 100, 3))]));
        assert_eq!((store.pod("n", "p"), wait), (None, Some(Duration::from_secs(7))));
        let wait = store.take(&node, reading(point(0, 109, 1), &[("c", point(97, 109, 6))]));
        let usage = store.pod("n", "p").unwrap().containers[0].1;
        assert_eq!((usage.window, usage.cpu, wait), (12 * SECOND, 500_000_000, None));
    }

    #[test]
    fn silence_hides_and_the_next_answer_measures_over_it() {
        let (store, node) = store();
        let all = |time: i64| reading(point(0, time, time as u64), &[("c", point(1, time, time as u64))]);
        store.take(&node, all(100));
        store.take(&node, all(115));
        store.silence("a");
        assert_eq!((store.node("a"), store.pod("n", "p")), (None, None));
        store.take(&node, all(145));
        assert_eq!(store.node("a").unwrap().window, 30 * SECOND);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let (store, node) = store();
        let other: Arc<str> = "b".into();
        for time in [100, 115] {
            store.take(&node, reading(point(0, time, time as u64), &[("c", point(1, time, time as u64))]));
            store.take(&other, reading(point(0, time, time as u64), &[]));
        }
        store.take(&other, reading(point(0, 130, 130), &[]));
        assert!(store.pod("n", "p").is_some(), "another node says nothing of this one's pods");
        store.take(&node, reading(point(0, 130, 130), &[]));
        assert_eq!(store.pod("n", "p"), None);
        store.retain(|name| name == "a");
        assert_eq!((store.node("b"), store.counts()), (None, (1, 0)));
    }
}
