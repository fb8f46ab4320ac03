//! The text form of label selectors.

use super::{Operator, Requirement};

/// Reads `a=b,c!=d,e in (f,g)`.
pub fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    Parser { tokens: lex(text), at: 0 }.selector()
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
