//! Windows and limits.

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

use super::super::behaviour::{Bounds, Memory, limit, stabilise};
use super::at;

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
