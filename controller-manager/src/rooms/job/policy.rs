//! Pod failure policy and success policy.

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    SuccessPolicyRule,
};
use k8s_openapi::api::core::v1::Pod;

use super::indexes::Indexes;
use super::pods::{all_statuses, failed};
use crate::kit::pods::key;

/// What the first matching rule does with a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No rule matches, or one that says so: the failure counts.
    Count,
    /// The failure does not count.
    Ignore,
    /// The index has failed for good.
    FailIndex,
    /// The Job fails, with these words.
    FailJob(String),
}

impl Verdict {
    /// Whether the failure is counted.
    pub fn counts(&self) -> bool {
        *self != Verdict::Ignore
    }
}

/// The verdict of the Job's policy on a failed pod.
pub fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    match matched(spec, pod) {
        Some((_, "Ignore", _)) => Verdict::Ignore,
        Some((_, "FailIndex", _)) => Verdict::FailIndex,
        Some((n, "FailJob", what)) => Verdict::FailJob(format!("{what} matching FailJob rule at index {n}")),
        _ => Verdict::Count,
    }
}

/// The action of the rule a failed pod meets, if there is one.
pub fn action(spec: &JobSpec, pod: &Pod) -> Option<&'static str> {
    matched(spec, pod).map(|(_, action, _)| action)
}

/// The first rule a failed pod meets: its place, its action, and what met it.
fn matched(spec: &JobSpec, pod: &Pod) -> Option<(usize, &'static str, String)> {
    const ACTIONS: [&str; 4] = ["Ignore", "FailIndex", "FailJob", "Count"];
    let rules = spec.pod_failure_policy.iter().flat_map(|p| p.rules.iter());
    rules.enumerate().find_map(|(n, rule)| {
        let what = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), _) => exit_code(pod, codes),
            (None, Some(patterns)) => condition(pod, patterns),
            (None, None) => None,
        };
        let action = ACTIONS.into_iter().find(|a| *a == rule.action).unwrap_or("Count");
        what.map(|what| (n, action, what))
    })
}

fn exit_code(pod: &Pod, codes: &PodFailurePolicyOnExitCodesRequirement) -> Option<String> {
    let wanted = |name: &str| codes.container_name.as_deref().is_none_or(|c| c == name);
    all_statuses(pod).filter(|c| wanted(&c.name)).find_map(|c| {
        let code = c.state.as_ref()?.terminated.as_ref()?.exit_code;
        let listed = codes.values.contains(&code);
        let hit = code != 0 && if codes.operator == "In" { listed } else { !listed };
        hit.then(|| format!("Container {} for pod {} failed with exit code {code}", c.name, key(pod)))
    })
}

fn condition(pod: &Pod, patterns: &[PodFailurePolicyOnPodConditionsPattern]) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let fits = |p: &PodFailurePolicyOnPodConditionsPattern, kind: &str, status: &str| {
        p.type_ == kind && p.status.as_deref().unwrap_or("True") == status
    };
    let hit = conditions.iter().find(|c| patterns.iter().any(|p| fits(p, &c.type_, &c.status)))?;
    Some(format!("Pod {} has condition {}", key(pod), hit.type_))
}

/// The words of the first failed pod whose rule fails the Job.
pub fn fails_job<'a>(spec: &JobSpec, pods: impl IntoIterator<Item = &'a Pod>) -> Option<String> {
    spec.pod_failure_policy.as_ref()?;
    pods.into_iter().filter(|p| failed(p, spec)).find_map(|p| match judge(spec, p) {
        Verdict::FailJob(message) => Some(message),
        _ => None,
    })
}

/// The first rule of the success policy that the succeeded indexes meet.
pub fn success(spec: &JobSpec, done: &Indexes) -> Option<usize> {
    let rules = &spec.success_policy.as_ref()?.rules;
    if done.is_empty() {
        return None;
    }
    rules.iter().position(|rule| met(rule, spec.completions.unwrap_or(0), done))
}

fn met(rule: &SuccessPolicyRule, completions: i32, done: &Indexes) -> bool {
    match (&rule.succeeded_indexes, rule.succeeded_count) {
        (Some(text), count) => {
            let wanted = Indexes::parse(text, completions);
            done.common(&wanted) >= count.unwrap_or_else(|| wanted.total())
        }
        (None, Some(count)) => done.total() >= count,
        (None, None) => false,
    }
}
