//! `label` and `annotate`.

use crate::flags::{DryRun, DryRunFlag, error, write};
use crate::labels::{self, Changes, map_patch};
use crate::output::Printer;
use crate::target::{Select, Target, each, select};
use anyhow::Result;
use coxctl_kit::files::FileArgs;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Globals, PatchType, out};
use serde_json::{Map, Value, json};

/// Flags of `label` and `annotate`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// TYPE NAME KEY=VALUE… KEY-…
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Select all resources, in the namespace of the specified resource types.
    #[arg(long)]
    pub all: bool,
    /// If true, check the specified action in all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Name of the manager used to track field ownership.
    #[arg(long)]
    pub field_manager: Option<String>,
    /// Selector (field query) to filter on.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub field_selector: String,
    /// If true, display what there is.
    #[arg(long)]
    pub list: bool,
    /// If true, the server will NOT be contacted but run locally.
    #[arg(long)]
    pub local: bool,
    /// If true, values that are there may be overwritten.
    #[arg(long)]
    pub overwrite: bool,
    /// If non-empty, the update will only succeed if this is the current resource-version for the object.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub resource_version: String,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Which of the two verbs runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Label,
    Annotate,
}

impl Verb {
    fn field(self) -> &'static str {
        if self == Self::Label { "labels" } else { "annotations" }
    }
    fn noun(self) -> &'static str {
        if self == Self::Label { "label" } else { "annotation" }
    }
    fn manager(self) -> &'static str {
        if self == Self::Label { "kubectl-label" } else { "kubectl-annotate" }
    }
}

/// Runs either verb.
pub async fn run(verb: Verb, flags: &Flags, globals: &Globals) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let printer = Printer::new(&flags.out, dry)?.apart();
    if flags.all && !flags.selector.is_empty() {
        return Err(error("cannot set --all and --selector at the same time"));
    }
    if flags.all && !flags.field_selector.is_empty() {
        return Err(error("cannot set --all and --field-selector at the same time"));
    }
    let (resources, changes) = labels::split(&flags.args, verb.noun())?;
    let changes = match verb {
        Verb::Label => labels::parse_labels(&changes),
        Verb::Annotate => labels::parse_annotations(&changes),
    }?;
    check(verb, flags, &resources, &changes)?;
    let cluster = globals.connect().await?;
    let chosen = Select {
        args: &resources,
        files: Some(&flags.files),
        labels: &flags.selector,
        fields: &flags.field_selector,
        all: flags.all,
        all_namespaces: flags.all_namespaces,
        local: flags.local,
        ..Select::default()
    };
    let found = select(&cluster, &chosen).await?;
    if !flags.resource_version.is_empty() && found.len() > 1 {
        return Err(error("--resource-version may only be used with a single resource"));
    }
    let single = found.len() == 1;
    each(found, async |target| one(verb, flags, &changes, dry, &printer, &cluster, target, single).await)
        .await
}

fn check(verb: Verb, flags: &Flags, resources: &[String], changes: &Changes) -> Result<()> {
    if resources.is_empty() && flags.files.is_empty() {
        return Err(error(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    if changes.is_empty() && !flags.list {
        return Err(error(format!("at least one {} update is required", verb.noun())));
    }
    let named = resources.len() > 2 || (resources.len() > 1 && resources.iter().any(|r| r.contains('/')));
    if !flags.resource_version.is_empty() && named {
        return Err(error("--resource-version may only be used with a single resource"));
    }
    Ok(())
}

async fn one(
    verb: Verb,
    flags: &Flags,
    changes: &Changes,
    dry: DryRun,
    printer: &Printer,
    cluster: &coxctl_kit::Cluster,
    target: Target,
    single: bool,
) -> Result<()> {
    let before = map_of(&target.object, verb.field());
    if !flags.overwrite {
        refuse_overwrites(verb, changes, &before)?;
    }
    if verb == Verb::Label {
        for key in changes.remove.iter().filter(|key| !before.contains_key(*key)) {
            out::line(&format!("label {key:?} not found."));
        }
    }
    let after = changes.apply(&before);
    let patched = if dry == DryRun::Client || flags.local || flags.list {
        let mut object = target.object.clone();
        object["metadata"][verb.field()] = Value::Object(after.clone());
        object
    } else {
        send(verb, flags, dry, cluster, &target, (&before, &after)).await?
    };
    if flags.list {
        list(verb, &target, &patched, single);
        return Ok(());
    }
    printer.done(&patched, word(verb, flags.overwrite, &before, &after))
}

/// Without `--overwrite`, keys that have another value must keep it.
fn refuse_overwrites(verb: Verb, changes: &Changes, before: &Map<String, Value>) -> Result<()> {
    let taken = changes.overwritten(before);
    let say = |(key, had): &(String, String)| format!("'{key}' already has a value ({had})");
    let texts: Vec<String> = match verb {
        Verb::Label => taken.iter().map(|one| say(one) + ", and --overwrite is false").collect(),
        // The cause of a change may be told anew each time.
        Verb::Annotate => {
            taken.iter().filter(|(key, _)| key != "kubernetes.io/change-cause").map(say).collect()
        }
    };
    match (verb, texts.as_slice()) {
        (_, []) => Ok(()),
        (Verb::Label, [one]) => Err(error(one.clone())),
        (Verb::Label, many) => Err(error(format!("[{}]", many.join(", ")))),
        (Verb::Annotate, many) => {
            let listed = many.join("; ");
            Err(error(format!(
                "--overwrite is false but found the following declared annotation(s): {listed}"
            )))
        }
    }
}

fn word(
    verb: Verb,
    overwrite: bool,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> &'static str {
    match verb {
        Verb::Annotate => "annotated",
        Verb::Label if before == after => "not labeled",
        Verb::Label if !overwrite && after.len() < before.len() => "unlabeled",
        Verb::Label => "labeled",
    }
}

async fn send(
    verb: Verb,
    flags: &Flags,
    dry: DryRun,
    cluster: &coxctl_kit::Cluster,
    target: &Target,
    (before, after): (&Map<String, Value>, &Map<String, Value>),
) -> Result<Value> {
    let mut patch = map_patch(verb.field(), before, after);
    if !flags.resource_version.is_empty() {
        patch["metadata"]["resourceVersion"] = json!(flags.resource_version);
    }
    if patch == json!({}) {
        return Ok(target.object.clone());
    }
    let write = write(flags.field_manager.as_deref().unwrap_or(verb.manager()), dry, None);
    Ok(cluster.patch(&target.kind, target.ns(), &target.name, None, PatchType::Merge, &patch, &write).await?)
}

fn list(verb: Verb, target: &Target, object: &Value, single: bool) {
    let indent = if single { "" } else { " " };
    if !single {
        let dot = format!("{}.{}/{}", target.kind.kind, target.kind.group, target.name);
        out::line(&format!("Listing {} for {dot}:", verb.field()));
    }
    for (key, value) in map_of(object, verb.field()) {
        out::line(&format!("{indent}{key}={}", value.as_str().unwrap_or_default()));
    }
}

fn map_of(object: &Value, field: &str) -> Map<String, Value> {
    object["metadata"][field].as_object().cloned().unwrap_or_default()
}
