//! Namespaces: what keeps one from going away.

use std::collections::BTreeMap;

use coxctl_kit::dig;
use serde_json::Value;

use crate::case::Case;
use crate::facts;
use crate::finding::{Finding, Reason};
use crate::words;

/// Kinds that count for nothing when a namespace goes.
const SMALL: [&str; 1] = ["Event"];
/// Conditions that tell of trouble, and what they mean.
const TROUBLES: [(&str, &str); 3] = [
    ("NamespaceDeletionDiscoveryFailure", "not all kinds of objects could be found out"),
    ("NamespaceDeletionGroupVersionParsingFailure", "some kinds of objects could not be read"),
    ("NamespaceDeletionContentFailure", "some objects could not be deleted"),
];

pub fn explain(case: &Case<'_>) -> Finding {
    let at = dig::moment(case.object, "metadata.deletionTimestamp");
    if at.is_none() {
        return Finding::well(format!("is {}", case.text("status.phase"))).and(quotas(case));
    }
    let mut reasons: Vec<Reason> =
        TROUBLES.iter().filter_map(|(kind, text)| trouble(case, kind, text)).collect();
    reasons.extend(left(case));
    if reasons.is_empty() {
        reasons.extend(
            ["NamespaceFinalizersRemaining", "NamespaceContentRemaining"]
                .iter()
                .filter_map(|kind| said(case, kind)),
        );
    }
    let own = dig::texts(case.object, "metadata.finalizers");
    if !own.is_empty() {
        reasons.push(
            Reason::new(
                "finalizer",
                format!("the namespace itself has the finalizer {}", words::list(&own, 4)),
            )
            .seen("Namespace", case.name(), "metadata.finalizers", own.join(",")),
        );
    }
    let verdict = format!("is being deleted since {}", case.ago(at));
    if reasons.is_empty() {
        let text = "nothing is left in it; the namespace controller takes its own finalizer away next";
        return Finding::waiting(verdict, vec![Reason::new("empty", text)]);
    }
    Finding::bad(verdict, reasons)
}

fn trouble(case: &Case<'_>, kind: &str, text: &str) -> Option<Reason> {
    let condition = case.condition(kind).filter(|c| dig::text(c, "status") == "True")?;
    let reason = Reason::new(
        "namespace-failure",
        format!("{text}: {}", words::message(dig::text(condition, "message"))),
    );
    let reason = reason.seen("Namespace", case.name(), "status.conditions", kind);
    Some(match kind {
        "NamespaceDeletionDiscoveryFailure" => reason.help("an API server of an APIService does not answer: `coxctl get apiservices` shows which; repair it or delete its APIService"),
        _ => reason,
    })
}

fn said(case: &Case<'_>, kind: &str) -> Option<Reason> {
    let condition = case.condition(kind).filter(|c| dig::text(c, "status") == "True")?;
    Some(Reason::new("namespace-content", words::message(dig::text(condition, "message"))).seen(
        "Namespace",
        case.name(),
        "status.conditions",
        kind,
    ))
}

/// The objects that are left: those with finalizers by name, the others counted.
fn left(case: &Case<'_>) -> Vec<Reason> {
    let mut held: BTreeMap<(String, String), Vec<&Value>> = BTreeMap::new();
    let mut others: BTreeMap<String, i64> = BTreeMap::new();
    for object in case.facts.remains(case.name()) {
        let kind = dig::text(object, "kind").to_string();
        let finalizers = dig::texts(object, "metadata.finalizers");
        match finalizers.is_empty() || SMALL.contains(&kind.as_str()) {
            true => *others.entry(kind).or_default() += 1,
            false => held.entry((kind, finalizers.join(", "))).or_default().push(object),
        }
    }
    let mut reasons: Vec<Reason> = held
        .into_iter()
        .map(|((kind, finalizers), objects)| finalizer(case, &kind, &finalizers, &objects))
        .collect();
    others.retain(|kind, _| !SMALL.contains(&kind.as_str()));
    if !others.is_empty() {
        let counts: Vec<String> = others.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        reasons.push(
            Reason::new("namespace-content", format!("it still holds {}", words::list(&counts, 6))).seen(
                "Namespace",
                case.name(),
                "content",
                counts.join(","),
            ),
        );
    }
    reasons
}

fn finalizer(case: &Case<'_>, kind: &str, finalizers: &str, objects: &[&Value]) -> Reason {
    let names: Vec<&str> = objects.iter().map(|object| facts::name(object)).collect();
    let n = i64::try_from(names.len()).unwrap_or_default();
    let text =
        format!("{kind} {} {} held by the finalizer {finalizers}", words::list(&names, 3), words::is(n));
    let first = names.first().copied().unwrap_or_default();
    Reason::new("finalizer", text).seen(kind, first, "metadata.finalizers", finalizers).help(format!(
        "see that the finalizer's controller runs; if it is gone for good: `coxctl -n {} patch {} {first} --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'`",
        case.name(),
        kind.to_lowercase()
    ))
}

/// Quotas of the namespace that are used up.
fn quotas(case: &Case<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for quota in case.facts.within("ResourceQuota", case.name()) {
        for (resource, most) in dig::entries(quota, "status.hard") {
            let used = dig::quantity(&dig::at(quota, "status.used")[resource]);
            if used >= dig::quantity(most) {
                let text = format!(
                    "ResourceQuota {} is used up: {resource} {} of {}",
                    facts::name(quota),
                    used.canonical(),
                    dig::quantity(most).canonical()
                );
                reasons.push(Reason::new("quota", text).seen(
                    "ResourceQuota",
                    facts::name(quota),
                    &format!("status.used.{resource}"),
                    used.canonical(),
                ));
            }
        }
    }
    reasons
}
