//! Pods that have failed: evicted, refused by their node, or at their end.

use coxctl_kit::dig;

use super::{exits, statuses};
use crate::case::Case;
use crate::finding::{Finding, Reason};
use crate::{leaving, words};

pub fn explain(case: &Case<'_>) -> Finding {
    let (reason, message) = (case.text("status.reason"), case.text("status.message"));
    let node = case.text("spec.nodeName");
    let told = |rule, text: String| Reason::new(rule, text).seen("Pod", case.name(), "status.reason", reason);
    match reason {
        "Evicted" => {
            let text = format!("the kubelet of {node} evicted it: {}", words::message(message));
            let help =
                "ask for what it really uses (resources.requests), and free the node of what it is short of";
            Finding::bad("was evicted", vec![told("evicted", text).help(help)])
        }
        "NodeLost" | "NodeShutdown" | "Terminated" | "Shutdown" => {
            let text = format!("its node {node} went away or was shut down: {}", words::message(message));
            Finding::bad("has failed with its node", vec![told("node-lost", text)])
        }
        "DeadlineExceeded" => {
            let text = format!(
                "it ran longer than activeDeadlineSeconds ({})",
                case.int("spec.activeDeadlineSeconds")
            );
            Finding::bad("has failed at its deadline", vec![told("deadline", text)])
        }
        "Preempting" => {
            let text =
                format!("the kubelet of {node} ended it for a critical pod: {}", words::message(message));
            Finding::bad("was preempted", vec![told("preempted", text)])
        }
        "" => exited(case),
        other => {
            let text = format!("{node} refused it ({other}): {}", words::message(message));
            let help = "the scheduler did not know what the node knows; delete the pod, so that its owner makes another";
            Finding::bad("was refused by its node", vec![told("node-refused", text).help(help)])
        }
    }
}

fn exited(case: &Case<'_>) -> Finding {
    let mut reasons: Vec<Reason> = leaving::disruption(case).into_iter().collect();
    for status in statuses(case.object) {
        let ended = dig::at(status.status, "state.terminated");
        if !ended.is_null() && dig::int(ended, "exitCode") != 0 {
            reasons.extend(exits::ended(case, &status));
        }
    }
    if reasons.is_empty() {
        reasons.push(Reason::new("failed", words::message(case.text("status.message"))));
    }
    Finding::bad("has failed", reasons)
}
