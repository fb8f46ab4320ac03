//! Hollow nodes: many kubelets in one process, each whole but for the machine under it (the in-memory runtime takes its
//! place), so that a cluster of thousands of nodes can be tried on one machine.

use crate::config::{Config, Hollow, KubeletConfiguration};
use crate::context::Context;
use crate::daemon_run;
use crate::runtime::memory::MemoryRuntime;
use anyhow::{Context as _, Result};
use control::cache::Cache;
use daemon::tasks::Tasks;
use futures::{TryStreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Nodes that share one client. Each has about three watches open, and an HTTP/2 connection carries 1000 streams.
const NODES_PER_CLIENT: usize = 100;
/// Nodes that register at one time.
const STARTING: usize = 16;
/// The port hollow kubelets name; nobody listens.
const PORT: i32 = 10250;

/// What the fleet looks like.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// How the API server is reached.
    pub kubeconfig: PathBuf,
    /// Node names are this, a dash and a number.
    pub prefix: String,
    /// The number of the first node.
    pub first: usize,
    /// How many nodes.
    pub nodes: usize,
    /// Zones the nodes are spread over by label; none with 0.
    pub zones: usize,
    /// What each node says it has.
    pub machine: Hollow,
    /// Pods a node takes.
    pub max_pods: i32,
    /// Directory for what pods leave (their hosts files and volumes).
    pub root: PathBuf,
    /// Seconds a node's lease lasts; it is renewed in a quarter of them.
    pub lease_seconds: i32,
}

impl Fleet {
    /// The configuration of the node with this number. Pure.
    pub fn config(&self, number: usize) -> Config {
        let name = format!("{}-{number}", self.prefix);
        let mut labels = BTreeMap::from([("node-role.coxswain.io/hollow".to_owned(), String::new())]);
        if self.zones > 0 {
            labels.insert("topology.kubernetes.io/zone".into(), format!("zone-{}", number % self.zones));
        }
        Config {
            file: KubeletConfiguration {
                cgroups_per_qos: false,
                enforce_node_allocatable: Vec::new(),
                max_pods: self.max_pods,
                node_lease_duration_seconds: self.lease_seconds,
                static_pod_path: String::new(),
                port: PORT,
                ..KubeletConfiguration::default()
            },
            hostname: name.clone(),
            root_dir: self.root.join(&name),
            node_name: name,
            node_ips: vec![address(number)],
            node_labels: labels,
            hollow: Some(self.machine),
            ..Config::default()
        }
    }

    /// Starts every node; returns when the last has registered its pods' watch. They run until `cancel`.
    ///
    /// # Errors
    /// Of the kubeconfig, and of the first node that could not start.
    pub async fn start(&self, cancel: &CancellationToken) -> Result<()> {
        let services = daemon_run::services(self.client().await?, &Tasks::new(cancel.clone()));
        let numbers: Vec<usize> = (self.first..self.first + self.nodes).collect();
        for group in numbers.chunks(NODES_PER_CLIENT) {
            let client = self.client().await?;
            stream::iter(group.iter().map(Ok::<_, anyhow::Error>))
                .try_for_each_concurrent(STARTING, |number| self.one(*number, &client, &services, cancel))
                .await?;
        }
        Ok(())
    }

    async fn client(&self) -> Result<kube::Client> {
        daemon::client::from_kubeconfig(&self.kubeconfig, "kubemark/v1.36.2").await
    }

    async fn one(
        &self,
        number: usize,
        client: &kube::Client,
        services: &Cache<Service>,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let config = self.config(number);
        let name = config.node_name.clone();
        std::fs::create_dir_all(config.pods_dir())
            .with_context(|| format!("make {}", config.pods_dir().display()))?;
        let runtime = Arc::new(MemoryRuntime::forgetful());
        let ctx = Context::new(Arc::new(config), Some(client.clone()), runtime, cancel.clone());
        daemon_run::start_with(&ctx, Some(services.clone()))
            .await
            .with_context(|| format!("start {name}"))?;
        Ok(())
    }
}

/// An address of its own for each, in a range that is nobody's route.
fn address(number: usize) -> IpAddr {
    let [_, b, c, d] = u32::try_from(number + 1).unwrap_or(u32::MAX).to_be_bytes();
    Ipv4Addr::new(100, 64 | (b & 0x3f), c, d).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet() -> Fleet {
        Fleet {
            kubeconfig: "/none".into(),
            prefix: "hollow".into(),
            first: 0,
            nodes: 3,
            zones: 2,
            machine: Hollow { cores: 4, memory: 1 << 30 },
            max_pods: 110,
            root: "/tmp/hollow".into(),
            lease_seconds: 40,
        }
    }

    #[test]
    fn nodes_differ_in_name_address_zone_and_directory() {
        let (a, b) = (fleet().config(0), fleet().config(255));
        assert_eq!((a.node_name.as_str(), b.node_name.as_str()), ("hollow-0", "hollow-255"));
        assert_eq!(a.node_ips, ["100.64.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(b.node_ips, ["100.64.1.0".parse::<IpAddr>().unwrap()]);
        assert_eq!(a.node_labels["topology.kubernetes.io/zone"], "zone-0");
        assert_eq!(b.node_labels["topology.kubernetes.io/zone"], "zone-1");
        assert_ne!(a.root_dir, b.root_dir);
    }

    #[tokio::test]
    async fn a_hollow_node_has_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet { root: dir.path().into(), ..fleet() };
        let runtime = Arc::new(MemoryRuntime::forgetful());
        let cancel = CancellationToken::new();
        let ctx = Context::new(Arc::new(fleet.config(7)), None, runtime, cancel.clone());
        daemon_run::start_with(&ctx, None).await.unwrap();
        assert_eq!(ctx.node.borrow().capacity["cpu"].0, "4");
        assert_eq!(ctx.node.borrow().capacity["pods"].0, "110");
        cancel.cancel();
    }
}
