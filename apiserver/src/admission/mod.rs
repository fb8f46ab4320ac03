//! Plugins between decoding and storing: they may change or refuse a write.

pub mod certificates;
pub mod claim_resize;
pub mod default_class;
pub mod default_toleration_seconds;
pub mod escalation;
pub mod in_use_protection;
pub mod limit_ranger;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod owner_references;
pub mod pod_security;
pub mod pod_topology_labels;
pub mod pods;
pub mod priority;
pub mod resource_quota;
pub mod runtime_class;
pub mod service_account;
pub mod taint_nodes_by_condition;

use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::Value;

use self::resource_quota::Charges;
use crate::app::App;
use crate::authn::lookup::Lookup;
use crate::config::Config;
use crate::reader::Reader;
use crate::request::{UserInfo, Warnings};

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object (or subresource such as binding and eviction).
    Create,
    /// A changed object.
    Update,
    /// A deletion.
    Delete,
    /// exec, attach, portforward, proxy.
    Connect,
}

/// One write as admission sees it.
pub struct Attributes<'a> {
    /// What is done.
    pub op: Operation,
    /// The kind it is done to.
    pub resource: &'a Resource,
    /// Subresource, empty if none.
    pub subresource: &'a str,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name; empty on a create whose name is yet to be generated.
    pub name: &'a str,
    /// The caller.
    pub user: &'a UserInfo,
    /// The object as it is to be; None on delete.
    pub object: Option<&'a mut Value>,
    /// The object as it was; None on create.
    pub old: Option<&'a Value>,
    /// CreateOptions, UpdateOptions, DeleteOptions as sent.
    pub options: &'a Value,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// Collector of `Warning` headers.
    pub warnings: &'a Warnings,
    /// What is written into quotas along with the object.
    pub charges: &'a Charges,
    /// The server.
    pub app: &'a Arc<App>,
}

/// One admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Whether the plugin wants to see such a write at all.
    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool;

    /// The mutating phase; may change the object.
    async fn admit(&self, _attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }

    /// The validating phase; the object is final.
    async fn validate(&self, _attributes: &Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Attributes<'_> {
    /// A refusal of this write.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.resource.group, &self.resource.plural, &self.shown_name(), why)
    }

    /// The name a refusal speaks of.
    pub fn shown_name(&self) -> String {
        let object = self.object.as_deref();
        let of_object = |read: fn(&Value) -> &str| object.map(read).unwrap_or_default();
        let names = [
            self.name,
            of_object(machinery::meta::name),
            of_object(machinery::meta::generate_name),
            "Unknown",
        ];
        names.into_iter().find(|n| !n.is_empty()).unwrap_or_default().to_owned()
    }
}

/// Whether a plugin is on without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
    On,
    Off,
    /// On, and not to be turned off.
    Always,
}

/// All plugins, in upstream's order. Places are kept, in this order, at the
/// end, before ResourceQuota, for MutatingAdmissionPolicy, MutatingAdmissionWebhook, ValidatingAdmissionPolicy and
/// ValidatingAdmissionWebhook.
fn all(config: &Config, objects: &Arc<dyn Lookup>) -> Vec<(Switch, Arc<dyn Plugin>)> {
    use Switch::{Always, Off, On};
    let o = || objects.clone();
    let tolerations = default_toleration_seconds::DefaultTolerationSeconds {
        not_ready: config.default_not_ready_toleration_seconds,
        unreachable: config.default_unreachable_toleration_seconds,
    };
    vec![
        (Always, Arc::new(escalation::RoleEscalation)),
        (On, Arc::new(namespace_lifecycle::NamespaceLifecycle { objects: o() })),
        (On, Arc::new(limit_ranger::LimitRanger { objects: o() })),
        (On, Arc::new(service_account::ServiceAccount { objects: o() })),
        (Off, Arc::new(node_restriction::NodeRestriction { objects: o() })),
        (On, Arc::new(taint_nodes_by_condition::TaintNodesByCondition)),
        (On, Arc::new(pod_security::PodSecurity { objects: o() })),
        (On, Arc::new(priority::Priority { objects: o() })),
        (On, Arc::new(tolerations)),
        (On, Arc::new(default_class::DefaultClass { objects: o(), which: &default_class::STORAGE })),
        (On, Arc::new(in_use_protection::InUseProtection)),
        (Off, Arc::new(owner_references::OwnerReferences)),
        (On, Arc::new(claim_resize::ClaimResize { objects: o() })),
        (On, Arc::new(runtime_class::RuntimeClass { objects: o() })),
        (On, Arc::new(certificates::Approval)),
        (On, Arc::new(certificates::Signing)),
        (On, Arc::new(certificates::SubjectRestriction)),
        (On, Arc::new(default_class::DefaultClass { objects: o(), which: &default_class::INGRESS })),
        (On, Arc::new(pod_topology_labels::PodTopologyLabels { objects: o() })),
        (On, Arc::new(resource_quota::ResourceQuota::new(o()))),
    ]
}

/// Upstream's plugins that may be named by flags and do nothing here yet.
const KNOWN: [&str; 22] = [
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "ClusterTrustBundleAttest",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "JobValidation",
    "LimitPodHardAntiAffinityTopology",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "NodeDeclaredFeatureValidator",
    "PodGroupProtection",
    "PodGroupWorkloadExists",
    "PodNodeSelector",
    "PodResizeValidator",
    "PodTolerationRestriction",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

/// The plugins that are on, in upstream's order. Errors: a flag names a plugin that is not known.
pub fn plugins(config: &Config, reader: &Reader) -> anyhow::Result<Vec<Arc<dyn Plugin>>> {
    let objects: Arc<dyn Lookup> = Arc::new(reader.clone());
    let all = all(config, &objects);
    let (on, off) = (&config.enable_admission_plugins, &config.disable_admission_plugins);
    for name in on.iter().chain(off) {
        if !KNOWN.contains(&name.as_str()) && !all.iter().any(|(_, p)| p.name() == name) {
            anyhow::bail!("enable-admission-plugins or disable-admission-plugins: {name} is unknown");
        }
    }
    for name in on.iter().filter(|n| KNOWN.contains(&n.as_str())) {
        tracing::warn!(plugin = name, "this admission plugin does nothing here yet");
    }
    Ok(chosen(all, on, off))
}

fn chosen(all: Vec<(Switch, Arc<dyn Plugin>)>, on: &[String], off: &[String]) -> Vec<Arc<dyn Plugin>> {
    let named = |list: &[String], p: &Arc<dyn Plugin>| list.iter().any(|n| n == p.name());
    let is_on = |(default, plugin): &(Switch, Arc<dyn Plugin>)| match default {
        Switch::Always => true,
        Switch::On => !named(off, plugin),
        Switch::Off => named(on, plugin) && !named(off, plugin),
    };
    all.into_iter().filter(is_on).map(|(_, plugin)| plugin).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::authn::lookup::fixture::Fixed;

    fn names(on: &[&str], off: &[&str]) -> Vec<&'static str> {
        let config = Config::parse_from(["kube-apiserver"]);
        let objects: Arc<dyn Lookup> = Arc::new(Fixed::default());
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        chosen(all(&config, &objects), &list(on), &list(off)).iter().map(|p| p.name()).collect()
    }

    #[test]
    fn switches() {
        assert!(!names(&[], &[]).contains(&"NodeRestriction"));
        assert!(names(&["NodeRestriction"], &[]).contains(&"NodeRestriction"));
        assert!(!names(&[], &["Priority"]).contains(&"Priority"));
        assert!(names(&[], &["RoleEscalation"]).contains(&"RoleEscalation"));
    }

    #[test]
    fn upstream_order() {
        let all = names(&["NodeRestriction", "OwnerReferencesPermissionEnforcement"], &[]);
        assert_eq!(
            all,
            [
                "RoleEscalation",
                "NamespaceLifecycle",
                "LimitRanger",
                "ServiceAccount",
                "NodeRestriction",
                "TaintNodesByCondition",
                "PodSecurity",
                "Priority",
                "DefaultTolerationSeconds",
                "DefaultStorageClass",
                "StorageObjectInUseProtection",
                "OwnerReferencesPermissionEnforcement",
                "PersistentVolumeClaimResize",
                "RuntimeClass",
                "CertificateApproval",
                "CertificateSigning",
                "CertificateSubjectRestriction",
                "DefaultIngressClass",
                "PodTopologyLabels",
                "ResourceQuota",
            ]
        );
    }
}
