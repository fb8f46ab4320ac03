//! Pods: from not being scheduled to being deleted.

mod ended;
mod exits;
mod image;
mod probes;
mod start;
mod unscheduled;
mod waiting;

use coxctl_kit::dig;
use serde_json::Value;

use crate::case::{self, Case};
use crate::finding::{Finding, Mood, Reason};
use crate::{leaving, words};

/// Why a pod is as it is.
pub fn explain(case: &Case<'_>) -> Finding {
    if dig::has(case.object, "metadata.deletionTimestamp") {
        return leaving::pod(case);
    }
    match case.text("status.phase") {
        "Succeeded" => Finding::well(format!("has completed{}", took(case))),
        "Failed" => ended::explain(case),
        _ if case.text("spec.nodeName").is_empty() => unscheduled::explain(case),
        _ => bound(case),
    }
}

fn took(case: &Case<'_>) -> String {
    let ends = statuses(case.object)
        .into_iter()
        .filter_map(|s| dig::moment(s.status, "state.terminated.finishedAt"));
    ends.max().map(|end| format!(" {} ago", case.ago(Some(end)))).unwrap_or_default()
}

/// A pod on a node.
fn bound(case: &Case<'_>) -> Finding {
    let node = node_lost(case);
    let mut reasons: Vec<Reason> = node.into_iter().chain(start::explain(case)).collect();
    let init = statuses(case.object).into_iter().filter(|s| !s.init || !s.passed());
    for status in init {
        reasons.extend(container(case, &status, !reasons.is_empty()));
    }
    reasons.extend(gates(case));
    let ready = case::is(case.object, "Ready", "True");
    match (ready, reasons.is_empty()) {
        (true, _) => well(case),
        (false, true) => Finding::waiting(format!("is {} but not Ready", phase(case)), unsaid(case)),
        (false, false) => Finding { mood: mood(&reasons), verdict: verdict(case, &reasons), reasons },
    }
}

fn phase<'a>(case: &Case<'a>) -> &'a str {
    match case.text("status.phase") {
        "" => "Pending",
        phase => phase,
    }
}

/// Rules that tell of things that get well by waiting.
const PATIENCE: [&str; 4] = ["init-running", "starting", "probe-waiting", "not-ready"];

fn mood(reasons: &[Reason]) -> Mood {
    if reasons.iter().all(|reason| PATIENCE.contains(&reason.rule)) { Mood::Waiting } else { Mood::Bad }
}

fn verdict(case: &Case<'_>, reasons: &[Reason]) -> String {
    let has = |rules: &[&str]| reasons.iter().any(|reason| rules.contains(&reason.rule));
    let waits = |reason: &str| {
        statuses(case.object).iter().any(|s| dig::text(s.status, "state.waiting.reason") == reason)
    };
    match () {
        () if waits("CrashLoopBackOff") => "keeps restarting (CrashLoopBackOff)".into(),
        () if has(&["image"]) => "does not start: its image can't be pulled".into(),
        () if has(&["node-lost"]) => format!("is {} on a node that does not answer", phase(case)),
        () if has(&["liveness", "startup-probe"]) => "keeps being restarted by its probe".into(),
        () if phase(case) == "Pending" => format!("is Pending on {}", case.text("spec.nodeName")),
        () => format!("is {} but not Ready", phase(case)),
    }
}

/// What one container has to say.
fn container(case: &Case<'_>, status: &Status<'_>, told: bool) -> Vec<Reason> {
    let state = dig::at(status.status, "state");
    if dig::has(state, "waiting") {
        return waiting::explain(case, status, told);
    }
    if dig::has(state, "terminated") {
        return exits::ended(case, status);
    }
    if status.init && !status.sidecar() {
        return vec![start::init_running(case, status)];
    }
    if dig::has(state, "running") && !dig::flag(status.status, "ready") {
        return probes::not_ready(case, status);
    }
    Vec::new()
}

/// Readiness gates whose condition isn't True.
fn gates(case: &Case<'_>) -> Vec<Reason> {
    let gate = |gate: &Value| {
        let kind = dig::text(gate, "conditionType");
        let found = case.condition(kind);
        let status = found.map_or("missing", |condition| dig::text(condition, "status"));
        if status == "True" {
            return None;
        }
        let said = found.map(|c| dig::text(c, "message")).filter(|m| !m.is_empty());
        let said = said.map(|m| format!(" ({})", words::message(m))).unwrap_or_default();
        let text = format!(
            "the readiness gate {kind} is {status}{said}; whoever sets that condition has not set it to True"
        );
        Some(Reason::new("readiness-gate", text).seen(
            "Pod",
            case.name(),
            "status.conditions",
            format!("{kind}={status}"),
        ))
    };
    case.items("spec.readinessGates").iter().filter_map(gate).collect()
}

/// A pod that isn't ready where no rule knows more than its conditions.
fn unsaid(case: &Case<'_>) -> Vec<Reason> {
    let text = match case.condition("Ready") {
        Some(ready) => format!(
            "its Ready condition is {} ({})",
            dig::text(ready, "status"),
            words::message(&format!("{}: {}", dig::text(ready, "reason"), dig::text(ready, "message")))
        ),
        None => format!("the kubelet of {} has not said anything about it yet", case.text("spec.nodeName")),
    };
    vec![Reason::new("not-ready", text)]
}

/// The pod's node is gone or does not answer.
fn node_lost(case: &Case<'_>) -> Option<Reason> {
    let name = case.text("spec.nodeName");
    let node = case.facts.find("Node", "", name);
    if node.is_none() && case.facts.knows("Node") {
        let text = format!("its node {name} does not exist any more");
        return Some(Reason::new("node-lost", text).seen("Pod", case.name(), "spec.nodeName", name));
    }
    let ready = case::condition(node?, "Ready")?;
    if dig::text(ready, "status") == "True" {
        return None;
    }
    let since = case.ago(dig::moment(ready, "lastTransitionTime"));
    let text = format!(
        "its node {name} is not ready since {since}: {}",
        words::message(dig::text(ready, "message"))
    );
    let help = format!(
        "see `coxctl why node/{name}`; the pod is evicted when its toleration of the node's taint runs out"
    );
    let status = dig::text(ready, "status");
    Some(
        Reason::new("node-lost", text)
            .seen("Node", name, "status.conditions", format!("Ready={status}"))
            .help(help),
    )
}

fn well(case: &Case<'_>) -> Finding {
    let all = statuses(case.object);
    let main: Vec<&Status<'_>> = all.iter().filter(|s| !s.init).collect();
    let ready = main.iter().filter(|s| dig::flag(s.status, "ready")).count();
    let restarts: i64 = all.iter().map(|s| dig::int(s.status, "restartCount")).sum();
    let since =
        case.condition("Ready").map(|c| case.ago(dig::moment(c, "lastTransitionTime"))).unwrap_or_default();
    let verdict = format!(
        "is Running and Ready since {since}: {ready} of {} ready on {}, {}",
        words::count(i64::try_from(main.len()).unwrap_or_default(), "container"),
        case.text("spec.nodeName"),
        words::count(restarts, "restart"),
    );
    let ends = all.iter().filter_map(|status| exits::earlier(case, status));
    Finding::well(verdict).and(ends.chain(leaving::held_by_budget(case)))
}

/// A container's spec and status.
pub struct Status<'a> {
    pub name: &'a str,
    pub spec: &'a Value,
    pub status: &'a Value,
    pub init: bool,
}

impl Status<'_> {
    /// An init container that goes on beside the others.
    pub fn sidecar(&self) -> bool {
        dig::text(self.spec, "restartPolicy") == "Always"
    }

    /// An init container that is done, or a sidecar that has started.
    fn passed(&self) -> bool {
        let ended = dig::at(self.status, "state.terminated");
        !ended.is_null() && dig::int(ended, "exitCode") == 0
            || self.sidecar() && dig::flag(self.status, "started") && dig::flag(self.status, "ready")
    }
}

/// All containers that have a status, init containers first.
pub fn statuses(pod: &Value) -> Vec<Status<'_>> {
    let mut all = Vec::new();
    for (specs, list, init) in [
        ("spec.initContainers", "status.initContainerStatuses", true),
        ("spec.containers", "status.containerStatuses", false),
    ] {
        for spec in dig::items(pod, specs) {
            let name = dig::text(spec, "name");
            let status = dig::items(pod, list).iter().find(|status| dig::text(status, "name") == name);
            all.extend(status.map(|status| Status { name, spec, status, init }));
        }
    }
    all
}
