//! The whole: what a look at an autoscaler comes to.

use control::events::Kind;
use expect_test::{Expect, expect};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;

use super::super::behaviour::Memory;
use super::super::metrics::{Reading, written};
use super::super::plan::{Decision, Look, Moment, Observed, Target, plan};
use super::{at, scaler, scene_of, settings, target};
use crate::testing::{now, time};

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
