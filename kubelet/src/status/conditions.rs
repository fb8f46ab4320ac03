//! A pod's conditions.

use super::generate::{Inputs, start_time};
use crate::pods::decide::{self};
use crate::pods::resources::is_sidecar;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec};

fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

pub(super) fn conditions(
    input: &Inputs<'_>,
    spec: &PodSpec,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Vec<PodCondition> {
    let sandbox = input.view.ready_sandbox().is_some_and(|s| s.host_network || !s.ips.is_empty());
    let initialized = initialized(input, spec, phase, init);
    let containers_ready = containers_ready(spec, phase, init, regular);
    let ready = ready(input, spec, &containers_ready);
    let own = [
        ("PodReadyToStartContainers", (sandbox, None)),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", (true, None)),
    ];
    let mut out: Vec<PodCondition> = own.into_iter().map(|(kind, v)| condition(input, kind, v)).collect();
    if let Some((reason, message)) = input.resize_pending {
        out.push(condition(input, "PodResizePending", (true, Some((*reason, message.clone())))));
    }
    let foreign = input.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    // of what is not ours the API's word counts; what we once said of the pod's end stays
    let said = input.previous.conditions.iter().flatten().filter(|c| c.type_ == "DisruptionTarget");
    for c in foreign.into_iter().flatten().chain(said) {
        let over = c.type_ == "PodResizePending" || c.type_ == "PodResizeInProgress";
        if !over && !out.iter().any(|o| o.type_ == c.type_) {
            out.push(c.clone());
        }
    }
    out
}

type Verdict = (bool, Option<(&'static str, String)>);

fn condition(input: &Inputs<'_>, kind: &str, (ok, why): Verdict) -> PodCondition {
    let status = if ok { "True" } else { "False" };
    let old = input.previous.conditions.iter().flatten().find(|c| c.type_ == kind);
    let since = old.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
    let (reason, message) =
        why.map_or((None, None), |(r, m)| (Some(r.to_owned()), (!m.is_empty()).then_some(m)));
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        last_transition_time: since.or_else(|| start_time(input)),
        last_probe_time: None,
        observed_generation: input.pod.metadata.generation,
    }
}

fn initialized(input: &Inputs<'_>, spec: &PodSpec, phase: &str, init: &[ContainerStatus]) -> Verdict {
    if phase == "Succeeded" {
        return (true, Some(("PodCompleted", String::new())));
    }
    let past = decide::past_init(spec, input.view);
    let mut incomplete = Vec::new();
    for c in spec.init_containers.iter().flatten() {
        let s = init.iter().find(|s| s.name == c.name);
        let done = if is_sidecar(c) {
            past || s.is_some_and(|s| s.started == Some(true))
        } else {
            s.is_some_and(|s| s.ready)
        };
        if !done {
            incomplete.push(c.name.as_str());
        }
    }
    match incomplete.is_empty() {
        true => (true, None),
        false => (
            false,
            Some((
                "ContainersNotInitialized",
                format!("containers with incomplete status: {}", names(&incomplete)),
            )),
        ),
    }
}

fn containers_ready(
    spec: &PodSpec,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Verdict {
    match phase {
        "Succeeded" => return (false, Some(("PodCompleted", String::new()))),
        "Failed" => return (false, Some(("PodFailed", String::new()))),
        _ => {}
    }
    let mut unready = Vec::new();
    for c in spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)) {
        if !init.iter().any(|s| s.name == c.name && s.ready) {
            unready.push(c.name.as_str());
        }
    }
    for c in &spec.containers {
        if !regular.iter().any(|s| s.name == c.name && s.ready) {
            unready.push(c.name.as_str());
        }
    }
    match unready.is_empty() {
        true => (true, None),
        false => (
            false,
            Some(("ContainersNotReady", format!("containers with unready status: {}", names(&unready)))),
        ),
    }
}

fn ready(input: &Inputs<'_>, spec: &PodSpec, containers: &Verdict) -> Verdict {
    if !containers.0 {
        return containers.clone();
    }
    let known = input.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut problems = Vec::new();
    for gate in spec.readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match known.into_iter().flatten().find(|c| &c.type_ == kind) {
            None => problems
                .push(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
            Some(c) if c.status != "True" => problems.push(format!(
                "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                c.status
            )),
            Some(_) => {}
        }
    }
    match problems.is_empty() {
        true => (true, None),
        false => (false, Some(("ReadinessGatesNotReady", problems.join(", ")))),
    }
}
