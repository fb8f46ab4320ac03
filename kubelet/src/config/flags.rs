//! Command line: upstream's flags. The configuration file is read first, then its drop-ins, then flags win.

use super::{Config, GoDuration, KubeletConfiguration, duration};
use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Taint;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

/// Flags without a value.
const BOOLS: &[&str] = &[
    "anonymous-auth",
    "authentication-token-webhook",
    "cgroups-per-qos",
    "contention-profiling",
    "cpu-cfs-quota",
    "enable-controller-attach-detach",
    "enable-debugging-handlers",
    "enable-load-reader",
    "enable-server",
    "exit-on-lock-contention",
    "experimental-allocatable-ignore-eviction",
    "fail-cgroupv1",
    "fail-swap-on",
    "help",
    "kernel-memcg-notification",
    "local-storage-capacity-isolation",
    "log-cadvisor-usage",
    "log-json-split-stream",
    "log-text-split-stream",
    "make-iptables-util-chains",
    "protect-kernel-defaults",
    "register-node",
    "rotate-certificates",
    "rotate-server-certificates",
    "runonce",
    "seccomp-default",
    "serialize-image-pulls",
    "storage-driver-secure",
    "version",
];

/// Known flags that have no effect here.
const IGNORED: &[&str] = &[
    "application-metrics-count-limit",
    "boot-id-file",
    "container-hints",
    "containerd",
    "containerd-namespace",
    "enable-load-reader",
    "event-storage-age-limit",
    "event-storage-event-limit",
    "exit-on-lock-contention",
    "experimental-allocatable-ignore-eviction",
    "experimental-mounter-path",
    "global-housekeeping-interval",
    "housekeeping-interval",
    "kernel-memcg-notification",
    "lock-file",
    "log-cadvisor-usage",
    "log-flush-frequency",
    "log-json-info-buffer-size",
    "log-json-split-stream",
    "log-text-info-buffer-size",
    "log-text-split-stream",
    "logging-format",
    "machine-id-file",
    "manifest-url-header",
    "max-housekeeping-interval",
    "minimum-image-ttl-duration",
    "runonce",
    "runtime-cgroups",
    "storage-driver-buffer-duration",
    "storage-driver-db",
    "storage-driver-host",
    "storage-driver-password",
    "storage-driver-secure",
    "storage-driver-table",
    "storage-driver-user",
    "vmodule",
    "reserved-memory",
    "help",
    "version",
];

/// Flags as (name, value) in order. `--x v`, `--x=v` and, for booleans, `--x` are the same to pflag.
pub fn split(args: &[String]) -> Result<Vec<(String, String)>> {
    let mut out = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            bail!("unknown command {arg:?}: the kubelet takes flags only");
        };
        let (name, value) = match flag.split_once('=') {
            Some((n, v)) => (n.to_owned(), Some(v.to_owned())),
            None => (flag.to_owned(), None),
        };
        let name = name.replace('_', "-");
        let value = match value {
            Some(v) => v,
            None if BOOLS.contains(&name.as_str()) => "true".into(),
            None => args.next().cloned().ok_or_else(|| anyhow!("flag needs an argument: --{name}"))?,
        };
        out.push((name, value));
    }
    Ok(out)
}

/// The configuration that a command line stands for.
pub fn load(args: &[String]) -> Result<Config> {
    let flags = split(args)?;
    let last = |name: &str| flags.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let file = read_file(last("config").as_deref(), last("config-dir").as_deref())?;
    let mut config = Config { file, ..Config::default() };
    config.hostname =
        nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok()).unwrap_or_default().to_lowercase();
    for (name, value) in &flags {
        set(&mut config, name, value)
            .with_context(|| format!("invalid argument {value:?} for \"--{name}\" flag"))?;
    }
    if let Some(over) = last("hostname-override").filter(|v| !v.is_empty()) {
        config.hostname = over.trim().to_lowercase();
    }
    config.node_name.clone_from(&config.hostname);
    if config.cert_dir.as_os_str().is_empty() {
        config.cert_dir = config.root_dir.join("pki");
    }
    Ok(config)
}

/// Reads the file and merges `*.conf` of the directory over it, in name order.
pub fn read_file(path: Option<&str>, dir: Option<&str>) -> Result<KubeletConfiguration> {
    let mut merged = Value::Object(serde_json::Map::new());
    if let Some(path) = path {
        merge(&mut merged, read_one(Path::new(path))?);
    }
    if let Some(dir) = dir {
        let entries = std::fs::read_dir(dir).with_context(|| format!("config-dir {dir}"))?;
        let mut files: Vec<_> = entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "conf"))
            .collect();
        files.sort();
        for file in files {
            merge(&mut merged, read_one(&file)?);
        }
    }
    serde_json::from_value(merged).context("KubeletConfiguration")
}

fn read_one(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let value: Value = serde_yaml::from_str(&text).with_context(|| format!("parsing {}", path.display()))?;
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or("KubeletConfiguration");
    if kind != "KubeletConfiguration" {
        bail!("{}: kind is {kind}, not KubeletConfiguration", path.display());
    }
    Ok(value)
}

/// Objects merge by key; anything else is replaced; null leaves what was there.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(a), Value::Object(b)) => {
            for (k, v) in b {
                merge(a.entry(k).or_insert(Value::Null), v);
            }
        }
        (slot, value) => *slot = value,
    }
}

fn num<T: FromStr>(v: &str) -> Result<T> {
    v.parse().map_err(|_| anyhow!("strconv.ParseInt: parsing {v:?}: invalid syntax"))
}

fn dur(v: &str) -> Result<GoDuration> {
    duration::parse(v).map(GoDuration).ok_or_else(|| anyhow!("time: invalid duration {v:?}"))
}

fn list(v: &str) -> Vec<String> {
    v.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

fn map(v: &str, separator: char) -> Result<BTreeMap<String, String>> {
    list(v)
        .iter()
        .map(|p| {
            let (k, v) =
                p.split_once(separator).ok_or_else(|| anyhow!("{p:?} is not key{separator}value"))?;
            Ok((k.trim().to_owned(), v.trim().to_owned()))
        })
        .collect()
}

fn bools(v: &str) -> Result<BTreeMap<String, bool>> {
    map(v, '=')?
        .into_iter()
        .map(|(k, v)| Ok((k.rsplit(':').next().unwrap_or(&k).to_owned(), num(&v)?)))
        .collect()
}

fn taints(v: &str) -> Result<Vec<Taint>> {
    list(v)
        .iter()
        .map(|t| {
            let (kv, effect) = t.rsplit_once(':').ok_or_else(|| anyhow!("{t:?} is not key=value:effect"))?;
            let (key, value) = kv.split_once('=').map_or((kv, None), |(k, v)| (k, Some(v.to_owned())));
            Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
        })
        .collect()
}

fn some_path(v: &str) -> Option<std::path::PathBuf> {
    (!v.is_empty()).then(|| v.into())
}

/// Sets what one flag says.
fn set(c: &mut Config, name: &str, v: &str) -> Result<()> {
    let f = &mut c.file;
    let text = || v.to_owned();
    match name {
        "config" | "config-dir" | "hostname-override" => {}
        "kubeconfig" => c.kubeconfig = some_path(v),
        "bootstrap-kubeconfig" => c.bootstrap_kubeconfig = some_path(v),
        "cert-dir" => c.cert_dir = v.into(),
        "root-dir" => c.root_dir = v.into(),
        "node-ip" => c.node_ips = list(v).iter().map(|i| i.parse()).collect::<Result<_, _>>()?,
        "node-labels" => c.node_labels = map(v, '=')?,
        "cloud-provider" => c.external_cloud = v == "external",
        "image-credential-provider-config" => c.credential_provider_config = some_path(v),
        "image-credential-provider-bin-dir" => c.credential_provider_bin_dir = some_path(v),
        "v" => c.verbosity = num(v)?,
        "maximum-dead-containers-per-container" => {
            c.max_dead_per_container = usize::try_from(num::<i64>(v)?).unwrap_or(0)
        }
        "maximum-dead-containers" => c.max_dead_containers = usize::try_from(num::<i64>(v)?).ok(),
        "minimum-container-ttl-duration" => c.min_container_age = dur(v)?.0,
        "address" => f.address = text(),
        "allowed-unsafe-sysctls" => f.allowed_unsafe_sysctls = list(v),
        "anonymous-auth" => f.authentication.anonymous.enabled = num(v)?,
        "authentication-token-webhook" => f.authentication.webhook.enabled = num(v)?,
        "authentication-token-webhook-cache-ttl" => f.authentication.webhook.cache_ttl = dur(v)?,
        "authorization-mode" => f.authorization.mode = text(),
        "authorization-webhook-cache-authorized-ttl" => {
            f.authorization.webhook.cache_authorized_ttl = dur(v)?
        }
        "authorization-webhook-cache-unauthorized-ttl" => {
            f.authorization.webhook.cache_unauthorized_ttl = dur(v)?
        }
        "cgroup-driver" => f.cgroup_driver = text(),
        "cgroup-root" => f.cgroup_root = text(),
        "cgroups-per-qos" => f.cgroups_per_qos = num(v)?,
        "client-ca-file" => f.authentication.x509.client_ca_file = text(),
        "cluster-dns" => f.cluster_dns = list(v),
        "cluster-domain" => f.cluster_domain = text(),
        "container-log-max-files" => f.container_log_max_files = num(v)?,
        "container-log-max-size" => f.container_log_max_size = text(),
        "container-runtime-endpoint" => f.container_runtime_endpoint = text(),
        "contention-profiling" => f.enable_contention_profiling = num(v)?,
        "cpu-cfs-quota" => f.cpu_cfs_quota = num(v)?,
        "cpu-cfs-quota-period" => f.cpu_cfs_quota_period = dur(v)?,
        "cpu-manager-policy" => f.cpu_manager_policy = text(),
        "cpu-manager-policy-options" => f.cpu_manager_policy_options = map(v, '=')?,
        "cpu-manager-reconcile-period" => f.cpu_manager_reconcile_period = dur(v)?,
        "enable-controller-attach-detach" => f.enable_controller_attach_detach = num(v)?,
        "enable-debugging-handlers" => f.enable_debugging_handlers = num(v)?,
        "enable-server" => f.enable_server = num(v)?,
        "enforce-node-allocatable" => f.enforce_node_allocatable = list(v),
        "event-burst" => f.event_burst = num(v)?,
        "event-qps" => f.event_record_qps = num(v)?,
        "eviction-hard" => f.eviction_hard = Some(map(v, '<')?),
        "eviction-max-pod-grace-period" => f.eviction_max_pod_grace_period = num(v)?,
        "eviction-minimum-reclaim" => f.eviction_minimum_reclaim = map(v, '=')?,
        "eviction-pressure-transition-period" => f.eviction_pressure_transition_period = dur(v)?,
        "eviction-soft" => f.eviction_soft = map(v, '<')?,
        "eviction-soft-grace-period" => f.eviction_soft_grace_period = map(v, '=')?,
        "fail-cgroupv1" => f.fail_cgroup_v1 = num(v)?,
        "fail-swap-on" => f.fail_swap_on = num(v)?,
        "feature-gates" => f.feature_gates.extend(bools(v)?),
        "file-check-frequency" => f.file_check_frequency = dur(v)?,
        "hairpin-mode" => f.hairpin_mode = text(),
        "healthz-bind-address" => f.healthz_bind_address = text(),
        "healthz-port" => f.healthz_port = num(v)?,
        "http-check-frequency" => f.http_check_frequency = dur(v)?,
        "image-gc-high-threshold" => f.image_gc_high_threshold_percent = num(v)?,
        "image-gc-low-threshold" => f.image_gc_low_threshold_percent = num(v)?,
        "image-service-endpoint" => f.image_service_endpoint = text(),
        "kube-api-burst" => f.kube_api_burst = num(v)?,
        "kube-api-content-type" => f.content_type = text(),
        "kube-api-qps" => f.kube_api_qps = num(v)?,
        "kube-reserved" => f.kube_reserved = map(v, '=')?,
        "kube-reserved-cgroup" => f.kube_reserved_cgroup = text(),
        "kubelet-cgroups" => f.kubelet_cgroups = text(),
        "local-storage-capacity-isolation" => f.local_storage_capacity_isolation = num(v)?,
        "make-iptables-util-chains" => f.make_iptables_util_chains = num(v)?,
        "manifest-url" => f.static_pod_url = text(),
        "max-open-files" => f.max_open_files = num(v)?,
        "max-pods" => f.max_pods = num(v)?,
        "memory-manager-policy" => f.memory_manager_policy = text(),
        "node-status-max-images" => f.node_status_max_images = num(v)?,
        "node-status-update-frequency" => f.node_status_update_frequency = dur(v)?,
        "oom-score-adj" => f.oom_score_adj = num(v)?,
        "pod-cidr" => f.pod_cidr = text(),
        "pod-manifest-path" => f.static_pod_path = text(),
        "pod-max-pids" => f.pod_pids_limit = num(v)?,
        "pods-per-core" => f.pods_per_core = num(v)?,
        "port" => f.port = num(v)?,
        "protect-kernel-defaults" => f.protect_kernel_defaults = num(v)?,
        "provider-id" => f.provider_id = text(),
        "qos-reserved" => f.qos_reserved = map(v, '=')?,
        "read-only-port" => f.read_only_port = num(v)?,
        "register-node" => f.register_node = num(v)?,
        "register-with-taints" => f.register_with_taints = taints(v)?,
        "registry-burst" => f.registry_burst = num(v)?,
        "registry-qps" => f.registry_pull_qps = num(v)?,
        "reserved-cpus" => f.reserved_system_cpus = text(),
        "resolv-conf" => f.resolv_conf = text(),
        "rotate-certificates" => f.rotate_certificates = num(v)?,
        "rotate-server-certificates" => f.server_tls_bootstrap = num(v)?,
        "runtime-request-timeout" => f.runtime_request_timeout = dur(v)?,
        "seccomp-default" => f.seccomp_default = num(v)?,
        "serialize-image-pulls" => f.serialize_image_pulls = Some(num(v)?),
        "streaming-connection-idle-timeout" => f.streaming_connection_idle_timeout = dur(v)?,
        "sync-frequency" => f.sync_frequency = dur(v)?,
        "system-cgroups" => f.system_cgroups = text(),
        "system-reserved" => f.system_reserved = map(v, '=')?,
        "system-reserved-cgroup" => f.system_reserved_cgroup = text(),
        "tls-cert-file" => f.tls_cert_file = text(),
        "tls-cipher-suites" => f.tls_cipher_suites = list(v),
        "tls-min-version" => f.tls_min_version = text(),
        "tls-private-key-file" => f.tls_private_key_file = text(),
        "topology-manager-policy" => f.topology_manager_policy = text(),
        "topology-manager-policy-options" => f.topology_manager_policy_options = map(v, '=')?,
        "topology-manager-scope" => f.topology_manager_scope = text(),
        "volume-plugin-dir" => f.volume_plugin_dir = text(),
        "volume-stats-agg-period" => f.volume_stats_agg_period = dur(v)?,
        other if IGNORED.contains(&other) => c.ignored.push(other.to_owned()),
        other => bail!("unknown flag: --{other}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, "kind: KubeletConfiguration\nmaxPods: 7\nclusterDomain: a.b\nauthentication: {anonymous: {enabled: true}}\n").unwrap();
        std::fs::write(
            dir.path().join("10-x.conf"),
            "kind: KubeletConfiguration\nmaxPods: 8\nauthentication: {webhook: {enabled: false}}\n",
        )
        .unwrap();
        let line = format!(
            "--config={} --config-dir {} --hostname-override=N1 --fail-swap-on=false --register-with-taints=a=b:NoSchedule,c:NoExecute --v 3 --seccomp-default --eviction-hard=memory.available<1Gi --containerd=x",
            file.display(),
            dir.path().display()
        );
        let c = load(&args(&line)).unwrap();
        assert_eq!((c.file.max_pods, c.file.cluster_domain.as_str(), c.node_name.as_str()), (8, "a.b", "n1"));
        assert!(c.file.authentication.anonymous.enabled && !c.file.authentication.webhook.enabled);
        assert!(!c.file.fail_swap_on && c.file.seccomp_default);
        assert_eq!((c.verbosity, c.file.register_with_taints.len()), (3, 2));
        assert_eq!(c.file.eviction_hard()["memory.available"], "1Gi");
        assert_eq!(c.ignored, ["containerd"]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(load(&args("--nope=1")).is_err());
        assert!(load(&args("--max-pods=x")).is_err());
        assert!(load(&args("--max-pods")).is_err());
        assert!(load(&args("run")).is_err());
    }
}
