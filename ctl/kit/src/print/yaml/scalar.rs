//! Strings: plain, quoted once, quoted twice, or as a block of lines.

use super::resolve::is_string;

/// Columns after which a line may be broken at a space.
const WIDTH: usize = 80;

/// The text so far, and where its end is.
#[derive(Default)]
pub struct Pen {
    pub text: String,
    column: usize,
    /// Whether the last thing written was white space or the beginning of the line.
    pub whitespace: bool,
}

impl Pen {
    /// Text as it is.
    pub fn raw(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count();
        self.whitespace = text.ends_with(' ');
    }

    fn push(&mut self, c: char) {
        self.text.push(c);
        self.column += 1;
        self.whitespace = false;
    }

    /// A character of a text. After Unicode's own line breaks the line begins anew, indented.
    fn text_char(&mut self, c: char, next: Option<&char>, indent: usize) {
        self.push(c);
        if is_break(c) {
            self.column = 0;
            if next.is_some_and(|next| !is_break(*next)) {
                self.text.extend(std::iter::repeat_n(' ', indent));
                self.column = indent;
            }
        }
    }

    /// A space before what follows, unless there is one.
    fn space(&mut self) {
        if !self.whitespace && self.column > 0 {
            self.raw(" ");
        }
    }

    /// A word after a space.
    pub fn word(&mut self, word: &str) {
        self.space();
        self.raw(word);
        self.whitespace = false;
    }

    /// Ends the line if one is begun.
    pub fn end_line(&mut self) {
        if self.column > 0 {
            self.feed();
        }
    }

    fn feed(&mut self) {
        self.text.push('\n');
        self.column = 0;
        self.whitespace = true;
    }

    /// A new line, indented.
    pub fn start_line(&mut self, indent: usize) {
        self.end_line();
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
        self.whitespace = true;
    }
}

/// What the characters of a string allow.
#[derive(Default)]
struct Nature {
    indicators: bool,
    special: bool,
    breaks: bool,
    edge_space: bool,
    trailing_space: bool,
    break_space: bool,
    space_break: bool,
}

/// Writes a string; `indent` is where its further lines stand, `key` that it must stay on one line.
pub fn string(pen: &mut Pen, text: &str, indent: usize, key: bool) {
    let nature = nature(text);
    let any = !nature.special && !nature.space_break;
    if text.contains('\n') {
        return if any && !nature.trailing_space && !key {
            literal(pen, text, indent)
        } else {
            double(pen, text, indent, !key)
        };
    }
    if !is_string(text) {
        return double(pen, text, indent, !key);
    }
    if any && !nature.breaks && !nature.indicators && !nature.edge_space && !nature.break_space {
        plain(pen, text, indent, !key);
    } else if any && !nature.break_space && !(key && nature.breaks) {
        single(pen, text, indent, !key);
    } else {
        double(pen, text, indent, !key);
    }
}

fn nature(text: &str) -> Nature {
    let chars: Vec<char> = text.chars().collect();
    let mut nature =
        Nature { indicators: text.starts_with("---") || text.starts_with("..."), ..Nature::default() };
    let (mut spaced, mut broken) = (false, false);
    for (at, c) in chars.iter().copied().enumerate() {
        let blank_before = at == 0 || matches!(chars[at - 1], ' ' | '\t' | '\0') || is_break(chars[at - 1]);
        let blank_after = chars.get(at + 1).is_none_or(|next| matches!(next, ' ' | '\t'));
        nature.indicators |= indicates(c, at == 0, blank_before, blank_after);
        nature.special |= !printable(c);
        let edge = at == 0 || at + 1 == chars.len();
        if c == ' ' {
            nature.edge_space |= edge;
            nature.trailing_space |= at + 1 == chars.len();
            nature.break_space |= broken;
        } else if is_break(c) {
            nature.breaks = true;
            nature.edge_space |= edge;
            nature.space_break |= spaced;
        }
        (spaced, broken) = (c == ' ', is_break(c));
    }
    nature
}

/// Characters that mean something to YAML where they stand.
fn indicates(c: char, first: bool, blank_before: bool, blank_after: bool) -> bool {
    match c {
        ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => first,
        '?' | '-' => first && blank_after,
        ':' => blank_after,
        '#' => blank_before,
        _ => false,
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn printable(c: char) -> bool {
    matches!(u32::from(c), 0x0a | 0x20..=0x7e | 0xa0..=0xd7ff | 0xe000..=0xfefe | 0xff00..=0xfffd)
}

fn plain(pen: &mut Pen, text: &str, indent: usize, fold: bool) {
    pen.space();
    let chars: Vec<char> = text.chars().collect();
    let mut spaces = false;
    for (at, c) in chars.iter().copied().enumerate() {
        let next_is_space = chars.get(at + 1) == Some(&' ');
        if c == ' ' && fold && !spaces && pen.column > WIDTH && !next_is_space {
            pen.start_line(indent);
        } else {
            pen.push(c);
        }
        spaces = c == ' ';
    }
    pen.whitespace = false;
}

fn single(pen: &mut Pen, text: &str, indent: usize, fold: bool) {
    pen.space();
    pen.push('\'');
    let chars: Vec<char> = text.chars().collect();
    let mut spaces = false;
    for (at, c) in chars.iter().copied().enumerate() {
        let inside = at > 0 && at + 1 < chars.len() && chars.get(at + 1) != Some(&' ');
        if c == ' ' && fold && !spaces && pen.column > WIDTH && inside {
            pen.start_line(indent);
        } else {
            if c == '\'' {
                pen.push('\'');
            }
            pen.text_char(c, chars.get(at + 1), indent);
        }
        spaces = c == ' ';
    }
    pen.push('\'');
}

fn double(pen: &mut Pen, text: &str, indent: usize, fold: bool) {
    pen.space();
    pen.push('"');
    let chars: Vec<char> = text.chars().collect();
    let mut spaces = false;
    for (at, c) in chars.iter().copied().enumerate() {
        if !printable(c) || c == '"' || c == '\\' || is_break(c) {
            escaped(pen, c);
            spaces = false;
        } else if c == ' ' && fold && !spaces && pen.column > WIDTH && at > 0 && at + 1 < chars.len() {
            pen.start_line(indent);
            if chars.get(at + 1) == Some(&' ') {
                pen.push('\\');
            }
            spaces = true;
        } else {
            pen.push(c);
            spaces = c == ' ';
        }
    }
    pen.push('"');
}

fn escaped(pen: &mut Pen, c: char) {
    let text = match c {
        '\0' => "\\0".to_string(),
        '\u{7}' => "\\a".into(),
        '\u{8}' => "\\b".into(),
        '\t' => "\\t".into(),
        '\n' => "\\n".into(),
        '\u{b}' => "\\v".into(),
        '\u{c}' => "\\f".into(),
        '\r' => "\\r".into(),
        '\u{1b}' => "\\e".into(),
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        '\u{85}' => "\\N".into(),
        '\u{a0}' => "\\_".into(),
        '\u{2028}' => "\\L".into(),
        '\u{2029}' => "\\P".into(),
        c if u32::from(c) <= 0xff => format!("\\x{:02X}", u32::from(c)),
        c if u32::from(c) <= 0xffff => format!("\\u{:04X}", u32::from(c)),
        c => format!("\\U{:08X}", u32::from(c)),
    };
    pen.raw(&text);
}

fn literal(pen: &mut Pen, text: &str, indent: usize) {
    pen.word("|");
    if text.starts_with(|c| c == ' ' || is_break(c)) {
        pen.raw("2");
    }
    pen.raw(chomping(text));
    let body = text.strip_suffix('\n').unwrap_or(text);
    for line in body.split('\n') {
        pen.feed();
        if !line.is_empty() {
            if !line.starts_with(is_break) {
                pen.start_line(indent);
            }
            let chars: Vec<char> = line.chars().collect();
            chars.iter().enumerate().for_each(|(at, c)| pen.text_char(*c, chars.get(at + 1), indent));
        }
    }
    if pen.column == 0 && body.ends_with('\n') || body.is_empty() {
        pen.feed();
    }
}

/// What becomes of the line breaks at the end: none there, one, or several to keep.
fn chomping(text: &str) -> &'static str {
    let mut ends = text.chars().rev();
    match (ends.next().is_some_and(is_break), ends.next()) {
        (false, _) => "-",
        (true, None) => "+",
        (true, Some(before)) if is_break(before) => "+",
        (true, Some(_)) => "",
    }
}
