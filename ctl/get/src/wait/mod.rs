//! `wait`: until objects are as somebody wants them.

mod goal;

use std::time::Duration;

use clap::Args;
use coxctl_kit::print::output::OBJECT_FORMATS;
use coxctl_kit::{Cluster, Error, FileArgs, Globals, Item, Pick, PrintArgs, Result, Wanted, out};
use futures::StreamExt;
use serde_json::Value;
use tokio::time::Instant;

use goal::Goal;

/// How long a negative timeout waits: a week.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// How soon a watch that ended is begun again, and how often an object to come is looked for.
const AGAIN: Duration = Duration::from_secs(1);

/// The flags of `wait`.
#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    pub words: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    #[command(flatten)]
    pub print: PrintArgs,
    /// The condition to wait on: [create|delete|condition=condition-name[=condition-value]|jsonpath='{JSONPath expression}'=[JSONPath value]]
    #[arg(long = "for", default_value = "")]
    pub goal: String,
    /// The length of time to wait before giving up. Zero means check once and don't wait, negative means wait for a week
    #[arg(long, default_value = "30s", allow_hyphen_values = true)]
    pub timeout: String,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Selector (field query) to filter on
    #[arg(long = "field-selector")]
    pub field_selector: Option<String>,
    /// Select all resources in the namespace of the specified resource types
    #[arg(long)]
    pub all: bool,
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long = "all-namespaces")]
    pub all_namespaces: bool,
    /// If true, annotation will NOT contact api-server but run locally
    #[arg(long)]
    pub local: bool,
}

/// Waits for all objects in turn.
pub async fn run(args: &WaitArgs, globals: &Globals) -> Result<i32> {
    let goal = Goal::parse(&args.goal)?;
    let timeout = timeout(&args.timeout)?;
    let mut printer = args.print.printer(OBJECT_FORMATS)?;
    let cluster = globals.connect().await?;
    let (items, mut errors) = items(args, &cluster, &goal, timeout).await?;
    if items.is_empty() && errors.is_empty() && !matches!(goal, Goal::Deleted) {
        return Err(Error::message("no matching resources found"));
    }
    for item in items {
        let waiting = Waiting { cluster: &cluster, goal: &goal, timeout, until: Instant::now() + timeout };
        match (waiting.run(&item).await, printer.as_mut()) {
            (Ok(Some(object)), Some(printer)) => printer.print(&object, Some(&item.kind))?,
            (Ok(Some(_)), None) => out::line(&format!("{} condition met", item.printed())),
            (Ok(None), _) => {}
            (Err(error), _) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(0) } else { Err(Error::many(errors)) }
}

fn timeout(text: &str) -> Result<Duration> {
    if text.starts_with('-') {
        return Ok(LONGEST);
    }
    out::go_duration(text).ok_or_else(|| {
        Error::message(format!(
            "invalid argument {text:?} for \"--timeout\" flag: time: invalid duration {text:?}"
        ))
    })
}

/// What to wait for. What isn't there is an error, unless its coming or its going is waited for.
async fn items(
    args: &WaitArgs,
    cluster: &Cluster,
    goal: &Goal,
    timeout: Duration,
) -> Result<(Vec<Item>, Vec<Error>)> {
    let pick = Pick {
        words: args.words.clone(),
        files: args.files.clone(),
        selector: args.selector.clone(),
        field_selector: args.field_selector.clone(),
        all: args.all,
        all_namespaces: args.all_namespaces,
        chunk: 500,
        ..Pick::default()
    };
    if matches!(goal, Goal::Created) {
        return created(&pick, cluster, timeout).await;
    }
    let (wanted, mut errors) = pick.plan(cluster).await?;
    let mut items = Vec::new();
    for one in wanted {
        match look(&pick, cluster, one).await {
            Ok(found) => items.extend(found),
            Err(error) if error.is_not_found() && matches!(goal, Goal::Deleted) => {}
            Err(error) => errors.push(error),
        }
    }
    Ok((items, errors))
}

async fn look(pick: &Pick, cluster: &Cluster, wanted: Wanted) -> Result<Vec<Item>> {
    match wanted {
        Wanted::Named { kind, namespace, name } | Wanted::Given { kind, namespace, name, .. } => {
            let object = Some(cluster.get(&kind, namespace.as_deref(), &name, None).await?);
            Ok(vec![Item { kind, namespace, name, object, source: String::new() }])
        }
        Wanted::List { .. } => pick.items(cluster, true).await?.all(),
    }
}

/// Looks again until everything named is there.
async fn created(pick: &Pick, cluster: &Cluster, timeout: Duration) -> Result<(Vec<Item>, Vec<Error>)> {
    let until = Instant::now() + timeout;
    loop {
        let picked = pick.items(cluster, true).await?;
        let missing = picked.errors.iter().all(Error::is_not_found)
            && (!picked.errors.is_empty() || picked.items.is_empty());
        if !missing {
            return Ok((picked.items, picked.errors));
        }
        if Instant::now() >= until {
            return Err(Error::message("timed out waiting for the condition"));
        }
        tokio::time::sleep(AGAIN.min(until.saturating_duration_since(Instant::now()))).await;
    }
}

struct Waiting<'a> {
    cluster: &'a Cluster,
    goal: &'a Goal,
    timeout: Duration,
    until: Instant,
}

impl Waiting<'_> {
    /// The object once it is as wanted; none when it had gone before we looked.
    async fn run(&self, item: &Item) -> Result<Option<Value>> {
        let first = item.object.clone().unwrap_or_default();
        if self.goal.met(&first)? {
            return Ok(Some(first));
        }
        let named = format!("{}/{}", item.kind.plural, item.name);
        if self.timeout.is_zero() {
            return Err(Error::message(format!("condition not met for {named}")));
        }
        match tokio::time::timeout_at(self.until, self.follow(item, first)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::message(format!("timed out waiting for the condition on {named}"))),
        }
    }

    /// Watches, again and again while the server ends the watch.
    async fn follow(&self, item: &Item, mut last: Value) -> Result<Option<Value>> {
        let uid = last["metadata"]["uid"].clone();
        loop {
            let mut events = self.cluster.follow(&item.kind, item.namespace.as_deref(), &item.name).await?;
            let mut there = false;
            while let Some(event) = events.next().await {
                let Ok(event) = event else { break };
                there = true;
                let gone = event.what == "DELETED"
                    || (event.what == "ADDED" && event.object["metadata"]["uid"] != uid);
                if gone {
                    return self.gone(item, last);
                }
                if event.what != "BOOKMARK" {
                    last = event.object;
                    if self.goal.met(&last)? {
                        return Ok(Some(last));
                    }
                }
            }
            if !there && self.cluster.find(&item.kind, item.namespace.as_deref(), &item.name).await?.is_none()
            {
                return self.gone(item, last);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn gone(&self, item: &Item, last: Value) -> Result<Option<Value>> {
        match self.goal {
            Goal::Deleted => Ok(Some(last)),
            _ => Err(Error::message(format!("{}/{} was deleted while waiting", item.kind.plural, item.name))),
        }
    }
}
