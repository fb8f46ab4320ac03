//! `reset`: takes back exactly what was made on this machine, and says what it leaves and why.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use coxctl_config::{Facts, ResetConfiguration, default_reset, read_reset, validate_reset};
use coxctl_machine::clean;
use coxctl_machine::made::{Entry, Report};
use futures::FutureExt;

use crate::args::{check, refuse, set};
use crate::daemons::{self, etcd as unit};
use crate::etcd::client::{CALL, Files, connect_any, within};
use crate::etcd::member;
use crate::host::Host;
use crate::local::Local;
use crate::phase::{self, Phase};
use crate::{paths, say};

/// How long the members of etcd are given to let this one go.
const LEAVING: Duration = Duration::from_secs(20);

/// Flags of `reset`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ResetArgs {
    /// Run one phase alone: `phase NAME`
    #[command(subcommand)]
    pub phase: Option<crate::init::args::PhaseCommand>,
    /// Configuration file (kubeadm.k8s.io/v1beta4)
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
    /// Directory of certificates
    #[arg(long, global = true)]
    pub cert_dir: Option<String>,
    /// Socket of the container runtime
    #[arg(long, global = true)]
    pub cri_socket: Option<String>,
    /// Do not ask
    #[arg(short, long, global = true)]
    pub force: bool,
    /// Also empty /etc/kubernetes/tmp
    #[arg(long, global = true)]
    pub cleanup_tmp_dir: bool,
    /// Show what would be done, change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Checks whose errors are warnings (`all`: every one)
    #[arg(long, global = true, value_delimiter = ',')]
    pub ignore_preflight_errors: Vec<String>,
    /// Phases to leave out
    #[arg(long, global = true, value_delimiter = ',')]
    pub skip_phases: Vec<String>,
    /// Kubeconfig for asking the cluster
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// How much is printed
    #[arg(short, long, global = true, default_value_t = 0)]
    pub v: u8,
}

struct Run {
    host: Host,
    config: ResetConfiguration,
    local: Option<Local>,
}

static PHASES: [Phase<Run>; 3] = [
    Phase::step("preflight", "Run reset pre-flight checks", |r| async { preflight(r) }.boxed_local()),
    Phase::step("remove-etcd-member", "Remove a local etcd member", |r| leave(r).boxed_local()),
    Phase::step("cleanup-node", "Run cleanup node", |r| clean_up(r).boxed_local()),
];

/// Runs `reset`; the exit code is what is returned.
///
/// # Errors
/// When it may not go on; what can't be removed is only told.
pub async fn run(args: ResetArgs) -> Result<i32> {
    say::verbosity(args.v);
    let config = configuration(&args)?;
    let only = match &args.phase {
        Some(crate::init::args::PhaseCommand::Phase { name }) => name.clone(),
        None => Vec::new(),
    };
    let steps = phase::select(&PHASES, &only, &config.skip_phases)?;
    ensure!(
        config.dry_run || nix::unistd::geteuid().is_root(),
        "[ERROR IsPrivilegedUser]: user is not running as root"
    );
    let host = if config.dry_run { Host::dry("reset", None)? } else { Host::open(None)? };
    let run = Run { host, config, local: Local::read().ok() };
    phase::run("reset", &steps, &run).await?;
    Ok(0)
}

fn configuration(args: &ResetArgs) -> Result<ResetConfiguration> {
    let mut config = match &args.config {
        Some(file) => {
            refuse(&[("cert-dir", args.cert_dir.is_some()), ("cri-socket", args.cri_socket.is_some())])?;
            let text =
                std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            let (config, warnings) = read_reset(&text).with_context(|| file.display().to_string())?;
            warnings.iter().for_each(|w| say::warn("config", w));
            config
        }
        None => ResetConfiguration::default(),
    };
    set(&mut config.certificates_dir, &args.cert_dir);
    set(&mut config.cri_socket, &args.cri_socket);
    config.force |= args.force;
    config.dry_run |= args.dry_run;
    config.cleanup_tmp_dir |= args.cleanup_tmp_dir;
    config.ignore_preflight_errors.extend(args.ignore_preflight_errors.iter().cloned());
    config.skip_phases.extend(args.skip_phases.iter().cloned());
    default_reset(&mut config, &Facts::gather());
    check(validate_reset(&config))?;
    Ok(config)
}

fn preflight(run: &Run) -> Result<()> {
    say::line("preflight", "Running pre-flight checks");
    if run.config.force || run.config.dry_run {
        return Ok(());
    }
    eprintln!(
        "[reset] WARNING: Changes made to this host by 'coxctl init' or 'coxctl join' will be reverted."
    );
    ensure!(std::io::stdin().is_terminal() || !at_end()?, "nobody is there to ask; use --force");
    print!("[reset] Are you sure you want to proceed? [y/N]: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("aborted reset operation"),
    }
}

fn at_end() -> Result<bool> {
    Ok(std::io::stdin().lock().fill_buf()?.is_empty())
}

/// The other members must not count on one that is about to lose its data. A failure is a warning: the data goes anyway.
async fn leave(run: &Run) -> Result<()> {
    let Some(local) = run.local.as_ref().filter(|l| l.control_plane.is_some()) else { return Ok(()) };
    let begun = run.host.is_dry() || run.host.made().has_unit(daemons::ETCD);
    if local.cluster.etcd.external.is_some() {
        say::line("reset", "The etcd is elsewhere: its data stays, and is yours to remove");
        return Ok(());
    }
    if !begun {
        return Ok(());
    }
    if run.host.is_dry() {
        say::line("dryrun", "Would remove this machine's member from etcd");
        return Ok(());
    }
    if let Err(error) = remove_member(local).await {
        say::warn("reset", format_args!("Failed to remove the etcd member: {error:#}"));
        eprintln!(
            "\tIf other control planes live, run \"coxctl etcd member remove {}\" on one of them.",
            local.node
        );
    }
    Ok(())
}

async fn remove_member(local: &Local) -> Result<()> {
    let own = unit::peer_url(&local.api()?.advertise_address);
    let files = Files::local(Path::new(&local.cluster.certificates_dir));
    let (end, mut pause) = (Instant::now() + LEAVING, Duration::from_millis(100));
    loop {
        let error = match remove_once(local, &own, &files).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let later = ["unhealthy", "leader", "timed out", "not enough started"];
        let text = format!("{error:#}");
        if Instant::now() > end || !later.iter().any(|w| text.contains(w)) {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn remove_once(local: &Local, own: &str, files: &Files) -> Result<()> {
    let here = unit::client_url(&local.api()?.advertise_address);
    let (mut client, _) = connect_any(&[here], files).await?;
    let members = member::list(&mut client).await?;
    let Some(found) = members.iter().find(|m| m.peers.iter().any(|u| u == own)) else { return Ok(()) };
    if members.len() == 1 {
        return Ok(());
    }
    // Asked of another member: this one ends as soon as it is removed, perhaps before it can answer.
    let others: Vec<String> =
        members.iter().filter(|m| m.id != found.id).flat_map(|m| m.clients.clone()).collect();
    let mut client = match connect_any(&others, files).await {
        Ok((other, _)) => other,
        Err(_) => client,
    };
    within(CALL, client.member_remove(found.id)).await?;
    say::line("reset", format_args!("Removed the etcd member {} ({:x})", found.name, found.id));
    Ok(())
}

/// Stops and removes the daemons, then pods and what they left, then files, links, settings.
async fn clean_up(run: &Run) -> Result<()> {
    let socket = match run.config.cri_socket.as_str() {
        "" => run.local.as_ref().map(|l| l.cri_socket.clone()).unwrap_or_default(),
        given => given.to_string(),
    };
    if run.host.is_dry() {
        pretend();
        return Ok(());
    }
    if run.host.made().is_empty() {
        say::line("reset", "Nothing was made on this machine by coxctl");
        return Ok(());
    }
    say::line("reset", "Stopping the daemons");
    let mut report = run.host.undo_units()?;
    say::line("reset", "Unmounting mounted directories and removing pods");
    let wanted = clean::Wanted { cri_socket: socket, unmount_flags: run.config.unmount_flags.clone() };
    report.extend(clean::all(&wanted).await);
    if run.config.cleanup_tmp_dir {
        let _ = std::fs::remove_dir_all(paths::TMP);
    }
    say::line("reset", "Removing what was made");
    report.extend(run.host.undo()?);
    tell(run, &report);
    Ok(())
}

fn pretend() {
    let Ok(made) = coxctl_machine::Made::read() else { return };
    for entry in made.entries().iter().rev() {
        say::line("dryrun", format_args!("Would {}", words(entry)));
    }
}

/// What taking back an entry means.
fn words(entry: &Entry) -> String {
    match entry {
        Entry::File { path, before: None } => format!("remove {}", path.display()),
        Entry::File { path, before: Some(_) } => format!("put back what {} was before", path.display()),
        Entry::Dir { path } => format!("remove the directory {} if it is empty", path.display()),
        Entry::Contents { path, existed: true, .. } => format!("empty {}", path.display()),
        Entry::Contents { path, .. } => format!("remove {} and what is in it", path.display()),
        Entry::Link { path, .. } => format!("remove the link {}", path.display()),
        Entry::Unit { name } => format!("stop and remove {name}"),
        Entry::Sysctl { name, old, .. } => format!("set {} back to {old}", name.replace('/', ".")),
    }
}

fn tell(run: &Run, report: &Report) {
    report.removed.iter().for_each(|r| say::detail(format_args!("[reset] removed {r}")));
    say::line("reset", format_args!("Removed {} things", report.removed.len()));
    for (what, why) in &report.left {
        say::line("reset", format_args!("Left {what}: {why}"));
    }
    let node = run.local.as_ref().map(|l| l.node.as_str()).unwrap_or("NAME");
    println!(
        "\nNot touched: the Node object (\"kubectl delete node {node}\" removes it), container images, the container runtime, and\nkubeconfig files of users ($HOME/.kube/config)."
    );
}
