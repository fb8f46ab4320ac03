//! ReplicaSets and ReplicationControllers.

use super::{PATIENT, finding, proving, troubles, unobserved, wished};
use crate::case::Case;
use crate::finding::{Finding, Reason};
use crate::{leaving, refusal, words};

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    let (wished, ready, available) =
        (wished(case), case.int("status.readyReplicas"), case.int("status.availableReplicas"));
    if let Some(reason) = unobserved(case, case.kind()) {
        return Finding::bad("does not move: its change has not been seen", vec![reason]);
    }
    let all = case.int("status.replicas");
    if available == wished && all == wished {
        return Finding::well(match wished {
            0 => "is scaled to 0 and has no pods".into(),
            n => format!("is well: {available} of {} ready and available", words::count(n, "pod")),
        });
    }
    let mut reasons: Vec<Reason> = Vec::new();
    if all < wished {
        reasons.extend(refusal::of_condition(case).or_else(|| refusal::of_events(case)));
    }
    reasons.extend(troubles(case, &case.facts.children("Pod", case.object)));
    reasons.extend(proving(case, ready, available));
    finding(
        format!("is not there yet: {available} of {} available", words::count(wished, "pod")),
        reasons,
        PATIENT,
    )
}
