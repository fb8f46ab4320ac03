//! Replication controllers, replica sets, deployments, daemon sets and stateful sets.

use super::claim;
use super::page::Page;
use super::pod;
use super::subject::Subject;
use crate::dig;
use crate::put;
use serde_json::Value;

/// Writes a replication controller.
pub fn replication_controller(subject: &Subject, page: &mut Page) {
    let object = &subject.object;
    page.name(object);
    page.namespace(object);
    page.field(0, "Selector", dig::one_line(&dig::strings(object, "spec.selector")));
    page.labels_and_annotations(object);
    replicas(object, page);
    page.field(0, "Pods Status", subject.pod_phases_line());
    pod::template(&object["spec"]["template"], page);
    conditions(object, page);
    subject.events(page);
}

/// Writes a replica set.
pub fn replica_set(subject: &Subject, page: &mut Page) {
    let object = &subject.object;
    page.name(object);
    page.namespace(object);
    page.field(0, "Selector", dig::selector_or_none(&object["spec"]["selector"]));
    page.labels_and_annotations(object);
    owner(object, page);
    replicas(object, page);
    match &subject.refused {
        Some(refusal) => page.field(0, "Pods Status", format!("error in fetching pods: {}", refusal)),
        None => page.field(0, "Pods Status", subject.pod_phases_line()),
    }
    pod::template(&object["spec"]["template"], page);
    conditions(object, page);
    subject.events(page);
}

/// `Controlled By:`, if anything does.
pub fn owner(object: &Value, page: &mut Page) {
    if let Some(owner) = dig::controller(object) {
        page.field(0, "Controlled By", format!("{}/{}", dig::text(owner, "kind"), dig::text(owner, "name")));
    }
}

fn replicas(object: &Value, page: &mut Page) {
    let (current, desired) = (dig::int(object, "status.replicas"), dig::int(object, "spec.replicas"));
    page.field(0, "Replicas", format!("{current} current / {desired} desired"));
}

fn conditions(object: &Value, page: &mut Page) {
    let conditions = dig::items(object, "status.conditions");
    if conditions.is_empty() {
        return;
    }
    page.put(0, "Conditions:\n  Type\tStatus\tReason\n");
    page.put(1, "----\t------\t------\n");
    for condition in conditions {
        let text = |field| dig::text(condition, field);
        put!(page, 1, "{} \t{}\t{}\n", text("type"), text("status"), text("reason"));
    }
}

fn created(object: &Value, page: &mut Page) {
    page.field(0, "CreationTimestamp", dig::date(object, "metadata.creationTimestamp"));
}

/// Writes a deployment.
pub fn deployment(subject: &Subject, page: &mut Page) {
    let object = &subject.object;
    page.name(object);
    page.namespace(object);
    created(object, page);
    page.labels_and_annotations(object);
    page.field(0, "Selector", dig::selector(&object["spec"]["selector"]).unwrap_or_default());
    deployment_replicas(object, page);
    page.field(0, "StrategyType", dig::text(object, "spec.strategy.type"));
    page.field(0, "MinReadySeconds", dig::int(object, "spec.minReadySeconds"));
    if dig::has(object, "spec.strategy.rollingUpdate") {
        let limit = |field| dig::int_or_string(&object["spec"]["strategy"]["rollingUpdate"][field]);
        let limits = format!("{} max unavailable, {} max surge", limit("maxUnavailable"), limit("maxSurge"));
        page.field(0, "RollingUpdateStrategy", limits);
    }
    pod::template(&object["spec"]["template"], page);
    conditions(object, page);
    let (old, new) = &subject.replica_sets;
    if !old.is_empty() || !new.is_empty() {
        page.field(0, "OldReplicaSets", sets(old));
        page.field(0, "NewReplicaSet", sets(new));
    }
    subject.events(page);
}

fn deployment_replicas(object: &Value, page: &mut Page) {
    let number = |path| dig::int(object, path);
    let (desired, updated, total) =
        (number("spec.replicas"), number("status.updatedReplicas"), number("status.replicas"));
    let (available, unavailable) = (number("status.availableReplicas"), number("status.unavailableReplicas"));
    page.field(
        0,
        "Replicas",
        format!("{desired} desired | {updated} updated | {total} total | {available} available | {unavailable} unavailable"),
    );
}

fn sets(sets: &[Value]) -> String {
    let one = |set: &Value| {
        let (made, wanted) = (dig::int(set, "status.replicas"), dig::int(set, "spec.replicas"));
        format!("{} ({made}/{wanted} replicas created)", dig::text(set, "metadata.name"))
    };
    let text = sets.iter().map(one).collect::<Vec<_>>().join(", ");
    dig::or_none(&text).into()
}

/// Writes a daemon set.
pub fn daemon_set(subject: &Subject, page: &mut Page) {
    let object = &subject.object;
    page.name(object);
    page.namespace(object);
    page.field(0, "Selector", dig::selector(&object["spec"]["selector"]).unwrap_or_default());
    page.field(0, "Node-Selector", dig::one_line(&dig::strings(object, "spec.template.spec.nodeSelector")));
    page.labels_and_annotations(object);
    for (title, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        put!(page, 0, "{title}: {}\n", dig::int(&object["status"], field));
    }
    page.field(0, "Pods Status", subject.pod_phases_line());
    pod::template(&object["spec"]["template"], page);
    subject.events(page);
}

/// Writes a stateful set.
pub fn stateful_set(subject: &Subject, page: &mut Page) {
    let object = &subject.object;
    page.name(object);
    page.namespace(object);
    created(object, page);
    page.field(0, "Selector", dig::selector(&object["spec"]["selector"]).unwrap_or_default());
    page.labels_and_annotations(object);
    let (desired, total) = (dig::int(object, "spec.replicas"), dig::int(object, "status.replicas"));
    page.field(0, "Replicas", format!("{desired} desired | {total} total"));
    page.field(0, "Update Strategy", dig::text(object, "spec.updateStrategy.type"));
    rolling_update(dig::at(object, "spec.updateStrategy.rollingUpdate"), page);
    page.field(0, "Pods Status", subject.pod_phases_line());
    pod::template(&object["spec"]["template"], page);
    claims(dig::items(object, "spec.volumeClaimTemplates"), page);
    subject.events(page);
}

fn rolling_update(update: &Value, page: &mut Page) {
    if !dig::has(update, "partition") {
        return;
    }
    page.field(1, "Partition", dig::int(update, "partition"));
    if dig::has(update, "maxUnavailable") {
        page.field(1, "MaxUnavailable", dig::int_or_string(&update["maxUnavailable"]));
    }
}

fn claims(claims: &[Value], page: &mut Page) {
    if claims.is_empty() {
        return page.field(0, "Volume Claims", "<none>");
    }
    page.put(0, "Volume Claims:\n");
    for one in claims {
        page.field(1, "Name", dig::text(one, "metadata.name"));
        page.field(1, "StorageClass", claim::class(one));
        page.labels("  ", "Labels", &dig::strings(one, "metadata.labels"));
        page.labels("  ", "Annotations", &dig::strings(one, "metadata.annotations"));
        let size = dig::at(one, "spec.resources.requests.storage");
        let size = if size.is_null() { "<default>".to_string() } else { dig::quantity(size).to_string() };
        page.field(1, "Capacity", size);
        page.field(1, "Access Modes", dig::go_list(&dig::texts(one, "spec.accessModes")));
    }
}
