//! `edit`: objects in an editor, again and again until they are accepted or nothing is changed.

use crate::editor::{self, Outcome, Reason};
use crate::flags::{DryRun, Validate, error, write};
use crate::output::{Printer, named};
use crate::set::difference;
use crate::target::{Select, Target, finish, kit_error, select};
use anyhow::Result;
use coxctl_kit::print::{PrintArgs, list_of};
use coxctl_kit::{Cluster, Error, FileArgs, Globals, PatchType, out};
use serde_json::{Value, json};

/// Flags of `edit`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// TYPE NAME or TYPE/NAME
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-edit")]
    pub field_manager: String,
    /// Output the patch if the resource is edited.
    #[arg(long)]
    pub output_patch: bool,
    /// If true, the configuration of current object will be saved in its annotation.
    #[arg(long)]
    pub save_config: bool,
    /// If specified, edit will operate on the subresource of the requested object.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub subresource: String,
    #[command(flatten)]
    pub validate: Validate,
    /// Defaults to the line ending native to your platform.
    #[arg(long, hide = true)]
    pub windows_line_endings: bool,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals) -> Result<i32> {
    form(flags.out.output.as_deref())?;
    let printer = Printer::new(&flags.out, DryRun::None)?;
    if flags.args.is_empty() && flags.files.is_empty() {
        return Err(error(crate::set::NOTHING_NAMED));
    }
    let cluster = globals.connect().await?;
    let chosen = Select { args: &flags.args, files: Some(&flags.files), ..Select::default() };
    let found: Vec<Target> = select(&cluster, &chosen).await?.into_iter().collect::<Result<_, Error>>()?;
    let sub = Some(flags.subresource.as_str()).filter(|s| !s.is_empty());
    let mut originals = Vec::new();
    for target in &found {
        originals.push(match sub {
            Some(sub) => cluster.get(&target.kind, target.ns(), &target.name, Some(sub)).await?,
            None => target.object.clone(),
        });
    }
    edit_until_accepted(flags, &cluster, &printer, &found, &originals, sub).await
}

/// `-o` says here in which form objects are edited.
fn form(output: Option<&str>) -> Result<(), Error> {
    match output {
        None | Some("" | "json" | "yaml") => Ok(()),
        Some(other) => Err(Error::message(format!(
            "unable to match a printer suitable for the output format {other:?}, allowed formats are: json,yaml"
        ))),
    }
}

/// What is shown in the editor: without what the server keeps for itself.
fn shown(objects: &[Value]) -> Value {
    let clean = |object: &Value| {
        let mut object = object.clone();
        coxctl_kit::print::hide_managed_fields(&mut object);
        object
    };
    match objects {
        [one] => clean(one),
        many => list_of(many.iter().map(clean).collect()),
    }
}

async fn edit_until_accepted(
    flags: &Flags,
    cluster: &Cluster,
    printer: &Printer,
    found: &[Target],
    originals: &[Value],
    sub: Option<&str>,
) -> Result<i32> {
    let first = editor::text_of(&shown(originals), flags.out.output.as_deref() == Some("json"));
    let (mut text, mut reasons): (String, Vec<Reason>) = (first, Vec::new());
    loop {
        let edited = match editor::open(&text, &reasons)? {
            Outcome::Unchanged { .. } if reasons.is_empty() => {
                return cancelled("Edit cancelled, no changes made.");
            }
            Outcome::Unchanged { path } => {
                let kept = editor::keep(&path, &text)?;
                return Err(Error::Code(format!("A copy of your changes has been stored to {kept:?}\nerror: Edit cancelled, no valid changes were saved."), 1).into());
            }
            Outcome::Empty => return cancelled("Edit cancelled, saved file was empty."),
            Outcome::Edited(edited) => edited,
        };
        let objects = match coxctl_kit::files::parse(&edited, "edited-file") {
            Ok(documents) => documents.into_iter().map(|d| d.object).collect::<Vec<Value>>(),
            Err(cause) => {
                reasons = vec![Reason {
                    head: format!("The edited file had a syntax error: {cause}"),
                    items: vec![],
                }];
                text = edited;
                continue;
            }
        };
        let (done, errors) = send_all(flags, cluster, found, originals, &objects, sub).await;
        report(flags, printer, &done)?;
        match errors.is_empty() {
            true => return Ok(0),
            false if errors.iter().all(|(_, e)| again(e)) => {
                reasons = errors.iter().map(|(target, e)| Reason::of(target, e)).collect();
                text = edited;
            }
            false => return finish(errors.into_iter().map(|(_, e)| e).collect()),
        }
    }
}

/// Refusals that another edit can put right.
fn again(error: &Error) -> bool {
    error.is("Invalid") || error.is_conflict() || error.is("BadRequest")
}

fn cancelled(text: &str) -> Result<i32> {
    out::note(text);
    Ok(0)
}

/// An edited object, none when it was left as it was, and the patch.
struct Done {
    object: Value,
    changed: bool,
    patch: Value,
}

async fn send_all(
    flags: &Flags,
    cluster: &Cluster,
    found: &[Target],
    originals: &[Value],
    edited: &[Value],
    sub: Option<&str>,
) -> (Vec<Done>, Vec<(Target, Error)>) {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for (target, original) in found.iter().zip(originals) {
        let same = |o: &&Value| {
            o["metadata"]["name"] == original["metadata"]["name"] && o["kind"] == original["kind"]
        };
        let Some(after) = edited.iter().find(same) else {
            let text = "At least one of apiVersion, kind and name was changed";
            errors.push((target.clone(), Error::message(text)));
            continue;
        };
        match send(flags, cluster, target, original, after, sub).await {
            Ok(one) => done.push(one),
            Err(e) => errors.push((target.clone(), kit_error(e))),
        }
    }
    (done, errors)
}

async fn send(
    flags: &Flags,
    cluster: &Cluster,
    target: &Target,
    original: &Value,
    after: &Value,
    sub: Option<&str>,
) -> Result<Done> {
    let mut before = original.clone();
    coxctl_kit::print::hide_managed_fields(&mut before);
    let after = if flags.save_config { crate::annotation::annotated(after) } else { after.clone() };
    let patch = difference(&before, &after)?;
    if patch == json!({}) {
        return Ok(Done { object: original.clone(), changed: false, patch });
    }
    if patch.get("apiVersion").is_some()
        || patch.get("kind").is_some()
        || patch["metadata"].get("name").is_some()
    {
        return Err(error("At least one of apiVersion, kind and name was changed"));
    }
    let how = if target.is_builtin() { PatchType::Strategic } else { PatchType::Merge };
    let write = write(&flags.field_manager, DryRun::None, Some(flags.validate.word()?));
    let object = cluster.patch(&target.kind, target.ns(), &target.name, sub, how, &patch, &write).await?;
    Ok(Done { object, changed: true, patch })
}

fn report(flags: &Flags, printer: &Printer, done: &[Done]) -> Result<()> {
    for one in done {
        if !one.changed {
            out::line(&format!("{} skipped", named(&one.object)));
            continue;
        }
        if flags.output_patch {
            out::line(&format!("Patch: {}", coxctl_kit::print::json::compact(&one.patch)));
        }
        printer.done(&one.object, "edited")?;
    }
    Ok(())
}

/// One edit of one object without a loop: none when nothing was changed.
pub fn once(object: &Value) -> Result<Option<Value>> {
    let text = editor::text_of(object, false);
    match editor::open(&text, &[])? {
        Outcome::Unchanged { .. } => out::note("Edit cancelled, no changes made."),
        Outcome::Empty => out::note("Edit cancelled, saved file was empty."),
        Outcome::Edited(edited) => {
            let mut parsed = coxctl_kit::files::parse(&edited, "edited-file")?;
            return Ok(parsed.pop().map(|d| d.object));
        }
    }
    Ok(None)
}

/// `create --edit`: objects are edited, one after the other, before they are created.
pub async fn on_create(
    found: Vec<Result<Target, Error>>,
    flags: &crate::create::FileFlags,
    dry: DryRun,
    printer: &Printer,
    cluster: &Cluster,
) -> Result<i32> {
    let found: Vec<Target> = found.into_iter().collect::<Result<_, Error>>()?;
    let write = write(&flags.field_manager, dry, Some(flags.validate.word()?));
    let mut errors = Vec::new();
    for mut target in found {
        let shown = editor::text_of(&shown(std::slice::from_ref(&target.object)), false);
        let documents = match editor::open(&shown, &[])? {
            Outcome::Unchanged { .. } => {
                out::note("Edit cancelled, no changes made.");
                continue;
            }
            Outcome::Empty => {
                out::note("Edit cancelled, saved file was empty.");
                continue;
            }
            Outcome::Edited(text) => coxctl_kit::files::parse(&text, "edited-file")?,
        };
        for document in documents {
            target.object = document.object;
            match crate::create::create_target(cluster, &target, dry, flags.save_config, &write).await {
                Ok(created) => printer.done(&created, "created")?,
                Err(e) => errors.push(kit_error(e)),
            }
        }
    }
    finish(errors)
}
