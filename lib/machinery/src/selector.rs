//! Label and field selectors.

use crate::names;
use serde_json::{Map, Value};

/// What a requirement asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values, or not set.
    NotIn,
    /// Set.
    Exists,
    /// Not set.
    DoesNotExist,
    /// Set to an integer above the value.
    GreaterThan,
    /// Set to an integer below the value.
    LessThan,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Operator.
    pub operator: Operator,
    /// Values, sorted.
    pub values: Vec<String>,
}

/// Anything labels can be read from.
pub trait Labels {
    /// Value of a label.
    fn get_label(&self, key: &str) -> Option<&str>;
}

impl Labels for Map<String, Value> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

impl<L: Labels> Labels for Option<&L> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.and_then(|l| l.get_label(key))
    }
}

impl Labels for std::collections::BTreeMap<String, String> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Vec<(String, String)> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// Requirements that must all hold. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// All must hold.
    pub requirements: Vec<Requirement>,
    /// Matches nothing at all: the selector of an unset `LabelSelector` field.
    pub nothing: bool,
}

impl LabelSelector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Reads the `labelSelector` of a request: `a=b,c!=d,e in (f,g),h,!i,j notin (k),l>1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: lex(text), at: 0 };
        let mut requirements = parser.selector()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// From a `LabelSelector` object with `matchLabels` and `matchExpressions`; null matches nothing, `{}` everything.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        if value.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        for (key, wanted) in value.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let wanted = wanted.as_str().unwrap_or_default().to_string();
            requirements.push(Requirement::new(key, Operator::In, vec![wanted])?);
        }
        for expression in value.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(Requirement::from_expression(expression)?);
        }
        Ok(Self { requirements, nothing: false })
    }

    /// From a plain map of labels, as in `Service.spec.selector`.
    pub fn from_map(map: &Map<String, Value>) -> Self {
        let exact = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.as_str().unwrap_or_default().to_string()],
        };
        Self { requirements: map.iter().map(exact).collect(), nothing: false }
    }

    /// True when all requirements hold.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// True when every object matches.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The value a label must have, when the selector fixes one.
    pub fn requires_exact(&self, key: &str) -> Option<&str> {
        let exact = |r: &&Requirement| r.key == key && r.operator == Operator::In && r.values.len() == 1;
        self.requirements.iter().find(exact).and_then(|r| r.values.first()).map(String::as_str)
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::In if self.values.len() == 1 => write!(f, "{key}={values}"),
            Operator::NotIn if self.values.len() == 1 => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl Requirement {
    /// A checked requirement.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, String> {
        if let Some(error) = names::is_qualified_name(key).first() {
            return Err(format!("key: Invalid value: {key:?}: {error}"));
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return Err(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
                        .into(),
                );
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return Err(format!(
                    "values: Invalid value: {values:?}: values set must be empty for exists and does not exist"
                ));
            }
            Operator::GreaterThan | Operator::LessThan
                if values.len() != 1 || values[0].parse::<i64>().is_err() =>
            {
                return Err(format!(
                    "values[0]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an integer",
                    values.first().cloned().unwrap_or_default()
                ));
            }
            _ => {}
        }
        for (at, value) in values.iter().enumerate() {
            if let Some(error) = names::is_label_value(value).first() {
                return Err(format!("values[{at}][{key}]: Invalid value: {value:?}: {error}"));
            }
        }
        values.sort();
        values.dedup();
        Ok(Self { key: key.to_string(), operator, values })
    }

    fn from_expression(expression: &Value) -> Result<Self, String> {
        let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
        let operator = match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::GreaterThan,
            "Lt" => Operator::LessThan,
            other => return Err(format!("{other:?} is not a valid label selector operator")),
        };
        let listed = expression.get("values").and_then(Value::as_array);
        let values = listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect();
        Self::new(text("key"), operator, values)
    }

    /// True when the requirement holds.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        let actual = labels.get_label(&self.key);
        let listed = |v: &str| self.values.iter().any(|wanted| wanted == v);
        match self.operator {
            Operator::Exists => actual.is_some(),
            Operator::DoesNotExist => actual.is_none(),
            Operator::In => actual.is_some_and(listed),
            Operator::NotIn => !actual.is_some_and(listed),
            Operator::GreaterThan => self.compare(actual).is_some_and(|(a, b)| a > b),
            Operator::LessThan => self.compare(actual).is_some_and(|(a, b)| a < b),
        }
    }

    fn compare(&self, actual: Option<&str>) -> Option<(i64, i64)> {
        Some((actual?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Comma,
    Open,
    Close,
    Not,
    Equals,
    NotEquals,
    Greater,
    Less,
}

/// Words are runs without white space and special characters.
fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let token = match c {
            c if c.is_ascii_whitespace() => continue,
            ',' => Token::Comma,
            '(' => Token::Open,
            ')' => Token::Close,
            '>' => Token::Greater,
            '<' => Token::Less,
            '=' => {
                chars.next_if_eq(&'=');
                Token::Equals
            }
            '!' if chars.next_if_eq(&'=').is_some() => Token::NotEquals,
            '!' => Token::Not,
            first => {
                let mut word = String::from(first);
                while let Some(next) = chars.next_if(|c| !c.is_ascii_whitespace() && !",()=!<>".contains(*c))
                {
                    word.push(next);
                }
                Token::Word(word)
            }
        };
        tokens.push(token);
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        while self.peek().is_some() {
            requirements.push(self.requirement()?);
            match self.next() {
                None => break,
                Some(Token::Comma) => match self.peek() {
                    Some(Token::Word(_) | Token::Not) => {}
                    other => return Err(format!("found '{}', expected: identifier after ','", shown(other))),
                },
                other => {
                    return Err(format!(
                        "found '{}', expected: ',' or 'end of string'",
                        shown(other.as_ref())
                    ));
                }
            }
        }
        Ok(requirements)
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == Some(&Token::Not);
        if negated {
            self.at += 1;
        }
        let key = match self.next() {
            Some(Token::Word(word)) => word,
            other => return Err(format!("found '{}', expected: identifier", shown(other.as_ref()))),
        };
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        match self.peek().cloned() {
            None | Some(Token::Comma) => Requirement::new(&key, Operator::Exists, Vec::new()),
            Some(token) => {
                self.at += 1;
                self.operator(&key, &token)
            }
        }
    }

    fn operator(&mut self, key: &str, token: &Token) -> Result<Requirement, String> {
        match token {
            Token::Equals => Requirement::new(key, Operator::In, vec![self.exact_value()?]),
            Token::NotEquals => Requirement::new(key, Operator::NotIn, vec![self.exact_value()?]),
            Token::Greater => Requirement::new(key, Operator::GreaterThan, vec![self.exact_value()?]),
            Token::Less => Requirement::new(key, Operator::LessThan, vec![self.exact_value()?]),
            Token::Word(word) if word == "in" => Requirement::new(key, Operator::In, self.values()?),
            Token::Word(word) if word == "notin" => Requirement::new(key, Operator::NotIn, self.values()?),
            other => Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", shown(Some(other)))),
        }
    }

    /// A single value, which may be empty.
    fn exact_value(&mut self) -> Result<String, String> {
        match self.peek().cloned() {
            None | Some(Token::Comma) => Ok(String::new()),
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            other => Err(format!("found '{}', expected: identifier", shown(other.as_ref()))),
        }
    }

    /// `(a,b,)`: empty values between commas are the empty string.
    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Some(Token::Open) => {}
            other => return Err(format!("found '{}' expected: '('", shown(other.as_ref()))),
        }
        let mut values = Vec::new();
        let mut pending = None;
        let mut commas = 0;
        loop {
            match self.next() {
                Some(Token::Word(word)) if pending.is_none() => pending = Some(word),
                Some(Token::Comma) => {
                    values.push(pending.take().unwrap_or_default());
                    commas += 1;
                }
                Some(Token::Close) => {
                    match pending {
                        Some(word) => values.push(word),
                        None if commas > 0 => values.push(String::new()),
                        None => values.push(String::new()),
                    }
                    return Ok(values);
                }
                other => return Err(format!("found '{}', expected: ',', or ')'", shown(other.as_ref()))),
            }
        }
    }
}

fn shown(token: Option<&Token>) -> String {
    let text = match token {
        None => "",
        Some(Token::Word(word)) => word,
        Some(Token::Comma) => ",",
        Some(Token::Open) => "(",
        Some(Token::Close) => ")",
        Some(Token::Not) => "!",
        Some(Token::Equals) => "=",
        Some(Token::NotEquals) => "!=",
        Some(Token::Greater) => ">",
        Some(Token::Less) => "<",
    };
    text.to_string()
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// Field label.
    pub field: String,
    /// Value compared with.
    pub value: String,
    /// `!=` instead of `=`.
    pub negated: bool,
}

/// Terms that must all hold. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// All must hold.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads the `fieldSelector` of a request: `a=b,c==d,e!=f`; `\` escapes `,`, `=` and `\`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for part in split_unescaped(text) {
            if !part.is_empty() {
                terms.push(field_term(part)?);
            }
        }
        Ok(Self { terms })
    }

    /// True when every object matches.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// True when all terms hold; `lookup` gives a field's text, empty when unset.
    pub fn matches<T: AsRef<str>>(&self, lookup: impl Fn(&str) -> T) -> bool {
        self.terms.iter().all(|t| (lookup(&t.field).as_ref() == t.value) != t.negated)
    }

    /// The value a field must have, when the selector fixes one.
    pub fn requires_exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.field == field && !t.negated).map(|t| t.value.as_str())
    }
}

impl std::fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let sign = if term.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{sign}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=")
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn field_term(part: &str) -> Result<FieldTerm, String> {
    let mut escaped = false;
    for (at, c) in part.char_indices() {
        let rest = &part[at..];
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '!' if rest.starts_with("!=") => return make_term(part, at, 2, true),
            '=' if rest.starts_with("==") => return make_term(part, at, 2, false),
            '=' => return make_term(part, at, 1, false),
            _ => {}
        }
    }
    Err(format!("invalid selector: '{part}'; can't understand '{part}'"))
}

fn make_term(part: &str, at: usize, width: usize, negated: bool) -> Result<FieldTerm, String> {
    let value = unescape(&part[at + width..])?;
    Ok(FieldTerm { field: part[..at].to_string(), value, negated })
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                other => {
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: \\{}",
                        other.map(String::from).unwrap_or_default()
                    ));
                }
            },
            ',' | '=' => return Err(format!("invalid field selector: unescaped character in value: {c}")),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(selector: &str, labels: &Value) -> bool {
        LabelSelector::parse(selector).expect(selector).matches(labels.as_object().expect("map"))
    }

    #[test]
    fn label_selectors() {
        let labels = json!({"app": "web", "tier": "front", "n": "5", "empty": ""});
        for yes in [
            "",
            "app",
            "app=web",
            "app==web",
            "app!=db",
            "x!=y",
            "app in (web,db)",
            "app notin (db)",
            "!x",
            "app=web,tier=front",
            " app = web , tier in ( front ) ",
            "n>4",
            "n<6",
            "empty=",
            "empty",
            "in notin (x)",
            "x notin (a)",
            "empty in ()",
            "app in (web,)",
        ] {
            assert!(matches(yes, &labels), "{yes}");
        }
        for no in [
            "x",
            "app=db",
            "app!=web",
            "app in (db)",
            "app notin (web,db)",
            "!app",
            "app=web,x",
            "n>5",
            "n<5",
            "x in (a,b)",
            "x=",
        ] {
            assert!(!matches(no, &labels), "{no}");
        }
        for bad in [
            "a=b,",
            ",",
            "a in b",
            "a in (b",
            "a=b c",
            "!",
            "a!",
            "-a=b",
            "a=-b",
            "a in (b c)",
            "a>x",
            "a==b==c",
            "(",
            "a/b/c=d",
        ] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(LabelSelector::parse("b in (y,x),a=1,!c").expect("ok").to_string(), "a=1,b in (x,y),!c");
    }

    #[test]
    fn selector_objects() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "x", "operator": "DoesNotExist"}]});
        let selector = LabelSelector::from_json(&selector).expect("selector");
        assert!(selector.matches(json!({"a": "b", "c": "e"}).as_object().expect("map")));
        assert!(!selector.matches(json!({"a": "b", "c": "e", "x": ""}).as_object().expect("map")));
        assert!(!LabelSelector::from_json(&Value::Null).expect("null").matches(&Map::new()));
        assert!(LabelSelector::from_json(&json!({})).expect("empty").matches(&Map::new()));
        assert!(
            LabelSelector::from_json(&json!({"matchExpressions": [{"key": "c", "operator": "In"}]})).is_err()
        );
    }

    #[test]
    fn field_selectors() {
        let selector =
            FieldSelector::parse(r"metadata.name=a\,b,spec.nodeName!=n,status.phase==Running").expect("ok");
        let lookup = |field: &str| match field {
            "metadata.name" => "a,b",
            "status.phase" => "Running",
            _ => "",
        };
        assert!(selector.matches(lookup));
        assert_eq!(selector.to_string(), r"metadata.name=a\,b,spec.nodeName!=n,status.phase=Running");
        assert_eq!(selector.requires_exact("metadata.name"), Some("a,b"));
        for bad in ["a", "a=b=c", r"a=\x"] {
            assert!(FieldSelector::parse(bad).is_err(), "{bad}");
        }
        assert!(FieldSelector::parse("").expect("empty").is_empty());
    }
}
