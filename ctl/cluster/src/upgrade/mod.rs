//! `upgrade plan|apply|node`: one machine at a time to the programs of a bundle, and back when they do not work.

mod cluster;
mod journal;
mod plan;
mod steps;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use coxctl_machine::bundle::{self, Bundle};
use kube::Client;

use crate::host::Host;
use crate::local::Local;
use crate::{api, paths, say};
use journal::Journal;

/// Upgrades
#[derive(Debug, clap::Subcommand)]
pub enum UpgradeCommand {
    /// Show what runs where and what it could be upgraded to
    Plan(UpgradeArgs),
    /// Upgrade this control plane, the first of the cluster, and what belongs to the whole cluster
    Apply(UpgradeArgs),
    /// Upgrade this machine
    Node(UpgradeArgs),
}

/// Flags of the upgrade commands.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct UpgradeArgs {
    /// Version to go to, of those installed here (instead of --bundle)
    pub version: Option<String>,
    /// Programs and images from this bundle
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Go on though a check advises against it
    #[arg(short, long)]
    pub force: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Renew the certificates on the way
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub certificate_renewal: bool,
    /// Upgrade etcd too, if its program differs
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub etcd_upgrade: bool,
    /// Show what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Checks whose errors are warnings (`all`: every one)
    #[arg(long, value_delimiter = ',')]
    pub ignore_preflight_errors: Vec<String>,
    /// Kubeconfig for talking to the cluster
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// How much is printed
    #[arg(short, long, default_value_t = 0)]
    pub v: u8,
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
}

/// Runs an upgrade command; the exit code is what is returned.
///
/// # Errors
/// In words that name cause and cure; what was changed is changed back.
pub async fn run(command: UpgradeCommand) -> Result<i32> {
    match command {
        UpgradeCommand::Plan(args) => plan::run(&args).await.map(|()| 0),
        UpgradeCommand::Apply(args) => upgrade(args, true).await,
        UpgradeCommand::Node(args) => upgrade(args, false).await,
    }
}

/// The kubeconfig of this machine's own rights: the administrator's, or the kubelet's.
fn kubeconfig(args: &UpgradeArgs) -> PathBuf {
    let own = if Path::new(paths::ADMIN).exists() { paths::ADMIN } else { paths::KUBELET_CONF };
    args.kubeconfig.clone().unwrap_or_else(|| own.into())
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
    let client = api::client(&kubeconfig(&args), None).await?;
    let run = Run { host, local, client, args, bundle, to, whole };
    say::line("preflight", "Running pre-flight checks");
    cluster::preflight(&run).await?;
    if run.args.dry_run {
        steps::pretend(&run);
        return Ok(0);
    }
    go(&run).await?;
    Ok(0)
}

fn target(args: &UpgradeArgs, bundle: Option<&Bundle>) -> Result<String> {
    match (bundle, &args.version) {
        (Some(bundle), None) => Ok(bundle.index.version.clone()),
        (Some(bundle), Some(wanted))
            if bundle.index.version == *wanted || bundle.index.kubernetes == *wanted =>
        {
            Ok(bundle.index.version.clone())
        }
        (Some(bundle), Some(wanted)) => bail!("the bundle is version {}, not {wanted}", bundle.index.version),
        (None, Some(version)) => Ok(version.clone()),
        (None, None) => bail!(
            "say to what: --bundle FILE, or a version installed here ({})",
            bundle::versions().join(", ")
        ),
    }
}

/// Forward step by step; back when one fails or the command is interrupted.
async fn go(run: &Run) -> Result<()> {
    let journal = Journal::begin(&run.host, bundle::current(), &run.to)?;
    if journal.from.as_deref() == Some(run.to.as_str()) && !journal.resumed {
        say::line(
            "upgrade",
            format_args!("Version {} is the one in use; its daemons are brought in order", run.to),
        );
    }
    let forward = async {
        steps::install(run).await?;
        steps::forward(run).await
    };
    let result = tokio::select! {
        result = forward => result,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = result {
        say::warn("upgrade", &error);
        steps::back(run, journal.from.as_deref()).await.context("going back failed too")?;
        journal.end(&run.host)?;
        bail!("the upgrade to {} failed and was taken back: {error:#}", run.to);
    }
    if run.whole {
        cluster::objects(run).await?;
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

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coxctl_machine::bundle::Index;

    #[test]
    fn the_target_is_the_bundles_version() {
        let index = Index { version: "0.2.0".into(), kubernetes: "v1.36.2".into(), ..Index::default() };
        let bundle = Bundle { file: "b".into(), index };
        let mut args = UpgradeArgs::default();
        assert!(target(&args, None).is_err());
        assert_eq!(target(&args, Some(&bundle)).unwrap(), "0.2.0");
        args.version = Some("v1.36.2".into());
        assert_eq!(target(&args, Some(&bundle)).unwrap(), "0.2.0");
        args.version = Some("0.3.0".into());
        assert!(target(&args, Some(&bundle)).is_err());
        assert_eq!(target(&args, None).unwrap(), "0.3.0");
    }
}
