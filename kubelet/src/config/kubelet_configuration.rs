//! KubeletConfiguration (kubelet.config.k8s.io/v1beta1): its fields and their defaults.

use super::GoDuration;
use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// authentication.x509
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct X509Authentication {
    /// bundle of the authorities whose client certificates are believed
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: String,
}

/// authentication.webhook
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebhookAuthentication {
    /// ask the API server about bearer tokens
    pub enabled: bool,
    /// how long an answer holds
    #[serde(rename = "cacheTTL")]
    pub cache_ttl: GoDuration,
}

impl Default for WebhookAuthentication {
    fn default() -> Self {
        Self { enabled: true, cache_ttl: GoDuration::secs(120) }
    }
}

/// authentication.anonymous
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AnonymousAuthentication {
    /// let requests without identity in as system:anonymous
    pub enabled: bool,
}

/// authentication
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    /// client certificates
    pub x509: X509Authentication,
    /// bearer tokens by TokenReview
    pub webhook: WebhookAuthentication,
    /// strangers
    pub anonymous: AnonymousAuthentication,
}

/// authorization.webhook
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebhookAuthorization {
    /// how long an allow holds
    #[serde(rename = "cacheAuthorizedTTL")]
    pub cache_authorized_ttl: GoDuration,
    /// how long a denial holds
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub cache_unauthorized_ttl: GoDuration,
}

impl Default for WebhookAuthorization {
    fn default() -> Self {
        Self { cache_authorized_ttl: GoDuration::secs(300), cache_unauthorized_ttl: GoDuration::secs(30) }
    }
}

/// authorization
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorization {
    /// Webhook or AlwaysAllow
    pub mode: String,
    /// cache times
    pub webhook: WebhookAuthorization,
}

impl Default for Authorization {
    fn default() -> Self {
        Self { mode: "Webhook".into(), webhook: WebhookAuthorization::default() }
    }
}

/// crashLoopBackOff
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrashLoopBackOff {
    /// longest wait between restarts of a container
    pub max_container_restart_period: Option<GoDuration>,
}

/// The configuration file, every field with upstream's default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)] // the fields are the documented API, one to one
pub struct KubeletConfiguration {
    pub enable_server: bool,
    pub static_pod_path: String,
    pub pod_logs_dir: String,
    pub sync_frequency: GoDuration,
    pub file_check_frequency: GoDuration,
    pub http_check_frequency: GoDuration,
    #[serde(rename = "staticPodURL")]
    pub static_pod_url: String,
    #[serde(rename = "staticPodURLHeader")]
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    pub address: String,
    pub port: i32,
    pub read_only_port: i32,
    pub tls_cert_file: String,
    pub tls_private_key_file: String,
    pub tls_cipher_suites: Vec<String>,
    pub tls_min_version: String,
    pub rotate_certificates: bool,
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    pub authentication: Authentication,
    pub authorization: Authorization,
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: i32,
    pub registry_burst: i32,
    pub image_pull_credentials_verification_policy: String,
    pub preloaded_images_verification_allowlist: Vec<String>,
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps: i32,
    pub event_burst: i32,
    pub enable_debugging_handlers: bool,
    pub enable_contention_profiling: bool,
    pub healthz_port: i32,
    pub healthz_bind_address: String,
    pub oom_score_adj: i32,
    pub cluster_domain: String,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    pub streaming_connection_idle_timeout: GoDuration,
    pub node_status_update_frequency: GoDuration,
    pub node_status_report_frequency: GoDuration,
    pub node_lease_duration_seconds: i32,
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: GoDuration,
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: GoDuration,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: i32,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: i32,
    pub volume_stats_agg_period: GoDuration,
    pub kubelet_cgroups: String,
    pub system_cgroups: String,
    pub cgroup_root: String,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    pub cgroup_driver: String,
    pub cpu_manager_policy: String,
    #[serde(rename = "singleProcessOOMKill")]
    pub single_process_oom_kill: Option<bool>,
    pub cpu_manager_policy_options: BTreeMap<String, String>,
    pub cpu_manager_reconcile_period: GoDuration,
    pub memory_manager_policy: String,
    pub topology_manager_policy: String,
    pub topology_manager_scope: String,
    pub topology_manager_policy_options: BTreeMap<String, String>,
    pub qos_reserved: BTreeMap<String, String>,
    pub runtime_request_timeout: GoDuration,
    pub hairpin_mode: String,
    pub max_pods: i32,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    pub pod_pids_limit: i64,
    pub resolv_conf: String,
    pub run_once: bool,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: GoDuration,
    pub node_status_max_images: i32,
    pub max_open_files: i64,
    pub content_type: String,
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: i32,
    #[serde(rename = "kubeAPIBurst")]
    pub kube_api_burst: i32,
    pub serialize_image_pulls: Option<bool>,
    pub max_parallel_image_pulls: Option<i32>,
    pub eviction_hard: Option<BTreeMap<String, String>>,
    pub eviction_soft: BTreeMap<String, String>,
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    pub eviction_pressure_transition_period: GoDuration,
    pub eviction_max_pod_grace_period: i32,
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    pub merge_default_eviction_settings: bool,
    pub pods_per_core: i32,
    pub enable_controller_attach_detach: bool,
    pub protect_kernel_defaults: bool,
    #[serde(rename = "makeIPTablesUtilChains")]
    pub make_iptables_util_chains: bool,
    pub iptables_masquerade_bit: i32,
    pub iptables_drop_bit: i32,
    pub feature_gates: BTreeMap<String, bool>,
    pub fail_swap_on: bool,
    pub memory_swap: serde_json::Value,
    pub container_log_max_size: String,
    pub container_log_max_files: i32,
    pub container_log_max_workers: i32,
    pub container_log_monitor_interval: GoDuration,
    pub config_map_and_secret_change_detection_strategy: String,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    #[serde(rename = "reservedSystemCPUs")]
    pub reserved_system_cpus: String,
    pub show_hidden_metrics_for_version: String,
    pub system_reserved_cgroup: String,
    pub kube_reserved_cgroup: String,
    pub enforce_node_allocatable: Vec<String>,
    pub allowed_unsafe_sysctls: Vec<String>,
    pub volume_plugin_dir: String,
    #[serde(rename = "providerID")]
    pub provider_id: String,
    pub kernel_memcg_notification: bool,
    pub logging: serde_json::Value,
    pub enable_system_log_handler: bool,
    pub enable_system_log_query: bool,
    pub shutdown_grace_period: GoDuration,
    pub shutdown_grace_period_critical_pods: GoDuration,
    pub shutdown_grace_period_by_pod_priority: serde_json::Value,
    pub crash_loop_back_off: CrashLoopBackOff,
    pub reserved_memory: serde_json::Value,
    pub enable_profiling_handler: bool,
    pub enable_debug_flags_handler: bool,
    pub seccomp_default: bool,
    pub memory_throttling_factor: Option<f64>,
    pub memory_reservation_policy: String,
    pub register_with_taints: Vec<Taint>,
    pub register_node: bool,
    pub tracing: serde_json::Value,
    pub local_storage_capacity_isolation: bool,
    pub container_runtime_endpoint: String,
    pub image_service_endpoint: String,
    #[serde(rename = "failCgroupV1")]
    pub fail_cgroup_v1: bool,
    pub user_namespaces: serde_json::Value,
}

impl Default for KubeletConfiguration {
    fn default() -> Self {
        Self {
            enable_server: true,
            static_pod_path: String::new(),
            pod_logs_dir: "/var/log/pods".into(),
            sync_frequency: GoDuration::secs(60),
            file_check_frequency: GoDuration::secs(20),
            http_check_frequency: GoDuration::secs(20),
            static_pod_url: String::new(),
            static_pod_url_header: Default::default(),
            address: "0.0.0.0".into(),
            port: 10250,
            read_only_port: 0,
            tls_cert_file: String::new(),
            tls_private_key_file: String::new(),
            tls_cipher_suites: Default::default(),
            tls_min_version: String::new(),
            rotate_certificates: false,
            server_tls_bootstrap: false,
            authentication: Default::default(),
            authorization: Default::default(),
            registry_pull_qps: 5,
            registry_burst: 10,
            image_pull_credentials_verification_policy: "NeverVerifyPreloadedImages".into(),
            preloaded_images_verification_allowlist: Default::default(),
            event_record_qps: 50,
            event_burst: 100,
            enable_debugging_handlers: true,
            enable_contention_profiling: false,
            healthz_port: 10248,
            healthz_bind_address: "127.0.0.1".into(),
            oom_score_adj: -999,
            cluster_domain: String::new(),
            cluster_dns: Default::default(),
            streaming_connection_idle_timeout: GoDuration::secs(14400),
            node_status_update_frequency: GoDuration::secs(10),
            node_status_report_frequency: GoDuration::secs(300),
            node_lease_duration_seconds: 40,
            image_minimum_gc_age: GoDuration::secs(120),
            image_maximum_gc_age: GoDuration::secs(0),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            volume_stats_agg_period: GoDuration::secs(60),
            kubelet_cgroups: String::new(),
            system_cgroups: String::new(),
            cgroup_root: String::new(),
            cgroups_per_qos: true,
            cgroup_driver: "cgroupfs".into(),
            cpu_manager_policy: "none".into(),
            single_process_oom_kill: Default::default(),
            cpu_manager_policy_options: Default::default(),
            cpu_manager_reconcile_period: GoDuration::secs(10),
            memory_manager_policy: "None".into(),
            topology_manager_policy: "none".into(),
            topology_manager_scope: "container".into(),
            topology_manager_policy_options: Default::default(),
            qos_reserved: Default::default(),
            runtime_request_timeout: GoDuration::secs(120),
            hairpin_mode: "promiscuous-bridge".into(),
            max_pods: 110,
            pod_cidr: String::new(),
            pod_pids_limit: -1,
            resolv_conf: "/etc/resolv.conf".into(),
            run_once: false,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: GoDuration(Duration::from_millis(100)),
            node_status_max_images: 50,
            max_open_files: 1000000,
            content_type: "application/vnd.kubernetes.protobuf".into(),
            kube_api_qps: 50,
            kube_api_burst: 100,
            serialize_image_pulls: Default::default(),
            max_parallel_image_pulls: Default::default(),
            eviction_hard: Default::default(),
            eviction_soft: Default::default(),
            eviction_soft_grace_period: Default::default(),
            eviction_pressure_transition_period: GoDuration::secs(300),
            eviction_max_pod_grace_period: 0,
            eviction_minimum_reclaim: Default::default(),
            merge_default_eviction_settings: false,
            pods_per_core: 0,
            enable_controller_attach_detach: true,
            protect_kernel_defaults: false,
            make_iptables_util_chains: true,
            iptables_masquerade_bit: 14,
            iptables_drop_bit: 15,
            feature_gates: Default::default(),
            fail_swap_on: true,
            memory_swap: Default::default(),
            container_log_max_size: "10Mi".into(),
            container_log_max_files: 5,
            container_log_max_workers: 1,
            container_log_monitor_interval: GoDuration::secs(10),
            config_map_and_secret_change_detection_strategy: "Watch".into(),
            system_reserved: Default::default(),
            kube_reserved: Default::default(),
            reserved_system_cpus: String::new(),
            show_hidden_metrics_for_version: String::new(),
            system_reserved_cgroup: String::new(),
            kube_reserved_cgroup: String::new(),
            enforce_node_allocatable: vec!["pods".into()],
            allowed_unsafe_sysctls: Default::default(),
            volume_plugin_dir: "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/".into(),
            provider_id: String::new(),
            kernel_memcg_notification: false,
            logging: Default::default(),
            enable_system_log_handler: true,
            enable_system_log_query: false,
            shutdown_grace_period: GoDuration::secs(0),
            shutdown_grace_period_critical_pods: GoDuration::secs(0),
            shutdown_grace_period_by_pod_priority: Default::default(),
            crash_loop_back_off: Default::default(),
            reserved_memory: Default::default(),
            enable_profiling_handler: true,
            enable_debug_flags_handler: true,
            seccomp_default: false,
            memory_throttling_factor: Some(0.9),
            memory_reservation_policy: "None".into(),
            register_with_taints: Default::default(),
            register_node: true,
            tracing: Default::default(),
            local_storage_capacity_isolation: true,
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".into(),
            image_service_endpoint: String::new(),
            fail_cgroup_v1: true,
            user_namespaces: Default::default(),
        }
    }
}

impl KubeletConfiguration {
    /// Hard eviction thresholds; upstream's when none are given.
    pub fn eviction_hard(&self) -> BTreeMap<String, String> {
        let defaults = || {
            [
                ("memory.available", "100Mi"),
                ("nodefs.available", "10%"),
                ("nodefs.inodesFree", "5%"),
                ("imagefs.available", "15%"),
                ("imagefs.inodesFree", "5%"),
            ]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        match &self.eviction_hard {
            None => defaults().collect(),
            Some(own) if self.merge_default_eviction_settings => {
                defaults().chain(own.iter().map(|(k, v)| (k.clone(), v.clone()))).collect()
            }
            Some(own) => own.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeadms_file_reads_and_the_rest_defaults() {
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nauthentication:\n  anonymous: {enabled: false}\n  webhook: {cacheTTL: 0s, enabled: true}\n  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}\nclusterDNS: [10.96.0.10]\nclusterDomain: cluster.local\nstaticPodPath: /etc/kubernetes/manifests\nrotateCertificates: true\nmemorySwap: {}\nevictionHard: {imagefs.available: 0%}\n";
        let c: KubeletConfiguration = serde_yaml::from_str(text).unwrap();
        assert_eq!(c.authentication.x509.client_ca_file, "/etc/kubernetes/pki/ca.crt");
        assert_eq!(c.cluster_dns, ["10.96.0.10"]);
        assert!(c.rotate_certificates);
        assert_eq!((c.port, c.max_pods, c.registry_pull_qps), (10250, 110, 5));
        assert_eq!(c.eviction_hard().len(), 1);
        assert_eq!(KubeletConfiguration::default().eviction_hard().len(), 5);
        let json = serde_json::to_value(&c).unwrap();
        assert_eq!(json["registryPullQPS"], 5);
        assert_eq!(json["imageMinimumGCAge"], "2m0s");
    }
}
