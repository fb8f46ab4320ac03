//! Persistent volumes and claims.

use super::page::Page;
use super::subject::Subject;
use super::volume;
use crate::dig;
use crate::put;
use serde_json::Value;

/// The old annotation that names a storage class.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Writes a persistent volume claim.
pub fn page(subject: &Subject, page: &mut Page) {
    spec(&subject.object, Some(subject), page);
    let mut users: Vec<_> = subject.pods.iter().map(|pod| dig::text(pod, "metadata.name")).collect();
    users.sort_unstable();
    page.lines("", "Used By", &users);
    conditions(&subject.object, page);
    subject.events(page);
}

/// Writes a claim or, without a subject, the claim inside a volume of a pod, which has no name and no status.
pub fn spec(claim: &Value, subject: Option<&Subject>, page: &mut Page) {
    if subject.is_some() {
        page.name(claim);
        page.namespace(claim);
    }
    page.field(0, "StorageClass", class(claim));
    if let Some(subject) = subject {
        subject.phase(page);
    }
    page.field(0, "Volume", dig::text(claim, "spec.volumeName"));
    page.labels_and_annotations(claim);
    if subject.is_some() {
        page.field(0, "Finalizers", dig::go_list(&dig::texts(claim, "metadata.finalizers")));
    }
    size(claim, page);
    data_source(claim, page);
}

fn size(claim: &Value, page: &mut Page) {
    let bound = !dig::text(claim, "spec.volumeName").is_empty();
    let capacity = if bound {
        dig::quantity(dig::at(claim, "status.capacity.storage")).to_string()
    } else {
        String::new()
    };
    let modes = if bound { access_modes(dig::texts(claim, "status.accessModes")) } else { String::new() };
    page.field(0, "Capacity", capacity);
    page.field(0, "Access Modes", modes);
    if dig::has(claim, "spec.volumeMode") {
        page.field(0, "VolumeMode", dig::text(claim, "spec.volumeMode"));
    }
}

fn data_source(claim: &Value, page: &mut Page) {
    if !dig::has(claim, "spec.dataSource") {
        return;
    }
    page.put(0, "DataSource:\n");
    if dig::has(claim, "spec.dataSource.apiGroup") {
        page.field(1, "APIGroup", dig::text(claim, "spec.dataSource.apiGroup"));
    }
    page.field(1, "Kind", dig::text(claim, "spec.dataSource.kind"));
    page.field(1, "Name", dig::text(claim, "spec.dataSource.name"));
}

fn conditions(claim: &Value, page: &mut Page) {
    let conditions = dig::items(claim, "status.conditions");
    if conditions.is_empty() {
        return;
    }
    page.put(0, "Conditions:\n");
    page.put(1, "Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage\n");
    page.put(1, "----\t------\t-----------------\t------------------\t------\t-------\n");
    for condition in conditions {
        let text = |field| dig::text(condition, field);
        let (probed, changed) =
            (dig::date(condition, "lastProbeTime"), dig::date(condition, "lastTransitionTime"));
        put!(
            page,
            1,
            "{} \t{} \t{probed} \t{changed} \t{} \t{}\n",
            text("type"),
            text("status"),
            text("reason"),
            text("message")
        );
    }
}

/// The storage class of a volume or claim: the annotation counts more than the field.
pub fn class(object: &Value) -> &str {
    match object["metadata"]["annotations"].get(CLASS_ANNOTATION) {
        Some(class) => class.as_str().unwrap_or_default(),
        None => dig::text(object, "spec.storageClassName"),
    }
}

/// Access modes in their short forms, in a fixed order.
fn access_modes(modes: Vec<&str>) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    known
        .iter()
        .filter(|(mode, _)| modes.contains(mode))
        .map(|(_, short)| *short)
        .collect::<Vec<_>>()
        .join(",")
}

/// Writes a persistent volume.
pub fn volume_page(subject: &Subject, page: &mut Page) {
    let volume = &subject.object;
    page.name(volume);
    page.labels_and_annotations(volume);
    page.field(0, "Finalizers", dig::go_list(&dig::texts(volume, "metadata.finalizers")));
    page.field(0, "StorageClass", class(volume));
    subject.phase(page);
    claimed(volume, page);
    page.field(0, "Reclaim Policy", dig::text(volume, "spec.persistentVolumeReclaimPolicy"));
    page.field(0, "Access Modes", access_modes(dig::texts(volume, "spec.accessModes")));
    if dig::has(volume, "spec.volumeMode") {
        page.field(0, "VolumeMode", dig::text(volume, "spec.volumeMode"));
    }
    page.field(0, "Capacity", dig::quantity(dig::at(volume, "spec.capacity.storage")));
    affinity(volume, page);
    page.field(0, "Message", dig::text(volume, "status.message"));
    page.put(0, "Source:\n");
    volume::of_persistent_volume(&volume["spec"], page);
    subject.events(page);
}

fn claimed(volume: &Value, page: &mut Page) {
    let claim = dig::at(volume, "spec.claimRef");
    match claim.is_null() {
        true => page.field(0, "Claim", ""),
        false => {
            page.field(0, "Claim", format!("{}/{}", dig::text(claim, "namespace"), dig::text(claim, "name")))
        }
    }
}

fn affinity(volume: &Value, page: &mut Page) {
    page.put(0, "Node Affinity:\t");
    if !dig::has(volume, "spec.nodeAffinity.required") {
        return page.end("<none>");
    }
    page.end("");
    page.put(1, "Required Terms:\t");
    let terms = dig::items(volume, "spec.nodeAffinity.required.nodeSelectorTerms");
    page.end(if terms.is_empty() { "<none>" } else { "" });
    for (number, term) in terms.iter().enumerate() {
        let wants: Vec<_> = dig::items(term, "matchExpressions")
            .iter()
            .map(|want| {
                (
                    dig::text(want, "key"),
                    dig::text(want, "operator").to_lowercase(),
                    dig::texts(want, "values"),
                )
            })
            .collect();
        self::term(2, number, &wants, page);
    }
}

/// `Term 0:` of a selector: `key in [a, b]`, further requirements below the first.
pub fn term(level: usize, number: usize, wants: &[(&str, String, Vec<&str>)], page: &mut Page) {
    put!(page, level, "Term {number}:\t");
    if wants.is_empty() {
        return page.end("<none>");
    }
    for (at, (key, operator, values)) in wants.iter().enumerate() {
        if at > 0 {
            page.put(level, "\t");
        }
        let values = if values.is_empty() { String::new() } else { format!(" [{}]", values.join(", ")) };
        put!(page, 0, "{key} {operator}{values}\n");
    }
}
