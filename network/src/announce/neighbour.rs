//! Neighbour discovery on a link: being asked for IPv6 addresses, and telling that they are here.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::frame::{self, Mac, Neighbour};
use super::link::{Answered, Link};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An ICMPv6 socket on one link. To the runtime it is a socket of datagrams like those of UDP.
pub struct Talk {
    socket: UdpSocket,
    index: u32,
}

impl Talk {
    /// Opens it.
    ///
    /// # Errors
    /// When the machine has no IPv6, or the right is missing.
    pub fn open(link: &Link) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.bind_device(Some(link.name.as_bytes()))?;
        // Neighbours believe only what has not been forwarded.
        socket.set_multicast_hops_v6(255)?;
        socket.set_unicast_hops_v6(255)?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_if_v6(link.index)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, index: link.index })
    }

    /// Hears who asks for the address.
    pub fn join(&self, address: Ipv6Addr) -> io::Result<()> {
        let group = frame::solicited_group(address);
        match SockRef::from(&self.socket).join_multicast_v6(&group, self.index) {
            // Another address of the same group.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
            other => other,
        }
    }

    /// No longer; another address may need the group, so errors and leftovers are harmless.
    pub fn leave(&self, _address: Ipv6Addr) {}

    /// Tells everybody that the address is here.
    pub async fn tell(&self, address: Ipv6Addr, mac: Mac) -> io::Result<()> {
        self.send(ALL_NODES, address, mac, false).await
    }

    async fn send(&self, to: Ipv6Addr, address: Ipv6Addr, mac: Mac, asked: bool) -> io::Result<()> {
        let message = frame::advertisement(address, mac, asked);
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        self.socket.send_to(&message, SocketAddr::V6(to)).await.map(drop)
    }

    /// Answers until the link is gone.
    pub async fn answer(self: Arc<Self>, mac: Mac, answered: Answered, heard: mpsc::Sender<IpAddr>) {
        let mut buffer = [0u8; 1500];
        loop {
            let (length, from) = match self.socket.recv_from(&mut buffer).await {
                Ok(got) => got,
                Err(error) => {
                    tracing::warn!(%error, "answering neighbours has ended");
                    return;
                }
            };
            let message = frame::read_neighbour(buffer.get(..length).unwrap_or_default());
            let ours = |ip: Ipv6Addr| answered.lock().contains(&IpAddr::V6(ip));
            match (message, from) {
                (Some(Neighbour::Asks(ip)), SocketAddr::V6(from)) if ours(ip) => {
                    // Without an address of its own the asker hears only what all hear.
                    let sent = match from.ip().is_unspecified() {
                        true => self.tell(ip, mac).await,
                        false => self.send(*from.ip(), ip, mac, true).await,
                    };
                    if let Err(error) = sent {
                        tracing::debug!(%error, "answering a neighbour");
                    }
                }
                (Some(Neighbour::Tells(ip, Some(other))), _) if other != mac && ours(ip) => {
                    let _ = heard.try_send(IpAddr::V6(ip));
                }
                _ => {}
            }
        }
    }
}
