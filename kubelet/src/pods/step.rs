//! The life of a pod on the node: sync → terminating → terminated → finished. Pure; phases only move forward.

use super::decide::{self, Plan};
use super::table::{ContainerState, PodView};
use crate::probes::Results;
use k8s_openapi::api::core::v1::Pod;

/// Where a pod stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// it shall run
    Sync,
    /// its containers are being stopped
    Terminating,
    /// nothing runs; volumes and cgroups are being taken down
    Terminated,
    /// nothing is left but records
    Finished,
}

/// What the worker shall do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// bring the containers to what the plan says
    Sync(Plan),
    /// stop all containers and the sandbox within this many seconds
    Kill {
        /// seconds
        grace: i64,
    },
    /// unmount volumes, remove cgroups
    CleanUp,
    /// ask the API server to forget the pod
    DeleteFromApi,
    /// remove sandboxes, logs and the worker itself
    Forget,
    /// nothing
    Rest,
}

/// What the step depends on.
pub struct Input<'a> {
    /// the pod as desired
    pub pod: &'a Pod,
    /// what runs
    pub view: &'a PodView,
    /// verdicts of the probes
    pub probes: &'a Results,
    /// it has vanished from its source
    pub gone: bool,
    /// the kubelet ends it: refused, evicted, deadline passed
    pub killed: Option<Option<i64>>,
    /// its status says Succeeded or Failed
    pub terminal: bool,
    /// cleaning up has succeeded
    pub clean: bool,
    /// it lives in the API under its own UID
    pub in_api: bool,
}

/// One step: the phase from now on and what to do.
pub fn step(phase: Phase, input: &Input<'_>) -> (Phase, Action) {
    let deleting = input.pod.metadata.deletion_timestamp.is_some();
    let ending = deleting || input.gone || input.killed.is_some() || input.terminal;
    match phase {
        Phase::Sync if !ending => {
            let inputs = decide::Inputs { pod: input.pod, view: input.view, probes: input.probes };
            (Phase::Sync, Action::Sync(decide::decide(&inputs)))
        }
        Phase::Sync | Phase::Terminating => match alive(input.view) {
            true => (Phase::Terminating, Action::Kill { grace: grace(input) }),
            false => (Phase::Terminated, Action::CleanUp),
        },
        Phase::Terminated if !input.clean => (Phase::Terminated, Action::CleanUp),
        Phase::Terminated | Phase::Finished => match (input.gone, deleting && input.in_api) {
            (true, _) => (Phase::Finished, Action::Forget),
            (false, true) => (Phase::Finished, Action::DeleteFromApi),
            (false, false) => (Phase::Finished, Action::Rest),
        },
    }
}

/// Whether something of the pod runs or may yet: a container that was created and never started can't, once its sandbox is
/// stopped, and a runtime does not change its state when asked to stop it.
fn alive(view: &PodView) -> bool {
    let open = |s: ContainerState| matches!(s, ContainerState::Running | ContainerState::Unknown);
    view.sandboxes.iter().any(|s| s.ready) || view.containers.iter().any(|c| open(c.state))
}

/// Seconds the containers get: the deletion's, at most the kubelet's own, else the pod's; at least one.
pub fn grace(input: &Input<'_>) -> i64 {
    let own = input.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
    let deletion =
        input.pod.metadata.deletion_timestamp.as_ref().and(input.pod.metadata.deletion_grace_period_seconds);
    let ordered = input.killed.flatten();
    deletion.unwrap_or(own).min(ordered.unwrap_or(i64::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::table::{RuntimeContainer, RuntimeSandbox};

    fn run(phase: Phase, meta: &str, alive: bool, edit: impl FnOnce(&mut Input<'_>)) -> String {
        let pod: Pod = serde_yaml::from_str(&format!("metadata: {{name: p, {meta}}}\nspec: {{terminationGracePeriodSeconds: 7, containers: [{{name: a}}]}}")).unwrap();
        let mut view = PodView::default();
        if alive {
            view.sandboxes.push(RuntimeSandbox { ready: true, ips: vec!["i".into()], ..Default::default() });
            view.containers.push(RuntimeContainer {
                name: "a".into(),
                state: ContainerState::Running,
                ..Default::default()
            });
        }
        let probes = Results::default();
        let mut input = Input {
            pod: &pod,
            view: &view,
            probes: &probes,
            gone: false,
            killed: None,
            terminal: false,
            clean: false,
            in_api: true,
        };
        edit(&mut input);
        let (phase, action) = step(phase, &input);
        let action = match action {
            Action::Sync(p) => format!("Sync({})", p.is_empty()),
            other => format!("{other:?}"),
        };
        format!("{phase:?} {action}")
    }

    #[test]
    fn a_container_that_never_started_keeps_no_pod_once_its_sandbox_is_stopped() {
        let container = |state| RuntimeContainer { name: "a".into(), state, ..Default::default() };
        let mut view = PodView::default();
        view.containers.push(container(ContainerState::Created));
        assert!(!alive(&view));
        view.sandboxes.push(RuntimeSandbox { ready: true, ..Default::default() });
        assert!(alive(&view));
        view.sandboxes.clear();
        view.containers.push(container(ContainerState::Running));
        assert!(alive(&view));
    }

    #[test]
    fn table() {
        use Phase::*;
        let del = "deletionTimestamp: 2026-01-01T00:00:00Z, deletionGracePeriodSeconds: 3";
        let nothing = |_: &mut Input<'_>| {};
        assert_eq!(run(Sync, "", true, nothing), "Sync Sync(true)");
        assert_eq!(run(Sync, "", false, nothing), "Sync Sync(false)");
        assert_eq!(run(Sync, del, true, nothing), "Terminating Kill { grace: 3 }");
        assert_eq!(run(Sync, del, false, nothing), "Terminated CleanUp");
        assert_eq!(run(Sync, "", true, |i| i.gone = true), "Terminating Kill { grace: 7 }");
        assert_eq!(run(Sync, "", true, |i| i.killed = Some(Some(0))), "Terminating Kill { grace: 1 }");
        assert_eq!(run(Sync, "", true, |i| i.terminal = true), "Terminating Kill { grace: 7 }");
        // it never comes back, whatever the pod looks like now
        assert_eq!(run(Terminating, "", true, nothing), "Terminating Kill { grace: 7 }");
        assert_eq!(run(Terminating, "", false, nothing), "Terminated CleanUp");
        assert_eq!(run(Terminated, "", false, nothing), "Terminated CleanUp");
        assert_eq!(run(Terminated, "", false, |i| i.clean = true), "Finished Rest");
        assert_eq!(run(Terminated, del, false, |i| i.clean = true), "Finished DeleteFromApi");
        assert_eq!(run(Finished, "", false, |i| i.gone = true), "Finished Forget");
        assert_eq!(
            run(Terminated, del, false, |i| {
                i.clean = true;
                i.in_api = false
            }),
            "Finished Rest"
        );
    }

    #[test]
    fn phases_only_move_forward() {
        for phase in [Phase::Sync, Phase::Terminating, Phase::Terminated, Phase::Finished] {
            for bits in 0..64u8 {
                let bit = |n: u8| bits & (1 << n) != 0;
                let meta = if bit(0) { "deletionTimestamp: 2026-01-01T00:00:00Z" } else { "" };
                let pod: Pod = serde_yaml::from_str(&format!(
                    "metadata: {{name: p, {meta}}}\nspec: {{containers: [{{name: a}}]}}"
                ))
                .unwrap();
                let mut view = PodView::default();
                if bit(1) {
                    view.sandboxes.push(RuntimeSandbox { ready: true, ..Default::default() });
                }
                let probes = Results::default();
                let input = Input {
                    pod: &pod,
                    view: &view,
                    probes: &probes,
                    gone: bit(2),
                    killed: bit(3).then_some(None),
                    terminal: bit(4),
                    clean: bit(5),
                    in_api: true,
                };
                let (next, _) = step(phase, &input);
                assert!(next >= phase, "{phase:?} → {next:?}");
            }
        }
    }
}
