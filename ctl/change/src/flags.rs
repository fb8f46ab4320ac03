//! Flags that many verbs share, and what they mean.

use anyhow::Result;
use coxctl_kit::{Error, Write};

/// How far a change goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    #[default]
    None,
    /// Nothing is sent.
    Client,
    /// The server goes through everything and stores nothing.
    Server,
}

/// `--dry-run`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct DryRunFlag {
    /// Must be "none", "server", or "client". With client, the object that would be sent is only printed. With server,
    /// the request is sent and nothing is persisted.
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "unchanged")]
    pub dry_run: String,
}

impl DryRunFlag {
    /// The strategy.
    ///
    /// # Errors
    /// Words that mean nothing.
    pub fn parse(&self) -> Result<DryRun> {
        match self.dry_run.as_str() {
            "" | "none" | "false" => Ok(DryRun::None),
            "client" | "true" => Ok(DryRun::Client),
            "server" => Ok(DryRun::Server),
            "unchanged" => {
                coxctl_kit::out::note("W --dry-run is deprecated and can be replaced with --dry-run=client.");
                Ok(DryRun::Client)
            }
            other => Err(Error::message(format!(
                "Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."
            ))
            .into()),
        }
    }
}

/// `--validate`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Validate {
    /// Must be one of: strict (or true), warn, ignore (or false).
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    pub validate: String,
}

impl Validate {
    /// The server's word for it.
    ///
    /// # Errors
    /// Words that mean nothing.
    pub fn word(&self) -> Result<&'static str> {
        match self.validate.as_str() {
            "strict" | "true" | "" => Ok("Strict"),
            "warn" => Ok("Warn"),
            "ignore" | "false" => Ok("Ignore"),
            other => Err(Error::message(format!(
                "invalid - validate option {other:?}; must be one of: strict (or true), warn, ignore (or false)"
            ))
            .into()),
        }
    }
}

/// Parameters of a writing request.
pub fn write(manager: &str, dry: DryRun, validation: Option<&str>) -> Write {
    Write {
        field_manager: Some(manager.to_string()).filter(|m| !m.is_empty()),
        dry_run: dry == DryRun::Server,
        field_validation: validation.map(str::to_string),
        force: None,
    }
}

/// An `error: …` with a pointer to the verb's help.
pub fn usage(text: impl std::fmt::Display, verb: &str) -> anyhow::Error {
    Error::message(format!("{text}\nSee 'coxctl {verb} -h' for help and examples")).into()
}

/// An `error: …`.
pub fn error(text: impl Into<String>) -> anyhow::Error {
    Error::message(text).into()
}

/// The only NAME of a command line.
pub fn one_name<'a>(args: &'a [String], verb: &str) -> Result<&'a str> {
    match args {
        [name] => Ok(name),
        _ => Err(usage(format!("exactly one NAME is required, got {}", args.len()), verb)),
    }
}

/// Flags that can't be left out, as the complaint about them.
pub fn require(flags: &[(&str, bool)]) -> Result<()> {
    let missing: Vec<String> =
        flags.iter().filter(|(_, given)| !given).map(|(name, _)| format!("{name:?}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(error(format!("required flag(s) {} not set", missing.join(", "))))
}

/// A Go duration; nothing for 0.
pub fn duration(text: &str) -> Result<Option<std::time::Duration>> {
    let parsed = coxctl_kit::out::go_duration(text).ok_or_else(|| {
        let quoted = format!("{text:?}");
        error(format!("invalid argument {quoted} for duration: time: invalid duration {quoted}"))
    })?;
    Ok(Some(parsed).filter(|d| !d.is_zero()))
}
