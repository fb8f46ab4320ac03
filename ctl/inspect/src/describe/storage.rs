//! Storage classes, classes of volume attributes, and the CSI drivers of nodes.

use super::claim;
use super::page::Page;
use super::subject::Subject;
use crate::dig;
use crate::put;
use serde_json::Value;

/// Annotations that make a class the default, by age.
const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// Writes a storage class.
pub fn class_page(subject: &Subject, page: &mut Page) {
    let class = &subject.object;
    page.name(class);
    let annotations = &class["metadata"]["annotations"];
    let default = DEFAULT.iter().any(|key| annotations[*key] == "true");
    page.field(0, "IsDefaultClass", if default { "Yes" } else { "No" });
    page.field(0, "Annotations", dig::one_line(&dig::strings(class, "metadata.annotations")));
    page.field(0, "Provisioner", dig::text(class, "provisioner"));
    page.field(0, "Parameters", dig::one_line(&dig::strings(class, "parameters")));
    page.field(0, "AllowVolumeExpansion", dig::truth_or_unset(&class["allowVolumeExpansion"]));
    match dig::texts(class, "mountOptions").as_slice() {
        [] => page.field(0, "MountOptions", "<none>"),
        options => {
            page.put(0, "MountOptions:\n");
            options.iter().for_each(|option| put!(page, 1, "{option}\n"));
        }
    }
    for (title, field) in [("ReclaimPolicy", "reclaimPolicy"), ("VolumeBindingMode", "volumeBindingMode")] {
        if dig::has(class, field) {
            page.field(0, title, dig::text(class, field));
        }
    }
    if dig::has(class, "allowedTopologies") {
        topologies(dig::items(class, "allowedTopologies"), page);
    }
    subject.events(page);
}

fn topologies(terms: &[Value], page: &mut Page) {
    page.put(0, "AllowedTopologies:\t");
    page.end(if terms.is_empty() { "<none>" } else { "" });
    for (number, term) in terms.iter().enumerate() {
        let wants: Vec<_> = dig::items(term, "matchLabelExpressions")
            .iter()
            .map(|want| (dig::text(want, "key"), "in".to_string(), dig::texts(want, "values")))
            .collect();
        claim::term(1, number, &wants, page);
    }
}

/// Writes a class of volume attributes.
pub fn attributes_page(subject: &Subject, page: &mut Page) {
    let class = &subject.object;
    page.name(class);
    page.field(0, "Annotations", dig::one_line(&dig::strings(class, "metadata.annotations")));
    page.field(0, "DriverName", dig::text(class, "driverName"));
    page.field(0, "Parameters", dig::one_line(&dig::strings(class, "parameters")));
    subject.events(page);
}

/// Writes the CSI drivers of a node.
pub fn node_page(subject: &Subject, page: &mut Page) {
    let node = &subject.object;
    page.name(node);
    page.labels_and_annotations(node);
    page.field(0, "CreationTimestamp", dig::date(node, "metadata.creationTimestamp"));
    page.put(0, "Spec:\n");
    if dig::has(node, "spec.drivers") {
        page.put(1, "Drivers:\n");
        dig::items(node, "spec.drivers").iter().for_each(|one| driver(one, page));
    }
    subject.events(page);
}

fn driver(driver: &Value, page: &mut Page) {
    put!(page, 2, "{}:\n", dig::text(driver, "name"));
    page.field(3, "Node ID", dig::text(driver, "nodeID"));
    if dig::has(driver, "allocatable.count") {
        page.put(3, "Allocatables:\n");
        page.field(4, "Count", dig::int(driver, "allocatable.count"));
    }
    if dig::has(driver, "topologyKeys") {
        page.field(3, "Topology Keys", dig::go_list(&dig::texts(driver, "topologyKeys")));
    }
}
