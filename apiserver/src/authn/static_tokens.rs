//! The file of static tokens: `token,user,uid,"group1,group2"` a line.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, bail};

use super::bootstrap_token::same;
use crate::request::UserInfo;

/// Tokens of a file and their users.
#[derive(Debug, Default)]
pub struct StaticTokens {
    users: HashMap<String, UserInfo>,
}

impl StaticTokens {
    /// Reads the file.
    pub fn from_file(path: &Path) -> anyhow::Result<StaticTokens> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        StaticTokens::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads the text of such a file.
    pub fn parse(text: &str) -> anyhow::Result<StaticTokens> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let columns = columns(line);
            let [token, name, uid, rest @ ..] = columns.as_slice() else {
                bail!("line {}: needs token, user and uid", number + 1);
            };
            if token.is_empty() {
                bail!("line {}: empty token", number + 1);
            }
            let groups = rest.first().map(|g| g.split(',').map(str::to_owned).collect()).unwrap_or_default();
            users.insert(
                token.clone(),
                UserInfo { name: name.clone(), uid: uid.clone(), groups, extra: BTreeMap::new() },
            );
        }
        Ok(StaticTokens { users })
    }

    /// The user of a token.
    pub fn check(&self, token: &str) -> Option<UserInfo> {
        let (stored, user) = self.users.get_key_value(token)?;
        same(stored.as_bytes(), token.as_bytes()).then(|| user.clone())
    }
}

/// Columns of a CSV line; a quoted one may hold commas, and a doubled quote stands for one.
fn columns(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut out, '"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            c if c == ' ' && !quoted && out.last().is_some_and(String::is_empty) => {}
            c => push(&mut out, c),
        }
    }
    out
}

fn push(columns: &mut [String], c: char) {
    if let Some(last) = columns.last_mut() {
        last.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let tokens =
            StaticTokens::parse("t1,alice,1\nt2,bob,2,\"dev,ops\"\n\nt3, eve ,3,solo\n").expect("file");
        assert_eq!(tokens.check("t1").map(|u| u.groups), Some(vec![]));
        assert_eq!(tokens.check("t2").map(|u| u.groups), Some(vec!["dev".to_owned(), "ops".to_owned()]));
        assert_eq!(tokens.check("t3").map(|u| u.groups), Some(vec!["solo".to_owned()]));
        assert_eq!(tokens.check("t4"), None);
        assert!(StaticTokens::parse("t1,alice").is_err());
        assert!(StaticTokens::parse(",alice,1").is_err());
    }
}
