//! The smaller kinds of the networking group.

use crate::registry::errs::At;
use crate::registry::kind::{Generation, Kind, StatusMeta};
use crate::registry::rules::Rule;
use crate::registry::val::{at, list_at, s, same, set};
use crate::registry::validate::meta::NameRule;
use crate::registry::validate::net;
use machinery::names;
use serde_json::Value;

/// Ingress classes.
pub const INGRESS_CLASS: Kind = Kind {
    generation: Generation::Members(&["spec"]),
    rules: &[
        ("spec.controller", Rule::Required),
        ("spec.controller", Rule::MaxLen(250)),
        ("spec.parameters.apiGroup", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.parameters.kind", Rule::Required),
        ("spec.parameters.name", Rule::Required),
        ("spec.parameters.scope", Rule::RequiredOneOf(&["Cluster", "Namespace"])),
        ("spec.parameters.namespace", Rule::Form(names::is_dns1123_label)),
    ],
    validate: |new, _, errs| {
        let Some(parameters) = at(new, &["spec", "parameters"]) else { return };
        let place = At::ROOT.f("spec.parameters.namespace");
        match s(parameters, "scope") {
            "Namespace" if !set(parameters, "namespace") => {
                errs.required(&place, "`parameters.scope` is set to 'Namespace'");
            }
            "Cluster" if set(parameters, "namespace") => {
                errs.forbidden(&place, "`parameters.scope` is set to 'Cluster'");
            }
            _ => {}
        }
    },
    fixed: &["spec.controller"],
    ..Kind::of("networking.k8s.io", "ingressclasses")
};

/// Addresses that are taken.
pub const IP_ADDRESS: Kind = Kind {
    name: NameRule::Ip,
    rules: &[
        ("spec.parentRef", Rule::Required),
        ("spec.parentRef.group", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.parentRef.resource", Rule::Required),
        ("spec.parentRef.resource", Rule::Form(names::is_path_segment)),
        ("spec.parentRef.name", Rule::Required),
        ("spec.parentRef.name", Rule::Form(names::is_path_segment)),
        ("spec.parentRef.namespace", Rule::Form(names::is_path_segment)),
    ],
    fixed: &["spec.parentRef"],
    ..Kind::of("networking.k8s.io", "ipaddresses")
};

/// Ranges addresses of services come from.
pub const SERVICE_CIDR: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    rules: &[
        ("spec.cidrs", Rule::Required),
        ("spec.cidrs[]", Rule::Cidr),
        ("status.conditions", Rule::Conditions),
    ],
    validate: |new, _, errs| {
        let cidrs = list_at(new, &["spec", "cidrs"]);
        let families: Vec<bool> =
            cidrs.iter().filter_map(|c| net::parse_cidr(c.as_str()?)).map(|c| c.addr().is_ipv4()).collect();
        if cidrs.len() > 2 {
            errs.invalid(
                &At::ROOT.f("spec.cidrs"),
                Value::Array(cidrs.to_vec()),
                "may only hold up to 2 values",
            );
        } else if families.len() == 2 && families[0] == families[1] {
            errs.invalid(
                &At::ROOT.f("spec.cidrs"),
                Value::Array(cidrs.to_vec()),
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            );
        }
    },
    validate_update: |new, old, errs| {
        let (a, b) = (list_at(new, &["spec", "cidrs"]), list_at(old, &["spec", "cidrs"]));
        let grown = b.len() == 1 && a.len() == 2 && a.first() == b.first();
        if !grown && !same(at(new, &["spec", "cidrs"]), at(old, &["spec", "cidrs"])) {
            errs.invalid(
                &At::ROOT.f("spec.cidrs"),
                Value::Array(a.to_vec()),
                crate::registry::errs::IMMUTABLE,
            );
        }
    },
    ..Kind::of("networking.k8s.io", "servicecidrs")
};
