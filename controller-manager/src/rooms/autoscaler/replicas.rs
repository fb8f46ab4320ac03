//! How many replicas one metric asks for. Pure; the rules are upstream's.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use machinery::quantity::Quantity;

use super::Settings;
use crate::kit::meta::name;
use crate::kit::pods::{condition, phase, ready};

/// What a pod used: thousandths of the unit, measured over `window` up to `at`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub value: i64,
    pub at: Timestamp,
    pub window: SignedDuration,
}

/// Samples by the name of the pod.
pub type Samples = BTreeMap<String, Sample>;

/// How far the ratio of use to target may be from one without anything being done.
#[derive(Clone, Copy, Debug)]
pub struct Tolerances {
    pub up: f64,
    pub down: f64,
}

impl Tolerances {
    /// Whether a ratio is close enough to one.
    pub fn hold(&self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// What one metric comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    pub replicas: i32,
    /// Percent of what was requested, for targets of that kind.
    pub utilization: Option<i32>,
    /// The value for the status, in thousandths.
    pub value: i64,
}

/// What is known beside the metric.
pub struct Scene<'a> {
    pub namespace: &'a str,
    pub pods: &'a [&'a Pod],
    /// Replicas the target is set to.
    pub current: i32,
    /// Replicas the target says it has.
    pub reported: i32,
    pub tolerances: Tolerances,
    pub settings: &'a Settings,
    pub now: Timestamp,
}

/// A resource of pods, or of one container in each.
pub struct Resource<'a> {
    pub name: &'a str,
    pub container: Option<&'a str>,
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";

#[derive(Default)]
struct Groups<'a> {
    ready: usize,
    unready: BTreeSet<&'a str>,
    missing: BTreeSet<&'a str>,
    ignored: BTreeSet<&'a str>,
}

/// Percent of the requests as the target.
pub fn by_utilization(
    scene: &Scene<'_>,
    resource: &Resource<'_>,
    samples: Samples,
    target: i32,
) -> Result<Proposal, String> {
    // Requests are looked at only once there is something to measure against them.
    let requests = |pods| requests(pods, resource);
    let fallback = i64::from(target.max(100));
    by_ratio(scene, resource.name, samples, |used| {
        let requests = requests(scene.pods)?;
        let measured = utilization(used, &requests, target)?;
        Ok((measured, Box::new(move |pod: &str| requests.get(pod).copied().unwrap_or(0) * fallback / 100)))
    })
}

/// An average over the pods as the target. `resource` is empty for metrics that are none.
pub fn by_average(
    scene: &Scene<'_>,
    resource: &str,
    samples: Samples,
    target: i64,
) -> Result<Proposal, String> {
    by_ratio(scene, resource, samples, |used| {
        let mean = used.values().map(|s| s.value).sum::<i64>() / (used.len().max(1) as i64);
        let measured = Measured { ratio: mean as f64 / target as f64, utilization: None, value: mean };
        Ok((measured, Box::new(move |_: &str| target)))
    })
}

struct Measured {
    ratio: f64,
    utilization: Option<i32>,
    value: i64,
}

/// What a pod without a sample is taken to use when fewer pods seem enough.
type Fallback = Box<dyn Fn(&str) -> i64>;

fn by_ratio(
    scene: &Scene<'_>,
    resource: &str,
    mut samples: Samples,
    measure: impl Fn(&Samples) -> Result<(Measured, Fallback), String>,
) -> Result<Proposal, String> {
    if scene.pods.is_empty() {
        return Err(NO_PODS.into());
    }
    let groups = group(scene, resource, &samples);
    samples.retain(|pod, _| !groups.ignored.contains(pod.as_str()) && !groups.unready.contains(pod.as_str()));
    if samples.is_empty() {
        return Err(NO_METRICS.into());
    }
    let (measured, fallback) = measure(&samples)?;
    let propose =
        |replicas: i32| Proposal { replicas, utilization: measured.utilization, value: measured.value };
    let (ratio, holds) = (measured.ratio, |ratio: f64| scene.tolerances.hold(ratio));
    let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        let replicas = if holds(ratio) { scene.current } else { ceil(ratio * groups.ready as f64) };
        return Ok(propose(replicas));
    }
    fill(&mut samples, &groups, ratio, up_with_unready, &fallback);
    let again = measure(&samples)?.0.ratio;
    if holds(again) || (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0) {
        return Ok(propose(scene.current));
    }
    let replicas = ceil(again * samples.len() as f64);
    // Guessed samples must not turn the direction.
    let turned = (again < 1.0 && replicas > scene.current) || (again > 1.0 && replicas < scene.current);
    Ok(propose(if turned { scene.current } else { replicas }))
}

/// Guesses what is not known, always against the direction of the change.
fn fill(samples: &mut Samples, groups: &Groups<'_>, ratio: f64, unready: bool, fallback: &Fallback) {
    let guess = |value| Sample { value, at: Timestamp::UNIX_EPOCH, window: SignedDuration::ZERO };
    for pod in &groups.missing {
        if ratio < 1.0 {
            samples.insert((*pod).into(), guess(fallback(pod)));
        } else if ratio > 1.0 {
            samples.insert((*pod).into(), guess(0));
        }
    }
    for pod in groups.unready.iter().filter(|_| unready) {
        samples.insert((*pod).into(), guess(0));
    }
}

fn ceil(value: f64) -> i32 {
    value.ceil() as i32
}

fn group<'a>(scene: &Scene<'a>, resource: &str, samples: &Samples) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in scene.pods {
        let id = name(&pod.metadata);
        if pod.metadata.deletion_timestamp.is_some() || phase(pod) == "Failed" {
            groups.ignored.insert(id);
        } else if phase(pod) == "Pending" {
            groups.unready.insert(id);
        } else {
            match samples.get(id) {
                None => drop(groups.missing.insert(id)),
                Some(sample) if resource == "cpu" && starting(scene, pod, sample) => {
                    groups.unready.insert(id);
                }
                Some(_) => groups.ready += 1,
            }
        }
    }
    groups
}

/// Whether a pod's use of CPU says nothing about its share of the load yet.
fn starting(scene: &Scene<'_>, pod: &Pod, sample: &Sample) -> bool {
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref());
    let (Some(ready), Some(started)) = (condition(pod, "Ready"), started) else { return true };
    let turned = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    if started.0 + scene.settings.cpu_initialization > scene.now {
        ready.status == "False" || sample.at < turned + sample.window
    } else {
        ready.status == "False" && started.0 + scene.settings.initial_readiness > turned
    }
}

/// What each pod requests of a resource, in thousandths.
fn requests(pods: &[&Pod], resource: &Resource<'_>) -> Result<BTreeMap<String, i64>, String> {
    pods.iter().map(|pod| Ok((name(&pod.metadata).to_string(), request(pod, resource)?))).collect()
}

fn request(pod: &Pod, resource: &Resource<'_>) -> Result<i64, String> {
    let Some(spec) = &pod.spec else { return Ok(0) };
    if resource.container.is_none()
        && let Some(whole) = spec.resources.as_ref().and_then(|r| requested(r, resource.name))
    {
        return Ok(whole);
    }
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut sum = 0_i64;
    for container in spec.containers.iter().chain(sidecars) {
        if resource.container.is_some_and(|wanted| wanted != container.name) {
            continue;
        }
        let asked = container.resources.as_ref().and_then(|r| requested(r, resource.name));
        let missing = || {
            let (what, pod) = (resource.name, name(&pod.metadata));
            format!("missing request for {what} in container {} of Pod {pod}", container.name)
        };
        sum = sum.saturating_add(asked.ok_or_else(missing)?);
    }
    Ok(sum)
}

fn requested(resources: &ResourceRequirements, name: &str) -> Option<i64> {
    Quantity::parse(&resources.requests.as_ref()?.get(name)?.0).ok().map(|q| q.milli_value())
}

fn utilization(samples: &Samples, requests: &BTreeMap<String, i64>, target: i32) -> Result<Measured, String> {
    let known = samples.iter().filter_map(|(pod, s)| Some((s.value, *requests.get(pod)?)));
    let (used, asked, count) = known.fold((0_i64, 0_i64, 0_i64), |(u, r, n), (used, asked)| {
        (u.saturating_add(used), r.saturating_add(asked), n + 1)
    });
    if asked == 0 {
        return Err("no metrics returned matched known pods".into());
    }
    // Whole percent first: upstream's arithmetic, which users see in the status.
    let percent = i32::try_from(used.saturating_mul(100) / asked).unwrap_or(i32::MAX);
    let ratio = f64::from(percent) / f64::from(target);
    Ok(Measured { ratio, utilization: Some(percent), value: used / count })
}

/// One value for the whole target, as against a value wished for.
pub fn by_value(scene: &Scene<'_>, used: i64, target: i64) -> Result<Proposal, String> {
    let ratio = used as f64 / target as f64;
    let replicas = if scene.current == 0 {
        ceil(ratio)
    } else if scene.tolerances.hold(ratio) {
        scene.current
    } else {
        ceil(ratio * ready_pods(scene)? as f64)
    };
    Ok(Proposal { replicas, utilization: None, value: used })
}

fn ready_pods(scene: &Scene<'_>) -> Result<usize, String> {
    if scene.pods.is_empty() {
        return Err(format!("unable to calculate ready pods: {NO_PODS}"));
    }
    Ok(scene.pods.iter().filter(|p| phase(p) == "Running" && ready(p)).count())
}

/// One value shared among the replicas, as against an average wished for.
pub fn by_share(scene: &Scene<'_>, used: i64, target: i64) -> Proposal {
    let count = f64::from(scene.reported);
    let ratio = used as f64 / (target as f64 * count);
    let replicas =
        if scene.tolerances.hold(ratio) { scene.reported } else { ceil(used as f64 / target as f64) };
    Proposal { replicas, utilization: None, value: (used as f64 / count.max(1.0)).ceil() as i64 }
}
