//! One forwarded connection: a WebSocket connection of its own with a channel for data and one for errors.

use super::ports::Pair;
use crate::channels::{self, Socket};
use crate::exec;
use coxctl_kit::{Call, Cluster, Error, out};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_tungstenite::tungstenite::{Bytes, Message};

const DATA: u8 = 0;
const FAULT: u8 = 1;
/// How often the server is asked whether it is still there.
const PING: Duration = Duration::from_secs(10);
/// How long the pod may be silent after the near end has sent its last byte. The protocol has no way to tell the pod that.
const LINGER: Duration = Duration::from_secs(30);

/// The request for a port of a pod.
pub fn call(pod: &Value, port: u16) -> Call {
    Call::get(exec::path(pod, "portforward")).query("ports", port.to_string())
}

/// The end of all forwarding.
pub fn lost() -> Error {
    Error::message("lost connection to pod")
}

/// Says why a connection could not be forwarded.
pub fn say(why: &str, pair: Pair) {
    let now = jiff::Zoned::now().strftime("%m%d %H:%M:%S%.6f");
    let text = format!("an error occurred forwarding {} -> {}: {why}", pair.local, pair.remote);
    let process = std::process::id();
    out::note(&format!("E{now} {process:>7} portforward.go:424] \"Unhandled Error\" err={text:?}"));
}

/// Moves bytes both ways until either end closes. Reading goes on while a write has to wait.
///
/// # Errors
/// What the server says, or a broken connection to it.
pub async fn forward(cluster: &Cluster, call: &Call, stream: TcpStream) -> Result<(), String> {
    let (socket, _) = channels::open(cluster, call).await.map_err(|error| error.to_string())?;
    let (sink, messages) = socket.split();
    let (near_in, near_out) = stream.into_split();
    let heard = AtomicU64::new(0);
    tokio::select! {
        ended = inward(messages, near_out, &heard) => ended,
        () = outward(sink, near_in, &heard) => Ok(()),
    }
}

/// From the pod.
async fn inward(
    mut messages: SplitStream<Socket>,
    mut near: OwnedWriteHalf,
    heard: &AtomicU64,
) -> Result<(), String> {
    let mut greetings = [false; 2];
    loop {
        match messages.next().await {
            Some(Ok(Message::Binary(data))) => {
                heard.fetch_add(1, Ordering::Relaxed);
                if let Some(data) = piece(&data, &mut greetings)?
                    && near.write_all(data).await.is_err()
                {
                    return Ok(());
                }
            }
            Some(Ok(Message::Close(_))) | None => {
                // The near end may be gone already.
                let _ = near.shutdown().await;
                return Ok(());
            }
            Some(Ok(_)) => {}
            Some(Err(cause)) => return Err(cause.to_string()),
        }
    }
}

/// To the pod. After the near end's last byte it ends when the pod is silent for some time. That nothing can be sent any
/// more is said by the one who reads, who knows why.
async fn outward(mut sink: SplitSink<Socket, Message>, mut near: OwnedReadHalf, heard: &AtomicU64) {
    let mut ping = tokio::time::interval(PING);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let message = tokio::select! {
            count = near.read(&mut buffer) => match count {
                Ok(0) | Err(_) => break,
                Ok(count) => data_message(buffer.get(..count).unwrap_or_default()),
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return std::future::pending().await;
        }
    }
    let mut before = None;
    while before != Some(heard.load(Ordering::Relaxed)) {
        before = Some(heard.load(Ordering::Relaxed));
        tokio::time::sleep(LINGER).await;
    }
    // A server that is gone needs no farewell.
    let _ = sink.close().await;
}

fn data_message(data: &[u8]) -> Message {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(DATA);
    message.extend_from_slice(data);
    Message::Binary(message.into())
}

/// The data of a message; the first message of each channel names its port only.
fn piece<'a>(message: &'a [u8], greetings: &mut [bool; 2]) -> Result<Option<&'a [u8]>, String> {
    let Some((channel, rest)) = message.split_first() else { return Ok(None) };
    match greetings.get_mut(usize::from(*channel)) {
        Some(greeted) if !*greeted => {
            *greeted = true;
            return Ok(None);
        }
        Some(_) => {}
        None => return Ok(None),
    }
    match *channel {
        DATA => Ok(Some(rest)),
        FAULT if !rest.is_empty() => Err(String::from_utf8_lossy(rest).trim().to_string()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::piece;

    #[test]
    fn the_first_message_of_a_channel_is_its_port() {
        let mut greetings = [false; 2];
        assert_eq!(piece(&[0, 80, 0], &mut greetings), Ok(None));
        assert_eq!(piece(&[1, 80, 0], &mut greetings), Ok(None));
        assert_eq!(piece(b"\0abc", &mut greetings), Ok(Some(&b"abc"[..])));
        assert_eq!(piece(b"\x01refused\n", &mut greetings), Err("refused".into()));
        assert_eq!(piece(&[], &mut greetings), Ok(None));
    }
}
