//! Making clap's command line behave as kubectl's where they differ.

use clap::{ArgAction, Command};

/// Flags whose values are durations.
const DURATIONS: [&str; 5] = ["timeout", "pod-running-timeout", "since", "keepalive", "duration"];

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
        _ if arg.get_long().is_some_and(|long| DURATIONS.contains(&long)) => arg.value_parser(duration),
        _ => arg,
    });
    names
        .into_iter()
        .fold(command.args_override_self(true), |command, name| command.mut_subcommand(name, boolean_values))
}

/// A duration as Go writes it; it is kept as text.
fn duration(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('-').unwrap_or(text);
    let why = if !text.is_empty() && text.parse::<f64>().is_ok() { "missing unit in" } else { "invalid" };
    match crate::out::go_duration(bare) {
        Some(_) => Ok(text.into()),
        None => Err(format!("time: {why} duration {text:?}")),
    }
}

/// The spellings Go's flag parser takes.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("strconv.ParseBool: parsing {other:?}: invalid syntax")),
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
