//! From what the metrics ask for to what is set: windows of stability, limits of speed, least and most. Pure; the
//! rules are upstream's.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// What is remembered of an autoscaler: what was asked for and what was done, each with its moment on a clock that
/// only goes forward.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    asked: Vec<(Duration, i32)>,
    added: Vec<(Duration, i32)>,
    removed: Vec<(Duration, i32)>,
}

/// Least, most, and the number as it stands.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub current: i32,
    pub min: i32,
    pub max: i32,
}

/// A number with the reason and words of a condition.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub replicas: i32,
    pub reason: &'static str,
    pub message: &'static str,
}

const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const MATCHES: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

fn told(replicas: i32, (reason, message): (&'static str, &'static str)) -> Told {
    Told { replicas, reason, message }
}

impl Memory {
    /// The number found at first counts as asked for: a restart must not scale down at once.
    pub fn begin(&mut self, current: i32, at: Duration) {
        if self.asked.is_empty() {
            self.asked.push((at, current));
        }
    }

    /// What was asked for within a window.
    fn recent(&self, window: Duration, at: Duration) -> impl Iterator<Item = i32> {
        self.asked.iter().filter(move |(then, _)| at.saturating_sub(*then) < window).map(|(_, n)| *n)
    }

    fn ask(&mut self, desired: i32, at: Duration, longest: Duration) {
        self.asked.retain(|(then, _)| at.saturating_sub(*then) < longest);
        self.asked.push((at, desired));
    }

    /// Remembers a rescale, for as long as a policy may ask for it.
    pub fn scaled(
        &mut self,
        behaviour: Option<&HorizontalPodAutoscalerBehavior>,
        from: i32,
        to: i32,
        at: Duration,
    ) {
        let Some(behaviour) = behaviour else { return };
        for events in [&mut self.added, &mut self.removed] {
            let longest =
                [&behaviour.scale_up, &behaviour.scale_down].into_iter().flatten().map(longest).max();
            let longest = longest.unwrap_or_default();
            events.retain(|(then, _)| at.saturating_sub(*then) < longest);
        }
        match to > from {
            true => self.added.push((at, to - from)),
            false => self.removed.push((at, from - to)),
        }
    }

    /// The number at the beginning of a period that ends now.
    fn before(&self, current: i32, period: Duration, at: Duration) -> i32 {
        let sum = |events: &[(Duration, i32)]| {
            let within = events.iter().filter(|(then, _)| at.saturating_sub(*then) < period);
            within.fold(0_i32, |sum, (_, n)| sum.saturating_add(*n))
        };
        current.saturating_sub(sum(&self.added)).saturating_add(sum(&self.removed))
    }
}

/// The longest period of a direction's policies.
fn longest(rules: &HPAScalingRules) -> Duration {
    rules.policies.iter().flatten().map(|p| seconds(p.period_seconds)).max().unwrap_or_default()
}

fn seconds(n: i32) -> Duration {
    Duration::from_secs(n.max(0).unsigned_abs().into())
}

/// Holds a wish against the recent ones. With rules: the least of the window for going up, the most for going down;
/// without: the most of the window.
pub fn stabilise(
    memory: &mut Memory,
    behaviour: Option<&HorizontalPodAutoscalerBehavior>,
    bounds: Bounds,
    desired: i32,
    downscale: Duration,
    at: Duration,
) -> Told {
    let window = |rules: Option<&HPAScalingRules>, default| {
        rules.and_then(|r| r.stabilization_window_seconds).map_or(default, seconds)
    };
    let Some(behaviour) = behaviour else {
        let held = memory.recent(downscale, at).fold(desired, i32::max);
        memory.ask(desired, at, downscale);
        return told(held, if held == desired { MATCHES } else { DOWN_STABILIZED });
    };
    let up = window(behaviour.scale_up.as_ref(), Duration::ZERO);
    let down = window(behaviour.scale_down.as_ref(), downscale);
    let least = memory.recent(up, at).fold(desired, i32::min);
    let most = memory.recent(down, at).fold(desired, i32::max);
    let held = bounds.current.max(least).min(most);
    memory.ask(desired, at, up.max(down));
    match held == desired {
        true => told(held, MATCHES),
        false if desired >= bounds.current => told(held, UP_STABILIZED),
        false => told(held, DOWN_STABILIZED),
    }
}

/// Holds a number within what may be set now.
pub fn limit(
    memory: &Memory,
    behaviour: Option<&HorizontalPodAutoscalerBehavior>,
    bounds: Bounds,
    desired: i32,
    at: Duration,
) -> Told {
    match behaviour {
        None => limit_plainly(bounds, desired),
        Some(_) if desired == bounds.current => told(desired, WITHIN),
        Some(b) if desired > bounds.current => limit_up(memory, b.scale_up.as_ref(), bounds, desired, at),
        Some(b) => limit_down(memory, b.scale_down.as_ref(), bounds, desired, at),
    }
}

fn limit_plainly(bounds: Bounds, desired: i32) -> Told {
    let fast = bounds.current.saturating_mul(2).max(4);
    if desired < bounds.min {
        told(bounds.min, TOO_FEW)
    } else if desired > fast.min(bounds.max) {
        told(fast.min(bounds.max), if bounds.max > fast { UP_LIMIT } else { TOO_MANY })
    } else {
        told(desired, WITHIN)
    }
}

fn limit_up(
    memory: &Memory,
    rules: Option<&HPAScalingRules>,
    bounds: Bounds,
    desired: i32,
    at: Duration,
) -> Told {
    let fast = up_limit(memory, rules, bounds.current, at).max(bounds.current);
    if desired > fast.min(bounds.max) {
        return told(fast.min(bounds.max), if bounds.max > fast { UP_LIMIT } else { TOO_MANY });
    }
    told(desired, WITHIN)
}

fn limit_down(
    memory: &Memory,
    rules: Option<&HPAScalingRules>,
    bounds: Bounds,
    desired: i32,
    at: Duration,
) -> Told {
    let fast = down_limit(memory, rules, bounds.current, at).min(bounds.current);
    if desired < fast.max(bounds.min) {
        return told(fast.max(bounds.min), if bounds.min < fast { DOWN_LIMIT } else { TOO_FEW });
    }
    told(desired, WITHIN)
}

fn select(rules: Option<&HPAScalingRules>) -> &str {
    rules.and_then(|r| r.select_policy.as_deref()).unwrap_or("Max")
}

fn up_limit(memory: &Memory, rules: Option<&HPAScalingRules>, current: i32, at: Duration) -> i32 {
    let proposals = rules.iter().flat_map(|r| r.policies.iter().flatten()).map(|policy| {
        let start = memory.before(current, seconds(policy.period_seconds), at);
        match policy.type_.as_str() {
            "Pods" => start.saturating_add(policy.value),
            // Up: a small share of a small number must still be a step.
            _ => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
        }
    });
    match select(rules) {
        "Disabled" => current,
        "Min" => proposals.min().unwrap_or(i32::MAX),
        _ => proposals.max().unwrap_or(i32::MAX),
    }
}

fn down_limit(memory: &Memory, rules: Option<&HPAScalingRules>, current: i32, at: Duration) -> i32 {
    let proposals = rules.iter().flat_map(|r| r.policies.iter().flatten()).map(|policy| {
        let start = memory.before(current, seconds(policy.period_seconds), at);
        match policy.type_.as_str() {
            "Pods" => start.saturating_sub(policy.value),
            _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
        }
    });
    match select(rules) {
        "Disabled" => current,
        "Min" => proposals.max().unwrap_or(i32::MIN),
        _ => proposals.min().unwrap_or(i32::MIN),
    }
}
