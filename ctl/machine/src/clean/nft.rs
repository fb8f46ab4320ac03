//! Tables of the packet filter, removed through netlink: the `nft` program reads every table first, and may fail on others'.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::made::Report;

/// Tables of kube-proxy and of the network agent, in the families they may be in.
const TABLES: [&str; 2] = ["kube-proxy", "coxswain-network"];
const FAMILIES: [(u8, &str); 5] = [(2, "ip"), (10, "ip6"), (1, "inet"), (7, "bridge"), (5, "netdev")];

const SUBSYSTEM: u16 = 10;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const ERROR: u16 = 2;
const TABLE_NAME: u16 = 1;

/// Removes our tables.
pub fn remove_tables() -> Report {
    let mut report = Report::default();
    let socket = match open() {
        Ok(socket) => socket,
        Err(error) => {
            report.left.push(("packet filter tables".into(), format!("{error:#}")));
            return report;
        }
    };
    for (family, shown) in FAMILIES {
        for table in TABLES {
            match delete(&socket, family, table) {
                Ok(true) => report.removed.push(format!("table {shown} {table}")),
                Ok(false) => {}
                Err(error) => report.left.push((format!("table {shown} {table}"), format!("{error:#}"))),
            }
        }
    }
    report
}

fn open() -> Result<OwnedFd> {
    let kind = SockType::Raw;
    let socket = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
        .context("opening a netlink socket")?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).context("binding a netlink socket")?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(5, 0)).context("setting a deadline")?;
    Ok(socket)
}

/// False when there was no such table.
fn delete(socket: &OwnedFd, family: u8, table: &str) -> Result<bool> {
    send(socket.as_raw_fd(), &batch(family, table), MsgFlags::empty()).context("asking the kernel")?;
    let mut buffer = [0; 8192];
    loop {
        let length =
            recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).context("hearing from the kernel")?;
        match answer(buffer.get(..length).unwrap_or_default()) {
            Some(0) => return Ok(true),
            // No such table; or a family the kernel does not have.
            Some(code)
                if [Errno::ENOENT as i32, Errno::EOPNOTSUPP as i32, Errno::EAFNOSUPPORT as i32]
                    .contains(&code) =>
            {
                return Ok(false);
            }
            Some(code) => bail!("{}", Errno::from_raw(code)),
            None => {}
        }
    }
}

/// Code of the first acknowledgement in a datagram, 0 for success.
fn answer(bytes: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(bytes.get(16..20)?.try_into().ok()?);
    (kind == ERROR).then_some(-code)
}

fn batch(family: u8, table: &str) -> Vec<u8> {
    let mut name = table.as_bytes().to_vec();
    name.push(0);
    let mut attribute = Vec::new();
    attribute.extend((name.len() as u16 + 4).to_ne_bytes());
    attribute.extend(TABLE_NAME.to_ne_bytes());
    attribute.extend(&name);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    [
        message(BATCH_BEGIN, REQUEST, 1, 0, SUBSYSTEM, &[]),
        message(DELETE_TABLE, REQUEST | ACKNOWLEDGE, 2, family, 0, &attribute),
        message(BATCH_END, REQUEST, 3, 0, SUBSYSTEM, &[]),
    ]
    .concat()
}

fn message(kind: u16, flags: u16, number: u32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((20 + attributes.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_aligned_and_answers_are_read() {
        let bytes = batch(2, "kube-proxy");
        assert_eq!(bytes.len(), 20 + 20 + 16 + 20);
        assert_eq!(bytes.get(24..26), Some(&DELETE_TABLE.to_ne_bytes()[..]));
        let mut ack = message(ERROR, 0, 2, 0, 0, &[]);
        ack.splice(16..20, (-2i32).to_ne_bytes());
        assert_eq!(answer(&ack), Some(2));
        assert_eq!(answer(&message(3, 0, 2, 0, 0, &[0; 4])), None);
        assert_eq!(answer(&[]), None);
    }
}
