//! Random histories: a load that rises and falls, pods that take their time, metrics that fail. Whatever happens, the
//! number stays within its bounds, moves no faster than the policies allow, and does not go back on itself within the
//! windows; and once the load is steady it settles where the target is met.

use std::cell::Cell;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscaler};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Settings;
use super::behaviour::Memory;
use super::metrics::Reading;
use super::plan::{Look, Moment, Observed, Target, needs_look, plan};
use super::replicas::{Sample, Samples};
use super::tests::{scaler, settings};
use crate::testing::{histories, now, pod};

const SEEDS: u64 = 12;
/// Looks with a moving load, then with a steady one.
const MOVING: u64 = 200;
const STEADY: u64 = 300;
/// Every pod asks for 100m of CPU and the target is 50 % of it.
const TARGET: f64 = 50.0;
/// No pod can use more than this.
const MOST: f64 = 400.0;

struct World {
    rng: StdRng,
    scaler: HorizontalPodAutoscaler,
    settings: Settings,
    pods: Vec<(u64, Pod)>,
    names: u64,
    replicas: i32,
    load: f64,
    memory: Memory,
    /// Every change by metrics: when they last asked for so much (or so little), from, to. Such a wish may have to
    /// wait: for a write that fails, or for a window that remembers it.
    history: Vec<(u64, i32, i32)>,
    /// When the changes were made, in step with `history`.
    changed: Vec<u64>,
    /// What the metrics asked for, and when.
    asked: Vec<(u64, i32)>,
    time: u64,
}

fn rules(rng: &mut StdRng) -> String {
    let mut text = String::new();
    if rng.random_ratio(2, 3) {
        text += &format!("stabilizationWindowSeconds: {}, ", rng.random_range(0..30) * 20);
    }
    let select = ["Max", "Max", "Min"][rng.random_range(0..3)];
    let policies: Vec<String> = (0..rng.random_range(1..3))
        .map(|_| {
            let kind = ["Pods", "Percent"][rng.random_range(0..2)];
            let value = if kind == "Pods" { rng.random_range(1..6) } else { rng.random_range(10..200) };
            format!("{{type: {kind}, value: {value}, periodSeconds: {}}}", rng.random_range(1..9) * 15)
        })
        .collect();
    format!("{{{text}selectPolicy: {select}, policies: [{}]}}", policies.join(", "))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let min = rng.random_range(1..4);
        let max = min + rng.random_range(0..30);
        let behaviour = match rng.random_ratio(3, 4) {
            true => format!("behavior: {{scaleUp: {}, scaleDown: {}}}, ", rules(&mut rng), rules(&mut rng)),
            false => String::new(),
        };
        let scaler = scaler(&format!(
            "minReplicas: {min}, maxReplicas: {max}, {behaviour}metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 50}}}}}}]"
        ));
        let replicas = rng.random_range(0..max + 5).max(1);
        Self {
            rng,
            scaler,
            settings: settings(),
            pods: Vec::new(),
            names: 0,
            replicas,
            load: 100.0,
            memory: Memory::default(),
            history: Vec::new(),
            changed: Vec::new(),
            asked: Vec::new(),
            time: 0,
        }
    }

    fn wall(&self, at: u64) -> Timestamp {
        now() + SignedDuration::from_secs(at as i64)
    }

    /// As many pods as asked for; new ones begin Pending and are ready after a while.
    fn settle_pods(&mut self) {
        while self.pods.len() > self.replicas.max(0) as usize {
            let at = self.rng.random_range(0..self.pods.len());
            self.pods.remove(at);
        }
        while self.pods.len() < self.replicas as usize {
            self.names += 1;
            let mut made = pod(&format!("p{} Pending l:app=d", self.names));
            let container = "{name: app, resources: {requests: {cpu: 100m}}}";
            made.spec.as_mut().unwrap().containers = vec![serde_yaml::from_str(container).unwrap()];
            self.pods.push((self.time, made));
        }
        for at in 0..self.pods.len() {
            let (born, time) = (self.pods[at].0, self.time);
            let (started, ready) = (self.wall(born), self.wall(born + 10));
            let status = self.pods[at].1.status.as_mut().unwrap();
            if time >= born + 5 {
                status.phase = Some("Running".into());
                status.start_time = Some(Time(started));
            }
            let condition = &mut status.conditions.as_mut().unwrap()[0];
            let up = time >= born + 10;
            condition.status = if up { "True" } else { "False" }.into();
            condition.last_transition_time = Some(Time(if up { ready } else { started }));
        }
    }

    fn running(&self) -> usize {
        self.pods.iter().filter(|(born, _)| self.time >= born + 10).count()
    }

    fn readings(&mut self, steady: bool) -> Result<Reading, String> {
        if !steady && self.rng.random_ratio(1, 15) {
            return Err("no metrics".into());
        }
        let share = (self.load / self.running().max(1) as f64).min(MOST);
        let at = self.wall(self.time) - SignedDuration::from_secs(5);
        let (time, mut samples) = (self.time, Samples::new());
        for (born, pod) in &self.pods {
            let lost = !steady && self.rng.random_ratio(1, 20);
            if time >= born + 15 && !lost {
                let noise = if steady { 1.0 } else { self.rng.random_range(0.9..1.1) };
                let sample =
                    Sample { value: (share * noise) as i64, at, window: SignedDuration::from_secs(10) };
                samples.insert(pod.metadata.name.clone().unwrap(), sample);
            }
        }
        Ok(Reading::Pods(samples))
    }

    /// One look and what follows.
    fn look(&mut self, steady: bool) {
        self.time += self.settings.period.as_secs();
        if !steady {
            let wave = (self.time as f64 / 200.0).sin() + 1.0;
            self.load = (wave * 700.0 + self.rng.random_range(0.0..300.0)).max(0.0);
            if self.rng.random_ratio(1, 60) {
                // A user sets another number.
                self.set(self.rng.clone().random_range(1..40), false);
            }
        }
        self.settle_pods();
        let target = Target { spec: self.replicas, status: self.pods.len() as i32, selector: "app=d".into() };
        let reading = self.readings(steady);
        let pods: Vec<&Pod> = self.pods.iter().map(|(_, p)| p).collect();
        let look = match needs_look(&self.scaler, &target) {
            true => Look::Pods { pods, readings: vec![reading] },
            false => Look::NotNeeded,
        };
        let moment = Moment { wall: self.wall(self.time), at: Duration::from_secs(self.time) };
        let observed = Observed { scaler: &self.scaler, target: Ok(target), look };
        let mut decision = plan(&observed, &mut self.memory, &self.settings, moment);
        self.asked.extend(decision.asked.map(|n| (self.time, n)));
        let Some(rescale) = decision.rescale.clone() else { return };
        if !steady && self.rng.random_ratio(1, 10) {
            decision.refused("conflict");
            return;
        }
        decision.done(self.scaler.spec.behavior.as_ref(), &mut self.memory, moment);
        let bound = rescale.reason.starts_with("Current number");
        self.scaler.status = Some(decision.status);
        self.set(rescale.to, !bound);
        self.check(rescale.from, rescale.to, bound);
    }

    fn set(&mut self, to: i32, by_metrics: bool) {
        if by_metrics {
            let up = to > self.replicas;
            let led = self.asked.iter().rev().find(|(_, n)| if up { *n >= to } else { *n <= to });
            self.history.push((led.expect("a wish").0, self.replicas, to));
            self.changed.push(self.time);
        } else {
            // Somebody else's number: what went before says nothing any more.
            self.history.clear();
            self.changed.clear();
            self.asked.clear();
            self.memory = Memory::default();
        }
        self.replicas = to;
    }

    /// The rules, reckoned from the history alone.
    fn check(&self, from: i32, to: i32, bound: bool) {
        let spec = &self.scaler.spec;
        let (min, max) = (spec.min_replicas.unwrap(), spec.max_replicas);
        assert!((min..=max).contains(&to), "{to} is not within {min} and {max}");
        if bound {
            return;
        }
        let behaviour = spec.behavior.as_ref();
        let (up, down) =
            (behaviour.and_then(|b| b.scale_up.as_ref()), behaviour.and_then(|b| b.scale_down.as_ref()));
        let window = |r: Option<&HPAScalingRules>, default: u64| {
            r.and_then(|r| r.stabilization_window_seconds).map_or(default, |n| n as u64)
        };
        let back = if to > from { window(up, 0) } else { window(down, 300) };
        for (at, before, after) in self.history.iter().filter(|(at, ..)| self.time - at < back) {
            let flaps = if to > from { after < before && to > *after } else { after > before && to < *after };
            let here = *at == self.time;
            assert!(!flaps || here, "{from} -> {to}, {before} -> {after} was {} s ago", self.time - at);
        }
        match behaviour {
            None => assert!(to <= (from * 2).max(4), "{from} -> {to}"),
            Some(_) => self.check_speed(if to > from { up } else { down }.unwrap(), from, to),
        }
    }

    fn check_speed(&self, rules: &HPAScalingRules, from: i32, to: i32) {
        let allowed = rules.policies.iter().flatten().map(|policy| {
            // The number as it was a period ago.
            let start = self.time.saturating_sub(policy.period_seconds as u64);
            let first =
                self.changed.iter().position(|at| *at > start || self.time < policy.period_seconds as u64);
            let base = f64::from(first.map_or(from, |at| self.history[at].1));
            let step = match policy.type_.as_str() {
                "Pods" => f64::from(policy.value),
                _ => base * f64::from(policy.value) / 100.0,
            };
            (base, step)
        });
        let ok = |(base, step): (f64, f64)| match to > from {
            true => {
                f64::from(to) <= (base + step).ceil() + 1e-6 || f64::from(to) <= ((base + step) + 1e-9).ceil()
            }
            false => f64::from(to) >= (base - step).floor() - 1e-6,
        };
        let fits = match rules.select_policy.as_deref() {
            Some("Min") => allowed.map(ok).all(|o| o),
            _ => allowed.map(ok).any(|o| o),
        };
        assert!(fits, "{from} -> {to} is faster than {rules:?} allows");
    }
}

#[test]
fn loads_up_and_down() {
    let moves = Cell::new((0, 0));
    let count = histories(SEEDS, |seed| {
        let (up, down) = history(seed);
        moves.set((moves.get().0 + up, moves.get().1 + down));
        Ok(())
    });
    let (ups, downs) = moves.get();
    assert!(ups > count && downs > count, "{ups} up, {downs} down: too little happens");
}

fn history(seed: u64) -> (usize, usize) {
    let mut world = World::new(seed);
    let (mut ups, mut downs) = (0, 0);
    for _ in 0..MOVING {
        let before = world.replicas;
        world.look(false);
        ups += usize::from(world.replicas > before);
        downs += usize::from(world.replicas < before);
    }
    world.load = f64::from(world.rng.random_range(0..3000));
    (0..STEADY).for_each(|_| world.look(true));
    let settled = world.replicas;
    (0..20).for_each(|_| world.look(true));
    assert_eq!(world.replicas, settled, "it does not come to rest");
    let (min, max) = (world.scaler.spec.min_replicas.unwrap(), world.scaler.spec.max_replicas);
    let percent = (world.load / f64::from(settled)).min(MOST);
    assert!(percent <= TARGET * 1.13 || settled == max, "{percent} % with {settled} of at most {max}");
    let fewer = (world.load / f64::from(settled - 1).max(1.0)).min(MOST);
    // One pod less would be too few, give or take the tolerance.
    assert!(
        settled == min || fewer >= TARGET * 0.87,
        "{fewer} % with one less than {settled}, at least {min}"
    );
    (ups, downs)
}
