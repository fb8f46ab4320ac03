//! Cluster addresses, each held by the object of its name.

use super::range::{Span, family, order};
use crate::app::App;
use crate::internal;
use async_trait::async_trait;
use ipnet::IpNet;
use machinery::status::Status;
use rand::Rng;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// Resource of the objects that hold addresses.
pub const RESOURCE: &str = "ipaddresses.networking.k8s.io";
/// Who made them, as their label says.
pub const MANAGED_BY: &str = "ipallocator.k8s.io";

/// The service an address is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Where it is written down who holds which address. Claiming is atomic among everybody who uses the same book.
#[async_trait]
pub trait Book: Send + Sync {
    /// Whether the address looks taken. May be out of date; only spares attempts.
    fn looks_taken(&self, ip: &IpAddr) -> bool;

    /// Takes an address; false when somebody has it.
    async fn claim(&self, ip: &IpAddr, owner: &Owner) -> Result<bool, Status>;

    /// Gives an address back.
    async fn release(&self, ip: &IpAddr);
}

/// The book that is the cluster's own: `IPAddress` objects.
pub struct Objects(pub Arc<App>);

#[async_trait]
impl Book for Objects {
    fn looks_taken(&self, ip: &IpAddr) -> bool {
        self.0.reader.get(RESOURCE, "", &ip.to_string()).is_some()
    }

    async fn claim(&self, ip: &IpAddr, owner: &Owner) -> Result<bool, Status> {
        match internal::create(&self.0, "networking.k8s.io/v1", "ipaddresses", "", object(ip, owner)).await {
            Ok(_) => Ok(true),
            Err(status) if status.reason == "AlreadyExists" => Ok(false),
            Err(status) => Err(status),
        }
    }

    async fn release(&self, ip: &IpAddr) {
        let done =
            internal::delete(&self.0, "networking.k8s.io/v1", "ipaddresses", "", &ip.to_string()).await;
        if let Err(status) = done.or_else(|s| if s.reason == "NotFound" { Ok(()) } else { Err(s) }) {
            // The repair pass finds it.
            tracing::warn!(%ip, error = %status.message, "could not release a service address");
        }
    }
}

fn object(ip: &IpAddr, owner: &Owner) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(),
            "labels": {"ipaddress.kubernetes.io/ip-family": family(ip), "ipaddress.kubernetes.io/managed-by": MANAGED_BY},
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": owner.namespace, "name": owner.name}},
    })
}

/// The ranges in use: those of the flags, and those of ready `ServiceCIDR` objects.
pub fn ranges(app: &App) -> Vec<IpNet> {
    let mut all = app.config.service_cluster_ip_range.clone();
    for entry in app.reader.list("servicecidrs.networking.k8s.io", "") {
        let object = entry.parse();
        if machinery::meta::deletion_timestamp(&object).is_some() {
            continue;
        }
        let cidrs = crate::registry::val::list_at(&object, &["spec", "cidrs"]).iter();
        for range in cidrs.filter_map(|c| c.as_str()?.parse::<IpNet>().ok()) {
            if !all.contains(&range) {
                all.push(range);
            }
        }
    }
    all
}

/// Why an address could not be had; the texts are what clients see.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Somebody has it.
    #[error("provided IP is already allocated")]
    Taken,
    /// It lies in no range.
    #[error("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {ranges}")]
    OutOfRange {
        /// The address.
        ip: IpAddr,
        /// The ranges there are.
        ranges: String,
    },
    /// All are taken.
    #[error("range is full")]
    Full,
    /// The store did not do it.
    #[error("{0}")]
    Store(String),
}

/// Takes a certain address. With `dry` it only looks.
pub async fn reserve(
    book: &dyn Book,
    ranges: &[IpNet],
    ip: IpAddr,
    owner: &Owner,
    dry: bool,
) -> Result<(), Refused> {
    if !ranges.iter().any(|r| Span::of(r).contains(&ip)) {
        let same_family: Vec<String> =
            ranges.iter().filter(|r| family(&r.addr()) == family(&ip)).map(IpNet::to_string).collect();
        return Err(Refused::OutOfRange { ip, ranges: same_family.join(",") });
    }
    if dry {
        return if book.looks_taken(&ip) { Err(Refused::Taken) } else { Ok(()) };
    }
    match book.claim(&ip, owner).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refused::Taken),
        Err(status) => Err(Refused::Store(status.message)),
    }
}

/// Takes some free address of a family. With `dry` it only finds one.
pub async fn allocate(
    book: &dyn Book,
    ranges: &[IpNet],
    wanted: &str,
    owner: &Owner,
    dry: bool,
) -> Result<IpAddr, Refused> {
    for range in ranges.iter().filter(|r| family(&r.addr()) == wanted) {
        let span = Span::of(range);
        let random = rand::rng().random_range(0..span.size.max(1));
        for offset in order(span.size, span.static_band(), random) {
            let ip = span.address(offset);
            if book.looks_taken(&ip) {
                continue;
            }
            if dry || book.claim(&ip, owner).await.map_err(|s| Refused::Store(s.message))? {
                return Ok(ip);
            }
        }
    }
    Err(Refused::Full)
}
