//! Pods, and the templates workloads make them from.

use super::container;
use super::page::Page;
use super::subject::Subject;
use super::volume;
use crate::dig;
use crate::put;
use serde_json::Value;

/// Writes a pod.
pub fn page(subject: &Subject, page: &mut Page) {
    let pod = &subject.object;
    page.name(pod);
    page.namespace(pod);
    placement(pod, page);
    page.labels_and_annotations(pod);
    status(subject, page);
    addresses(pod, page);
    if let Some(owner) = dig::controller(pod) {
        page.field(0, "Controlled By", format!("{}/{}", dig::text(owner, "kind"), dig::text(owner, "name")));
    }
    said(pod, 0, "NominatedNodeName", "status.nominatedNodeName", page);
    if dig::has(pod, "spec.resources") {
        page.put(0, "Resources:\n");
        container::resources(&pod["spec"]["resources"], 1, page);
    }
    containers(pod, page);
    conditions(pod, page);
    volume::of_pod(dig::items(pod, "spec.volumes"), "", page);
    page.field(0, "QoS Class", super::qos::class(pod));
    page.labels("", "Node-Selectors", &dig::strings(pod, "spec.nodeSelector"));
    tolerations(&pod["spec"], "Tolerations", page);
    spreading(&pod["spec"], "", page);
    group(&pod["spec"], "", page);
    subject.events(page);
}

/// A field that is left out when it is empty.
fn said(object: &Value, level: usize, title: &str, path: &str, page: &mut Page) {
    let text = dig::text(object, path);
    if !text.is_empty() {
        page.field(level, title, text);
    }
}

fn placement(pod: &Value, page: &mut Page) {
    if dig::has(pod, "spec.priority") {
        page.field(0, "Priority", dig::int(pod, "spec.priority"));
    }
    said(pod, 0, "Priority Class Name", "spec.priorityClassName", page);
    said(pod, 0, "Runtime Class Name", "spec.runtimeClassName", page);
    said(pod, 0, "Service Account", "spec.serviceAccountName", page);
    match dig::text(pod, "spec.nodeName") {
        "" => page.field(0, "Node", "<none>"),
        node => page.field(0, "Node", format!("{node}/{}", dig::text(pod, "status.hostIP"))),
    }
    if dig::has(pod, "status.startTime") {
        page.field(0, "Start Time", dig::date(pod, "status.startTime"));
    }
}

fn status(subject: &Subject, page: &mut Page) {
    let pod = &subject.object;
    let phase = dig::text(pod, "status.phase");
    if dig::has(pod, "metadata.deletionTimestamp") && !["Failed", "Succeeded"].contains(&phase) {
        subject.phase(page);
        let grace = dig::int(pod, "metadata.deletionGracePeriodSeconds");
        page.field(0, "Termination Grace Period", format!("{grace}s"));
    } else {
        page.field(0, "Status", phase);
    }
    said(pod, 0, "Reason", "status.reason", page);
    said(pod, 0, "Message", "status.message", page);
    container::seccomp(&pod["spec"]["securityContext"], 0, 0, page);
}

fn addresses(pod: &Value, page: &mut Page) {
    page.field(0, "IP", dig::text(pod, "status.podIP"));
    let addresses = dig::items(pod, "status.podIPs");
    if addresses.is_empty() {
        return page.field(0, "IPs", "<none>");
    }
    page.put(0, "IPs:\n");
    for address in addresses {
        page.field(1, "IP", dig::text(address, "ip"));
    }
}

fn containers(pod: &Value, page: &mut Page) {
    let kinds = [
        ("Init Containers", "spec.initContainers", "status.initContainerStatuses"),
        ("Containers", "spec.containers", "status.containerStatuses"),
        ("Ephemeral Containers", "spec.ephemeralContainers", "status.ephemeralContainerStatuses"),
    ];
    for (title, containers, statuses) in kinds {
        let list = dig::items(pod, containers);
        if !list.is_empty() || title == "Containers" {
            container::list(title, list, dig::items(pod, statuses), Some(pod), "", page);
        }
    }
}

fn conditions(pod: &Value, page: &mut Page) {
    let conditions = dig::items(pod, "status.conditions");
    let gates = dig::items(pod, "spec.readinessGates");
    if !gates.is_empty() {
        page.put(0, "Readiness Gates:\n  Type\tStatus\n");
    }
    for gate in gates {
        let kind = dig::text(gate, "conditionType");
        let held = conditions.iter().find(|condition| dig::text(condition, "type") == kind);
        let status = held.map_or("<none>", |condition| dig::text(condition, "status"));
        put!(page, 1, "{kind} \t{status} \n");
    }
    if !conditions.is_empty() {
        page.put(0, "Conditions:\n  Type\tStatus\n");
    }
    for condition in conditions {
        put!(page, 1, "{} \t{} \n", dig::text(condition, "type"), dig::text(condition, "status"));
    }
}

fn tolerations(spec: &Value, title: &str, page: &mut Page) {
    let mut tolerations: Vec<_> = dig::items(spec, "tolerations").iter().collect();
    tolerations.sort_by_key(|toleration| dig::text(toleration, "key"));
    let lines: Vec<_> = tolerations.into_iter().map(toleration).collect();
    page.lines("", title, &lines);
}

fn toleration(toleration: &Value) -> String {
    let (key, value, effect) =
        (dig::text(toleration, "key"), dig::text(toleration, "value"), dig::text(toleration, "effect"));
    let mut line = key.to_string();
    if !value.is_empty() {
        line += &format!("={value}");
    }
    if !effect.is_empty() {
        line += &format!(":{effect}");
    }
    if dig::text(toleration, "operator") == "Exists" && value.is_empty() {
        line += if line.is_empty() { "op=Exists" } else { " op=Exists" };
    }
    if dig::has(toleration, "tolerationSeconds") {
        line += &format!(" for {}s", dig::int(toleration, "tolerationSeconds"));
    }
    line
}

fn spreading(spec: &Value, before: &str, page: &mut Page) {
    let mut rules: Vec<_> = dig::items(spec, "topologySpreadConstraints").iter().collect();
    if rules.is_empty() {
        return;
    }
    rules.sort_by_key(|rule| dig::text(rule, "topologyKey"));
    let lines: Vec<_> = rules.into_iter().map(spread).collect();
    page.lines(before, "Topology Spread Constraints", &lines);
}

fn spread(rule: &Value) -> String {
    let (key, otherwise) = (dig::text(rule, "topologyKey"), dig::text(rule, "whenUnsatisfiable"));
    let line = format!("{key}:{otherwise} when max skew {} is exceeded", dig::int(rule, "maxSkew"));
    match rule.get("labelSelector").filter(|selector| !selector.is_null()) {
        Some(selector) => format!("{line} for selector {}", dig::selector_or_none(selector)),
        None => line,
    }
}

fn group(spec: &Value, before: &str, page: &mut Page) {
    if dig::has(spec, "schedulingGroup") {
        put!(page, 0, "{before}SchedulingGroup:\n");
        page.field(1, "PodGroupName", dig::text(spec, "schedulingGroup.podGroupName"));
    }
}

/// Writes the template of a workload's pods.
pub fn template(template: &Value, page: &mut Page) {
    page.put(0, "Pod Template:\n");
    if template.is_null() {
        return page.put(1, "<unset>");
    }
    let spec = &template["spec"];
    page.labels("", "  Labels", &dig::strings(template, "metadata.labels"));
    let annotations = dig::strings(template, "metadata.annotations");
    if !annotations.is_empty() {
        page.annotations("  Annotations", &annotations);
    }
    said(spec, 1, "Service Account", "serviceAccountName", page);
    let first = dig::items(spec, "initContainers");
    if !first.is_empty() {
        container::list("Init Containers", first, &[], None, "  ", page);
    }
    container::list("Containers", dig::items(spec, "containers"), &[], None, "  ", page);
    volume::of_pod(dig::items(spec, "volumes"), "  ", page);
    spreading(spec, "  ", page);
    said(spec, 1, "Priority Class Name", "priorityClassName", page);
    page.labels("", "  Node-Selectors", &dig::strings(spec, "nodeSelector"));
    tolerations(spec, "  Tolerations", page);
    group(spec, "  ", page);
}
