//! The provider `coxswain`, for labs and bare metal: addresses for Services from pools, and what a file says of nodes.
//!
//! Each address in use is a Lease in the namespace `coxswain-load-balancer`, named after the address. Making it is what
//! gives the address to a Service: that can happen once, whoever tries. The nodes' network agents watch these Leases; one
//! of them holds each, and answers for the address on the link.

mod claims;
pub mod config;
mod nodes;
pub mod pool;

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Node, Service};

use super::{Fault, Instances, LoadBalancers, Provider, Waker};
use crate::Context;
use crate::rooms::service::plan;
use claims::Claims;
use config::Settings;
use pool::{Family, Party, Request};

/// The provider's name.
pub const NAME: &str = "coxswain";
/// The loadBalancerClass that is looked after.
pub const CLASS: &str = "coxswain.io/l2";
/// Addresses a Service wishes for, comma separated; spec.loadBalancerIP says the same for one.
const WISH: &str = "coxswain.io/load-balancer-ips";
/// The pool its addresses are to come from.
const POOL: &str = "coxswain.io/address-pool";
/// Services with the same value may share an address, if their ports differ.
const SHARING: &str = "coxswain.io/allow-shared-ip";

/// The provider.
pub struct Coxswain {
    settings: Settings,
    claims: OnceLock<Claims>,
}

impl Coxswain {
    /// By its configuration file; without one it has no pools.
    ///
    /// # Errors
    /// When the file can't be read or is wrong, by path.
    pub fn open(config: Option<&Path>) -> Result<Self> {
        let settings = match config {
            None => Settings::default(),
            Some(path) => {
                let what = || format!("--cloud-config {}", path.display());
                let text = std::fs::read_to_string(path).with_context(what)?;
                Settings::read(&text).with_context(what)?
            }
        };
        Ok(Self { settings, claims: OnceLock::new() })
    }

    fn claims(&self) -> Result<&Claims, Fault> {
        self.claims.get().ok_or_else(|| Fault::Other(anyhow!("the provider has not started yet")))
    }
}

impl Provider for Coxswain {
    fn name(&self) -> &'static str {
        NAME
    }

    fn instances(&self) -> Option<&dyn Instances> {
        Some(&self.settings)
    }

    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        Some(self)
    }

    fn start(&self, context: &Context) {
        let claims = self.claims.get_or_init(|| Claims::start(context));
        claims.tidy(context);
    }
}

#[async_trait]
impl LoadBalancers for Coxswain {
    fn class(&self) -> Option<&str> {
        Some(CLASS)
    }

    async fn get(&self, _cluster: &str, service: &Service) -> Result<Option<LoadBalancerStatus>, Fault> {
        let addresses = self.claims()?.of(service.metadata.uid.as_deref().unwrap_or_default());
        Ok((!addresses.is_empty()).then(|| status(&addresses)))
    }

    async fn ensure(
        &self,
        _cluster: &str,
        service: &Service,
        _nodes: &[Arc<Node>],
    ) -> Result<LoadBalancerStatus, Fault> {
        let request = request(service, self.settings.class_only)?;
        Ok(status(&self.claims()?.ensure(&self.settings.pools, &request).await?))
    }

    /// The agents know the nodes themselves.
    async fn update(&self, _cluster: &str, _service: &Service, _nodes: &[Arc<Node>]) -> Result<(), Fault> {
        Ok(())
    }

    async fn delete(&self, _cluster: &str, service: &Service) -> Result<(), Fault> {
        let uid = service.metadata.uid.as_deref().unwrap_or_default();
        self.claims()?.release_all(uid).await.map_err(Fault::Other)
    }

    fn wake(&self, waker: Waker) {
        if let Ok(claims) = self.claims() {
            claims.wake(waker);
        }
    }
}

fn status(addresses: &[IpAddr]) -> LoadBalancerStatus {
    let one = |ip: &IpAddr| LoadBalancerIngress {
        ip: Some(ip.to_string()),
        ip_mode: Some("VIP".into()),
        ..LoadBalancerIngress::default()
    };
    let all: Vec<LoadBalancerIngress> = addresses.iter().map(one).collect();
    LoadBalancerStatus { ingress: Some(all).filter(|a| !a.is_empty()) }
}

/// What a Service asks for.
///
/// # Errors
/// Wishes that are no addresses; a Service without a class, where only those with one are served.
fn request(service: &Service, class_only: bool) -> Result<Request, Fault> {
    let spec = service.spec.clone().unwrap_or_default();
    if class_only && spec.load_balancer_class.is_none() {
        return Err(Fault::Elsewhere);
    }
    let note = |key: &str| service.metadata.annotations.as_ref()?.get(key).map(|v| v.trim().to_string());
    let given = note(WISH).map(|v| (format!("annotation {WISH}"), v));
    let field = spec.load_balancer_ip.clone().map(|v| ("spec.loadBalancerIP".to_string(), v));
    let mut wish = Vec::new();
    if let Some((place, text)) = given.or(field).filter(|(_, text)| !text.is_empty()) {
        for word in text.split(',').map(str::trim) {
            wish.push(word.parse().map_err(|_| anyhow!("{place}: {word:?} is no IP address"))?);
        }
    }
    let families: Vec<Family> = spec.ip_families.iter().flatten().filter_map(|f| Family::of(f)).collect();
    let ports = spec.ports.iter().flatten();
    let ports = ports.map(|p| format!("{}/{}", p.protocol.as_deref().unwrap_or("TCP"), p.port)).collect();
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let previous = plan::status(service).ingress.unwrap_or_default();
    Ok(Request {
        party: Party {
            namespace: text(&service.metadata.namespace),
            name: text(&service.metadata.name),
            uid: text(&service.metadata.uid),
            local: plan::local(service),
            sharing: note(SHARING).filter(|k| !k.is_empty()),
            ports,
        },
        families: if families.is_empty() { vec![Family::V4] } else { families },
        all_families: spec.ip_family_policy.as_deref() != Some("PreferDualStack"),
        wish,
        pool: note(POOL).filter(|p| !p.is_empty()),
        previous: previous.iter().filter_map(|i| i.ip.as_deref()?.parse().ok()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_service_asks_for() {
        let service = |annotations, spec| -> Service {
            let meta = json!({"name": "s", "namespace": "n", "uid": "u", "annotations": annotations});
            serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
        };
        let asked = request(
            &service(
                json!({WISH: "10.0.0.1, fd00::1", POOL: "p", SHARING: "k"}),
                json!({"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}], "ipFamilies": ["IPv6", "IPv4"],
                    "loadBalancerIP": "9.9.9.9", "externalTrafficPolicy": "Local", "ipFamilyPolicy": "PreferDualStack"}),
            ),
            false,
        )
        .unwrap();
        assert_eq!(asked.wish, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        assert_eq!(asked.party.ports, ["TCP/80", "UDP/53"]);
        assert_eq!((asked.families, asked.all_families), (vec![Family::V6, Family::V4], false));
        assert!(asked.party.local && asked.pool.as_deref() == Some("p"));
        let bad = request(&service(json!({}), json!({"loadBalancerIP": "x"})), false).unwrap_err();
        assert_eq!(bad.to_string(), "spec.loadBalancerIP: \"x\" is no IP address");
        let plain = service(json!({}), json!({"ports": []}));
        assert!(matches!(request(&plain, true), Err(Fault::Elsewhere)));
    }
}
