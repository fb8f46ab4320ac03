//! Pod templates kept on their own.

use super::pod_warnings;
use crate::registry::errs::At;
use crate::registry::kind::{Generation, Kind};
use crate::registry::val::get;
use crate::registry::validate::template;
use serde_json::{Value, json};

/// Pod templates.
pub const KIND: Kind = Kind {
    generation: Generation::Members(&["template"]),
    validate: |new, _, errs| {
        template::template(get(new, "template").unwrap_or(&Value::Null), &[], &At::ROOT.f("template"), errs);
    },
    warnings: |new, old, out| {
        let wrapped =
            |v: &Value| json!({"metadata": v.get("metadata"), "spec": {"template": v.get("template")}});
        pod_warnings::template(&wrapped(new), old.map(wrapped).as_ref(), out);
    },
    ..Kind::core("podtemplates")
};
