//! Service accounts.

use crate::registry::kind::Kind;
use crate::registry::val::{at, items_mut, s};
use serde_json::{Value, json};

const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

/// Service accounts.
pub const KIND: Kind = Kind {
    prepare_create: names_only,
    prepare_update: |new, _| names_only(new),
    warnings: |new, old, out| {
        let enforces = |v: &Value| at(v, &["metadata", "annotations", MOUNTABLE]).is_some();
        if enforces(new) && !old.is_some_and(enforces) {
            out.push(format!("metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"));
        }
    },
    ..Kind::core("serviceaccounts")
};

/// Of the secrets an account refers to, only the names are kept.
fn names_only(account: &mut Value) {
    for secret in items_mut(account, "secrets") {
        let name = s(secret, "name").to_owned();
        *secret = json!({"name": name});
    }
}
