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

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// The task that feeds the watchdog.
static FEEDING: Mutex<Option<AbortHandle>> = Mutex::new(None);

/// The daemon serves: says READY=1, keeps the watchdog fed while the runtime turns, and says STOPPING=1 when the token is
/// cancelled. Returns at once.
pub fn serving(token: &CancellationToken) {
    start(token, None);
}

/// As [`serving`]; the watchdog is also left to bark while a check of `health` fails.
pub fn serving_while(token: &CancellationToken, health: Arc<Health>) {
    start(token, Some(health));
}

/// The daemon has done what it can and waits for something that may be long in coming: that counts as ready, lest the
/// manager lose patience. [`serving`] follows. Returns at once.
pub fn waiting(what: &str) {
    status(&format!("READY=1\nSTATUS=waiting for {what}"), None);
}

fn start(token: &CancellationToken, health: Option<Arc<Health>>) {
    status("READY=1\nSTATUS=serving", health);
    let Some(manager) = Manager::from_env() else { return };
    let token = token.clone();
    tokio::spawn(async move {
        token.cancelled().await;
        manager.tell("STOPPING=1\nSTATUS=stopping");
    });
}

/// Tells the state, and has the watchdog fed from now on.
fn status(state: &str, health: Option<Arc<Health>>) {
    let Some(manager) = Manager::from_env() else { return };
    manager.tell(state);
    let pid = std::env::var("WATCHDOG_PID").ok();
    let period = watchdog(std::env::var("WATCHDOG_USEC").ok().as_deref(), pid.as_deref());
    if let Some(period) = period {
        let fed = tokio::spawn(feed(manager, period, health));
        if let Some(before) = FEEDING.lock().replace(fed.abort_handle()) {
            before.abort();
        }
    }
}

/// Half the time that the manager waits for a sign of life; none if it waits for none of ours.
fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    if pid.is_some_and(|p| p.parse() != Ok(std::process::id())) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec) / 2)
}

/// Shows the manager that the runtime turns and, if asked for, that all checks pass. It goes on while the daemon drains.
async fn feed(manager: Manager, period: Duration, health: Option<Arc<Health>>) {
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        if health.as_ref().is_none_or(|h| h.report("livez").0) {
            manager.tell("WATCHDOG=1");
        }
    }
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

    async fn is_fed_and_told(listener: UnixDatagram, name: &str) {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixDatagram::from_std(listener).unwrap();
        let manager = || Manager::at(&name.into()).unwrap();
        let feeding = tokio::spawn(feed(manager(), Duration::from_millis(5), Some(Health::new())));
        assert_eq!(hear(&listener).await, "WATCHDOG=1");
        assert_eq!(hear(&listener).await, "WATCHDOG=1");
        feeding.abort();
        manager().tell("READY=1\nSTATUS=serving");
        let mut last = hear(&listener).await;
        while last == "WATCHDOG=1" {
            last = hear(&listener).await;
        }
        assert_eq!(last, "READY=1\nSTATUS=serving");
    }

    #[tokio::test]
    async fn sockets_with_a_path_and_without() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        is_fed_and_told(UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap()).await;
        let name = format!("coxswain-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        is_fed_and_told(UnixDatagram::bind_addr(&address).unwrap(), &format!("@{name}")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_check_lets_the_watchdog_bark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let health = Health::new();
        health.set("x", Err("stuck".into()));
        let feeding =
            feed(Manager::at(&path.into_os_string()).unwrap(), Duration::from_secs(1), Some(health));
        assert!(tokio::time::timeout(Duration::from_secs(10), feeding).await.is_err());
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
