//! Each metric of an autoscaler: what it proposes, how it is called and what the status says of it. Pure.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus, MetricIdentifier, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource, ObjectMetricStatus, PodsMetricSource,
    PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::quantity::{Format, Quantity};

use super::replicas::{self, Proposal, Resource, Samples, Scene};

/// What was read for a metric, in thousandths.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Of each pod.
    Pods(Samples),
    /// One value for the whole.
    One(i64),
    /// Several values that count together.
    Many(Vec<i64>),
}

/// What a metric came to.
#[derive(Debug)]
pub struct Verdict {
    pub replicas: i32,
    /// As `reason:` of a rescale names it.
    pub name: String,
    pub status: MetricStatus,
}

/// Why a metric says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Of the event and of the condition.
    pub reason: &'static str,
    /// The cause, as the event tells it.
    pub cause: String,
    /// The cause with what was tried, as it is summed up.
    pub message: String,
    /// The fault lies in the autoscaler's own text.
    pub spec: bool,
}

/// The type of a metric, for counting: upstream's names, and nothing else that a user wrote.
pub fn kind(spec: &MetricSpec) -> &'static str {
    ["Resource", "ContainerResource", "Pods", "Object", "External"]
        .into_iter()
        .find(|k| *k == spec.type_)
        .unwrap_or("Unknown")
}

/// Judges one metric.
pub fn judge(
    scene: &Scene<'_>,
    spec: &MetricSpec,
    reading: &Result<Reading, String>,
) -> Result<Verdict, Fault> {
    match spec.type_.as_str() {
        "Resource" => {
            let Some(source) = &spec.resource else { return Err(unknown(spec)) };
            let resource = Resource { name: &source.name, container: None };
            let judged = resource_metric(scene, &resource, &source.target, reading);
            let (proposal, name, current) = judged.map_err(|(cause, bad)| Fault {
                reason: "FailedGetResourceMetric",
                message: format!("failed to get {} resource metric value: {cause}", source.name),
                cause,
                spec: bad,
            })?;
            let status = ResourceMetricStatus { name: source.name.clone(), current };
            let status = MetricStatus { resource: Some(status), ..typed(spec) };
            Ok(Verdict { replicas: proposal.replicas, name, status })
        }
        "ContainerResource" => {
            let Some(source) = &spec.container_resource else { return Err(unknown(spec)) };
            let resource = Resource { name: &source.name, container: Some(&source.container) };
            let judged = resource_metric(scene, &resource, &source.target, reading);
            let (proposal, name, current) = judged.map_err(|(cause, bad)| Fault {
                reason: "FailedGetContainerResourceMetric",
                message: format!("failed to get {} container metric value: {cause}", source.container),
                cause,
                spec: bad,
            })?;
            let status = ContainerResourceMetricStatus {
                name: source.name.clone(),
                container: source.container.clone(),
                current,
            };
            let status = MetricStatus { container_resource: Some(status), ..typed(spec) };
            Ok(Verdict { replicas: proposal.replicas, name, status })
        }
        "Pods" => pods_metric(scene, spec.pods.as_ref().ok_or_else(|| unknown(spec))?, reading),
        "Object" => object_metric(scene, spec.object.as_ref().ok_or_else(|| unknown(spec))?, reading),
        "External" => external_metric(scene, spec.external.as_ref().ok_or_else(|| unknown(spec))?, reading),
        _ => Err(unknown(spec)),
    }
}

fn typed(spec: &MetricSpec) -> MetricStatus {
    MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() }
}

fn unknown(spec: &MetricSpec) -> Fault {
    let message = format!("unknown metric source type {:?}", spec.type_);
    Fault { reason: "InvalidMetricSourceType", cause: message.clone(), message, spec: true }
}

/// A quantity's thousandths.
fn milli(amount: &Amount) -> i64 {
    Quantity::parse(&amount.0).map_or(0, |q| q.milli_value())
}

fn amount(milli: i64) -> Option<Amount> {
    Some(Amount(Quantity::from_milli(milli, Format::DecimalSi).canonical()))
}

fn samples(reading: &Result<Reading, String>) -> Result<Samples, String> {
    match reading {
        Ok(Reading::Pods(samples)) => Ok(samples.clone()),
        Ok(_) => Err("the metric is not one of pods".into()),
        Err(error) => Err(error.clone()),
    }
}

/// The sum of what was read for the whole.
fn total(reading: &Result<Reading, String>) -> Result<i64, String> {
    match reading {
        Ok(Reading::One(value)) => Ok(*value),
        Ok(Reading::Many(values)) => Ok(values.iter().fold(0, |sum: i64, v| sum.saturating_add(*v))),
        Ok(Reading::Pods(_)) => Err("the metric is one of pods".into()),
        Err(error) => Err(error.clone()),
    }
}

type Judged = Result<(Proposal, String, MetricValueStatus), (String, bool)>;

fn resource_metric(
    scene: &Scene<'_>,
    resource: &Resource<'_>,
    target: &MetricTarget,
    reading: &Result<Reading, String>,
) -> Judged {
    let what = resource.name;
    let read = samples(reading).map_err(|e| format!("unable to get metrics for resource {what}: {e}"));
    if let Some(average) = &target.average_value {
        let proposal = read.and_then(|s| replicas::by_average(scene, what, s, milli(average)));
        let proposal = proposal.map_err(|e| (format!("failed to get {what} usage: {e}"), false))?;
        let current = MetricValueStatus { average_value: amount(proposal.value), ..Default::default() };
        return Ok((proposal, format!("{what} resource"), current));
    }
    let Some(percent) = target.average_utilization else {
        let text = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
        return Err((text.into(), true));
    };
    let proposal = read.and_then(|s| replicas::by_utilization(scene, resource, s, percent));
    let proposal = proposal.map_err(|e| (format!("failed to get {what} utilization: {e}"), false))?;
    let current = MetricValueStatus {
        average_utilization: proposal.utilization,
        average_value: amount(proposal.value),
        value: None,
    };
    let of = if resource.container.is_some() { "container resource" } else { "resource" };
    Ok((proposal, format!("{what} {of} utilization (percentage of request)"), current))
}

fn pods_metric(
    scene: &Scene<'_>,
    source: &PodsMetricSource,
    reading: &Result<Reading, String>,
) -> Result<Verdict, Fault> {
    let metric = &source.metric.name;
    let read = samples(reading).map_err(|e| format!("unable to get metric {metric}: {e}"));
    let target = source.target.average_value.as_ref().map_or(0, milli);
    let proposal = read.and_then(|s| replicas::by_average(scene, "", s, target)).map_err(|cause| Fault {
        reason: "FailedGetPodsMetric",
        message: format!("failed to get pods metric value: {cause}"),
        cause,
        spec: false,
    })?;
    let current = MetricValueStatus { average_value: amount(proposal.value), ..Default::default() };
    let status = PodsMetricStatus { metric: source.metric.clone(), current };
    let status = MetricStatus { type_: "Pods".into(), pods: Some(status), ..Default::default() };
    Ok(Verdict { replicas: proposal.replicas, name: format!("pods metric {metric}"), status })
}

fn object_metric(
    scene: &Scene<'_>,
    source: &ObjectMetricSource,
    reading: &Result<Reading, String>,
) -> Result<Verdict, Fault> {
    let (metric, object) = (&source.metric.name, &source.described_object);
    let fault = |cause: String, spec| Fault {
        reason: "FailedGetObjectMetric",
        message: format!("failed to get object metric value: {cause}"),
        cause,
        spec,
    };
    let used = total(reading).map_err(|e| {
        format!("unable to get metric {metric}: {} on {} {}/{e}", object.kind, scene.namespace, object.name)
    });
    let (proposal, name, current) = match (source.target.type_.as_str(), &source.target) {
        ("Value", MetricTarget { value: Some(value), .. }) => {
            let proposal = used.and_then(|used| replicas::by_value(scene, used, milli(value)));
            let proposal = proposal.map_err(|e| fault(e, false))?;
            let current = MetricValueStatus { value: amount(proposal.value), ..Default::default() };
            (proposal, format!("{} metric {metric}", object.kind), current)
        }
        ("AverageValue", MetricTarget { average_value: Some(average), .. }) => {
            let proposal = replicas::by_share(scene, used.map_err(|e| fault(e, false))?, milli(average));
            let current = MetricValueStatus { average_value: amount(proposal.value), ..Default::default() };
            (proposal, external_name(&source.metric), current)
        }
        _ => {
            let text =
                "invalid object metric source: neither a value target nor an average value target was set";
            return Err(fault(text.into(), true));
        }
    };
    let status =
        ObjectMetricStatus { metric: source.metric.clone(), described_object: object.clone(), current };
    let status = MetricStatus { type_: "Object".into(), object: Some(status), ..Default::default() };
    Ok(Verdict { replicas: proposal.replicas, name, status })
}

fn external_metric(
    scene: &Scene<'_>,
    source: &ExternalMetricSource,
    reading: &Result<Reading, String>,
) -> Result<Verdict, Fault> {
    let metric = &source.metric.name;
    let fault = |cause: String, spec| Fault {
        reason: "FailedGetExternalMetric",
        message: format!("failed to get {metric} external metric value: {cause}"),
        cause,
        spec,
    };
    let selector = written(source.metric.selector.as_ref());
    let used = total(reading)
        .map_err(|e| format!("unable to get external metric {}/{metric}/{selector}: {e}", scene.namespace));
    let (proposal, current) = match &source.target {
        MetricTarget { average_value: Some(average), .. } => {
            let used =
                used.map_err(|e| fault(format!("failed to get {metric} external metric: {e}"), false))?;
            let proposal = replicas::by_share(scene, used, milli(average));
            let current = MetricValueStatus { average_value: amount(proposal.value), ..Default::default() };
            (proposal, current)
        }
        MetricTarget { value: Some(value), .. } => {
            let proposal = used.and_then(|used| replicas::by_value(scene, used, milli(value)));
            let proposal =
                proposal.map_err(|e| fault(format!("failed to get external metric {metric}: {e}"), false))?;
            let current = MetricValueStatus { value: amount(proposal.value), ..Default::default() };
            (proposal, current)
        }
        _ => {
            let text =
                "invalid external metric source: neither a value target nor an average value target was set";
            return Err(fault(text.into(), true));
        }
    };
    let status = ExternalMetricStatus { metric: source.metric.clone(), current };
    let status = MetricStatus { type_: "External".into(), external: Some(status), ..Default::default() };
    Ok(Verdict { replicas: proposal.replicas, name: external_name(&source.metric), status })
}

fn external_name(metric: &MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, written(metric.selector.as_ref()))
}

/// A selector the way upstream's messages print it.
pub fn written(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".into() };
    let mut text = String::from("&LabelSelector{MatchLabels:map[string]string{");
    for (key, value) in selector.match_labels.iter().flatten() {
        text += &format!("{key}: {value},");
    }
    text += "},MatchExpressions:[]LabelSelectorRequirement{";
    for e in selector.match_expressions.iter().flatten() {
        let values = e.values.as_deref().unwrap_or_default().join(" ");
        text +=
            &format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", e.key, e.operator);
    }
    text + "},}"
}
