//! How many volumes and claims there are, bound and not.

use std::sync::Arc;

use control::{Cache, Event};
use daemon::metrics::Metrics;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::kit::counts::{Labels, named};
use crate::kit::meta::namespace;
use crate::kit::storage::{claim_class, volume_class};

/// Classes given to claims that were made before there was a default.
pub struct Retroactive {
    done: Counter,
    failed: Counter,
}

impl Retroactive {
    /// Adds them to a registry.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            done: metrics.register(
                "retroactive_storageclass",
                "Total number of retroactive StorageClass assignments to persistent volume claim",
                Counter::default(),
            ),
            failed: metrics.register(
                "retroactive_storageclass_errors",
                "Total number of failed retroactive StorageClass assignments to persistent volume claim",
                Counter::default(),
            ),
        }
    }

    /// One was tried.
    pub fn note(&self, done: bool) {
        if done { &self.done } else { &self.failed }.inc();
    }
}

/// Objects by labels; labels nothing has are not shown.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<()>>, Family<Labels, Gauge>);

impl Tally {
    fn register(metrics: &Metrics, name: &str, help: &str) -> Self {
        let tally = Self::default();
        Self(tally.0, metrics.register(&format!("pv_collector_{name}"), help, tally.1))
    }

    /// An object left one place for another.
    fn moved(&self, from: Option<Labels>, to: Option<Labels>) {
        if from == to {
            return;
        }
        let _one_at_a_time = self.0.lock();
        if let Some(from) = from
            && self.1.get_or_create(&from).dec() <= 1
        {
            self.1.remove(&from);
        }
        if let Some(to) = to {
            self.1.get_or_create(&to).inc();
        }
    }
}

/// Counts from now on.
pub fn start(metrics: &Metrics, volumes: &Cache<PersistentVolume>, claims: &Cache<PersistentVolumeClaim>) {
    let tally = |name: &str, help: &str| Tally::register(metrics, name, help);
    let total = tally("total_pv_count", "Gauge measuring total number of persistent volumes");
    let bound = tally("bound_pv_count", "Gauge measuring number of persistent volume currently bound");
    let unbound = tally("unbound_pv_count", "Gauge measuring number of persistent volume currently unbound");
    volumes.handle(move |event: &Event<PersistentVolume>| {
        let (old, new) = (event.old.as_deref(), event.new.as_deref());
        total.moved(old.map(kind), new.map(kind));
        for (tally, wanted) in [(&bound, true), (&unbound, false)] {
            let of = |v: &PersistentVolume| volume(v).filter(|_| is_bound(v) == wanted);
            tally.moved(old.and_then(of), new.and_then(of));
        }
    });
    let bound = tally("bound_pvc_count", "Gauge measuring number of persistent volume claim currently bound");
    let unbound =
        tally("unbound_pvc_count", "Gauge measuring number of persistent volume claim currently unbound");
    claims.handle(move |event: &Event<PersistentVolumeClaim>| {
        let (old, new) = (event.old.as_deref(), event.new.as_deref());
        for (tally, wanted) in [(&bound, true), (&unbound, false)] {
            let of = |c: &PersistentVolumeClaim| Some(claim(c)).filter(|_| is_claim_bound(c) == wanted);
            tally.moved(old.and_then(of), new.and_then(of));
        }
    });
}

fn is_bound(volume: &PersistentVolume) -> bool {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
}

fn is_claim_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
}

fn volume(volume: &PersistentVolume) -> Option<Labels> {
    Some(named([("storage_class", volume_class(volume))]))
}

fn claim(claim: &PersistentVolumeClaim) -> Labels {
    let attributes = claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref());
    named([
        ("namespace", namespace(&claim.metadata)),
        ("storage_class", claim_class(claim).unwrap_or_default()),
        ("volume_attributes_class", attributes.unwrap_or_default()),
    ])
}

/// Plugin and mode.
fn kind(volume: &PersistentVolume) -> Labels {
    let spec = volume.spec.as_ref();
    let plugin = spec.map_or("N/A", |s| match () {
        () if s.csi.is_some() => "kubernetes.io/csi",
        () if s.host_path.is_some() => "kubernetes.io/host-path",
        () if s.local.is_some() => "kubernetes.io/local-volume",
        () if s.nfs.is_some() => "kubernetes.io/nfs",
        () if s.iscsi.is_some() => "kubernetes.io/iscsi",
        () if s.fc.is_some() => "kubernetes.io/fc",
        () => "N/A",
    });
    let mode = spec.and_then(|s| s.volume_mode.as_deref()).unwrap_or("Filesystem");
    named([("plugin_name", plugin), ("volume_mode", mode)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_where_they_are() {
        let metrics = Metrics::new();
        let tally = Tally::register(&metrics, "bound_pv_count", "help");
        let of = |class: &str| {
            volume(&serde_yaml::from_str(&format!("{{spec: {{storageClassName: {class}}}}}")).unwrap())
        };
        tally.moved(None, of("a"));
        tally.moved(None, of("a"));
        tally.moved(of("a"), of("b"));
        let text = metrics.encode();
        assert!(text.contains("pv_collector_bound_pv_count{storage_class=\"a\"} 1"), "{text}");
        assert!(text.contains("pv_collector_bound_pv_count{storage_class=\"b\"} 1"), "{text}");
        tally.moved(of("a"), None);
        assert!(!metrics.encode().contains("storage_class=\"a\""));
    }

    #[test]
    fn volumes_by_plugin_and_mode() {
        let of = |spec: &str| kind(&serde_yaml::from_str(&format!("{{spec: {{{spec}}}}}")).unwrap());
        assert_eq!(
            of("local: {path: /d}, volumeMode: Block"),
            named([("plugin_name", "kubernetes.io/local-volume"), ("volume_mode", "Block")])
        );
        assert_eq!(of(""), named([("plugin_name", "N/A"), ("volume_mode", "Filesystem")]));
    }
}
