//! The one file that talks to the kernel's packet filter.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, connect, getsockname, recv,
    send, setsockopt, socket, sockopt,
};

use crate::chains::{AFFINITY, Settings, TABLE, fixed};
use crate::model::Family;
use crate::netlink::{Attributes, Buffer, DONE, flag, messages, subsystem};
use crate::state::Transaction;
use crate::wire::{GET_ELEMENT, GET_TABLE, Remembered, Writer, family_number};

/// Room for the largest transaction: 10,000 services of 10 endpoints take 6 MB.
const SEND_ROOM: usize = 256 << 20;
const RECEIVE_ROOM: usize = 8 << 20;

/// A netlink socket to netfilter.
pub struct Kernel {
    socket: OwnedFd,
}

impl Kernel {
    /// Opens the socket in the present network namespace. Needs CAP_NET_ADMIN to be of use.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Without the capability the plain limit stays, and a large load fails with a clear error
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_ROOM);
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_ROOM);
        Ok(Self { socket })
    }

    /// Makes the table anew, with everything in it, in one step: packets see the old table or the new one. Clients
    /// with affinity that the old table remembered are carried over.
    pub fn load(&self, settings: &Settings, all: &Transaction) -> io::Result<()> {
        let remembered = self.remembered(settings.family).unwrap_or_default();
        let first = self.commit(load_batch(settings, all, &remembered));
        match first {
            Err(e) if !remembered.is_empty() => {
                tracing::warn!(error = %e, "cannot carry clients' affinity over, starting without");
                self.commit(load_batch(settings, all, &[]))
            }
            other => other,
        }
    }

    /// Applies a change, all of it or nothing.
    pub fn apply(&self, settings: &Settings, change: &Transaction) -> io::Result<()> {
        if change.is_empty() {
            return Ok(());
        }
        let mut w = Writer::new(settings);
        w.transaction(change);
        self.commit(w.finish())
    }

    /// Removes the table, if it is there.
    pub fn remove(&self, settings: &Settings) -> io::Result<()> {
        let mut w = Writer::new(settings);
        w.remove_table();
        self.commit(w.finish())
    }

    /// Number of the socket, which the kernel gives as the author of changes.
    pub fn port(&self) -> io::Result<u32> {
        Ok(getsockname::<NetlinkAddr>(self.socket.as_raw_fd())?.pid())
    }

    /// Whether the table is there.
    pub fn present(&self, settings: &Settings) -> io::Result<bool> {
        let mut b = Buffer::default();
        b.begin(subsystem::NFTABLES, GET_TABLE, 0, family_number(settings.family), 0);
        b.text(1, TABLE);
        b.end();
        self.send(b.bytes())?;
        let mut found = Ok(false);
        self.receive(MsgFlags::MSG_DONTWAIT, |m| {
            found = match m.error() {
                None => Ok(true),
                Some(code) if code == Errno::ENOENT as i32 => Ok(false),
                Some(code) => Err(io::Error::from_raw_os_error(code)),
            };
            true
        })?;
        found
    }

    fn commit(&self, batch: Buffer) -> io::Result<()> {
        self.send(batch.bytes())?;
        self.acknowledged()
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// The kernel handles a batch within the call that sends it, so all answers are there already.
    fn acknowledged(&self) -> io::Result<()> {
        let mut outcome = None;
        self.receive(MsgFlags::MSG_DONTWAIT, |m| {
            if let Some(code) = m.error()
                && outcome.is_none_or(|c| c == 0)
            {
                outcome = Some(code);
            }
            false
        })?;
        match outcome {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer from the packet filter")),
        }
    }

    /// Reads messages until none is left or `last` says so.
    fn receive(
        &self,
        flags: MsgFlags,
        mut last: impl FnMut(&crate::netlink::Message<'_>) -> bool,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, flags) {
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            for m in messages(&buffer[..length]) {
                if last(&m) {
                    return Ok(());
                }
            }
        }
    }

    /// Dumps with one request, giving each message to `each`.
    pub(crate) fn dump(&self, request: &Buffer, mut each: impl FnMut(Attributes<'_>)) -> io::Result<()> {
        self.send(request.bytes())?;
        let mut failure = None;
        self.receive(MsgFlags::empty(), |m| {
            match m.error() {
                Some(code) if code != 0 => failure = Some(io::Error::from_raw_os_error(code)),
                None if m.kind != DONE => {
                    each(m.attributes());
                    return false;
                }
                _ => {}
            }
            true
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// Sends one request and waits for its acknowledgement.
    pub(crate) fn request(&self, request: &Buffer) -> io::Result<()> {
        self.send(request.bytes())?;
        self.acknowledged()
    }

    /// Clients in the affinity map of the table that is there now.
    fn remembered(&self, family: Family) -> io::Result<Vec<Remembered>> {
        let mut b = Buffer::default();
        b.begin(subsystem::NFTABLES, GET_ELEMENT, flag::DUMP, family_number(family), 0);
        b.text(1, TABLE);
        b.text(2, AFFINITY);
        b.end();
        let mut list = Vec::new();
        self.dump(&b, |m| {
            list.extend(m.nested(3).into_iter().flatten().filter_map(|e| client(Attributes(e.1))))
        })?;
        Ok(list)
    }
}

fn client(e: Attributes<'_>) -> Option<Remembered> {
    let time = |kind| e.find(kind).and_then(|d| d.try_into().ok()).map(u64::from_be_bytes);
    Some(Remembered {
        key: e.nested(1)?.find(1)?.to_vec(),
        data: e.nested(2)?.find(1)?.to_vec(),
        timeout_ms: time(4)?,
        left_ms: time(5).filter(|t| *t > 0)?,
    })
}

fn load_batch(settings: &Settings, all: &Transaction, remembered: &[Remembered]) -> Buffer {
    let mut w = Writer::new(settings);
    w.table(&fixed(settings));
    w.transaction(all);
    w.remembered(remembered);
    w.finish()
}
