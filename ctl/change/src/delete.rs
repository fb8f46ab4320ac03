//! `delete`, and waiting until objects are gone.

use crate::flags::{DryRun, DryRunFlag, duration, error};
use crate::target::{Select, Target, finish, kit_error, select};
use anyhow::Result;
use coxctl_kit::{Call, Cluster, Error, FileArgs, Globals, out};
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// How long to wait when no limit is given: a week.
const LONGEST: Duration = Duration::from_secs(168 * 3600);

/// Flags of `delete`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// TYPE NAME… or TYPE/NAME…
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Delete all resources, in the namespace of the specified resource types.
    #[arg(long)]
    pub all: bool,
    /// If present, list the requested object(s) across all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// The deletion cascading strategy for dependents: "background", "orphan", or "foreground".
    #[arg(long, default_value = "background", num_args = 0..=1, require_equals = true, default_missing_value = "background")]
    pub cascade: String,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Selector (field query) to filter on.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub field_selector: String,
    /// If true, immediately remove resources from API and bypass graceful deletion.
    #[arg(long)]
    pub force: bool,
    /// Period of time in seconds given to the resource to terminate gracefully.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub grace_period: i64,
    /// Treat "resource not found" as a successful delete.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ignore_not_found: Option<bool>,
    /// If true, delete resource only when user confirms.
    #[arg(short, long)]
    pub interactive: bool,
    /// If true, resources are signaled for immediate shutdown (same as --grace-period=1).
    #[arg(long)]
    pub now: bool,
    /// Output mode. Use "-o name" for shorter output (resource/name).
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub output: String,
    /// Raw URI to DELETE to the server.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub raw: String,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// The length of time to wait before giving up on a delete, zero means determine a timeout from the size of the
    /// object.
    #[arg(long, default_value = "0s")]
    pub timeout: String,
    /// If true, wait for resources to be gone before returning.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub wait: bool,
}

/// How an object is deleted.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub propagation: &'static str,
    pub grace: Option<i64>,
}

/// The API's word for `--cascade`.
pub fn propagation(cascade: &str) -> Result<&'static str> {
    match cascade {
        "background" => Ok("Background"),
        "foreground" => Ok("Foreground"),
        "orphan" => Ok("Orphan"),
        "true" | "false" => {
            let modern = if cascade == "true" { "background" } else { "orphan" };
            out::note(&format!(
                "warning: --cascade={cascade} is deprecated (boolean value) and can be replaced with --cascade={modern}."
            ));
            propagation(modern)
        }
        other => Err(error(format!(
            "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
        ))),
    }
}

impl Flags {
    /// The grace period asked for. Nothing but `--force` makes it 0.
    fn grace(&self) -> Result<Option<i64>> {
        if self.now && self.grace_period != -1 {
            return Err(error("--now and --grace-period cannot be specified together"));
        }
        let grace = match (self.now, self.force, self.grace_period) {
            (true, ..) => 1,
            (_, false, 0) => 1,
            (_, true, given) if given < 0 => 0,
            (_, _, given) => given,
        };
        Ok(Some(grace).filter(|g| *g >= 0))
    }

    fn check(&self) -> Result<()> {
        if self.force && self.grace_period > 0 {
            return Err(error("--force and --grace-period greater than 0 cannot be specified together"));
        }
        if !matches!(self.output.as_str(), "" | "name") {
            return Err(error(format!(
                "unexpected -o output mode: {}. We only support '-o name'",
                self.output
            )));
        }
        Ok(())
    }
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let propagation = propagation(&flags.cascade)?;
    let grace = flags.grace()?;
    flags.check()?;
    let timeout = duration(&flags.timeout)?;
    let cluster = globals.connect().await?;
    if !flags.raw.is_empty() {
        let answer = cluster.send(Call::new(Method::DELETE, &flags.raw)).await?;
        out::put(&answer.text());
        return Ok(0);
    }
    let chosen = Select {
        args: &flags.args,
        files: Some(&flags.files),
        labels: &flags.selector,
        fields: &flags.field_selector,
        all: flags.all,
        all_namespaces: flags.all_namespaces,
        as_given: true,
        nothing: Some(crate::set::NOTHING_NAMED.into()),
        ..Select::default()
    };
    let found = select(&cluster, &chosen).await?;
    if flags.interactive && dry == DryRun::None && !confirmed(&found) {
        out::line("deletion is cancelled");
        return Ok(0);
    }
    if found.is_empty() {
        out::line("No resources found");
        return Ok(0);
    }
    if flags.force && grace == Some(0) {
        out::note(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.",
        );
    }
    let options = Deletion { propagation, grace };
    let (gone, mut errors) = delete_all(flags, &cluster, found, dry, &options).await;
    if flags.wait && dry == DryRun::None {
        let waited = wait_for(&cluster, &gone, timeout.unwrap_or(LONGEST)).await;
        errors.extend(waited.err().map(kit_error));
    }
    finish(errors)
}

/// Shows what is to go, and asks.
fn confirmed(found: &[Result<Target, Error>]) -> bool {
    let listed: Vec<&Target> = found.iter().flatten().collect();
    if listed.is_empty() {
        return true;
    }
    out::line(&format!("You are about to delete the following {} resource(s):", listed.len()));
    listed.iter().for_each(|target| out::line(&format!("{}/{}", target.kind.printed(), target.name)));
    ask("Do you want to continue? (y/n): ")
}

/// Deletes one after another; what has been accepted is returned with its UID.
async fn delete_all(
    flags: &Flags,
    cluster: &Cluster,
    found: Vec<Result<Target, Error>>,
    dry: DryRun,
    options: &Deletion,
) -> (Vec<(Target, String)>, Vec<Error>) {
    // Lists are made of what is there; something that vanished meanwhile is no failure.
    let lenient = flags.ignore_not_found.unwrap_or(flags.all || !flags.selector.is_empty());
    let (mut gone, mut errors) = (Vec::new(), Vec::new());
    let mut warned = !cluster.namespace_given || flags.all_namespaces;
    for target in found {
        let target = match target {
            Ok(target) => target,
            Err(e) if lenient && e.is_not_found() => continue,
            Err(e) => {
                errors.push(e);
                continue;
            }
        };
        if !warned && target.namespace.is_none() {
            out::note("Warning: deleting cluster-scoped resources, not scoped to the provided namespace");
            warned = true;
        }
        match delete_one(cluster, &target, dry, options).await {
            Ok(answer) => {
                out::line(&deleted(flags, &target, dry, options));
                gone.push((target, uid(&answer)));
            }
            Err(e) if lenient && e.is_not_found() => {}
            Err(e) => {
                errors.push(if target.source.is_empty() { e } else { e.when("deleting", &target.source) })
            }
        }
    }
    (gone, errors)
}

fn deleted(flags: &Flags, target: &Target, dry: DryRun, options: &Deletion) -> String {
    let kind = target.kind.printed();
    if flags.output == "name" {
        return format!("{kind}/{}", target.name);
    }
    let word = if options.grace == Some(0) { "force deleted" } else { "deleted" };
    let place = target.ns().map(|ns| format!(" from {ns} namespace")).unwrap_or_default();
    format!("{kind} \"{}\" {word}{place}{}", target.name, crate::output::suffix(dry))
}

async fn delete_one(
    cluster: &Cluster,
    target: &Target,
    dry: DryRun,
    options: &Deletion,
) -> Result<Value, Error> {
    if dry == DryRun::Client {
        return Ok(Value::Null);
    }
    let mut body = json!({"propagationPolicy": options.propagation});
    if let Some(grace) = options.grace {
        body["gracePeriodSeconds"] = json!(grace);
    }
    if dry == DryRun::Server {
        body["dryRun"] = json!(["All"]);
    }
    cluster.delete(&target.kind, target.ns(), &target.name, &body).await
}

/// UID of what was deleted: the object itself is the answer, or a Status about it.
fn uid(answer: &Value) -> String {
    let text = match answer["kind"].as_str() {
        Some("Status") => &answer["details"]["uid"],
        _ => &answer["metadata"]["uid"],
    };
    text.as_str().unwrap_or_default().to_string()
}

async fn wait_for(cluster: &Cluster, gone: &[(Target, String)], limit: Duration) -> Result<()> {
    let end = tokio::time::Instant::now() + limit;
    let mut late = Vec::new();
    for (target, uid) in gone {
        match tokio::time::timeout_at(end, until_gone(cluster, target, uid)).await {
            Ok(done) => done?,
            Err(_) => late.push(Error::message(format!(
                "timed out waiting for the condition on {}",
                target.plural_name()
            ))),
        }
    }
    if late.is_empty() { Ok(()) } else { Err(Error::many(late).into()) }
}

/// Follows an object until it is gone or another one has taken its name. Who may not look does not wait.
async fn until_gone(cluster: &Cluster, target: &Target, uid: &str) -> Result<()> {
    loop {
        let live = cluster.get(&target.kind, target.ns(), &target.name, None).await;
        match live {
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) if may_not(&e) => return Ok(()),
            Err(e) => return Err(e.into()),
            Ok(live) if !uid.is_empty() && machinery::meta::uid(&live) != uid => return Ok(()),
            Ok(_) => {}
        }
        let mut events = match cluster.follow(&target.kind, target.ns(), &target.name).await {
            Ok(events) => events,
            Err(e) if may_not(&e) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let mut there = false;
        while let Some(Ok(event)) = events.next().await {
            let same = uid.is_empty() || machinery::meta::uid(&event.object) == uid;
            match event.what.as_str() {
                "DELETED" if same => return Ok(()),
                "ADDED" | "MODIFIED" if !same => return Ok(()),
                "ADDED" => there = true,
                _ => {}
            }
        }
        if !there {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn may_not(error: &Error) -> bool {
    error.is("Forbidden") || error.is("MethodNotAllowed")
}

/// Deletes an object and waits until it is gone; one that isn't there is fine.
pub async fn delete_and_wait(
    cluster: &Cluster,
    target: &Target,
    options: &Deletion,
    timeout: Option<Duration>,
) -> Result<()> {
    let answer = match delete_one(cluster, target, DryRun::None, options).await {
        Err(e) if e.is_not_found() => return Ok(()),
        other => other?,
    };
    let gone = [(target.clone(), uid(&answer))];
    wait_for(cluster, &gone, timeout.unwrap_or(LONGEST)).await
}

/// Asks a question; `y` and `Y` mean yes.
pub fn ask(question: &str) -> bool {
    out::put(question);
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_cascade() {
        assert_eq!(propagation("foreground").ok(), Some("Foreground"));
        assert_eq!(propagation("orphan").ok(), Some("Orphan"));
        assert!(propagation("x").is_err());
    }

    #[test]
    fn uids() {
        assert_eq!(uid(&json!({"kind": "Status", "details": {"uid": "a"}})), "a");
        assert_eq!(uid(&json!({"kind": "Pod", "metadata": {"uid": "b"}})), "b");
    }
}
