//! What was found out about each node for pods that ask for the same. Pods mostly come in many copies, and a decision changes one
//! node: what holds of the others need not be worked out again.

use std::sync::atomic::{AtomicU32, Ordering};

use super::pod::PodInfo;

/// So many different requests are remembered at once; the one unused longest goes first.
const ROWS: usize = 8;
/// Marks of a cell, above two numbers of eight bits each: the scores of a node with room, or what one without lacks.
const KNOWN: u32 = 1 << 16;
const FITS: u32 = 1 << 17;

/// What a node lacks for a request, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lack(pub u8);

impl Lack {
    /// Room for one more pod.
    pub const PODS: u8 = 1;
    pub const CPU: u8 = 2;
    pub const MEMORY: u8 = 4;
    pub const EPHEMERAL: u8 = 8;
    /// More than the whole node offers is asked for.
    pub const NEVER: u8 = 16;

    /// Nothing.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Nothing that leaves the node would help.
    pub fn never(self) -> bool {
        self.0 & Self::NEVER != 0
    }

    /// In words.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        const WORDS: [(u8, &str); 4] = [
            (Lack::PODS, "Too many pods"),
            (Lack::CPU, "Insufficient cpu"),
            (Lack::MEMORY, "Insufficient memory"),
            (Lack::EPHEMERAL, "Insufficient ephemeral-storage"),
        ];
        WORDS.into_iter().filter(move |(bit, _)| self.0 & bit != 0).map(|(_, words)| words)
    }
}

/// What a pod asks for, if that is nothing but the usual resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    cpu: i64,
    memory: i64,
    ephemeral: i64,
    score_cpu: i64,
    score_memory: i64,
}

impl Ask {
    /// `None` if the pod asks for other resources too.
    pub fn of(pod: &PodInfo) -> Option<Self> {
        let (want, score) = (&pod.request, &pod.score_request);
        want.scalar.iter().next().is_none().then_some(Self {
            cpu: want.cpu,
            memory: want.memory,
            ephemeral: want.ephemeral,
            score_cpu: score.cpu,
            score_memory: score.memory,
        })
    }
}

/// What holds of one node for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// There is room. With the scores of little use of CPU and memory, and of even use of both.
    Fits { least: u8, even: u8 },
    /// There is none.
    Lacks(Lack),
}

impl Known {
    /// There is room; scores are 0 to 100.
    pub fn fitting(least: i64, even: i64) -> Self {
        let score = |s: i64| u8::try_from(s.max(0)).unwrap_or(u8::MAX);
        Self::Fits { least: score(least), even: score(even) }
    }

    fn pack(self) -> u32 {
        match self {
            Self::Fits { least, even } => KNOWN | FITS | u32::from(least) << 8 | u32::from(even),
            Self::Lacks(lack) => KNOWN | u32::from(lack.0),
        }
    }

    #[inline]
    fn unpack(cell: u32) -> Option<Self> {
        let [low, high, _, _] = cell.to_le_bytes();
        match (cell & KNOWN != 0, cell & FITS != 0) {
            (false, _) => None,
            (true, true) => Some(Self::Fits { least: high, even: low }),
            (true, false) => Some(Self::Lacks(Lack(low))),
        }
    }
}

/// Where a request is remembered, until another takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    row: usize,
    born: u64,
}

/// What is known of all nodes for one request.
#[derive(Debug, Clone, Copy)]
pub struct Cells<'a>(&'a [AtomicU32]);

impl Cells<'_> {
    /// What is known of the node in this slot.
    #[inline]
    pub fn known(&self, slot: u32) -> Option<Known> {
        Known::unpack(self.0.get(slot as usize)?.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Row {
    ask: Ask,
    born: u64,
    used: u64,
    /// By slot. Written while the snapshot is only read; a cell depends on nothing but the node and the request.
    cells: Vec<AtomicU32>,
}

/// All that is remembered. A copy of the snapshot begins with nothing.
#[derive(Debug, Default)]
pub struct Memo {
    rows: Vec<Row>,
    clock: u64,
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Memo {
    /// Remembers what is found out for this request from now on; `slots` is how many nodes there are.
    pub fn begin(&mut self, ask: Ask, slots: usize) {
        self.clock += 1;
        let row = match self.rows.iter().position(|r| r.ask == ask) {
            Some(row) => row,
            None => self.fresh(ask),
        };
        let row = &mut self.rows[row];
        row.used = self.clock;
        row.cells.resize_with(slots.max(row.cells.len()), AtomicU32::default);
    }

    fn fresh(&mut self, ask: Ask) -> usize {
        let (born, used) = (self.clock, self.clock);
        if self.rows.len() < ROWS {
            self.rows.push(Row { ask, born, used, cells: Vec::new() });
            return self.rows.len() - 1;
        }
        let oldest = (0..self.rows.len()).min_by_key(|r| self.rows[*r].used).unwrap_or(0);
        let row = &mut self.rows[oldest];
        row.cells.iter_mut().for_each(|c| *c.get_mut() = 0);
        (row.ask, row.born) = (ask, born);
        oldest
    }

    /// Where this request is remembered, if it is.
    pub fn find(&self, ask: &Ask) -> Option<Place> {
        let row = self.rows.iter().position(|r| r.ask == *ask)?;
        Some(Place { row, born: self.rows[row].born })
    }

    /// What holds of the node in this slot, found out by `judge` if it is not known. Nothing is remembered of a slot that came after
    /// the request.
    #[inline]
    pub fn known(&self, place: Place, slot: u32, judge: impl FnOnce() -> Known) -> Known {
        let row = self.rows.get(place.row).filter(|r| r.born == place.born);
        let Some(cell) = row.and_then(|r| r.cells.get(slot as usize)) else { return judge() };
        if let Some(known) = Known::unpack(cell.load(Ordering::Relaxed)) {
            return known;
        }
        let known = judge();
        cell.store(known.pack(), Ordering::Relaxed);
        known
    }

    /// What is known of all nodes.
    pub fn cells(&self, place: Place) -> Option<Cells<'_>> {
        let row = self.rows.get(place.row).filter(|r| r.born == place.born)?;
        Some(Cells(&row.cells))
    }

    /// A node changed: nothing is known of it.
    pub fn forget(&mut self, slot: u32) {
        for cell in self.rows.iter_mut().filter_map(|r| r.cells.get_mut(slot as usize)) {
            *cell.get_mut() = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cpu_pod;

    fn ask(cpu: i64) -> Ask {
        Ask { cpu, ..Ask::of(&cpu_pod("p", "1")).unwrap() }
    }

    const GOOD: Known = Known::Fits { least: 100, even: 75 };
    const FULL: Known = Known::Lacks(Lack(Lack::CPU | Lack::NEVER));

    #[test]
    fn what_is_known_of_a_node_holds_until_it_changes() {
        let mut memo = Memo::default();
        memo.begin(ask(1), 2);
        let place = memo.find(&ask(1)).unwrap();
        assert_eq!(memo.known(place, 1, || GOOD), GOOD);
        assert_eq!(memo.known(place, 1, || FULL), GOOD, "not asked again");
        assert_eq!(memo.known(place, 0, || FULL), FULL);
        memo.forget(1);
        assert_eq!(memo.known(place, 1, || FULL), FULL);
        assert_eq!(memo.known(place, 7, || GOOD), GOOD);
        assert_eq!(memo.known(place, 7, || FULL), FULL, "a node that came later");
    }

    #[test]
    fn the_request_unused_longest_goes_and_its_place_is_no_longer_its() {
        let mut memo = Memo::default();
        (0..ROWS as i64).for_each(|n| memo.begin(ask(n), 1));
        let (first, second) = (memo.find(&ask(0)).unwrap(), memo.find(&ask(1)).unwrap());
        memo.known(second, 0, || GOOD);
        memo.begin(ask(0), 1);
        memo.begin(ask(99), 1);
        assert_eq!((memo.find(&ask(0)), memo.find(&ask(1))), (Some(first), None));
        let new = memo.find(&ask(99)).unwrap();
        assert_eq!(memo.known(new, 0, || FULL), FULL);
        assert_eq!(memo.known(second, 0, || GOOD), GOOD, "neither read nor written");
        assert_eq!(memo.known(new, 0, || GOOD), FULL);
    }

    #[test]
    fn other_resources_are_not_remembered() {
        let spec = serde_json::json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"x.y/z": "1"}}}]});
        assert_eq!(Ask::of(&crate::testing::pod("p", spec)), None);
    }
}
