//! Phases `etcd` and `control-plane`: the units, started one right after the other; they wait for each other by themselves.

use anyhow::Result;
use coxctl_machine::Daemon;
use futures::FutureExt;

use super::Run;
use crate::daemons::{control_plane, etcd};
use crate::phase::Phase;
use crate::{node, patches, say};

/// The parts of `etcd`.
pub static ETCD: &[Phase<Run>] =
    &[Phase::step("local", "Start a single-node, local etcd", |r| async { local_etcd(r) }.boxed_local())];

/// The parts of `control-plane`.
pub static PARTS: &[Phase<Run>] = &[
    Phase::step("apiserver", "Start the kube-apiserver", |r| async { api_server(r) }.boxed_local()),
    Phase::step("controller-manager", "Start the kube-controller-manager", |r| {
        async { controller_manager(r) }.boxed_local()
    }),
    Phase::step("scheduler", "Start the kube-scheduler", |r| async { scheduler(r) }.boxed_local()),
    Phase::step(
        "cloud-controller-manager",
        "Start the cloud-controller-manager, if there is a pool of addresses",
        |r| async { cloud(r) }.boxed_local(),
    ),
];

/// Runs a daemon with the user's patches.
fn start(run: &Run, daemon: Daemon) -> Result<()> {
    run.host.run(&patches::daemon(run.config.init.patches.as_ref(), daemon)?)
}

fn signs(run: &Run) -> bool {
    run.host.signs(&run.config.cluster.certificates_dir)
}

fn local_etcd(run: &Run) -> Result<()> {
    let Some(local) = run.local_etcd() else {
        say::line("etcd", "Using an external etcd");
        return Ok(());
    };
    say::line("etcd", "Starting the local etcd");
    crate::etcd::data_dir(&run.host, &local.data_dir)?;
    let member = etcd::Member {
        name: run.node(),
        advertise: &run.config.init.local_api_endpoint.advertise_address,
        pki: &run.config.cluster.certificates_dir,
        local: &local,
        existing: &[],
        version: crate::etcd::program_version(&run.host),
    };
    start(run, etcd::unit(&member))
}

fn api_server(run: &Run) -> Result<()> {
    say::line("control-plane", "Starting \"kube-apiserver\"");
    let local = &run.config.init.local_api_endpoint;
    start(run, control_plane::api_server(&run.config.cluster, local, signs(run)))
}

fn controller_manager(run: &Run) -> Result<()> {
    say::line("control-plane", "Starting \"kube-controller-manager\"");
    start(run, control_plane::controller_manager(&run.config.cluster, signs(run)))
}

fn scheduler(run: &Run) -> Result<()> {
    say::line("control-plane", "Starting \"kube-scheduler\"");
    start(run, control_plane::scheduler(&run.config.cluster))
}

fn cloud(run: &Run) -> Result<()> {
    let Some(config) = run.args.load_balancer()? else { return Ok(()) };
    say::line("control-plane", "Starting \"cloud-controller-manager\"");
    node::cloud(&run.host, &run.config.cluster, &config)?;
    run.host.run(&control_plane::cloud(&run.config.cluster))
}
