//! A pod's status from its spec, the runtime's view, the probes and the last errors. Pure.

use crate::pods::decide::{self, Kind};
use crate::pods::resources::{self, is_sidecar};
use crate::pods::table::{ContainerState as State, PodView, RuntimeContainer};
use crate::probes::Results;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus, VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::HashMap;

/// Why a container waits: reason and message.
pub type Waiting = (String, String);

/// All that a status is made from.
pub struct Inputs<'a> {
    /// the pod as desired, with the status last written in the API
    pub pod: &'a Pod,
    /// status generated before (or the API's, after a start)
    pub previous: &'a PodStatus,
    /// what the runtime knows
    pub view: &'a PodView,
    /// verdicts
    pub probes: &'a Results,
    /// per container: why its last start did not come about
    pub errors: &'a HashMap<String, Waiting>,
    /// addresses of the host
    pub host_ips: &'a [String],
    /// runtime name for container ids, e.g. containerd
    pub runtime_name: &'a str,
    /// reason and message forced by the kubelet (DeadlineExceeded, Evicted, admission), makes the pod Failed
    pub failed: Option<&'a Waiting>,
    /// what running containers were given
    pub actuated: &'a crate::pods::resize::Actuated,
    /// why a resize waits
    pub resize_pending: Option<&'a (&'static str, String)>,
    /// it was refused before anything of it was made
    pub rejected: bool,
    /// the worker ends the pod
    pub terminating: bool,
    /// nothing runs any more and nothing will
    pub terminal: bool,
    /// now
    pub now: jiff::Timestamp,
}

fn time(ns: i64) -> Option<Time> {
    (ns > 0).then(|| seconds(ns)).flatten()
}

/// API times have seconds.
fn seconds(ns: i64) -> Option<Time> {
    jiff::Timestamp::from_second(ns.max(0) / 1_000_000_000).ok().map(Time)
}

/// The status.
pub fn generate(input: &Inputs<'_>) -> PodStatus {
    let Some(spec) = &input.pod.spec else { return PodStatus::default() };
    if never_made(input) {
        return bare(input);
    }
    let regular = statuses(input, spec, Kind::Regular);
    let init = statuses(input, spec, Kind::Init);
    let ephemeral = statuses(input, spec, Kind::Ephemeral);
    let phase = final_phase(input, spec, &init, &regular);
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        reason: input.failed.map(|f| f.0.clone()).or_else(|| sticky(input, |p| p.reason.clone())),
        message: input.failed.map(|f| f.1.clone()).or_else(|| sticky(input, |p| p.message.clone())),
        host_ip: input.host_ips.first().cloned(),
        host_ips: some(input.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        start_time: input.previous.start_time.clone().or_else(|| start_time(input)),
        qos_class: Some(resources::qos(input.pod).as_str().to_owned()),
        observed_generation: input.pod.metadata.generation,
        nominated_node_name: input.previous.nominated_node_name.clone(),
        resource_claim_statuses: input.previous.resource_claim_statuses.clone(),
        ..Default::default()
    };
    let ips = pod_ips(input, spec);
    status.pod_ip = ips.first().cloned();
    status.pod_ips = some(ips.into_iter().map(|ip| PodIP { ip }).collect());
    status.conditions = Some(conditions(input, spec, phase, &init, &regular));
    status.container_statuses = some(regular);
    status.init_container_statuses = some(init);
    status.ephemeral_container_statuses = some(ephemeral);
    status
}

/// Nothing of the pod was ever made here, and nothing will be.
fn never_made(input: &Inputs<'_>) -> bool {
    let nothing = input.view.sandboxes.is_empty() && input.view.containers.is_empty();
    let told = ended(input).is_some_and(|s| s.container_statuses.as_ref().is_none_or(Vec::is_empty));
    nothing && (input.rejected || told)
}

/// A refused pod has a verdict and no containers.
fn bare(input: &Inputs<'_>) -> PodStatus {
    let known = input.pod.status.clone().unwrap_or_default();
    PodStatus {
        phase: Some(ended(input).and_then(|s| s.phase.clone()).unwrap_or_else(|| "Failed".into())),
        reason: input.failed.map(|f| f.0.clone()).or_else(|| sticky(input, |p| p.reason.clone())),
        message: input.failed.map(|f| f.1.clone()).or_else(|| sticky(input, |p| p.message.clone())),
        start_time: input.previous.start_time.clone().or_else(|| start_time(input)),
        qos_class: Some(resources::qos(input.pod).as_str().to_owned()),
        observed_generation: input.pod.metadata.generation,
        ..known
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The status that says the pod is over: ours, or the API's when somebody else has said so.
fn ended<'a>(input: &'a Inputs<'_>) -> Option<&'a PodStatus> {
    let over = |s: &&PodStatus| matches!(s.phase.as_deref(), Some("Failed" | "Succeeded"));
    Some(input.previous).filter(over).or(input.pod.status.as_ref().filter(over))
}

/// Reason and message of a pod that had already failed stay.
fn sticky(input: &Inputs<'_>, of: impl Fn(&PodStatus) -> Option<String>) -> Option<String> {
    ended(input).and_then(of)
}

fn start_time(input: &Inputs<'_>) -> Option<Time> {
    jiff::Timestamp::from_second(input.now.as_second()).ok().map(Time)
}

/// Addresses: the sandbox's, the host's for host network, else those known before.
fn pod_ips(input: &Inputs<'_>, spec: &PodSpec) -> Vec<String> {
    if spec.host_network == Some(true) {
        return if input.view.sandboxes.is_empty() { Vec::new() } else { input.host_ips.to_vec() };
    }
    let live = input.view.sandboxes.iter().find(|s| !s.ips.is_empty()).map(|s| s.ips.clone());
    live.unwrap_or_else(|| input.previous.pod_ips.iter().flatten().map(|p| p.ip.clone()).collect())
}

struct Spec<'a> {
    name: &'a str,
    image: &'a str,
    container: Option<&'a Container>,
    mounts: Option<&'a Vec<VolumeMount>>,
}

fn specs<'a>(spec: &'a PodSpec, kind: Kind) -> Vec<Spec<'a>> {
    let plain = |c: &'a Container| Spec {
        name: &c.name,
        image: c.image.as_deref().unwrap_or_default(),
        container: Some(c),
        mounts: c.volume_mounts.as_ref(),
    };
    match kind {
        Kind::Regular => spec.containers.iter().map(plain).collect(),
        Kind::Init => spec.init_containers.iter().flatten().map(plain).collect(),
        Kind::Ephemeral => spec
            .ephemeral_containers
            .iter()
            .flatten()
            .map(|c| Spec {
                name: &c.name,
                image: c.image.as_deref().unwrap_or_default(),
                container: None,
                mounts: c.volume_mounts.as_ref(),
            })
            .collect(),
    }
}

fn statuses(input: &Inputs<'_>, spec: &PodSpec, kind: Kind) -> Vec<ContainerStatus> {
    let mut out: Vec<ContainerStatus> =
        specs(spec, kind).iter().map(|s| container_status(input, spec, kind, s)).collect();
    if kind != Kind::Init {
        out.sort_by(|a, b| a.name.cmp(&b.name));
    }
    out
}

fn previous_of<'a>(input: &'a Inputs<'_>, kind: Kind, name: &str) -> Option<&'a ContainerStatus> {
    let list = match kind {
        Kind::Regular => &input.previous.container_statuses,
        Kind::Init => &input.previous.init_container_statuses,
        Kind::Ephemeral => &input.previous.ephemeral_container_statuses,
    };
    list.iter().flatten().find(|s| s.name == name)
}

fn container_status(input: &Inputs<'_>, spec: &PodSpec, kind: Kind, s: &Spec<'_>) -> ContainerStatus {
    let mut instances = input.view.containers.iter().filter(|c| c.name == s.name);
    let newest = instances.next();
    let older = instances.find(|c| c.state == State::Exited);
    let mut out = match newest {
        Some(c) => from_runtime(input, c),
        None => without_runtime(input, spec, kind, s),
    };
    if let Some(old) = older {
        out.last_state =
            Some(ContainerState { terminated: Some(terminated(input, old)), ..Default::default() });
    }
    out.name = s.name.to_owned();
    allocation(input, s, newest, &mut out);
    waiting_override(input, spec, kind, s, newest, &mut out);
    readiness(input, kind, s, newest, &mut out);
    out
}

/// What the container was granted, and what is mounted into it.
fn allocation(
    input: &Inputs<'_>,
    s: &Spec<'_>,
    newest: Option<&RuntimeContainer>,
    out: &mut ContainerStatus,
) {
    if let (Some(c), Some(made)) = (s.container, newest) {
        let given = input.actuated.get(&made.id).or(c.resources.as_ref());
        let resources = given.cloned().unwrap_or_default();
        out.allocated_resources = resources.requests.clone().filter(|r| !r.is_empty());
        out.resources = Some(resources);
    }
    let mounts = s.mounts.iter().flat_map(|m| m.iter()).map(|m| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only.filter(|r| *r),
        // no handler here offers more
        recursive_read_only: (m.read_only == Some(true)).then(|| "Disabled".to_owned()),
        ..Default::default()
    });
    out.volume_mounts = some(mounts.collect());
}

fn from_runtime(input: &Inputs<'_>, c: &RuntimeContainer) -> ContainerStatus {
    let mut out = ContainerStatus {
        image: c.image.clone(),
        image_id: c.image_id.clone(),
        container_id: Some(format!("{}://{}", input.runtime_name, c.id)),
        restart_count: c.restart_count,
        ..Default::default()
    };
    let state = match c.state {
        State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: time(c.started_at) }),
            ..Default::default()
        },
        State::Exited => ContainerState { terminated: Some(terminated(input, c)), ..Default::default() },
        State::Created | State::Unknown => waiting("ContainerCreating", ""),
    };
    out.state = Some(state);
    out
}

fn terminated(input: &Inputs<'_>, c: &RuntimeContainer) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: c.exit_code,
        reason: Some(if c.reason.is_empty() { default_reason(c.exit_code) } else { c.reason.clone() }),
        message: (!c.message.is_empty()).then(|| c.message.clone()),
        // one that never started shows the epoch, as upstream
        started_at: seconds(c.started_at),
        finished_at: seconds(c.finished_at),
        container_id: Some(format!("{}://{}", input.runtime_name, c.id)),
        signal: None,
    }
}

fn default_reason(code: i32) -> String {
    if code == 0 { "Completed".into() } else { "Error".into() }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..Default::default()
    }
}

fn default_waiting(spec: &PodSpec, kind: Kind, past_init: bool) -> ContainerState {
    let has_inits = spec.init_containers.as_ref().is_some_and(|l| !l.is_empty());
    let initializing = has_inits && (kind == Kind::Init || !past_init);
    waiting(if initializing { "PodInitializing" } else { "ContainerCreating" }, "")
}

/// A container the runtime knows nothing of: not made yet, or lost.
fn without_runtime(input: &Inputs<'_>, spec: &PodSpec, kind: Kind, s: &Spec<'_>) -> ContainerStatus {
    let past = decide::past_init(spec, input.view);
    let mut out = ContainerStatus {
        image: s.image.to_owned(),
        state: Some(default_waiting(spec, kind, past)),
        ..Default::default()
    };
    let Some(old) = previous_of(input, kind, s.name) else { return out };
    out.restart_count = old.restart_count;
    out.last_state.clone_from(&old.last_state);
    let ended = old.state.as_ref().and_then(|st| st.terminated.as_ref());
    let ran = old.state.as_ref().is_some_and(|st| st.running.is_some());
    let normal_init = kind == Kind::Init && !s.container.is_some_and(is_sidecar);
    if normal_init && past {
        // its record was pruned after it had done its work
        let done = ended.cloned().unwrap_or_else(|| ContainerStateTerminated {
            reason: Some("Completed".into()),
            container_id: old.container_id.clone(),
            ..Default::default()
        });
        out.state = Some(ContainerState { terminated: Some(done), ..Default::default() });
        out.container_id.clone_from(&old.container_id);
        out.image_id.clone_from(&old.image_id);
        return out;
    }
    if let Some(t) = ended {
        // the runtime forgot it; its end is still true
        out.state = Some(ContainerState { terminated: Some(t.clone()), ..Default::default() });
        out.container_id.clone_from(&old.container_id);
        out.image_id.clone_from(&old.image_id);
    } else if ran {
        let lost = ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            container_id: old.container_id.clone(),
            ..Default::default()
        };
        if input.terminating {
            out.state = Some(ContainerState { terminated: Some(lost), ..Default::default() });
        } else {
            let text = "The container could not be located when the pod was deleted.  The container used to be Running";
            let lost = ContainerStateTerminated { message: Some(text.into()), ..lost };
            out.last_state = Some(ContainerState { terminated: Some(lost), ..Default::default() });
            out.restart_count += 1;
        }
    }
    out
}

/// A container that ended and shall start again shows why it does not run, with its end as the last state.
fn waiting_override(
    input: &Inputs<'_>,
    spec: &PodSpec,
    kind: Kind,
    s: &Spec<'_>,
    newest: Option<&RuntimeContainer>,
    out: &mut ContainerStatus,
) {
    if input.terminal || input.failed.is_some() {
        return;
    }
    let Some((reason, message)) = input.errors.get(s.name) else { return };
    if newest.is_some_and(|c| c.state == State::Running) {
        return;
    }
    if let (Some(c), Some(container)) = (newest, s.container) {
        let again = match kind {
            Kind::Init if !is_sidecar(container) => c.exit_code != 0,
            _ => decide::should_restart(spec, container, c.exit_code),
        };
        if c.state == State::Exited && !again {
            return;
        }
    }
    let ended = out.state.take().and_then(|st| st.terminated);
    if let Some(t) = ended {
        out.last_state = Some(ContainerState { terminated: Some(t), ..Default::default() });
    }
    out.state = Some(waiting(reason, message));
}

fn readiness(
    input: &Inputs<'_>,
    kind: Kind,
    s: &Spec<'_>,
    newest: Option<&RuntimeContainer>,
    out: &mut ContainerStatus,
) {
    let running = newest.filter(|c| c.state == State::Running);
    let Some(container) = s.container else {
        out.started = None;
        return;
    };
    if kind == Kind::Init && !is_sidecar(container) {
        let done = out.state.as_ref().and_then(|st| st.terminated.as_ref()).is_some_and(|t| t.exit_code == 0);
        out.ready = done;
        out.started = Some(running.is_some());
        return;
    }
    let started = running
        .is_some_and(|c| container.startup_probe.is_none() || input.probes.started(&c.id) == Some(true));
    out.started = Some(started);
    out.ready = started
        && running
            .is_some_and(|c| container.readiness_probe.is_none() || input.probes.ready(&c.id) == Some(true));
}

/// Phase as it follows from the containers.
pub fn phase(
    input: &Inputs<'_>,
    spec: &PodSpec,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> &'static str {
    let st = |s: &ContainerStatus| s.state.clone().unwrap_or_default();
    let find = |name: &str, list: &[ContainerStatus]| list.iter().find(|s| s.name == name).cloned();
    let never = spec.restart_policy.as_deref() == Some("Never");
    let past = decide::past_init(spec, input.view);
    let mut pending_init = false;
    for c in spec.init_containers.iter().flatten() {
        let Some(s) = find(&c.name, init) else { continue };
        let (state, last) = (st(&s), s.last_state.clone().unwrap_or_default());
        if is_sidecar(c) {
            pending_init |= !past && s.started != Some(true);
            continue;
        }
        match (&state.terminated, &state.running, &last.terminated) {
            (Some(t), _, _) if t.exit_code == 0 => {}
            (Some(_), _, _) if never => return "Failed",
            _ => pending_init = true,
        }
    }
    let (mut running, mut stopped, mut succeeded, mut waiting_n, mut unknown) = (0, 0, 0, 0, 0);
    let mut restartable = false;
    for c in &spec.containers {
        let Some(s) = find(&c.name, regular) else {
            unknown += 1;
            continue;
        };
        let (state, last) = (st(&s), s.last_state.clone().unwrap_or_default());
        if state.running.is_some() {
            running += 1;
        } else if let Some(t) = &state.terminated {
            stopped += 1;
            succeeded += usize::from(t.exit_code == 0);
            restartable |= decide::should_restart(spec, c, t.exit_code);
        } else if last.terminated.is_some() {
            stopped += 1;
            restartable = true;
        } else {
            waiting_n += 1;
        }
    }
    if pending_init && !input.terminal {
        return "Pending";
    }
    match () {
        () if waiting_n > 0 && !input.terminal => "Pending",
        () if waiting_n > 0 => {
            if running + stopped > 0 {
                "Failed"
            } else {
                "Pending"
            }
        }
        () if unknown > 0 => "Pending",
        () if running > 0 => "Running",
        () if stopped > 0 && input.terminal => {
            if stopped == succeeded {
                "Succeeded"
            } else {
                "Failed"
            }
        }
        () if restartable => "Running",
        () if stopped > 0 && stopped == succeeded => "Succeeded",
        () if stopped > 0 => "Failed",
        () => "Pending",
    }
}

fn final_phase(
    input: &Inputs<'_>,
    spec: &PodSpec,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> &'static str {
    match ended(input).and_then(|s| s.phase.as_deref()) {
        Some("Failed") => return "Failed",
        Some(_) => return "Succeeded",
        None => {}
    }
    if input.failed.is_some() {
        return "Failed";
    }
    let computed = phase(input, spec, init, regular);
    // The end of the pod is told when it is over, not while containers still stop.
    if matches!(computed, "Failed" | "Succeeded") && input.view.any_running() && input.terminating {
        return "Running";
    }
    computed
}

fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn conditions(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::table::RuntimeSandbox;
    use crate::probes::ProbeKind;

    fn pod(spec: &str) -> Pod {
        serde_yaml::from_str(&format!(
            "metadata: {{name: p, namespace: n, uid: u, generation: 3}}\nspec: {spec}"
        ))
        .unwrap()
    }

    fn view(text: &str) -> PodView {
        let mut v = PodView {
            sandboxes: vec![RuntimeSandbox {
                id: "s".into(),
                ready: true,
                ips: vec!["10.0.0.1".into()],
                ..Default::default()
            }],
            ..Default::default()
        };
        for word in text.split_whitespace() {
            let (name, state, code) = match word.split_once('=') {
                Some((n, c)) => (n, State::Exited, c.parse().unwrap()),
                None => (word.trim_end_matches('+'), State::Running, 0),
            };
            v.containers.push(RuntimeContainer {
                name: name.into(),
                id: format!("id-{name}"),
                sandbox_id: "s".into(),
                state,
                exit_code: code,
                started_at: 1_000_000_000,
                ..Default::default()
            });
        }
        v
    }

    fn make(
        spec: &str,
        state: &str,
        errors: &[(&str, &str)],
        edit: impl FnOnce(&mut Inputs<'_>, &Results),
    ) -> PodStatus {
        let (p, v) = (pod(spec), view(state));
        let errors =
            errors.iter().map(|(n, r)| ((*n).to_owned(), ((*r).to_owned(), "m".to_owned()))).collect();
        let probes = Results::default();
        let previous = PodStatus::default();
        let mut input = Inputs {
            pod: &p,
            previous: &previous,
            view: &v,
            probes: &probes,
            errors: &errors,
            host_ips: &["192.168.0.1".to_owned()],
            runtime_name: "containerd",
            failed: None,
            actuated: &HashMap::new(),
            resize_pending: None,
            rejected: false,
            terminating: false,
            terminal: false,
            now: jiff::Timestamp::from_second(100).unwrap(),
        };
        edit(&mut input, &probes);
        generate(&input)
    }

    fn show(s: &PodStatus) -> String {
        let conditions: Vec<_> =
            s.conditions.iter().flatten().filter(|c| c.status == "True").map(|c| c.type_.as_str()).collect();
        let states: Vec<_> = s
            .container_statuses
            .iter()
            .flatten()
            .map(|c| {
                let st = c.state.clone().unwrap_or_default();
                let text = match (st.running, st.terminated, st.waiting) {
                    (Some(_), _, _) => "running".to_owned(),
                    (_, Some(t), _) => t.reason.unwrap_or_default().to_string(),
                    (_, _, Some(w)) => w.reason.unwrap_or_default(),
                    _ => String::new(),
                };
                format!("{}:{text}{}", c.name, if c.ready { "!" } else { "" })
            })
            .collect();
        format!("{} [{}] {}", s.phase.clone().unwrap_or_default(), conditions.join(","), states.join(" "))
    }

    const BASE: &str = "PodReadyToStartContainers,Initialized";

    #[test]
    fn table() {
        let two = "{containers: [{name: b}, {name: a}]}";
        let init = "{initContainers: [{name: i}], containers: [{name: a}]}";
        let never = "{restartPolicy: Never, containers: [{name: a}]}";
        let all = format!("{BASE},Ready,ContainersReady,PodScheduled");
        let none = format!("{BASE},PodScheduled");
        for (spec, state, errors, want) in [
            (two, "a+ b+", vec![], format!("Running [{all}] a:running! b:running!")),
            (two, "a+", vec![], format!("Pending [{none}] a:running! b:ContainerCreating")),
            (
                two,
                "a+ b=1",
                vec![("b", "CrashLoopBackOff")],
                format!("Running [{none}] a:running! b:CrashLoopBackOff"),
            ),
            (
                two,
                "",
                vec![("a", "ErrImagePull")],
                format!("Pending [{none}] a:ErrImagePull b:ContainerCreating"),
            ),
            (two, "a=0 b=1", vec![], format!("Running [{none}] a:Completed b:Error")),
            (never, "a=0", vec![], format!("Succeeded [{none}] a:Completed")),
            (never, "a=2", vec![("a", "CrashLoopBackOff")], format!("Failed [{none}] a:Error")),
            (init, "", vec![], "Pending [PodReadyToStartContainers,PodScheduled] a:PodInitializing".into()),
            (init, "i=0 a+", vec![], format!("Running [{all}] a:running!")),
        ] {
            let errors: Vec<(&str, &str)> = errors;
            assert_eq!(show(&make(spec, state, &errors, |_, _| {})), want, "{spec} {state}");
        }
    }

    #[test]
    fn probes_and_gates_hold_ready_back() {
        let probe = "{containers: [{name: a, readinessProbe: {}, startupProbe: {}}]}";
        let s = make(probe, "a+", &[], |_, _| {});
        assert_eq!(s.container_statuses.as_ref().unwrap()[0].started, Some(false));
        let s = make(probe, "a+", &[], |_, r| {
            r.set("id-a", ProbeKind::Startup, true);
            r.set("id-a", ProbeKind::Readiness, true);
        });
        assert!(s.container_statuses.as_ref().unwrap()[0].ready);
        let s =
            make("{readinessGates: [{conditionType: x/y}], containers: [{name: a}]}", "a+", &[], |_, _| {});
        let ready = s.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_deref()),
            ("False", Some("ReadinessGatesNotReady"))
        );
    }

    #[test]
    fn forced_failure_and_times() {
        let why = ("DeadlineExceeded".to_owned(), "late".to_owned());
        let s = make("{containers: [{name: a}]}", "a=137", &[], |i, _| {
            i.failed = Some(Box::leak(Box::new(why)));
        });
        assert_eq!((s.phase.as_deref(), s.reason.as_deref()), (Some("Failed"), Some("DeadlineExceeded")));
        assert_eq!(s.start_time.unwrap().0.as_second(), 100);
        assert_eq!(s.observed_generation, Some(3));
        assert_eq!(s.pod_ip.as_deref(), Some("10.0.0.1"));
        assert_eq!(s.host_ip.as_deref(), Some("192.168.0.1"));
    }
}
