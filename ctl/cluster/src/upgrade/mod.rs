//! `upgrade plan|diff|apply|node`: one machine at a time to the programs of a bundle, and back when they do not work.

mod args;
mod cluster;
mod diff;
mod journal;
mod plan;
mod skew;
mod steps;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use coxctl_machine::bundle::{self, Bundle};
use kube::Client;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::host::Host;
use crate::local::Local;
use crate::{api, patches, say};
pub use args::UpgradeArgs;
use args::{Command, target};
use journal::Journal;

/// Room beside the new programs.
const SPARE: u64 = 64 << 20;

/// Upgrades
#[derive(Debug, clap::Subcommand)]
pub enum UpgradeCommand {
    /// Show what runs where and what it could be upgraded to
    Plan(UpgradeArgs),
    /// Show what an upgrade would change of this machine's daemons
    Diff(UpgradeArgs),
    /// Upgrade this control plane, the first of the cluster, and what belongs to the whole cluster
    Apply(UpgradeArgs),
    /// Upgrade this machine
    Node(UpgradeArgs),
}

/// What one upgrade works with.
struct Run {
    host: Host,
    local: Local,
    client: Client,
    args: UpgradeArgs,
    bundle: Option<Bundle>,
    to: String,
    whole: bool,
    patches: Option<coxctl_config::Patches>,
}

/// Runs an upgrade command; the exit code is what is returned.
///
/// # Errors
/// In words that name cause and cure; what was changed is changed back.
pub async fn run(command: UpgradeCommand) -> Result<i32> {
    match command {
        UpgradeCommand::Plan(args) => plan::run(&args.settled(Command::Plan)?).await.map(|()| 0),
        UpgradeCommand::Diff(args) => diff::run(&args.settled(Command::Diff)?).await.map(|()| 0),
        UpgradeCommand::Apply(args) => upgrade(args.settled(Command::Apply)?, true).await,
        UpgradeCommand::Node(args) => upgrade(args.settled(Command::Node)?, false).await,
    }
}

async fn upgrade(args: UpgradeArgs, whole: bool) -> Result<i32> {
    say::verbosity(args.v);
    ensure!(
        args.dry_run || nix::unistd::geteuid().is_root(),
        "[ERROR IsPrivilegedUser]: user is not running as root"
    );
    let local = Local::read()?;
    if whole {
        local.api().context(
            "\"upgrade apply\" is for the first control plane; on this machine run \"upgrade node\"",
        )?;
    }
    let bundle = args.bundle.as_deref().map(bundle::open).transpose()?;
    let to = target(&args, bundle.as_ref())?;
    let host = if args.dry_run { Host::dry("upgrade", None)? } else { Host::open(None)? };
    let client = api::client(&args.kubeconfig(), None).await?;
    let given = args.patches();
    patches::check(given.as_ref())?;
    let run =
        Run { host, local, client, patches: patches::given_or_kept(given.as_ref()), args, bundle, to, whole };
    if run.args.print_config {
        print!("{}", coxctl_config::cluster_document(&cluster::configuration(&run).await));
    }
    if !run.args.skips("preflight") {
        say::line("preflight", "Running pre-flight checks");
        skew::check(&run).await?;
        room(&run)?;
        cluster::preflight(&run).await?;
    }
    if run.args.dry_run {
        steps::pretend(&run);
        return Ok(0);
    }
    go(&run).await?;
    Ok(0)
}

/// Is there room for the bundle's programs, if they are still to come?
fn room(run: &Run) -> Result<()> {
    let Some(bundle) = run.bundle.as_ref().filter(|_| !bundle::versions().contains(&run.to)) else {
        return Ok(());
    };
    let needed: u64 = bundle.index.files.iter().filter(|m| m.path.starts_with("bin/")).map(|m| m.size).sum();
    let free = coxctl_machine::preflight::facts::free(Path::new(coxctl_machine::paths::VERSIONS))
        .unwrap_or(u64::MAX);
    ensure!(
        free > needed + SPARE,
        "[ERROR DiskSpace]: {}: the disk is full: {} MB are free, the version {} needs {}; free some space (df -h shows where)",
        coxctl_machine::paths::VERSIONS,
        free >> 20,
        run.to,
        (needed + SPARE) >> 20
    );
    Ok(())
}

/// Forward step by step; back when one fails or the command is interrupted.
async fn go(run: &Run) -> Result<()> {
    let mut interrupts = Interrupts::new()?;
    patches::keep(&run.host, run.args.patches().as_ref())?;
    let journal = Journal::begin(&run.host, bundle::current(), &run.to)?;
    if journal.from.as_deref() == Some(run.to.as_str()) && !journal.resumed {
        say::line(
            "upgrade",
            format_args!("Version {} is the one in use; its daemons are brought in order", run.to),
        );
    }
    let installed = interrupts.unless(steps::install(run)).await;
    if let (Err(error), false) = (&installed, journal.resumed) {
        journal.end(&run.host)?;
        bail!("the upgrade to {} did not begin, nothing that runs was touched: {error:#}", run.to);
    }
    let forward = async {
        installed?;
        steps::forward(run).await
    };
    if let Err(error) = interrupts.unless(forward).await {
        say::warn("upgrade", &error);
        steps::back(run, journal.from.as_deref()).await.context("going back failed too")?;
        journal.end(&run.host)?;
        bail!("the upgrade to {} failed and was taken back: {error:#}", run.to);
    }
    if run.whole {
        let objects = interrupts.unless(cluster::objects(run)).await;
        objects.context(
            "this control plane is upgraded, the cluster's objects are not: run the same command again",
        )?;
    }
    journal.end(&run.host)?;
    match run.whole {
        true => println!(
            "\n[upgrade] SUCCESS! This control plane runs version {}. Now run \"coxctl upgrade node\" on the other machines, one at a time.",
            run.to
        ),
        false => println!("\n[upgrade] SUCCESS! This machine runs version {}.", run.to),
    }
    Ok(())
}

/// The wish to stop: SIGTERM or SIGINT, one that came while nobody could look as well.
struct Interrupts {
    term: Signal,
    int: Signal,
}

impl Interrupts {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("listening for signals");
        Ok(Self { term: of(SignalKind::terminate())?, int: of(SignalKind::interrupt())? })
    }

    /// Runs the work until it ends or somebody interrupts it.
    async fn unless(&mut self, work: impl Future<Output = Result<()>>) -> Result<()> {
        tokio::select! {
            biased;
            _ = self.term.recv() => Err(anyhow::anyhow!("interrupted")),
            _ = self.int.recv() => Err(anyhow::anyhow!("interrupted")),
            result = work => result,
        }
    }
}
