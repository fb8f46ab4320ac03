//! Config maps.

use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::val::{b, entries, same_at};
use machinery::names;
use serde_json::Value;

/// The most bytes all values of a config map or secret may have together.
pub const MAX_SIZE: usize = 1024 * 1024;

/// Config maps.
pub const KIND: Kind = Kind {
    validate,
    validate_update: |new, old, errs| sealed(new, old, &["data", "binaryData"], errs),
    ..Kind::core("configmaps")
};

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let mut size = 0;
    for member in ["data", "binaryData"] {
        let at = At::ROOT.f(member);
        for (key, value) in entries(new, member) {
            errs.invalid_each(&at.k(key), key, names::is_config_key(key));
            let text = value.as_str().unwrap_or_default();
            size += if member == "data" { text.len() } else { decoded_len(text) };
        }
    }
    for (key, _) in entries(new, "data") {
        if new.get("binaryData").is_some_and(|b| b.get(key).is_some()) {
            errs.invalid(&At::ROOT.f("data").k(key), key, "duplicate of key present in binaryData");
        }
    }
    if size > MAX_SIZE {
        errs.too_long(&At::ROOT.f(""), MAX_SIZE);
    }
}

/// How many bytes base64 text stands for.
pub fn decoded_len(text: &str) -> usize {
    let digits = text.trim_end_matches('=').len();
    digits * 3 / 4
}

/// What was sealed with `immutable` stays as it was, and sealed.
pub fn sealed(new: &Value, old: &Value, members: &[&str], errs: &mut Errs) {
    if !b(old, "immutable") {
        return;
    }
    if !b(new, "immutable") {
        errs.forbidden(&At::ROOT.f("immutable"), "field is immutable when `immutable` is set");
    }
    for member in members {
        if !same_at(new, old, member) {
            errs.forbidden(&At::ROOT.f(member), "field is immutable when `immutable` is set");
        }
    }
}
