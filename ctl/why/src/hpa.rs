//! HorizontalPodAutoscalers: what they measure, and what holds them back.

use coxctl_kit::dig;
use serde_json::Value;

use crate::case::Case;
use crate::facts;
use crate::finding::{Finding, Reason};
use crate::{leaving, words};

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    let (now, wished) = (case.int("status.currentReplicas"), case.int("status.desiredReplicas"));
    let bad: Vec<Reason> = [target(case), scale(case), metrics(case)].into_iter().flatten().collect();
    if case.items("status.conditions").is_empty() && bad.is_empty() {
        let text = format!("no controller has looked at it for {}", case.since("metadata.creationTimestamp"));
        return Finding::waiting(
            "has not been looked at yet",
            vec![Reason::new("unobserved", text).help("see whether kube-controller-manager runs")],
        );
    }
    if !bad.is_empty() {
        return Finding::bad(format!("does not scale {}", called(case)), bad);
    }
    let notes: Vec<Reason> =
        limited(case).into_iter().chain(stabilised(case)).chain([figures(case)]).collect();
    let span =
        format!("{now} of {} to {}", minimum(case), words::count(case.int("spec.maxReplicas"), "replica"));
    match notes.len() > 1 {
        true => Finding::waiting(format!("holds {} at {span}", called(case)), notes),
        false if now != wished => {
            Finding::waiting(format!("scales {} from {now} to {wished}", called(case)), notes)
        }
        false => Finding::well(format!("is well: {} has {span}", called(case))).and(notes),
    }
}

fn called(case: &Case<'_>) -> String {
    format!(
        "{}/{}",
        case.text("spec.scaleTargetRef.kind").to_lowercase(),
        case.text("spec.scaleTargetRef.name")
    )
}

fn minimum(case: &Case<'_>) -> i64 {
    dig::at(case.object, "spec.minReplicas").as_i64().unwrap_or(1)
}

fn target(case: &Case<'_>) -> Option<Reason> {
    let (kind, name) = (case.text("spec.scaleTargetRef.kind"), case.text("spec.scaleTargetRef.name"));
    if !case.facts.knows(kind) || case.facts.find(kind, case.namespace(), name).is_some() {
        return None;
    }
    let known: Vec<&str> = case.facts.within(kind, case.namespace()).map(facts::name).collect();
    let near = words::nearest(name, &known)
        .map(|near| format!("name {near} in spec.scaleTargetRef"))
        .unwrap_or_else(|| format!("create the {kind}, or correct spec.scaleTargetRef"));
    let text = format!("its target {kind} {name} does not exist in {}", case.namespace());
    Some(
        Reason::new("target", text)
            .seen("HorizontalPodAutoscaler", case.name(), "spec.scaleTargetRef.name", name)
            .help(near),
    )
}

fn said(case: &Case<'_>, condition: &Value, rule: &'static str, lead: &str) -> Reason {
    let (kind, reason) = (dig::text(condition, "type"), dig::text(condition, "reason"));
    let text = format!("{lead} ({reason}): {}", words::message(dig::text(condition, "message")));
    Reason::new(rule, text).seen(
        "HorizontalPodAutoscaler",
        case.name(),
        &format!("status.conditions.{kind}.reason"),
        reason,
    )
}

fn with<'a>(case: &Case<'a>, kind: &str, status: &str) -> Option<&'a Value> {
    case.condition(kind).filter(|c| dig::text(c, "status") == status)
}

fn scale(case: &Case<'_>) -> Option<Reason> {
    let condition = with(case, "AbleToScale", "False")?;
    Some(said(case, condition, "scale", "its target can't be scaled"))
}

fn metrics(case: &Case<'_>) -> Option<Reason> {
    let condition = with(case, "ScalingActive", "False")?;
    let message = dig::text(condition, "message");
    if dig::text(condition, "reason") == "ScalingDisabled" {
        let text = format!("{} is scaled to 0, which turns autoscaling off", called(case));
        return Some(
            Reason::new("scaled-to-zero", text)
                .seen(
                    "HorizontalPodAutoscaler",
                    case.name(),
                    "status.conditions.ScalingActive.reason",
                    "ScalingDisabled",
                )
                .help(format!("`coxctl -n {} scale {} --replicas=1`", case.namespace(), called(case))),
        );
    }
    let reason = said(case, condition, "metrics", "its metrics can't be had");
    let group = |prefix: &str| {
        case.facts
            .all("APIService")
            .find(|service| facts::name(service).ends_with(prefix) && !facts::name(service).is_empty())
    };
    Some(match () {
        () if message.contains("missing request for") => {
            let what = words::between(message, "missing request for ", " ").unwrap_or("cpu");
            reason.help(format!("give each container of the pods resources.requests.{what}: a utilization is a share of that"))
        }
        () if message.contains("metrics.k8s.io") && case.facts.knows("APIService") && group("metrics.k8s.io").is_none() => {
            reason.help("no server of the metrics API is installed (no APIService v1beta1.metrics.k8s.io): run a metrics server")
        }
        () if message.contains("no metrics returned") => reason.help("wait a minute for the first measurements, and see that the metrics server reaches the kubelets"),
        () if message.contains("metrics.k8s.io") => reason.help("see whether the metrics server answers: `coxctl top pods`"),
        () => reason,
    })
}

fn limited(case: &Case<'_>) -> Option<Reason> {
    let condition = with(case, "ScalingLimited", "True")?;
    let most = case.int("spec.maxReplicas");
    let reason = dig::text(condition, "reason");
    let (text, help) = match reason {
        "TooManyReplicas" => (
            format!("its metrics ask for more than maxReplicas ({most})"),
            format!("raise spec.maxReplicas above {most}"),
        ),
        "TooFewReplicas" => (
            format!("its metrics ask for fewer than minReplicas ({})", minimum(case)),
            "lower spec.minReplicas if fewer will do".into(),
        ),
        "ScaleUpLimit" => (
            "spec.behavior.scaleUp does not let it grow faster".into(),
            "loosen spec.behavior.scaleUp.policies".into(),
        ),
        "ScaleDownLimit" => (
            "spec.behavior.scaleDown does not let it shrink faster".into(),
            "loosen spec.behavior.scaleDown.policies".into(),
        ),
        other => (
            format!("{other}: {}", words::message(dig::text(condition, "message"))),
            "see spec.behavior".into(),
        ),
    };
    Some(
        Reason::new("limits", text)
            .seen("HorizontalPodAutoscaler", case.name(), "status.conditions.ScalingLimited.reason", reason)
            .help(help),
    )
}

fn stabilised(case: &Case<'_>) -> Option<Reason> {
    let condition = with(case, "AbleToScale", "True")?;
    let (way, field) = match dig::text(condition, "reason") {
        "ScaleDownStabilized" => ("fewer", "scaleDown"),
        "ScaleUpStabilized" => ("more", "scaleUp"),
        _ => return None,
    };
    let usual = if field == "scaleDown" { 300 } else { 0 };
    let path = format!("spec.behavior.{field}.stabilizationWindowSeconds");
    let window = dig::at(case.object, &path).as_i64().unwrap_or(usual);
    let text = format!(
        "its metrics ask for {way} replicas, but not for the whole of the stabilisation window ({window}s) yet"
    );
    Some(Reason::new("stabilisation", text).seen("HorizontalPodAutoscaler", case.name(), &path, window))
}

/// What is measured, beside what is wished.
fn figures(case: &Case<'_>) -> Reason {
    let current = case.items("status.currentMetrics");
    let lines: Vec<String> = case
        .items("spec.metrics")
        .iter()
        .enumerate()
        .map(|(i, metric)| figure(metric, current.get(i)))
        .collect();
    Reason::new(
        "figures",
        format!("measured: {}", if lines.is_empty() { "nothing".into() } else { words::list(&lines, 5) }),
    )
}

fn figure(metric: &Value, current: Option<&Value>) -> String {
    let kind = dig::text(metric, "type");
    let field = kind
        .get(..1)
        .map(|first| first.to_lowercase() + kind.get(1..).unwrap_or_default())
        .unwrap_or_default();
    let own = dig::at(metric, &field);
    let name = match dig::text(own, "name") {
        "" => dig::text(own, "metric.name"),
        name => name,
    };
    let amount = |value: &Value| match value {
        value if dig::has(value, "averageUtilization") => {
            format!("{}%", dig::int(value, "averageUtilization"))
        }
        value if dig::has(value, "averageValue") => dig::quantity(dig::at(value, "averageValue")).canonical(),
        value if dig::has(value, "value") => dig::quantity(dig::at(value, "value")).canonical(),
        _ => "unknown".into(),
    };
    let now =
        current.map(|c| amount(dig::at(c, &format!("{field}.current")))).unwrap_or_else(|| "unknown".into());
    format!("{name} {now} of {}", amount(dig::at(own, "target")))
}
