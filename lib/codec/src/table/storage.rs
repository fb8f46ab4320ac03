//! storage.k8s.io and storagemigration.k8s.io.

use super::Printer;
use super::access::{Cells, UNSET, is_true, scalar, text};
use serde_json::Value;

pub fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "CSIDriver" => csi_driver,
        "CSINode" => csi_node,
        "StorageClass" => storage_class,
        "VolumeAttachment" => volume_attachment,
        "VolumeAttributesClass" => attributes_class,
        "StorageVersionMigration" => migration,
        _ => return None,
    })
}

fn csi_driver(c: &Cells<'_>) -> Vec<Value> {
    let audiences: Vec<&str> = c.list("spec.tokenRequests").iter().map(|t| text(t, "audience")).collect();
    let tokens = if audiences.is_empty() { UNSET.to_string() } else { audiences.join(",") };
    let modes: Vec<&str> = c.list("spec.volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    let flag = |path: &str, unset: bool| c.get(path).and_then(Value::as_bool).unwrap_or(unset);
    vec![
        c.name(),
        flag("spec.attachRequired", true).into(),
        flag("spec.podInfoOnMount", false).into(),
        flag("spec.storageCapacity", false).into(),
        tokens.into(),
        flag("spec.requiresRepublish", false).into(),
        if modes.is_empty() { "<none>".into() } else { modes.join(",").into() },
        c.age(),
    ]
}

fn csi_node(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.count("spec.drivers").into(), c.age()]
}

fn is_default(c: &Cells<'_>, annotation: &str) -> bool {
    let value = |key: &str| c.map("metadata.annotations").and_then(|a| a.get(key)).and_then(Value::as_str);
    value(annotation) == Some("true")
        || value("storageclass.beta.kubernetes.io/is-default-class") == Some("true")
}

fn storage_class(c: &Cells<'_>) -> Vec<Value> {
    let name = c.name().as_str().unwrap_or_default().to_string();
    let name = if is_default(c, "storageclass.kubernetes.io/is-default-class") {
        format!("{name} (default)")
    } else {
        name
    };
    vec![
        name.into(),
        c.text("provisioner").into(),
        c.text_or("reclaimPolicy", "Delete").into(),
        c.text_or("volumeBindingMode", "Immediate").into(),
        c.bool("allowVolumeExpansion").into(),
        c.age(),
    ]
}

fn volume_attachment(c: &Cells<'_>) -> Vec<Value> {
    vec![
        c.name(),
        c.text("spec.attacher").into(),
        c.text("spec.source.persistentVolumeName").into(),
        c.text("spec.nodeName").into(),
        c.bool("status.attached").into(),
        c.age(),
    ]
}

fn attributes_class(c: &Cells<'_>) -> Vec<Value> {
    vec![c.name(), c.text("driverName").into(), c.age()]
}

fn migration(c: &Cells<'_>) -> Vec<Value> {
    let (group, resource) = (c.text("spec.resource.group"), scalar(c.get("spec.resource.resource"), ""));
    let resource = if group.is_empty() { resource } else { format!("{resource}.{group}") };
    let conditions = c.list("status.conditions");
    let status =
        ["Succeeded", "Failed", "Running"].into_iter().find(|t| is_true(conditions, t)).unwrap_or("Pending");
    vec![c.name(), resource.into(), status.into()]
}
