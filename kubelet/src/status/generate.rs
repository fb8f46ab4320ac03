//! A pod's status from its spec, the runtime's view, the probes and the last errors. Pure.

use super::conditions::conditions;
use super::containers::statuses;
use super::phase::final_phase;
use crate::pods::decide::Kind;
use crate::pods::resources;
use crate::pods::table::PodView;
use crate::probes::Results;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodSpec, PodStatus};
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

pub(super) fn time(ns: i64) -> Option<Time> {
    (ns > 0).then(|| seconds(ns)).flatten()
}

/// API times have seconds.
pub(super) fn seconds(ns: i64) -> Option<Time> {
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

pub(super) fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The status that says the pod is over: ours, or the API's when somebody else has said so.
pub(super) fn ended<'a>(input: &'a Inputs<'_>) -> Option<&'a PodStatus> {
    let over = |s: &&PodStatus| matches!(s.phase.as_deref(), Some("Failed" | "Succeeded"));
    Some(input.previous).filter(over).or(input.pod.status.as_ref().filter(over))
}

/// Reason and message of a pod that had already failed stay.
pub(super) fn sticky(input: &Inputs<'_>, of: impl Fn(&PodStatus) -> Option<String>) -> Option<String> {
    ended(input).and_then(of)
}

pub(super) fn start_time(input: &Inputs<'_>) -> Option<Time> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::table::{ContainerState as State, RuntimeContainer, RuntimeSandbox};
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
