//! How many replicas a metric asks for.

use k8s_openapi::api::core::v1::Pod;

use super::super::replicas::{Proposal, Resource, Samples, Scene, Tolerances};
use super::super::replicas::{by_average, by_share, by_utilization, by_value};
use super::{scene_of, settings};
use crate::testing::now;

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
