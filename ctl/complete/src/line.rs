//! Reading a command line that isn't finished.

use crate::Grammar;
use crate::grammar::takes_word;

/// What the last word is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A subcommand or an argument.
    Word,
    /// A flag's name.
    Flag,
    /// The value of the flag with this long name.
    Value(String),
    /// Nothing may follow.
    Nothing,
}

/// A command line up to the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The command, by proper names.
    pub path: Vec<String>,
    /// Flags before the last word: long name and value (empty for one that is just on).
    pub given: Vec<(String, String)>,
    /// Arguments before the last word.
    pub words: Vec<String>,
    /// What the last word is about to be.
    pub wanted: Wanted,
    /// What of it is there already.
    pub prefix: String,
    /// Flags of the command itself were given, so that it is the one that is meant.
    settled: bool,
    /// `--` was given: all that follows are arguments.
    ended: bool,
}

impl Line {
    /// Whether a subcommand may stand at the cursor.
    pub fn may_name_command(&self) -> bool {
        self.words.is_empty() && !self.settled && !self.ended
    }

    /// The last value given to a flag.
    pub fn value(&self, flag: &str) -> Option<&str> {
        self.given.iter().rev().find(|(name, _)| name == flag).map(|(_, value)| value.as_str())
    }

    fn path(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }
}

/// Reads the words; the last is what the cursor is at.
///
/// # Errors
/// A flag that isn't known.
pub fn read(grammar: &Grammar, words: &[String]) -> Result<Line, String> {
    let (last, before) = words.split_last().ok_or("no words")?;
    let mut line = Line {
        path: Vec::new(),
        given: Vec::new(),
        words: Vec::new(),
        wanted: Wanted::Word,
        prefix: last.clone(),
        settled: false,
        ended: false,
    };
    let mut waiting: Option<String> = None;
    for word in before {
        match waiting.take() {
            Some(flag) => line.given.push((flag, word.clone())),
            None => waiting = step(grammar, &mut line, word)?,
        }
    }
    if line.given.iter().any(|(name, _)| name == "help") {
        line.wanted = Wanted::Nothing;
        return Ok(line);
    }
    match waiting {
        Some(flag) => line.wanted = Wanted::Value(flag),
        None => finish(grammar, &mut line, last)?,
    }
    Ok(line)
}

/// Takes one complete word; a flag that waits for its value is returned.
fn step(grammar: &Grammar, line: &mut Line, word: &str) -> Result<Option<String>, String> {
    if line.ended || !word.starts_with('-') || word == "-" {
        let path = line.path();
        let descends = line.words.is_empty() && !line.ended;
        match grammar.subcommand(&path, word).filter(|_| descends) {
            Some(name) => line.path.push(name),
            None => line.words.push(word.into()),
        }
        return Ok(None);
    }
    if word == "--" {
        line.ended = true;
        return Ok(None);
    }
    match word.strip_prefix("--") {
        Some(long) => {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            give(grammar, line, name, value)
        }
        None => letters(grammar, line, &word[1..]),
    }
}

/// `-Ao json`, `-ojson`, `-o=json`.
fn letters(grammar: &Grammar, line: &mut Line, letters: &str) -> Result<Option<String>, String> {
    for (at, letter) in letters.char_indices() {
        let rest = &letters[at + letter.len_utf8()..];
        let flag = flag(grammar, line, &letter.to_string())?;
        if let Some(value) = rest.strip_prefix('=') {
            return give(grammar, line, &flag.0, Some(value));
        }
        match (flag.1, rest.is_empty()) {
            (true, true) => return Ok(Some(flag.0)),
            (true, false) => return give(grammar, line, &flag.0, Some(rest)),
            (false, _) => give(grammar, line, &flag.0, None)?,
        };
    }
    Ok(None)
}

fn give(
    grammar: &Grammar,
    line: &mut Line,
    name: &str,
    value: Option<&str>,
) -> Result<Option<String>, String> {
    let (name, takes) = flag(grammar, line, name)?;
    match value {
        None if takes => return Ok(Some(name)),
        value => line.given.push((name, value.unwrap_or_default().into())),
    }
    Ok(None)
}

/// A flag's long name, and whether its value may be the next word. The command is settled by a flag of its own.
fn flag(grammar: &Grammar, line: &mut Line, name: &str) -> Result<(String, bool), String> {
    let found = grammar.flag(&line.path(), name).ok_or_else(|| format!("unknown flag: {name}"))?;
    let long = found.get_long().map_or_else(|| name.to_string(), str::to_string);
    let (takes, own) = (takes_word(found), !found.is_global_set());
    line.settled |= own;
    Ok((long, takes))
}

/// What the last word is.
fn finish(grammar: &Grammar, line: &mut Line, last: &str) -> Result<(), String> {
    if line.ended || !last.starts_with('-') {
        return Ok(());
    }
    let Some((name, value)) = last.split_once('=') else {
        line.wanted = Wanted::Flag;
        return Ok(());
    };
    let known = match name.strip_prefix("--") {
        Some(long) => long.to_string(),
        None => name.chars().next_back().unwrap_or_default().to_string(),
    };
    let (long, _) = flag(grammar, line, &known)?;
    line.wanted = Wanted::Value(long);
    line.prefix = value.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction, Command};

    fn grammar() -> Grammar {
        let namespace = Arg::new("namespace").short('n').long("namespace").global(true);
        let all = Arg::new("all").short('A').long("all").action(ArgAction::SetTrue);
        let output = Arg::new("output").short('o').long("output");
        let dry = Arg::new("dry").long("dry").num_args(0..=1).require_equals(true);
        let get = Command::new("get").alias("g").args([all, output, dry]).arg(Arg::new("what").num_args(0..));
        let apply = Command::new("apply")
            .subcommand(Command::new("view"))
            .arg(Arg::new("file").short('f').long("file"));
        Grammar::new(Command::new("x").arg(namespace).subcommands([get, apply]), Command::new("x"))
    }

    fn read_words(text: &str) -> Result<Line, String> {
        let words: Vec<String> = text.split(' ').map(str::to_string).collect();
        read(&grammar(), &words)
    }

    #[test]
    fn what_is_being_written() {
        let value = |name: &str| Wanted::Value(name.into());
        let table: &[(&str, Wanted, &str)] = &[
            ("", Wanted::Word, ""),
            ("g", Wanted::Word, "g"),
            ("g -", Wanted::Flag, "-"),
            ("get -o ", value("output"), ""),
            ("get -Ao ", value("output"), ""),
            ("get -o=j", value("output"), "j"),
            ("get --output=j", value("output"), "j"),
            ("get --output", Wanted::Flag, "--output"),
            ("get --dry p", Wanted::Word, "p"),
            ("get -ojson p", Wanted::Word, "p"),
            ("get -- -", Wanted::Word, "-"),
            ("-n kube get -h ", Wanted::Nothing, ""),
        ];
        for (text, wanted, prefix) in table {
            let line = read_words(text).expect(text);
            assert_eq!((&line.wanted, line.prefix.as_str()), (wanted, *prefix), "{text}");
        }
        assert!(read_words("get --nosuch ").is_err());
        assert!(read_words("get -x ").is_err());
    }

    #[test]
    fn commands_flags_and_arguments_are_told_apart() {
        let line = read_words("-n kube g pod -A two x").expect("reads");
        assert_eq!(line.path, ["get"]);
        assert_eq!(line.words, ["pod", "two"]);
        assert_eq!(line.value("namespace"), Some("kube"));
        assert_eq!(line.value("all"), Some(""));
        assert!(read_words("apply ").expect("reads").may_name_command());
        assert!(read_words("-n a apply ").expect("reads").may_name_command());
        assert!(!read_words("apply -f a ").expect("reads").may_name_command());
        assert!(!read_words("apply a ").expect("reads").may_name_command());
    }
}
