//! Notices when somebody else changes a table of the packet filter: `nft flush ruleset` typed by a person, a firewall
//! script that begins by removing everything. The kernel tells of every change; nothing is looked at without one.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recv,
    setsockopt, socket, sockopt,
};
use tokio::io::unix::AsyncFd;

/// nftables' messages, the seventh group.
const GROUPS: u32 = 1 << 6;
const SUBSYSTEM: u16 = 10;
/// A new number of the whole ruleset; names no table.
const NEW_GENERATION: u16 = 15;
/// Bytes of netlink's header, and of nfnetlink's behind it.
const HEADERS: (usize, usize) = (16, 4);
const ROOM: usize = 32 << 10;

/// A socket that hears of changes.
pub struct Guard {
    socket: AsyncFd<OwnedFd>,
    port: u32,
    table: &'static str,
}

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody else changed the table.
    Foreign,
    /// More happened than the socket could hold, so nothing is known.
    TooMuch,
}

impl Guard {
    /// Opens the socket in the present network namespace, for tables of this name in all families. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// When the kernel has no netlink for netfilter.
    pub fn open(table: &'static str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &(1 << 20));
        let port = getsockname::<NetlinkAddr>(socket.as_raw_fd())?.pid();
        Ok(Self { socket: crate::files::readable(socket)?, port, table })
    }

    /// Hears nothing from now on: a load of the whole table would be told element by element.
    pub fn cover(&self) {
        self.subscribe(0);
    }

    /// Hears again; what was told before is about a table that has been replaced since.
    pub fn uncover(&self) {
        self.subscribe(GROUPS);
        self.forget();
    }

    fn subscribe(&self, groups: u32) {
        if let Err(error) = bind(self.socket.get_ref().as_raw_fd(), &NetlinkAddr::new(self.port, groups)) {
            tracing::debug!(%error, "cannot change what the packet filter tells");
        }
    }

    fn forget(&self) {
        let mut buffer = vec![0; ROOM];
        while !matches!(self.receive(&mut buffer), Err(e) if e.raw_os_error() != Some(Errno::ENOBUFS as i32))
        {
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.socket.get_ref().as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
    }

    /// Waits until somebody whose netlink socket's number is not in `own` changes the table.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn heard(&self, own: &[u32]) -> io::Result<Heard> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut buffer = vec![0; ROOM];
            match ready.try_io(|_| self.receive(&mut buffer)) {
                Ok(Err(e)) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(Heard::TooMuch),
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Err(e),
                Ok(Ok(n)) if foreign(buffer.get(..n).unwrap_or_default(), self.table, own) => {
                    return Ok(Heard::Foreign);
                }
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Whether a datagram tells of a change of the table by somebody else.
fn foreign(mut bytes: &[u8], table: &str, own: &[u32]) -> bool {
    while let Some(length) = number(bytes, 0).map(|n| n as usize).filter(|n| *n >= HEADERS.0) {
        let message = bytes.get(..length).unwrap_or(bytes);
        let kind = number(message, 4).map_or(0, |n| (n & 0xffff) as u16);
        let concerns = kind >> 8 == SUBSYSTEM && kind & 0xff != NEW_GENERATION;
        if concerns && names(message, table) && number(message, 12).is_some_and(|port| !own.contains(&port)) {
            return true;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// Every message of tables, chains, rules, sets and elements names its table in attribute 1.
fn names(message: &[u8], table: &str) -> bool {
    let mut rest = message.get(HEADERS.0 + HEADERS.1..).unwrap_or_default();
    while let Some(head) = number(rest, 0) {
        let (kind, length) = if cfg!(target_endian = "little") {
            (head >> 16, head & 0xffff)
        } else {
            (head & 0xffff, head >> 16)
        };
        let Some(data) = rest.get(4..length as usize) else { return false };
        if kind & 0x3fff == 1 {
            return data.strip_suffix(&[0]) == Some(table.as_bytes());
        }
        rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, port: u32, table: &str) -> Vec<u8> {
        let mut attribute = ((table.len() + 5) as u16).to_ne_bytes().to_vec();
        attribute.extend(1u16.to_ne_bytes());
        attribute.extend(table.bytes().chain([0]));
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        let mut m = ((20 + attribute.len()) as u32).to_ne_bytes().to_vec();
        m.extend((SUBSYSTEM << 8 | kind).to_ne_bytes());
        m.extend([0; 6]);
        m.extend(port.to_ne_bytes());
        m.extend([2, 0, 0, 0]);
        m.extend(attribute);
        m
    }

    #[test]
    fn only_foreign_changes_of_the_table_count() {
        let told = |kind, port, table| foreign(&message(kind, port, table), "mine", &[7]);
        assert!(told(2, 1, "mine"), "table deleted");
        assert!(told(14, 1, "mine"), "element deleted");
        assert!(!told(2, 7, "mine"), "own");
        assert!(!told(2, 1, "mine2") && !told(2, 1, "min"));
        assert!(!told(NEW_GENERATION, 1, "mine"));
        let both = [message(2, 1, "other"), message(2, 1, "mine")].concat();
        assert!(foreign(&both, "mine", &[]) && !foreign(&both[..20], "mine", &[]));
    }

    #[test]
    fn foreign_bytes_do_no_harm() {
        for n in 0..64 {
            assert!(!foreign(&vec![n as u8; n], "mine", &[]));
        }
    }
}
