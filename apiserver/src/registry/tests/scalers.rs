//! Horizontal pod autoscalers, rule by rule.

use super::{created, errors, update_errors, with};
use serde_json::{Value, json};

/// An autoscaler with these members in its spec, over one that is right.
fn scaler(members: &str) -> String {
    let target = "{apiVersion: apps/v1, kind: Deployment, name: d}";
    let (base, own) = (format!("maxReplicas: 3, scaleTargetRef: {target}"), members);
    let spec = match own.contains("scaleTargetRef") || own.contains("maxReplicas") {
        true => own.to_string(),
        false => format!("{base}, {own}"),
    };
    format!(
        "{{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {{name: h}}, spec: {{{spec}}}}}"
    )
}

fn check(members: &str, expected: &[&str]) {
    let found = errors(&scaler(members));
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{members}");
}

fn metric(text: &str, expected: &[&str]) {
    let found = errors(&scaler(&format!("metrics: [{text}]")));
    let found: Vec<_> = found.lines().map(|l| l.trim_start_matches("spec.metrics[0].")).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn targets() {
    let target = |text: &str, expected: &[&str]| {
        check(&format!("maxReplicas: 3, scaleTargetRef: {{{text}}}"), expected);
    };
    target("apiVersion: apps/v1, kind: Deployment, name: d", &[]);
    target("apiVersion: v1, kind: ReplicationController, name: d", &[]);
    target("kind: ReplicationController, name: d", &[]);
    target(
        "apiVersion: v1, kind: Deployment, name: d",
        &["spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group"],
    );
    target(
        "apiVersion: a/b/c, kind: ReplicationController, name: d",
        &["spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"],
    );
    target(
        "apiVersion: apps/v1, kind: .., name: a/b",
        &[
            "spec.scaleTargetRef.kind: Invalid value: \"..\": may not be '..'",
            "spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'",
        ],
    );
}

#[test]
fn numbers() {
    let target = "scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}";
    check(
        &format!("minReplicas: 4, maxReplicas: -1, {target}"),
        &[
            "spec.maxReplicas: Invalid value: -1: must be greater than 0",
            "spec.maxReplicas: Invalid value: -1: must be greater than or equal to `minReplicas`",
        ],
    );
}

#[test]
fn behaviours() {
    let up = |text: &str, expected: &[&str]| {
        let whole = format!(
            "behavior: {{scaleUp: {{policies: [{{type: Pods, value: 1, periodSeconds: 9}}], {text}}}}}"
        );
        let found = errors(&scaler(&whole));
        let found: Vec<_> = found.lines().map(|l| l.trim_start_matches("spec.behavior.scaleUp.")).collect();
        assert_eq!(found, expected, "{text}");
    };
    up("tolerance: '0'", &[]);
    up("tolerance: '0.05', stabilizationWindowSeconds: 3600, selectPolicy: Disabled", &[]);
    up("tolerance: '-0.1'", &["tolerance: Invalid value: \"-0.1\": must be greater than or equal to 0"]);
    up(
        "stabilizationWindowSeconds: -1, selectPolicy: Mean",
        &[
            "stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero",
            "selectPolicy: Unsupported value: \"Mean\": supported values: \"Disabled\", \"Max\", \"Min\"",
        ],
    );
    check(
        "behavior: {scaleDown: {policies: [{type: Nodes, value: 0, periodSeconds: 1801}]}}",
        &[
            "spec.behavior.scaleDown.policies[0].type: Unsupported value: \"Nodes\": supported values: \"Percent\", \"Pods\"",
            "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
            "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        ],
    );
}

#[test]
fn metrics_have_the_source_of_their_type() {
    let cpu = "resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}";
    metric(&format!("{{type: Resource, {cpu}}}"), &[]);
    metric(
        &format!("{{type: Pods, {cpu}}}"),
        &["pods: Required value: must populate information for the given metric source"],
    );
    metric(
        &format!("{{{cpu}}}"),
        &[
            "type: Required value: must specify a metric source type",
            "type: Unsupported value: \"\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
        ],
    );
    metric(
        &format!(
            "{{type: Resource, {cpu}, external: {{metric: {{name: m}}, target: {{type: Value, value: 1}}}}}}"
        ),
        &["external: Forbidden: must populate the given metric source only"],
    );
}

#[test]
fn sources() {
    metric(
        "{type: Resource, resource: {target: {}}}",
        &[
            "resource.name: Required value: must specify a resource name",
            "resource.target.type: Required value: must specify a metric target type",
            "resource.target.type: Invalid value: \"\": must be either Utilization, Value, or AverageValue",
            "resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
        ],
    );
    metric(
        "{type: ContainerResource, containerResource: {name: gold, container: C, target: {type: Utilization, averageUtilization: 0, averageValue: '1'}}}",
        &[
            "containerResource.name: Invalid value: \"gold\": must be a standard resource type or fully qualified",
            "containerResource.name: Invalid value: \"gold\": must be a standard resource for containers",
            "containerResource.container: Invalid value: \"C\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "containerResource.target.averageUtilization: Invalid value: 0: must be greater than 0",
            "containerResource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization",
        ],
    );
    metric(
        "{type: Object, object: {describedObject: {kind: Service, name: s, apiVersion: v1}, metric: {}, target: {type: Value}}}",
        &[
            "object.metric.name: Required value: must specify a metric name",
            "object.target.averageValue: Required value: must set either a target value or averageValue",
        ],
    );
    metric(
        "{type: External, external: {metric: {name: a%b}, target: {type: Value, value: '-1', averageValue: '1'}}}",
        &[
            "external.metric.name: Invalid value: \"a%b\": may not contain '%'",
            "external.target.value: Invalid value: \"-1\": must be positive",
            "external.target.value: Forbidden: may not set both a target value for metric and a per-pod target",
        ],
    );
    metric(
        "{type: Pods, pods: {metric: {name: m}, target: {type: Value, value: '1'}}}",
        &["pods.target.averageValue: Required value: must specify a positive target averageValue"],
    );
}

#[test]
fn what_was_bad_before_may_stay() {
    let old = with(&created(&scaler("minReplicas: 1")), "/spec/scaleTargetRef/apiVersion", json!("v1"));
    assert_eq!(update_errors(&old, &with(&old, "/spec/maxReplicas", json!(5)), ""), "");
    let other = with(&old, "/spec/scaleTargetRef/apiVersion", json!("v2"));
    assert!(update_errors(&old, &other, "").contains("apiVersion must specify API group"));
    let zero = with(&old, "/spec/minReplicas", json!(0));
    let metric: Value = json!([{"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}]);
    let zero = with(&zero, "/spec/metrics", metric);
    assert_eq!(update_errors(&zero, &with(&zero, "/spec/maxReplicas", json!(5)), ""), "");
    assert!(update_errors(&old, &zero, "").contains("must be greater than or equal to 1"));
}
