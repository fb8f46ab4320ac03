//! Field selectors.

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
