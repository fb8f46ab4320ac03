//! The built-in kinds: their defaults, their rules and what the server keeps for them.
//!
//! [`KINDS`] lists every kind that differs from the plain one, in reading order; [`strategy_for`] looks it up.

pub mod defaults;
pub mod errs;
pub mod kind;
pub mod kinds;
pub mod resources;
pub mod rules;
pub mod strategy;
pub mod val;
pub mod validate;

#[cfg(test)]
mod tests;

use crate::strategy::Strategy;
use kind::Kind;
use machinery::kinds::Resource;
use std::sync::Arc;

/// Every kind with rules of its own. One without is served by the plain rules.
pub const KINDS: &[&Kind] = &[
    // core
    &kinds::pod::KIND,
    &kinds::pod_template::KIND,
    &kinds::replication_controller::KIND,
    &kinds::service::KIND,
    &kinds::endpoints::KIND,
    &kinds::node::KIND,
    &kinds::namespace::KIND,
    &kinds::persistent_volume::KIND,
    &kinds::persistent_volume_claim::KIND,
    &kinds::config_map::KIND,
    &kinds::secret::KIND,
    &kinds::service_account::KIND,
    &kinds::event::CORE,
    &kinds::limit_range::KIND,
    &kinds::resource_quota::KIND,
    // apps
    &kinds::deployment::KIND,
    &kinds::replica_set::KIND,
    &kinds::stateful_set::KIND,
    &kinds::daemon_set::KIND,
    &kinds::controller_revision::KIND,
    // batch, autoscaling, policy
    &kinds::job::KIND,
    &kinds::cron_job::KIND,
    &kinds::horizontal_pod_autoscaler::KIND,
    &kinds::pod_disruption_budget::KIND,
    // networking, discovery
    &kinds::ingress::KIND,
    &kinds::networking::INGRESS_CLASS,
    &kinds::network_policy::KIND,
    &kinds::networking::IP_ADDRESS,
    &kinds::networking::SERVICE_CIDR,
    &kinds::endpoint_slice::KIND,
    // events, coordination
    &kinds::event::EVENTS,
    &kinds::coordination::LEASE,
    &kinds::coordination::LEASE_CANDIDATE,
    // rbac
    &kinds::rbac::ROLE,
    &kinds::rbac::CLUSTER_ROLE,
    &kinds::rbac::ROLE_BINDING,
    &kinds::rbac::CLUSTER_ROLE_BINDING,
    // node, scheduling
    &kinds::scheduling::RUNTIME_CLASS,
    &kinds::scheduling::PRIORITY_CLASS,
    &kinds::scheduling::POD_GROUP,
    &kinds::scheduling::WORKLOAD,
    // storage
    &kinds::storage::STORAGE_CLASS,
    &kinds::storage::VOLUME_ATTACHMENT,
    &kinds::storage::CSI_DRIVER,
    &kinds::storage::CSI_NODE,
    &kinds::storage::CSI_STORAGE_CAPACITY,
    &kinds::storage::VOLUME_ATTRIBUTES_CLASS,
    &kinds::storage::STORAGE_VERSION_MIGRATION,
    // certificates
    &kinds::certificate_signing_request::KIND,
    &kinds::certificates::CLUSTER_TRUST_BUNDLE,
    &kinds::certificates::POD_CERTIFICATE_REQUEST,
    // devices
    &kinds::devices::DEVICE_CLASS,
    &kinds::devices::DEVICE_TAINT_RULE,
    &kinds::devices::RESOURCE_CLAIM,
    &kinds::devices::RESOURCE_CLAIM_TEMPLATE,
    &kinds::devices::RESOURCE_SLICE,
    &kinds::devices::POOL_STATUS_REQUEST,
    // flow control, admission, extension
    &kinds::flow_control::FLOW_SCHEMA,
    &kinds::flow_control::PRIORITY_LEVEL,
    &kinds::admission::VALIDATING_WEBHOOKS,
    &kinds::admission::MUTATING_WEBHOOKS,
    &kinds::admission::VALIDATING_POLICY,
    &kinds::admission::VALIDATING_BINDING,
    &kinds::admission::MUTATING_POLICY,
    &kinds::admission::MUTATING_BINDING,
    &kinds::api_service::KIND,
    &kinds::custom_resource_definition::KIND,
    &kinds::api_service::STORAGE_VERSION,
];

/// Custom resources without and with a status of their own.
static CUSTOM: [Kind; 2] = [Kind::custom(false), Kind::custom(true)];

/// The rules of a resource, or of one of its subresources. `subresource` is empty for the object itself. What a custom
/// resource's own schema demands is checked by whoever serves it.
pub fn strategy_for(resource: &Resource, subresource: &str) -> Arc<dyn Strategy> {
    Arc::new(strategy::KindStrategy::new(kind_of(resource), resource, subresource))
}

fn kind_of(resource: &Resource) -> &'static Kind {
    match KINDS.iter().find(|k| k.group == resource.group && k.plural == resource.plural) {
        Some(kind) => kind,
        None if resource.object_type.is_some() => &Kind::PLAIN,
        None => &CUSTOM[usize::from(resource.subresource("status").is_some())],
    }
}
