//! The `kubernetes` service: its object, and the endpoints that lead to the API servers alive now. Each server keeps a key
//! with a time to live under /masterleases/; whoever looks sees who is there, and everybody watches.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;
use machinery::status::Status;
use rand::Rng;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::internal;
use crate::storage::{Batch, Event, Outcome, Watch, prefix_end};

/// How long a server that says nothing is believed to be alive, and how often it says something.
const LEASE: Duration = Duration::from_secs(15);
const EVERY: Duration = Duration::from_secs(5);
/// First pause after a failure; what fails the same way again is tried less often.
const RETRY: Duration = Duration::from_secs(1);
/// How long leaving may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often a list is written again when another server was quicker.
const ATTEMPTS: usize = 8;
const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";

/// How the server is told to take itself out of the endpoints, and that it has.
#[derive(Default)]
pub struct Leaving {
    wanted: CancellationToken,
    done: CancellationToken,
}

impl Leaving {
    /// Takes this server out of the endpoints; gives up after a while.
    pub async fn leave(&self) {
        self.wanted.cancel();
        if tokio::time::timeout(FAREWELL, self.done.cancelled()).await.is_err() {
            tracing::warn!("could not be taken out of the endpoints of the kubernetes service");
        }
    }
}

/// Keeps service, endpoints and slice until told to leave, then never ends.
pub async fn run(app: Arc<App>) {
    if app.config.endpoint_reconciler_type != "none" {
        tokio::select! {
            () = stay(&app) => {}
            () = app.leaving.wanted.cancelled() => {}
        }
        if let Some(address) = advertised(&app)
            && let Err(status) = leave(&app, address).await
        {
            tracing::warn!(error = status.message, "leaving the endpoints of the kubernetes service");
        }
    }
    app.leaving.done.cancel();
    std::future::pending().await
}

async fn stay(app: &Arc<App>) {
    app.reader.synced().await;
    let Some(address) = advertised(app) else {
        tracing::warn!("no address to advertise; the endpoints of the kubernetes service are not kept");
        return app.leaving.wanted.cancelled().await;
    };
    let (mut wait, mut said) = (RETRY, String::new());
    let mut others = Others::default();
    let mut renewed = None;
    loop {
        let due = renewed.is_none_or(|at: Instant| at.elapsed() >= EVERY.mul_f64(0.9));
        let kept = keep(app, due.then_some(address), &mut others).await;
        let why = kept.err().map(|status| status.message).unwrap_or_default();
        if why.is_empty() {
            app.health.set("poststarthook/bootstrap-controller", Ok(()));
            renewed = if due { Some(Instant::now()) } else { renewed };
            wait = EVERY;
        } else if why == said {
            wait = (wait * 2).min(EVERY);
        } else {
            tracing::warn!(error = why, "the kubernetes service can't be kept");
            (wait, renewed) = (RETRY, None);
        }
        said = why;
        let jitter = rand::rng().random_range(0.9..1.1);
        tokio::select! {
            () = tokio::time::sleep(wait.mul_f64(jitter)) => {}
            () = others.changed() => {}
        }
    }
}

/// Tells when a server comes or goes.
#[derive(Default)]
struct Others(Option<Watch>);

impl Others {
    async fn open(&mut self, app: &App, revision: u64) {
        if self.0.is_none() {
            self.0 = app.storage.watch(&leases(app), revision).await.ok();
        }
    }

    /// Waits for a server to come or go; renewals are neither.
    async fn changed(&mut self) {
        while let Some(watch) = &mut self.0 {
            match watch.batches.recv().await {
                Some(Ok(Batch::Events(events))) if events.iter().any(comes_or_goes) => return,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => self.0 = None,
            }
        }
        std::future::pending().await
    }
}

fn comes_or_goes(event: &Event) -> bool {
    match event {
        Event::Put(kv) => kv.create_revision == kv.mod_revision,
        Event::Delete { .. } => true,
    }
}

async fn leave(app: &Arc<App>, address: IpAddr) -> Result<(), Status> {
    let key = lease_key(app, address);
    if let Some(kv) = app.storage.get(&key).await.map_err(away)?.kv {
        app.storage.delete(&key, kv.mod_revision).await.map_err(away)?;
    }
    let (alive, _) = alive(app).await?;
    // The last one stays listed: an empty list would tell clients that there will be none.
    if alive.is_empty() { Ok(()) } else { keep_lists(app).await }
}

fn away(error: crate::storage::Error) -> Status {
    Status::service_unavailable(error.to_string())
}

/// The address others reach this server at: the flag, the address listened on, or that of the default route.
pub fn advertised(app: &App) -> Option<IpAddr> {
    if app.config.advertise_address.is_some() {
        return app.config.advertise_address;
    }
    if !app.config.bind_address.is_unspecified() {
        return Some(app.config.bind_address);
    }
    // Connecting a datagram socket sends nothing; it only chooses a source address.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

fn leases(app: &App) -> String {
    format!("{}/masterleases/", app.config.etcd_prefix)
}

fn lease_key(app: &App, address: IpAddr) -> String {
    format!("{}{address}", leases(app))
}

/// One round; renews the lease of `address` if given.
async fn keep(app: &Arc<App>, address: Option<IpAddr>, others: &mut Others) -> Result<(), Status> {
    if let Some(address) = address {
        renew(app, address).await?;
    }
    let (_, revision) = alive(app).await?;
    others.open(app, revision).await;
    if app.reader.get("namespaces", "", NAMESPACE).is_none() {
        return Err(Status::not_found("", "namespaces", NAMESPACE));
    }
    keep_service(app).await?;
    keep_lists(app).await
}

async fn renew(app: &App, address: IpAddr) -> Result<(), Status> {
    let key = lease_key(app, address);
    let value = json!({"kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": address.to_string()},
        "subsets": [{"addresses": [{"ip": address.to_string()}]}]});
    let value = Bytes::from(value.to_string());
    let current = app.storage.get(&key).await.map_err(away)?.kv;
    let outcome = match current {
        None => app.storage.create(&key, value, Some(LEASE)).await,
        Some(kv) => app.storage.update(&key, value, kv.mod_revision, Some(LEASE)).await,
    };
    match outcome.map_err(away)? {
        Outcome::Done(_) => Ok(()),
        Outcome::Conflict(_) => Err(Status::internal("another server advertises the same address")),
    }
}

/// The servers alive, and the revision that was so at.
async fn alive(app: &App) -> Result<(Vec<IpAddr>, u64), Status> {
    let prefix = leases(app);
    let page = app.storage.list(&prefix, &prefix_end(&prefix), 0, None).await.map_err(away)?;
    let mut all: Vec<IpAddr> =
        page.kvs.iter().filter_map(|kv| kv.key.rsplit('/').next()?.parse().ok()).collect();
    all.sort();
    Ok((all, page.revision))
}

/// The first address of the service range.
pub fn service_ip(app: &App) -> Option<IpAddr> {
    first_address(app.config.service_cluster_ip_range.first()?)
}

/// The address after a network's own.
fn first_address(range: &IpNet) -> Option<IpAddr> {
    let first = match range.network() {
        IpAddr::V4(ip) => u32::from(ip).checked_add(1).map(|n| IpAddr::V4(n.into())),
        IpAddr::V6(ip) => u128::from(ip).checked_add(1).map(|n| IpAddr::V6(n.into())),
    };
    first.filter(|ip| range.contains(ip))
}

async fn keep_service(app: &Arc<App>) -> Result<(), Status> {
    if app.reader.get("services", NAMESPACE, NAME).is_some() {
        return Ok(());
    }
    let mut service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": app.config.secure_port}]}});
    if let Some(ip) = service_ip(app) {
        service["spec"]["clusterIP"] = ip.to_string().into();
        service["spec"]["clusterIPs"] = json!([ip.to_string()]);
    }
    if app.config.kubernetes_service_node_port > 0 {
        service["spec"]["type"] = "NodePort".into();
        service["spec"]["ports"][0]["nodePort"] = app.config.kubernetes_service_node_port.into();
    }
    settled(internal::create(app, "v1", "services", NAMESPACE, service).await)
}

/// Brings both lists up to date. Who is alive is asked after each list was read: a write that went by an older answer
/// than the list in place is refused by the store.
async fn keep_lists(app: &Arc<App>) -> Result<(), Status> {
    keep_object(app, "v1", "endpoints", "endpoints", "subsets", endpoints_of).await?;
    let slices = "endpointslices.discovery.k8s.io";
    keep_object(app, "discovery.k8s.io/v1", "endpointslices", slices, "endpoints", slice_of).await
}

fn endpoints_of(alive: &[IpAddr], port: i64) -> Value {
    let addresses: Vec<Value> = alive.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
    let subsets =
        json!([{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]);
    json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets})
}

fn slice_of(alive: &[IpAddr], port: i64) -> Value {
    let ready = json!({"ready": true});
    let endpoints: Vec<Value> =
        alive.iter().map(|ip| json!({"addresses": [ip.to_string()], "conditions": ready})).collect();
    let family = if alive.first().is_some_and(IpAddr::is_ipv6) { "IPv6" } else { "IPv4" };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": family, "endpoints": endpoints, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]})
}

/// Creates an object, or brings the part that matters up to date.
async fn keep_object(
    app: &Arc<App>,
    version: &str,
    plural: &str,
    group_resource: &str,
    part: &str,
    wanted: fn(&[IpAddr], i64) -> Value,
) -> Result<(), Status> {
    for _ in 0..ATTEMPTS {
        let current = internal::get(app, group_resource, NAMESPACE, NAME);
        let (alive, _) = alive(app).await?;
        if alive.is_empty() {
            return Err(Status::internal("no API server is alive in the store, not even this one"));
        }
        let wanted = wanted(&alive, i64::from(app.config.secure_port));
        let Some(current) = current else {
            match internal::create(app, version, plural, NAMESPACE, wanted).await {
                Err(status) if status.is("AlreadyExists") => {}
                other => return other.map(drop),
            }
            app.reader.caught_up().await?;
            continue;
        };
        let Some(new) = corrected(current, wanted, part) else { return Ok(()) };
        match internal::update(app, version, plural, NAMESPACE, new).await {
            Err(status) if status.is("Conflict") || status.is("NotFound") => {}
            other => return other.map(drop),
        }
        app.reader.caught_up().await?;
    }
    Err(Status::internal(format!("{plural} kept changing")))
}

/// The object with the wanted part; `None` if it has it.
fn corrected(mut current: Value, mut wanted: Value, part: &str) -> Option<Value> {
    if current[part] == wanted[part] && current["ports"] == wanted["ports"] {
        return None;
    }
    current[part] = wanted[part].take();
    if !wanted["ports"].is_null() {
        current["ports"] = wanted["ports"].take();
    }
    Some(current)
}

/// Another server may have been quicker; the next round looks again.
fn settled(outcome: Result<Value, Status>) -> Result<(), Status> {
    match outcome {
        Ok(_) => Ok(()),
        Err(status) if status.is("AlreadyExists") || status.is("Conflict") => Ok(()),
        Err(status) => Err(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_has_the_first_address() {
        for (range, want) in [
            ("10.96.0.0/12", Some("10.96.0.1")),
            ("fd00:96::/112", Some("fd00:96::1")),
            ("10.0.0.1/32", None),
        ] {
            let got = first_address(&range.parse().unwrap()).map(|ip| ip.to_string());
            assert_eq!(got.as_deref(), want);
        }
    }
}
