//! Words of access rules.

/// Verbs that rules about resources are usually made of.
pub const VERBS: [&str; 13] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "use",
    "bind",
    "escalate",
    "impersonate",
    "proxy",
];
/// Verbs that only some kinds know, and the one that stands for all.
pub const OTHER_VERBS: [&str; 4] = ["*", "approve", "sign", "attest"];
/// Verbs of rules about paths.
pub const URL_VERBS: [&str; 8] = ["get", "put", "post", "head", "options", "delete", "patch", "*"];

/// Whether a rule about resources may name this verb without a second thought.
pub fn is_resource_verb(verb: &str) -> bool {
    VERBS.contains(&verb) || OTHER_VERBS.contains(&verb)
}
