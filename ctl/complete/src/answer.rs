//! What is said to the shell.

/// What the shell should do with the candidates, as bits that add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directive(pub u8);

impl Directive {
    /// Names of files where there are no candidates.
    pub const DEFAULT: Directive = Directive(0);
    /// No space after the only candidate.
    pub const NO_SPACE: Directive = Directive(2);
    /// No names of files.
    pub const NO_FILES: Directive = Directive(4);
    /// The candidates are endings of files' names.
    pub const EXTENSIONS: Directive = Directive(8);
    /// Directories only.
    pub const DIRECTORIES: Directive = Directive(16);

    /// The directives' names, as the protocol's trace has them.
    pub fn names(self) -> String {
        const NAMES: [(u8, &str); 6] = [
            (1, "Error"),
            (2, "NoSpace"),
            (4, "NoFileComp"),
            (8, "FilterFileExt"),
            (16, "FilterDirs"),
            (32, "KeepOrder"),
        ];
        let set = NAMES.iter().filter(|(bit, _)| self.0 & bit != 0);
        let named: Vec<String> = set.map(|(_, name)| format!("ShellCompDirective{name}")).collect();
        if named.is_empty() { "ShellCompDirectiveDefault".into() } else { named.join(", ") }
    }
}

impl std::ops::BitOr for Directive {
    type Output = Directive;

    fn bitor(self, other: Directive) -> Directive {
        Directive(self.0 | other.0)
    }
}

/// One word that may stand where the cursor is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// The word.
    pub value: String,
    /// What it means; empty where the word says it.
    pub about: String,
}

impl Candidate {
    /// A word with a description, of which the first line counts.
    pub fn new(value: impl Into<String>, about: &str) -> Candidate {
        let about = about.trim().lines().next().unwrap_or_default().trim_end_matches('.').replace('\t', " ");
        Candidate { value: value.into(), about }
    }
}

/// All candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// In the order they are offered.
    pub candidates: Vec<Candidate>,
    /// What to do with them.
    pub directive: Directive,
}

impl Answer {
    /// These words and no names of files.
    pub fn words(candidates: Vec<Candidate>) -> Answer {
        Answer { candidates, directive: Directive::NO_FILES }
    }

    /// These words without descriptions and no names of files.
    pub fn values<T: Into<String>>(values: impl IntoIterator<Item = T>) -> Answer {
        Answer::words(values.into_iter().map(|value| Candidate::new(value, "")).collect())
    }

    /// Nothing may stand here.
    pub fn nothing() -> Answer {
        Answer::words(Vec::new())
    }

    /// The shell's own: names of files.
    pub fn files() -> Answer {
        Answer::default()
    }

    /// The same with another directive.
    pub fn directed(self, directive: Directive) -> Answer {
        Answer { directive, ..self }
    }

    /// The same after more candidates.
    pub fn with(mut self, first: Vec<Candidate>) -> Answer {
        self.candidates.splice(0..0, first);
        self
    }

    /// Only what begins so; endings of files' names and directories are for the shell to choose from.
    pub fn beginning_with(mut self, prefix: &str) -> Answer {
        if self.directive != Directive::EXTENSIONS && self.directive != Directive::DIRECTORIES {
            self.candidates.retain(|candidate| candidate.value.starts_with(prefix));
        }
        self
    }

    /// The protocol's lines.
    pub fn text(&self, described: bool) -> String {
        let mut text = String::new();
        for Candidate { value, about } in &self.candidates {
            // A value with a line break in it could not be told from two.
            match (value.contains('\n'), described && !about.is_empty()) {
                (true, _) => {}
                (false, true) => text.push_str(&format!("{value}\t{about}\n")),
                (false, false) => text.push_str(&format!("{value}\n")),
            }
        }
        text + &format!(":{}\n", self.directive.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_protocol() {
        let two =
            vec![Candidate::new("get", "Display\nmore"), Candidate::new("a\nb", ""), Candidate::new("x", "")];
        let answer = Answer::words(two).directed(Directive::NO_FILES | Directive::NO_SPACE);
        assert_eq!(answer.text(true), "get\tDisplay\nx\n:6\n");
        assert_eq!(answer.clone().beginning_with("g").text(false), "get\n:6\n");
        assert_eq!(answer.directive.names(), "ShellCompDirectiveNoSpace, ShellCompDirectiveNoFileComp");
        assert_eq!(Answer::files().directive.names(), "ShellCompDirectiveDefault");
    }
}
