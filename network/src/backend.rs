//! Bringing the kernel to what [`plan`](crate::plan) wants.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;

use crate::facts::Nodes;
use crate::plan::{Change, Mode, Overlay, Plan, changes, plan};
use crate::routes::Kernel;

/// A way to carry packets between nodes.
#[async_trait]
pub trait Backend: Send {
    /// Makes the connections to all nodes but `own` as they should be. Does as much as it can and then reports the
    /// first failure.
    async fn apply(&mut self, nodes: &Nodes, own: &str) -> Result<()>;
    /// Bytes it adds to each packet, as of the last [`Backend::apply`].
    fn overhead(&self) -> u32;
}

/// Routes, a tunnel, or each where it is called for.
pub struct Mesh {
    kernel: Arc<dyn Kernel>,
    mode: Mode,
    overlay: Overlay,
    iface: Option<String>,
    overhead: u32,
    /// The tunnel that is left when others of ours were removed; the first time it is not known.
    left: Option<Option<String>>,
}

impl Mesh {
    /// Works on this kernel. `iface` is the link to other nodes if it is not that of the node's address.
    pub fn new(kernel: Arc<dyn Kernel>, mode: Mode, overlay: Overlay, iface: Option<String>) -> Self {
        Self { kernel, mode, overlay, iface, overhead: 0, left: None }
    }

    async fn wanted(&self, nodes: &Nodes, own: &str) -> Result<Option<Plan>> {
        let address = nodes.get(own).and_then(|facts| facts.ips.first().copied());
        let direct = match self.mode {
            Mode::Auto if address.is_some() => self.kernel.direct(address, self.iface.as_deref()).await?,
            _ => Vec::new(),
        };
        Ok(plan(nodes, own, self.mode, self.overlay, &direct))
    }

    /// Removes tunnels of ours that are not wanted, when there may be one.
    async fn lower(&mut self, plan: &Plan) -> Result<()> {
        let keep = plan.tunnel.as_ref().map(|t| t.overlay.link());
        if self.left.as_ref() == Some(&keep) {
            return Ok(());
        }
        self.kernel.lower(keep.as_deref()).await?;
        self.left = Some(keep);
        Ok(())
    }
}

#[async_trait]
impl Backend for Mesh {
    async fn apply(&mut self, nodes: &Nodes, own: &str) -> Result<()> {
        let Some(plan) = self.wanted(nodes, own).await? else { return Ok(()) };
        let mut first = Ok(());
        if let Some(tunnel) = &plan.tunnel {
            first = self.kernel.raise(tunnel, self.iface.as_deref()).await;
        }
        self.overhead = plan.tunnel.as_ref().map_or(0, |t| t.overhead());
        let link = self.overlay.link();
        let present = self.kernel.present(&link).await?;
        for change in changes(&present, &plan) {
            tell(&change);
            first = first.and(self.kernel.change(&link, change).await);
        }
        first.and(self.lower(&plan).await)
    }

    fn overhead(&self) -> u32 {
        self.overhead
    }
}

fn tell(change: &Change) {
    let way = |tunnel| if tunnel { "tunnel" } else { "link" };
    match change {
        Change::Route(r) => tracing::info!(to = %r.to, via = %r.via, by = way(r.tunnel), "adding route"),
        Change::RemoveRoute(r) => tracing::info!(to = %r.to, via = %r.via, "removing route"),
        Change::Forward(f) => tracing::info!(node = %f.node, "adding a node to the tunnel"),
        Change::RemoveForward(f) => tracing::info!(node = %f.node, "removing a node from the tunnel"),
        Change::Neighbour(_) | Change::RemoveNeighbour(_) => {}
    }
}

/// Own address by which the link to other nodes is found.
pub(crate) type Address = Option<IpAddr>;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::facts::NodeFacts;
    use crate::plan::tests::OVERLAY;
    use crate::plan::{Forward, Neighbour, Present, Route, Tunnel};
    use ipnet::IpNet;
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    #[derive(Default)]
    pub struct State {
        routes: BTreeMap<IpNet, Route>,
        neighbours: BTreeMap<IpAddr, Neighbour>,
        forwards: BTreeMap<[u8; 6], Forward>,
        tunnel: Option<Tunnel>,
    }

    /// A kernel in memory that refuses gateways it is told to.
    #[derive(Default)]
    pub struct Fake {
        pub state: Mutex<State>,
        pub unreachable: Option<IpAddr>,
    }

    #[async_trait]
    impl Kernel for Fake {
        async fn present(&self, _: &str) -> Result<Present> {
            let state = self.state.lock().unwrap();
            Ok(Present {
                routes: state.routes.values().copied().collect(),
                neighbours: state.neighbours.values().copied().collect(),
                forwards: state.forwards.values().copied().collect(),
            })
        }

        async fn change(&self, _: &str, change: Change) -> Result<()> {
            let mut state = self.state.lock().unwrap();
            match change {
                Change::Route(r) => {
                    anyhow::ensure!(Some(r.via) != self.unreachable, "unreachable");
                    anyhow::ensure!(!r.tunnel || state.neighbours.contains_key(&r.via), "nobody there");
                    state.routes.insert(r.to, r);
                }
                Change::Neighbour(n) => drop(state.neighbours.insert(n.ip, n)),
                Change::Forward(f) => drop(state.forwards.insert(f.mac, f)),
                Change::RemoveRoute(r) => drop(state.routes.remove(&r.to)),
                Change::RemoveNeighbour(n) => drop(state.neighbours.remove(&n.ip)),
                Change::RemoveForward(f) => drop(state.forwards.remove(&f.mac)),
            }
            Ok(())
        }

        async fn raise(&self, tunnel: &Tunnel, _: Option<&str>) -> Result<()> {
            self.state.lock().unwrap().tunnel = Some(tunnel.clone());
            Ok(())
        }

        async fn lower(&self, keep: Option<&str>) -> Result<()> {
            let mut state = self.state.lock().unwrap();
            if keep.is_none() {
                anyhow::ensure!(state.forwards.is_empty() && state.neighbours.is_empty());
                state.tunnel = None;
            }
            Ok(())
        }

        async fn direct(&self, _: Address, _: Option<&str>) -> Result<Vec<IpNet>> {
            Ok(vec!["172.30.0.0/28".parse()?])
        }

        async fn mtu(&self, _: Address, _: Option<&str>) -> Result<u32> {
            Ok(1500)
        }
    }

    fn nodes(list: &[(&str, u8, u8)]) -> Nodes {
        let facts = |ip: u8, cidr: u8| NodeFacts {
            ips: vec![IpAddr::from([172, 30, 0, ip])],
            cidrs: vec![format!("10.244.{cidr}.0/24").parse().unwrap()],
            available: true,
            ..NodeFacts::default()
        };
        list.iter().map(|(name, ip, cidr)| ((*name).to_owned(), facts(*ip, *cidr))).collect()
    }

    fn table(kernel: &Fake) -> String {
        let state = kernel.state.lock().unwrap();
        let way = |r: &Route| if r.tunnel { "~>" } else { ">" };
        let mut all: Vec<String> =
            state.routes.values().map(|r| format!("{}{}{}", r.to, way(r), r.via)).collect();
        all.extend(state.forwards.values().map(|f| f.node.to_string()));
        all.extend(state.tunnel.iter().map(|t| format!("tunnel {}", t.local)));
        all.join(" ")
    }

    #[tokio::test]
    async fn routes_follow_nodes() {
        let kernel = Arc::new(Fake::default());
        let mut mesh = Mesh::new(kernel.clone(), Mode::HostGw, OVERLAY, None);
        mesh.apply(&nodes(&[("a", 1, 0), ("b", 2, 1), ("c", 3, 2)]), "a").await.unwrap();
        assert_eq!(table(&kernel), "10.244.1.0/24>172.30.0.2 10.244.2.0/24>172.30.0.3");
        mesh.apply(&nodes(&[("a", 1, 0), ("b", 9, 1)]), "a").await.unwrap();
        assert_eq!(table(&kernel), "10.244.1.0/24>172.30.0.9");
        mesh.apply(&nodes(&[("a", 1, 0)]), "a").await.unwrap();
        assert_eq!((table(&kernel).as_str(), mesh.overhead()), ("", 0));
    }

    #[tokio::test]
    async fn one_bad_node_does_not_stop_the_others() {
        let kernel = Arc::new(Fake { unreachable: Some(IpAddr::from([172, 30, 0, 2])), ..Fake::default() });
        let mut mesh = Mesh::new(kernel.clone(), Mode::HostGw, OVERLAY, None);
        assert!(mesh.apply(&nodes(&[("a", 1, 0), ("b", 2, 1), ("c", 3, 2)]), "a").await.is_err());
        assert_eq!(table(&kernel), "10.244.2.0/24>172.30.0.3");
    }

    #[tokio::test]
    async fn the_tunnel_comes_with_the_first_far_node_and_goes_with_the_last() {
        let kernel = Arc::new(Fake::default());
        let mut mesh = Mesh::new(kernel.clone(), Mode::Auto, OVERLAY, None);
        mesh.apply(&nodes(&[("a", 1, 0), ("b", 2, 1)]), "a").await.unwrap();
        assert_eq!((table(&kernel).as_str(), mesh.overhead()), ("10.244.1.0/24>172.30.0.2", 0));
        mesh.apply(&nodes(&[("a", 1, 0), ("b", 2, 1), ("c", 99, 2)]), "a").await.unwrap();
        let both = "10.244.1.0/24>172.30.0.2 10.244.2.0/24~>10.244.2.0 172.30.0.99 tunnel 172.30.0.1";
        assert_eq!((table(&kernel).as_str(), mesh.overhead()), (both, 50));
        mesh.apply(&nodes(&[("a", 1, 0), ("b", 2, 1)]), "a").await.unwrap();
        assert_eq!((table(&kernel).as_str(), mesh.overhead()), ("10.244.1.0/24>172.30.0.2", 0));
    }
}
