//! Passing bytes between two connections.
//!
//! All connections of the process share one buffer: a byte that was read is written at once, and only what the other
//! side does not take is kept with the connection. An idle connection has no buffer at all.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const BUFFER: usize = 64 << 10;
/// One side said all it had to; if the other is silent for so long after that, it has forgotten us.
const HALF_CLOSED: Duration = Duration::from_secs(120);
/// When the process ends: silence after which a connection is between two requests, most likely.
const QUIET: Duration = Duration::from_millis(250);

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Why the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides closed.
    Closed,
    /// The client broke off.
    ClientBroke,
    /// The server broke off.
    ServerBroke,
    /// The server became unhealthy.
    Cut,
    /// The balancer ends.
    Drained,
}

/// Copies both ways until both sides have closed, one has broken off, `cut` is cancelled, or `drain` is and there is
/// a pause. A side that closes its direction only has that passed on.
pub async fn join(
    mut client: TcpStream,
    mut server: TcpStream,
    cut: &CancellationToken,
    drain: &CancellationToken,
) -> End {
    let last = Mutex::new(Instant::now());
    let half = CancellationToken::new();
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let both = async {
        let up = one_way((client_read, End::ClientBroke), (server_write, End::ServerBroke), &last, &half);
        let down = one_way((server_read, End::ServerBroke), (client_write, End::ClientBroke), &last, &half);
        tokio::try_join!(up, down).err().unwrap_or(End::Closed)
    };
    tokio::select! {
        end = both => end,
        () = cut.cancelled() => End::Cut,
        () = silence(&half, &last, HALF_CLOSED) => End::Closed,
        () = silence(drain, &last, QUIET) => End::Drained,
    }
}

/// Waits for the token and then until nothing was passed on for so long.
async fn silence(token: &CancellationToken, last: &Mutex<Instant>, time: Duration) {
    token.cancelled().await;
    loop {
        let until = *last.lock() + time;
        if until <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

/// Copies until there is no more. Each side comes with what it means if it breaks.
async fn one_way(
    (from, read_broke): (ReadHalf<'_>, End),
    (mut to, write_broke): (WriteHalf<'_>, End),
    last: &Mutex<Instant>,
    half: &CancellationToken,
) -> Result<(), End> {
    loop {
        from.readable().await.map_err(|_| read_broke)?;
        match pass(&from, &to) {
            Passed::End => break,
            Passed::Nothing => continue,
            Passed::All => {}
            Passed::Left(rest) => to.write_all(&rest).await.map_err(|_| write_broke)?,
            Passed::ReadBroke => return Err(read_broke),
            Passed::WriteBroke => return Err(write_broke),
        }
        *last.lock() = Instant::now();
        // A busy connection lets the others have their turn
        tokio::task::coop::consume_budget().await;
    }
    half.cancel();
    to.shutdown().await.map_err(|_| write_broke)
}

enum Passed {
    /// There will be no more.
    End,
    /// There is no more for now.
    Nothing,
    All,
    /// The other side takes no more for now.
    Left(Vec<u8>),
    ReadBroke,
    WriteBroke,
}

/// Reads once and writes what was read, without waiting.
fn pass(from: &ReadHalf<'_>, to: &WriteHalf<'_>) -> Passed {
    let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    SHARED.with_borrow_mut(|buffer| {
        let read = match from.try_read(buffer) {
            Ok(0) => return Passed::End,
            Ok(read) => read,
            Err(error) if would_block(&error) => return Passed::Nothing,
            Err(_) => return Passed::ReadBroke,
        };
        let data = buffer.get(..read).unwrap_or_default();
        let written = match to.try_write(data) {
            Ok(written) => written,
            Err(error) if would_block(&error) => 0,
            Err(_) => return Passed::WriteBroke,
        };
        match data.get(written..) {
            Some(rest) if !rest.is_empty() => Passed::Left(rest.to_vec()),
            _ => Passed::All,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn each_direction_closes_for_itself() {
        let ((mut client, near), (far, mut server)) = (pair().await, pair().await);
        let never = CancellationToken::new();
        let joined = tokio::spawn(async move { join(near, far, &never, &never).await });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        text.clear();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), joined.await.unwrap()), ("answer", End::Closed));
    }

    #[tokio::test]
    async fn a_slow_reader_gets_everything() {
        let ((mut client, near), (far, mut server)) = (pair().await, pair().await);
        let never = CancellationToken::new();
        tokio::spawn(async move { join(near, far, &never, &never).await });
        let sent: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
        let copy = sent.clone();
        let writing = tokio::spawn(async move {
            server.write_all(&copy).await.unwrap();
        });
        let mut got = Vec::new();
        let mut piece = vec![0; 9999];
        while got.len() < sent.len() {
            let n = client.read(&mut piece).await.unwrap();
            got.extend_from_slice(&piece[..n]);
            tokio::task::yield_now().await;
        }
        writing.await.unwrap();
        assert!(got == sent);
    }

    #[tokio::test]
    async fn who_broke_off_is_told() {
        for (breaks, end) in [(true, End::ClientBroke), (false, End::ServerBroke)] {
            let ((client, near), (far, server)) = (pair().await, pair().await);
            let never = CancellationToken::new();
            let joined = tokio::spawn(async move { join(near, far, &never, &never).await });
            let (breaking, _staying) = if breaks { (client, server) } else { (server, client) };
            socket2::SockRef::from(&breaking).set_linger(Some(Duration::ZERO)).unwrap();
            drop(breaking);
            assert_eq!(joined.await.unwrap(), end);
        }
    }

    #[tokio::test]
    async fn cutting_and_draining_end_it() {
        for (cut, drain, end) in [(true, false, End::Cut), (false, true, End::Drained)] {
            let ((mut client, near), (far, _server)) = (pair().await, pair().await);
            let (cutting, draining) = (CancellationToken::new(), CancellationToken::new());
            if cut {
                cutting.cancel();
            }
            if drain {
                draining.cancel();
            }
            assert_eq!(join(near, far, &cutting, &draining).await, end);
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        }
    }
}
