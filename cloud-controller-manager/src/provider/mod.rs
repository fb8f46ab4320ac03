//! What a cloud, or a rack of machines, is to this daemon: instances behind nodes, load balancers, routes.

pub mod coxswain;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{LoadBalancerStatus, Node, NodeAddress, Service};

use crate::Context;

/// A provider. What it does not have is `None`, and the controllers for it do not run.
pub trait Provider: Send + Sync + 'static {
    /// Its name, as in `--cloud-provider`.
    fn name(&self) -> &'static str;
    /// Whether it can tell what belongs to this cluster from what belongs to another.
    fn has_cluster_id(&self) -> bool {
        true
    }
    /// Instances behind nodes.
    fn instances(&self) -> Option<&dyn Instances> {
        None
    }
    /// Load balancers.
    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        None
    }
    /// Routes to nodes' pods.
    fn routes(&self) -> Option<&dyn Routes> {
        None
    }
    /// Told once, when this process leads; long work goes to `context.tasks`.
    fn start(&self, _context: &Context) {}
}

/// What a provider knows of an instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// `PROVIDER://ID`.
    pub provider_id: String,
    pub instance_type: String,
    pub addresses: Vec<NodeAddress>,
    pub zone: String,
    pub region: String,
    /// Further labels; those of kubernetes.io and k8s.io are not the provider's to give.
    pub labels: BTreeMap<String, String>,
}

/// Instances, by their nodes (upstream's InstancesV2).
#[async_trait]
pub trait Instances: Send + Sync {
    /// Is there an instance for this node?
    async fn exists(&self, node: &Node) -> Result<bool>;
    /// Is it there, but turned off?
    async fn shutdown(&self, node: &Node) -> Result<bool>;
    /// What is known of it.
    async fn metadata(&self, node: &Node) -> Result<Metadata>;
}

/// Why a load balancer is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Somebody else looks after this Service.
    #[error("implemented elsewhere")]
    Elsewhere,
    /// Not yet; to be tried again after so long.
    #[error("{why}")]
    Later { why: String, after: Duration },
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// Called when something became free for which others may wait.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Load balancers. All calls may be repeated.
#[async_trait]
pub trait LoadBalancers: Send + Sync {
    /// The loadBalancerClass that is looked after beside Services without one.
    fn class(&self) -> Option<&str> {
        None
    }
    /// The name of a Service's load balancer: upstream's rule, by the Service's uid.
    fn name(&self, _cluster: &str, service: &Service) -> String {
        let uid = service.metadata.uid.as_deref().unwrap_or_default();
        format!("a{}", uid.replace('-', "")).chars().take(32).collect()
    }
    /// The load balancer's state, if there is one.
    async fn get(&self, cluster: &str, service: &Service) -> Result<Option<LoadBalancerStatus>, Fault>;
    /// Makes it, or brings it to what the Service asks for.
    async fn ensure(
        &self,
        cluster: &str,
        service: &Service,
        nodes: &[Arc<Node>],
    ) -> Result<LoadBalancerStatus, Fault>;
    /// Tells it the nodes.
    async fn update(&self, cluster: &str, service: &Service, nodes: &[Arc<Node>]) -> Result<(), Fault>;
    /// Removes it; one that is not there is no error.
    async fn delete(&self, cluster: &str, service: &Service) -> Result<(), Fault>;
    /// Whom to wake when something became free.
    fn wake(&self, _waker: Waker) {}
}

/// A route to the pods of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The provider's name of it; empty for one to be made.
    pub name: String,
    /// The node it leads to.
    pub node: String,
    /// The node's pods.
    pub destination: String,
    /// Leads nowhere, because its instance is gone.
    pub blackhole: bool,
}

/// Routes.
#[async_trait]
pub trait Routes: Send + Sync {
    async fn list(&self, cluster: &str) -> Result<Vec<Route>>;
    /// `hint` may become part of the route's name.
    async fn create(&self, cluster: &str, hint: &str, route: &Route) -> Result<()>;
    async fn delete(&self, cluster: &str, route: &Route) -> Result<()>;
}

/// The providers that are built in.
const KNOWN: [&str; 1] = [coxswain::NAME];

/// The provider of this name.
///
/// # Errors
/// An unknown name, in words that list the known ones; a configuration that is wrong, by path.
pub fn open(name: &str, config: Option<&Path>) -> Result<Box<dyn Provider>> {
    match name {
        "" => bail!("--cloud-provider cannot be empty; known are {}", KNOWN.join(", ")),
        coxswain::NAME => Ok(Box::new(coxswain::Coxswain::open(config)?)),
        "external" => bail!(
            "\"external\" is what other daemons are told; --cloud-provider names the provider here; known are {}",
            KNOWN.join(", ")
        ),
        other => bail!("unknown cloud provider {other:?}; known are {}", KNOWN.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_provider_is_told_the_known_ones() {
        let error = |name: &str| open(name, None).err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(error("aws"), "unknown cloud provider \"aws\"; known are coxswain");
        assert!(error("").starts_with("--cloud-provider cannot be empty"));
        assert!(error("external").ends_with("known are coxswain"));
    }
}
