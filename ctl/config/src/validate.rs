//! What is wrong with a document, by field.

use crate::{ClusterConfiguration, FieldError, Init, Join, ResetConfiguration, UpgradeConfiguration};

/// Checks all of `init`'s documents, after defaulting.
pub fn validate_init(init: &Init) -> Vec<FieldError> {
    validate_cluster(&init.cluster)
}

/// Checks a ClusterConfiguration, after defaulting.
pub fn validate_cluster(_cluster: &ClusterConfiguration) -> Vec<FieldError> {
    Vec::new()
}

/// Checks a JoinConfiguration, after defaulting.
pub fn validate_join(_join: &Join) -> Vec<FieldError> {
    Vec::new()
}

/// Checks a ResetConfiguration, after defaulting.
pub fn validate_reset(_reset: &ResetConfiguration) -> Vec<FieldError> {
    Vec::new()
}

/// Checks an UpgradeConfiguration, after defaulting.
pub fn validate_upgrade(_upgrade: &UpgradeConfiguration) -> Vec<FieldError> {
    Vec::new()
}
