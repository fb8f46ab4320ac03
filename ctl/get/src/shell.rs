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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    /// Completes a line in bash; `says` is what `coxctl __complete` would print.
    fn in_bash(dir: &Path, says: &str, words: &[&str]) -> Vec<String> {
        let program = dir.join("coxctl");
        let answer = dir.join("answer");
        std::fs::write(dir.join("completion"), Shell::Bash.script()).expect("written");
        std::fs::write(&answer, says).expect("written");
        std::fs::write(&program, format!("#!/bin/sh\ncat '{}'\n", answer.display())).expect("written");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("allowed");
        // Words as bash splits them, = and : being words of their own.
        let run = r#"
            cd "$1" && source ./completion && shift
            COMP_WORDS=(./coxctl "$@") COMP_CWORD=$# COMP_TYPE=9 COLUMNS=60
            COMP_LINE="./coxctl $LINE"
            COMP_POINT=${#COMP_LINE}
            __start_coxctl
            ((${#COMPREPLY[@]})) && printf '%s\n' "${COMPREPLY[@]}""#;
        let mut parts: Vec<String> = Vec::new();
        for word in words {
            let mut rest = *word;
            while let Some(at) = rest.find(['=', ':']) {
                parts.extend(
                    [&rest[..at], &rest[at..=at]].iter().filter(|p| !p.is_empty()).map(|p| p.to_string()),
                );
                rest = &rest[at + 1..];
            }
            if !rest.is_empty() || !word.ends_with(['=', ':']) {
                parts.push(rest.to_string());
            }
        }
        let out = Command::new("bash")
            .args(["--norc", "-c", run, "bash"])
            .arg(dir)
            .args(parts)
            .env("LINE", words.join(" "))
            .output()
            .expect("bash runs");
        String::from_utf8_lossy(&out.stdout).lines().map(str::to_string).collect()
    }

    #[test]
    fn bash_offers_what_it_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        for file in ["a.yaml", "a.json", "a.txt"] {
            std::fs::write(dir.path().join(file), "").expect("written");
        }
        std::fs::create_dir(dir.path().join("adir")).expect("made");
        let table: &[(&str, &[&str], &[&str])] = &[
            ("web\n:4\n", &["get", "po", "w"], &["web"]),
            ("get\tDisplay\n:4\n", &["g"], &["get"]),
            (
                "role\tOne\nrolebinding\tTwo\n:4\n",
                &["create", "r"],
                &["role         (One)", "rolebinding  (Two)"],
            ),
            ("json\njsonpath\n:4\n", &["get", "--output=j"], &["json", "jsonpath"]),
            ("json\n:4\n", &["get", "-o="], &["json"]),
            ("8:80\n8:81\n:4\n", &["port-forward", "x", "8:8"], &["80", "81"]),
            ("system:node\n:4\n", &["create", "--role=system:n"], &["node"]),
            ("a b\n:4\n", &["--context", "a"], &["a\\ b"]),
            ("json\nyaml\n:8\n", &["get", "-f", "a"], &["a.json", "a.yaml", "adir"]),
            (":16\n", &["get", "-k", "a"], &["adir"]),
            (":4\n", &["get", "x"], &[]),
            ("a\n:1\n", &["get", "x"], &[]),
            ("garbage\n", &["get", "x"], &[]),
        ];
        for (says, words, wanted) in table {
            let mut got = in_bash(dir.path(), says, words);
            got.sort();
            assert_eq!(got, *wanted, "{words:?} after {says:?}");
        }
    }

    #[test]
    fn long_descriptions_are_cut_to_the_terminal() {
        let dir = tempfile::tempdir().expect("a directory");
        let says = format!("a\t{}\nb\tshort\n:4\n", "x".repeat(100));
        let got = in_bash(dir.path(), &says, &["get", ""]);
        assert!(got.iter().all(|line| line.len() < 60) && got[0].ends_with("...)"), "{got:?}");
    }

    #[test]
    fn every_script_asks_the_program() {
        for shell in Shell::value_variants() {
            let script = shell.script();
            assert!(script.contains("__complete") && script.contains("coxctl"), "{shell:?}");
        }
    }
}
