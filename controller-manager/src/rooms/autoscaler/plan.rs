//! What an autoscaler does, from what was observed. Pure.

use std::time::Duration;

use control::events::Kind;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery::quantity::Quantity;

use super::Settings;
use super::behaviour::{Bounds, Memory, limit, stabilise};
use super::metrics::{Fault, Reading, judge};
use super::replicas::{Scene, Tolerances};
use crate::kit::meta::namespace;

/// The scale of what is autoscaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Replicas asked for.
    pub spec: i32,
    /// Replicas there are.
    pub status: i32,
    /// Of the pods, as text.
    pub selector: String,
}

/// What is seen of the pods and their metrics.
pub enum Look<'a> {
    /// It makes no difference: the number is out of bounds, or zero.
    NotNeeded,
    /// The scale names no selector.
    NoSelector,
    /// The selector cannot be read.
    BadSelector(String),
    /// Other autoscalers select the same pods; all of them by `namespace/name`, this one too.
    Shared(Vec<String>),
    /// The pods, and a reading for each metric.
    Pods { pods: Vec<&'a Pod>, readings: Vec<Result<Reading, String>> },
}

/// What is planned over.
pub struct Observed<'a> {
    pub scaler: &'a HorizontalPodAutoscaler,
    /// The scale, or why it cannot be had.
    pub target: Result<Target, String>,
    pub look: Look<'a>,
}

/// Now: by the calendar, and on a clock that only goes forward.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub wall: Timestamp,
    pub at: Duration,
}

/// An event of the autoscaler.
pub type Note = (Kind, &'static str, String);

/// A change of the number.
#[derive(Clone, Debug, PartialEq)]
pub struct Rescale {
    pub from: i32,
    pub to: i32,
    pub reason: String,
}

/// What follows.
#[derive(Debug)]
pub struct Decision {
    /// As it should read; [`Decision::done`] or [`Decision::refused`] completes it when there is a rescale.
    pub status: HorizontalPodAutoscalerStatus,
    pub events: Vec<Note>,
    pub rescale: Option<Rescale>,
    /// What the metrics asked for, before windows and limits.
    pub asked: Option<i32>,
    /// For each metric the change it asked for, or whether the fault is in the autoscaler's own text.
    pub judged: Vec<Result<i32, bool>>,
    /// What went wrong, if something did.
    pub error: Option<String>,
    /// Whether that was the autoscaler's own text.
    pub spec_error: bool,
    now: Timestamp,
}

/// Whether the number stands where metrics decide.
pub fn needs_look(scaler: &HorizontalPodAutoscaler, target: &Target) -> bool {
    let (min, max) = range(scaler);
    target.spec >= min && target.spec <= max && target.spec != 0
}

fn range(scaler: &HorizontalPodAutoscaler) -> (i32, i32) {
    (scaler.spec.min_replicas.unwrap_or(1), scaler.spec.max_replicas)
}

/// Decides.
pub fn plan(observed: &Observed<'_>, memory: &mut Memory, settings: &Settings, now: Moment) -> Decision {
    let mut decision = Decision::new(observed.scaler, now.wall);
    let target = match &observed.target {
        Ok(target) => target,
        Err(error) => {
            decision.warn("FailedGetScale", error.clone());
            let message = format!("the HPA controller was unable to get the target's current scale: {error}");
            decision.set("AbleToScale", false, "FailedGetScale", message);
            decision.error = Some(format!("failed to query scale subresource: {error}"));
            return decision;
        }
    };
    let able = "the HPA controller was able to get the target's current scale";
    decision.set("AbleToScale", true, "SucceededGetScale", able);
    memory.begin(target.spec, now.at);
    decision.status.current_replicas = Some(target.spec);
    decision.status.current_metrics = None;
    let (min, max) = range(observed.scaler);
    let current = target.spec;
    let (desired, reason) = if current == 0 && min != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        decision.set("ScalingActive", false, "ScalingDisabled", message);
        (0, String::new())
    } else if current > max {
        (max, "Current number of replicas above Spec.MaxReplicas".into())
    } else if current < min {
        (min, "Current number of replicas below Spec.MinReplicas".into())
    } else {
        match by_metrics(observed, target, memory, settings, now, &mut decision) {
            Some(found) => found,
            None => return decision,
        }
    };
    match desired == current {
        true => decision.status.desired_replicas = desired,
        false => decision.rescale = Some(Rescale { from: current, to: desired, reason }),
    }
    decision
}

/// The number by the metrics, with the reason for a change to it.
fn by_metrics(
    observed: &Observed<'_>,
    target: &Target,
    memory: &mut Memory,
    settings: &Settings,
    now: Moment,
    decision: &mut Decision,
) -> Option<(i32, String)> {
    let Some((pods, readings)) = pods_of(&observed.look, target, decision) else {
        let error = decision.error.clone().unwrap_or_default();
        decision.warn("FailedComputeMetricsReplicas", error);
        return None;
    };
    let scaler = observed.scaler;
    let scene = Scene {
        namespace: namespace(&scaler.metadata),
        pods,
        current: target.spec,
        reported: target.status,
        tolerances: tolerances(scaler.spec.behavior.as_ref(), settings),
        settings,
        now: now.wall,
    };
    let (asked, name) = ask(scaler, &scene, readings, decision)?;
    decision.asked = Some(asked);
    let (min, max) = range(scaler);
    let bounds = Bounds { current: target.spec, min, max };
    let behaviour = scaler.spec.behavior.as_ref();
    let held = stabilise(memory, behaviour, bounds, asked, settings.downscale, now.at);
    decision.set("AbleToScale", true, held.reason, held.message);
    let limited = limit(memory, behaviour, bounds, held.replicas, now.at);
    decision.set("ScalingLimited", limited.replicas != held.replicas, limited.reason, limited.message);
    let reason = match asked.cmp(&target.spec) {
        std::cmp::Ordering::Greater => format!("{name} above target"),
        std::cmp::Ordering::Less => "All metrics below target".into(),
        std::cmp::Ordering::Equal => String::new(),
    };
    Some((limited.replicas, reason))
}

type Seen<'a> = (&'a [&'a Pod], &'a [Result<Reading, String>]);

/// The pods with their metrics; where there are none to be had, that is said.
fn pods_of<'a>(look: &'a Look<'a>, target: &Target, decision: &mut Decision) -> Option<Seen<'a>> {
    let (reason, message, condition) = match look {
        Look::Pods { pods, readings } => return Some((pods, readings)),
        Look::NoSelector | Look::NotNeeded => {
            let condition = "the HPA target's scale is missing a selector";
            ("SelectorRequired", "selector is required".to_string(), condition.to_string())
        }
        Look::BadSelector(error) => {
            let message =
                format!("couldn't convert selector into a corresponding internal selector object: {error}");
            ("InvalidSelector", message.clone(), message)
        }
        Look::Shared(scalers) => {
            let list = scalers.join(" ");
            let message =
                format!("pods by selector {} are controlled by multiple HPAs: [{list}]", target.selector);
            ("AmbiguousSelector", message.clone(), message)
        }
    };
    decision.warn(reason, message.clone());
    let state = if reason == "AmbiguousSelector" { reason } else { "InvalidSelector" };
    decision.set("ScalingActive", false, state, condition);
    (decision.error, decision.spec_error) = (Some(message), true);
    None
}

/// The tolerances of an autoscaler.
fn tolerances(behaviour: Option<&HorizontalPodAutoscalerBehavior>, settings: &Settings) -> Tolerances {
    let own = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
        let text = rules.and_then(|r| r.tolerance.as_ref());
        text.and_then(|t| Quantity::parse(&t.0).ok()).map_or(settings.tolerance, |q| q.as_f64())
    };
    Tolerances {
        up: own(behaviour.and_then(|b| b.scale_up.as_ref())),
        down: own(behaviour.and_then(|b| b.scale_down.as_ref())),
    }
}

/// The most that any metric asks for, and its name. Metrics that say nothing stop a change for the lower: they might
/// have asked for more.
fn ask(
    scaler: &HorizontalPodAutoscaler,
    scene: &Scene<'_>,
    readings: &[Result<Reading, String>],
    decision: &mut Decision,
) -> Option<(i32, String)> {
    let specs = scaler.spec.metrics.as_deref().unwrap_or_default();
    let (mut most, mut statuses, mut faults) = (None::<(i32, String)>, Vec::new(), Vec::<Fault>::new());
    for (spec, reading) in specs.iter().zip(readings) {
        match judge(scene, spec, reading) {
            Ok(verdict) => {
                decision.judged.push(Ok(verdict.replicas.saturating_sub(scene.current)));
                statuses.push(verdict.status);
                if most.as_ref().is_none_or(|(n, _)| *n == 0 || verdict.replicas > *n) {
                    most = Some((verdict.replicas, verdict.name));
                }
            }
            Err(fault) => {
                decision.judged.push(Err(fault.spec));
                decision.warn(fault.reason, fault.cause.clone());
                statuses.push(MetricStatus::default());
                faults.push(fault);
            }
        }
    }
    decision.status.current_metrics = Some(statuses);
    if let Some(first) = faults.first() {
        let (bad, all) = (faults.len(), specs.len());
        let error =
            format!("invalid metrics ({bad} invalid out of {all}), first error is: {}", first.message);
        decision.spec_error = first.spec;
        if most.as_ref().is_none_or(|(n, _)| *n < scene.current) {
            let message = format!("the HPA was unable to compute the replica count: {}", first.cause);
            decision.set("ScalingActive", false, first.reason, message);
            decision.warn("FailedComputeMetricsReplicas", error.clone());
            decision.error = Some(error);
            return None;
        }
        decision.error = Some(error);
    }
    let (replicas, name) = most?;
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    decision.set("ScalingActive", true, "ValidMetricFound", message);
    Some((replicas, name))
}

impl Decision {
    fn new(scaler: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let mut status = scaler.status.clone().unwrap_or_default();
        status.observed_generation = scaler.metadata.generation;
        Self {
            status,
            events: Vec::new(),
            rescale: None,
            asked: None,
            judged: Vec::new(),
            error: None,
            spec_error: false,
            now,
        }
    }

    fn warn(&mut self, reason: &'static str, message: String) {
        self.events.push((Kind::Warning, reason, message));
    }

    /// Sets a condition; its time moves with its status only.
    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: impl Into<String>) {
        let status = if holds { "True" } else { "False" };
        let conditions = self.status.conditions.get_or_insert_default();
        let index = conditions.iter().position(|c| c.type_ == kind).unwrap_or_else(|| {
            conditions.push(HorizontalPodAutoscalerCondition { type_: kind.into(), ..Default::default() });
            conditions.len() - 1
        });
        let condition = &mut conditions[index];
        if condition.status != status {
            condition.status = status.into();
            condition.last_transition_time = Some(Time(self.now));
        }
        condition.reason = Some(reason.into());
        condition.message = Some(message.into());
    }

    /// The rescale was written.
    pub fn done(
        &mut self,
        behaviour: Option<&HorizontalPodAutoscalerBehavior>,
        memory: &mut Memory,
        now: Moment,
    ) {
        let Some(Rescale { from, to, reason }) = self.rescale.clone() else { return };
        memory.scaled(behaviour, from, to, now.at);
        let message = format!("the HPA controller was able to update the target scale to {to}");
        self.set("AbleToScale", true, "SucceededRescale", message);
        self.events.push((Kind::Normal, "SuccessfulRescale", format!("New size: {to}; reason: {reason}")));
        self.status.desired_replicas = to;
        self.status.last_scale_time = Some(Time(now.wall));
    }

    /// The rescale could not be written.
    pub fn refused(&mut self, error: &str) {
        let Some(Rescale { to, reason, .. }) = self.rescale.take() else { return };
        let message = format!("New size: {to}; reason: {reason}; error: {error}");
        self.warn("FailedRescale", message);
        let message = format!("the HPA controller was unable to update the target scale: {error}");
        self.set("AbleToScale", false, "FailedUpdateScale", message);
        self.error = Some(format!("failed to rescale: {error}"));
    }
}
