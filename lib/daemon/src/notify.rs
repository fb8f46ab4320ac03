//! Telling the service manager how the daemon is: systemd's notification protocol, datagrams to `$NOTIFY_SOCKET`.
//!
//! Without that variable everything here does nothing.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// The daemon serves: says READY=1, keeps the watchdog fed while the runtime turns, and says STOPPING=1 when the token is
/// cancelled. Returns at once.
pub fn serving(token: &CancellationToken) {
    start(token, None);
}

/// As [`serving`]; the watchdog is also left to bark while a check of `health` fails.
pub fn serving_while(token: &CancellationToken, health: Arc<Health>) {
    start(token, Some(health));
}

/// Says in a few words what the daemon does; `systemctl status` shows it.
pub fn status(text: &str) {
    if let Some(manager) = Manager::from_env() {
        manager.tell(&format!("STATUS={}", text.replace('\n', " ")));
    }
}

fn start(token: &CancellationToken, health: Option<Arc<Health>>) {
    let Some(manager) = Manager::from_env() else { return };
    manager.tell("READY=1\nSTATUS=serving");
    let pid = std::env::var("WATCHDOG_PID").ok();
    let period = watchdog(std::env::var("WATCHDOG_USEC").ok().as_deref(), pid.as_deref());
    tokio::spawn(live(manager, token.clone(), period, health));
}

/// Half the time that the manager waits for a sign of life; none if it waits for none of ours.
fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    if pid.is_some_and(|p| p.parse() != Ok(std::process::id())) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec) / 2)
}

async fn live(
    manager: Manager,
    token: CancellationToken,
    period: Option<Duration>,
    health: Option<Arc<Health>>,
) {
    let beat = async {
        let Some(period) = period else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(period);
        loop {
            ticks.tick().await;
            if health.as_ref().is_none_or(|h| h.report("livez").0) {
                manager.tell("WATCHDOG=1");
            }
        }
    };
    token.run_until_cancelled(beat).await;
    manager.tell("STOPPING=1\nSTATUS=stopping");
}

/// Where the manager listens.
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Manager {
    fn from_env() -> Option<Self> {
        Self::at(&std::env::var_os("NOTIFY_SOCKET")?)
    }

    fn at(name: &OsString) -> Option<Self> {
        let opened = || {
            let address = match name.as_bytes() {
                [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
                _ => SocketAddr::from_pathname(Path::new(name))?,
            };
            let socket = UnixDatagram::unbound()?;
            // A manager that does not read must not hold us up
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(Self { socket, address })
        };
        opened().inspect_err(|error| tracing::warn!(%error, ?name, "NOTIFY_SOCKET")).ok()
    }

    fn tell(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            tracing::debug!(%error, message, "the service manager was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hear(socket: &tokio::net::UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let heard = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await;
        String::from_utf8_lossy(&buffer[..heard.unwrap().unwrap()]).into_owned()
    }

    async fn a_life(listener: UnixDatagram, name: &str) {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixDatagram::from_std(listener).unwrap();
        let (token, health) = (CancellationToken::new(), Health::new());
        let manager = Manager::at(&name.into()).unwrap();
        let life = live(manager, token.clone(), Some(Duration::from_millis(5)), Some(health.clone()));
        let life = tokio::spawn(life);
        assert_eq!(hear(&listener).await, "WATCHDOG=1");
        assert_eq!(hear(&listener).await, "WATCHDOG=1");
        health.set("x", Err("stuck".into()));
        token.cancel();
        life.await.unwrap();
        let mut last = hear(&listener).await;
        while last == "WATCHDOG=1" {
            last = hear(&listener).await;
        }
        assert_eq!(last, "STOPPING=1\nSTATUS=stopping");
    }

    #[tokio::test]
    async fn sockets_with_a_path_and_without() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        a_life(UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap()).await;
        let name = format!("coxswain-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        a_life(UnixDatagram::bind_addr(&address).unwrap(), &format!("@{name}")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_check_lets_the_watchdog_bark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (token, health) = (CancellationToken::new(), Health::new());
        health.set("x", Err("stuck".into()));
        let manager = Manager::at(&path.into_os_string()).unwrap();
        let life = live(manager, token, Some(Duration::from_secs(1)), Some(health));
        assert!(tokio::time::timeout(Duration::from_secs(10), life).await.is_err());
        assert!(listener.recv(&mut [0; 9]).is_err());
    }

    #[test]
    fn watchdog_times() {
        let own = std::process::id().to_string();
        assert_eq!(watchdog(Some("30000000"), None), Some(Duration::from_secs(15)));
        assert_eq!(watchdog(Some("10"), Some(&own)), Some(Duration::from_micros(5)));
        for other in [(Some("10"), Some("1")), (Some("0"), None), (None, None), (Some("x"), None)] {
            assert_eq!(watchdog(other.0, other.1), None);
        }
    }
}
