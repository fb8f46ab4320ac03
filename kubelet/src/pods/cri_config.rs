//! Pod spec → CRI messages: the sandbox's and the containers' configuration. Pure.

use super::{dns, resources};
use crate::cgroups::Layout;
use crate::config::Config;
use crate::runtime::cri;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use std::collections::HashMap;

/// Label and annotation keys of upstream; an adopted container is recognised by them.
pub mod keys {
    /// pod name
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    /// pod namespace
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// pod UID
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    /// container name
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    /// hash of the container's spec
    pub const HASH: &str = "io.kubernetes.container.hash";
    /// restart count
    pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    /// termination message path
    pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    /// termination message policy
    pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    /// preStop hook as JSON
    pub const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
    /// ports as JSON
    pub const PORTS: &str = "io.kubernetes.container.ports";
    /// deletion grace
    pub const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
    /// termination grace
    pub const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
}

const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Hash of what makes a container another one: name and image. FNV-1a, hex, stable over releases and defaults.
pub fn container_hash(container: &Container) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let text = format!(
        "{{\"image\":{:?},\"name\":{:?}}}",
        container.image.as_deref().unwrap_or_default(),
        container.name
    );
    for byte in text.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{hash:x}")
}

fn pod_identity(pod: &Pod) -> [(String, String); 3] {
    let m = &pod.metadata;
    let part = |o: &Option<String>| o.clone().unwrap_or_default();
    [
        (keys::POD_NAME.into(), part(&m.name)),
        (keys::POD_NAMESPACE.into(), part(&m.namespace)),
        (keys::POD_UID.into(), part(&m.uid)),
    ]
}

fn int64(value: Option<i64>) -> Option<cri::Int64Value> {
    value.map(|value| cri::Int64Value { value })
}

/// Namespaces of the pod.
pub fn namespaces(spec: &PodSpec) -> cri::NamespaceOption {
    let mode = |host: Option<bool>| {
        if host == Some(true) { cri::NamespaceMode::Node as i32 } else { cri::NamespaceMode::Pod as i32 }
    };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => cri::NamespaceMode::Node,
        (_, Some(true)) => cri::NamespaceMode::Pod,
        _ => cri::NamespaceMode::Container,
    };
    cri::NamespaceOption {
        network: mode(spec.host_network),
        ipc: mode(spec.host_ipc),
        pid: pid as i32,
        ..Default::default()
    }
}

fn seccomp(
    profile: Option<&SeccompProfile>,
    default_on: bool,
    root: &std::path::Path,
) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let (kind, path) = match profile.map(|p| p.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, None),
        Some("Localhost") => (ProfileType::Localhost, profile.and_then(|p| p.localhost_profile.clone())),
        None if default_on => (ProfileType::RuntimeDefault, None),
        _ => (ProfileType::Unconfined, None),
    };
    let localhost_ref = path.map(|p| root.join("seccomp").join(p).display().to_string()).unwrap_or_default();
    cri::SecurityProfile { profile_type: kind as i32, localhost_ref }
}

fn supplemental_groups(context: Option<&PodSecurityContext>, extra: &[i64]) -> Vec<i64> {
    let Some(c) = context else { return extra.to_vec() };
    c.fs_group.iter().chain(extra).chain(c.supplemental_groups.iter().flatten()).copied().collect()
}

fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|s| s.privileged) == Some(true)
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

/// Configuration of the pod's sandbox, for its `attempt`-th making.
pub fn sandbox(
    pod: &Pod,
    attempt: u32,
    config: &Config,
    layout: &Layout,
    resolver: &dns::Resolver,
) -> Result<cri::PodSandboxConfig, String> {
    let spec = pod.spec.as_ref().ok_or("pod has no spec")?;
    let part = |o: &Option<String>| o.clone().unwrap_or_default();
    let (name, namespace, uid) =
        (part(&pod.metadata.name), part(&pod.metadata.namespace), part(&pod.metadata.uid));
    let host_network = spec.host_network == Some(true);
    let hostname = if host_network {
        String::new() // without a UTS namespace of its own the runtime refuses a name
    } else {
        dns::sandbox_hostname(pod, &config.file.cluster_domain)?
    };
    let logs =
        super::table::pod_log_dir(std::path::Path::new(&config.file.pod_logs_dir), &namespace, &name, &uid);
    let mut labels: HashMap<String, String> =
        pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(pod_identity(pod));
    Ok(cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata { name, namespace, uid: uid.clone(), attempt }),
        hostname,
        log_directory: logs.display().to_string(),
        dns_config: Some(cri::DnsConfig {
            servers: resolver.servers.clone(),
            searches: resolver.searches.clone(),
            options: resolver.options.clone(),
        }),
        port_mappings: if host_network { Vec::new() } else { port_mappings(spec) },
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(linux_sandbox(pod, spec, config, layout.parent(resources::qos(pod), &uid))),
        windows: None,
    })
}

fn linux_sandbox(
    pod: &Pod,
    spec: &PodSpec,
    config: &Config,
    cgroup_parent: String,
) -> cri::LinuxPodSandboxConfig {
    let context = spec.security_context.as_ref();
    let sysctls = context.and_then(|c| c.sysctls.as_ref());
    let to_linux = |list: &resources::Amounts| {
        let get = |k: &str| list.get(k).copied().unwrap_or(0);
        cri::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_shares: resources::shares(get("cpu")),
            memory_limit_in_bytes: get("memory"),
            ..Default::default()
        }
    };
    let overhead: resources::Amounts =
        spec.overhead.iter().flatten().map(|(k, v)| (k.clone(), resources::base(k, v))).collect();
    cri::LinuxPodSandboxConfig {
        cgroup_parent,
        security_context: Some(cri::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces(spec)),
            run_as_user: int64(context.and_then(|c| c.run_as_user)),
            run_as_group: int64(context.and_then(|c| c.run_as_group)),
            supplemental_groups: supplemental_groups(context, &[]),
            privileged: all_containers(spec).any(is_privileged),
            seccomp: Some(cri::SecurityProfile {
                profile_type: cri::security_profile::ProfileType::RuntimeDefault as i32,
                localhost_ref: String::new(),
            }),
            ..Default::default()
        }),
        sysctls: sysctls.into_iter().flatten().map(|s| (s.name.replace('/', "."), s.value.clone())).collect(),
        overhead: Some(to_linux(&overhead)),
        resources: Some(to_linux(&resources::pod_limits(pod))).map(|r| cri::LinuxContainerResources {
            cpu_quota: resources::quota(
                resources::pod_limits(pod).get("cpu").copied().unwrap_or(0),
                i64::try_from(config.file.cpu_cfs_quota_period.0.as_micros()).unwrap_or(100_000),
            ),
            cpu_shares: resources::shares(resources::pod_requests(pod).get("cpu").copied().unwrap_or(0)),
            ..r
        }),
    }
}

fn port_mappings(spec: &PodSpec) -> Vec<cri::PortMapping> {
    let ports = all_containers(spec).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter(|p| p.host_port.unwrap_or(0) > 0)
        .map(|p| cri::PortMapping {
            protocol: match p.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp as i32,
                Some("SCTP") => cri::Protocol::Sctp as i32,
                _ => cri::Protocol::Tcp as i32,
            },
            container_port: p.container_port,
            host_port: p.host_port.unwrap_or(0),
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// What a container's configuration needs besides the spec.
pub struct ContainerInputs<'a> {
    /// the local image's reference, and what the user wrote
    pub image_ref: String,
    /// user (uid) the image wants, if numeric
    pub image_uid: Option<i64>,
    /// user name the image wants, if not numeric
    pub image_user: String,
    /// restart count of this instance
    pub restart_count: i32,
    /// environment in order
    pub env: Vec<(String, String)>,
    /// mounts
    pub mounts: Vec<cri::Mount>,
    /// devices
    pub devices: Vec<cri::Device>,
    /// bytes of memory of the node
    pub node_memory: i64,
    /// configuration
    pub config: &'a Config,
    /// oom_score_adj may not be lowered here
    pub target: Option<String>,
}

/// Configuration of a container, or the message of CreateContainerConfigError.
pub fn container(
    pod: &Pod,
    c: &Container,
    input: ContainerInputs<'_>,
) -> Result<cri::ContainerConfig, String> {
    let spec = pod.spec.as_ref().ok_or("pod has no spec")?;
    verify_non_root(pod, spec, c, &input)?;
    let lookup = |name: &str| input.env.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    let expand = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|s| super::env::expand(s, lookup)).collect()
    };
    let mut labels = HashMap::from(pod_identity(pod));
    labels.insert(keys::CONTAINER_NAME.into(), c.name.clone());
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: c.name.clone(),
            attempt: u32::try_from(input.restart_count).unwrap_or(0),
        }),
        image: Some(cri::ImageSpec {
            image: input.image_ref.clone(),
            user_specified_image: c.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expand(&c.command),
        args: expand(&c.args),
        working_dir: c.working_dir.clone().unwrap_or_default(),
        envs: input.env.iter().map(|(k, v)| cri::KeyValue { key: k.clone(), value: v.clone() }).collect(),
        labels,
        annotations: annotations(pod, c, input.restart_count),
        log_path: format!("{}/{}.log", c.name, input.restart_count),
        stdin: c.stdin == Some(true),
        stdin_once: c.stdin_once == Some(true),
        tty: c.tty == Some(true),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(linux_resources(pod, c, input.node_memory, input.config)),
            security_context: Some(security_context(spec, c, &input)),
        }),
        mounts: input.mounts,
        devices: input.devices,
        ..Default::default()
    })
}

fn annotations(pod: &Pod, c: &Container, restart_count: i32) -> HashMap<String, String> {
    let mut out = HashMap::from([
        (keys::HASH.to_owned(), container_hash(c)),
        (keys::RESTART_COUNT.to_owned(), restart_count.to_string()),
        (keys::MESSAGE_PATH.to_owned(), message_path(c).to_owned()),
        (
            keys::MESSAGE_POLICY.to_owned(),
            c.termination_message_policy.clone().unwrap_or_else(|| "File".into()),
        ),
    ]);
    if let Some(hook) = c.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) {
        out.insert(keys::PRE_STOP.into(), serde_json::to_string(hook).unwrap_or_default());
    }
    if let Some(ports) = c.ports.as_ref().filter(|p| !p.is_empty()) {
        out.insert(keys::PORTS.into(), serde_json::to_string(ports).unwrap_or_default());
    }
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        out.insert(keys::DELETION_GRACE.into(), grace.to_string());
    }
    if let Some(grace) = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds) {
        out.insert(keys::TERMINATION_GRACE.into(), grace.to_string());
    }
    out
}

/// terminationMessagePath with its default.
pub fn message_path(c: &Container) -> &str {
    c.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/dev/termination-log")
}

/// Resources of a container for the runtime.
pub fn linux_resources(
    pod: &Pod,
    c: &Container,
    node_memory: i64,
    config: &Config,
) -> cri::LinuxContainerResources {
    let (requests, limits) =
        (resources::requests(c.resources.as_ref()), resources::limits(c.resources.as_ref()));
    let get = |m: &resources::Amounts, k: &str| m.get(k).copied().unwrap_or(0);
    let pod_level = pod.spec.as_ref().and_then(|s| s.resources.as_ref()).map(|r| resources::limits(Some(r)));
    let limit = |k: &str| match get(&limits, k) {
        0 => pod_level.as_ref().map_or(0, |m| get(m, k)),
        v => v,
    };
    let cpu = match requests.get("cpu") {
        Some(r) => *r,
        None => get(&limits, "cpu"),
    };
    let period = i64::try_from(config.file.cpu_cfs_quota_period.0.as_micros()).unwrap_or(100_000);
    let quota = if config.file.cpu_cfs_quota { resources::quota(limit("cpu"), period) } else { 0 };
    cri::LinuxContainerResources {
        cpu_period: if quota > 0 { period } else { 0 },
        cpu_quota: quota,
        cpu_shares: resources::shares(cpu),
        memory_limit_in_bytes: limit("memory"),
        oom_score_adj: resources::oom_score_adj(pod, c, node_memory),
        ..Default::default()
    }
}

fn security_context(
    spec: &PodSpec,
    c: &Container,
    input: &ContainerInputs<'_>,
) -> cri::LinuxContainerSecurityContext {
    let own = c.security_context.as_ref();
    let context = spec.security_context.as_ref();
    let privileged = is_privileged(c);
    let unmasked = own.and_then(|s| s.proc_mount.as_deref()) == Some("Unmasked") || privileged;
    let mut namespace_options = namespaces(spec);
    if let Some(target) = &input.target {
        namespace_options.pid = cri::NamespaceMode::Target as i32;
        namespace_options.target_id.clone_from(target);
    }
    let profile =
        own.and_then(|s| s.seccomp_profile.as_ref()).or(context.and_then(|s| s.seccomp_profile.as_ref()));
    let run_as_user = run_as_user(spec, c);
    cri::LinuxContainerSecurityContext {
        capabilities: own.and_then(|s| s.capabilities.as_ref()).map(capabilities),
        privileged,
        namespace_options: Some(namespace_options),
        run_as_user: int64(run_as_user.or(input.image_uid)),
        run_as_group: int64(own.and_then(|s| s.run_as_group).or(context.and_then(|s| s.run_as_group))),
        run_as_username: match run_as_user.or(input.image_uid) {
            None => input.image_user.clone(),
            Some(_) => String::new(),
        },
        readonly_rootfs: own.and_then(|s| s.read_only_root_filesystem) == Some(true),
        supplemental_groups: supplemental_groups(context, &[]),
        supplemental_groups_policy: match context.and_then(|s| s.supplemental_groups_policy.as_deref()) {
            Some("Strict") => cri::SupplementalGroupsPolicy::Strict as i32,
            _ => cri::SupplementalGroupsPolicy::Merge as i32,
        },
        no_new_privs: no_new_privs(own),
        masked_paths: if unmasked { Vec::new() } else { MASKED.map(str::to_owned).to_vec() },
        readonly_paths: if unmasked { Vec::new() } else { READ_ONLY.map(str::to_owned).to_vec() },
        seccomp: Some(if privileged && profile.is_none() {
            seccomp(None, false, &input.config.root_dir)
        } else {
            seccomp(profile, input.config.file.seccomp_default, &input.config.root_dir)
        }),
        ..Default::default()
    }
}

fn no_new_privs(own: Option<&SecurityContext>) -> bool {
    own.and_then(|s| s.allow_privilege_escalation) == Some(false)
}

fn capabilities(c: &Capabilities) -> cri::Capability {
    cri::Capability {
        add_capabilities: c.add.clone().unwrap_or_default(),
        drop_capabilities: c.drop.clone().unwrap_or_default(),
        ..Default::default()
    }
}

fn run_as_user(spec: &PodSpec, c: &Container) -> Option<i64> {
    let own = c.security_context.as_ref().and_then(|s| s.run_as_user);
    own.or(spec.security_context.as_ref().and_then(|s| s.run_as_user))
}

fn verify_non_root(
    pod: &Pod,
    spec: &PodSpec,
    c: &Container,
    input: &ContainerInputs<'_>,
) -> Result<(), String> {
    root_user(spec, c, input).map_or(Ok(()), |why| {
        Err(format!("{why} (pod: {:?}, container: {})", super::dns::full_name(pod), c.name))
    })
}

/// Why a container that must not run as root might.
fn root_user(spec: &PodSpec, c: &Container, input: &ContainerInputs<'_>) -> Option<String> {
    let own = c.security_context.as_ref().and_then(|s| s.run_as_non_root);
    if own.or(spec.security_context.as_ref().and_then(|s| s.run_as_non_root)) != Some(true) {
        return None;
    }
    match (run_as_user(spec, c), input.image_uid) {
        (Some(0), _) => Some("container's runAsUser breaks non-root policy".into()),
        (Some(_), _) | (None, Some(1..)) => None,
        (None, None) if !input.image_user.is_empty() => Some(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
            input.image_user
        )),
        (None, _) => Some("container has runAsNonRoot and image will run as root".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Pod {
        serde_yaml::from_str(&format!(
            "metadata: {{name: p, namespace: n, uid: u-1, labels: {{app: x}}}}\nspec: {spec}"
        ))
        .unwrap()
    }

    fn inputs(config: &Config) -> ContainerInputs<'_> {
        ContainerInputs {
            image_ref: "sha256:1".into(),
            image_uid: None,
            image_user: String::new(),
            restart_count: 2,
            env: vec![("A".into(), "1".into())],
            mounts: Vec::new(),
            devices: Vec::new(),
            node_memory: 1 << 32,
            config,
            target: None,
        }
    }

    #[test]
    fn a_sandbox() {
        let config = Config::default();
        let layout = Layout { systemd: false, root: String::new(), per_qos: true };
        let p = pod(
            "{containers: [{name: c, ports: [{containerPort: 80, hostPort: 8080}, {containerPort: 81}]}], securityContext: {fsGroup: 7, sysctls: [{name: net/core/x, value: '1'}]}}",
        );
        let s = sandbox(&p, 3, &config, &layout, &dns::Resolver::default()).unwrap();
        assert_eq!(s.log_directory, "/var/log/pods/n_p_u-1");
        assert_eq!(s.metadata.unwrap().attempt, 3);
        assert_eq!((s.hostname.as_str(), s.port_mappings.len()), ("p", 1));
        assert_eq!(s.labels["app"], "x");
        assert_eq!(s.labels[keys::POD_UID], "u-1");
        let linux = s.linux.unwrap();
        assert_eq!(linux.cgroup_parent, "/kubepods/besteffort/podu-1");
        assert_eq!(linux.sysctls["net.core.x"], "1");
        assert_eq!(linux.security_context.unwrap().supplemental_groups, [7]);
        let host = sandbox(
            &pod("{containers: [], hostNetwork: true}"),
            0,
            &config,
            &layout,
            &dns::Resolver::default(),
        )
        .unwrap();
        assert_eq!(host.hostname, "");
    }

    #[test]
    fn a_container() {
        let config = Config::default();
        let p = pod(
            "{containers: [{name: c, image: i, command: [sh, '$(A)'], securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}, resources: {limits: {cpu: 500m, memory: 1Mi}}}]}",
        );
        let c = container(&p, &p.spec.as_ref().unwrap().containers[0], inputs(&config)).unwrap();
        assert_eq!(c.command, ["sh", "1"]);
        assert_eq!(c.log_path, "c/2.log");
        assert_eq!(c.annotations[keys::RESTART_COUNT], "2");
        let linux = c.linux.unwrap();
        let r = linux.resources.unwrap();
        assert_eq!(
            (r.cpu_quota, r.cpu_shares, r.memory_limit_in_bytes, r.oom_score_adj),
            (50_000, 512, 1 << 20, -997)
        );
        assert!(linux.security_context.unwrap().no_new_privs);
    }

    #[test]
    fn non_root_is_verified() {
        let config = Config::default();
        let p = pod("{securityContext: {runAsNonRoot: true}, containers: [{name: c, image: i}]}");
        let c = &p.spec.as_ref().unwrap().containers[0];
        assert!(container(&p, c, inputs(&config)).unwrap_err().contains("will run as root"));
        let named = ContainerInputs { image_user: "web".into(), ..inputs(&config) };
        assert!(container(&p, c, named).unwrap_err().contains("non-numeric user (web)"));
        assert!(container(&p, c, ContainerInputs { image_uid: Some(5), ..inputs(&config) }).is_ok());
    }

    #[test]
    fn the_hash_sees_name_and_image_alone() {
        let c = |y: &str| container_hash(&serde_yaml::from_str::<Container>(y).unwrap());
        assert_eq!(c("{name: a, image: i}"), c("{name: a, image: i, tty: true}"));
        assert_ne!(c("{name: a, image: i}"), c("{name: a, image: j}"));
    }
}
