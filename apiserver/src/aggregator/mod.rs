//! API aggregation: group versions that other servers serve, behind this one.
//!
//! [`spec`] reads an APIService; the table here follows the stored ones. [`place`] finds where its service is (pure),
//! [`proxy`] hands requests on; [`health`] judges whether it is available (pure), [`discovery`] and [`openapi`] ask what it
//! serves, [`keeper`] keeps all that up to date; [`local`] registers what this server serves itself.

pub mod discovery;
pub mod health;
pub mod keeper;
pub mod local;
pub mod metrics;
pub mod openapi;
pub mod place;
pub mod proxy;
pub mod spec;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::cache::Change;
use crate::config::Config;
use crate::proxy::transport::{Identity, Roots, Way};
use crate::reader::Reader;
use discovery::Known;
use openapi::Documents;
use spec::Spec;

/// The resource that says who serves what.
pub const RESOURCE: &str = "apiservices.apiregistration.k8s.io";
const GROUP_VERSION: &str = "apiregistration.k8s.io/v1";

/// A group version that another server serves.
pub struct Remote {
    /// What the APIService says.
    pub spec: Spec,
    available: AtomicBool,
    known: Known,
    documents: Documents,
    way: OnceLock<Result<Way, String>>,
    wake: Notify,
}

impl Remote {
    fn new(spec: Spec) -> Self {
        Self {
            spec,
            available: AtomicBool::new(false),
            known: Known::default(),
            documents: Documents::default(),
            way: OnceLock::new(),
            wake: Notify::new(),
        }
    }

    /// Whether its status says that it is available.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }
}

/// The group versions that other servers serve, and how to reach them.
pub struct Aggregator {
    table: ArcSwap<Vec<Arc<Remote>>>,
    identity: Option<Arc<Identity>>,
    unverified: Way,
    routing: bool,
    reject_redirects: bool,
    reader: Reader,
    changed: watch::Sender<u64>,
    losses: metrics::Losses,
}

/// Never the same twice in a process, so that what is kept by it is never another server's.
fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Aggregator {
    /// An empty table that follows the stored APIServices.
    pub fn new(config: &Config, reader: &Reader) -> Result<Arc<Self>> {
        let identity = match (&config.proxy_client_cert_file, &config.proxy_client_key_file) {
            (Some(cert), Some(key)) => Some(Arc::new(Identity::new(cert, key)?)),
            _ => None,
        };
        let made = Arc::new(Self {
            table: ArcSwap::default(),
            unverified: Way::new(Roots::Any, identity.clone(), None)?,
            identity,
            routing: config.enable_aggregator_routing,
            reject_redirects: config.aggregator_reject_forwarding_redirect,
            reader: reader.clone(),
            changed: watch::Sender::new(next_generation()),
            losses: metrics::Losses::default(),
        });
        made.follow(reader);
        Ok(made)
    }

    fn follow(self: &Arc<Self>, reader: &Reader) {
        let table = self.clone();
        reader.observe(RESOURCE, move |change| table.take(change));
        for resource in ["services", "endpointslices.discovery.k8s.io"] {
            let table = self.clone();
            let slices = resource != "services";
            reader.observe(resource, move |change| table.wake_for(change, slices));
        }
    }

    /// All of them, in the order of their names.
    pub fn all(&self) -> Arc<Vec<Arc<Remote>>> {
        self.table.load_full()
    }

    /// Who serves this group version, when it is not this server.
    pub fn remote(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let table = self.table.load();
        table.iter().find(|r| r.spec.group == group && r.spec.version == version).cloned()
    }

    /// Another number whenever what other servers serve may have changed; 0 while they serve nothing.
    pub fn fingerprint(&self) -> u64 {
        if self.table.load().is_empty() { 0 } else { *self.changed.borrow() }
    }

    /// A receiver that wakes when anything here changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn touch(&self) {
        self.changed.send_replace(next_generation());
    }

    /// Takes a change of an APIService. Its connections stay as long as it leads to the same place.
    fn take(&self, change: &Change) {
        let Some(entry) = change.new.as_ref().or(change.old.as_ref()) else { return };
        let stored = change.new.as_ref().map(|entry| entry.parse());
        let mut all = self.table.load().as_ref().clone();
        let at = all.binary_search_by(|r| r.spec.name.as_str().cmp(entry.name()));
        let spec = stored.as_ref().and_then(Spec::of_remote);
        let known = at.ok().and_then(|at| all.get(at).cloned());
        match (spec, at) {
            (Some(spec), Ok(at)) if known.as_ref().is_none_or(|r| r.spec != spec) => {
                all[at] = Arc::new(Remote::new(spec));
            }
            (Some(_), Ok(_)) | (None, Err(_)) => {}
            (Some(spec), Err(at)) => all.insert(at, Arc::new(Remote::new(spec))),
            (None, Ok(at)) => drop(all.remove(at)),
        }
        let now = all.iter().find(|r| r.spec.name == entry.name());
        if let (Some(remote), Some(stored)) = (now, &stored) {
            remote.available.store(health::says_available(stored), Ordering::Relaxed);
        }
        self.table.store(Arc::new(all));
        self.touch();
    }

    /// A service that an APIService leads to has changed, or where it is served.
    fn wake_for(&self, change: &Change, slices: bool) {
        let table = self.table.load();
        if table.is_empty() {
            return;
        }
        let Some(entry) = change.new.as_ref().or(change.old.as_ref()) else { return };
        let name = match slices {
            true => entry.label(place::SERVICE_NAME).unwrap_or_default(),
            false => entry.name(),
        };
        for remote in table.iter() {
            if remote.spec.service == name && remote.spec.namespace == entry.namespace() {
                remote.wake.notify_one();
            }
        }
    }

    /// The way to a remote server, made at first use.
    fn way<'a>(&self, remote: &'a Remote) -> Result<&'a Way, String> {
        let made = remote.way.get_or_init(|| self.new_way(&remote.spec).map_err(|e| format!("{e:#}")));
        made.as_ref().map_err(Clone::clone)
    }

    fn new_way(&self, spec: &Spec) -> Result<Way> {
        let name = ServerName::try_from(spec.server_name())?;
        let identity = self.identity.clone();
        if spec.insecure {
            return Way::new(Roots::Any, identity, Some(name));
        }
        match spec.ca.as_deref() {
            Some(pem) => Way::new(Roots::Pem(pem), identity, Some(name)),
            None => Way::new(Roots::Pem(&system_roots()), identity, Some(name)),
        }
    }

    /// `host:port` where a remote server is reached now; the error says why nowhere.
    fn authority(&self, spec: &Spec) -> Result<String, String> {
        let service = self.reader.get("services", &spec.namespace, &spec.service);
        let service = service.ok_or_else(|| format!("service {:?} not found", spec.service))?.parse();
        if !self.routing {
            return place::of_service(&service, spec.port);
        }
        place::of_endpoint(&service, &self.slices(spec), spec.port, rand::random())
    }

    fn slices(&self, spec: &Spec) -> Vec<Value> {
        let all = self.reader.list("endpointslices.discovery.k8s.io", &spec.namespace);
        let ours =
            |e: &&Arc<crate::cache::Entry>| e.label(place::SERVICE_NAME) == Some(spec.service.as_str());
        all.iter().filter(ours).map(|e| e.parse()).collect()
    }
}

/// The CAs the machine trusts, for servers whose APIService names none.
fn system_roots() -> Vec<u8> {
    const PLACES: [&str; 3] =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    PLACES.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default()
}
