//! `auth`: who one is, and what one may.

mod can_i;
mod reconcile;
mod rules;

use clap::{Args, Subcommand};
use coxctl_kit::print::output::OBJECT_FORMATS;
use coxctl_kit::print::tab::TabWriter;
use coxctl_kit::print::{gotext, typed};
use coxctl_kit::{Call, FileArgs, Globals, Output, PrintArgs, Printer, Result, out};
use http::Method;
use serde_json::{Value, json};

/// What `auth` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum AuthCommand {
    /// Check whether an action is allowed
    #[command(name = "can-i")]
    CanI(CanIArgs),
    /// Experimental: Check self subject attributes
    Whoami(WhoamiArgs),
    /// Reconciles rules for RBAC role, role binding, cluster role, and cluster role binding objects
    Reconcile(ReconcileArgs),
}

#[derive(Args, Clone, Debug)]
pub struct CanIArgs {
    /// VERB [TYPE | TYPE/NAME | NONRESOURCEURL]
    pub words: Vec<String>,
    /// If true, check the specified action in all namespaces
    #[arg(short = 'A', long = "all-namespaces")]
    pub all_namespaces: bool,
    /// If true, prints all allowed actions
    #[arg(long)]
    pub list: bool,
    /// If true, prints allowed actions without headers
    #[arg(long = "no-headers")]
    pub no_headers: bool,
    /// If true, suppress output and just return the exit code
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// SubResource such as pod/log or deployment/scale
    #[arg(long)]
    pub subresource: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub struct WhoamiArgs {
    #[command(flatten)]
    pub print: PrintArgs,
}

#[derive(Args, Clone, Debug)]
pub struct ReconcileArgs {
    #[command(flatten)]
    pub files: FileArgs,
    #[command(flatten)]
    pub print: PrintArgs,
    /// Must be "none", "server", or "client"
    #[arg(long = "dry-run", default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client", value_parser = ["none", "server", "client"])]
    pub dry_run: String,
    /// If true, removes extra permissions added to roles
    #[arg(long = "remove-extra-permissions")]
    pub remove_extra_permissions: bool,
    /// If true, removes extra subjects added to rolebindings
    #[arg(long = "remove-extra-subjects")]
    pub remove_extra_subjects: bool,
}

/// Runs the verb.
pub async fn run(command: &AuthCommand, globals: &Globals) -> Result<i32> {
    match command {
        AuthCommand::CanI(args) => can_i::run(args, globals).await,
        AuthCommand::Whoami(args) => whoami(args, globals).await,
        AuthCommand::Reconcile(args) => reconcile::run(args, globals).await,
    }
}

async fn whoami(args: &WhoamiArgs, globals: &Globals) -> Result<i32> {
    let output = args.print.output(OBJECT_FORMATS)?;
    let cluster = globals.connect().await?;
    let question = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}, "status": {"userInfo": {}}});
    let call = Call::new(Method::POST, "/apis/authentication.k8s.io/v1/selfsubjectreviews").json(&question);
    let answer = cluster.send(call).await?.json()?;
    match output {
        Output::Human => out::put(&attributes(&answer["status"]["userInfo"])),
        Output::Json => out::line(&typed::pretty(&answer, args.print.show_managed_fields)),
        Output::Name => out::line("selfsubjectreview.authentication.k8s.io/<unknown>"),
        output => Printer::new(output, args.print.show_managed_fields).print(&answer, None)?,
    }
    Ok(0)
}

fn attributes(user: &Value) -> String {
    let mut table = TabWriter::remembering();
    table.row(&["ATTRIBUTE", "VALUE"]);
    let mut row = |name: &str, value: &Value| {
        if !value.is_null() {
            table.row(&[name, &gotext::plain(value)]);
        }
    };
    row("Username", &user["username"]);
    row("UID", &user["uid"]);
    row("Groups", &user["groups"]);
    let mut extra: Vec<(&String, &Value)> = user["extra"].as_object().into_iter().flatten().collect();
    extra.sort_by_key(|(key, _)| *key);
    for (key, value) in extra {
        row(&format!("Extra: {key}"), value);
    }
    table.flush()
}
