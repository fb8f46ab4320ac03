//! Devices and claims to them.

use crate::registry::kind::{Generation, Kind, StatusMeta};
use crate::registry::rules::Rule;
use crate::registry::val::{at, drop_key};
use machinery::names;

const GROUP: &str = "resource.k8s.io";

/// Classes of devices.
pub const DEVICE_CLASS: Kind = Kind {
    generation: Generation::Members(&["spec"]),
    rules: &[("spec.selectors", Rule::MaxItems(32))],
    ..Kind::of(GROUP, "deviceclasses")
};

/// Taints on devices.
pub const DEVICE_TAINT_RULE: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    generation: Generation::Members(&["spec"]),
    rules: &[
        ("spec.taint.key", Rule::Required),
        ("spec.taint.key", Rule::Form(names::is_qualified_name)),
        ("spec.taint.effect", Rule::RequiredOneOf(&["NoExecute", "NoSchedule", "None"])),
        ("status.conditions", Rule::Conditions),
    ],
    ..Kind::of(GROUP, "devicetaintrules")
};

/// Claims to devices.
pub const RESOURCE_CLAIM: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    prepare_status: |new, _| {
        // Without an allocation there are no devices to say anything of.
        if at(new, &["status", "allocation"]).is_none()
            && let Some(status) = new.get_mut("status")
        {
            drop_key(status, "devices");
        }
    },
    rules: &[
        ("spec.devices.requests", Rule::MaxItems(32)),
        ("spec.devices.requests", Rule::UniqueBy("name")),
        ("spec.devices.requests[].name", Rule::Required),
        ("spec.devices.requests[].name", Rule::Form(names::is_dns1123_label)),
        ("spec.devices.requests[].exactly.deviceClassName", Rule::Required),
        ("spec.devices.requests[].exactly.deviceClassName", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.devices.requests[].exactly.allocationMode", Rule::OneOf(&["All", "ExactCount"])),
        ("spec.devices.constraints", Rule::MaxItems(32)),
        ("spec.devices.config", Rule::MaxItems(32)),
    ],
    fixed: &["spec"],
    status_rules: &[
        ("status.reservedFor", Rule::MaxItems(256)),
        ("status.reservedFor", Rule::UniqueBy("uid")),
        ("status.allocation.nodeSelector", Rule::NodeSelector),
    ],
    ..Kind::of(GROUP, "resourceclaims")
};

/// Claims to be made for pods.
pub const RESOURCE_CLAIM_TEMPLATE: Kind = Kind {
    rules: &[
        ("spec.metadata.labels", Rule::Labels),
        ("spec.spec.devices.requests", Rule::MaxItems(32)),
        ("spec.spec.devices.requests", Rule::UniqueBy("name")),
        ("spec.spec.devices.requests[].name", Rule::Required),
    ],
    fixed: &["spec"],
    ..Kind::of(GROUP, "resourceclaimtemplates")
};

/// What a driver has to offer.
pub const RESOURCE_SLICE: Kind = Kind {
    generation: Generation::Members(&["spec"]),
    rules: &[
        ("spec.driver", Rule::Required),
        ("spec.driver", Rule::MaxLen(63)),
        ("spec.nodeName", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.pool.name", Rule::Required),
        ("spec.pool.resourceSliceCount", Rule::AtLeast(1)),
        ("spec.pool.generation", Rule::NonNegative),
        ("spec.nodeSelector", Rule::NodeSelector),
        ("spec.devices", Rule::MaxItems(128)),
        ("spec.devices", Rule::UniqueBy("name")),
        ("spec.devices[].name", Rule::Required),
        ("spec.devices[].name", Rule::Form(names::is_dns1123_label)),
    ],
    fixed: &["spec.driver", "spec.pool.name", "spec.nodeName"],
    ..Kind::of(GROUP, "resourceslices")
};

/// Questions about a pool.
pub const POOL_STATUS_REQUEST: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    unconditional_update: false,
    fixed: &["spec"],
    ..Kind::of(GROUP, "resourcepoolstatusrequests")
};
