//! The words of a refusal, in the form that people and tools know.

use std::collections::{BTreeMap, BTreeSet};

/// Why a pod fits nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// How many nodes there are.
    pub nodes: usize,
    /// On how many nodes each reason was given.
    pub reasons: BTreeMap<String, usize>,
    /// The answer of a plugin that refused before any node was looked at.
    pub before: Option<String>,
    /// Which plugins refused; a happening that none of them waits for wakes nobody.
    pub plugins: BTreeSet<&'static str>,
}

impl Refusal {
    /// `0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu.`
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let head = format!("0/{} nodes are available:", self.nodes);
        if let Some(before) = &self.before {
            return format!("{head} {before}.");
        }
        let mut parts: Vec<String> = self.reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        parts.sort();
        format!("{head} {}.", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_sorted_as_text() {
        let reasons = [("Too many pods", 2), ("Insufficient cpu", 10), ("node(s) were unschedulable", 1)];
        let refusal = Refusal {
            nodes: 12,
            reasons: reasons.map(|(r, n)| (r.to_string(), n)).into(),
            ..Refusal::default()
        };
        assert_eq!(
            refusal.message(),
            "0/12 nodes are available: 1 node(s) were unschedulable, 10 Insufficient cpu, 2 Too many pods."
        );
        assert_eq!(Refusal::default().message(), "no nodes available to schedule pods");
    }
}
