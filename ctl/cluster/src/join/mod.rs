//! `join`: a machine becomes a node of a cluster, as a worker or as one more control plane, in kubeadm's phases.

pub mod args;
mod claim;
mod control_plane;
mod etcd;
mod fetch;
mod worker;

pub use args::JoinArgs;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use coxctl_config::{ApiEndpoint, Facts, GoDuration, Join, Timeouts, local_endpoint};
use coxctl_machine::bundle::Bundle;
use futures::FutureExt;
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::discovery::{self, Found};
use crate::host::Host;
use crate::init::limit;
use crate::phase::{self, Phase};
use crate::{api, paths, say};

/// What the phases of one `join` share.
pub struct Run {
    /// The machine.
    pub host: Host,
    /// File, flags and defaults.
    pub config: Join,
    /// The flags.
    pub args: JoinArgs,
    /// What the machine says of itself.
    pub facts: Facts,
    bundle: Option<Bundle>,
    found: OnceCell<Found>,
    fetched: OnceCell<fetch::Fetched>,
    images: Mutex<Option<tokio::task::JoinHandle<Result<()>>>>,
    /// The machine that had this node's name when this join began.
    before: Mutex<Option<String>>,
}

/// The phases in order.
pub static PHASES: [Phase<Run>; 12] = [
    Phase::step("preflight", "Run join pre-flight checks", |r| worker::preflight(r).boxed_local()),
    Phase::step("bundle", "Install programs and images from the bundle", |r| worker::bundle(r).boxed_local()),
    Phase::step("balancer", "Start the local balancer", |r| worker::balancer(r).boxed_local()),
    Phase::group(
        "control-plane-prepare",
        "Prepare the machine for serving a control plane",
        control_plane::PREPARE,
    ),
    Phase::step("check-etcd", "Check cluster health for etcd join", |r| etcd::check(r).boxed_local()),
    Phase::step("kubelet-start", "Write kubelet settings, certificates and (re)start the kubelet", |r| {
        worker::kubelet(r).boxed_local()
    }),
    Phase::step("node-agents", "Start the service proxy and the network agent", |r| {
        worker::agents(r).boxed_local()
    }),
    Phase::step("etcd-join", "Join etcd for control plane nodes", |r| etcd::join(r).boxed_local()),
    Phase::step("control-plane-start", "Start the control plane", |r| control_plane::start(r).boxed_local()),
    Phase::step("kubelet-wait-bootstrap", "Wait for the kubelet to bootstrap itself", |r| {
        worker::wait(r).boxed_local()
    }),
    Phase::group("control-plane-join", "Join a machine as a control plane instance", control_plane::JOIN),
    Phase::step("wait-control-plane", "Wait for the control plane to start", |r| {
        control_plane::wait(r).boxed_local()
    })
    .together(),
];

/// Runs `join` or one phase of it; the exit code is what is returned.
///
/// # Errors
/// In words that name the phase, the cause and, where one is known, the cure.
pub async fn run(args: JoinArgs) -> Result<i32> {
    say::verbosity(args.machine.v);
    let begin = Instant::now();
    let facts = Facts::gather();
    let config = args.configuration(&facts)?;
    let only = args.only();
    let steps = phase::select(&PHASES, &only, &config.join.skip_phases)?;
    let run = Run::new(args, config, facts)?;
    phase::run("join", &steps, &run).await?;
    if only.is_empty() && !run.host.is_dry() {
        run.host.made().finish()?;
        let external = run.fetched().await?.cluster.etcd.external.is_some();
        print!("{}", closing(run.control().is_some(), external));
    }
    run.host.tell_dry();
    say::detail(format_args!("[join] done ({:.2} s)", begin.elapsed().as_secs_f64()));
    Ok(0)
}

fn closing(control_plane: bool, external_etcd: bool) -> String {
    let member = "* A new etcd member was added to the local/stacked etcd cluster.\n";
    let text = match control_plane {
        false => {
            "\nThis node has joined the cluster:\n\
            * Certificate signing request was sent to apiserver and a response was received.\n\
            * The Kubelet was informed of the new secure connection details.\n\n\
            Run 'kubectl get nodes' on the control-plane to see this node join the cluster.\n"
        }
        true => {
            "\nThis node has joined the cluster and a new control plane instance was created:\n\
            * Certificate signing request was sent to apiserver and approval was received.\n\
            * The Kubelet was informed of the new secure connection details.\n\
            * Control plane label and taint were applied to the new node.\n\
            * The Kubernetes control plane instances scaled up.\n\
            * A new etcd member was added to the local/stacked etcd cluster.\n\n\
            To start administering your cluster from this node, you need to run the following as a regular user:\n\n\
            \tmkdir -p $HOME/.kube\n\tsudo cp -i /etc/kubernetes/admin.conf $HOME/.kube/config\n\
            \tsudo chown $(id -u):$(id -g) $HOME/.kube/config\n\n\
            Run 'kubectl get nodes' to see this node join the cluster.\n"
        }
    };
    if external_etcd { text.replace(member, "") } else { text.into() }
}

impl Run {
    fn new(args: JoinArgs, config: Join, facts: Facts) -> Result<Self> {
        ensure!(
            config.join.dry_run || nix::unistd::geteuid().is_root(),
            "[ERROR IsPrivilegedUser]: user is not running as root"
        );
        crate::patches::check(config.join.patches.as_ref())?;
        let bin_dir = args.machine.bin_dir.as_deref();
        let bundle = args.machine.bundle.as_deref().map(coxctl_machine::bundle::open).transpose()?;
        let host = match config.join.dry_run {
            true => Host::dry("join", bin_dir)?,
            false => Host::open(bin_dir)?,
        };
        Ok(Self {
            host,
            config,
            args,
            facts,
            bundle,
            found: OnceCell::new(),
            fetched: OnceCell::new(),
            images: Mutex::default(),
            before: Mutex::default(),
        })
    }

    /// The node's name.
    fn node(&self) -> &str {
        &self.config.join.node_registration.name
    }

    /// This machine's API server, when it becomes a control plane.
    fn control(&self) -> Option<&ApiEndpoint> {
        self.config.join.control_plane.as_ref().map(|c| &c.local_api_endpoint)
    }

    /// `HOST:PORT` of this machine's API server; empty on workers.
    fn own_endpoint(&self) -> String {
        self.control().map(local_endpoint).unwrap_or_default()
    }

    fn timeouts(&self) -> Timeouts {
        self.config.join.timeouts.clone().unwrap_or_default()
    }

    fn api_limit(&self) -> Duration {
        limit(self.timeouts().kubernetes_api_call, 60)
    }

    /// The cluster, found and trusted once.
    async fn found(&self) -> Result<&Found> {
        let given = self.timeouts().discovery;
        let explicit = given.is_some_and(|d| d != GoDuration::minutes(5));
        self.found
            .get_or_try_init(|| discovery::find(&self.config.join.discovery, limit(given, 300), explicit))
            .await
    }

    /// A client that shows the bootstrap credentials.
    async fn bootstrap(&self) -> Result<Client> {
        let found = self.found().await?;
        let document = api::objects::kubeconfig(
            &found.cluster.server,
            None,
            &api::objects::Ca::Pem(&found.cluster.ca_pem),
            "tls-bootstrap-token-user",
            found.credentials.clone(),
        );
        api::client_from(&serde_yaml::to_string(&document)?).await
    }

    /// The cluster's configuration, read once.
    async fn fetched(&self) -> Result<&fetch::Fetched> {
        self.fetched.get_or_try_init(|| fetch::fetch(self)).await
    }

    /// The administrator's client on a joining control plane, to an API server that lives.
    async fn admin(&self) -> Result<Client> {
        let server = self.found().await?.cluster.server.clone();
        api::client(Path::new(paths::ADMIN), Some(&server)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_are_spoken_of() {
        assert!(closing(true, false).contains("etcd member"));
        assert!(!closing(true, true).contains("etcd member") && !closing(false, false).contains("etcd"));
    }

    #[test]
    fn the_phases_are_kubeadms_and_ours() {
        let want = "preflight, bundle, balancer, control-plane-prepare/download-certs, control-plane-prepare/certs, \
            control-plane-prepare/kubeconfig, control-plane-prepare/control-plane, check-etcd, kubelet-start, node-agents, \
            etcd-join, control-plane-start, kubelet-wait-bootstrap, control-plane-join/mark-control-plane, \
            wait-control-plane";
        assert_eq!(phase::names(&PHASES), want);
    }
}
