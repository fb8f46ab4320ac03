//! Making clap's command line behave as kubectl's where they differ.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Command};

/// Lets every flag that is on or off be written `--flag=true` and `--flag=false` too.
pub fn boolean_values(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_string()).collect();
    let command = command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_parser(go_bool),
        _ => arg,
    });
    names
        .into_iter()
        .fold(command.args_override_self(true), |command, name| command.mut_subcommand(name, boolean_values))
}

/// The spellings Go's flag parser takes.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("strconv.ParseBool: parsing {other:?}: invalid syntax")),
    }
}

/// Prints what is wrong with a command line as kubectl would (help as clap does); the exit code is returned.
pub fn report_usage(error: &clap::Error) -> i32 {
    if !error.use_stderr() {
        let _ = error.print();
        return 0;
    }
    match said(error) {
        Some(text) => crate::out::note(&format!("error: {text}")),
        None => drop(error.print()),
    }
    1
}

/// The message and where to look, for the mistakes kubectl has words for.
fn said(error: &clap::Error) -> Option<String> {
    let text = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        Some(ContextValue::StyledStr(text)) => text.to_string(),
        _ => String::new(),
    };
    let (argument, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let program = verb(&text(ContextKind::Usage));
    let message = match error.kind() {
        ErrorKind::UnknownArgument => unknown(&argument),
        ErrorKind::InvalidSubcommand => {
            return Some(format!(
                "unknown command {:?} for {program:?}",
                text(ContextKind::InvalidSubcommand)
            ));
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("flag needs an argument: {}", flag(&argument)),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("invalid argument {value:?} for {:?} flag{cause}", flag(&argument))
        }
        _ => return None,
    };
    Some(format!("{message}\nSee '{program} --help' for usage."))
}

/// `--watch` of `-w, --watch <X>`.
fn flag(argument: &str) -> &str {
    argument.split([' ', '=', '[']).find(|word| word.starts_with('-')).unwrap_or(argument)
}

/// `coxctl get` of `Usage: coxctl get [OPTIONS] …`.
fn verb(usage: &str) -> String {
    let words = usage.trim_start_matches("Usage:").split_whitespace();
    let names: Vec<&str> = words.take_while(|word| !word.starts_with(['[', '<', '-'])).collect();
    if names.is_empty() { "coxctl".into() } else { names.join(" ") }
}

fn unknown(argument: &str) -> String {
    match argument.strip_prefix("--") {
        Some(long) => format!("unknown flag: --{}", long.split('=').next().unwrap_or(long)),
        None => format!(
            "unknown shorthand flag: '{}' in {argument}",
            argument.trim_start_matches('-').chars().next().unwrap_or_default()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    #[derive(Args)]
    struct Flags {
        #[arg(short = 'w', long)]
        watch: bool,
        #[arg(long)]
        other: bool,
    }

    #[test]
    fn switches_take_values() {
        let table = [
            (&["x"][..], false),
            (&["x", "-w"], true),
            (&["x", "--watch"], true),
            (&["x", "--watch=false"], false),
            (&["x", "--watch=1"], true),
        ];
        for (line, on) in table {
            let command = boolean_values(Flags::augment_args(Command::new("x")));
            let flags =
                Flags::from_arg_matches(&command.try_get_matches_from(line).expect("parses")).expect("flags");
            assert_eq!((flags.watch, flags.other), (on, false), "{line:?}");
        }
    }
}
