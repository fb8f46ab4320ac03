//! The units of the API server, the controller manager and the scheduler.

use coxctl_config::{ApiEndpoint, ClusterConfiguration};
use coxctl_machine::Daemon;

use super::{API_SERVER, Args, CERTS, CLOUD, CONTROLLER_MANAGER, ETCD, SCHEDULER, daemon};
use crate::paths;

/// The API server of this machine; `signs` is false when the authority's key is not here: then nobody may be there to sign
/// kubelets' serving certificates, and the API server takes those they sign themselves, as kubeadm's does.
pub fn api_server(cluster: &ClusterConfiguration, local: &ApiEndpoint, signs: bool) -> Daemon {
    let args = api_server_args(cluster, local);
    let args = if signs { args } else { args.without("kubelet-certificate-authority") };
    let args = args.with(&cluster.api_server.extra_args);
    let args = match args.has("authorization-config") {
        true => args.without("authorization-mode"),
        false => args,
    };
    daemon(API_SERVER, API_SERVER, args.list(), &cluster.api_server.extra_envs, &[ETCD])
}

fn api_server_args(cluster: &ClusterConfiguration, local: &ApiEndpoint) -> Args {
    let pki = |file: &str| format!("{}/{file}", cluster.certificates_dir);
    let args = Args::default()
        .set("advertise-address", &local.advertise_address)
        .set("secure-port", local.bind_port)
        .set("allow-privileged", true)
        .set("authorization-mode", "Node,RBAC")
        .set("enable-admission-plugins", "NodeRestriction")
        .set("enable-bootstrap-token-auth", true)
        .set("client-ca-file", pki("ca.crt"))
        .set("tls-cert-file", pki("apiserver.crt"))
        .set("tls-private-key-file", pki("apiserver.key"))
        .set("kubelet-client-certificate", pki("apiserver-kubelet-client.crt"))
        .set("kubelet-client-key", pki("apiserver-kubelet-client.key"))
        .set("kubelet-certificate-authority", pki("ca.crt"))
        .set("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname")
        .set("proxy-client-cert-file", pki("front-proxy-client.crt"))
        .set("proxy-client-key-file", pki("front-proxy-client.key"))
        .set("requestheader-client-ca-file", pki("front-proxy-ca.crt"))
        .set("requestheader-allowed-names", "front-proxy-client")
        .set("requestheader-extra-headers-prefix", "X-Remote-Extra-")
        .set("requestheader-group-headers", "X-Remote-Group")
        .set("requestheader-username-headers", "X-Remote-User")
        .set(
            "service-account-issuer",
            format!("https://kubernetes.default.svc.{}", cluster.networking.dns_domain),
        )
        .set("service-account-key-file", pki("sa.pub"))
        .set("service-account-signing-key-file", pki("sa.key"))
        .set("service-cluster-ip-range", &cluster.networking.service_subnet);
    // Without it the API server listens on IPv4 alone.
    let args = if local.advertise_address.contains(':') { args.set("bind-address", "::") } else { args };
    etcd_args(args, cluster, local)
}

fn etcd_args(args: Args, cluster: &ClusterConfiguration, local: &ApiEndpoint) -> Args {
    let pki = |file: &str| format!("{}/{file}", cluster.certificates_dir);
    let Some(external) = &cluster.etcd.external else {
        let loopback = if local.advertise_address.contains(':') { "[::1]" } else { "127.0.0.1" };
        return args
            .set("etcd-servers", format!("https://{loopback}:2379"))
            .set("etcd-cafile", pki("etcd/ca.crt"))
            .set("etcd-certfile", pki("apiserver-etcd-client.crt"))
            .set("etcd-keyfile", pki("apiserver-etcd-client.key"));
    };
    let mut args = args.set("etcd-servers", external.endpoints.join(","));
    let files = [
        ("etcd-cafile", &external.ca_file),
        ("etcd-certfile", &external.cert_file),
        ("etcd-keyfile", &external.key_file),
    ];
    for (name, file) in files.iter().filter(|f| !f.1.is_empty()) {
        args = args.set(name, file);
    }
    args
}

/// Flags that say where a daemon's kubeconfig is: for calling, and for asking about its own callers.
fn kubeconfigs(path: &str) -> Args {
    Args::default()
        .set("kubeconfig", path)
        .set("authentication-kubeconfig", path)
        .set("authorization-kubeconfig", path)
        .set("bind-address", "127.0.0.1")
        .set("leader-elect", true)
}

/// The controller manager; `signs` is false when the authority's key is not on this machine.
pub fn controller_manager(cluster: &ClusterConfiguration, signs: bool) -> Daemon {
    let pki = |file: &str| format!("{}/{file}", cluster.certificates_dir);
    let mut args = kubeconfigs(paths::CONTROLLER_MANAGER_CONF)
        .set("client-ca-file", pki("ca.crt"))
        .set("cluster-name", &cluster.cluster_name)
        .set("controllers", "*,bootstrapsigner,tokencleaner")
        .set("requestheader-client-ca-file", pki("front-proxy-ca.crt"))
        .set("root-ca-file", pki("ca.crt"))
        .set("service-account-private-key-file", pki("sa.key"))
        .set("use-service-account-credentials", true);
    if signs {
        args = args
            .set("cluster-signing-cert-file", pki("ca.crt"))
            .set("cluster-signing-key-file", pki("ca.key"));
    }
    if !cluster.networking.pod_subnet.is_empty() {
        args = args
            .set("allocate-node-cidrs", true)
            .set("cluster-cidr", &cluster.networking.pod_subnet)
            .set("service-cluster-ip-range", &cluster.networking.service_subnet);
    }
    let component = &cluster.controller_manager;
    let args = args.with(&component.extra_args);
    daemon(CONTROLLER_MANAGER, CONTROLLER_MANAGER, args.list(), &component.extra_envs, &[API_SERVER])
}

/// The scheduler.
pub fn scheduler(cluster: &ClusterConfiguration) -> Daemon {
    // Upstream's looks the authority up in the cluster; who asks for metrics with a certificate is to be known here too.
    let args = kubeconfigs(paths::SCHEDULER_CONF)
        .set("client-ca-file", format!("{}/ca.crt", cluster.certificates_dir))
        .with(&cluster.scheduler.extra_args);
    daemon(SCHEDULER, SCHEDULER, args.list(), &cluster.scheduler.extra_envs, &[API_SERVER])
}

/// The cloud controller manager with the provider that is built in: addresses of Services from pools.
pub fn cloud(cluster: &ClusterConfiguration) -> Daemon {
    let args = kubeconfigs(paths::CLOUD_CONF)
        .set("client-ca-file", format!("{}/ca.crt", cluster.certificates_dir))
        .set("cloud-provider", "coxswain")
        .set("cloud-config", paths::CLOUD_CONFIG)
        .set("cluster-name", &cluster.cluster_name);
    daemon(CLOUD, CLOUD, args.list(), &[], &[API_SERVER])
}

/// The renewal of this control plane's certificates.
pub fn certs(cluster: &ClusterConfiguration) -> Daemon {
    let mut args: Vec<String> = vec!["certs".into(), "watch".into()];
    args.push(format!("--cert-dir={}", cluster.certificates_dir));
    daemon(CERTS, "coxctl", args, &[], &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use coxctl_config::{Arg, ExternalEtcd};

    fn cluster() -> ClusterConfiguration {
        let mut cluster = ClusterConfiguration {
            certificates_dir: "/etc/kubernetes/pki".into(),
            cluster_name: "kubernetes".into(),
            ..ClusterConfiguration::default()
        };
        cluster.networking.dns_domain = "cluster.local".into();
        cluster.networking.service_subnet = "10.96.0.0/12".into();
        cluster
    }

    fn has(daemon: &Daemon, arg: &str) -> bool {
        daemon.args.iter().any(|a| a == arg)
    }

    #[test]
    fn the_api_server_finds_its_etcd() {
        let local = ApiEndpoint { advertise_address: "10.0.0.1".into(), bind_port: 6443 };
        let mut cluster = cluster();
        assert!(has(&api_server(&cluster, &local, true), "--etcd-servers=https://127.0.0.1:2379"));
        cluster.etcd.external =
            Some(ExternalEtcd { endpoints: vec!["http://e:2379".into()], ..ExternalEtcd::default() });
        let unit = api_server(&cluster, &local, true);
        assert!(
            has(&unit, "--etcd-servers=http://e:2379")
                && !unit.args.iter().any(|a| a.starts_with("--etcd-cafile"))
        );
    }

    #[test]
    fn an_address_of_ipv6_is_listened_on() {
        let local = |ip: &str| ApiEndpoint { advertise_address: ip.into(), bind_port: 6443 };
        let six = api_server(&cluster(), &local("fd00::1"), true);
        assert!(has(&six, "--bind-address=::") && has(&six, "--etcd-servers=https://[::1]:2379"));
        assert!(!has(&api_server(&cluster(), &local("10.0.0.1"), true), "--bind-address=::"));
    }

    #[test]
    fn a_file_of_authorizers_takes_the_place_of_their_list() {
        let mut cluster = cluster();
        let local = ApiEndpoint { advertise_address: "10.0.0.1".into(), bind_port: 6443 };
        assert!(has(&api_server(&cluster, &local, true), "--authorization-mode=Node,RBAC"));
        cluster.api_server.extra_args = vec![Arg { name: "authorization-config".into(), value: "/x".into() }];
        assert!(!has(&api_server(&cluster, &local, true), "--authorization-mode=Node,RBAC"));
    }

    #[test]
    fn without_the_authoritys_key_nothing_is_signed() {
        let idle = controller_manager(&cluster(), false);
        assert!(!idle.args.iter().any(|a| a.starts_with("--cluster-signing-")));
        let signing = controller_manager(&cluster(), true);
        assert!(has(&signing, "--cluster-signing-key-file=/etc/kubernetes/pki/ca.key"));
        assert!(!signing.args.iter().any(|a| a.starts_with("--cluster-cidr")));
        let local = ApiEndpoint { advertise_address: "10.0.0.1".into(), bind_port: 6443 };
        let checks = |signs| {
            let unit = api_server(&cluster(), &local, signs);
            unit.args.iter().any(|a| a.starts_with("--kubelet-certificate-authority="))
        };
        assert!(checks(true) && !checks(false));
    }
}
