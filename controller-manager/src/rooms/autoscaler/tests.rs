//! One table or case for each rule.

use std::time::Duration;

use control::events::Kind;
use expect_test::{Expect, expect};
use jiff::SignedDuration;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior,
};
use k8s_openapi::api::core::v1::Pod;

use super::Settings;
use super::behaviour::{Bounds, Memory, limit, stabilise};
use super::metrics::{Reading, written};
use super::plan::{Decision, Look, Moment, Observed, Target, plan};
use super::replicas::{Proposal, Resource, Sample, Samples, Scene, Tolerances};
use super::replicas::{by_average, by_share, by_utilization, by_value};
use crate::testing::{now, pod, time};

pub fn settings() -> Settings {
    Settings {
        period: Duration::from_secs(15),
        tolerance: 0.1,
        downscale: Duration::from_secs(300),
        cpu_initialization: SignedDuration::from_mins(5),
        initial_readiness: SignedDuration::from_secs(30),
    }
}

/// `name phase ...` as [`pod`] reads it, with `start=T`, `unready=T`, `req=Q` per container (`-` for one without),
/// `use=Q`, `at=T` of the sample. A pod that is ready began long ago.
fn scene_of(lines: &str) -> (Vec<Pod>, Samples) {
    let (mut pods, mut samples) = (Vec::new(), Samples::new());
    for line in lines.split(';').map(str::trim).filter(|l| !l.is_empty()) {
        let own = ["start=", "unready=", "req=", "use=", "at="];
        let (mine, rest): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|w| own.iter().any(|o| w.starts_with(o)));
        let value = |key: &str| mine.iter().find_map(|w| w.strip_prefix(key));
        let mut pod = pod(&rest.join(" "));
        let requests = value("req=").unwrap_or("100m").split(',').enumerate().map(|(i, q)| {
            let name = if i == 0 { "app".to_string() } else { format!("side{i}") };
            let requests = if q == "-" { "{}".into() } else { format!("{{cpu: {q}}}") };
            serde_yaml::from_str(&format!("{{name: {name}, resources: {{requests: {requests}}}}}")).unwrap()
        });
        pod.spec.as_mut().unwrap().containers = requests.collect();
        let status = pod.status.as_mut().unwrap();
        status.start_time = match value("start=").unwrap_or("2026-01-01T09:00:00Z") {
            "-" => None,
            at => Some(time(at)),
        };
        if let Some(at) = value("unready=") {
            status.conditions.as_mut().unwrap()[0].last_transition_time = Some(time(at));
        }
        if let Some(used) = value("use=") {
            let value = machinery::quantity::Quantity::parse(used).unwrap().milli_value();
            let at = time(value_or(&mine, "at=", "2026-01-01T09:59:50Z")).0;
            let sample = Sample { value, at, window: SignedDuration::from_secs(30) };
            samples.insert(pod.metadata.name.clone().unwrap(), sample);
        }
        pods.push(pod);
    }
    (pods, samples)
}

fn value_or<'a>(words: &[&'a str], key: &str, default: &'a str) -> &'a str {
    words.iter().find_map(|w| w.strip_prefix(key)).unwrap_or(default)
}

fn with_scene<T>(lines: &str, current: i32, run: impl FnOnce(&Scene<'_>, Samples) -> T) -> T {
    let (pods, samples) = scene_of(lines);
    let pods: Vec<&Pod> = pods.iter().collect();
    let settings = settings();
    let scene = Scene {
        namespace: "ns",
        pods: &pods,
        current,
        reported: current,
        tolerances: Tolerances { up: 0.1, down: 0.1 },
        settings: &settings,
        now: now(),
    };
    run(&scene, samples)
}

const CPU: Resource<'static> = Resource { name: "cpu", container: None };

fn said(outcome: Result<Proposal, String>) -> String {
    match outcome {
        Ok(Proposal { replicas, utilization: Some(percent), value }) => {
            format!("{replicas} ({percent}%, {value})")
        }
        Ok(Proposal { replicas, value, .. }) => format!("{replicas} ({value})"),
        Err(error) => error,
    }
}

/// Half of what is asked for is the target; each pod asks for 100m.
fn half(lines: &str, current: i32) -> String {
    with_scene(lines, current, |scene, samples| said(by_utilization(scene, &CPU, samples, 50)))
}

#[test]
fn utilization_sets_the_share() {
    assert_eq!(half("a Running ready use=100m; b Running ready use=100m", 2), "4 (100%, 100)");
    assert_eq!(
        half("a Running ready use=10m; b Running ready use=10m; c Running ready use=10m", 3),
        "1 (10%, 10)"
    );
    // Whole percent are cut off, and only then divided: 104 of 200 is 52 %, just above, and tolerated.
    assert_eq!(half("a Running ready use=52m; b Running ready use=52m", 2), "2 (52%, 52)");
    // The sum counts, not each pod.
    assert_eq!(half("a Running ready use=100m; b Running ready use=0", 2), "2 (50%, 50)");
}

#[test]
fn close_to_the_target_nothing_changes() {
    assert_eq!(half("a Running ready use=55m", 1), "1 (55%, 55)");
    assert_eq!(half("a Running ready use=56m", 1), "2 (56%, 56)");
    assert_eq!(half("a Running ready use=45m; b Running ready use=45m", 7), "7 (45%, 45)");
    assert_eq!(half("a Running ready use=44m; b Running ready use=44m", 2), "2 (44%, 44)");
    let table = [(0.9, true), (0.89, false), (1.1, true), (1.1001, false), (1.0, true)];
    for (ratio, holds) in table {
        assert_eq!(Tolerances { up: 0.1, down: 0.1 }.hold(ratio), holds, "{ratio}");
    }
    let own = Tolerances { up: 0.0, down: 0.5 };
    assert!(own.hold(0.5) && own.hold(1.0) && !own.hold(1.01));
}

#[test]
fn every_container_counted_needs_a_request() {
    assert_eq!(
        half("a Running ready use=100m req=100m,-", 1),
        "missing request for cpu in container side1 of Pod a"
    );
    assert_eq!(half("a Running ready use=100m req=50m,50m", 1), "2 (100%, 100)");
    let app = Resource { name: "cpu", container: Some("app") };
    let run =
        |lines: &str| with_scene(lines, 1, |scene, samples| said(by_utilization(scene, &app, samples, 50)));
    assert_eq!(run("a Running ready use=100m req=50m,-"), "4 (200%, 100)");
}

#[test]
fn a_request_of_the_whole_pod_beats_those_of_containers() {
    let (mut pods, samples) = scene_of("a Running ready use=100m req=-");
    pods[0].spec.as_mut().unwrap().resources =
        serde_yaml::from_str("{requests: {cpu: 200m}}").expect("resources");
    let pods: Vec<&Pod> = pods.iter().collect();
    let settings = settings();
    let tolerances = Tolerances { up: 0.1, down: 0.1 };
    let scene = Scene {
        namespace: "ns",
        pods: &pods,
        current: 1,
        reported: 1,
        tolerances,
        settings: &settings,
        now: now(),
    };
    assert_eq!(said(by_utilization(&scene, &CPU, samples, 50)), "1 (50%, 100)");
}

#[test]
fn nothing_to_go_by() {
    assert_eq!(half("", 1), "no pods returned by selector while calculating replica count");
    let unready = "did not receive metrics for targeted pods (pods might be unready)";
    assert_eq!(half("a Pending use=100m", 1), unready);
    assert_eq!(half("a Running ready deleting use=100m; b Failed use=100m", 1), unready);
    assert_eq!(half("a Running ready use=100m req=0", 1), "no metrics returned matched known pods");
}

#[test]
fn pods_that_go_do_not_count() {
    assert_eq!(
        half("a Running ready use=100m; b Running ready deleting use=900m; c Failed use=900m", 1),
        "2 (100%, 100)"
    );
}

#[test]
fn pods_that_start_count_as_idle_when_going_up() {
    // b has been running for 2 minutes of the first five.
    let with =
        |b: &str| half(&format!("a Running ready use=100m; b Running start=2026-01-01T09:58:00Z {b}"), 2);
    // Not ready: nothing of what it uses counts. (100 + 0) of 200 is the target.
    assert_eq!(with("unready=2026-01-01T09:58:00Z use=900m"), "2 (100%, 100)");
    // Ready, but the sample began before that.
    assert_eq!(with("ready=2026-01-01T09:59:40Z use=900m"), "2 (100%, 100)");
    // Ready for longer than the sample took.
    assert_eq!(with("ready=2026-01-01T09:59:20Z use=100m"), "4 (100%, 100)");
    // Without a start or a condition nobody knows.
    assert_eq!(half("a Running ready use=100m; b Running ready start=- use=900m", 2), "2 (100%, 100)");
    // Pending is the same.
    assert_eq!(half("a Running ready use=200m; b Pending use=900m", 2), "4 (200%, 200)");
}

#[test]
fn pods_that_turned_unready_later_still_count() {
    // Unready since long after the first 30 seconds: its load is real.
    assert_eq!(
        half("a Running ready use=100m; b Running unready=2026-01-01T09:30:00Z use=100m", 2),
        "4 (100%, 100)"
    );
    // Never ready since its start.
    assert_eq!(
        half("a Running ready use=100m; b Running unready=2026-01-01T09:00:20Z use=900m", 2),
        "2 (100%, 100)"
    );
}

#[test]
fn pods_that_start_are_left_out_when_going_down() {
    assert_eq!(half("a Running ready use=10m; b Running ready use=10m; c Pending", 3), "1 (10%, 10)");
}

#[test]
fn pods_without_metrics_are_guessed_against_the_direction() {
    // Up: they use nothing. (300 + 0) of 200 is 150 %: three times the target for two pods.
    assert_eq!(half("a Running ready use=300m; b Running ready", 2), "6 (300%, 300)");
    assert_eq!(half("a Running ready use=100m; b Running ready", 2), "2 (100%, 100)");
    // Down: they use all that they ask for. (10 + 10 + 100) of 300 is 40 %: within 0.8 of the target.
    assert_eq!(half("a Running ready use=10m; b Running ready use=10m; c Running ready", 3), "3 (10%, 10)");
    assert_eq!(
        half(
            "a Running ready use=0; b Running ready use=0; d Running ready use=0; e Running ready use=0; f Running ready",
            5
        ),
        "2 (0%, 0)"
    );
    // Targets above 100 % are taken for what is used.
    let above = with_scene("a Running ready use=100m; b Running ready", 2, |scene, samples| {
        said(by_utilization(scene, &CPU, samples, 200))
    });
    assert_eq!(above, "2 (100%, 100)");
}

#[test]
fn guesses_never_turn_the_direction() {
    // Down by what is known, up by the guess.
    assert_eq!(half("a Running ready use=40m; b Running ready", 2), "2 (40%, 40)");
    // Less than there is, though more is asked for: many pods are set, few are there.
    assert_eq!(half("a Running ready use=150m; b Pending", 9), "9 (150%, 150)");
}

#[test]
fn averages() {
    let run = |lines: &str, current, target| {
        with_scene(lines, current, |scene, samples| said(by_average(scene, "", samples, target)))
    };
    assert_eq!(run("a Running ready use=20; b Running ready use=10", 2, 10_000), "3 (15000)");
    assert_eq!(run("a Running ready use=10; b Running ready use=11", 2, 10_000), "2 (10500)");
    // Metrics that are not of CPU do not care for readiness.
    assert_eq!(run("a Running use=20; b Running use=20", 2, 10_000), "4 (20000)");
    // A missing one is taken to be at the target when going down.
    assert_eq!(run("a Running use=2; b Running use=2; c Running", 3, 10_000), "2 (2000)");
    assert_eq!(run("", 2, 10), "no pods returned by selector while calculating replica count");
}

#[test]
fn values_for_the_whole() {
    let run = |lines: &str, current, used, target| {
        with_scene(lines, current, |scene, _| said(by_value(scene, used, target)))
    };
    let three = "a Running ready; b Running ready; c Running ready; d Running; e Pending";
    assert_eq!(run(three, 3, 20_000, 10_000), "6 (20000)");
    assert_eq!(run(three, 9, 10_500, 10_000), "9 (10500)");
    assert_eq!(run(three, 3, 1_000, 10_000), "1 (1000)");
    assert_eq!(
        run("", 3, 1, 10),
        "unable to calculate ready pods: no pods returned by selector while calculating replica count"
    );
}

#[test]
fn values_shared_among_replicas() {
    let run =
        |reported, used, target| with_scene("", reported, |scene, _| said(Ok(by_share(scene, used, target))));
    assert_eq!(run(3, 60_000, 10_000), "6 (20000)");
    assert_eq!(run(3, 31_000, 10_000), "3 (10334)");
    assert_eq!(run(3, 5_000, 10_000), "1 (1667)");
    assert_eq!(run(0, 5_000, 10_000), "1 (5000)");
}

// Windows and limits.

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rules(text: &str) -> Option<HPAScalingRules> {
    Some(serde_yaml::from_str(&format!("{{{text}}}")).expect("rules"))
}

fn behaviour(up: &str, down: &str) -> HorizontalPodAutoscalerBehavior {
    HorizontalPodAutoscalerBehavior { scale_up: rules(up), scale_down: rules(down) }
}

fn bounds(current: i32, min: i32, max: i32) -> Bounds {
    Bounds { current, min, max }
}

#[test]
fn without_rules_the_most_of_the_window_holds() {
    let mut memory = Memory::default();
    memory.begin(3, at(0));
    let mut hold = |desired, t| {
        let told = stabilise(&mut memory, None, bounds(3, 1, 10), desired, at(300), at(t));
        format!("{} {}", told.replicas, told.reason)
    };
    assert_eq!(hold(2, 15), "3 ScaleDownStabilized");
    assert_eq!(hold(5, 30), "5 ReadyForNewScale");
    assert_eq!(hold(2, 299), "5 ScaleDownStabilized");
    assert_eq!(hold(2, 330), "2 ReadyForNewScale");
}

#[test]
fn with_rules_each_direction_has_its_window() {
    let rules = behaviour("stabilizationWindowSeconds: 60", "stabilizationWindowSeconds: 120");
    let mut memory = Memory::default();
    let mut hold = |desired, current, t| {
        let told = stabilise(&mut memory, Some(&rules), bounds(current, 1, 99), desired, at(300), at(t));
        format!("{} {}", told.replicas, told.reason)
    };
    assert_eq!(hold(4, 4, 0), "4 ReadyForNewScale");
    assert_eq!(hold(9, 4, 30), "4 ScaleUpStabilized");
    assert_eq!(hold(8, 4, 61), "8 ReadyForNewScale");
    assert_eq!(hold(3, 8, 75), "8 ScaleDownStabilized");
    assert_eq!(hold(3, 8, 149), "8 ScaleDownStabilized");
    assert_eq!(hold(3, 8, 160), "8 ScaleDownStabilized");
    assert_eq!(hold(3, 8, 182), "3 ReadyForNewScale");
}

#[test]
fn the_flag_is_the_window_for_going_down_where_none_is_said() {
    let rules = behaviour("stabilizationWindowSeconds: 0", "");
    let mut memory = Memory::default();
    memory.begin(5, at(0));
    let told = stabilise(&mut memory, Some(&rules), bounds(5, 1, 9), 1, at(300), at(299));
    assert_eq!(told.replicas, 5);
    let told = stabilise(&mut memory, Some(&rules), bounds(5, 1, 9), 1, at(300), at(301));
    assert_eq!(told.replicas, 1);
}

#[test]
fn without_rules_no_more_than_double() {
    let run = |current, min, max, desired| {
        let told = limit(&Memory::default(), None, bounds(current, min, max), desired, at(0));
        format!("{} {}", told.replicas, told.reason)
    };
    assert_eq!(run(1, 1, 100, 50), "4 ScaleUpLimit");
    assert_eq!(run(10, 1, 100, 50), "20 ScaleUpLimit");
    assert_eq!(run(10, 1, 15, 50), "15 TooManyReplicas");
    assert_eq!(run(10, 3, 15, 1), "3 TooFewReplicas");
    assert_eq!(run(10, 3, 15, 7), "7 DesiredWithinRange");
}

#[test]
fn policies_limit_the_speed() {
    // rules, current, what was done before, wish -> what is set
    let up = |text: &str, current, done: &[(u64, i32, i32)], desired| {
        let rules = behaviour(text, text);
        let mut memory = Memory::default();
        for (t, from, to) in done {
            memory.scaled(Some(&rules), *from, *to, at(*t));
        }
        let told = limit(&memory, Some(&rules), bounds(current, 1, 100), desired, at(100));
        format!("{} {}", told.replicas, told.reason)
    };
    let pods = "policies: [{type: Pods, value: 3, periodSeconds: 60}]";
    assert_eq!(up(pods, 10, &[], 50), "13 ScaleUpLimit");
    assert_eq!(up(pods, 12, &[(50, 10, 12)], 50), "13 ScaleUpLimit");
    assert_eq!(up(pods, 13, &[(50, 10, 13)], 50), "13 ScaleUpLimit");
    assert_eq!(up(pods, 13, &[(40, 10, 13)], 50), "16 ScaleUpLimit");
    // What was taken away in the period may be put back.
    assert_eq!(up(pods, 8, &[(50, 10, 8)], 50), "13 ScaleUpLimit");
    assert_eq!(up(pods, 10, &[], 1), "7 ScaleDownLimit");
    assert_eq!(up(pods, 10, &[(50, 8, 10)], 1), "5 ScaleDownLimit");
    assert_eq!(up(pods, 10, &[(90, 13, 10)], 1), "10 ScaleDownLimit");
    let both = |select: &str| {
        format!(
            "selectPolicy: {select}, policies: [{{type: Pods, value: 4, periodSeconds: 15}}, {{type: Percent, value: 100, periodSeconds: 15}}]"
        )
    };
    assert_eq!(up(&both("Max"), 1, &[], 50), "5 ScaleUpLimit");
    assert_eq!(up(&both("Max"), 10, &[], 50), "20 ScaleUpLimit");
    assert_eq!(up(&both("Min"), 10, &[], 50), "14 ScaleUpLimit");
    assert_eq!(up(&both("Min"), 10, &[], 1), "6 ScaleDownLimit");
    assert_eq!(up(&both("Max"), 10, &[], 1), "1 DesiredWithinRange");
    assert_eq!(up(&both("Disabled"), 10, &[], 50), "10 ScaleUpLimit");
    assert_eq!(up(&both("Disabled"), 10, &[], 1), "10 ScaleDownLimit");
    // Up shares are rounded up, down shares are cut: both are at least one.
    let percent = "policies: [{type: Percent, value: 10, periodSeconds: 60}]";
    assert_eq!(up(percent, 3, &[], 50), "4 ScaleUpLimit");
    assert_eq!(up(percent, 3, &[], 1), "2 ScaleDownLimit");
    assert_eq!(up(percent, 10, &[], 10), "10 DesiredWithinRange");
    let half = "policies: [{type: Percent, value: 50, periodSeconds: 60}]";
    assert_eq!(up(half, 60, &[], 500), "90 ScaleUpLimit");
    assert_eq!(up(half, 80, &[], 500), "100 TooManyReplicas");
}

// The whole.

pub fn scaler(spec: &str) -> HorizontalPodAutoscaler {
    let text = format!(
        "{{metadata: {{name: h, namespace: ns}}, spec: {{scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: d}}, {spec}}}}}"
    );
    serde_yaml::from_str(&text).expect("an autoscaler")
}

pub fn target(spec: i32) -> Target {
    Target { spec, status: spec, selector: "app=d".into() }
}

fn shown(decision: &Decision) -> String {
    let mut text = match &decision.rescale {
        Some(r) => format!("{} -> {} ({})\n", r.from, r.to, r.reason),
        None => "stays\n".into(),
    };
    for c in decision.status.conditions.iter().flatten() {
        let (reason, message) = (c.reason.as_deref().unwrap_or(""), c.message.as_deref().unwrap_or(""));
        text += &format!("{} {} {reason}: {message}\n", c.type_, c.status);
    }
    for (kind, reason, message) in &decision.events {
        text += &format!("{} {reason}: {message}\n", kind.as_str());
    }
    if let Some(metrics) = &decision.status.current_metrics {
        text += &format!("{}\n", serde_json::to_string(metrics).unwrap());
    }
    text
}

fn decide(scaler: &HorizontalPodAutoscaler, target: Result<Target, String>, look: Look<'_>) -> Decision {
    let now = Moment { wall: now(), at: at(1000) };
    plan(&Observed { scaler, target, look }, &mut Memory::default(), &settings(), now)
}

const CPU_HALF: &str =
    "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}";

fn check(spec: &str, current: i32, lines: &str, readings: &[Result<Option<Reading>, &str>], want: Expect) {
    let (pods, samples) = scene_of(lines);
    let readings = readings
        .iter()
        .map(|r| match r {
            Ok(Some(reading)) => Ok(reading.clone()),
            Ok(None) => Ok(Reading::Pods(samples.clone())),
            Err(error) => Err(error.to_string()),
        })
        .collect();
    let look = Look::Pods { pods: pods.iter().collect(), readings };
    want.assert_eq(&shown(&decide(&scaler(spec), Ok(target(current)), look)));
}

#[test]
fn load_above_the_target_scales_up() {
    check(
        &format!("maxReplicas: 10, metrics: [{CPU_HALF}]"),
        2,
        "a Running ready use=100m; b Running ready use=100m",
        &[Ok(None)],
        expect![[r#"
            2 -> 4 (cpu resource utilization (percentage of request) above target)
            AbleToScale True ReadyForNewScale: recommended size matches current size
            ScalingActive True ValidMetricFound: the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)
            ScalingLimited False DesiredWithinRange: the desired count is within the acceptable range
            [{"resource":{"current":{"averageUtilization":100,"averageValue":"100m"},"name":"cpu"},"type":"Resource"}]
        "#]],
    );
}

#[test]
fn the_metric_that_asks_for_most_wins() {
    check(
        &format!(
            "maxReplicas: 10, metrics: [{CPU_HALF}, {{type: External, external: {{metric: {{name: queue, selector: {{matchLabels: {{q: a}}}}}}, target: {{type: AverageValue, averageValue: 10}}}}}}]"
        ),
        3,
        "a Running ready use=20m; b Running ready use=20m; c Running ready use=20m",
        &[Ok(None), Ok(Some(Reading::Many(vec![30_000, 20_000])))],
        expect![[r#"
            3 -> 5 (external metric queue(&LabelSelector{MatchLabels:map[string]string{q: a,},MatchExpressions:[]LabelSelectorRequirement{},}) above target)
            AbleToScale True ReadyForNewScale: recommended size matches current size
            ScalingActive True ValidMetricFound: the HPA was able to successfully calculate a replica count from external metric queue(&LabelSelector{MatchLabels:map[string]string{q: a,},MatchExpressions:[]LabelSelectorRequirement{},})
            ScalingLimited False DesiredWithinRange: the desired count is within the acceptable range
            [{"resource":{"current":{"averageUtilization":20,"averageValue":"20m"},"name":"cpu"},"type":"Resource"},{"external":{"current":{"averageValue":"16667m"},"metric":{"name":"queue","selector":{"matchLabels":{"q":"a"}}}},"type":"External"}]
        "#]],
    );
}

#[test]
fn a_metric_that_fails_stops_going_down() {
    let two = format!(
        "maxReplicas: 10, metrics: [{CPU_HALF}, {{type: Pods, pods: {{metric: {{name: qps}}, target: {{type: AverageValue, averageValue: 10}}}}}}]"
    );
    let missing = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered";
    check(
        &two,
        2,
        "a Running ready use=10m; b Running ready use=10m",
        &[Ok(None), Err(missing)],
        expect![[r#"
            stays
            AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
            ScalingActive False FailedGetPodsMetric: the HPA was unable to compute the replica count: unable to get metric qps: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
            Warning FailedGetPodsMetric: unable to get metric qps: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
            Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 2), first error is: failed to get pods metric value: unable to get metric qps: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
            [{"resource":{"current":{"averageUtilization":10,"averageValue":"10m"},"name":"cpu"},"type":"Resource"},{"type":""}]
        "#]],
    );
    check(
        &two,
        2,
        "a Running ready use=90m; b Running ready use=90m",
        &[Ok(None), Err(missing)],
        expect![[r#"
            2 -> 4 (cpu resource utilization (percentage of request) above target)
            AbleToScale True ReadyForNewScale: recommended size matches current size
            ScalingActive True ValidMetricFound: the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)
            ScalingLimited False DesiredWithinRange: the desired count is within the acceptable range
            Warning FailedGetPodsMetric: unable to get metric qps: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered
            [{"resource":{"current":{"averageUtilization":90,"averageValue":"90m"},"name":"cpu"},"type":"Resource"},{"type":""}]
        "#]],
    );
}

#[test]
fn no_metrics_at_all() {
    let gone = "unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)";
    check(
        &format!("maxReplicas: 10, metrics: [{CPU_HALF}]"),
        2,
        "a Running ready",
        &[Err(gone)],
        expect![[r#"
            stays
            AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
            ScalingActive False FailedGetResourceMetric: the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)
            Warning FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)
            Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)
            [{"type":""}]
        "#]],
    );
}

#[test]
fn what_each_source_says() {
    let object = |target: &str| {
        format!(
            "maxReplicas: 10, metrics: [{{type: Object, object: {{describedObject: {{apiVersion: v1, kind: Service, name: s}}, metric: {{name: qps}}, target: {target}}}}}]"
        )
    };
    let pods = "a Running ready; b Running ready";
    let value = object("{type: Value, value: 10}");
    check(
        &value,
        2,
        pods,
        &[Ok(Some(Reading::One(20_000)))],
        expect![[r#"
        2 -> 4 (Service metric qps above target)
        AbleToScale True ReadyForNewScale: recommended size matches current size
        ScalingActive True ValidMetricFound: the HPA was able to successfully calculate a replica count from Service metric qps
        ScalingLimited False DesiredWithinRange: the desired count is within the acceptable range
        [{"object":{"current":{"value":"20"},"describedObject":{"apiVersion":"v1","kind":"Service","name":"s"},"metric":{"name":"qps"}},"type":"Object"}]
    "#]],
    );
    check(
        &value,
        2,
        pods,
        &[Err("none")],
        expect![[r#"
        stays
        AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
        ScalingActive False FailedGetObjectMetric: the HPA was unable to compute the replica count: unable to get metric qps: Service on ns s/none
        Warning FailedGetObjectMetric: unable to get metric qps: Service on ns s/none
        Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get object metric value: unable to get metric qps: Service on ns s/none
        [{"type":""}]
    "#]],
    );
    check(
        &object("{type: AverageValue, averageValue: 10}"),
        2,
        pods,
        &[Ok(Some(Reading::One(35_000)))],
        expect![[r#"
            2 -> 4 (external metric qps(nil) above target)
            AbleToScale True ReadyForNewScale: recommended size matches current size
            ScalingActive True ValidMetricFound: the HPA was able to successfully calculate a replica count from external metric qps(nil)
            ScalingLimited False DesiredWithinRange: the desired count is within the acceptable range
            [{"object":{"current":{"averageValue":"17500m"},"describedObject":{"apiVersion":"v1","kind":"Service","name":"s"},"metric":{"name":"qps"}},"type":"Object"}]
        "#]],
    );
    check(
        &object("{type: Utilization}"),
        2,
        pods,
        &[Ok(Some(Reading::One(1)))],
        expect![[r#"
        stays
        AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
        ScalingActive False FailedGetObjectMetric: the HPA was unable to compute the replica count: invalid object metric source: neither a value target nor an average value target was set
        Warning FailedGetObjectMetric: invalid object metric source: neither a value target nor an average value target was set
        Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get object metric value: invalid object metric source: neither a value target nor an average value target was set
        [{"type":""}]
    "#]],
    );
    check(
        "maxReplicas: 10, metrics: [{type: External, external: {metric: {name: queue}, target: {type: Value, value: 10}}}]",
        2,
        pods,
        &[Ok(Some(Reading::Many(vec![10_000, 2_500])))],
        expect![[r#"
            2 -> 3 (external metric queue(nil) above target)
            AbleToScale True ReadyForNewScale: recommended size matches current size
            ScalingActive True ValidMetricFound: the HPA was able to successfully calculate a replica count from external metric queue(nil)
            ScalingLimited False DesiredWithinRange: the desired count is within the acceptable range
            [{"external":{"current":{"value":"12500m"},"metric":{"name":"queue"}},"type":"External"}]
        "#]],
    );
    check(
        "maxReplicas: 10, metrics: [{type: ContainerResource, containerResource: {name: cpu, container: app, target: {type: AverageValue, averageValue: 100m}}}]",
        2,
        "a Running ready use=200m; b Running ready use=200m",
        &[Ok(None)],
        expect![[r#"
            2 -> 4 (cpu resource above target)
            AbleToScale True ReadyForNewScale: recommended size matches current size
            ScalingActive True ValidMetricFound: the HPA was able to successfully calculate a replica count from cpu resource
            ScalingLimited False DesiredWithinRange: the desired count is within the acceptable range
            [{"containerResource":{"container":"app","current":{"averageValue":"200m"},"name":"cpu"},"type":"ContainerResource"}]
        "#]],
    );
    check(
        "maxReplicas: 10, metrics: [{type: Moon}]",
        2,
        pods,
        &[Err("x")],
        expect![[r#"
        stays
        AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
        ScalingActive False InvalidMetricSourceType: the HPA was unable to compute the replica count: unknown metric source type "Moon"
        Warning InvalidMetricSourceType: unknown metric source type "Moon"
        Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: unknown metric source type "Moon"
        [{"type":""}]
    "#]],
    );
}

#[test]
fn out_of_bounds_needs_no_metrics() {
    let all = |spec: &str, current| shown(&decide(&scaler(spec), Ok(target(current)), Look::NotNeeded));
    expect![[r#"
        7 -> 4 (Current number of replicas above Spec.MaxReplicas)
        AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
    "#]]
    .assert_eq(&all("minReplicas: 2, maxReplicas: 4", 7));
    expect![[r#"
        1 -> 2 (Current number of replicas below Spec.MinReplicas)
        AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
    "#]]
    .assert_eq(&all("minReplicas: 2, maxReplicas: 4", 1));
    expect![[r#"
        stays
        AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
        ScalingActive False ScalingDisabled: scaling is disabled since the replica count of the target is zero
    "#]]
    .assert_eq(&all("minReplicas: 2, maxReplicas: 4", 0));
}

#[test]
fn selectors_that_do_not_do() {
    let scaler = scaler("maxReplicas: 4");
    let all = |look| shown(&decide(&scaler, Ok(target(2)), look));
    expect![[r#"
        stays
        AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
        ScalingActive False InvalidSelector: the HPA target's scale is missing a selector
        Warning SelectorRequired: selector is required
        Warning FailedComputeMetricsReplicas: selector is required
    "#]]
    .assert_eq(&all(Look::NoSelector));
    expect![[r#"
        stays
        AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
        ScalingActive False InvalidSelector: couldn't convert selector into a corresponding internal selector object: unable to parse
        Warning InvalidSelector: couldn't convert selector into a corresponding internal selector object: unable to parse
        Warning FailedComputeMetricsReplicas: couldn't convert selector into a corresponding internal selector object: unable to parse
    "#]].assert_eq(&all(Look::BadSelector("unable to parse".into())));
    expect![[r#"
        stays
        AbleToScale True SucceededGetScale: the HPA controller was able to get the target's current scale
        ScalingActive False AmbiguousSelector: pods by selector app=d are controlled by multiple HPAs: [ns/h ns/other]
        Warning AmbiguousSelector: pods by selector app=d are controlled by multiple HPAs: [ns/h ns/other]
        Warning FailedComputeMetricsReplicas: pods by selector app=d are controlled by multiple HPAs: [ns/h ns/other]
    "#]].assert_eq(&all(Look::Shared(vec!["ns/h".into(), "ns/other".into()])));
}

#[test]
fn no_scale() {
    let error = "deployments.apps \"d\" not found".to_string();
    let decision = decide(&scaler("maxReplicas: 4"), Err(error), Look::NotNeeded);
    expect![[r#"
        stays
        AbleToScale False FailedGetScale: the HPA controller was unable to get the target's current scale: deployments.apps "d" not found
        Warning FailedGetScale: deployments.apps "d" not found
    "#]].assert_eq(&shown(&decision));
}

#[test]
fn a_rescale_is_told_when_it_is_done() {
    let scaler = scaler("minReplicas: 2, maxReplicas: 4");
    let now = Moment { wall: now(), at: at(1000) };
    let mut done = decide(&scaler, Ok(target(7)), Look::NotNeeded);
    done.done(None, &mut Memory::default(), now);
    expect![[r#"
        7 -> 4 (Current number of replicas above Spec.MaxReplicas)
        AbleToScale True SucceededRescale: the HPA controller was able to update the target scale to 4
        Normal SuccessfulRescale: New size: 4; reason: Current number of replicas above Spec.MaxReplicas
    "#]]
    .assert_eq(&shown(&done));
    assert_eq!((done.status.current_replicas, done.status.desired_replicas), (Some(7), 4));
    assert_eq!(done.status.last_scale_time, Some(time("2026-01-01T10:00:00Z")));
    let mut refused = decide(&scaler, Ok(target(7)), Look::NotNeeded);
    refused.refused("forbidden");
    expect![[r#"
        stays
        AbleToScale False FailedUpdateScale: the HPA controller was unable to update the target scale: forbidden
        Warning FailedRescale: New size: 4; reason: Current number of replicas above Spec.MaxReplicas; error: forbidden
    "#]].assert_eq(&shown(&refused));
    assert_eq!((refused.status.desired_replicas, refused.status.last_scale_time), (0, None));
}

#[test]
fn an_autoscalers_own_tolerance() {
    let spec =
        |rules: &str| scaler(&format!("maxReplicas: 10, behavior: {{{rules}}}, metrics: [{CPU_HALF}]"));
    let replicas = |rules: &str, used: &str| {
        let (pods, samples) = scene_of(&format!("a Running ready use={used}; b Running ready use={used}"));
        let look = Look::Pods { pods: pods.iter().collect(), readings: vec![Ok(Reading::Pods(samples))] };
        decide(&spec(rules), Ok(target(2)), look).asked
    };
    assert_eq!(replicas("scaleUp: {tolerance: 0.5}", "70m"), Some(2));
    assert_eq!(replicas("scaleUp: {tolerance: '0'}", "51m"), Some(3));
    assert_eq!(replicas("scaleUp: {tolerance: 0.5}", "20m"), Some(1));
    assert_eq!(replicas("scaleDown: {tolerance: 0.7}", "20m"), Some(2));
    assert_eq!(replicas("scaleDown: {tolerance: 0.7}", "70m"), Some(3));
}

#[test]
fn conditions_keep_their_time_while_they_hold() {
    let mut scaler = scaler("minReplicas: 2, maxReplicas: 4");
    scaler.status = serde_yaml::from_str(
        "{desiredReplicas: 3, conditions: [{type: AbleToScale, status: 'True', lastTransitionTime: '2026-01-01T08:00:00Z'}, {type: ScalingActive, status: 'True', lastTransitionTime: '2026-01-01T08:00:00Z'}]}",
    )
    .expect("a status");
    let decision = decide(&scaler, Ok(target(0)), Look::NotNeeded);
    let conditions = decision.status.conditions.clone().unwrap();
    let times: Vec<_> = conditions.iter().map(|c| c.last_transition_time.clone().unwrap()).collect();
    assert_eq!(times, [time("2026-01-01T08:00:00Z"), time("2026-01-01T10:00:00Z")]);
    assert!(decision.events.iter().all(|(kind, ..)| matches!(kind, Kind::Warning)));
    assert_eq!(decision.status.desired_replicas, 0);
}

#[test]
fn selectors_as_upstream_prints_them() {
    let selector = serde_yaml::from_str(
        "{matchLabels: {a: '1'}, matchExpressions: [{key: b, operator: In, values: [x, y]}]}",
    )
    .expect("a selector");
    assert_eq!(
        written(Some(&selector)),
        "&LabelSelector{MatchLabels:map[string]string{a: 1,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:b,Operator:In,Values:[x y],},},}"
    );
}
