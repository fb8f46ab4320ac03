//! How nodes are connected. `host-gw` is the first way; an overlay is another implementation of [`Backend`].

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;

use crate::facts::{Nodes, Route, routes};
use crate::routes::Kernel;

/// A way to carry packets between nodes.
#[async_trait]
pub trait Backend: Send {
    /// Makes the connections to all nodes but `own` as they should be. Does as much as it can and then reports the
    /// first failure.
    async fn apply(&mut self, nodes: &Nodes, own: &str) -> Result<()>;
    /// Bytes it adds to each packet.
    fn overhead(&self) -> u32;
}

/// Nodes on one link: a route to each node's pods by the node's address.
pub struct HostGw {
    kernel: Arc<dyn Kernel>,
}

impl HostGw {
    /// Works on this kernel.
    pub fn new(kernel: Arc<dyn Kernel>) -> Self {
        Self { kernel }
    }
}

#[async_trait]
impl Backend for HostGw {
    async fn apply(&mut self, nodes: &Nodes, own: &str) -> Result<()> {
        let present = self.kernel.list().await?;
        let (add, remove) = difference(&present, &routes(nodes, own));
        let mut first = Ok(());
        for route in add {
            tracing::info!(to = %route.to, via = %route.via, "adding route");
            first = first.and(self.kernel.replace(route).await);
        }
        for route in remove {
            tracing::info!(to = %route.to, via = %route.via, "removing route");
            first = first.and(self.kernel.remove(route).await);
        }
        first
    }

    fn overhead(&self) -> u32 {
        0
    }
}

/// Routes to add (or put in place of another to the same network), and routes to remove.
fn difference(present: &[Route], wanted: &[Route]) -> (Vec<Route>, Vec<Route>) {
    let add = wanted.iter().filter(|r| !present.contains(r)).copied().collect();
    let stale = |r: &&Route| !wanted.iter().any(|w| w.to == r.to);
    (add, present.iter().filter(stale).copied().collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::facts::NodeFacts;
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use std::sync::Mutex;

    /// A routing table in memory that refuses gateways it is told to.
    #[derive(Default)]
    pub struct Fake {
        pub table: Mutex<BTreeMap<String, Route>>,
        pub unreachable: Option<IpAddr>,
    }

    #[async_trait]
    impl Kernel for Fake {
        async fn list(&self) -> Result<Vec<Route>> {
            Ok(self.table.lock().unwrap().values().copied().collect())
        }

        async fn replace(&self, route: Route) -> Result<()> {
            anyhow::ensure!(Some(route.via) != self.unreachable, "unreachable");
            self.table.lock().unwrap().insert(route.to.to_string(), route);
            Ok(())
        }

        async fn remove(&self, route: Route) -> Result<()> {
            self.table.lock().unwrap().remove(&route.to.to_string());
            Ok(())
        }

        async fn mtu(&self, _: Option<IpAddr>, _: Option<&str>) -> Result<u32> {
            Ok(1500)
        }
    }

    fn nodes(list: &[(&str, u8, u8)]) -> Nodes {
        let facts = |ip: u8, cidr: u8| NodeFacts {
            ips: vec![IpAddr::from([172, 30, 0, ip])],
            cidrs: vec![format!("10.244.{cidr}.0/24").parse().unwrap()],
            available: true,
        };
        list.iter().map(|(name, ip, cidr)| ((*name).to_owned(), facts(*ip, *cidr))).collect()
    }

    async fn table(kernel: &Fake) -> String {
        let all: Vec<String> =
            kernel.list().await.unwrap().iter().map(|r| format!("{}>{}", r.to, r.via)).collect();
        all.join(" ")
    }

    #[tokio::test]
    async fn routes_follow_nodes() {
        let kernel = Arc::new(Fake::default());
        let mut backend = HostGw::new(kernel.clone());
        backend.apply(&nodes(&[("a", 1, 0), ("b", 2, 1), ("c", 3, 2)]), "a").await.unwrap();
        assert_eq!(table(&kernel).await, "10.244.1.0/24>172.30.0.2 10.244.2.0/24>172.30.0.3");
        backend.apply(&nodes(&[("a", 1, 0), ("b", 9, 1)]), "a").await.unwrap();
        assert_eq!(table(&kernel).await, "10.244.1.0/24>172.30.0.9");
        backend.apply(&nodes(&[("a", 1, 0)]), "a").await.unwrap();
        assert_eq!(table(&kernel).await, "");
    }

    #[tokio::test]
    async fn one_bad_node_does_not_stop_the_others() {
        let kernel = Arc::new(Fake { unreachable: Some(IpAddr::from([172, 30, 0, 2])), ..Fake::default() });
        let mut backend = HostGw::new(kernel.clone());
        assert!(backend.apply(&nodes(&[("a", 1, 0), ("b", 2, 1), ("c", 3, 2)]), "a").await.is_err());
        assert_eq!(table(&kernel).await, "10.244.2.0/24>172.30.0.3");
    }
}
