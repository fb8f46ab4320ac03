//! `etcd backup|restore|member|status`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use etcd_client::Client;

use super::client::{CALL, Files, connect, connect_any, within};
use super::member::{self, Member};
use super::{backup, restore};
use crate::daemons::etcd as unit;
use crate::host::Host;
use crate::local::Local;
use crate::table;

/// The cluster's etcd
#[derive(Debug, clap::Subcommand)]
pub enum EtcdCommand {
    /// Save all data to a file
    Backup {
        /// The file to write
        file: PathBuf,
    },
    /// Replace all data by that of a file; this machine's etcd becomes a cluster of one
    Restore(RestoreArgs),
    /// The members of etcd
    #[command(subcommand)]
    Member(MemberCommand),
    /// Show every member's state
    Status,
}

/// Flags of `etcd restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// A file written by `etcd backup`
    pub file: PathBuf,
    /// Restore though other members still run
    #[arg(long)]
    pub force: bool,
    /// Only check the file
    #[arg(long)]
    pub verify_only: bool,
    /// Programs from this directory
    #[arg(long, hide = true)]
    pub bin_dir: Option<PathBuf>,
}

/// Commands about members.
#[derive(Debug, clap::Subcommand)]
pub enum MemberCommand {
    /// List the members
    List,
    /// Remove a member, such as that of a machine that is gone
    Remove {
        /// Its name or id
        member: String,
    },
}

/// Runs an etcd command; the exit code is what is returned.
///
/// # Errors
/// In a sentence for the user.
pub async fn run(command: EtcdCommand) -> Result<i32> {
    match command {
        EtcdCommand::Backup { file } => save(&file).await?,
        EtcdCommand::Restore(args) => put_back(args).await?,
        EtcdCommand::Member(MemberCommand::List) => list().await?,
        EtcdCommand::Member(MemberCommand::Remove { member }) => remove(&member).await?,
        EtcdCommand::Status => return status().await,
    }
    Ok(0)
}

/// Where the etcd of this machine's cluster is asked first.
fn endpoints(local: &Local) -> Result<Vec<String>> {
    match &local.cluster.etcd.external {
        Some(external) => Ok(external.endpoints.clone()),
        None => Ok(vec![unit::client_url(&local.api()?.advertise_address)]),
    }
}

async fn connected(local: &Local) -> Result<Client> {
    Ok(connect_any(&endpoints(local)?, &Files::of(&local.cluster)).await?.0)
}

async fn save(file: &std::path::Path) -> Result<()> {
    let local = Local::read()?;
    let made = backup::save(&mut connected(&local).await?, file).await?;
    println!("Saved {} bytes to {}, sha256 {}", made.size, file.display(), made.sha256);
    Ok(())
}

async fn put_back(args: RestoreArgs) -> Result<()> {
    if args.verify_only {
        let found = backup::verify(&args.file)?;
        println!("{} is whole: {} bytes, sha256 {}", args.file.display(), found.size, found.sha256);
        return Ok(());
    }
    let local = Local::read()?;
    let api = local.api()?;
    let own = restore::local(&local.cluster)?;
    let others = others(&local).await;
    let alive: Vec<&str> = others.iter().filter(|o| o.1).map(|o| o.0.as_str()).collect();
    if !alive.is_empty() && !args.force {
        bail!(
            "other members of etcd still run ({}), and would go on with the data of now beside the restored; run \"coxctl reset\" on those machines first, or restore with --force and do so afterwards",
            alive.join(", ")
        );
    }
    let host = Host::open(args.bin_dir.as_deref())?;
    let wanted = restore::Wanted {
        file: &args.file,
        cluster: &local.cluster,
        local: own,
        node: local.node.clone(),
        advertise: api.advertise_address.clone(),
        endpoint: local.endpoint()?,
    };
    let old = restore::run(&host, &wanted).await?;
    println!("Restored {}.", args.file.display());
    if let Some(old) = old {
        println!("The data of before is kept in {}; remove it when you are sure.", old.display());
    }
    print!("{}", restore::advice(&others.into_iter().map(|o| o.0).collect::<Vec<_>>()));
    Ok(())
}

/// The other members: name, and whether it answers. None are known when this machine's own etcd does not answer.
async fn others(local: &Local) -> Vec<(String, bool)> {
    let files = Files::of(&local.cluster);
    let Ok(endpoints) = endpoints(local) else { return Vec::new() };
    let Some(first) = endpoints.first() else { return Vec::new() };
    let Ok(mut client) = connect(first, &files).await else { return Vec::new() };
    let members = member::list(&mut client).await.unwrap_or_default();
    let each = members.iter().filter(|m| m.name != local.node).map(|member| {
        let files = &files;
        async move {
            let asked = futures::future::join_all(member.clients.iter().map(|url| asked(url, files))).await;
            (member.name.clone(), asked.iter().any(Result::is_ok))
        }
    });
    futures::future::join_all(each).await
}

async fn asked(url: &str, files: &Files) -> Result<etcd_client::StatusResponse> {
    let mut client = connect(url, files).await?;
    within(CALL, client.status()).await
}

async fn list() -> Result<()> {
    let local = Local::read()?;
    let members = member::list(&mut connected(&local).await?).await?;
    let mut rows = vec![["ID", "NAME", "STATUS", "PEER ADDRS", "CLIENT ADDRS"].map(str::to_string)];
    rows.extend(members.iter().map(row));
    print!("{}", table::render(&rows));
    Ok(())
}

fn row(m: &Member) -> [String; 5] {
    let state = match (m.name.is_empty(), m.learner) {
        (true, _) => "unstarted",
        (false, true) => "learner",
        (false, false) => "voter",
    };
    [format!("{:x}", m.id), m.name.clone(), state.into(), m.peers.join(","), m.clients.join(",")]
}

async fn remove(who: &str) -> Result<()> {
    let local = Local::read()?;
    let mut client = connected(&local).await?;
    let members = member::list(&mut client).await?;
    let found = member::find(&members, who)?;
    ensure!(members.len() > 1, "{who} is the only member of etcd");
    within(CALL, client.member_remove(found.id)).await.with_context(|| format!("removing {who}"))?;
    println!("Member {} ({:x}) removed", found.name, found.id);
    Ok(())
}

/// Every member's state; the exit code is 1 when one does not answer.
async fn status() -> Result<i32> {
    let local = Local::read()?;
    let files = Files::of(&local.cluster);
    let first = endpoints(&local)?;
    let mut client = connect(first.first().context("no endpoint of etcd is known")?, &files).await?;
    let members = member::list(&mut client).await?;
    let mut rows =
        vec![["NAME", "ENDPOINT", "VERSION", "DB SIZE", "LEADER", "RAFT INDEX", "ERROR"].map(str::to_string)];
    let mut code = 0;
    for member in &members {
        let url = member.clients.first().cloned().unwrap_or_default();
        let row = match asked(&url, &files).await {
            Ok(s) => [
                member.name.clone(),
                url,
                s.version().into(),
                format!("{:.1} MB", s.db_size() as f64 / 1e6),
                (s.leader() == member.id).to_string(),
                s.raft_index().to_string(),
                s.errors().join("; "),
            ],
            Err(error) => {
                code = 1;
                let blank = String::new;
                [member.name.clone(), url, blank(), blank(), blank(), blank(), format!("{error:#}")]
            }
        };
        rows.push(row);
    }
    print!("{}", table::render(&rows));
    Ok(code)
}
