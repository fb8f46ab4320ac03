//! `completion`, `options` and `plugin`: about the program itself.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use coxctl_kit::{Error, Result, out};

/// The shells completions are made for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

#[derive(Args, Clone, Debug)]
pub struct CompletionArgs {
    /// The shell
    pub shell: Shell,
}

/// What `plugin` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum PluginCommand {
    /// List all visible plugin executables on a user's PATH
    List {
        /// If true, display only the binary name of each plugin, rather than its full path
        #[arg(long = "name-only")]
        name_only: bool,
    },
}

impl Shell {
    /// The script that lets the shell ask `coxctl __complete` at every TAB.
    pub fn script(self) -> &'static str {
        match self {
            Shell::Bash => include_str!("completion/coxctl.bash"),
            Shell::Zsh => include_str!("completion/coxctl.zsh"),
            Shell::Fish => include_str!("completion/coxctl.fish"),
            Shell::Powershell => include_str!("completion/coxctl.ps1"),
        }
    }
}

/// Prints a shell's completion script.
pub fn completion(args: &CompletionArgs) -> i32 {
    out::put(args.shell.script());
    0
}

/// Prints the flags every verb takes.
pub fn options(mut root: clap::Command) -> i32 {
    root.build();
    let mut text = String::from("The following options can be passed to any command:\n\n");
    for arg in root.get_arguments().filter(|arg| arg.is_global_set() && !arg.is_hide_set()) {
        let Some(long) = arg.get_long() else { continue };
        let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
        let shown = match (default, arg.get_action().takes_values()) {
            (Some(default), _) if default.parse::<i64>().is_ok() || default == "false" => default,
            (Some(default), _) => format!("'{default}'"),
            (None, true) => "''".into(),
            (None, false) => "false".into(),
        };
        let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
        let help = arg.get_help().map(|help| help.to_string()).unwrap_or_default();
        text.push_str(&format!("    {short}--{long}={shown}:\n\t{help}\n\n"));
    }
    out::put(&text);
    0
}

const PREFIXES: &[&str] = &["coxctl-", "kubectl-"];

/// Lists the programs that extend the command line.
pub fn plugins(command: &PluginCommand) -> Result<i32> {
    let PluginCommand::List { name_only } = command;
    let found = found();
    if found.is_empty() {
        return Err(Error::message("unable to find any kubectl plugins in your PATH"));
    }
    out::line("The following compatible plugins are available:\n");
    for path in &found {
        match name_only {
            true => out::line(
                &path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            ),
            false => out::line(&path.display().to_string()),
        }
        if !executable(path) {
            out::note(&format!(
                "  - warning: {} identified as a kubectl plugin, but it is not executable",
                path.display()
            ));
        }
    }
    Ok(0)
}

fn found() -> Vec<PathBuf> {
    let dirs: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut all = Vec::new();
    for dir in dirs.into_iter().filter(|dir| !dir.as_os_str().is_empty()) {
        if seen.contains(&dir) {
            continue;
        }
        let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        files.sort();
        let named = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| PREFIXES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)))
        };
        all.extend(files.into_iter().filter(|path| named(path) && !path.is_dir()));
        seen.push(dir);
    }
    all
}

fn executable(path: &PathBuf) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o111 != 0)
}
