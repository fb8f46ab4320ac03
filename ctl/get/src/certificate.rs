//! `certificate`: signing requests approved and denied.

use clap::{Args, Subcommand};
use coxctl_kit::print::output::OBJECT_FORMATS;
use coxctl_kit::{Cluster, Error, FileArgs, Globals, Item, Pick, PrintArgs, Printer, Result, Write, out};
use serde_json::{Value, json};

/// How often an update that met another is tried again.
const TRIES: usize = 10;

/// What `certificate` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum CertificateCommand {
    /// Approve a certificate signing request
    Approve(DecideArgs),
    /// Deny a certificate signing request
    Deny(DecideArgs),
}

#[derive(Args, Clone, Debug)]
pub struct DecideArgs {
    /// The signing requests' names
    pub names: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    #[command(flatten)]
    pub print: PrintArgs,
    /// Update the CSR even if it is already approved or denied
    #[arg(long)]
    pub force: bool,
}

struct Verdict {
    condition: &'static str,
    opposite: &'static str,
    reason: &'static str,
    message: &'static str,
    done: &'static str,
}

const APPROVE: Verdict = Verdict {
    condition: "Approved",
    opposite: "Denied",
    reason: "KubectlApprove",
    message: "This CSR was approved by kubectl certificate approve.",
    done: "approved",
};
const DENY: Verdict = Verdict {
    condition: "Denied",
    opposite: "Approved",
    reason: "KubectlDeny",
    message: "This CSR was denied by kubectl certificate deny.",
    done: "denied",
};

/// Runs the verb.
pub async fn run(command: &CertificateCommand, globals: &Globals) -> Result<i32> {
    let (args, verdict) = match command {
        CertificateCommand::Approve(args) => (args, APPROVE),
        CertificateCommand::Deny(args) => (args, DENY),
    };
    if args.names.is_empty() && args.files.is_empty() {
        return Err(Error::message("one or more CSRs must be specified as <name> or -f <filename>"));
    }
    let mut printer = args.print.printer(OBJECT_FORMATS)?;
    let cluster = globals.connect().await?;
    let words = args.names.iter().map(|name| typed(name)).collect();
    let picked = Pick { words, files: args.files.clone(), ..Pick::default() }.items(&cluster, true).await?;
    let mut errors = picked.errors;
    for item in picked.items {
        match decide(&cluster, &item, &verdict, args.force).await {
            Ok(object) => say(&mut printer, &item, &object, &verdict)?,
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(0) } else { Err(Error::many(errors)) }
}

/// `TYPE/NAME`, as names may be given too.
fn typed(name: &str) -> String {
    if name.contains('/') { name.into() } else { format!("certificatesigningrequests/{name}") }
}

fn say(printer: &mut Option<Printer>, item: &Item, object: &Value, verdict: &Verdict) -> Result<()> {
    match printer {
        Some(printer) => printer.print(object, Some(&item.kind)),
        None => {
            out::line(&format!("{} {}", item.printed(), verdict.done));
            Ok(())
        }
    }
}

async fn decide(cluster: &Cluster, item: &Item, verdict: &Verdict, force: bool) -> Result<Value> {
    let mut left = TRIES;
    loop {
        let mut object = cluster.get(&item.kind, None, &item.name, None).await?;
        if has(&object, verdict.opposite) {
            return Err(Error::message(format!(
                "certificate signing request {:?} is already {}",
                item.name, verdict.opposite
            )));
        }
        if has(&object, verdict.condition) && !force {
            return Ok(object);
        }
        add(&mut object, verdict);
        match cluster.update(&item.kind, None, &item.name, Some("approval"), &object, &Write::default()).await
        {
            Err(error) if error.is_conflict() && left > 0 => left -= 1,
            outcome => return outcome,
        }
    }
}

fn has(object: &Value, condition: &str) -> bool {
    object["status"]["conditions"].as_array().into_iter().flatten().any(|known| known["type"] == condition)
}

fn add(object: &mut Value, verdict: &Verdict) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let added = json!({"type": verdict.condition, "status": "True", "reason": verdict.reason, "message": verdict.message, "lastUpdateTime": now});
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    let conditions = &mut object["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(all) => {
            all.retain(|known| known["type"] != verdict.condition);
            all.push(added);
        }
        None => *conditions = json!([added]),
    }
}
