//! The page a description is written on: indented text with tabs, laid out at the end.

use super::tabs;
use crate::dig;
use serde_json::Value;

/// Values of annotations longer than this are shown shortened, characters.
const LONGEST: usize = 140;
/// The annotation that would repeat the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Text under way. Every write may be indented by levels of two spaces.
#[derive(Default)]
pub struct Page {
    raw: String,
    indent: usize,
}

/// Writes formatted text at a level of indentation.
#[macro_export]
macro_rules! put {
    ($page:expr, $level:expr, $($format:tt)+) => { $page.put($level, &format!($($format)+)) };
}

impl Page {
    /// Writes text after two spaces for each level; control sequences of terminals are made visible.
    pub fn put(&mut self, level: usize, text: &str) {
        self.raw.extend(std::iter::repeat_n("  ", level + self.indent));
        self.bare(text);
    }

    /// A whole `title:<tab>value` line.
    pub fn field(&mut self, level: usize, title: &str, value: impl std::fmt::Display) {
        put!(self, level, "{title}:\t{value}\n");
    }

    /// Writes text where the line stands.
    fn bare(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\x1b' => self.raw.push_str("^["),
                '\r' => self.raw.push_str("\\r"),
                other => self.raw.push(other),
            }
        }
    }

    /// Ends a line begun with [`Page::put`]; inside [`Page::nested`] the rest of the line is indented too.
    pub fn end(&mut self, text: &str) {
        self.put(0, text);
        self.raw.push('\n');
    }

    /// Lets `write` write `levels` deeper.
    pub fn nested(&mut self, levels: usize, write: impl FnOnce(&mut Self)) {
        self.indent += levels;
        write(self);
        self.indent -= levels;
    }

    /// The laid out text.
    pub fn finish(self) -> String {
        tabs::align(&self.raw)
    }

    /// `Name:`, `Namespace:`.
    pub fn name(&mut self, object: &Value) {
        self.field(0, "Name", dig::text(object, "metadata.name"));
    }

    /// `Namespace:`.
    pub fn namespace(&mut self, object: &Value) {
        self.field(0, "Namespace", dig::text(object, "metadata.namespace"));
    }

    /// `Labels:` and `Annotations:` of an object, one a line.
    pub fn labels_and_annotations(&mut self, object: &Value) {
        self.labels("", "Labels", &dig::strings(object, "metadata.labels"));
        self.annotations("Annotations", &dig::strings(object, "metadata.annotations"));
    }

    /// `key=value` lines under one title.
    pub fn labels(&mut self, before: &str, title: &str, labels: &[(&str, &str)]) {
        let lines: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.lines(before, title, &lines);
    }

    /// Lines under one title, `<none>` for no line.
    pub fn lines<T: AsRef<str>>(&mut self, before: &str, title: &str, lines: &[T]) {
        put!(self, 0, "{before}{title}:\t");
        if lines.is_empty() {
            return self.end("<none>");
        }
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                self.put(0, before);
                self.put(0, "\t");
            }
            put!(self, 0, "{}\n", line.as_ref());
        }
    }

    /// `key: value` lines; long values and those of many lines stand below their keys.
    pub fn annotations(&mut self, title: &str, annotations: &[(&str, &str)]) {
        put!(self, 0, "{title}:\t");
        let shown: Vec<_> = annotations.iter().filter(|(key, _)| *key != LAST_APPLIED).collect();
        if shown.is_empty() {
            return self.end("<none>");
        }
        for (number, (key, value)) in shown.into_iter().enumerate() {
            if number > 0 {
                self.put(0, "\t");
            }
            self.annotation(key, value.strip_suffix('\n').unwrap_or(value));
        }
    }

    fn annotation(&mut self, key: &str, value: &str) {
        if value.len() + key.len() + 2 <= LONGEST && !value.contains('\n') {
            return put!(self, 0, "{key}: {value}\n");
        }
        put!(self, 0, "{key}:\n");
        for line in value.split('\n') {
            put!(self, 0, "\t  {}\n", shorten(line, LONGEST - 2));
        }
    }
}

/// The first `most` bytes of a text and dots, if it is longer.
pub fn shorten(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.into();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}...", &text[..end])
}
