//! A pod's phase, from its containers.

use super::generate::{Inputs, ended};
use crate::pods::decide::{self};
use crate::pods::resources::is_sidecar;
use k8s_openapi::api::core::v1::{ContainerStatus, PodSpec};

/// Phase as it follows from the containers.
pub(super) fn phase(
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

pub(super) fn final_phase(
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
