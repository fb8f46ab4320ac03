//! The kernel's routes, links and settings.

use std::net::IpAddr;

use anyhow::{Context, Result};
use async_trait::async_trait;
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use futures::stream::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};

use crate::facts::Route;

/// Number that marks our own routes; `ip route` shows it as `proto 184`.
pub const PROTOCOL: u8 = 184;

/// The part of the kernel that nodes are connected with; a seam for tests.
#[async_trait]
pub trait Kernel: Send + Sync {
    /// Our own routes.
    async fn list(&self) -> Result<Vec<Route>>;
    /// Adds a route, in place of another to the same network.
    async fn replace(&self, route: Route) -> Result<()>;
    /// Removes one of our routes.
    async fn remove(&self, route: Route) -> Result<()>;
    /// Largest packet of the link that has this address, or of the named one.
    async fn mtu(&self, address: Option<IpAddr>, name: Option<&str>) -> Result<u32>;
}

/// The real kernel.
pub struct Netlink {
    handle: Handle,
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

/// A link that comes up, an address that comes, or a route of ours that went.
fn matters(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(_)) => true,
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(r)) => {
            r.header.protocol == RouteProtocol::Other(PROTOCOL)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            link.header.flags.contains(rtnetlink::packet_route::link::LinkFlags::LowerUp)
        }
        _ => false,
    }
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
        Ok((Self { handle }, Disturbances(messages)))
    }

    async fn family(&self, v4: bool) -> Result<Vec<Route>> {
        let message = match v4 {
            true => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            false => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        };
        let routes = self.handle.route().get(message).execute();
        let all: Vec<RouteMessage> = routes.try_collect().await.context("list routes")?;
        Ok(all.iter().filter_map(own).collect())
    }

    async fn link_of(&self, ip: IpAddr) -> Result<u32> {
        let mut all = self.handle.address().get().execute();
        while let Some(a) = all.try_next().await.context("list addresses")? {
            let has = |x: &AddressAttribute| matches!(x, AddressAttribute::Address(i) | AddressAttribute::Local(i) if *i == ip);
            if a.attributes.iter().any(has) {
                return Ok(a.header.index);
            }
        }
        anyhow::bail!("no link has address {ip}")
    }
}

/// Reads a route if it is one of ours.
fn own(message: &RouteMessage) -> Option<Route> {
    if message.header.protocol != RouteProtocol::Other(PROTOCOL) {
        return None;
    }
    let mut to = None;
    let mut via = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(a) => to = address(a),
            RouteAttribute::Gateway(a) => via = address(a),
            _ => {}
        }
    }
    let to = IpNet::new(to?, message.header.destination_prefix_length).ok()?;
    Some(Route { to, via: via? })
}

fn address(a: &RouteAddress) -> Option<IpAddr> {
    match a {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn message(route: Route) -> Result<RouteMessage> {
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.network(), route.to.prefix_len())
        .and_then(|b| b.gateway(route.via))
        .map_err(|e| anyhow::anyhow!("route to {}: {e:?}", route.to))?;
    Ok(builder.protocol(RouteProtocol::Other(PROTOCOL)).build())
}

#[async_trait]
impl Kernel for Netlink {
    async fn list(&self) -> Result<Vec<Route>> {
        let mut all = self.family(true).await?;
        // A kernel without IPv6 refuses to list its routes
        all.extend(self.family(false).await.unwrap_or_default());
        Ok(all)
    }

    async fn replace(&self, route: Route) -> Result<()> {
        let request = self.handle.route().add(message(route)?).replace().execute();
        request.await.with_context(|| format!("route to {} via {}", route.to, route.via))
    }

    async fn remove(&self, route: Route) -> Result<()> {
        let request = self.handle.route().del(message(route)?).execute();
        request.await.with_context(|| format!("remove the route to {} via {}", route.to, route.via))
    }

    async fn mtu(&self, address: Option<IpAddr>, name: Option<&str>) -> Result<u32> {
        let request = match (name, address) {
            (Some(name), _) => self.handle.link().get().match_name(name),
            (None, Some(ip)) => self.handle.link().get().match_index(self.link_of(ip).await?),
            (None, None) => anyhow::bail!("the node has no address"),
        };
        let link = request.execute().try_next().await.context("read the link")?.context("no such link")?;
        let mtu = link.attributes.iter().find_map(|a| match a {
            LinkAttribute::Mtu(n) => Some(*n),
            _ => None,
        });
        mtu.context("the link has no MTU")
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
