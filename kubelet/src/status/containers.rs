//! The statuses of a pod's containers.

use super::generate::{Inputs, seconds, some, time};
use crate::pods::decide::{self, Kind};
use crate::pods::resources::is_sidecar;
use crate::pods::table::{ContainerState as State, RuntimeContainer};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, PodSpec, VolumeMount, VolumeMountStatus,
};

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

pub(super) fn statuses(input: &Inputs<'_>, spec: &PodSpec, kind: Kind) -> Vec<ContainerStatus> {
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
