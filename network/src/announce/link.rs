//! Links of this machine, and answering on them: one ARP socket and one ICMPv6 socket per link that has addresses to
//! answer for, none otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{LinkAddr, SockaddrStorage, bind};
use parking_lot::Mutex;
use regex::Regex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::frame::{self, Mac};
use super::neighbour;

const ARP: u16 = 0x0806;
/// An address is announced so long after it was taken: some of the messages may be lost.
const REPEATS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(1000), Duration::from_millis(3000)];

/// A link of this machine.
#[derive(Clone, Debug)]
pub struct Link {
    pub name: String,
    pub index: u32,
    pub mac: Mac,
    pub nets: Vec<IpNet>,
    address: LinkAddr,
}

/// The links that are up and have a hardware address.
///
/// # Errors
/// When the kernel does not tell.
pub fn links() -> Result<Vec<Link>> {
    let mut found: BTreeMap<String, Link> = BTreeMap::new();
    let mut nets: Vec<(String, IpNet)> = Vec::new();
    for one in getifaddrs().context("listing the links")? {
        let usable = one.flags.contains(InterfaceFlags::IFF_UP)
            && !one.flags.intersects(InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_POINTOPOINT);
        let Some(address) = one.address.filter(|_| usable) else { continue };
        if let Some(link) = address.as_link_addr() {
            let (Some(mac), Ok(index)) = (link.addr(), u32::try_from(link.ifindex())) else { continue };
            let name = one.interface_name;
            found.insert(name.clone(), Link { name, index, mac, nets: Vec::new(), address: *link });
        } else if let (Some(ip), Some(mask)) = (ip(&address), one.netmask.as_ref().and_then(ip)) {
            nets.extend(IpNet::with_netmask(ip, mask).ok().map(|net| (one.interface_name, net)));
        }
    }
    for (name, net) in nets {
        if let Some(link) = found.get_mut(&name) {
            link.nets.push(net);
        }
    }
    Ok(found.into_values().collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

/// The link for an address: that of whose networks it is one, else the one with the node's own address. `allowed` is a
/// regular expression on names.
pub fn choose<'a>(
    links: &'a [Link],
    address: IpAddr,
    allowed: Option<&str>,
    own: &[IpAddr],
) -> Option<&'a Link> {
    let pattern = allowed.map(Regex::new).and_then(Result::ok);
    let fits = |l: &&Link| match (allowed, &pattern) {
        (None, _) => true,
        (Some(_), pattern) => pattern.as_ref().is_some_and(|p| p.is_match(&l.name)),
    };
    let near = |l: &&Link| l.nets.iter().any(|n| n.contains(&address));
    let ours = |l: &&Link| l.nets.iter().any(|n| own.contains(&n.addr()));
    links.iter().filter(fits).find(near).or_else(|| links.iter().filter(fits).find(ours))
}

/// Addresses that are answered for on a link.
pub type Answered = Arc<Mutex<BTreeSet<IpAddr>>>;

/// All links that are answered on.
pub struct Answering {
    open: BTreeMap<u32, Open>,
    /// Told of an address that another answers for.
    heard: mpsc::Sender<IpAddr>,
}

struct Open {
    mac: Mac,
    answered: Answered,
    arp: Arc<AsyncFd<Socket>>,
    neighbours: Option<Arc<neighbour::Talk>>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Answering {
    /// On no link yet.
    pub fn new(heard: mpsc::Sender<IpAddr>) -> Self {
        Self { open: BTreeMap::new(), heard }
    }

    /// Begins to answer for an address on a link, and tells everybody there.
    ///
    /// # Errors
    /// When the link's sockets can't be opened.
    pub fn hold(&mut self, address: IpAddr, link: &Link) -> Result<()> {
        // Of a link that was made anew under its number, the old sockets are dead.
        if self
            .open
            .get(&link.index)
            .is_some_and(|o| o.mac != link.mac || o.tasks.iter().any(AbortHandle::is_finished))
        {
            self.open.remove(&link.index);
        }
        let open = match self.open.entry(link.index) {
            std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(open(link, &self.heard)?),
        };
        if let (IpAddr::V6(ip), Some(talk)) = (address, &open.neighbours) {
            talk.join(ip)?;
        }
        open.answered.lock().insert(address);
        self.announce(address);
        Ok(())
    }

    /// Is the address answered for, by a link that still works?
    pub fn holds(&self, address: IpAddr, link: &Link) -> bool {
        let open = self.open.get(&link.index);
        open.is_some_and(|o| {
            o.mac == link.mac
                && o.answered.lock().contains(&address)
                && !o.tasks.iter().any(AbortHandle::is_finished)
        })
    }

    /// Stops answering for an address, at once.
    pub fn withdraw(&mut self, address: IpAddr) {
        self.open.retain(|_, open| {
            if open.answered.lock().remove(&address)
                && let (IpAddr::V6(ip), Some(talk)) = (address, &open.neighbours)
            {
                talk.leave(ip);
            }
            !open.answered.lock().is_empty()
        });
    }

    /// Tells everybody on the link that the address is here, a few times.
    pub fn announce(&self, address: IpAddr) {
        for open in self.open.values().filter(|o| o.answered.lock().contains(&address)) {
            let (answered, arp, talk, mac) =
                (open.answered.clone(), open.arp.clone(), open.neighbours.clone(), open.mac);
            tokio::spawn(async move {
                let mut before = Duration::ZERO;
                for at in REPEATS {
                    tokio::time::sleep(at - before).await;
                    before = at;
                    if !answered.lock().contains(&address) {
                        return;
                    }
                    if let Err(error) = tell(address, mac, &arp, talk.as_deref()).await {
                        tracing::debug!(%address, %error, "announcing");
                    }
                }
            });
        }
    }
}

async fn tell(
    address: IpAddr,
    mac: Mac,
    arp: &AsyncFd<Socket>,
    talk: Option<&neighbour::Talk>,
) -> io::Result<()> {
    match (address, talk) {
        (IpAddr::V4(ip), _) => {
            for message in frame::arp_announcements(ip, mac) {
                arp.get_ref().write_all_at_once(&message)?;
            }
            Ok(())
        }
        (IpAddr::V6(ip), Some(talk)) => talk.tell(ip, mac).await,
        (IpAddr::V6(_), None) => Ok(()),
    }
}

/// Frames go whole or not at all.
trait Whole {
    fn write_all_at_once(&self, frame: &[u8]) -> io::Result<()>;
}

impl Whole for Socket {
    fn write_all_at_once(&self, frame: &[u8]) -> io::Result<()> {
        let mut socket = self;
        socket.write(frame).map(drop)
    }
}

fn open(link: &Link, heard: &mpsc::Sender<IpAddr>) -> Result<Open> {
    let answered: Answered = Arc::default();
    let what = || format!("answering on {}", link.name);
    let arp = Arc::new(watched(arp_socket(link).with_context(what)?).with_context(what)?);
    let mut tasks = Vec::new();
    let answering = answer_arp(arp.clone(), link.mac, answered.clone(), heard.clone());
    let name = link.name.clone();
    let task = async move {
        if let Err(error) = answering.await {
            tracing::warn!(link = name, %error, "answering has ended");
        }
    };
    tasks.push(tokio::spawn(task).abort_handle());
    // A machine may have no IPv6 at all.
    let neighbours = match neighbour::Talk::open(link) {
        Ok(talk) => {
            let talk = Arc::new(talk);
            let answering = talk.clone().answer(link.mac, answered.clone(), heard.clone());
            tasks.push(tokio::spawn(answering).abort_handle());
            Some(talk)
        }
        Err(error) => {
            tracing::info!(link = link.name, %error, "no IPv6 here");
            None
        }
    };
    tracing::info!(link = link.name, "answering on this link");
    Ok(Open { mac: link.mac, answered, arp, neighbours, tasks })
}

fn arp_socket(link: &Link) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ARP.to_be()));
    let socket = Socket::new(Domain::from(nix::libc::AF_PACKET), Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    bind(socket.as_raw_fd(), &link.address)?;
    Ok(socket)
}

#[allow(unsafe_code)]
fn watched(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` is open and stays the same until it is dropped, which is all that is asked for.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

async fn answer_arp(
    socket: Arc<AsyncFd<Socket>>,
    mac: Mac,
    answered: Answered,
    heard: mpsc::Sender<IpAddr>,
) -> io::Result<()> {
    let mut buffer = [0u8; 128];
    loop {
        let mut ready = socket.readable().await?;
        let read = ready.try_io(|s| {
            let mut socket = s.get_ref();
            socket.read(&mut buffer)
        });
        let length = match read {
            Ok(length) => length?,
            Err(_not_ready) => continue,
        };
        let Some(message) = frame::read_arp(buffer.get(..length).unwrap_or_default()) else { continue };
        if message.sender.0 == mac {
            continue;
        }
        let ours = |ip: Ipv4Addr| answered.lock().contains(&IpAddr::V4(ip));
        if ours(message.sender.1) {
            // Full: it is known already.
            let _ = heard.try_send(IpAddr::V4(message.sender.1));
        } else if message.asks && ours(message.target) {
            socket.get_ref().write_all_at_once(&frame::arp_reply(&message, mac))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_announced_where_it_belongs() {
        let Some(template) = links().unwrap().into_iter().next() else { return };
        let link = |name: &str, nets: &[&str]| Link {
            name: name.into(),
            nets: nets.iter().map(|n| n.parse().unwrap()).collect(),
            ..template.clone()
        };
        let links = [
            link("eth0", &["10.0.0.5/24"]),
            link("eth1", &["192.168.1.5/24", "fd00::5/64"]),
            link("cni0", &["10.244.0.1/24"]),
        ];
        let own = ["10.0.0.5".parse().unwrap()];
        let chosen = |address: &str, allowed: Option<&str>| {
            choose(&links, address.parse().unwrap(), allowed, &own)
                .map_or("none", |l| l.name.as_str())
                .to_string()
        };
        assert_eq!(chosen("192.168.1.77", None), "eth1");
        assert_eq!(chosen("fd00::77", None), "eth1");
        assert_eq!(chosen("203.0.113.7", None), "eth0", "routed to the node");
        assert_eq!(chosen("192.168.1.77", Some("^eth0$")), "eth0");
        assert_eq!(chosen("10.0.0.9", Some("^bond")), "none");
        assert_eq!(chosen("10.0.0.9", Some("(")), "none");
    }
}
