//! The words of a refusal, in the form that people and tools know.

use std::collections::BTreeSet;

use super::{Reason, Reasons};

/// On how many nodes each reason was given. Reasons are few, so that a list is enough and nothing is copied per node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<(Reason, usize)>,
}

impl Histogram {
    /// Counts a node's reasons.
    pub fn add(&mut self, reasons: &Reasons) {
        for reason in reasons {
            match self.counts.iter_mut().find(|(r, _)| r.is(reason)) {
                Some((_, count)) => *count += 1,
                None => self.counts.push((reason.clone(), 1)),
            }
        }
    }

    /// Counts a reason for so many nodes.
    pub fn add_many(&mut self, reason: Reason, nodes: usize) {
        if nodes == 0 {
            return;
        }
        match self.counts.iter_mut().find(|(r, _)| r.is(&reason)) {
            Some((_, count)) => *count += nodes,
            None => self.counts.push((reason, nodes)),
        }
    }

    /// `1 Too many pods, 2 Insufficient cpu`, sorted as text.
    pub fn text(&self) -> String {
        let mut parts: Vec<String> = self.counts.iter().map(|(r, n)| format!("{n} {}", r.as_str())).collect();
        parts.sort();
        parts.join(", ")
    }

    /// Reasons with the number of nodes.
    pub fn counts(&self) -> &[(Reason, usize)] {
        &self.counts
    }
}

/// Why a pod fits nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// How many nodes there are.
    pub nodes: usize,
    /// On how many nodes each reason was given.
    pub reasons: Histogram,
    /// The answer of a plugin that refused before any node was looked at.
    pub before: Option<String>,
    /// What came of trying to push others away.
    pub after: Option<String>,
    /// Which plugins refused; a happening that none of them waits for wakes nobody.
    pub plugins: BTreeSet<&'static str>,
}

impl Refusal {
    /// `0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu.`
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let why = match &self.before {
            Some(before) => before.clone(),
            None => self.reasons.text(),
        };
        let after = self.after.as_ref().map(|a| format!(" {a}")).unwrap_or_default();
        format!("0/{} nodes are available: {why}.{after}", self.nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_sorted_as_text() {
        let mut reasons = Histogram::default();
        for (reason, n) in [("Too many pods", 2), ("Insufficient cpu", 10), ("node(s) were unschedulable", 1)]
        {
            reasons.add_many(Reason::Text(reason), n);
        }
        let mut refusal = Refusal { nodes: 12, reasons, ..Refusal::default() };
        let text =
            "0/12 nodes are available: 1 node(s) were unschedulable, 10 Insufficient cpu, 2 Too many pods.";
        assert_eq!(refusal.message(), text);
        refusal.after = Some("preemption: none.".into());
        assert_eq!(refusal.message(), format!("{text} preemption: none."));
        assert_eq!(Refusal::default().message(), "no nodes available to schedule pods");
    }
}
