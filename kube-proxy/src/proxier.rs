//! One family's proxy: what is known of services and slices, what the table should hold, and the step from one to the
//! other. Only services touched since the last step are rendered again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ahash::{HashMap, HashSet};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::chains::Settings;
use crate::conntrack::{self, Wanted};
use crate::kernel::Kernel;
use crate::metrics::Metrics;
use crate::model::{Element, Family, Frontend, Key, Rules, ServiceName, Set, Value};
use crate::parse::{self, Place, ServiceInfo, SliceInfo};
use crate::render::{NodeView, render};
use crate::select;
use crate::state::{Changes, State, Transaction};

/// Pseudo-service that owns the service-CIDRs' elements; no real one sorts or is named like it.
const CIDRS: &str = "/service-cidrs";

/// What the kernel does for the proxy; a seam for tests.
pub trait Table: Send {
    /// Replaces the whole table.
    fn load(&mut self, settings: &Settings, all: &Transaction) -> std::io::Result<()>;
    /// Applies a change.
    fn apply(&mut self, settings: &Settings, change: &Transaction) -> std::io::Result<()>;
    /// Number that the kernel knows the author of changes by.
    fn port(&self) -> std::io::Result<u32>;
    /// Whether the table is there.
    fn present(&self, settings: &Settings) -> std::io::Result<bool>;
    /// Deletes stale UDP flows.
    fn clean(&mut self, family: Family, wanted: &Wanted) -> std::io::Result<usize>;
}

impl Table for Kernel {
    fn load(&mut self, settings: &Settings, all: &Transaction) -> std::io::Result<()> {
        Kernel::load(self, settings, all)
    }

    fn apply(&mut self, settings: &Settings, change: &Transaction) -> std::io::Result<()> {
        Kernel::apply(self, settings, change)
    }

    fn port(&self) -> std::io::Result<u32> {
        Kernel::port(self)
    }

    fn present(&self, settings: &Settings) -> std::io::Result<bool> {
        Kernel::present(self, settings)
    }

    fn clean(&mut self, family: Family, wanted: &Wanted) -> std::io::Result<usize> {
        conntrack::clean(self, family, wanted)
    }
}

#[derive(Default)]
struct Entry {
    service: Option<ServiceInfo>,
    slices: Vec<(Arc<str>, SliceInfo)>,
}

impl Entry {
    fn slices(&self) -> impl Iterator<Item = &SliceInfo> + Clone {
        self.slices.iter().map(|s| &s.1)
    }

    fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }
}

/// Health check node ports: port to service and ready endpoints here.
pub type HealthPorts = HashMap<u16, (ServiceName, usize)>;

/// The proxy of one family.
pub struct Proxier {
    settings: Settings,
    place: Place,
    table: Box<dyn Table>,
    metrics: Metrics,
    entries: HashMap<ServiceName, Entry>,
    slice_owner: HashMap<Arc<str>, ServiceName>,
    dirty: HashSet<ServiceName>,
    triggers: Vec<f64>,
    state: State,
    loaded: bool,
    no_local: (i64, i64),
    health: HealthPorts,
    started: f64,
}

impl Proxier {
    /// A proxy that knows nothing yet.
    pub fn new(settings: Settings, place: Place, table: Box<dyn Table>, metrics: Metrics) -> Self {
        Self {
            settings,
            place,
            table,
            metrics,
            entries: HashMap::default(),
            slice_owner: HashMap::default(),
            dirty: HashSet::default(),
            triggers: Vec::new(),
            state: State::new(),
            loaded: false,
            no_local: (0, 0),
            health: HealthPorts::default(),
            started: crate::metrics::now(),
        }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        self.settings.family
    }

    /// Whether a step is due.
    pub fn pending(&self) -> bool {
        !self.loaded || !self.dirty.is_empty()
    }

    /// Whether the next step replaces the whole table.
    pub fn full(&self) -> bool {
        !self.loaded
    }

    /// Somebody else changed the table: the next step makes it anew.
    pub fn distrust(&mut self) {
        self.loaded = false;
    }

    /// Makes the table anew in the next step if it is gone. True when it is.
    pub fn verify(&mut self) -> bool {
        let gone = self.loaded && matches!(self.table.present(&self.settings), Ok(false));
        self.loaded &= !gone;
        gone
    }

    /// Number that the kernel knows our changes by.
    pub fn port(&self) -> Option<u32> {
        self.table.port().ok()
    }

    /// Health check node ports as they stand.
    pub fn health_ports(&self) -> &HealthPorts {
        &self.health
    }

    /// The node's addresses or networks changed: the fixed chains are made anew.
    pub fn set_settings(&mut self, settings: Settings) {
        if self.settings != settings {
            self.settings = settings;
            self.loaded = false;
            self.dirty.extend(self.entries.keys().cloned());
        }
    }

    /// Place of the node; slices given from now on are judged by it.
    pub fn set_place(&mut self, place: Place) {
        self.place = place;
    }

    /// A service was added, changed, or (`None`) deleted.
    pub fn service(&mut self, name: &ServiceName, service: Option<&Service>) {
        let info = service.and_then(|s| parse::service(s, self.settings.family));
        let known = self.entries.get(name).and_then(|e| e.service.as_ref());
        if known == info.as_ref() {
            return;
        }
        self.entries.entry(name.clone()).or_default().service = info;
        self.touch(name, false);
    }

    /// A slice was added or changed.
    pub fn slice(&mut self, key: &Arc<str>, slice: &EndpointSlice) {
        let owner = parse::slice_service(slice);
        let info = parse::slice(slice, self.settings.family, &self.place);
        let (Some(owner), Some(info)) = (owner, info) else { return self.slice_gone(key) };
        if self.slice_owner.get(key).is_some_and(|o| *o != owner) {
            self.slice_gone(key);
        }
        let entry = self.entries.entry(owner.clone()).or_default();
        match entry.slices.iter_mut().find(|s| s.0 == *key) {
            Some(known) if known.1 == info => return,
            Some(known) => known.1 = info,
            None => entry.slices.push((key.clone(), info)),
        }
        entry.slices.sort_by(|a, b| a.0.cmp(&b.0));
        self.slice_owner.insert(key.clone(), owner.clone());
        self.triggers.extend(parse::trigger_time(slice).filter(|t| *t > self.started));
        self.touch(&owner, true);
    }

    /// A slice was deleted.
    pub fn slice_gone(&mut self, key: &str) {
        let Some(owner) = self.slice_owner.remove(key) else { return };
        if let Some(entry) = self.entries.get_mut(&owner) {
            entry.slices.retain(|s| &*s.0 != key);
        }
        self.touch(&owner, true);
    }

    /// Names of services known now.
    pub fn service_names(&self) -> Vec<ServiceName> {
        self.entries.iter().filter(|e| e.1.service.is_some()).map(|e| e.0.clone()).collect()
    }

    /// Keys of slices known now.
    pub fn slice_keys(&self) -> Vec<Arc<str>> {
        self.slice_owner.keys().cloned().collect()
    }

    fn touch(&mut self, name: &ServiceName, endpoints: bool) {
        self.dirty.insert(name.clone());
        self.metrics.changed(self.settings.family.label(), endpoints);
    }

    /// The cluster's service networks. Addresses in them without a service are dropped.
    pub fn service_networks(&mut self, nets: &[ipnet::IpNet]) {
        let own = nets.iter().filter(|n| Family::of(n.addr()) == self.settings.family).copied().collect();
        let element =
            |n: ipnet::IpNet| Element::plain(Set::ServiceCidrs, Key::Span(n.network(), n.broadcast()));
        let elements = ipnet::IpNet::aggregate(&own).into_iter().map(element).collect();
        let rules = Rules { elements, ..Rules::default() };
        let name: ServiceName = CIDRS.into();
        if self.state.rules(&name).cloned().unwrap_or_default() != rules {
            self.state.replace(&name, rules, &mut Changes::default());
            self.loaded = false;
        }
    }

    /// Brings the table up to date. After an error the next call loads everything.
    pub fn sync(&mut self) -> std::io::Result<()> {
        if !self.pending() {
            return Ok(());
        }
        let begin = Instant::now();
        let full = !self.loaded;
        let mut wanted = Wanted::default();
        let changes = if full { Changes::ignored() } else { Changes::default() };
        let change = self.render_dirty(changes, &mut wanted);
        let done = match full {
            true => self.table.load(&self.settings, &self.state.full()),
            false => self.table.apply(&self.settings, &change),
        };
        self.loaded = done.is_ok();
        if let Err(error) = done {
            self.metrics.failed(self.settings.family.label());
            return Err(error);
        }
        self.report(begin, full);
        self.clean(&wanted);
        Ok(())
    }

    fn render_dirty(&mut self, mut changes: Changes, wanted: &mut Wanted) -> Transaction {
        let node = NodeView { ips: self.settings.node_ips.clone() };
        for name in std::mem::take(&mut self.dirty) {
            let entry = self.entries.get(&name);
            let none = Rules::default();
            let old = self.state.rules(&name).unwrap_or(&none);
            let new = match entry.and_then(|e| Some((e, e.service.as_ref()?))) {
                Some((e, svc)) => render(&name, svc, e.slices(), &node, old),
                None => Rules::default(),
            };
            let (before, after) = (locally_missing(old), locally_missing(&new));
            self.no_local.0 += after.0 - before.0;
            self.no_local.1 += after.1 - before.1;
            if !new.udp.is_empty() && new.pools != old.pools {
                conntrack::want(wanted, &new);
            }
            self.state.replace(&name, new, &mut changes);
            self.note_health(&name);
            if self.entries.get(&name).is_some_and(Entry::is_empty) {
                self.entries.remove(&name);
            }
        }
        changes.finish()
    }

    fn note_health(&mut self, name: &ServiceName) {
        self.health.retain(|_, (owner, _)| owner != name);
        let Some(entry) = self.entries.get(name) else { return };
        if let Some(svc) = entry.service.as_ref().filter(|s| s.health_port != 0) {
            let ready = select::local_ready(svc, entry.slices());
            self.health.insert(svc.health_port, (name.clone(), ready));
        }
    }

    fn report(&mut self, begin: Instant, full: bool) {
        let family = self.settings.family.label();
        self.metrics.synced(family, begin.elapsed().as_secs_f64(), full);
        self.metrics.no_local(family, self.no_local.0, self.no_local.1);
        for began in self.triggers.drain(..) {
            self.metrics.programmed(family, began);
        }
        if full {
            let (services, took) = (self.state.len(), begin.elapsed());
            tracing::info!(family, services, ?took, "loaded all rules");
        }
    }

    /// A failure here costs some flows their freshness, not the table.
    fn clean(&mut self, wanted: &Wanted) {
        if wanted.is_empty() {
            return;
        }
        let begin = Instant::now();
        let family = self.settings.family;
        match self.table.clean(family, wanted) {
            Ok(n) => self.metrics.cleaned(family.label(), begin.elapsed().as_secs_f64(), n),
            Err(error) => tracing::warn!(%error, "cannot clean up stale UDP flows"),
        }
    }

    /// Where packets to a frontend go now, for tests and questions.
    pub fn target(&self, name: &str, front: Frontend) -> Vec<IpAddr> {
        let Some(rules) = self.state.rules(name) else { return Vec::new() };
        let key = Key::Front(front);
        let found = rules.elements.iter().find(|e| e.set == Set::Services && e.key == key);
        match found.map(|e| e.value) {
            Some(Value::Target(t)) => {
                rules.pool(t.pool).into_iter().flat_map(|p| &p.slots).map(|b| b.addr).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Services of policy Local with nothing here: internal and external ones.
fn locally_missing(rules: &Rules) -> (i64, i64) {
    let cluster_ip = |ip| rules.elements.iter().any(|e| e.set == Set::ClusterIps && e.key == Key::Addr(ip));
    let dropped = rules.elements.iter().filter(|e| e.set == Set::Drop);
    dropped.fold((0, 0), |(internal, external), e| match e.key {
        Key::Front(f) if cluster_ip(f.addr) => (1, external),
        _ => (internal, 1),
    })
}
