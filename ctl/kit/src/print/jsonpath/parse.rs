//! From the text of a template to its nodes.

use std::sync::LazyLock;

use regex::Regex;

use super::quoted::unquote;

/// One step of a path, or a piece of text.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Field(String),
    Wildcard,
    Recursive,
    Slice([Bound; 3]),
    Union(Vec<Vec<Node>>),
    Filter {
        left: Vec<Node>,
        operator: String,
        right: Vec<Node>,
    },
    /// `range` and `end`, or a word that means nothing.
    Word(String),
    /// What stood between braces.
    List(Vec<Node>),
}

/// One number of a slice: where it starts, ends, how far it steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bound {
    pub known: bool,
    pub value: i64,
    /// The end of a single index, which follows from its start.
    pub derived: bool,
}

static SLICE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^(-?\d*)(:-?\d*)?(:-?\d*)?$").ok());
static DICTIONARY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^'([^']*)'$").ok());
static COMPARISON: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^([^!<>=]+)([!<>=]+)(.+?)$").ok());

type Parsed<T> = Result<T, String>;

/// A whole template: text and expressions in braces.
pub fn template(text: &str) -> Parsed<Vec<Node>> {
    let mut nodes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            nodes.push(Node::Text(before.into()));
        }
        let mut scanner = Scanner { chars: after.chars().collect(), at: 0 };
        nodes.push(Node::List(scanner.expression()?));
        let used: usize = scanner.chars[..scanner.at].iter().map(|c| c.len_utf8()).sum();
        rest = &after[used..];
    }
    if !rest.is_empty() {
        nodes.push(Node::Text(rest.into()));
    }
    Ok(nodes)
}

/// The nodes of one expression without its braces.
fn action(text: &str) -> Parsed<Vec<Node>> {
    match template(&format!("{{{text}}}"))?.into_iter().next() {
        Some(Node::List(nodes)) => Ok(nodes),
        _ => Ok(Vec::new()),
    }
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
}

impl Scanner {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn sees(&self, prefix: &str) -> bool {
        prefix.chars().enumerate().all(|(offset, c)| self.chars.get(self.at + offset) == Some(&c))
    }

    fn text(&self, from: usize, to: usize) -> String {
        self.chars[from..to].iter().collect()
    }

    /// Everything up to and with the closing brace.
    fn expression(&mut self) -> Parsed<Vec<Node>> {
        let mut nodes = Vec::new();
        loop {
            if self.sees("[?(") {
                nodes.push(self.filter()?);
                continue;
            }
            if self.sees("..") {
                self.recursive(&mut nodes)?;
                continue;
            }
            match self.next() {
                None | Some('\n' | '\r') => return Err("unclosed action".into()),
                Some('}') => return Ok(nodes),
                Some(' ' | '@' | '$') => {}
                Some('[') => self.array(&mut nodes)?,
                Some(quote @ ('"' | '\'')) => nodes.push(self.quoted(quote)?),
                Some('.') => nodes.push(self.field()),
                Some(c) if c == '+' || c == '-' || c.is_numeric() => nodes.push(self.number()?),
                Some(c) if c == '_' || c.is_alphanumeric() => nodes.push(self.word()),
                Some(c) => {
                    return Err(format!("unrecognized character in action: U+{:04X} '{c}'", u32::from(c)));
                }
            }
        }
    }

    fn recursive(&mut self, nodes: &mut Vec<Node>) -> Parsed<()> {
        if nodes.last() == Some(&Node::Recursive) {
            return Err("invalid multiple recursive descent".into());
        }
        self.at += 2;
        nodes.push(Node::Recursive);
        if self.peek().is_some_and(|c| c == '_' || c.is_alphanumeric()) {
            nodes.push(self.field());
        }
        Ok(())
    }

    fn field(&mut self) -> Node {
        let from = self.at;
        while let Some(c) = self.peek().filter(|c| !terminates(*c)) {
            self.at += if c == '\\' { 2 } else { 1 };
        }
        self.at = self.at.min(self.chars.len());
        match self.text(from, self.at).as_str() {
            "*" => Node::Wildcard,
            name => Node::Field(name.replace('\\', "")),
        }
    }

    fn number(&mut self) -> Parsed<Node> {
        let from = self.at - 1;
        while self.peek().is_some_and(|c| c == '.' || !terminates(c)) {
            self.at += 1;
        }
        let text = self.text(from, self.at);
        if let Ok(int) = text.parse() {
            return Ok(Node::Int(int));
        }
        text.parse().map(Node::Float).map_err(|_| format!("cannot parse number {text}"))
    }

    fn word(&mut self) -> Node {
        let from = self.at - 1;
        while self.peek().is_some_and(|c| !terminates(c)) {
            self.at += 1;
        }
        match self.text(from, self.at).as_str() {
            "true" => Node::Bool(true),
            "false" => Node::Bool(false),
            word => Node::Word(word.into()),
        }
    }

    fn quoted(&mut self, quote: char) -> Parsed<Node> {
        let from = self.at;
        loop {
            match self.next() {
                None | Some('\n') => return Err("unterminated quoted string".into()),
                Some(c) if c == quote && self.chars.get(self.at.wrapping_sub(2)) != Some(&'\\') => break,
                Some(_) => {}
            }
        }
        unquote(&self.text(from, self.at - 1)).map(Node::Text)
    }

    fn filter(&mut self) -> Parsed<Node> {
        self.at += 3;
        let from = self.at;
        let mut open: Option<char> = None;
        let mut closed = false;
        loop {
            match self.next() {
                None | Some('\n') => return Err("unterminated filter".into()),
                Some(c @ ('"' | '\'')) => match open {
                    None => open = Some(c),
                    Some(pair) => closed |= c == pair && self.chars.get(self.at - 2) != Some(&'\\'),
                },
                Some(')') if open.is_some() == closed => break,
                Some(_) => {}
            }
        }
        let to = self.at - 1;
        if self.next() != Some(']') {
            return Err("unclosed array expect ]".into());
        }
        condition(&self.text(from, to))
    }

    fn array(&mut self, nodes: &mut Vec<Node>) -> Parsed<()> {
        let from = self.at;
        loop {
            match self.next() {
                None | Some('\n') => return Err("unterminated array".into()),
                Some(']') => break,
                Some(_) => {}
            }
        }
        let text = self.text(from, self.at - 1);
        let text = if text == "*" { ":" } else { text.as_str() };
        let parts: Vec<&str> = text.split(',').collect();
        if parts.len() > 1 {
            let union: Parsed<Vec<Vec<Node>>> =
                parts.iter().map(|part| action(&format!("[{}]", part.trim_matches(' ')))).collect();
            nodes.push(Node::Union(union?));
            return Ok(());
        }
        if let Some(key) = DICTIONARY.as_ref().and_then(|pattern| pattern.captures(text)) {
            nodes.extend(action(&format!(".{}", &key[1]))?);
            return Ok(());
        }
        nodes.push(Node::Slice(slice(text)?));
        Ok(())
    }
}

fn condition(text: &str) -> Parsed<Node> {
    match COMPARISON.as_ref().and_then(|pattern| pattern.captures(text)) {
        None => Ok(Node::Filter { left: action(text)?, operator: "exists".into(), right: Vec::new() }),
        Some(parts) => Ok(Node::Filter {
            left: action(&parts[1])?,
            operator: parts[2].into(),
            right: action(&parts[3])?,
        }),
    }
}

fn slice(text: &str) -> Parsed<[Bound; 3]> {
    let bad = || format!("invalid array index {text}");
    let parts = SLICE.as_ref().and_then(|pattern| pattern.captures(text)).ok_or_else(bad)?;
    let mut bounds = [Bound::default(); 3];
    for at in 0..3 {
        let part = parts.get(at + 1).map_or("", |part| part.as_str());
        if part.is_empty() {
            if at == 1 {
                bounds[1] = Bound { known: true, value: bounds[0].value + 1, derived: true };
            }
            continue;
        }
        let digits = if at > 0 { &part[1..] } else { part };
        if !digits.is_empty() {
            let value = digits.parse().map_err(|_| format!("array index {digits} is not a number"))?;
            bounds[at] = Bound { known: true, value, derived: false };
        }
    }
    Ok(bounds)
}

fn terminates(c: char) -> bool {
    matches!(c, ' ' | '\n' | '\r' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}
