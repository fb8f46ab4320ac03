//! The documents of `kubeadm.k8s.io/v1beta4`, field by field (facts: kubeadm's own names and shapes).
//!
//! A field that may be absent is an `Option` where absence means something of its own, else its empty value.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::duration::GoDuration;

/// Group and version of the documents.
pub const API_VERSION: &str = "kubeadm.k8s.io/v1beta4";

fn is_empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A null stands for the empty value, as in Go.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

/// Declares a document part: every field may be missing or null, and is left out of the output when empty, but for those
/// marked `always`.
macro_rules! part {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident $(as $json:literal)? : $ty:ty),* $(,)? }
     $(always { $($(#[$adoc:meta])* $afield:ident $(as $ajson:literal)? : $aty:ty),* $(,)? })?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $($(#[$fdoc])*
              #[serde($(rename = $json,)? deserialize_with = "or_default", skip_serializing_if = "is_empty")]
              pub $field: $ty,)*
            $($($(#[$adoc])*
              #[serde($(rename = $ajson,)? deserialize_with = "or_default")]
              pub $afield: $aty,)*)?
        }
    };
}

part! {
    /// What `init` does on its machine.
    InitConfiguration {
        /// Tokens to make; one is generated when none is given.
        bootstrap_tokens: Vec<BootstrapToken>,
        /// Show what would be done, do nothing.
        dry_run: bool,
        /// Key the shared certificates are sealed with, 64 hex digits.
        certificate_key: String,
        /// Phases left out.
        skip_phases: Vec<String>,
        /// Where patches for what is written lie.
        patches: Option<Patches>,
        /// How long to wait for what.
        timeouts: Option<Timeouts>,
    } always {
        /// The node's own registration.
        node_registration: NodeRegistration,
        /// This machine's API server.
        local_api_endpoint as "localAPIEndpoint": ApiEndpoint,
    }
}

part! {
    /// What is true of the whole cluster.
    ClusterConfiguration {
        /// Where etcd is.
        etcd: Etcd,
        /// `HOST` or `HOST:PORT` under which clients find any API server; empty: each its own.
        control_plane_endpoint: String,
        /// Version of Kubernetes, or a label such as `stable-1`.
        kubernetes_version: String,
        /// Directory of certificates.
        certificates_dir: String,
        /// Registry the images come from.
        image_repository: String,
        /// Gates of kubeadm itself.
        feature_gates: std::collections::BTreeMap<String, bool>,
        /// Name in kubeconfigs.
        cluster_name: String,
        /// Kind of keys: RSA-2048, RSA-3072, RSA-4096, ECDSA-P256, ECDSA-P384.
        encryption_algorithm: String,
        /// Life of leaf certificates.
        certificate_validity_period: Option<GoDuration>,
        /// Life of authorities' certificates.
        ca_certificate_validity_period as "caCertificateValidityPeriod": Option<GoDuration>,
    } always {
        /// Addresses and names.
        networking: Networking,
        /// The API server.
        api_server: ApiServer,
        /// The controller manager.
        controller_manager: ControlPlaneComponent,
        /// The scheduler.
        scheduler: ControlPlaneComponent,
        /// Cluster DNS.
        dns: Dns,
        /// kube-proxy.
        proxy: Proxy,
    }
}

part! {
    /// What `join` does on its machine.
    JoinConfiguration {
        /// Show what would be done, do nothing.
        dry_run: bool,
        /// Where the cluster's authority is written.
        ca_cert_path: String,
        /// Set on a machine that becomes a control plane.
        control_plane: Option<JoinControlPlane>,
        /// Phases left out.
        skip_phases: Vec<String>,
        /// Where patches for what is written lie.
        patches: Option<Patches>,
        /// How long to wait for what.
        timeouts: Option<Timeouts>,
    } always {
        /// The node's own registration.
        node_registration: NodeRegistration,
        /// How the cluster is found and trusted.
        discovery: Discovery,
    }
}

part! {
    /// What `reset` does on its machine.
    ResetConfiguration {
        /// Also empty the directory of temporary files.
        cleanup_tmp_dir: bool,
        /// Directory of certificates.
        certificates_dir: String,
        /// The container runtime's socket.
        cri_socket: String,
        /// Show what would be done, do nothing.
        dry_run: bool,
        /// Do not ask.
        force: bool,
        /// Checks that only warn.
        ignore_preflight_errors: Vec<String>,
        /// Phases left out.
        skip_phases: Vec<String>,
        /// Flags of unmount(2).
        unmount_flags: Vec<String>,
        /// How long to wait for what.
        timeouts: Option<Timeouts>,
    }
}

part! {
    /// What the `upgrade` commands do.
    UpgradeConfiguration {
        /// `upgrade apply`.
        apply: UpgradeApply,
        /// `upgrade diff`.
        diff: UpgradeDiff,
        /// `upgrade node`.
        node: UpgradeNode,
        /// `upgrade plan`.
        plan: UpgradePlan,
        /// How long to wait for what.
        timeouts: Option<Timeouts>,
    }
}

part! {
    /// A bootstrap token to make.
    BootstrapToken {
        /// `id.secret`.
        token: String,
        /// For people.
        description: String,
        /// Life from now; 0 is for ever.
        ttl: Option<GoDuration>,
        /// End of life, RFC 3339; excludes `ttl`.
        expires: Option<String>,
        /// `signing`, `authentication`.
        usages: Vec<String>,
        /// Groups of who logs in with it.
        groups: Vec<String>,
    }
}

part! {
    /// How a node registers.
    NodeRegistration {
        /// Name of the Node object.
        name: String,
        /// The container runtime's socket.
        cri_socket: String,
        /// More arguments for the kubelet.
        kubelet_extra_args: Vec<Arg>,
        /// Checks that only warn.
        ignore_preflight_errors: Vec<String>,
        /// Always, Never or IfNotPresent.
        image_pull_policy: String,
        /// One pull after the other.
        image_pull_serial: Option<bool>,
    } always {
        /// Taints at registration: absent is the role's default, empty is none.
        taints: Option<Vec<Value>>,
    }
}

part! {
    /// An API server's address.
    ApiEndpoint {
        /// Address told to others.
        advertise_address: String,
        /// Port it binds.
        bind_port: i32,
    }
}

part! {
    /// Where etcd is: on the control planes, or elsewhere.
    Etcd {
        /// On the control planes.
        local: Option<LocalEtcd>,
        /// Elsewhere.
        external: Option<ExternalEtcd>,
    }
}

part! {
    /// etcd on the control planes.
    LocalEtcd {
        /// Registry of its image.
        image_repository: String,
        /// Tag of its image.
        image_tag: String,
        /// More arguments.
        extra_args: Vec<Arg>,
        /// More environment.
        extra_envs: Vec<Value>,
        /// More names in the server certificate.
        server_cert_sans as "serverCertSANs": Vec<String>,
        /// More names in the peer certificate.
        peer_cert_sans as "peerCertSANs": Vec<String>,
    } always {
        /// Where it keeps its data.
        data_dir: String,
    }
}

part! {
    /// etcd elsewhere.
    ExternalEtcd {
        /// Endpoints that answer plain HTTP; those above by default.
        http_endpoints as "httpEndpoints": Vec<String>,
    } always {
        /// Its members.
        endpoints: Vec<String>,
        /// Authority of its certificates.
        ca_file: String,
        /// Our certificate.
        cert_file: String,
        /// Its key.
        key_file: String,
    }
}

part! {
    /// Addresses and names of the cluster.
    Networking {
        /// CIDRs of Services.
        service_subnet: String,
        /// CIDRs of pods.
        pod_subnet: String,
        /// Domain of Services.
        dns_domain: String,
    }
}

part! {
    /// An argument; may be given more than once.
    Arg {} always {
        /// Name without dashes.
        name: String,
        /// Value.
        value: String,
    }
}

part! {
    /// A directory of the machine shown to a component.
    HostPathMount {
        /// Refuse writes.
        read_only: bool,
        /// Kind of path, as of a hostPath volume.
        path_type: String,
    } always {
        /// Name of the volume.
        name: String,
        /// Path on the machine.
        host_path: String,
        /// Path in the pod.
        mount_path: String,
    }
}

part! {
    /// A control-plane component.
    ControlPlaneComponent {
        /// More arguments.
        extra_args: Vec<Arg>,
        /// More volumes.
        extra_volumes: Vec<HostPathMount>,
        /// More environment (core EnvVar).
        extra_envs: Vec<Value>,
    }
}

part! {
    /// The API server.
    ApiServer {
        /// More arguments.
        extra_args: Vec<Arg>,
        /// More volumes.
        extra_volumes: Vec<HostPathMount>,
        /// More environment (core EnvVar).
        extra_envs: Vec<Value>,
        /// More names and addresses in its certificate.
        cert_sans as "certSANs": Vec<String>,
    }
}

part! {
    /// Cluster DNS.
    Dns {
        /// Registry of its image.
        image_repository: String,
        /// Tag of its image.
        image_tag: String,
        /// Leave it out.
        disabled: bool,
    }
}

part! {
    /// kube-proxy.
    Proxy {
        /// Leave it out.
        disabled: bool,
    }
}

part! {
    /// How a joining machine finds the cluster.
    Discovery {
        /// By token.
        bootstrap_token: Option<BootstrapTokenDiscovery>,
        /// By kubeconfig file.
        file: Option<FileDiscovery>,
        /// Token of the kubelet's first login; the discovery token by default.
        tls_bootstrap_token: String,
    }
}

part! {
    /// Discovery by token.
    BootstrapTokenDiscovery {
        /// `HOST:PORT` of an API server.
        api_server_endpoint: String,
        /// `sha256:HEX` of authorities' public keys.
        ca_cert_hashes: Vec<String>,
        /// Trust whoever knows the token.
        unsafe_skip_ca_verification as "unsafeSkipCAVerification": bool,
    } always {
        /// `id.secret`.
        token: String,
    }
}

part! {
    /// Discovery by kubeconfig.
    FileDiscovery {} always {
        /// A path or an https URL.
        kube_config_path: String,
    }
}

part! {
    /// A joining control plane.
    JoinControlPlane {
        /// Key the shared certificates were sealed with.
        certificate_key: String,
        /// This machine's API server.
        local_api_endpoint as "localAPIEndpoint": ApiEndpoint,
    }
}

part! {
    /// Where patches lie.
    Patches {
        /// A directory of files `TARGET[SUFFIX][+TYPE].{json,yaml}`.
        directory: String,
    }
}

part! {
    /// How long to wait for what.
    Timeouts {
        /// For each control-plane component to be healthy.
        control_plane_component_health_check: Option<GoDuration>,
        /// For the kubelet to be healthy.
        kubelet_health_check: Option<GoDuration>,
        /// For a call of the API server, retries and all.
        kubernetes_api_call as "kubernetesAPICall": Option<GoDuration>,
        /// For a call of etcd, retries and all.
        etcd_api_call as "etcdAPICall": Option<GoDuration>,
        /// For the kubelet's first certificate.
        tls_bootstrap: Option<GoDuration>,
        /// For cluster-info.
        discovery: Option<GoDuration>,
        /// For a component's new self in an upgrade.
        upgrade_manifests: Option<GoDuration>,
    }
}

part! {
    /// `upgrade apply`.
    UpgradeApply {
        /// Target version.
        kubernetes_version: String,
        /// Allow unstable targets.
        allow_experimental_upgrades: Option<bool>,
        /// Allow release candidates.
        allow_rc_upgrades as "allowRCUpgrades": Option<bool>,
        /// Renew certificates on the way.
        certificate_renewal: Option<bool>,
        /// Show what would be done, do nothing.
        dry_run: Option<bool>,
        /// Upgrade etcd too.
        etcd_upgrade: Option<bool>,
        /// Go on where a rule advises against it.
        force_upgrade: Option<bool>,
        /// Checks that only warn.
        ignore_preflight_errors: Vec<String>,
        /// Where patches lie.
        patches: Option<Patches>,
        /// Print the configuration.
        print_config: Option<bool>,
        /// Phases left out.
        skip_phases: Vec<String>,
        /// Always, Never or IfNotPresent.
        image_pull_policy: String,
        /// One pull after the other.
        image_pull_serial: Option<bool>,
    }
}

part! {
    /// `upgrade diff`.
    UpgradeDiff {
        /// Target version.
        kubernetes_version: String,
        /// Lines around a change.
        context_lines as "contextLines": Option<i32>,
    }
}

part! {
    /// `upgrade node`.
    UpgradeNode {
        /// Renew certificates on the way.
        certificate_renewal: Option<bool>,
        /// Show what would be done, do nothing.
        dry_run: Option<bool>,
        /// Upgrade etcd too.
        etcd_upgrade: Option<bool>,
        /// Checks that only warn.
        ignore_preflight_errors: Vec<String>,
        /// Phases left out.
        skip_phases: Vec<String>,
        /// Where patches lie.
        patches: Option<Patches>,
        /// Always, Never or IfNotPresent.
        image_pull_policy: String,
        /// One pull after the other.
        image_pull_serial: Option<bool>,
    }
}

part! {
    /// `upgrade plan`.
    UpgradePlan {
        /// Target version.
        kubernetes_version: String,
        /// Allow unstable targets.
        allow_experimental_upgrades: Option<bool>,
        /// Allow release candidates.
        allow_rc_upgrades as "allowRCUpgrades": Option<bool>,
        /// Show what would be done, do nothing.
        dry_run: Option<bool>,
        /// Upgrade etcd too.
        etcd_upgrade: Option<bool>,
        /// Checks that only warn.
        ignore_preflight_errors: Vec<String>,
        /// Print the configuration.
        print_config: Option<bool>,
    }
}

/// Waits with kubeadm's defaults in the places of absent ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// For each control-plane component to be healthy (4m).
    pub control_plane: std::time::Duration,
    /// For the kubelet to be healthy (4m).
    pub kubelet: std::time::Duration,
    /// For a call of the API server, retries and all (1m).
    pub api_call: std::time::Duration,
    /// For a call of etcd, retries and all (2m).
    pub etcd_call: std::time::Duration,
    /// For the kubelet's first certificate (5m).
    pub tls_bootstrap: std::time::Duration,
    /// For cluster-info (5m).
    pub discovery: std::time::Duration,
    /// For a component's new self in an upgrade (5m).
    pub upgrade: std::time::Duration,
}

/// The waits of a document, absent ones by kubeadm's defaults.
pub fn waits(timeouts: Option<&Timeouts>) -> Waits {
    let t = timeouts.cloned().unwrap_or_default();
    let or = |given: Option<GoDuration>, minutes| given.unwrap_or(GoDuration::minutes(minutes)).std();
    Waits {
        control_plane: or(t.control_plane_component_health_check, 4),
        kubelet: or(t.kubelet_health_check, 4),
        api_call: or(t.kubernetes_api_call, 1),
        etcd_call: or(t.etcd_api_call, 2),
        tls_bootstrap: or(t.tls_bootstrap, 5),
        discovery: or(t.discovery, 5),
        upgrade: or(t.upgrade_manifests, 5),
    }
}
