//! Links and routes of our network agent and of the bridge plug-in.

use anyhow::{Context, Result};
use futures::stream::TryStreamExt;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::{Handle, RouteMessageBuilder, new_connection};

/// The bridge that pods are joined to.
const BRIDGE: &str = "cni0";
/// What the names of the agent's own links begin with.
const PREFIX: &str = "coxswain.";
/// Number that marks the agent's routes.
const PROTOCOL: u8 = 184;

/// Removes them; returns what went.
///
/// # Errors
/// When the kernel can't be asked, or refuses.
pub async fn remove() -> Result<Vec<String>> {
    let (connection, handle, _) = new_connection().context("opening a netlink socket")?;
    let task = tokio::spawn(connection);
    let work = async {
        let mut gone = routes(&handle).await?;
        gone.extend(links(&handle).await?);
        Ok(gone)
    };
    let done = tokio::time::timeout(super::ANSWER, work).await.context("the kernel does not answer");
    task.abort();
    done?
}

async fn links(handle: &Handle) -> Result<Vec<String>> {
    let all: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.context("listing links")?;
    let bridge = all.iter().find(|l| name(l) == BRIDGE).map(|l| l.header.index);
    let ports = all.iter().filter(|l| bridge.is_some() && is_veth(l) && controller(l) == bridge);
    let ours = all.iter().filter(|l| name(l) == BRIDGE || name(l).starts_with(PREFIX));
    let mut gone = Vec::new();
    for link in ports.chain(ours) {
        let removed = handle.link().del(link.header.index).execute().await;
        removed.with_context(|| format!("removing link {}", name(link)))?;
        gone.push(format!("link {}", name(link)));
    }
    Ok(gone)
}

fn name(link: &LinkMessage) -> &str {
    let found = link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    });
    found.unwrap_or_default()
}

fn controller(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}

fn is_veth(link: &LinkMessage) -> bool {
    let kind = |i: &LinkInfo| matches!(i, LinkInfo::Kind(InfoKind::Veth));
    link.attributes.iter().any(|a| matches!(a, LinkAttribute::LinkInfo(infos) if infos.iter().any(kind)))
}

async fn routes(handle: &Handle) -> Result<Vec<String>> {
    let queries = [
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    ];
    let mut gone = 0;
    for query in queries {
        // A kernel without IPv6 refuses to list its routes.
        let all: Vec<RouteMessage> =
            handle.route().get(query).execute().try_collect().await.unwrap_or_default();
        for route in all.into_iter().filter(|r| r.header.protocol == RouteProtocol::Other(PROTOCOL)) {
            handle.route().del(route).execute().await.context("removing a route")?;
            gone += 1;
        }
    }
    Ok(if gone == 0 { Vec::new() } else { vec![format!("{gone} routes to other nodes' pods")] })
}
