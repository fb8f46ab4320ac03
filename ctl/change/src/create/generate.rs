//! What all generators share: flags, sending, printing.

use crate::annotation::with_last_applied;
use crate::flags::{DryRun, DryRunFlag, Validate, error, write};
use crate::output::Printer;
use crate::typed;
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Cluster, Error, Globals};
use serde_json::{Value, json};

/// Flags of every generator.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Name of the manager used to track field ownership.
    #[arg(long)]
    pub field_manager: Option<String>,
    /// If true, the configuration of current object will be saved in its annotation.
    #[arg(long)]
    pub save_config: bool,
    #[command(flatten)]
    pub validate: Validate,
    #[command(flatten)]
    pub out: PrintArgs,
}

/// A made object and what its failure is called.
pub struct Generated {
    pub object: Value,
    /// Begins the message when the server refuses; empty leaves the server's own words alone.
    pub failed: &'static str,
    pub word: &'static str,
    pub manager: &'static str,
}

impl Generated {
    /// An object that `create` made.
    pub fn new(object: Value, failed: &'static str) -> Self {
        Self { object, failed, word: "created", manager: "kubectl-create" }
    }
}

impl Options {
    /// Checks what can be checked before anything else is looked at.
    pub fn printer(&self) -> Result<(Printer, DryRun)> {
        let dry = self.dry_run.parse()?;
        self.validate.word()?;
        Ok((Printer::new(&self.out, dry)?.typed(), dry))
    }

    /// Sends a generated object unless the run is dry, and prints it.
    pub async fn finish(&self, globals: &Globals, made: Generated) -> Result<Value> {
        let (printer, dry) = self.printer()?;
        if dry == DryRun::Client && !needs_namespace(globals) {
            return self.print(&printer, self.remembering(typed::canonical(&made.object)), &made);
        }
        let cluster = globals.connect().await?;
        let object = self.send(&cluster, dry, &made).await?;
        self.print(&printer, object, &made)
    }

    fn print(&self, printer: &Printer, object: Value, made: &Generated) -> Result<Value> {
        printer.done(&object, made.word)?;
        Ok(object)
    }

    /// The object with the annotation that `--save-config` asks for.
    fn remembering(&self, object: Value) -> Value {
        if self.save_config { annotated(object) } else { object }
    }

    async fn send(&self, cluster: &Cluster, dry: DryRun, made: &Generated) -> Result<Value> {
        let mut object = typed::canonical(&made.object);
        let builtin = builtin(&object).ok_or_else(|| error("the generated object is of no known kind"))?;
        if builtin.namespaced && cluster.namespace_given && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!(cluster.namespace);
        }
        let body = self.remembering(object);
        if dry == DryRun::Client {
            return Ok(body);
        }
        let manager = self.field_manager.as_deref().unwrap_or(made.manager);
        let write = write(manager, dry, Some(self.validate.word()?));
        let namespace = body["metadata"]["namespace"].as_str().unwrap_or(&cluster.namespace).to_string();
        let created = cluster.create(&builtin, Some(&namespace), &body, &write).await;
        let created = created.map_err(|e| match made.failed {
            "" => e,
            failed => Error::message(format!("{failed} {}", status_text(&e))),
        })?;
        Ok(typed::canonical(&created))
    }
}

/// An error as it reads inside of another one.
pub(crate) fn status_text(error: &Error) -> String {
    error.to_string()
}

fn needs_namespace(globals: &Globals) -> bool {
    globals.namespace.as_deref().is_some_and(|n| !n.is_empty())
}

fn annotated(object: Value) -> Value {
    let text = typed::compact(&crate::annotation::without_last_applied(&object)) + "\n";
    with_last_applied(object, &text)
}

/// The kind of a built-in object, known without asking the server.
pub(crate) fn builtin(object: &Value) -> Option<coxctl_kit::Kind> {
    let (group, version) = machinery::kinds::split_api_version(machinery::meta::api_version(object));
    let resource = machinery::kinds::by_kind(group, version, machinery::meta::kind(object))?;
    Some(coxctl_kit::Kind {
        group: resource.group.clone(),
        version: resource.version.clone(),
        kind: resource.kind.clone(),
        plural: resource.plural.clone(),
        singular: resource.singular.clone(),
        namespaced: resource.namespaced,
        ..coxctl_kit::Kind::default()
    })
}
