//! Flow schemas and priority levels.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Generation, Kind, StatusMeta};
use crate::registry::rules::{Row, Rule};
use crate::registry::strategy::name_of;
use crate::registry::val::{at, get, i, i_at, list, s, s_at, set, strs};
use machinery::names;
use serde_json::Value;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const VERBS: [&str; 10] =
    ["*", "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// Which requests go to which priority level.
pub const FLOW_SCHEMA: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    generation: Generation::Members(&["spec"]),
    rules: &[
        ("spec.distinguisherMethod.type", Rule::OneOf(&["ByNamespace", "ByUser"])),
        ("spec.priorityLevelConfiguration", Rule::Required),
        ("spec.priorityLevelConfiguration.name", Rule::Required),
        ("spec.priorityLevelConfiguration.name", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.rules[].subjects", Rule::Required),
        ("spec.rules[].subjects[].kind", Rule::RequiredOneOf(&["Group", "ServiceAccount", "User"])),
        ("spec.rules[].resourceRules[].verbs", Rule::Required),
        ("spec.rules[].resourceRules[].verbs[]", Rule::OneOf(&VERBS)),
        ("spec.rules[].resourceRules[].apiGroups", Rule::Required),
        ("spec.rules[].resourceRules[].resources", Rule::Required),
        ("spec.rules[].nonResourceRules[].verbs", Rule::Required),
        ("spec.rules[].nonResourceRules[].nonResourceURLs", Rule::Required),
    ],
    validate: schema,
    status_rules: CONDITIONS,
    ..Kind::of(GROUP, "flowschemas")
};

const CONDITIONS: &[Row] =
    &[("status.conditions", Rule::UniqueBy("type")), ("status.conditions[].type", Rule::Required)];

fn schema(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    let precedence = i(spec, "matchingPrecedence").unwrap_or(0);
    if precedence > 10_000 {
        errs.invalid(&path.f("matchingPrecedence"), precedence, "must not be greater than 10000");
    }
    if precedence < 1 {
        errs.invalid(&path.f("matchingPrecedence"), precedence, "must be a positive value");
    }
    if precedence == 1 && name_of(new) != "exempt" {
        errs.invalid(
            &path.f("matchingPrecedence"),
            precedence,
            "only the schema named 'exempt' may have matchingPrecedence 1",
        );
    }
    for (index, rule) in list(spec, "rules").iter().enumerate() {
        let base = path.f("rules");
        let at = base.i(index);
        if list(rule, "resourceRules").is_empty() && list(rule, "nonResourceRules").is_empty() {
            errs.required(&at, "at least one of resourceRules and nonResourceRules has to be non-empty");
        }
        for (subject_index, subject) in list(rule, "subjects").iter().enumerate() {
            self::subject(subject, &at.f("subjects").i(subject_index), errs);
        }
        for (rule_index, resource) in list(rule, "resourceRules").iter().enumerate() {
            let cluster = at_bool(resource, "clusterScope");
            if strs(resource, "namespaces").next().is_none() && !cluster {
                let at = at.f("resourceRules");
                errs.required(
                    &at.i(rule_index).f("namespaces"),
                    "resource rules that are not cluster scoped must supply at least one namespace",
                );
            }
        }
    }
}

fn at_bool(v: &Value, key: &str) -> bool {
    crate::registry::val::b(v, key)
}

fn subject(subject: &Value, at: &At<'_>, errs: &mut Errs) {
    let kind = s(subject, "kind");
    for (of, member) in [("User", "user"), ("Group", "group"), ("ServiceAccount", "serviceAccount")] {
        let given = set(subject, member);
        if of == kind && !given {
            errs.required(&at.f(member), format!("{member} is required when subject kind is '{kind}'"));
        }
        if of != kind && given {
            errs.forbidden(&at.f(member), format!("{member} is forbidden when subject kind is not '{of}'"));
        }
        if of == kind && given && s_at(subject, &[member, "name"]).is_empty() {
            errs.required(&at.f(member).f("name"), "");
        }
    }
}

/// How many requests of one kind run at a time.
pub const PRIORITY_LEVEL: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    generation: Generation::Members(&["spec"]),
    rules: &[
        ("spec.type", Rule::RequiredOneOf(&["Exempt", "Limited"])),
        ("spec.limited.nominalConcurrencyShares", Rule::NonNegative),
        ("spec.exempt.nominalConcurrencyShares", Rule::NonNegative),
        ("spec.limited.borrowingLimitPercent", Rule::NonNegative),
        ("spec.limited.lendablePercent", Rule::Range(0, 100)),
        ("spec.exempt.lendablePercent", Rule::Range(0, 100)),
        ("spec.limited.limitResponse.type", Rule::RequiredOneOf(&["Queue", "Reject"])),
        ("spec.limited.limitResponse.queuing.queueLengthLimit", Rule::AtLeast(1)),
        ("spec.limited.limitResponse.queuing.queues", Rule::Range(1, 10_000_000)),
        ("spec.limited.limitResponse.queuing.handSize", Rule::AtLeast(1)),
    ],
    validate: level,
    status_rules: CONDITIONS,
    ..Kind::of(GROUP, "prioritylevelconfigurations")
};

fn level(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    let kind = s(spec, "type");
    if (kind == "Exempt") != (name_of(new) == "exempt") {
        errs.invalid(&path.f("type"), kind, "type must be 'Exempt' if and only if name is 'exempt'");
    }
    match (kind, set(spec, "limited"), set(spec, "exempt")) {
        ("Exempt", true, _) => errs.forbidden(&path.f("limited"), "must be nil if the type is not Limited"),
        ("Limited", false, _) => errs.required(&path.f("limited"), "must not be empty when type is Limited"),
        ("Limited", _, true) => errs.forbidden(&path.f("exempt"), "must be nil if the type is Limited"),
        _ => {}
    }
    let Some(response) = at(spec, &["limited", "limitResponse"]) else { return };
    let path = path.f("limited.limitResponse.queuing");
    match (s(response, "type"), set(response, "queuing")) {
        ("Queue", false) => errs.required(&path, "must not be empty if limitResponse.type is Queue"),
        ("Reject", true) => errs.forbidden(&path, "must be nil if limited.limitResponse.type is not Limited"),
        _ => {}
    }
    let (hand, queues) = (
        i_at(response, &["queuing", "handSize"]).unwrap_or(0),
        i_at(response, &["queuing", "queues"]).unwrap_or(0),
    );
    if hand > queues && queues > 0 {
        errs.invalid(&path.f("handSize"), hand, format!("should not be greater than queues ({queues})"));
    }
}
