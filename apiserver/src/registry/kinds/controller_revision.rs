//! Controller revisions.

use crate::registry::errs::At;
use crate::registry::kind::Kind;
use crate::registry::rules::Rule;
use crate::registry::val::set;

/// Controller revisions.
pub const KIND: Kind = Kind {
    rules: &[("revision", Rule::NonNegative)],
    validate: |new, old, errs| {
        if old.is_none() && !set(new, "data") {
            errs.required(&At::ROOT.f("data"), "data is mandatory");
        }
    },
    fixed: &["data"],
    ..Kind::of("apps", "controllerrevisions")
};
