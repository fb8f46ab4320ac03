//! The storage group.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind, StatusMeta};
use crate::registry::rules::Rule;
use crate::registry::val::{at, entries, get, list, s, same, set};
use crate::registry::validate::labels;
use crate::registry::validate::volume_sources::driver_name;
use machinery::names;
use serde_json::Value;

const GROUP: &str = "storage.k8s.io";

/// Storage classes.
pub const STORAGE_CLASS: Kind = Kind {
    rules: &[
        ("reclaimPolicy", Rule::OneOf(&["Delete", "Retain"])),
        ("volumeBindingMode", Rule::RequiredOneOf(&["Immediate", "WaitForFirstConsumer"])),
    ],
    validate: |new, _, errs| {
        provisioner(s(new, "provisioner"), &At::ROOT.f("provisioner"), errs);
        parameters(new, true, errs);
        topologies(new, errs);
    },
    fixed: &["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"],
    ..Kind::of(GROUP, "storageclasses")
};

fn provisioner(name: &str, at: &At<'_>, errs: &mut Errs) {
    if name.is_empty() {
        errs.required(at, "");
    } else {
        errs.invalid_each(at, name, names::is_qualified_name(&name.to_lowercase()));
    }
}

fn parameters(new: &Value, may_be_empty: bool, errs: &mut Errs) {
    let path = At::ROOT.f("parameters");
    let (mut count, mut size) = (0, 0);
    for (key, value) in entries(new, "parameters") {
        count += 1;
        size += key.len() + value.as_str().map_or(0, str::len);
        if key.is_empty() {
            errs.invalid(&path, key, "field can not be empty.");
        }
    }
    if count == 0 && !may_be_empty {
        errs.required(&path, "must contain at least one key/value pair");
    }
    if count > 512 {
        errs.too_long(&path, 512);
    }
    if size > 256 * 1024 {
        errs.too_long(&path, 256 * 1024);
    }
}

fn topologies(new: &Value, errs: &mut Errs) {
    let base = At::ROOT.f("allowedTopologies");
    for (index, term) in list(new, "allowedTopologies").iter().enumerate() {
        let item = base.i(index);
        let expressions = item.f("matchLabelExpressions");
        let all = list(term, "matchLabelExpressions");
        for (i, requirement) in all.iter().enumerate() {
            let at = expressions.i(i);
            labels::label_name(s(requirement, "key"), &at.f("key"), errs);
            if all.iter().take(i).any(|r| s(r, "key") == s(requirement, "key")) {
                errs.duplicate(&at.f("key"), s(requirement, "key"));
            }
            let values = list(requirement, "values");
            if values.is_empty() {
                errs.required(&at.f("values"), "");
            }
            for (v, value) in
                values.iter().enumerate().filter(|(v, value)| values.iter().take(*v).any(|x| x == *value))
            {
                errs.duplicate(&at.f("values").i(v), value.clone());
            }
        }
    }
}

/// Attachments of volumes to nodes.
pub const VOLUME_ATTACHMENT: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    unconditional_update: false,
    rules: &[("spec.nodeName", Rule::Form(names::is_dns1123_subdomain))],
    validate: |new, _, errs| {
        let spec = get(new, "spec").unwrap_or(&Value::Null);
        driver_name(s(spec, "attacher"), &At::ROOT.f("spec.attacher"), errs);
        let source = get(spec, "source").unwrap_or(&Value::Null);
        let path = At::ROOT.f("spec.source");
        match (set(source, "persistentVolumeName"), set(source, "inlineVolumeSpec")) {
            (false, false) => {
                errs.required(&path, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
            }
            (true, true) => {
                errs.forbidden(&path, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
            }
            (true, false) if s(source, "persistentVolumeName").is_empty() => {
                errs.required(&path.f("persistentVolumeName"), "must specify non empty persistentVolumeName");
            }
            _ => {}
        }
    },
    validate_update: |new, old, errs| {
        if !same(new.get("spec"), old.get("spec")) {
            errs.invalid(
                &At::ROOT.f("spec"),
                new.get("spec").cloned().unwrap_or_default(),
                crate::registry::errs::IMMUTABLE,
            );
        }
    },
    status_rules: &[
        ("status.attachError.message", Rule::MaxLen(1024)),
        ("status.detachError.message", Rule::MaxLen(1024)),
    ],
    ..Kind::of(GROUP, "volumeattachments")
};

/// Storage drivers of the cluster.
pub const CSI_DRIVER: Kind = Kind {
    unconditional_update: false,
    generation: Generation::OnChange(&["spec"]),
    rules: &[
        ("spec.fsGroupPolicy", Rule::OneOf(&["File", "None", "ReadWriteOnceWithFSType"])),
        ("spec.tokenRequests", Rule::UniqueBy("audience")),
        ("spec.tokenRequests[].expirationSeconds", Rule::Range(600, 1 << 32)),
        ("spec.nodeAllocatableUpdatePeriodSeconds", Rule::AtLeast(10)),
        ("spec.volumeLifecycleModes[]", Rule::OneOf(&["Ephemeral", "Persistent"])),
    ],
    fixed: &["spec.attachRequired", "spec.volumeLifecycleModes"],
    ..Kind::of(GROUP, "csidrivers")
};

/// What drivers say of a node.
pub const CSI_NODE: Kind = Kind {
    unconditional_update: false,
    rules: &[
        ("spec.drivers", Rule::UniqueBy("name")),
        ("spec.drivers[].nodeID", Rule::Required),
        ("spec.drivers[].nodeID", Rule::MaxLen(256)),
        ("spec.drivers[].allocatable.count", Rule::NonNegative),
        ("spec.drivers[].topologyKeys[]", Rule::Form(names::is_qualified_name)),
    ],
    validate: |new, _, errs| drivers(new, errs),
    validate_update: |new, old, errs| {
        let drivers =
            |v: &Value| at(v, &["spec", "drivers"]).and_then(Value::as_array).cloned().unwrap_or_default();
        for (index, driver) in drivers(new).iter().enumerate() {
            let before = drivers(old).into_iter().find(|d| s(d, "name") == s(driver, "name"));
            let kept = |key: &str| before.as_ref().is_none_or(|b| same(b.get(key), driver.get(key)));
            if !kept("nodeID") || !kept("topologyKeys") {
                errs.invalid(
                    &At::ROOT.f("spec.drivers").i(index),
                    driver.clone(),
                    crate::registry::errs::IMMUTABLE,
                );
            }
        }
    },
    ..Kind::of(GROUP, "csinodes")
};

fn drivers(new: &Value, errs: &mut Errs) {
    let drivers = at(new, &["spec", "drivers"]).and_then(Value::as_array);
    for (index, driver) in drivers.into_iter().flatten().enumerate() {
        driver_name(s(driver, "name"), &At::ROOT.f("spec.drivers").i(index).f("name"), errs);
    }
}

/// How much room is left where.
pub const CSI_STORAGE_CAPACITY: Kind = Kind {
    unconditional_update: false,
    rules: &[
        ("nodeTopology", Rule::Selector),
        ("storageClassName", Rule::Required),
        ("storageClassName", Rule::Form(names::is_dns1123_subdomain)),
    ],
    fixed: &["nodeTopology", "storageClassName"],
    ..Kind::of(GROUP, "csistoragecapacities")
};

/// Qualities volumes can have.
pub const VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    validate: |new, _, errs| {
        provisioner(s(new, "driverName"), &At::ROOT.f("driverName"), errs);
        parameters(new, false, errs);
    },
    validate_update: |new, old, errs| {
        for key in ["driverName", "parameters"] {
            if !same(new.get(key), old.get(key)) {
                errs.forbidden(&At::ROOT.f(key), "updates to ".to_owned() + key + " are forbidden.");
            }
        }
    },
    ..Kind::of(GROUP, "volumeattributesclasses")
};

/// Rewrites of stored objects in a newer version.
pub const STORAGE_VERSION_MIGRATION: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    unconditional_update: false,
    rules: &[("spec.resource.resource", Rule::Required), ("status.conditions", Rule::Conditions)],
    ..Kind::of("storagemigration.k8s.io", "storageversionmigrations")
};
