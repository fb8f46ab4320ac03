//! Certificate signing requests.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::{Kind, Sub};
use crate::registry::val::{at, get, i, items_mut, keep, members, s, same, strs, sub};
use crate::registry::validate::meta::NameRule;
use crate::request::UserInfo;
use base64::Engine;
use machinery::time::now_rfc3339;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;

/// Certificate signing requests.
pub const KIND: Kind = Kind {
    name: NameRule::Path,
    status: true,
    from_user: Some(requester),
    prepare_update: |new, old| keep(new, old, "spec"),
    prepare_status,
    validate,
    validate_update: |new, old, errs| kept(new, old, errs),
    validate_status: |new, old, errs| {
        conditions(new, errs);
        kept(new, old, errs);
        certificate(new, old, errs);
    },
    subresources: &[(
        "approval",
        Sub {
            prepare: |new, old| {
                let wanted = at(new, &["status", "conditions"]).cloned();
                keep(new, old, "spec");
                keep(new, old, "status");
                let status = sub(members(new), "status");
                match wanted {
                    Some(conditions) => status.insert("conditions".into(), conditions),
                    None => status.remove("conditions"),
                };
                stamp(new, old);
            },
            validate: |new, old, errs| {
                conditions(new, errs);
                kept(new, old, errs);
            },
        },
    )],
    ..Kind::of("certificates.k8s.io", "certificatesigningrequests")
};

/// Who asks is what the server saw, whatever the client says.
fn requester(request: &mut Value, user: &UserInfo) {
    let spec = sub(members(request), "spec");
    for key in ["username", "uid", "groups", "extra"] {
        spec.remove(key);
    }
    spec.insert("username".into(), json!(user.name));
    if !user.uid.is_empty() {
        spec.insert("uid".into(), json!(user.uid));
    }
    if !user.groups.is_empty() {
        spec.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".into(), json!(user.extra));
    }
}

/// The status endpoint may not approve or deny.
fn prepare_status(new: &mut Value, old: &Value) {
    let decision = |c: &Value| matches!(s(c, "type"), "Approved" | "Denied");
    let of =
        |v: &Value| at(v, &["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let decided: Vec<Value> = of(old).into_iter().filter(decision).collect();
    let others = of(new).into_iter().filter(|c| !decision(c));
    let all: Vec<Value> = decided.into_iter().chain(others).collect();
    if !all.is_empty() {
        sub(members(new), "status").insert("conditions".into(), Value::Array(all));
    }
    stamp(new, old);
}

/// Conditions without times get them.
fn stamp(new: &mut Value, old: &Value) {
    let before = at(old, &["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(status) = new.get_mut("status") else { return };
    for condition in items_mut(status, "conditions") {
        let same_kind = before
            .iter()
            .find(|c| s(c, "type") == s(condition, "type") && s(c, "status") == s(condition, "status"));
        let since = same_kind
            .and_then(|c| get(c, "lastTransitionTime"))
            .cloned()
            .unwrap_or_else(|| json!(now_rfc3339()));
        let condition = members(condition);
        crate::registry::val::if_nil(condition, "lastUpdateTime", now_rfc3339());
        crate::registry::val::if_nil(condition, "lastTransitionTime", since);
    }
}

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn validate(new: &Value, old: Option<&Value>, errs: &mut Errs) {
    let spec = get(new, "spec").unwrap_or(&Value::Null);
    let path = At::ROOT.f("spec");
    if old.is_none() {
        if let Err(why) = parse_request(s(spec, "request")) {
            errs.invalid(&path.f("request"), s(spec, "request"), why);
        }
        if s(spec, "signerName") == "kubernetes.io/legacy-unknown" {
            errs.invalid(
                &path.f("signerName"),
                s(spec, "signerName"),
                "the legacy signerName is not allowed via this API version",
            );
        }
        usages(spec, &path.f("usages"), errs);
    }
    signer_name(s(spec, "signerName"), &path.f("signerName"), errs);
    if let Some(n) = i(spec, "expirationSeconds").filter(|n| *n < 600) {
        errs.invalid(
            &path.f("expirationSeconds"),
            n,
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
    conditions(new, errs);
}

fn usages(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    let usages: Vec<&str> = strs(spec, "usages").collect();
    if usages.is_empty() {
        errs.required(path, "usages are required");
    }
    for (index, usage) in usages.iter().enumerate() {
        if !USAGES.contains(usage) {
            errs.not_supported(&path.i(index), *usage, &USAGES);
        }
        if usages.iter().take(index).any(|u| u == usage) {
            errs.duplicate(&path.i(index), *usage);
        }
    }
}

/// DOMAIN/PATH: a domain of at least two labels and a path of labels joined by dots.
pub fn signer_name(name: &str, path: &At<'_>, errs: &mut Errs) {
    if name.is_empty() {
        return errs.required(path, "");
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        return errs.invalid(
            path,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    };
    errs.invalid_each(path, domain, machinery::names::is_dns1123_subdomain(domain));
    if !domain.contains('.') {
        errs.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    for part in rest.split('.') {
        errs.invalid_each(path, part, machinery::names::is_dns1123_subdomain(part));
    }
    if name.len() > 571 {
        errs.too_long(path, 571);
    }
}

/// The request inside has to parse, and to be signed with the key it is for.
fn parse_request(text: &str) -> Result<(), String> {
    let pem = base64::engine::general_purpose::STANDARD.decode(text).map_err(|e| e.to_string())?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem)
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    if !matches!(block.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err("PEM block type must be CERTIFICATE REQUEST".into());
    }
    x509_parser::certification_request::X509CertificationRequest::from_der(&block.contents)
        .map_err(|e| e.to_string())?;
    Ok(())
}

const DECISIONS: [&str; 3] = ["Approved", "Denied", "Failed"];

fn conditions(new: &Value, errs: &mut Errs) {
    let all = at(new, &["status", "conditions"]).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let base = At::ROOT.f("status.conditions");
    for (index, condition) in all.iter().enumerate() {
        let place = base.i(index);
        let kind = s(condition, "type");
        if kind.is_empty() {
            errs.required(&place.f("type"), "");
        }
        let allowed: &[&str] =
            if DECISIONS.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        errs.required_one_of(&place.f("status"), s(condition, "status"), allowed);
        if all.iter().take(index).any(|c| s(c, "type") == kind) {
            errs.duplicate(&place.f("type"), kind);
        }
        let excluded = if kind == "Approved" { "Denied" } else { "Approved" };
        if matches!(kind, "Approved" | "Denied") && all.iter().take(index).any(|c| s(c, "type") == excluded) {
            errs.invalid(&place.f("type"), kind, "Approved and Denied conditions are mutually exclusive");
        }
    }
}

/// A decision stands.
fn kept(new: &Value, old: &Value, errs: &mut Errs) {
    let of = |v: &Value, kind: &str| {
        let all = at(v, &["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
        all.into_iter().find(|c| s(c, "type") == kind)
    };
    for kind in DECISIONS {
        if of(old, kind).is_some() && of(new, kind).is_none() {
            errs.forbidden(
                &At::ROOT.f("status.conditions"),
                format!("updates may not remove a condition of type {kind:?}"),
            );
        }
    }
}

fn certificate(new: &Value, old: &Value, errs: &mut Errs) {
    let of = |v: &Value| at(v, &["status", "certificate"]).cloned();
    let path = At::ROOT.f("status.certificate");
    if of(old).is_some_and(|c| c.as_str() != Some("")) && !same(of(new).as_ref(), of(old).as_ref()) {
        errs.forbidden(&path, "updates may not modify a previously-set certificate");
        return;
    }
    let Some(text) = of(new).as_ref().and_then(Value::as_str).map(str::to_owned).filter(|t| !t.is_empty())
    else {
        return;
    };
    let pem = base64::engine::general_purpose::STANDARD.decode(&text).unwrap_or_default();
    let mut blocks = x509_parser::pem::Pem::iter_from_buffer(&pem).peekable();
    if blocks.peek().is_none() {
        errs.invalid(&path, "<certificate data>", "must contain at least one CERTIFICATE PEM block");
    }
    if blocks.any(|b| b.is_ok_and(|b| b.label != "CERTIFICATE")) {
        errs.invalid(&path, "<certificate data>", "only CERTIFICATE PEM blocks are allowed");
    }
}
