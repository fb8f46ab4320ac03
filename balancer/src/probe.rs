//! Checking servers: `GET /readyz` over TLS, as nobody in particular.
//!
//! The connection of a check is kept for the next one. That saves the server a handshake every few seconds, and its end
//! tells of the server's death at once.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use daemon::cert::{Reloading, root_store};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::connect::connect;
use crate::pool::{Charge, Fault, Pool, State};

/// For the whole of a check.
const DEADLINE: Duration = Duration::from_secs(3);
/// Between checks of a server that is well.
const STEADY: Duration = Duration::from_secs(4);
/// Between checks of a server that is not, or that changed lately.
const BRISK: Duration = Duration::from_secs(1);
/// Checks in a row that are brisk after a change.
const AFTER_CHANGE: u32 = 4;
/// Between checks of a server that is a last resort.
const RARE: Duration = Duration::from_secs(15);
/// Between checks at least, however often one is asked for.
const PAUSE: Duration = Duration::from_millis(200);
/// More than any answer to the question.
const LARGEST: usize = 64 << 10;

/// How to ask: whom to trust, and under which name.
pub struct Checker {
    tls: Option<Reloading<Option<TlsConnector>>>,
    name: ServerName<'static>,
}

impl Checker {
    /// With a CA file that may come later, and is followed. Without one, taking a connection is all that is asked for.
    ///
    /// # Errors
    /// When the name cannot be in a certificate, or the file is there and no CA.
    pub fn new(ca: Option<&Path>, name: &str) -> Result<Arc<Self>> {
        daemon::init_crypto();
        let name = ServerName::try_from(name.to_owned()).context("serverName")?;
        let tls = ca.map(|path| {
            let file = path.to_owned();
            Reloading::new(vec![path.to_owned()], move || connector(&file))
        });
        Ok(Arc::new(Self { tls: tls.transpose().context("caFile")?, name }))
    }

    fn connector(&self) -> Option<TlsConnector> {
        self.tls.as_ref().and_then(|tls| (*tls.current().0).clone())
    }

    async fn open(&self, server: &str) -> Result<Option<Kept>, Fault> {
        let stream = connect(server).await.map_err(|e| unreachable(&e))?;
        let Some(connector) = self.connector() else { return Ok(None) };
        let stream = connector.connect(self.name.clone(), stream).await.map_err(|e| broken(&e))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| Fault::Silent(e.to_string()))?;
        let end = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Some(Kept { sender, end }))
    }

    async fn check(&self, server: &str, kept: &mut Option<Kept>) -> Result<(), Fault> {
        let late = |_| Fault::Silent(format!("no answer within {} s", DEADLINE.as_secs()));
        if let Some(mut old) = kept.take().filter(|k| !k.end.is_finished()) {
            let answer = tokio::time::timeout(DEADLINE, old.ask(&self.name)).await.map_err(late)?;
            if let Ok(status) = answer {
                *kept = Some(old);
                return judge(status);
            }
        }
        let fresh = async {
            let Some(mut new) = self.open(server).await? else { return Ok(()) };
            let status = new.ask(&self.name).await?;
            *kept = Some(new);
            judge(status)
        };
        tokio::time::timeout(DEADLINE, fresh).await.map_err(late)?
    }
}

fn connector(ca: &Path) -> Result<Option<TlsConnector>> {
    let pem = match std::fs::read(ca) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(root_store(&pem)?).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

fn unreachable(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::TimedOut => Fault::Silent("does not take connections".into()),
        _ => Fault::Refused(error.to_string()),
    }
}

/// A certificate that is wrong stays wrong; a handshake that broke off may have been an accident.
fn broken(error: &io::Error) -> Fault {
    let what = format!("TLS: {error}");
    match error.kind() {
        io::ErrorKind::InvalidData => Fault::Refused(what),
        _ => Fault::Silent(what),
    }
}

/// A server that wants to know who asks, or is too busy for it, is well.
fn judge(status: StatusCode) -> Result<(), Fault> {
    match status.is_server_error() {
        true => Err(Fault::NotReady(format!("/readyz answers {}", status.as_u16()))),
        false => Ok(()),
    }
}

/// A connection for the next check.
struct Kept {
    sender: SendRequest<Empty<Bytes>>,
    end: JoinHandle<()>,
}

impl Kept {
    async fn ask(&mut self, host: &ServerName<'_>) -> Result<StatusCode, Fault> {
        let fault = |what: String| Fault::Silent(what);
        let request = Request::get("/readyz")
            .header("host", host.to_str().as_ref())
            .header("user-agent", concat!("coxswain-balancer/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|e| fault(e.to_string()))?;
        let answer = self.sender.send_request(request).await.map_err(|e| fault(e.to_string()))?;
        let status = answer.status();
        // The body has to be read for the connection to be used again
        Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|e| fault(e.to_string()))?;
        Ok(status)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.end.abort();
    }
}

/// Checks a server until it leaves the pool.
pub async fn watch(charge: Charge, pool: Pool, checker: Arc<Checker>) {
    charge.gone.run_until_cancelled(rounds(&charge, &pool, &checker)).await;
}

async fn rounds(charge: &Charge, pool: &Pool, checker: &Checker) {
    let mut kept = None;
    let mut brisk = AFTER_CHANGE;
    loop {
        let started = Instant::now();
        let found = checker.check(&charge.name, &mut kept).await;
        brisk = match pool.report(&charge.name, found) {
            true => AFTER_CHANGE,
            false => brisk.saturating_sub(1),
        };
        let due = started + pause(pool.state(&charge.name), brisk).mul_f64(rand::random_range(0.8..1.2));
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = charge.poke.notified() => kept = None,
            () = ended(&mut kept) => {}
        }
        tokio::time::sleep_until(started + PAUSE).await;
    }
}

/// How long to leave a server alone.
fn pause(state: Option<(State, bool)>, brisk: u32) -> Duration {
    match state {
        Some((State::Suspect, _)) => BRISK,
        Some((_, true)) if brisk > 0 => BRISK,
        Some((State::Healthy, true)) => STEADY,
        Some((_, true)) => BRISK * 2,
        Some((_, false)) | None => RARE,
    }
}

/// Waits for the kept connection's end, and drops it.
async fn ended(kept: &mut Option<Kept>) {
    let Some(open) = kept else { return std::future::pending().await };
    let _ = (&mut open.end).await;
    *kept = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let state = |code| judge(StatusCode::from_u16(code).unwrap()).is_ok();
        assert_eq!([200, 401, 403, 429, 500, 503].map(state), [true, true, true, true, false, false]);
    }

    #[test]
    fn those_that_are_ill_are_looked_after() {
        assert_eq!(pause(Some((State::Healthy, true)), 0), STEADY);
        assert_eq!(pause(Some((State::Healthy, true)), 1), BRISK);
        assert_eq!(pause(Some((State::Suspect, false)), 0), BRISK);
        assert_eq!(pause(Some((State::Unhealthy, true)), 0), BRISK * 2);
        assert_eq!(pause(Some((State::Unhealthy, false)), 3), RARE);
    }
}
