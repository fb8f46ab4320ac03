//! Counters of the kubelet, by upstream's names.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// The kubelet's own metrics; `server` puts them on /metrics.
#[derive(Clone, Default)]
pub struct Metrics {
    /// kubelet_started_pods_total
    pub started_pods: Counter,
    /// kubelet_started_pods_errors_total
    pub started_pods_errors: Counter,
    /// kubelet_started_containers_total
    pub started_containers: Counter,
    /// kubelet_started_containers_errors_total
    pub started_containers_errors: Counter,
    /// kubelet_restarted_pods_total
    pub restarted_pods: Counter,
    /// kubelet_evictions
    pub evictions: Counter,
    /// kubelet_admission_rejections_total
    pub admission_rejections: Counter,
    /// kubelet_image_garbage_collected_total
    pub images_collected: Counter,
    /// status patches sent
    pub status_patches: Counter,
    /// kubelet_running_pods
    pub running_pods: Gauge,
    /// kubelet_running_containers
    pub running_containers: Gauge,
    /// kubelet_desired_pods
    pub desired_pods: Gauge,
    /// kubelet_mirror_pods
    pub mirror_pods: Gauge,
}

impl Metrics {
    /// (name without prefix and _total, help, counter)
    pub fn counters(&self) -> Vec<(&'static str, &'static str, Counter)> {
        vec![
            ("kubelet_started_pods", "Pods started", self.started_pods.clone()),
            (
                "kubelet_started_pods_errors",
                "Sandboxes that could not be made",
                self.started_pods_errors.clone(),
            ),
            ("kubelet_started_containers", "Containers started", self.started_containers.clone()),
            (
                "kubelet_started_containers_errors",
                "Failed container starts",
                self.started_containers_errors.clone(),
            ),
            ("kubelet_restarted_pods", "Static pods restarted", self.restarted_pods.clone()),
            ("kubelet_evictions", "Pods evicted", self.evictions.clone()),
            ("kubelet_admission_rejections", "Pods not admitted", self.admission_rejections.clone()),
            ("kubelet_image_garbage_collected", "Images removed", self.images_collected.clone()),
        ]
    }

    /// (name, help, gauge)
    pub fn gauges(&self) -> Vec<(&'static str, &'static str, Gauge)> {
        vec![
            ("kubelet_running_pods", "Pods with a running sandbox", self.running_pods.clone()),
            ("kubelet_running_containers", "Running containers", self.running_containers.clone()),
            ("kubelet_desired_pods", "Pods that shall run", self.desired_pods.clone()),
            ("kubelet_mirror_pods", "Mirror pods", self.mirror_pods.clone()),
        ]
    }
}
