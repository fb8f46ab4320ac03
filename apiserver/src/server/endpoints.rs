//! The `kubernetes` service: its object, and the endpoints that lead to the API servers alive now. Each server keeps a key
//! with a time to live under /masterleases/; whoever looks sees who is there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use machinery::status::Status;
use rand::Rng;
use serde_json::{Value, json};

use crate::app::App;
use crate::internal;
use crate::storage::{Outcome, prefix_end};

const EVERY: Duration = Duration::from_secs(10);
/// First pause after a failure; what fails the same way again is tried less often.
const RETRY: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(15);
const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";

/// Keeps service, endpoints and slice until dropped.
pub async fn run(app: Arc<App>) {
    app.reader.synced().await;
    let Some(address) = advertised(&app) else {
        tracing::warn!("no address to advertise; the endpoints of the kubernetes service are not kept");
        return std::future::pending().await;
    };
    let (mut wait, mut said) = (RETRY, String::new());
    loop {
        let why = keep(&app, address).await.err().map(|status| status.message).unwrap_or_default();
        if why.is_empty() {
            app.health.set("poststarthook/bootstrap-controller", Ok(()));
            wait = EVERY;
        } else if why == said {
            wait = (wait * 2).min(EVERY);
        } else {
            tracing::warn!(error = why, "the kubernetes service can't be kept");
            wait = RETRY;
        }
        said = why;
        let jitter = rand::rng().random_range(0.9..1.1);
        tokio::time::sleep(wait.mul_f64(jitter)).await;
    }
}

/// Takes this server out of the endpoints.
pub async fn leave(app: &Arc<App>) {
    let Some(address) = advertised(app) else { return };
    let key = lease_key(app, address);
    if let Ok(read) = app.storage.get(&key).await
        && let Some(kv) = read.kv
    {
        let _ = app.storage.delete(&key, kv.mod_revision).await;
    }
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

fn lease_key(app: &App, address: IpAddr) -> String {
    format!("{}/masterleases/{address}", app.config.etcd_prefix)
}

async fn keep(app: &Arc<App>, address: IpAddr) -> Result<(), Status> {
    renew(app, address).await?;
    let alive = alive(app).await?;
    if app.reader.get("namespaces", "", NAMESPACE).is_none() {
        return Err(Status::not_found("", "namespaces", NAMESPACE));
    }
    keep_service(app).await?;
    let port = i64::from(app.config.secure_port);
    keep_endpoints(app, &alive, port).await?;
    keep_slice(app, &alive, port).await
}

async fn renew(app: &App, address: IpAddr) -> Result<(), Status> {
    let key = lease_key(app, address);
    let value = json!({"kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": address.to_string()},
        "subsets": [{"addresses": [{"ip": address.to_string()}]}]});
    let value = Bytes::from(value.to_string());
    let failed = |e: crate::storage::Error| Status::service_unavailable(e.to_string());
    let current = app.storage.get(&key).await.map_err(failed)?.kv;
    let outcome = match current {
        None => app.storage.create(&key, value, Some(LEASE)).await,
        Some(kv) => app.storage.update(&key, value, kv.mod_revision, Some(LEASE)).await,
    };
    match outcome.map_err(failed)? {
        Outcome::Done(_) => Ok(()),
        Outcome::Conflict(_) => Err(Status::internal("another server advertises the same address")),
    }
}

async fn alive(app: &App) -> Result<Vec<IpAddr>, Status> {
    let prefix = format!("{}/masterleases/", app.config.etcd_prefix);
    let page = app.storage.list(&prefix, &prefix_end(&prefix), 0, None).await;
    let page = page.map_err(|e| Status::service_unavailable(e.to_string()))?;
    let mut all: Vec<IpAddr> =
        page.kvs.iter().filter_map(|kv| kv.key.rsplit('/').next()?.parse().ok()).collect();
    all.sort();
    Ok(all)
}

/// The first address of the service range.
pub fn service_ip(app: &App) -> Option<IpAddr> {
    app.config.service_cluster_ip_range.first()?.hosts().next()
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

async fn keep_endpoints(app: &Arc<App>, alive: &[IpAddr], port: i64) -> Result<(), Status> {
    let addresses: Vec<Value> = alive.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
    let subsets =
        json!([{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]);
    let wanted = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets});
    keep_object(app, "v1", "endpoints", "endpoints", wanted, "subsets").await
}

async fn keep_slice(app: &Arc<App>, alive: &[IpAddr], port: i64) -> Result<(), Status> {
    let ready = json!({"ready": true});
    let endpoints: Vec<Value> =
        alive.iter().map(|ip| json!({"addresses": [ip.to_string()], "conditions": ready})).collect();
    let family = if alive.first().is_some_and(IpAddr::is_ipv6) { "IPv6" } else { "IPv4" };
    let wanted = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": family, "endpoints": endpoints, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
    keep_object(
        app,
        "discovery.k8s.io/v1",
        "endpointslices",
        "endpointslices.discovery.k8s.io",
        wanted,
        "endpoints",
    )
    .await
}

/// Creates an object, or brings the part that matters up to date.
async fn keep_object(
    app: &Arc<App>,
    version: &str,
    plural: &str,
    group_resource: &str,
    wanted: Value,
    part: &str,
) -> Result<(), Status> {
    let Some(mut current) = internal::get(app, group_resource, NAMESPACE, NAME) else {
        return settled(internal::create(app, version, plural, NAMESPACE, wanted).await);
    };
    if current[part] == wanted[part] && current["ports"] == wanted["ports"] {
        return Ok(());
    }
    current[part] = wanted[part].clone();
    if !wanted["ports"].is_null() {
        current["ports"] = wanted["ports"].clone();
    }
    settled(internal::update(app, version, plural, NAMESPACE, current).await)
}

/// Another server may have been quicker; the next round looks again.
fn settled(outcome: Result<Value, Status>) -> Result<(), Status> {
    match outcome {
        Ok(_) => Ok(()),
        Err(status) if status.is("AlreadyExists") || status.is("Conflict") => Ok(()),
        Err(status) => Err(status),
    }
}
