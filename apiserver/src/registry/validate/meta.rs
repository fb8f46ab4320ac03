//! Object metadata: the rules of every kind.

use super::labels;
use crate::registry::errs::{At, Errs};
use crate::registry::val::{entries, get, i, list, s, same, strs};
use machinery::names;
use serde_json::Value;

/// The shape `metadata.name` has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// A DNS subdomain (RFC 1123).
    Subdomain,
    /// A DNS label (RFC 1123).
    Label,
    /// Anything that can be one segment of a path.
    Path,
    /// The characters of a configuration key.
    ConfigKey,
    /// An IP address in its canonical form.
    Ip,
}

/// Sum of the bytes of all keys and values of the annotations.
const ANNOTATIONS_SIZE: usize = 256 * 1024;

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

impl NameRule {
    /// What is wrong with a name; empty when nothing.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            NameRule::Subdomain => names::is_dns1123_subdomain(name),
            NameRule::Label => names::is_dns1123_label(name),
            NameRule::Path => path_segment(name),
            NameRule::ConfigKey => names::is_config_key(name),
            NameRule::Ip => canonical_ip(name),
        }
    }

    /// The same for `generateName`: its last character is replaced by generated ones, so a dash may end it.
    pub fn check_prefix(self, prefix: &str) -> Vec<String> {
        match prefix.strip_suffix('-') {
            Some(head) if !head.is_empty() && self != NameRule::Path => self.check(&format!("{head}a")),
            _ if self == NameRule::Path => path_characters(prefix),
            _ => self.check(prefix),
        }
    }
}

fn canonical_ip(name: &str) -> Vec<String> {
    match name.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.to_string() == name => Vec::new(),
        Ok(ip) => vec![format!("must be in canonical form ({:?})", ip.to_string())],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()],
    }
}

pub use names::is_path_segment as path_segment;

fn path_characters(name: &str) -> Vec<String> {
    ["/", "%"].iter().filter(|c| name.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// The metadata of a new object. `check_name` gives what is wrong with a name, or (true) with a prefix of one.
pub fn validate(
    object: &Value,
    check_name: &dyn Fn(&str, bool) -> Vec<String>,
    namespaced: bool,
    errs: &mut Errs,
) {
    let at = At::ROOT.f("metadata");
    let meta = get(object, "metadata").unwrap_or(&Value::Null);
    names_of(meta, check_name, &at, errs);
    namespace(meta, namespaced, &at, errs);
    errs.non_negative(&at.f("generation"), i(meta, "generation"));
    parts(meta, &at, errs);
    finalizers(meta, &at.f("finalizers"), errs);
}

fn names_of(meta: &Value, check_name: &dyn Fn(&str, bool) -> Vec<String>, at: &At<'_>, errs: &mut Errs) {
    let prefix = s(meta, "generateName");
    if !prefix.is_empty() {
        errs.invalid_each(&at.f("generateName"), prefix, check_name(prefix, true));
    }
    let name = s(meta, "name");
    if name.is_empty() {
        errs.required(&at.f("name"), "name or generateName is required");
    } else {
        errs.invalid_each(&at.f("name"), name, check_name(name, false));
    }
}

fn namespace(meta: &Value, namespaced: bool, at: &At<'_>, errs: &mut Errs) {
    let at = at.f("namespace");
    match (namespaced, s(meta, "namespace")) {
        (true, "") => errs.required(&at, ""),
        (true, ns) => errs.invalid_each(&at, ns, names::is_dns1123_label(ns)),
        (false, "") => {}
        (false, _) => errs.forbidden(&at, "not allowed on this type"),
    }
}

/// What is checked on create and on update alike.
fn parts(meta: &Value, at: &At<'_>, errs: &mut Errs) {
    labels::labels(meta, "labels", &at.f("labels"), errs);
    annotations(meta, &at.f("annotations"), errs);
    owners(meta, &at.f("ownerReferences"), errs);
    managed_fields(meta, &at.f("managedFields"), errs);
}

/// Annotation keys, and the size of all of them together.
pub fn annotations(meta: &Value, at: &At<'_>, errs: &mut Errs) {
    let mut size = 0;
    for (key, value) in entries(meta, "annotations") {
        let lower =
            if key.bytes().any(|b| b.is_ascii_uppercase()) { key.to_lowercase() } else { String::new() };
        let name = if lower.is_empty() { key } else { lower.as_str() };
        errs.invalid_each(at, key, names::is_qualified_name(name));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_SIZE {
        errs.too_long(at, ANNOTATIONS_SIZE);
    }
}

fn owners(meta: &Value, at: &At<'_>, errs: &mut Errs) {
    let owners = list(meta, "ownerReferences");
    let mut controller: Option<&str> = None;
    for (index, owner) in owners.iter().enumerate() {
        owner_reference(owner, &at.i(index), errs);
        if owner.get("controller") != Some(&Value::Bool(true)) {
            continue;
        }
        let name = s(owner, "name");
        if let Some(first) = controller {
            let why = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
            );
            errs.invalid(at, Value::Array(owners.to_vec()), why);
        }
        controller = Some(name);
    }
}

fn owner_reference(owner: &Value, at: &At<'_>, errs: &mut Errs) {
    let api_version = s(owner, "apiVersion");
    if api_version.rsplit('/').next().unwrap_or_default().is_empty() {
        errs.invalid(&at.f("apiVersion"), api_version, "version must not be empty");
    }
    for key in ["kind", "name", "uid"] {
        if s(owner, key).is_empty() {
            errs.invalid(&at.f(key), s(owner, key), "must not be empty");
        }
    }
    if api_version == "v1" && s(owner, "kind") == "Event" {
        errs.invalid(at, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
    }
}

fn managed_fields(meta: &Value, at: &At<'_>, errs: &mut Errs) {
    for (index, entry) in list(meta, "managedFields").iter().enumerate() {
        let at = at.i(index);
        if !matches!(s(entry, "operation"), "Apply" | "Update") {
            errs.invalid(&at.f("operation"), s(entry, "operation"), "must be `Apply` or `Update`");
        }
        if !matches!(s(entry, "fieldsType"), "" | "FieldsV1") {
            errs.invalid(&at.f("fieldsType"), s(entry, "fieldsType"), "must be `FieldsV1`");
        }
        manager(s(entry, "manager"), &at.f("manager"), errs);
        if s(entry, "subresource").len() > 256 {
            errs.too_long(&at.f("subresource"), 256);
        }
    }
}

/// The name of a field manager.
pub fn manager(name: &str, at: &At<'_>, errs: &mut Errs) {
    if name.len() > 128 {
        errs.too_long(at, 128);
    }
    if let Some((index, c)) = name.chars().enumerate().find(|(_, c)| c.is_control()) {
        errs.invalid(at, name, format!("should only contain printable characters (position {index}: {c:?})"));
    }
}

fn finalizers(meta: &Value, at: &At<'_>, errs: &mut Errs) {
    for name in strs(meta, "finalizers") {
        finalizer_name(name, at, errs);
    }
    let has = |name: &str| strs(meta, "finalizers").any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        let all = meta.get("finalizers").cloned().unwrap_or_default();
        errs.invalid(
            at,
            all,
            "finalizer set contains both \"orphan\" and \"foregroundDeletion\", they cannot be both set",
        );
    }
}

/// One finalizer: qualified, and with a domain unless it is a standard one.
pub fn finalizer_name(name: &str, at: &At<'_>, errs: &mut Errs) {
    errs.invalid_each(at, name, names::is_qualified_name(name));
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        errs.invalid(at, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

/// What may not change in metadata, and that what did is well formed.
pub fn validate_update(new: &Value, old: &Value, errs: &mut Errs) {
    let at = At::ROOT.f("metadata");
    let (new, old) =
        (get(new, "metadata").unwrap_or(&Value::Null), get(old, "metadata").unwrap_or(&Value::Null));
    if get(old, "deletionTimestamp").is_some() {
        no_new_finalizers(new, old, &at.f("finalizers"), errs);
    }
    if s(new, "resourceVersion").is_empty() {
        errs.invalid(&at.f("resourceVersion"), s(new, "resourceVersion"), "must be specified for an update");
    }
    if i(new, "generation").unwrap_or(0) < i(old, "generation").unwrap_or(0) {
        errs.invalid(&at.f("generation"), i(new, "generation").unwrap_or(0), "must not be decremented");
    }
    let fixed =
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for key in fixed {
        errs.immutable(&at.f(key), new.get(key), old.get(key));
    }
    finalizers(new, &at.f("finalizers"), errs);
    if ["labels", "annotations", "ownerReferences", "managedFields"]
        .iter()
        .any(|k| !same(new.get(*k), old.get(*k)))
    {
        parts(new, &at, errs);
    }
}

fn no_new_finalizers(new: &Value, old: &Value, at: &At<'_>, errs: &mut Errs) {
    let mut extra: Vec<&str> =
        strs(new, "finalizers").filter(|f| !strs(old, "finalizers").any(|o| o == *f)).collect();
    if extra.is_empty() {
        return;
    }
    extra.sort_unstable();
    let names: Vec<String> = extra.iter().map(|f| format!("{f:?}")).collect();
    let list = format!("[]string{{{}}}", names.join(", "));
    errs.forbidden(
        at,
        format!("no new finalizers can be added if the object is being deleted, found new finalizers {list}"),
    );
}
