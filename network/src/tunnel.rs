//! The tunnel in the kernel: a VXLAN link that learns nothing by itself, and the two tables that say who is where.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use futures::stream::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::{LinkUnspec, LinkVxlan};

use crate::plan::{Forward, Mac, Neighbour, Tunnel};
use crate::routes::{Netlink, is_ours, local, mtu, name};

/// Error number for "no such device".
const ENODEV: i32 = 19;

impl Netlink {
    /// Number of the tunnel's link.
    pub(crate) fn tunnel_index(&self) -> Result<u32> {
        match self.tunnel.load(Ordering::Relaxed) {
            0 => anyhow::bail!("there is no tunnel"),
            index => Ok(index),
        }
    }

    /// Looks the tunnel up by name and keeps its number.
    pub(crate) async fn look(&self, tunnel: &str) -> Result<Option<LinkMessage>> {
        let found = self.handle.link().get().match_name(tunnel).execute().try_next().await;
        let link = match found {
            Ok(link) => link,
            Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -ENODEV => None,
            Err(error) => return Err(error).context("look for the tunnel"),
        };
        self.tunnel.store(link.as_ref().map_or(0, |l| l.header.index), Ordering::Relaxed);
        Ok(link)
    }

    pub(crate) async fn raise_tunnel(&self, tunnel: &Tunnel, iface: Option<&str>) -> Result<()> {
        let below = self.link(Some(tunnel.local), iface).await?;
        let size = mtu(&below).unwrap_or(1500).saturating_sub(tunnel.overhead());
        let name = tunnel.overlay.link();
        let mut present = self.look(&name).await?;
        if let Some(other) = present.take_if(|link| !is_same(link, tunnel, below.header.index)) {
            tracing::info!(link = name, "the tunnel is to be another, making it anew");
            self.handle.link().del(other.header.index).execute().await.context("remove the link")?;
        }
        match present {
            Some(link) if mtu(&link) == Some(size) && link.header.flags.contains(LinkFlags::Up) => {}
            Some(link) => self.adjust(&link, size).await?,
            None => self.make(tunnel, below.header.index, size).await?,
        }
        self.look(&name).await?;
        self.address(tunnel).await
    }

    async fn make(&self, tunnel: &Tunnel, below: u32, size: u32) -> Result<()> {
        tracing::info!(link = tunnel.overlay.link(), local = %tunnel.local, mtu = size, "making the tunnel");
        let link = LinkVxlan::new(&tunnel.overlay.link(), tunnel.overlay.vni)
            .dev(below)
            .port(tunnel.overlay.port)
            .learning(false)
            .address(tunnel.mac.to_vec())
            .mtu(size)
            .up();
        let link = match tunnel.local {
            IpAddr::V4(ip) => link.local(ip),
            IpAddr::V6(ip) => link.local6(ip),
        };
        self.handle.link().add(link.build()).execute().await.context("make the link")
    }

    async fn adjust(&self, link: &LinkMessage, size: u32) -> Result<()> {
        let change = LinkUnspec::new_with_index(link.header.index).mtu(size).up().build();
        self.handle.link().change(change).execute().await.context("set the link's size and state")
    }

    /// Gives our end its addresses and takes others away, but for those that IPv6 makes by itself.
    async fn address(&self, tunnel: &Tunnel) -> Result<()> {
        let index = self.tunnel_index()?;
        let mut missing = tunnel.addresses.clone();
        for message in self.addresses().await?.into_iter().filter(|a| a.header.index == index) {
            let Some(ip) = local(&message) else { continue };
            let automatic = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            if tunnel.addresses.contains(&ip) {
                missing.retain(|m| *m != ip);
            } else if !automatic {
                self.handle.address().del(message).execute().await.context("remove an address")?;
            }
        }
        for ip in missing {
            let whole = if ip.is_ipv4() { 32 } else { 128 };
            let request = self.handle.address().add(index, ip, whole).execute();
            request.await.with_context(|| format!("add address {ip}"))?;
        }
        Ok(())
    }

    pub(crate) async fn lower_tunnels(&self, keep: Option<&str>) -> Result<()> {
        let links: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.context("list links")?;
        let stale = |l: &&LinkMessage| is_ours(l) && vxlan(l).is_some() && name(l) != keep;
        for link in links.iter().filter(stale) {
            tracing::info!(link = name(link), "removing a tunnel that is not used any more");
            self.handle.link().del(link.header.index).execute().await.context("remove a link")?;
        }
        Ok(())
    }

    /// What the tunnel knows of others; nothing when there is none.
    pub(crate) async fn entries(&self) -> Result<(Vec<Neighbour>, Vec<Forward>)> {
        let Ok(index) = self.tunnel_index() else { return Ok(Default::default()) };
        let mut neighbours = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let found = self.dump(family, index).await;
            // A kernel without IPv6 refuses to list
            let found = if family == AddressFamily::Inet { found? } else { found.unwrap_or_default() };
            let permanent = found.iter().filter(|m| m.header.state == NeighbourState::Permanent);
            neighbours.extend(permanent.filter_map(|m| Some(Neighbour { ip: ip_of(m)?, mac: mac_of(m)? })));
        }
        let found = self.dump(AddressFamily::Bridge, index).await?;
        let forwards = found.iter().filter_map(|m| Some(Forward { mac: mac_of(m)?, node: ip_of(m)? }));
        Ok((neighbours, forwards.collect()))
    }

    async fn dump(&self, family: AddressFamily, index: u32) -> Result<Vec<NeighbourMessage>> {
        let request = self.handle.neighbours().get().set_address_family(family).execute();
        let all: Vec<NeighbourMessage> = request.try_collect().await.context("list neighbours")?;
        Ok(all.into_iter().filter(|m| m.header.ifindex == index).collect())
    }

    pub(crate) async fn add_neighbour(&self, n: Neighbour) -> Result<()> {
        let request = self.handle.neighbours().add(self.tunnel_index()?, n.ip);
        let request = request.link_layer_address(&n.mac).replace().execute();
        request.await.with_context(|| format!("neighbour {}", n.ip))
    }

    pub(crate) async fn remove_neighbour(&self, n: Neighbour) -> Result<()> {
        let mut request = self.handle.neighbours().add(self.tunnel_index()?, n.ip);
        let message = request.message_mut().clone();
        let request = self.handle.neighbours().del(message).execute();
        request.await.with_context(|| format!("remove neighbour {}", n.ip))
    }

    pub(crate) async fn add_forward(&self, f: Forward) -> Result<()> {
        let request = self.handle.neighbours().add_bridge(self.tunnel_index()?, &f.mac);
        let request = request.flags(NeighbourFlags::Own).destination(f.node).replace().execute();
        request.await.with_context(|| format!("forwarding to {}", f.node))
    }

    pub(crate) async fn remove_forward(&self, f: Forward) -> Result<()> {
        let request = self.handle.neighbours().add_bridge(self.tunnel_index()?, &f.mac);
        let mut request = request.flags(NeighbourFlags::Own).destination(f.node);
        let message = request.message_mut().clone();
        let request = self.handle.neighbours().del(message).execute();
        request.await.with_context(|| format!("remove forwarding to {}", f.node))
    }
}

/// The properties of a VXLAN link; none of any other.
fn vxlan(link: &LinkMessage) -> Option<&[InfoVxlan]> {
    let infos = link.attributes.iter().find_map(|a| match a {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    })?;
    if !infos.contains(&LinkInfo::Kind(InfoKind::Vxlan)) {
        return None;
    }
    infos.iter().find_map(|i| match i {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data.as_slice()),
        _ => None,
    })
}

/// Whether the link is that tunnel in all that cannot be changed.
fn is_same(link: &LinkMessage, tunnel: &Tunnel, below: u32) -> bool {
    let Some(has) = vxlan(link) else { return false };
    let local = match tunnel.local {
        IpAddr::V4(ip) => InfoVxlan::Local(ip),
        IpAddr::V6(ip) => InfoVxlan::Local6(ip),
    };
    let wanted = [
        InfoVxlan::Id(tunnel.overlay.vni),
        InfoVxlan::Port(tunnel.overlay.port),
        InfoVxlan::Link(below),
        InfoVxlan::Learning(false),
        local,
    ];
    wanted.iter().all(|w| has.contains(w))
        && link.attributes.contains(&LinkAttribute::Address(tunnel.mac.to_vec()))
}

fn ip_of(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        // In a bridge's table the family is told by the length alone
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    })
}

fn mac_of(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    })
}
