//! Requests, limits, QoS class and what follows from them: shares, quota, oom_score_adj.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// A list of resources in base units: milli for cpu, whole units otherwise.
pub type Amounts = BTreeMap<String, i64>;

/// QoS classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// limits equal requests for cpu and memory everywhere
    Guaranteed,
    /// something is set
    Burstable,
    /// nothing is set
    BestEffort,
}

impl Qos {
    /// As in status.qosClass.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Quantity in thousandths, rounded up; None when it is no quantity.
pub fn parse_milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+')).unwrap_or(text.len());
    let (number, suffix) = (text.get(..end)?, text.get(end..)?);
    let (int, frac) = number.split_once('.').unwrap_or((number, ""));
    let negative = int.starts_with('-');
    let digits: i128 = format!("{}{frac}", int.trim_start_matches(['-', '+'])).parse().ok()?;
    let denominator = 10i128.checked_pow(u32::try_from(frac.len()).ok()?)?;
    let (up, down) = scale(suffix)?;
    let numerator = digits.checked_mul(up)?.checked_mul(1000)?;
    let divisor = denominator.checked_mul(down)?;
    let value = numerator.checked_add(divisor - 1)? / divisor;
    Some(if negative { -value } else { value })
}

/// Factor of a suffix as (numerator, denominator).
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

/// Milli value, saturating.
pub fn milli(q: &Quantity) -> i64 {
    parse_milli(&q.0).map_or(0, |v| i64::try_from(v).unwrap_or(i64::MAX))
}

/// Whole value, rounded up, saturating.
pub fn value(q: &Quantity) -> i64 {
    parse_milli(&q.0).map_or(0, |v| i64::try_from((v + 999).div_euclid(1000)).unwrap_or(i64::MAX))
}

/// Value in the base unit of the resource: milli for cpu, whole for others.
pub fn base(name: &str, q: &Quantity) -> i64 {
    if name == "cpu" { milli(q) } else { value(q) }
}

fn amounts(list: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    list.into_iter().flatten().map(|(k, v)| (k.clone(), base(k, v))).collect()
}

/// Requests of one container.
pub fn requests(r: Option<&ResourceRequirements>) -> Amounts {
    amounts(r.and_then(|r| r.requests.as_ref()))
}

/// Limits of one container.
pub fn limits(r: Option<&ResourceRequirements>) -> Amounts {
    amounts(r.and_then(|r| r.limits.as_ref()))
}

fn add(into: &mut Amounts, other: &Amounts) {
    for (k, v) in other {
        let slot = into.entry(k.clone()).or_default();
        *slot = slot.saturating_add(*v);
    }
}

fn max(into: &mut Amounts, other: &Amounts) {
    for (k, v) in other {
        let slot = into.entry(k.clone()).or_default();
        *slot = (*slot).max(*v);
    }
}

/// Init container that stays (restartPolicy Always).
pub fn is_sidecar(c: &Container) -> bool {
    c.restart_policy.as_deref() == Some("Always")
}

/// What the pod needs in all: containers and sidecars summed, init containers by their highest point, overhead on top.
fn aggregate(
    spec: &PodSpec,
    of: impl Fn(&Container) -> Amounts,
    pod_level: Amounts,
    with_overhead: bool,
) -> Amounts {
    let mut total = Amounts::new();
    for c in &spec.containers {
        add(&mut total, &of(c));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for c in spec.init_containers.iter().flatten() {
        let own = of(c);
        if is_sidecar(c) {
            add(&mut sidecars, &own);
            max(&mut peak, &sidecars);
        } else {
            let mut during = sidecars.clone();
            add(&mut during, &own);
            max(&mut peak, &during);
        }
    }
    add(&mut total, &sidecars);
    max(&mut total, &peak);
    total.extend(pod_level);
    if with_overhead {
        add(&mut total, &amounts(spec.overhead.as_ref()));
    }
    total
}

/// Effective requests of a pod.
pub fn pod_requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    aggregate(spec, |c| requests(c.resources.as_ref()), requests(spec.resources.as_ref()), true)
}

/// Effective limits of a pod; overhead is added only where a limit exists.
pub fn pod_limits(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let mut total = aggregate(spec, |c| limits(c.resources.as_ref()), limits(spec.resources.as_ref()), false);
    for (k, v) in amounts(spec.overhead.as_ref()) {
        if let Some(slot) = total.get_mut(&k) {
            *slot += v;
        }
    }
    total
}

/// True if every container has a limit for `resource` (or the pod has one).
pub fn all_limited(spec: &PodSpec, resource: &str) -> bool {
    let limited = |r: Option<&ResourceRequirements>| limits(r).get(resource).is_some_and(|v| *v > 0);
    limited(spec.resources.as_ref())
        || spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .all(|c| limited(c.resources.as_ref()))
}

/// QoS class of a pod, from its spec.
pub fn qos(pod: &Pod) -> Qos {
    let Some(spec) = &pod.spec else { return Qos::BestEffort };
    let own: Vec<&ResourceRequirements> = match &spec.resources {
        Some(r) if r.requests.is_some() || r.limits.is_some() => vec![r],
        _ => Vec::new(),
    };
    if !own.is_empty() {
        return classify(own.into_iter().map(Some));
    }
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    classify(all.map(|c| c.resources.as_ref()))
}

fn classify<'a>(all: impl Iterator<Item = Option<&'a ResourceRequirements>>) -> Qos {
    let (mut any, mut guaranteed) = (false, true);
    for r in all {
        let (requests, limits) = (requests(r), limits(r));
        for name in ["cpu", "memory"] {
            let request = requests.get(name).copied().unwrap_or(0);
            let limit = limits.get(name).copied().unwrap_or(0);
            any |= request > 0 || limit > 0;
            guaranteed &= limit > 0 && (request == 0 || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// cpu.shares of a number of millicores.
pub fn shares(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// CFS quota in microseconds for a limit; 0 means none.
pub fn quota(milli_limit: i64, period_us: i64) -> i64 {
    if milli_limit <= 0 {
        return 0;
    }
    (milli_limit.max(10).saturating_mul(period_us) / 1000).max(1000)
}

/// cgroup v2 weight of v1 shares, as the kubelet writes it for pods and QoS groups.
pub fn weight(shares: i64) -> i64 {
    (1 + (shares - 2) * 9999 / 262_142).clamp(1, 10_000)
}

/// Static, mirror, or of a system priority.
pub fn is_critical(pod: &Pod) -> bool {
    let annotated = pod.metadata.annotations.as_ref().is_some_and(|a| {
        a.contains_key("kubernetes.io/config.mirror")
            || a.get("kubernetes.io/config.source").is_some_and(|s| s != "api")
    });
    annotated || pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|p| p >= 2_000_000_000)
}

/// oom_score_adj of a container on a node with `node_memory` bytes.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    let Some(spec) = &pod.spec else { return 1000 };
    let node_critical = spec.priority_class_name.as_deref() == Some("system-node-critical");
    match qos(pod) {
        _ if node_critical && is_critical(pod) => -997,
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let own = burstable_score(container, node_memory);
            if !is_sidecar(container) {
                return own;
            }
            spec.containers.iter().map(|c| burstable_score(c, node_memory)).min().map_or(own, |m| own.min(m))
        }
    }
}

fn burstable_score(container: &Container, node_memory: i64) -> i64 {
    let request = requests(container.resources.as_ref()).get("memory").copied().unwrap_or(0);
    let share = if node_memory > 0 { i128::from(request) * 1000 / i128::from(node_memory) } else { 0 };
    (1000 - i64::try_from(share).unwrap_or(1000)).clamp(3, 999)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(yaml: &str) -> Pod {
        serde_yaml::from_str(&format!("metadata: {{name: p}}\nspec: {yaml}")).unwrap()
    }

    #[test]
    fn quantities() {
        for (text, want) in [
            ("100m", 100),
            ("1", 1000),
            ("1.5", 1500),
            ("1Ki", 1_024_000),
            ("2e3", 2_000_000),
            ("1u", 1),
            ("0.1m", 1),
        ] {
            assert_eq!(parse_milli(text), Some(want), "{text}");
        }
        assert_eq!(parse_milli("x"), None);
        assert_eq!(value(&Quantity("1500m".into())), 2);
    }

    #[test]
    fn qos_classes() {
        for (spec, want) in [
            ("{containers: [{name: a}]}", Qos::BestEffort),
            ("{containers: [{name: a, resources: {requests: {cpu: 1}}}]}", Qos::Burstable),
            ("{containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}]}", Qos::Guaranteed),
            (
                "{containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}, {name: b}]}",
                Qos::Burstable,
            ),
            (
                "{containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}}]}",
                Qos::Burstable,
            ),
        ] {
            assert_eq!(qos(&pod(spec)), want, "{spec}");
        }
    }

    #[test]
    fn requests_take_the_init_peak_and_keep_sidecars() {
        let p = pod(
            "{overhead: {cpu: 10m}, initContainers: [{name: s, restartPolicy: Always, resources: {requests: {cpu: 100m}}}, {name: i, resources: {requests: {cpu: 1}}}], containers: [{name: a, resources: {requests: {cpu: 200m}}}]}",
        );
        assert_eq!(pod_requests(&p)["cpu"], 1110);
    }

    #[test]
    fn shares_quota_weight() {
        assert_eq!((shares(1000), shares(0), shares(1), shares(i64::MAX / 2048)), (1024, 2, 2, 262_144));
        assert_eq!((quota(500, 100_000), quota(0, 100_000), quota(1, 100_000)), (50_000, 0, 1000));
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }

    #[test]
    fn scores() {
        let gib = 1i64 << 30;
        let b = pod("{containers: [{name: a, resources: {requests: {memory: 1Gi}}}]}");
        let c = &b.spec.as_ref().unwrap().containers[0];
        assert_eq!(oom_score_adj(&b, c, 4 * gib), 750);
        let be = pod("{containers: [{name: a}]}");
        assert_eq!(oom_score_adj(&be, &be.spec.as_ref().unwrap().containers[0], 4 * gib), 1000);
    }
}
