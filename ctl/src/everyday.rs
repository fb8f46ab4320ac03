//! Everyday verbs: kubectl's grammar. Their flags about the cluster go before or after the verb, which no other command
//! has, so they are a grammar of their own.

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use coxctl_kit::{Globals, cli, usage};

use coxctl_inspect::session::{Running, attach_running};

use crate::cli::Machine;
use crate::overview;

/// Controls a Kubernetes cluster, and makes one.
#[derive(Debug, Parser)]
#[command(name = "coxctl", version, arg_required_else_help = true, disable_version_flag = true)]
struct Everyday {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Get(coxctl_get::Command),
    #[command(flatten)]
    Change(coxctl_change::Command),
    #[command(flatten)]
    Inspect(coxctl_inspect::Command),
    #[command(flatten)]
    Why(coxctl_why::Command),
}

/// The whole grammar, for help.
pub fn root() -> clap::Command {
    let machine = Machine::command();
    let known = Everyday::command();
    let more = machine.get_subcommands().filter(|m| known.find_subcommand(m.get_name()).is_none());
    known.clone().subcommands(more.cloned())
}

/// Answers a shell that completes a command line, where that is what is asked: `__complete WORDS...`; the exit code.
pub fn completion(words: &[String]) -> Option<i32> {
    let described = match words.get(1)?.as_str() {
        "__complete" => true,
        "__completeNoDesc" => false,
        _ => return None,
    };
    let grammar = coxctl_complete::Grammar::new(Everyday::command(), Machine::command());
    let answered = async { Ok(coxctl_complete::run(&grammar, &words[2..], described).await) };
    Some(crate::cli::block_on(answered).unwrap_or(1))
}

/// Runs a verb; the exit code.
pub fn run(words: Vec<String>) -> i32 {
    if overview::is_asked(&words) {
        coxctl_kit::out::put(&overview::text(&root()));
        return 0;
    }
    let grammar = cli::boolean_values(Everyday::command());
    let matches = match grammar.clone().try_get_matches_from(&words) {
        Ok(matches) => matches,
        Err(error) => return usage::report_usage(&error, &grammar, &words),
    };
    match Everyday::from_arg_matches(&matches) {
        Ok(everyday) => {
            crate::cli::block_on(verb(everyday)).unwrap_or_else(|error| coxctl_kit::report(&error))
        }
        Err(error) => usage::report_usage(&error, &grammar, &words),
    }
}

async fn verb(everyday: Everyday) -> Result<i32> {
    let globals = everyday.globals;
    match everyday.verb {
        Verb::Get(command) => coxctl_get::run(command, &globals, root).await,
        Verb::Change(command) => coxctl_change::run_with(command, &globals, Some(&attaching())).await,
        Verb::Inspect(command) => coxctl_inspect::run(command, &globals).await,
        Verb::Why(coxctl_why::Command::Why(args)) => coxctl_why::run(&args, &globals).await,
    }
}

/// How `run` attaches to the pod it made.
fn attaching() -> coxctl_change::Attach {
    Box::new(|wish| {
        Box::pin(async move {
            let text = |path: &str| wish.pod.pointer(path).and_then(|v| v.as_str()).unwrap_or_default();
            let running = Running {
                namespace: &wish.namespace,
                name: text("/metadata/name"),
                stdin: wish.stdin,
                tty: wish.tty,
                quiet: wish.quiet,
                leave_stdin_open: false,
                restart_policy: text("/spec/restartPolicy"),
                wait: wish.running_timeout,
            };
            attach_running(&wish.cluster, &running).await?;
            Ok(0)
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_grammar_is_sound() {
        super::cli::boolean_values(<super::Everyday as clap::CommandFactory>::command()).debug_assert();
    }
}
