//! Finding a server that takes a connection.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::pool::Pool;

/// For one server to take a connection.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// A server that has not answered for so long is given company by the next.
const HEDGE: Duration = Duration::from_millis(300);
/// A server that takes nothing for so long is as good as gone.
const USER_TIMEOUT: Duration = Duration::from_secs(8);
/// Silence after which a peer is asked whether it is there, and the pause between questions.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));
const KEEPALIVE_TRIES: u32 = 3;

/// Connects to one server.
///
/// # Errors
/// When it refuses, or does not answer within [`DEADLINE`].
pub async fn connect(server: &str) -> std::io::Result<TcpStream> {
    let connecting = async {
        match server.parse::<SocketAddr>() {
            Ok(address) => TcpStream::connect(address).await,
            Err(_) => TcpStream::connect(server).await,
        }
    };
    let stream =
        tokio::time::timeout(DEADLINE, connecting).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    tune(&stream);
    Ok(stream)
}

/// Data goes out at once, and a server that vanished, or reads nothing any more, is noticed within seconds.
fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1).with_retries(KEEPALIVE_TRIES);
    let set = [
        socket.set_tcp_nodelay(true),
        socket.set_tcp_keepalive(&keepalive),
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT)),
    ];
    for error in set.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "socket option");
    }
}

/// Connects to the best server that takes a connection: the next is tried when one fails, and beside one that hesitates.
/// `failed` hears of each that did not.
pub async fn first(
    pool: &Pool,
    mut failed: impl FnMut(&str, &std::io::Error),
) -> Option<(String, TcpStream)> {
    let mut left = pool.order().into_iter();
    let mut attempts = FuturesUnordered::new();
    let attempt = |server: String| async move {
        let done = connect(&server).await;
        (server, done)
    };
    attempts.push(attempt(left.next()?));
    loop {
        let hedge = tokio::time::sleep(HEDGE);
        let done = tokio::select! {
            done = attempts.next() => done,
            () = hedge, if left.len() > 0 => None,
        };
        match done {
            Some((server, Ok(stream))) => return Some((server, stream)),
            Some((server, Err(error))) => {
                failed(&server, &error);
                pool.suspect(&server);
            }
            None => {}
        }
        if let Some(server) = left.next() {
            attempts.push(attempt(server));
        } else if attempts.is_empty() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    async fn closed_port() -> String {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
    }

    #[tokio::test]
    async fn the_dead_are_passed_over_and_named() {
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = alive.local_addr().unwrap().to_string();
        let dead = [closed_port().await, closed_port().await];
        let pool = Pool::new(CancellationToken::new());
        pool.configure(&dead[0], &[dead.as_slice(), std::slice::from_ref(&name)].concat());
        pool.report(&dead[0], Ok(()));
        let mut failed = Vec::new();
        let found = first(&pool, |server, _| failed.push(server.to_owned())).await.unwrap();
        assert_eq!(found.0, name);
        assert_eq!(failed[0], dead[0]);
    }

    #[tokio::test]
    async fn nobody_there() {
        let pool = Pool::new(CancellationToken::new());
        assert!(first(&pool, |_, _| {}).await.is_none());
        pool.configure("", &[closed_port().await]);
        let mut count = 0;
        assert!(first(&pool, |_, _| count += 1).await.is_none());
        assert_eq!(count, 1);
    }
}
