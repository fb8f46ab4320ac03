//! What to do with a pod's sandbox and containers: a pure function of spec, runtime view, probes, back-off and time.

use super::cri_config::container_hash;
use super::resources::is_sidecar;
use super::table::{ContainerState, PodView, RuntimeContainer};
use crate::probes::Results;
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod, PodSpec};

/// Which list of the spec a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// spec.initContainers
    Init,
    /// spec.containers
    Regular,
    /// spec.ephemeralContainers
    Ephemeral,
}

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// list it stands in
    pub kind: Kind,
    /// index in that list
    pub index: usize,
}

/// A container to stop, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// runtime id
    pub id: String,
    /// name
    pub name: String,
    /// text of the Killing event
    pub message: String,
    /// grace of the probe that failed, if it has its own
    pub grace: Option<i64>,
}

/// What one turn of syncing shall do, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// stop everything of the pod first (sandbox changed, or nothing left to run)
    pub kill_pod: bool,
    /// then make a sandbox, with this attempt
    pub create_sandbox: Option<u32>,
    /// containers to stop
    pub kill: Vec<Kill>,
    /// containers to start
    pub start: Vec<Start>,
}

impl Plan {
    /// Nothing to do?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// All that the decision needs.
pub struct Inputs<'a> {
    /// the pod as desired
    pub pod: &'a Pod,
    /// what runs
    pub view: &'a PodView,
    /// what the probes say
    pub probes: &'a Results,
}

fn policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

/// Would a container that ended with `code` be started again?
pub fn should_restart(spec: &PodSpec, container: &Container, code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        if rule_matches(rule, code) {
            return rule.action != "Terminate";
        }
    }
    let own = container.restart_policy.as_deref().filter(|p| !p.is_empty());
    match own.unwrap_or(policy(spec)) {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn rule_matches(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else { return false };
    let listed = codes.values.iter().flatten().any(|v| *v == code);
    if codes.operator == "NotIn" { !listed } else { listed }
}

/// A normal init container is retried unless the pod says Never.
fn init_restarts(spec: &PodSpec, c: &Container, code: i32) -> bool {
    if c.restart_policy.is_some() || c.restart_policy_rules.is_some() {
        return should_restart(spec, c, code);
    }
    policy(spec) != "Never"
}

/// What to do now.
pub fn decide(input: &Inputs<'_>) -> Plan {
    let Some(spec) = &input.pod.spec else { return Plan::default() };
    if let Some(plan) = sandbox_plan(spec, input) {
        return plan;
    }
    let mut plan = Plan::default();
    ephemeral(spec, input, &mut plan);
    let initialized = inits(spec, input, &mut plan);
    if initialized == InitState::Done {
        regulars(spec, input, &mut plan);
    }
    if initialized == InitState::Failed {
        plan.kill_pod = input.view.any_running() || input.view.ready_sandbox().is_some();
        plan.start.clear();
        plan.kill.clear();
    }
    plan
}

/// A plan when the sandbox has to be made (anew) or taken down.
fn sandbox_plan(spec: &PodSpec, input: &Inputs<'_>) -> Option<Plan> {
    let view = input.view;
    let ready = view.sandboxes.iter().filter(|s| s.ready).count();
    let newest = view.sandboxes.first();
    let host = spec.host_network == Some(true);
    let usable = newest.is_some_and(|s| s.ready && s.host_network == host && (host || !s.ips.is_empty()));
    if usable && ready == 1 {
        return None;
    }
    let attempt = newest.map_or(0, |s| s.attempt + 1);
    let kill_pod = !view.sandboxes.is_empty() && (ready > 0 || view.any_running());
    let nothing = Plan { kill_pod, ..Plan::default() };
    // A pod that shall never restart gets no second sandbox once something of it ran.
    if policy(spec) == "Never" && attempt > 0 && !view.containers.is_empty() && !rules_restart(spec, view) {
        return Some(nothing);
    }
    let start = first_starts(spec, view);
    if start.is_empty() && newest.is_some() {
        return Some(nothing);
    }
    Some(Plan { kill_pod, create_sandbox: Some(attempt), kill: Vec::new(), start })
}

fn rules_restart(spec: &PodSpec, view: &PodView) -> bool {
    spec.containers.iter().any(|c| {
        let ended = view.container(&c.name).filter(|s| s.state == ContainerState::Exited);
        ended.is_some_and(|s| should_restart(spec, c, s.exit_code))
    })
}

/// In a new sandbox: the first init container, or all containers that are not done for good.
fn first_starts(spec: &PodSpec, view: &PodView) -> Vec<Start> {
    let remaining: Vec<usize> = (0..spec.containers.len())
        .filter(|i| {
            let Some(c) = spec.containers.get(*i) else { return false };
            match view.container(&c.name) {
                Some(s) if s.state == ContainerState::Exited => should_restart(spec, c, s.exit_code),
                _ => true,
            }
        })
        .collect();
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    if remaining.is_empty() {
        return Vec::new();
    }
    if !inits.is_empty() {
        return vec![Start { kind: Kind::Init, index: 0 }];
    }
    remaining.into_iter().map(|index| Start { kind: Kind::Regular, index }).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InitState {
    Done,
    Waiting,
    Failed,
}

/// Newest instance of a container within the current sandbox.
fn current<'a>(view: &'a PodView, name: &str) -> Option<&'a RuntimeContainer> {
    let sandbox = view.sandboxes.first().map(|s| s.id.as_str())?;
    view.container(name).filter(|c| c.sandbox_id == sandbox)
}

/// True once a regular container has been made in this sandbox: init containers are over then.
pub fn past_init(spec: &PodSpec, view: &PodView) -> bool {
    spec.containers.iter().any(|c| current(view, &c.name).is_some())
}

fn inits(spec: &PodSpec, input: &Inputs<'_>, plan: &mut Plan) -> InitState {
    let list = spec.init_containers.as_deref().unwrap_or_default();
    let past = past_init(spec, input.view);
    let all_regular_ended = past && regulars_done(spec, input.view);
    for (index, c) in list.iter().enumerate() {
        let state = current(input.view, &c.name);
        if is_sidecar(c) {
            if all_regular_ended {
                continue;
            }
            let started = sidecar(spec, input, index, c, state, plan);
            if !past && !started {
                return InitState::Waiting;
            }
            continue;
        }
        if past {
            continue;
        }
        match state {
            None => {
                plan.start.push(Start { kind: Kind::Init, index });
                return InitState::Waiting;
            }
            Some(s) if s.state == ContainerState::Exited && s.exit_code == 0 => {}
            Some(s) if s.state == ContainerState::Exited => {
                if !init_restarts(spec, c, s.exit_code) {
                    return InitState::Failed;
                }
                plan.start.push(Start { kind: Kind::Init, index });
                return InitState::Waiting;
            }
            Some(s) if s.state == ContainerState::Running => {
                kill_if_changed(c, s, plan);
                return InitState::Waiting;
            }
            Some(_) => {
                plan.start.push(Start { kind: Kind::Init, index });
                return InitState::Waiting;
            }
        }
    }
    InitState::Done
}

/// Looks after one sidecar; true when it counts as started.
fn sidecar(
    _spec: &PodSpec,
    input: &Inputs<'_>,
    index: usize,
    c: &Container,
    state: Option<&RuntimeContainer>,
    plan: &mut Plan,
) -> bool {
    match state {
        Some(s) if s.state == ContainerState::Running => {
            if kill_if_changed(c, s, plan) || kill_if_sick(c, s, input.probes, plan) {
                return false;
            }
            c.startup_probe.is_none() || input.probes.started(&s.id) == Some(true)
        }
        _ => {
            plan.start.push(Start { kind: Kind::Init, index });
            false
        }
    }
}

/// Every regular container has ended and none will be started again.
fn regulars_done(spec: &PodSpec, view: &PodView) -> bool {
    spec.containers.iter().all(|c| {
        current(view, &c.name)
            .is_some_and(|s| s.state == ContainerState::Exited && !should_restart(spec, c, s.exit_code))
    })
}

fn regulars(spec: &PodSpec, input: &Inputs<'_>, plan: &mut Plan) {
    let mut alive = false;
    for (index, c) in spec.containers.iter().enumerate() {
        let start = Start { kind: Kind::Regular, index };
        match current(input.view, &c.name) {
            None => {
                // It may have ended for good in an older sandbox.
                let ended = input.view.container(&c.name).filter(|s| s.state == ContainerState::Exited);
                if ended.is_none_or(|s| should_restart(spec, c, s.exit_code)) {
                    plan.start.push(start);
                    alive = true;
                }
            }
            Some(s) if s.state == ContainerState::Running => {
                alive = true;
                if !kill_if_changed(c, s, plan) {
                    kill_if_sick(c, s, input.probes, plan);
                }
            }
            Some(s) if s.state == ContainerState::Exited => {
                if should_restart(spec, c, s.exit_code) {
                    plan.start.push(start);
                    alive = true;
                }
            }
            Some(_) => {
                plan.start.push(start);
                alive = true;
            }
        }
    }
    if !alive {
        plan.kill_pod = true;
        plan.start.clear();
        plan.kill.clear();
    }
}

fn kill_if_changed(c: &Container, s: &RuntimeContainer, plan: &mut Plan) -> bool {
    if s.hash.is_empty() || s.hash == container_hash(c) {
        return false;
    }
    let message = format!("Container {} definition changed", c.name);
    plan.kill.push(Kill { id: s.id.clone(), name: c.name.clone(), message, grace: None });
    true
}

fn kill_if_sick(c: &Container, s: &RuntimeContainer, probes: &Results, plan: &mut Plan) -> bool {
    let (message, probe) = if probes.live(&s.id) == Some(false) {
        (format!("Container {} failed liveness probe", c.name), &c.liveness_probe)
    } else if probes.started(&s.id) == Some(false) {
        (format!("Container {} failed startup probe", c.name), &c.startup_probe)
    } else {
        return false;
    };
    let grace = probe.as_ref().and_then(|p| p.termination_grace_period_seconds);
    plan.kill.push(Kill { id: s.id.clone(), name: c.name.clone(), message, grace });
    true
}

fn ephemeral(spec: &PodSpec, input: &Inputs<'_>, plan: &mut Plan) {
    for (index, c) in spec.ephemeral_containers.iter().flatten().enumerate() {
        if input.view.container(&c.name).is_none() {
            plan.start.push(Start { kind: Kind::Ephemeral, index });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::table::RuntimeSandbox;

    fn pod(spec: &str) -> Pod {
        serde_yaml::from_str(&format!("metadata: {{name: p, namespace: n, uid: u}}\nspec: {spec}")).unwrap()
    }

    /// View from text: `s` a ready sandbox, `S` one that is not, `name+` running, `name=N` exited with N; newest first.
    fn view(pod: &Pod, text: &str) -> PodView {
        let mut v = PodView::default();
        let spec = pod.spec.as_ref().unwrap();
        for word in text.split_whitespace() {
            if word.eq_ignore_ascii_case("s") {
                v.sandboxes.push(RuntimeSandbox {
                    id: format!("s{}", v.sandboxes.len()),
                    ready: word == "s",
                    ips: vec!["10.0.0.1".into()],
                    ..Default::default()
                });
                continue;
            }
            let (name, state, code) = match word.split_once('=') {
                Some((n, c)) => (n, ContainerState::Exited, c.parse().unwrap()),
                None => (word.trim_end_matches('+'), ContainerState::Running, 0),
            };
            let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            v.containers.push(RuntimeContainer {
                name: name.into(),
                id: format!("id-{name}"),
                sandbox_id: "s0".into(),
                state,
                exit_code: code,
                hash: all.filter(|c| c.name == name).map(container_hash).next().unwrap_or_default(),
                ..Default::default()
            });
        }
        v
    }

    fn show(plan: &Plan) -> String {
        let mut out = Vec::new();
        if plan.kill_pod {
            out.push("kill-pod".into());
        }
        out.extend(plan.create_sandbox.map(|a| format!("sandbox{a}")));
        out.extend(plan.kill.iter().map(|k| format!("kill {}", k.name)));
        out.extend(plan.start.iter().map(|s| format!("{:?}{}", s.kind, s.index).to_lowercase()));
        out.join(" ")
    }

    #[test]
    fn table() {
        let two = "{containers: [{name: a, image: i}, {name: b, image: i}]}";
        let never = "{restartPolicy: Never, containers: [{name: a, image: i}]}";
        let onf = "{restartPolicy: OnFailure, containers: [{name: a, image: i}]}";
        let init =
            "{initContainers: [{name: x, image: i}, {name: y, image: i}], containers: [{name: a, image: i}]}";
        let initn = "{restartPolicy: Never, initContainers: [{name: x, image: i}], containers: [{name: a, image: i}]}";
        let side = "{restartPolicy: Never, initContainers: [{name: x, image: i, restartPolicy: Always}, {name: y, image: i}], containers: [{name: a, image: i}]}";
        for (spec, state, want) in [
            (two, "", "sandbox0 regular0 regular1"),
            (two, "s", "regular0 regular1"),
            (two, "s a+", "regular1"),
            (two, "s a+ b+", ""),
            (two, "s a=1 b+", "regular0"),
            (two, "S a=1 b=1", "sandbox1 regular0 regular1"),
            (two, "S", "sandbox1 regular0 regular1"),
            (two, "s s a+", "kill-pod sandbox1 regular0 regular1"),
            (never, "s a=1", "kill-pod"),
            (never, "S a=1", ""),
            (never, "S", "sandbox1 regular0"),
            (onf, "s a=0", "kill-pod"),
            (onf, "S a=0", ""),
            (onf, "s a=3", "regular0"),
            (init, "", "sandbox0 init0"),
            (init, "s x+", ""),
            (init, "s x=0", "init1"),
            (init, "s x=1", "init0"),
            (init, "s x=0 y=0", "regular0"),
            (init, "s x=0 y=0 a+", ""),
            (init, "s a+", ""),
            (initn, "s x=1", "kill-pod"),
            (initn, "S x=1", ""),
            (side, "s", "init0"),
            (side, "s x+", "init1"),
            (side, "s x+ y=0", "regular0"),
            (side, "s x=1 y=0 a+", "init0"),
            (side, "s x+ y=0 a=0", "kill-pod"),
        ] {
            let p = pod(spec);
            let v = view(&p, state);
            let plan = decide(&Inputs { pod: &p, view: &v, probes: &Results::default() });
            assert_eq!(show(&plan), want, "{spec} with {state:?}");
        }
    }

    #[test]
    fn sick_and_changed_containers_are_stopped() {
        let p = pod("{containers: [{name: a, image: i, livenessProbe: {terminationGracePeriodSeconds: 3}}]}");
        let v = view(&p, "s a+");
        let probes = Results::default();
        probes.set("id-a", crate::probes::ProbeKind::Liveness, false);
        let plan = decide(&Inputs { pod: &p, view: &v, probes: &probes });
        assert_eq!(plan.kill[0].message, "Container a failed liveness probe");
        assert_eq!(plan.kill[0].grace, Some(3));
        let changed = pod("{containers: [{name: a, image: other}]}");
        let plan = decide(&Inputs { pod: &changed, view: &v, probes: &Results::default() });
        assert_eq!(plan.kill[0].message, "Container a definition changed");
    }

    #[test]
    fn rules_by_exit_code() {
        let p = pod(
            "{restartPolicy: Never, containers: [{name: a, image: i, restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]}]}",
        );
        let spec = p.spec.as_ref().unwrap();
        assert!(should_restart(spec, &spec.containers[0], 42));
        assert!(!should_restart(spec, &spec.containers[0], 1));
    }
}
