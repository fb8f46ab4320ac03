//! The commands and flags there are: the everyday verbs' and the machines' as one.

use clap::{Arg, ArgAction, Command};

use crate::Candidate;

/// Both grammars of the program. What stands first decides which is meant; `config` is in both.
pub struct Grammar {
    everyday: Command,
    machine: Command,
}

impl Grammar {
    /// Takes the grammars, with flags for all commands put into each.
    pub fn new(mut everyday: Command, mut machine: Command) -> Grammar {
        everyday.build();
        machine.build();
        Grammar { everyday, machine }
    }

    /// The commands a path names, by name or alias, one from each grammar at most.
    pub fn at(&self, path: &[&str]) -> Vec<&Command> {
        let walk = |root| path.iter().try_fold(root, |command: &Command, word| command.find_subcommand(word));
        [&self.everyday, &self.machine].into_iter().filter_map(walk).collect()
    }

    /// The proper name of a subcommand that goes by a word.
    pub fn subcommand(&self, path: &[&str], word: &str) -> Option<String> {
        let found = self.at(path).into_iter().find_map(|command| command.find_subcommand(word))?;
        Some(found.get_name().to_string()).filter(|name| name != "help" || path.is_empty())
    }

    /// The commands below a path, sorted; none where there are none.
    pub fn subcommands(&self, path: &[&str]) -> Option<Vec<Candidate>> {
        let below = self.at(path).into_iter().flat_map(Command::get_subcommands);
        let shown = below.filter(|sub| !sub.is_hide_set() && (path.is_empty() || sub.get_name() != "help"));
        let mut all: Vec<Candidate> = shown.map(described).collect();
        all.sort_by(|a, b| a.value.cmp(&b.value));
        all.dedup_by(|a, b| a.value == b.value);
        Some(all).filter(|all| !all.is_empty())
    }

    /// The flags of a command: those of all commands first, each part sorted.
    pub fn flags(&self, path: &[&str]) -> Vec<&Arg> {
        let all = self.at(path).into_iter().flat_map(Command::get_arguments);
        let mut flags: Vec<&Arg> = all.filter(|arg| !arg.is_positional()).collect();
        flags.sort_by_key(|arg| (!arg.is_global_set(), arg.get_long()));
        flags.dedup_by_key(|arg| arg.get_long());
        flags
    }

    /// A flag by its long name, its alias or (one letter) its short one.
    pub fn flag(&self, path: &[&str], name: &str) -> Option<&Arg> {
        let mut letters = name.chars();
        let letter = letters.next().filter(|_| letters.next().is_none());
        let long = |arg: &&Arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|more| more.contains(&name))
        };
        let short = |arg: &&Arg| letter.is_some() && arg.get_short() == letter;
        self.flags(path).into_iter().find(|arg| long(arg) || short(arg))
    }

    /// The words a positional argument is limited to; empty where it isn't.
    pub fn choices(&self, path: &[&str], index: usize) -> Vec<Candidate> {
        let commands = self.at(path);
        let positional = commands.iter().find_map(|command| command.get_positionals().nth(index));
        positional.map(possible).unwrap_or_default()
    }
}

/// The values a flag or argument is limited to.
pub fn possible(arg: &Arg) -> Vec<Candidate> {
    // An on-or-off flag is limited too, but says nothing by it.
    if !arg.get_action().takes_values() {
        return Vec::new();
    }
    let values = arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
    values.map(|value| Candidate::new(value.get_name(), &help(value.get_help()))).collect()
}

/// Whether a flag's value may be the next word.
pub fn takes_word(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

/// Whether a flag may be given again.
pub fn repeats(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// A flag's or value's short description.
pub fn help(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn described(command: &Command) -> Candidate {
    Candidate::new(command.get_name(), &help(command.get_about()))
}
