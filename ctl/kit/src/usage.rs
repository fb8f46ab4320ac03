//! What is wrong with a command line, in kubectl's words.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Prints what is wrong with a command line as kubectl would (help as clap does); the exit code is returned. `root` is
/// the grammar the words were read against.
pub fn report_usage(error: &clap::Error, root: &Command, words: &[String]) -> i32 {
    if !error.use_stderr() {
        let _ = error.print();
        return 0;
    }
    match said(error, root, words) {
        Some(text) => crate::out::note(&text),
        None => drop(error.print()),
    }
    1
}

/// The message and where to look, for the mistakes kubectl has words for.
fn said(error: &clap::Error, root: &Command, words: &[String]) -> Option<String> {
    let (path, command) = meant(root, words);
    let text = |kind| context(error, kind);
    let (argument, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let message = match error.kind() {
        ErrorKind::UnknownArgument if !argument.starts_with('-') => return Some(too_many(&path, &argument)),
        ErrorKind::UnknownArgument => unknown(&argument, words),
        ErrorKind::InvalidSubcommand => {
            return Some(no_command(&path, command, &text(ContextKind::InvalidSubcommand)));
        }
        ErrorKind::InvalidValue if argument.starts_with('<') || argument.starts_with('[') => {
            return path.ends_with(" completion").then(|| {
                format!("error: Unsupported shell type {value:?}.\nSee '{path} -h' for help and examples")
            });
        }
        ErrorKind::InvalidValue if value.is_empty() && lacks_value(&argument, words) => {
            format!("flag needs an argument: {}", bare_flag(&argument, words))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let flag = flag(&argument);
            format!(
                "invalid argument {value:?} for {:?} flag{}",
                spelt([command, root], flag),
                cause(error, &value)
            )
        }
        _ => return None,
    };
    Some(format!("Error: {message}\nSee '{path} --help' for usage."))
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        Some(ContextValue::StyledStr(text)) => text.to_string(),
        _ => String::new(),
    }
}

/// The command the words name, and how it is called: `coxctl rollout status`.
fn meant<'a>(root: &'a Command, words: &[String]) -> (String, &'a Command) {
    let (mut path, mut command) = (root.get_name().to_string(), root);
    for word in words.iter().skip(1).take_while(|word| *word != "--").filter(|word| !word.starts_with('-')) {
        if let Some(below) = command.find_subcommand(word) {
            command = below;
            path = format!("{path} {}", below.get_name());
        }
    }
    (path, command)
}

/// `--watch` of `-w, --watch <X>`.
fn flag(argument: &str) -> &str {
    argument.split([' ', '=', '[']).find(|word| word.starts_with("--")).unwrap_or(argument)
}

/// The flag with its short form: `-w, --watch`.
fn spelt(commands: [&Command; 2], flag: &str) -> String {
    let long = flag.trim_start_matches("--");
    let args = commands.into_iter().flat_map(Command::get_arguments);
    let short = args.filter(|arg| arg.get_long() == Some(long)).find_map(clap::Arg::get_short);
    short.map_or_else(|| flag.to_string(), |short| format!("-{short}, {flag}"))
}

/// Whether the flag stands at the end, or was given an empty value.
fn lacks_value(argument: &str, words: &[String]) -> bool {
    !words.iter().any(|word| word.strip_prefix(flag(argument)).is_some_and(|rest| rest == "="))
}

/// A flag without a value, as it was written.
fn bare_flag(argument: &str, words: &[String]) -> String {
    match words.last().filter(|word| word.starts_with('-') && !word.starts_with("--")) {
        Some(short) => format!("'{}' in {short}", short.chars().next_back().unwrap_or_default()),
        None => flag(argument).to_string(),
    }
}

/// Why a value is none, as Go's parsers say it.
fn cause(error: &clap::Error, value: &str) -> String {
    let Some(cause) = std::error::Error::source(error).map(ToString::to_string) else {
        // What clap limits by a list is on or off.
        return format!(": strconv.ParseBool: parsing {value:?}: invalid syntax");
    };
    if cause.contains("invalid digit") || cause.contains("from empty string") {
        return format!(": strconv.ParseInt: parsing {value:?}: invalid syntax");
    }
    if cause.contains("too large") || cause.contains("too small") || cause.contains("is not in") {
        return format!(": strconv.ParseInt: parsing {value:?}: value out of range");
    }
    format!(": {cause}")
}

fn unknown(argument: &str, words: &[String]) -> String {
    if let Some(long) = argument.strip_prefix("--") {
        return format!("unknown flag: --{}", long.split('=').next().unwrap_or(long));
    }
    let letter = argument.trim_start_matches('-').chars().next().unwrap_or_default();
    let short = |word: &&String| word.starts_with('-') && !word.starts_with("--") && word.contains(letter);
    let written = words.iter().find(short).map_or(argument, String::as_str);
    format!("unknown shorthand flag: '{letter}' in {written}")
}

/// An argument where none may stand; each verb has its own words for it.
fn too_many(path: &str, argument: &str) -> String {
    let verb = path.split_once(' ').map_or("", |(_, verb)| verb);
    match verb {
        "version" => format!("error: extra arguments: [{argument}]"),
        "top node" | "top pod" => format!(
            "error: {} [NAME | -l label]\nSee '{path} -h' for help and examples",
            verb.trim_start_matches("top ")
        ),
        _ => format!("error: unexpected arguments: [{argument}]\nSee '{path} -h' for help and examples"),
    }
}

/// A word where a command should stand.
fn no_command(path: &str, command: &Command, word: &str) -> String {
    match path.split_once(' ') {
        Some((_, "create")) => {
            format!("error: Unexpected args: [{word}]\nSee '{path} -h' for help and examples")
        }
        Some(_) => format!("error: unknown command {word:?}\nSee '{path} -h' for help and examples"),
        None => format!("Error: unknown command {word:?} for {path:?}{}", suggestions(command, word)),
    }
}

fn suggestions(command: &Command, word: &str) -> String {
    let word = word.to_lowercase();
    let mut near: Vec<&str> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(Command::get_name)
        .filter(|name| name.starts_with(&word) || distance(name, &word) <= 2)
        .collect();
    near.sort_unstable();
    match near.is_empty() {
        true => String::new(),
        false => format!("\n\nDid you mean this?\n\t{}\n", near.join("\n\t")),
    }
}

/// How many letters must be put in, left out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let changed = row[j] + usize::from(from != *to);
            next.push(changed.min(row[j + 1] + 1).min(next[j] + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction};

    fn line(text: &str) -> String {
        let words: Vec<String> = text.split(' ').map(str::to_string).collect();
        let number = Arg::new("port").short('p').long("port").value_parser(clap::value_parser!(i32));
        let get =
            Command::new("get").arg(number).arg(Arg::new("wide").long("wide").action(ArgAction::SetTrue));
        let root = Command::new("coxctl")
            .subcommand(get)
            .subcommand(Command::new("top").subcommand(Command::new("node")));
        let root = crate::cli::boolean_values(root.subcommand_required(true));
        let error = root.clone().try_get_matches_from(&words).expect_err(text);
        said(&error, &root, &words).unwrap_or_default()
    }

    #[test]
    fn mistakes_are_told_in_kubectls_words() {
        let get = "\nSee 'coxctl get --help' for usage.";
        let table = [
            ("coxctl get --nosuch=1", format!("Error: unknown flag: --nosuch{get}")),
            ("coxctl get -xy", format!("Error: unknown shorthand flag: 'x' in -xy{get}")),
            ("coxctl get --port", format!("Error: flag needs an argument: --port{get}")),
            ("coxctl get -p", format!("Error: flag needs an argument: 'p' in -p{get}")),
            (
                "coxctl get --port=q",
                format!(
                    "Error: invalid argument \"q\" for \"-p, --port\" flag: strconv.ParseInt: parsing \"q\": invalid syntax{get}"
                ),
            ),
            (
                "coxctl get --wide=q",
                format!(
                    "Error: invalid argument \"q\" for \"--wide\" flag: strconv.ParseBool: parsing \"q\": invalid syntax{get}"
                ),
            ),
            (
                "coxctl get x",
                "error: unexpected arguments: [x]\nSee 'coxctl get -h' for help and examples".into(),
            ),
            (
                "coxctl gte",
                "Error: unknown command \"gte\" for \"coxctl\"\n\nDid you mean this?\n\tget\n".into(),
            ),
            ("coxctl zzzzz", "Error: unknown command \"zzzzz\" for \"coxctl\"".into()),
        ];
        for (text, wanted) in table {
            assert_eq!(line(text), wanted, "{text}");
        }
    }
}
