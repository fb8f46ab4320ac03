//! What load balancers and people ask: `/healthz` and `/livez` of the proxy, and the health check node ports of
//! services whose external policy is Local.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ahash::HashMap;
use daemon::serving::{Body, Handler, Serving, full};
use hyper::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::events::Teller;
use crate::metrics::Metrics;
use crate::model::{Family, ServiceName};
use crate::proxier::HealthPorts;

/// A family is unhealthy when an update has waited this long: twice upstream's sync period.
const PATIENCE: Duration = Duration::from_secs(60);
/// A port that cannot be had is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    queued: Option<SystemTime>,
    synced: Option<SystemTime>,
}

impl Times {
    /// A family that never finished a sync is not judged.
    fn healthy(&self, now: SystemTime) -> bool {
        match (self.synced, self.queued) {
            (Some(_), Some(queued)) => now.duration_since(queued).unwrap_or_default() < PATIENCE,
            _ => true,
        }
    }
}

/// State of the proxy as seen from outside.
#[derive(Default)]
pub struct Condition {
    families: Mutex<std::collections::BTreeMap<Family, Times>>,
    eligible: AtomicBool,
}

impl Condition {
    /// Nothing synced, node not seen.
    pub fn new(families: &[Family]) -> Arc<Self> {
        let families = families.iter().map(|f| (*f, Times::default())).collect();
        Arc::new(Self { families: Mutex::new(families), eligible: AtomicBool::new(false) })
    }

    /// An update waits to be applied.
    pub fn queued(&self, family: Family) {
        let mut families = self.families.lock();
        families.entry(family).or_default().queued.get_or_insert_with(SystemTime::now);
    }

    /// All updates are applied.
    pub fn synced(&self, family: Family) {
        let mut families = self.families.lock();
        *families.entry(family).or_default() = Times { queued: None, synced: Some(SystemTime::now()) };
    }

    /// Whether load balancers should use this node.
    pub fn set_eligible(&self, eligible: bool) {
        self.eligible.store(eligible, Ordering::Relaxed);
    }

    /// Whether every family keeps up.
    pub fn healthy(&self) -> bool {
        let now = SystemTime::now();
        self.families.lock().values().all(|t| t.healthy(now))
    }

    /// Code and body for `/healthz`, or (`live`) for `/livez`.
    pub fn report(&self, live: bool) -> (StatusCode, Value) {
        let now = SystemTime::now();
        let families = self.families.lock().clone();
        let healthy = families.values().all(|t| t.healthy(now));
        let eligible = self.eligible.load(Ordering::Relaxed);
        let ok = healthy && (live || eligible);
        let newest = families.values().filter_map(|t| t.synced).max();
        let updated = if ok { now } else { newest.unwrap_or(SystemTime::UNIX_EPOCH) };
        let status: serde_json::Map<String, Value> = families
            .iter()
            .map(|(f, t)| {
                let synced = t.synced.unwrap_or(SystemTime::UNIX_EPOCH);
                (f.label().to_owned(), json!({"lastUpdated": text(synced), "healthy": t.healthy(now)}))
            })
            .collect();
        let mut body = json!({"lastUpdated": text(updated), "currentTime": text(now), "healthy": healthy, "status": status});
        if !live {
            body["nodeEligible"] = eligible.into();
        }
        (if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
    }
}

fn text(t: SystemTime) -> String {
    jiff::Timestamp::try_from(t).map_or_else(|_| String::new(), |t| t.to_string())
}

fn answer(code: StatusCode, body: &Value, weight: Option<usize>) -> Response<Body> {
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", hyper::header::HeaderValue::from_static("nosniff"));
    if let Some(n) = weight {
        headers.insert("x-load-balancing-endpoint-weight", hyper::header::HeaderValue::from(n));
    }
    response
}

/// Serves `/healthz` and `/livez`; a port in use is tried again and again.
pub async fn serve(
    addr: SocketAddr,
    condition: Arc<Condition>,
    metrics: Metrics,
    teller: Teller,
    token: CancellationToken,
) {
    let handler = |live: bool| -> Handler {
        let (condition, metrics) = (condition.clone(), metrics.clone());
        Arc::new(move |_, _| {
            let (code, body) = condition.report(live);
            metrics.asked(live, code.as_u16());
            Box::pin(std::future::ready(answer(code, &body, None)))
        })
    };
    let make = || Serving::new(addr, None).route("/healthz", handler(false)).route("/livez", handler(true));
    let tell = |error: &anyhow::Error| {
        teller.of_node(
            "FailedToStartProxierHealthcheck",
            format!("failed to start proxier healthz on {addr}: {error:#}"),
        );
    };
    persist("healthz", make, tell, token).await;
}

/// Serves metrics, the mode and a plain health.
pub async fn serve_metrics(
    addr: SocketAddr,
    metrics: Metrics,
    config: Value,
    teller: Teller,
    token: CancellationToken,
) {
    let fixed = |body: String, kind: &'static str| -> Handler {
        Arc::new(move |_, _| {
            let mut response = Response::new(full(body.clone()));
            response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
            Box::pin(std::future::ready(response))
        })
    };
    const PLAIN: &str = "text/plain; charset=utf-8";
    let make = || {
        Serving::new(addr, None)
            .metrics(metrics.registry())
            .route("/proxyMode", fixed("nftables".into(), PLAIN))
            .route("/healthz", fixed("ok".into(), PLAIN))
            .route("/configz", fixed(config.to_string(), "application/json"))
    };
    let tell = |error: &anyhow::Error| {
        teller.of_node("FailedToStartMetricServer", format!("starting metrics server failed: {error:#}"));
    };
    persist("metrics", make, tell, token).await;
}

/// Serves until cancelled. A port that cannot be had is tried for again and again, and told of once.
async fn persist(
    what: &str,
    make: impl Fn() -> Serving,
    tell: impl Fn(&anyhow::Error),
    token: CancellationToken,
) {
    let mut told = false;
    while let Err(error) = make().run(token.clone()).await {
        tracing::warn!(what, %error, "cannot serve, trying again");
        if !std::mem::replace(&mut told, true) {
            tell(&error);
        }
        if token.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
            return;
        }
    }
}

type Shared = Arc<Mutex<HashMap<u16, (ServiceName, usize)>>>;

/// The health check node ports: one small server each, started and stopped as services come and go.
pub struct NodePorts {
    condition: Arc<Condition>,
    ips: Vec<IpAddr>,
    shared: Shared,
    running: HashMap<u16, CancellationToken>,
    teller: Teller,
    token: CancellationToken,
}

impl NodePorts {
    /// None yet. Without addresses they listen on all.
    pub fn new(
        condition: Arc<Condition>,
        ips: Vec<IpAddr>,
        teller: Teller,
        token: CancellationToken,
    ) -> Self {
        Self { condition, ips, shared: Shared::default(), running: HashMap::default(), teller, token }
    }

    /// Starts, stops and updates servers.
    pub fn update(&mut self, ports: &HealthPorts) {
        if *self.shared.lock() == *ports {
            return;
        }
        *self.shared.lock() = ports.clone();
        self.running.retain(|port, token| {
            let stays = ports.contains_key(port);
            if !stays {
                token.cancel();
            }
            stays
        });
        for port in ports.keys() {
            if !self.running.contains_key(port) {
                self.start(*port);
            }
        }
    }

    fn start(&mut self, port: u16) {
        let token = self.token.child_token();
        self.running.insert(port, token.clone());
        let any = IpAddr::from([0, 0, 0, 0]);
        let ips = if self.ips.is_empty() { vec![any] } else { self.ips.clone() };
        for ip in ips {
            let (shared, condition, token) = (self.shared.clone(), self.condition.clone(), token.clone());
            let teller = self.teller.clone();
            tokio::spawn(async move {
                let make = || {
                    let (shared, condition) = (shared.clone(), condition.clone());
                    let handler: Handler = Arc::new(move |_, _| {
                        Box::pin(std::future::ready(service_health(&shared, &condition, port)))
                    });
                    Serving::new(SocketAddr::new(ip, port), None).route("/", handler)
                };
                let tell = |error: &anyhow::Error| {
                    let name = shared.lock().get(&port).map(|s| s.0.clone());
                    name.iter().for_each(|name| teller.of_health_port(name, port, error));
                };
                persist("health check node port", make, tell, token).await;
            });
        }
    }
}

fn service_health(shared: &Shared, condition: &Condition, port: u16) -> Response<Body> {
    let (name, ready) = shared.lock().get(&port).cloned().unwrap_or_else(|| ("/".into(), 0));
    let healthy = condition.healthy();
    let (namespace, name) = name.split_once('/').unwrap_or_default();
    let body = json!({"service": {"namespace": namespace, "name": name}, "localEndpoints": ready, "serviceProxyHealthy": healthy});
    let code = if ready > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(code, &body, Some(ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_follows_syncs_and_the_node() {
        let c = Condition::new(&[Family::V4]);
        assert_eq!(c.report(false).0, StatusCode::SERVICE_UNAVAILABLE, "node not seen");
        assert_eq!(c.report(true).0, StatusCode::OK);
        c.set_eligible(true);
        c.synced(Family::V4);
        let (code, body) = c.report(false);
        assert_eq!(
            (code, &body["nodeEligible"], &body["status"]["IPv4"]["healthy"]),
            (StatusCode::OK, &true.into(), &true.into())
        );
        c.families.lock().get_mut(&Family::V4).unwrap().queued = Some(SystemTime::now() - PATIENCE);
        assert_eq!(c.report(true).0, StatusCode::SERVICE_UNAVAILABLE);
        assert!(c.report(true).1.get("nodeEligible").is_none());
    }

    #[test]
    fn a_service_is_healthy_where_it_has_endpoints() {
        let c = Condition::new(&[Family::V4]);
        let shared = Shared::default();
        shared.lock().insert(31000, ("ns/web".into(), 2));
        let r = service_health(&shared, &c, 31000);
        assert_eq!(
            (r.status(), r.headers()["x-load-balancing-endpoint-weight"].to_str().unwrap()),
            (StatusCode::OK, "2")
        );
        assert_eq!(service_health(&shared, &c, 31001).status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
