//! Documents into text.

use serde::Serialize;
use serde_json::Value;

use crate::components::{default_kubelet, default_proxy};
use crate::{
    API_VERSION, ApiEndpoint, BootstrapToken, BootstrapTokenDiscovery, ClusterConfiguration, Facts, Init,
    Join, NodeRegistration, ResetConfiguration, UpgradeConfiguration, default_init, default_join,
    default_reset, default_upgrade, facts,
};

/// The token, address and name that stand for the user's own.
const PLACEHOLDER_TOKEN: &str = "abcdef.0123456789abcdef";
const PLACEHOLDER_ADDRESS: &str = "1.2.3.4";
const PLACEHOLDER_NAME: &str = "node";

/// The text of the ConfigMap kube-system/kubeadm-config.
pub fn cluster_document(cluster: &ClusterConfiguration) -> String {
    documents(&[object("ClusterConfiguration", cluster)])
}

/// A part as an object with its kind.
pub fn object(kind: &str, part: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(part).unwrap_or_default();
    value["apiVersion"] = API_VERSION.into();
    value["kind"] = kind.into();
    value
}

/// Several documents as one YAML text, `---` between. Keys are sorted, since maps here are.
pub fn documents(values: &[Value]) -> String {
    let texts: Vec<String> = values.iter().map(|v| serde_yaml::to_string(v).unwrap_or_default()).collect();
    texts.join("---\n")
}

/// A value as JSON text, indented by four as kubeadm's printers do, with a line's end.
pub fn json(value: &Value) -> String {
    let mut out = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, form));
    debug_assert!(written.is_ok(), "a value can always be written to memory");
    String::from_utf8_lossy(&out).into_owned() + "\n"
}

fn placeholder_facts() -> Facts {
    Facts {
        hostname: PLACEHOLDER_NAME.into(),
        default_ip: PLACEHOLDER_ADDRESS.parse().ok(),
        cri_sockets: vec![facts::KNOWN_SOCKETS[0].into()],
        ..Facts::default()
    }
}

fn placeholder_init() -> Init {
    let mut init = Init::default();
    init.init.bootstrap_tokens =
        vec![BootstrapToken { token: PLACEHOLDER_TOKEN.into(), ..BootstrapToken::default() }];
    default_init(&mut init, &placeholder_facts());
    init
}

/// Default documents of `init`; `components` are the kinds of component documents wanted too.
///
/// # Errors
/// A kind nobody knows.
pub fn init_defaults(components: &[String]) -> Result<Vec<Value>, String> {
    let init = placeholder_init();
    let mut out =
        vec![object("InitConfiguration", &init.init), object("ClusterConfiguration", &init.cluster)];
    for kind in components {
        out.push(component(kind, &init.cluster)?);
    }
    Ok(out)
}

fn component(kind: &str, cluster: &ClusterConfiguration) -> Result<Value, String> {
    let mut value = Value::Null;
    let local = ApiEndpoint { advertise_address: PLACEHOLDER_ADDRESS.into(), bind_port: 6443 };
    match kind {
        "KubeletConfiguration" => drop(default_kubelet(&mut value, cluster)),
        "KubeProxyConfiguration" => drop(default_proxy(&mut value, cluster, &local)),
        _ => {
            return Err(format!(
                "--component-configs: unknown kind {kind:?}; known are KubeletConfiguration and KubeProxyConfiguration"
            ));
        }
    }
    Ok(value)
}

/// The default document of `join`.
pub fn join_defaults() -> Value {
    let mut join = Join::default();
    join.join.node_registration = NodeRegistration::default();
    join.join.discovery.bootstrap_token = Some(BootstrapTokenDiscovery {
        token: PLACEHOLDER_TOKEN.into(),
        api_server_endpoint: "kube-apiserver:6443".into(),
        unsafe_skip_ca_verification: true,
        ..BootstrapTokenDiscovery::default()
    });
    default_join(&mut join, &placeholder_facts());
    object("JoinConfiguration", &join.join)
}

/// The default document of `reset`.
pub fn reset_defaults() -> Value {
    let mut reset = ResetConfiguration::default();
    default_reset(&mut reset, &placeholder_facts());
    object("ResetConfiguration", &reset)
}

/// The default document of the `upgrade` commands.
pub fn upgrade_defaults() -> Value {
    let mut upgrade = UpgradeConfiguration::default();
    default_upgrade(&mut upgrade);
    object("UpgradeConfiguration", &upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn defaults_of_init_read_back_as_they_are() {
        let text = documents(&init_defaults(&["KubeletConfiguration".into()]).unwrap());
        let (mut init, warnings) = crate::read_init(&text).unwrap();
        assert_eq!(warnings, []);
        let before = init.clone();
        default_init(&mut init, &placeholder_facts());
        assert_eq!((before.init, before.cluster, before.kubelet), (init.init, init.cluster, init.kubelet));
        assert!(init_defaults(&["Other".into()]).unwrap_err().contains("unknown kind"));
    }

    #[test]
    fn the_text_of_init_defaults() {
        expect![[r#"
            apiVersion: kubeadm.k8s.io/v1beta4
            bootstrapTokens:
            - groups:
              - system:bootstrappers:kubeadm:default-node-token
              token: abcdef.0123456789abcdef
              ttl: 24h0m0s
              usages:
              - signing
              - authentication
            kind: InitConfiguration
            localAPIEndpoint:
              advertiseAddress: 1.2.3.4
              bindPort: 6443
            nodeRegistration:
              criSocket: unix:///var/run/containerd/containerd.sock
              imagePullPolicy: IfNotPresent
              imagePullSerial: true
              name: node
              taints: null
            timeouts:
              controlPlaneComponentHealthCheck: 4m0s
              discovery: 5m0s
              etcdAPICall: 2m0s
              kubeletHealthCheck: 4m0s
              kubernetesAPICall: 1m0s
              tlsBootstrap: 5m0s
              upgradeManifests: 5m0s
            ---
            apiServer: {}
            apiVersion: kubeadm.k8s.io/v1beta4
            caCertificateValidityPeriod: 87600h0m0s
            certificateValidityPeriod: 8760h0m0s
            certificatesDir: /etc/kubernetes/pki
            clusterName: kubernetes
            controllerManager: {}
            dns: {}
            encryptionAlgorithm: ECDSA-P256
            etcd:
              local:
                dataDir: /var/lib/etcd
            imageRepository: coxswain.local
            kind: ClusterConfiguration
            kubernetesVersion: v1.36.2
            networking:
              dnsDomain: cluster.local
              podSubnet: 10.244.0.0/16
              serviceSubnet: 10.96.0.0/12
            proxy: {}
            scheduler: {}
        "#]]
        .assert_eq(&documents(&init_defaults(&[]).unwrap()));
    }

    #[test]
    fn the_other_defaults_read_back() {
        let join = documents(&[join_defaults()]);
        assert_eq!(crate::validate_join(&crate::read_join(&join).unwrap().0), []);
        let reset = documents(&[reset_defaults()]);
        assert_eq!(crate::validate_reset(&crate::read_reset(&reset).unwrap().0), []);
        let upgrade = documents(&[upgrade_defaults()]);
        assert_eq!(crate::validate_upgrade(&crate::read_upgrade(&upgrade).unwrap().0), []);
    }

    #[test]
    fn the_clusters_document_reads_back() {
        let init = placeholder_init();
        let text = cluster_document(&init.cluster);
        assert_eq!(crate::read_cluster(&text).unwrap().0, init.cluster);
    }
}
