//! Short answers of filters about nodes as they are, by number alone: nothing of the node itself is read. With thousands of nodes to
//! look at for every pod this is most of a decision. They must say what the filters say.

use smallvec::SmallVec;

use super::message::{Histogram, Refusal};
use super::{Prepared, Reason};
use crate::framework::Plugin;
use crate::model::counts::{NONE, Topology};
use crate::model::memo::{Cells, Known, Lack};
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;

/// What a domain must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Something counted.
    Some,
    /// Nothing counted; a node without the label will do.
    Nothing,
    /// Nothing but the label.
    Label,
    /// Not more counted than this; all nodes have the label.
    AtMost(i64),
}

/// A node will do or not by what is counted in its domain.
#[derive(Debug, Clone, Copy)]
pub struct Test<'a> {
    pub topology: &'a Topology,
    /// By domain.
    pub counts: &'a [i64],
    pub want: Want,
    /// The words of a refusal.
    pub reason: &'static str,
    /// Nothing that leaves the node would help.
    pub never: bool,
}

impl Test<'_> {
    #[inline]
    fn passes(&self, slot: u32) -> bool {
        let domain = self.topology.domain(slot);
        let count = self.counts.get(domain as usize).copied().unwrap_or(0);
        match self.want {
            Want::Some => domain != NONE && count > 0,
            Want::Nothing => domain == NONE || count <= 0,
            Want::Label => domain != NONE,
            Want::AtMost(most) => count.max(0) <= most,
        }
    }
}

/// A filter in short.
pub enum Quick<'a> {
    /// By what is known; of what is not, the filter must be asked.
    Room(Cells<'a>),
    /// Will do if it passes all tests; the first that it fails has the reason.
    Tests(SmallVec<[Test<'a>; 2]>),
}

/// A short answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Fits,
    /// The number stands for the reasons.
    No(usize),
    Unknown,
}

impl Quick<'_> {
    /// About the node in this slot, as it is.
    #[inline]
    pub fn ask(&self, slot: u32) -> Answer {
        match self {
            Self::Room(cells) => match cells.known(slot) {
                Some(Known::Fits { .. }) => Answer::Fits,
                Some(Known::Lacks(lack)) => Answer::No(usize::from(lack.0)),
                None => Answer::Unknown,
            },
            Self::Tests(tests) => tests.iter().position(|t| !t.passes(slot)).map_or(Answer::Fits, Answer::No),
        }
    }

    /// Whether nothing that leaves the node would help, by the number of an answer.
    #[inline]
    pub fn never(&self, number: usize) -> bool {
        match self {
            Self::Room(_) => lack(number).never(),
            Self::Tests(tests) => tests.get(number).is_some_and(|t| t.never),
        }
    }

    /// In words, by the number of an answer.
    pub fn reasons(&self, number: usize) -> SmallVec<[&'static str; 4]> {
        match self {
            Self::Room(_) => lack(number).words().collect(),
            Self::Tests(tests) => tests.get(number).iter().map(|t| t.reason).collect(),
        }
    }
}

fn lack(number: usize) -> Lack {
    Lack(u8::try_from(number).unwrap_or_default())
}

/// A plugin on its way along the nodes, with its short answers and how often each test refused.
pub struct Walker<'a> {
    pub plugin: &'a dyn Plugin,
    pub prepared: &'a Prepared,
    quick: Option<Quick<'a>>,
    /// How often, by the number of the answer.
    refused: SmallVec<[usize; 2]>,
}

impl<'a> Walker<'a> {
    /// `short`: nodes are asked about as they are, and short answers will do.
    pub fn new(
        (plugin, prepared): (&'a dyn Plugin, &'a Prepared),
        pod: &PodInfo,
        all: &'a Snapshot,
        short: bool,
    ) -> Self {
        let quick = if short { plugin.quick(prepared, pod, all) } else { None };
        Self { plugin, prepared, quick, refused: SmallVec::new() }
    }

    /// The short answer: `None` if the filter must be asked; a refusal says whether nothing would help, and is counted here.
    #[inline]
    pub fn ask(&mut self, slot: u32) -> Option<Result<(), bool>> {
        let quick = self.quick.as_ref()?;
        match quick.ask(slot) {
            Answer::Fits => Some(Ok(())),
            Answer::Unknown => None,
            Answer::No(number) => {
                if self.refused.len() <= number {
                    self.refused.resize(number + 1, 0);
                }
                self.refused[number] += 1;
                Some(Err(quick.never(number)))
            }
        }
    }

    /// Adds the short refusals to the others.
    pub fn tell(&self, reasons: &mut Histogram, refusal: &mut Refusal) {
        for (number, nodes) in self.refused.iter().enumerate().filter(|(_, n)| **n > 0) {
            refusal.plugins.insert(self.plugin.name());
            for reason in self.quick.iter().flat_map(|q| q.reasons(number)) {
                reasons.add_many(Reason::Text(reason), *nodes);
            }
        }
    }
}
