//! From a template's text to its nodes.

use serde_json::Value;

/// A piece of a template.
#[derive(Clone, Debug)]
pub enum Node {
    Text(String),
    Show(Pipe),
    Set(String, Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range { names: Vec<String>, over: Pipe, body: Vec<Node>, empty: Vec<Node> },
}

/// Commands joined by `|`.
#[derive(Clone, Debug)]
pub struct Pipe(pub Vec<Vec<Term>>);

/// An argument.
#[derive(Clone, Debug)]
pub enum Term {
    Literal(Value),
    Path(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Group(Pipe, Vec<String>),
}

/// Text and the insides of `{{ }}` in turn.
enum Part {
    Text(String),
    Action(String),
}

type Parsed<T> = Result<T, String>;

pub fn template(text: &str) -> Parsed<Vec<Node>> {
    let parts = split(text)?;
    let mut at = 0;
    let (nodes, end) = block(&parts, &mut at)?;
    match end {
        None => Ok(nodes),
        Some(word) => Err(format!("unexpected {{{{{word}}}}}")),
    }
}

fn split(text: &str) -> Parsed<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text.to_string();
    while let Some(start) = rest.find("{{") {
        let (mut before, after) = (rest[..start].to_string(), rest[start + 2..].to_string());
        let end = closing(&after).ok_or("unclosed action")?;
        let (mut inner, mut following) = (after[..end].to_string(), after[end + 2..].to_string());
        if let Some(trimmed) = inner.strip_prefix("- ") {
            before = before.trim_end().to_string();
            inner = trimmed.to_string();
        }
        if let Some(trimmed) = inner.strip_suffix(" -") {
            following = following.trim_start().to_string();
            inner = trimmed.to_string();
        }
        parts.push(Part::Text(before));
        parts.push(Part::Action(inner.trim().to_string()));
        rest = following;
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// Where `}}` stands outside quotes.
fn closing(text: &str) -> Option<usize> {
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

/// Nodes up to `end` or `else`, which is given back.
fn block(parts: &[Part], at: &mut usize) -> Parsed<(Vec<Node>, Option<String>)> {
    let mut nodes = Vec::new();
    while let Some(part) = parts.get(*at) {
        *at += 1;
        let action = match part {
            Part::Text(text) => {
                nodes.push(Node::Text(text.clone()));
                continue;
            }
            Part::Action(action) => action.as_str(),
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
        match word {
            "end" | "else" => return Ok((nodes, Some(action.into()))),
            "if" | "with" | "range" => nodes.push(branch(word, rest.trim(), parts, at)?),
            _ if action.starts_with("/*") => {}
            _ => nodes.push(statement(action)?),
        }
    }
    Ok((nodes, None))
}

fn branch(word: &str, head: &str, parts: &[Part], at: &mut usize) -> Parsed<Node> {
    let (body, end) = block(parts, at)?;
    let other = match end.as_deref() {
        Some("end") => Vec::new(),
        Some(otherwise) if otherwise.starts_with("else") => match otherwise["else".len()..].trim() {
            "" => closed(parts, at)?,
            more => {
                let (word, head) = more.split_once(char::is_whitespace).unwrap_or((more, ""));
                vec![branch(word, head.trim(), parts, at)?]
            }
        },
        _ => return Err("unexpected EOF".into()),
    };
    match word {
        "if" => Ok(Node::If(pipe(head)?, body, other)),
        "with" => Ok(Node::With(pipe(head)?, body, other)),
        _ => {
            let (names, over) = match head.split_once(":=") {
                Some((names, over)) => (names.split(',').map(|name| name.trim().to_string()).collect(), over),
                None => (Vec::new(), head),
            };
            Ok(Node::Range { names, over: pipe(over)?, body, empty: other })
        }
    }
}

fn closed(parts: &[Part], at: &mut usize) -> Parsed<Vec<Node>> {
    match block(parts, at)? {
        (nodes, Some(end)) if end == "end" => Ok(nodes),
        _ => Err("unexpected EOF".into()),
    }
}

fn statement(action: &str) -> Parsed<Node> {
    if action.starts_with('$')
        && let Some((name, value)) = action.split_once(":=").or_else(|| action.split_once(" = "))
        && name.trim()[1..].chars().all(|c| c.is_alphanumeric() || c == '_')
    {
        return Ok(Node::Set(name.trim().into(), pipe(value)?));
    }
    Ok(Node::Show(pipe(action)?))
}

fn pipe(text: &str) -> Parsed<Pipe> {
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    let pipe = commands(&chars, &mut at)?;
    if at < chars.len() {
        return Err(format!("unexpected {:?} in operand", chars[at]));
    }
    Ok(pipe)
}

fn commands(chars: &[char], at: &mut usize) -> Parsed<Pipe> {
    let mut commands = vec![Vec::new()];
    while let Some(c) = chars.get(*at) {
        match c {
            c if c.is_whitespace() => *at += 1,
            ')' => break,
            '|' => {
                *at += 1;
                commands.push(Vec::new());
            }
            _ => {
                let term = term(chars, at)?;
                commands.last_mut().into_iter().for_each(|command| command.push(term.clone()));
            }
        }
    }
    if commands.iter().any(Vec::is_empty) {
        return Err("missing value for command".into());
    }
    Ok(Pipe(commands))
}

fn term(chars: &[char], at: &mut usize) -> Parsed<Term> {
    match chars[*at] {
        '(' => {
            *at += 1;
            let inner = commands(chars, at)?;
            if chars.get(*at) != Some(&')') {
                return Err("unclosed left paren".into());
            }
            *at += 1;
            Ok(Term::Group(inner, path(chars, at)))
        }
        '"' => quoted(chars, at),
        '`' => {
            let from = *at + 1;
            let to =
                (from..chars.len()).find(|end| chars[*end] == '`').ok_or("unterminated raw quoted string")?;
            *at = to + 1;
            Ok(Term::Literal(Value::from(chars[from..to].iter().collect::<String>())))
        }
        '.' => Ok(Term::Path(path(chars, at))),
        '$' => {
            *at += 1;
            let name = format!("${}", name(chars, at));
            Ok(Term::Variable(name, path(chars, at)))
        }
        c if c.is_alphanumeric() || c == '-' || c == '+' || c == '_' => word(chars, at),
        c => Err(format!("unexpected {c:?} in command")),
    }
}

fn word(chars: &[char], at: &mut usize) -> Parsed<Term> {
    let from = *at;
    while chars.get(*at).is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.')) {
        *at += 1;
    }
    let word: String = chars[from..*at].iter().collect();
    Ok(match word.as_str() {
        "true" => Term::Literal(Value::Bool(true)),
        "false" => Term::Literal(Value::Bool(false)),
        "nil" => Term::Literal(Value::Null),
        word if word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') => Term::Literal(
            serde_json::from_str(word.trim_start_matches('+'))
                .map_err(|_| format!("bad number syntax: {word:?}"))?,
        ),
        word if super::functions::NAMES.contains(&word) => Term::Function(word.into()),
        word => return Err(format!("function {} not defined", crate::print::gotext::quote(word))),
    })
}

fn quoted(chars: &[char], at: &mut usize) -> Parsed<Term> {
    let from = *at;
    *at += 1;
    while let Some(c) = chars.get(*at).filter(|c| **c != '"') {
        *at += if *c == '\\' { 2 } else { 1 };
    }
    *at += 1;
    let text: String = chars.get(from..*at).ok_or("unterminated quoted string")?.iter().collect();
    serde_json::from_str(&text).map(Term::Literal).map_err(|_| "unterminated quoted string".into())
}

/// `.a.b`, or nothing.
fn path(chars: &[char], at: &mut usize) -> Vec<String> {
    let mut names = Vec::new();
    while chars.get(*at) == Some(&'.') {
        *at += 1;
        let name = name(chars, at);
        if !name.is_empty() {
            names.push(name);
        }
    }
    names
}

fn name(chars: &[char], at: &mut usize) -> String {
    let from = *at;
    while chars.get(*at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
        *at += 1;
    }
    chars[from..*at].iter().collect()
}
