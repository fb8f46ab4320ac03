//! Sets of completion indexes, kept and written as runs: `0,2,4-7`.

use std::fmt;

/// A set of indexes as sorted runs that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    runs: Vec<(i32, i32)>,
}

impl Indexes {
    /// Reads the text form; what is not below `completions`, or not a run at all, is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        text.split(',').filter_map(run).fold(Self::default(), |mut set, (first, last)| {
            if first < completions {
                set.add_run(first, last.min(completions - 1));
            }
            set
        })
    }

    /// How many there are.
    pub fn total(&self) -> i32 {
        self.runs.iter().fold(0, |sum: i32, (first, last)| sum.saturating_add(last - first + 1))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether an index is in the set.
    pub fn has(&self, index: i32) -> bool {
        let at = self.runs.partition_point(|(_, last)| *last < index);
        self.runs.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// Adds an index.
    pub fn add(&mut self, index: i32) {
        self.add_run(index, index);
    }

    fn add_run(&mut self, first: i32, last: i32) {
        let from = self.runs.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.runs.partition_point(|(start, _)| *start <= last.saturating_add(1));
        let touched = &self.runs[from..to.max(from)];
        let first = touched.first().map_or(first, |r| r.0.min(first));
        let last = touched.last().map_or(last, |r| r.1.max(last));
        self.runs.splice(from..to.max(from), [(first, last)]);
    }

    /// Adds all of another set.
    pub fn merge(&mut self, other: &Indexes) {
        other.runs.iter().for_each(|(first, last)| self.add_run(*first, *last));
    }

    /// How many of `other` are in this set.
    pub fn common(&self, other: &Indexes) -> i32 {
        let pairs = self.runs.iter().flat_map(|a| other.runs.iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| (a.1.min(b.1) - a.0.max(b.0) + 1).max(0)).sum()
    }

    /// The lowest `count` indexes below `completions` that are not in the set.
    pub fn missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let gaps = self.runs.iter().map(|r| r.0).chain([completions]);
        let starts = std::iter::once(0).chain(self.runs.iter().map(|r| r.1 + 1));
        starts.zip(gaps).flat_map(|(from, to)| from..to.min(completions)).take(count).collect()
    }
}

fn run(text: &str) -> Option<(i32, i32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (0 <= first && first <= last).then_some((first, last))
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        let mut set = Self::default();
        indexes.into_iter().for_each(|i| set.add(i));
        set
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.runs.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn text_form() {
        for text in ["", "0", "0,1", "0-2", "0,2,4-7", "1,3,4,6-9"] {
            assert_eq!(Indexes::parse(text, 10).to_string(), text);
        }
        assert_eq!(Indexes::parse("0,2,4-7", 6).to_string(), "0,2,4,5");
        assert_eq!(Indexes::parse("3-1,x,-4,2", 6).to_string(), "2");
    }

    #[test]
    fn lowest_missing() {
        let set = Indexes::parse("0,2,4-7", 10);
        assert_eq!(set.missing(3, 10), [1, 3, 8]);
        assert_eq!(set.missing(9, 10), [1, 3, 8, 9]);
        assert_eq!(set.missing(9, 3), [1]);
        assert_eq!(Indexes::default().missing(2, 5), [0, 1]);
    }

    proptest! {
        #[test]
        fn as_a_plain_set(a in prop::collection::vec(0..60i32, 0..40), b in prop::collection::vec(0..60i32, 0..40)) {
            let (mut x, y): (Indexes, Indexes) = (a.iter().copied().collect(), b.iter().copied().collect());
            let (mut p, q): (BTreeSet<i32>, BTreeSet<i32>) = (a.into_iter().collect(), b.into_iter().collect());
            prop_assert_eq!(x.common(&y) as usize, p.intersection(&q).count());
            x.merge(&y);
            p.extend(q);
            prop_assert_eq!(x.total() as usize, p.len());
            prop_assert!((0..61).all(|i| x.has(i) == p.contains(&i)));
            prop_assert_eq!(&Indexes::parse(&x.to_string(), 60), &x);
            let missing: Vec<i32> = (0..60).filter(|i| !p.contains(i)).take(7).collect();
            prop_assert_eq!(x.missing(7, 60), missing);
        }
    }
}
