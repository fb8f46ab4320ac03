//! The kernel's routes, links and settings.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use async_trait::async_trait;
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use futures::stream::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};

use crate::backend::Address;
use crate::plan::{Change, LINK_PREFIX, Present, Route, Tunnel};

/// Number that marks our own routes; `ip route` shows it as `proto 184`.
pub const PROTOCOL: u8 = 184;

/// The part of the kernel that nodes are connected with; a seam for tests.
#[async_trait]
pub trait Kernel: Send + Sync {
    /// Our own routes, and what the tunnel of this name knows.
    async fn present(&self, tunnel: &str) -> Result<Present>;
    /// Does one step.
    async fn change(&self, tunnel: &str, change: Change) -> Result<()>;
    /// Makes our end of the tunnel, or brings it to what it should be.
    async fn raise(&self, tunnel: &Tunnel, iface: Option<&str>) -> Result<()>;
    /// Removes all tunnels of ours but the one of this name.
    async fn lower(&self, keep: Option<&str>) -> Result<()>;
    /// Networks on the link that has this address, or on the named one.
    async fn direct(&self, address: Address, name: Option<&str>) -> Result<Vec<IpNet>>;
    /// Largest packet of the link that has this address, or of the named one.
    async fn mtu(&self, address: Address, name: Option<&str>) -> Result<u32>;
}

/// The real kernel.
pub struct Netlink {
    pub(crate) handle: Handle,
    /// Number of the tunnel's link when it was last looked at; 0 for none.
    pub(crate) tunnel: AtomicU32,
}

/// Tells that links, addresses or our routes changed behind our back.
pub struct Disturbances(UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr)>);

impl Disturbances {
    /// Waits for the next one, and takes all that are there with it.
    pub async fn next(&mut self) {
        loop {
            match self.0.next().await {
                Some((message, _)) if matters(&message) => break,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
        while let Ok(_more) = self.0.try_recv() {}
    }
}

/// A link that comes up, whatever happens to our tunnel, an address that comes, or a route of ours that went.
fn matters(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(_)) => true,
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(r)) => {
            r.header.protocol == RouteProtocol::Other(PROTOCOL)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            link.header.flags.contains(LinkFlags::LowerUp) || is_ours(link)
        }
        // With a link its routes go without a word
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => is_ours(link),
        _ => false,
    }
}

/// Whether a link has a name like our tunnels'.
pub(crate) fn is_ours(link: &LinkMessage) -> bool {
    name(link).is_some_and(|name| name.starts_with(LINK_PREFIX))
}

pub(crate) fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

pub(crate) fn mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::Mtu(n) => Some(*n),
        _ => None,
    })
}

impl Netlink {
    /// Opens a socket in the present network namespace.
    pub fn open() -> Result<(Self, Disturbances)> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, handle, messages) =
            new_multicast_connection(&groups).context("open a netlink socket")?;
        tokio::spawn(connection);
        Ok((Self { handle, tunnel: AtomicU32::new(0) }, Disturbances(messages)))
    }

    async fn family(&self, v4: bool) -> Result<Vec<Route>> {
        let message = match v4 {
            true => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            false => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        };
        let routes = self.handle.route().get(message).execute();
        let all: Vec<RouteMessage> = routes.try_collect().await.context("list routes")?;
        let tunnel = self.tunnel.load(Ordering::Relaxed);
        Ok(all.iter().filter_map(|message| own(message, tunnel)).collect())
    }

    async fn routes(&self) -> Result<Vec<Route>> {
        let mut all = self.family(true).await?;
        // A kernel without IPv6 refuses to list its routes
        all.extend(self.family(false).await.unwrap_or_default());
        Ok(all)
    }

    /// All addresses of all links.
    pub(crate) async fn addresses(&self) -> Result<Vec<AddressMessage>> {
        let all = self.handle.address().get().execute();
        all.try_collect().await.context("list addresses")
    }

    /// The link that has this address, or the named one.
    pub(crate) async fn link(&self, address: Address, name: Option<&str>) -> Result<LinkMessage> {
        let request = match (name, address) {
            (Some(name), _) => self.handle.link().get().match_name(name),
            (None, Some(ip)) => self.handle.link().get().match_index(self.link_of(ip).await?),
            (None, None) => anyhow::bail!("the node has no address"),
        };
        request.execute().try_next().await.context("read the link")?.context("no such link")
    }

    async fn link_of(&self, ip: IpAddr) -> Result<u32> {
        let all = self.addresses().await?;
        let found = all.iter().find(|a| local(a) == Some(ip));
        found.map(|a| a.header.index).with_context(|| format!("no link has address {ip}"))
    }

    fn message(&self, route: Route) -> Result<RouteMessage> {
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(route.to.network(), route.to.prefix_len())
            .and_then(|b| b.gateway(route.via))
            .map_err(|e| anyhow::anyhow!("route to {}: {e:?}", route.to))?;
        if route.tunnel {
            builder = builder.output_interface(self.tunnel_index()?).onlink();
        }
        Ok(builder.protocol(RouteProtocol::Other(PROTOCOL)).build())
    }

    async fn replace(&self, route: Route) -> Result<()> {
        let request = self.handle.route().add(self.message(route)?).replace().execute();
        request.await.with_context(|| format!("route to {} via {}", route.to, route.via))
    }

    async fn remove(&self, route: Route) -> Result<()> {
        let request = self.handle.route().del(self.message(route)?).execute();
        request.await.with_context(|| format!("remove the route to {} via {}", route.to, route.via))
    }
}

/// The address itself, not that of a point-to-point link's other end.
pub(crate) fn local(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}

/// Reads a route if it is one of ours.
fn own(message: &RouteMessage, tunnel: u32) -> Option<Route> {
    if message.header.protocol != RouteProtocol::Other(PROTOCOL) {
        return None;
    }
    let (mut to, mut via, mut link) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(a) => to = address(a),
            RouteAttribute::Gateway(a) => via = address(a),
            RouteAttribute::Oif(index) => link = *index,
            _ => {}
        }
    }
    let to = IpNet::new(to?, message.header.destination_prefix_length).ok()?;
    Some(Route { to, via: via?, tunnel: tunnel != 0 && link == tunnel })
}

fn address(a: &RouteAddress) -> Option<IpAddr> {
    match a {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

#[async_trait]
impl Kernel for Netlink {
    async fn present(&self, tunnel: &str) -> Result<Present> {
        self.look(tunnel).await?;
        let (neighbours, forwards) = self.entries().await?;
        Ok(Present { routes: self.routes().await?, neighbours, forwards })
    }

    async fn change(&self, _tunnel: &str, change: Change) -> Result<()> {
        match change {
            Change::Route(route) => self.replace(route).await,
            Change::RemoveRoute(route) => self.remove(route).await,
            Change::Neighbour(neighbour) => self.add_neighbour(neighbour).await,
            Change::RemoveNeighbour(neighbour) => self.remove_neighbour(neighbour).await,
            Change::Forward(forward) => self.add_forward(forward).await,
            Change::RemoveForward(forward) => self.remove_forward(forward).await,
        }
    }

    async fn raise(&self, tunnel: &Tunnel, iface: Option<&str>) -> Result<()> {
        self.raise_tunnel(tunnel, iface).await.with_context(|| format!("tunnel {}", tunnel.overlay.link()))
    }

    async fn lower(&self, keep: Option<&str>) -> Result<()> {
        self.lower_tunnels(keep).await
    }

    async fn direct(&self, address: Address, name: Option<&str>) -> Result<Vec<IpNet>> {
        let link = self.link(address, name).await?.header.index;
        let all = self.addresses().await?;
        let on_link = all.iter().filter(|a| a.header.index == link);
        let nets = on_link.filter_map(|a| IpNet::new(local(a)?, a.header.prefix_len).ok());
        Ok(nets.map(|net| net.trunc()).collect())
    }

    async fn mtu(&self, address: Address, name: Option<&str>) -> Result<u32> {
        mtu(&self.link(address, name).await?).context("the link has no MTU")
    }
}

/// Settings that routing pods' packets needs. What cannot be set is logged: some are read-only in containers.
pub fn sysctls() {
    let wanted = [
        ("net/ipv4/ip_forward", true),
        ("net/bridge/bridge-nf-call-iptables", true),
        ("net/ipv6/conf/all/forwarding", false),
        ("net/bridge/bridge-nf-call-ip6tables", false),
    ];
    for (name, needed) in wanted {
        match std::fs::write(format!("/proc/sys/{name}"), "1") {
            Err(error) if needed => tracing::warn!(setting = name, %error, "cannot set a kernel parameter"),
            _ => {}
        }
    }
}
