//! The terminal we run in: raw mode, its size, what is typed.

use coxctl_kit::out;
use nix::sys::termios::{self, SetArg, Termios};
use std::io::{IsTerminal, Read};
use std::os::fd::AsRawFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// How much of what is typed may wait to be sent: reads of at most 32 KiB.
const WAITING: usize = 16;

/// A terminal in raw mode; dropping this puts it back as it was.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Puts the terminal of standard input into raw mode. None when it isn't one.
    pub fn enter() -> Option<Self> {
        let before = termios::tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing helps a terminal that refuses.
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

/// Whether standard input is a terminal.
pub fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

mod request {
    nix::ioctl_read_bad!(size, nix::libc::TIOCGWINSZ, nix::libc::winsize);
}

/// Columns and rows of the terminal of standard output, or else of standard input.
pub fn size() -> Option<(u16, u16)> {
    [std::io::stdout().as_raw_fd(), std::io::stdin().as_raw_fd()].into_iter().find_map(size_of)
}

// There is no other way to ask the kernel; it writes into the structure and nowhere else.
#[allow(unsafe_code)]
fn size_of(fd: i32) -> Option<(u16, u16)> {
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    unsafe { request::size(fd, &mut size) }.ok()?;
    (size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// The sizes of the terminal from now on. With `nudge` another size comes first, so that a program that is attached to
/// draws its screen anew.
pub fn sizes(nudge: bool) -> Option<mpsc::Receiver<(u16, u16)>> {
    let now = size()?;
    let mut changes = signal(SignalKind::window_change()).ok()?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        if nudge && sender.send((now.0 + 1, now.1 + 1)).await.is_err() {
            return;
        }
        let mut size = Some(now);
        loop {
            if let Some(size) = size
                && sender.send(size).await.is_err()
            {
                return;
            }
            changes.recv().await;
            size = self::size();
        }
    });
    Some(receiver)
}

/// What comes on standard input, as it comes. It is read by a thread of its own, which the end of the program does not
/// wait for.
pub fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match std::io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(count) if sender.blocking_send(buffer[..count].to_vec()).is_err() => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

/// Writes to standard output.
pub fn stdout() -> crate::channels::Write {
    Box::new(|data| {
        out::put_bytes(data);
        Ok(())
    })
}

/// Writes to standard error.
pub fn stderr() -> crate::channels::Write {
    Box::new(|data| std::io::Write::write_all(&mut std::io::stderr().lock(), data))
}

/// Whether a terminal is wanted and to be had; says so when it is wanted but not to be had.
pub fn wanted(stdin: bool, tty: bool, quiet: bool) -> bool {
    if !stdin || !tty {
        return false;
    }
    if !is_terminal() {
        if !quiet {
            out::note("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        return false;
    }
    true
}
