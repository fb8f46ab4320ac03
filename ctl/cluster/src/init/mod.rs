//! `init`: from a bare machine to a control plane, in kubeadm's phases.

mod addons;
pub mod args;
mod bootstrap;
mod certs;
mod closing;
mod control_plane;
mod machine;
mod upload;
mod wait;

pub use args::InitArgs;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use coxctl_config::{Facts, GoDuration, Init, LocalEtcd, Timeouts, local_endpoint};
use coxctl_machine::bundle::Bundle;
use futures::FutureExt;
use kube::Client;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::host::Host;
use crate::phase::{self, Phase};
use crate::{api, paths, say};

/// What the phases of one `init` share.
pub struct Run {
    /// The machine.
    pub host: Host,
    /// File, flags and defaults.
    pub config: Init,
    /// The flags.
    pub args: InitArgs,
    /// What the machine says of itself.
    pub facts: Facts,
    bundle: Option<Bundle>,
    admin: OnceCell<Client>,
    state: Mutex<State>,
}

/// What earlier phases leave for later ones.
#[derive(Default)]
struct State {
    images: Option<tokio::task::JoinHandle<Result<()>>>,
    certificate_key: Option<String>,
}

/// The phases in order.
pub static PHASES: [Phase<Run>; 17] = [
    Phase::step("preflight", "Run pre-flight checks", |r| machine::preflight(r).boxed_local()),
    Phase::step("bundle", "Install programs and images from the bundle", |r| {
        machine::bundle(r).boxed_local()
    }),
    Phase::group("certs", "Certificate generation", certs::CERTS),
    Phase::group(
        "kubeconfig",
        "Generate all kubeconfig files necessary to establish the control plane",
        certs::KUBECONFIGS,
    ),
    Phase::step("balancer", "Start the local balancer", |r| machine::balancer(r).boxed_local()),
    Phase::group("etcd", "Start a local etcd", control_plane::ETCD),
    Phase::group("control-plane", "Start the control plane", control_plane::PARTS),
    Phase::step("kubelet-start", "Write kubelet settings and (re)start the kubelet", |r| {
        machine::kubelet(r).boxed_local()
    }),
    Phase::step("wait-control-plane", "Wait for the control plane to start", |r| {
        wait::control_plane(r).boxed_local()
    }),
    Phase::group("upload-config", "Upload the configurations to ConfigMaps", upload::CONFIG),
    Phase::step("upload-certs", "Upload certificates to kubeadm-certs", |r| upload::certs(r).boxed_local())
        .together(),
    Phase::step("mark-control-plane", "Mark a node as a control-plane", |r| bootstrap::mark(r).boxed_local())
        .together(),
    Phase::step("bootstrap-token", "Generate bootstrap tokens used to join a node to a cluster", |r| {
        bootstrap::token(r).boxed_local()
    })
    .together(),
    Phase::group(
        "kubelet-finalize",
        "Update settings relevant to the kubelet after TLS bootstrap",
        bootstrap::FINALIZE,
    ),
    Phase::group("addon", "Install required addons for passing conformance tests", addons::PARTS),
    Phase::step("rotation", "Start the renewal of certificates", |r| {
        async { machine::rotation(r) }.boxed_local()
    })
    .together(),
    Phase::step("show-join-command", "Show the join command for control-plane and worker nodes", |r| {
        closing::show(r).boxed_local()
    }),
];

/// Runs `init` or one phase of it; the exit code is what is returned.
///
/// # Errors
/// In words that name the phase, the cause and, where one is known, the cure.
pub async fn run(args: InitArgs) -> Result<i32> {
    say::verbosity(args.machine.v);
    let begin = Instant::now();
    let facts = Facts::gather();
    let config = args.configuration(&facts)?;
    let only = args.only();
    let steps = phase::select(&PHASES, &only, &config.init.skip_phases)?;
    if only.is_empty() {
        say::line("init", format_args!("Using Kubernetes version: {}", config.cluster.kubernetes_version));
    }
    let run = Run::new(args, config, facts)?;
    phase::run("init", &steps, &run).await?;
    if only.is_empty() && !run.host.is_dry() {
        run.host.made().finish()?;
    }
    run.host.tell_dry();
    say::detail(format_args!("[init] done ({:.2} s)", begin.elapsed().as_secs_f64()));
    Ok(0)
}

impl Run {
    fn new(args: InitArgs, mut config: Init, facts: Facts) -> Result<Self> {
        let bin_dir = args.machine.bin_dir.as_deref();
        let bundle = args.machine.bundle.as_deref().map(coxctl_machine::bundle::open).transpose()?;
        let host = match config.init.dry_run {
            true => Host::dry("init", bin_dir)?,
            false => Host::open(bin_dir)?,
        };
        // What is there already counts, as in a run that is not dry.
        host.mirror(&config.cluster.certificates_dir)?;
        for spec in
            coxctl_pki::cluster_kubeconfigs(&config.cluster, "", &config.init.local_api_endpoint, true)
        {
            host.mirror(&format!("{}/{}", paths::KUBERNETES, spec.file))?;
        }
        let addons = args.only().first().is_some_and(|phase| phase == "addon");
        anyhow::ensure!(addons || !args.print_manifest, "--print-manifest is for \"init phase addon\"");
        disable_skipped(&mut config);
        crate::patches::check(config.init.patches.as_ref())?;
        Ok(Self { host, config, args, facts, bundle, admin: OnceCell::new(), state: Mutex::default() })
    }

    /// The node's name.
    fn node(&self) -> &str {
        &self.config.init.node_registration.name
    }

    /// `HOST:PORT` of this machine's API server.
    fn endpoint(&self) -> String {
        local_endpoint(&self.config.init.local_api_endpoint)
    }

    /// A file of the PKI directory, as daemons are told.
    fn pki(&self, file: &str) -> String {
        format!("{}/{file}", self.config.cluster.certificates_dir)
    }

    fn ca(&self) -> Result<String> {
        self.host.read(&self.pki("ca.crt"))
    }

    fn timeouts(&self) -> Timeouts {
        self.config.init.timeouts.clone().unwrap_or_default()
    }

    fn api_limit(&self) -> Duration {
        limit(self.timeouts().kubernetes_api_call, 60)
    }

    /// The administrator's client, to this machine's API server. The first use makes sure that the administrators have
    /// their rights, with the kubeconfig above all rights if need be.
    async fn admin(&self) -> Result<&Client> {
        self.admin.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Client> {
        let url = format!("https://{}", self.endpoint());
        if let Some(own) = &self.args.kubeconfig {
            return api::client(own, None).await;
        }
        let admin = api::client(Path::new(paths::ADMIN), Some(&url)).await?;
        let binding = api::objects::cluster_admins();
        match api::create(&admin, &binding).await {
            Ok(()) => return Ok(admin),
            Err(kube::Error::Api(status)) if status.code == 403 => {}
            Err(error) if api::transient(&error) => {}
            Err(error) => return Err(api::plain(error)),
        }
        let above = match Path::new(paths::SUPER_ADMIN).exists() {
            true => api::client(Path::new(paths::SUPER_ADMIN), Some(&url)).await?,
            false => admin.clone(),
        };
        api::retry(self.api_limit(), async || api::create(&above, &binding).await).await?;
        Ok(admin)
    }

    /// Makes or changes objects; a dry run prints them.
    async fn apply(&self, objects: Vec<Value>) -> Result<()> {
        if self.host.is_dry() {
            objects.iter().for_each(pretend);
            return Ok(());
        }
        api::apply_all(self.admin().await?, objects, self.api_limit()).await
    }

    /// Makes an addon's objects, or prints them; true when that is all that was wanted.
    async fn addon(&self, objects: Vec<Value>) -> Result<bool> {
        if self.args.print_manifest {
            print!("---\n{}", coxctl_config::documents(&objects));
            return Ok(true);
        }
        self.apply(objects).await.map(|()| false)
    }

    fn local_etcd(&self) -> Option<LocalEtcd> {
        local_etcd(&self.config.cluster)
    }
}

/// The part of the configuration about an etcd of our own; `None` when it is elsewhere.
pub fn local_etcd(cluster: &coxctl_config::ClusterConfiguration) -> Option<LocalEtcd> {
    if cluster.etcd.external.is_some() {
        return None;
    }
    let mut local = cluster.etcd.local.clone().unwrap_or_default();
    if local.data_dir.is_empty() {
        local.data_dir = "/var/lib/etcd".into();
    }
    Some(local)
}

/// A limit of the configuration, else so many seconds.
pub fn limit(given: Option<GoDuration>, seconds: u64) -> Duration {
    given.map_or(Duration::from_secs(seconds), GoDuration::std)
}

fn pretend(object: &Value) {
    say::line("dryrun", format_args!("Would create or update {}", api::title(object)));
    if object["kind"] != "Secret" {
        print!("{}", serde_yaml::to_string(object).unwrap_or_default());
    }
}

/// Leaving an addon out is part of the configuration that is uploaded.
fn disable_skipped(config: &mut Init) {
    let skipped = |name: &str| config.init.skip_phases.iter().any(|s| s == "addon" || s == name);
    let (dns, proxy) = (skipped("addon/coredns") || skipped("addon/dns"), skipped("addon/kube-proxy"));
    config.cluster.dns.disabled |= dns;
    config.cluster.proxy.disabled |= proxy;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_are_kubeadms_and_ours() {
        let names = phase::names(&PHASES);
        let want = "preflight, bundle, certs/ca, certs/apiserver, certs/apiserver-kubelet-client, certs/front-proxy-ca, \
            certs/front-proxy-client, certs/etcd-ca, certs/etcd-server, certs/etcd-peer, certs/etcd-healthcheck-client, \
            certs/apiserver-etcd-client, certs/sa, kubeconfig/admin, kubeconfig/super-admin, kubeconfig/kubelet, \
            kubeconfig/controller-manager, kubeconfig/scheduler, balancer, etcd/local, control-plane/apiserver, \
            control-plane/controller-manager, control-plane/scheduler, control-plane/cloud-controller-manager, kubelet-start, wait-control-plane, \
            upload-config/kubeadm, upload-config/kubelet, upload-certs, mark-control-plane, bootstrap-token, \
            kubelet-finalize/enable-client-cert-rotation, addon/coredns, addon/kube-proxy, addon/network, addon/metrics-server, \
            addon/local-path, addon/load-balancer, rotation, show-join-command";
        assert_eq!(names, want);
    }

    #[test]
    fn a_skipped_addon_is_a_disabled_one() {
        let mut config = Init::default();
        config.init.skip_phases = vec!["addon/kube-proxy".into()];
        disable_skipped(&mut config);
        assert!(config.cluster.proxy.disabled && !config.cluster.dns.disabled);
    }
}
