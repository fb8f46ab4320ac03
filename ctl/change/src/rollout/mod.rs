//! `rollout`: history, undo, pause, resume, restart, status.

mod change;
mod describe;
mod history;
pub mod progress;
mod status;
mod undo;

use crate::flags::error;
use crate::target::Select;
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{FileArgs, Globals};

/// `rollout WHAT`.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Rollout {
    /// View rollout history.
    History(history::Flags),
    /// Mark the provided resource as paused.
    Pause(change::Flags),
    /// Restart a resource.
    Restart(change::Flags),
    /// Resume a paused resource.
    Resume(change::Flags),
    /// Show the status of the rollout.
    Status(status::Flags),
    /// Undo a previous rollout.
    Undo(undo::Flags),
}

/// Flags all of them have.
#[derive(clap::Args, Clone, Debug)]
pub struct Common {
    /// TYPE NAME or TYPE/NAME
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Selector (label query) to filter on.
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
}

impl Common {
    /// A type alone means all its objects.
    fn select(&self) -> Result<Select<'_>> {
        if self.args.is_empty() && self.files.is_empty() {
            return Err(error("required resource not specified"));
        }
        Ok(Select {
            args: &self.args,
            files: Some(&self.files),
            labels: &self.selector,
            bare_types: true,
            ..Select::default()
        })
    }
}

/// Flags of printing, which most of them have.
#[derive(clap::Args, Clone, Debug)]
pub struct Out {
    #[command(flatten)]
    pub out: PrintArgs,
}

/// Runs one of them.
pub async fn run(command: Rollout, globals: &Globals) -> Result<i32> {
    match command {
        Rollout::History(flags) => history::run(&flags, globals).await,
        Rollout::Pause(flags) => change::run(change::Verb::Pause, &flags, globals).await,
        Rollout::Restart(flags) => change::run(change::Verb::Restart, &flags, globals).await,
        Rollout::Resume(flags) => change::run(change::Verb::Resume, &flags, globals).await,
        Rollout::Status(flags) => status::run(&flags, globals).await,
        Rollout::Undo(flags) => undo::run(&flags, globals).await,
    }
}
