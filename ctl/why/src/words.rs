//! Pieces of sentences.

use coxctl_kit::print::age;

/// A span of time in its two largest units.
pub fn span(seconds: i64) -> String {
    age::human(seconds.max(0))
}

/// `1 pod`, `2 pods`.
pub fn count(n: i64, thing: &str) -> String {
    match n {
        1 => format!("1 {thing}"),
        n => format!("{n} {thing}{}", if thing.ends_with('s') { "es" } else { "s" }),
    }
}

/// `is` or `are`.
pub fn is(n: i64) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

/// `a, b and c`; after `most` of them the rest is counted.
pub fn list<T: AsRef<str>>(names: &[T], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    let rest = names.len().saturating_sub(most);
    match (shown.split_last(), rest) {
        (None, _) => String::new(),
        (Some(_), 1..) => format!("{} and {rest} more", shown.join(", ")),
        (Some((last, [])), 0) => (*last).to_string(),
        (Some((last, first)), 0) => format!("{} and {last}", first.join(", ")),
    }
}

/// A message of the cluster as it fits into a sentence: one line, not too long, without a full stop.
pub fn message(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    cut(line.join(" ").trim_end_matches(['.', ':', ';', ' ']), 300)
}

/// A text of at most so many characters.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_string(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// What stands between the first pair of these marks.
pub fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = text.get(text.find(before)? + before.len()..)?;
    rest.get(..rest.find(after)?)
}

/// What follows a mark.
pub fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.get(text.find(mark)? + mark.len()..)
}

/// The name most like this one, if one is like it at all.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|other| (distance(name, other), *other));
    let limit = (name.chars().count() / 3).max(1);
    near.filter(|(far, other)| *far <= limit || other.starts_with(name) || name.starts_with(other))
        .min_by_key(|(far, _)| *far)
        .map(|(_, other)| other)
}

/// How many letters must be put in, left out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((&above, &corner), to) in row.iter().skip(1).zip(&row).zip(&b) {
            let left = next.last().copied().unwrap_or_default();
            next.push((corner + usize::from(from != *to)).min(left + 1).min(above + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        assert_eq!(list(&["a"], 3), "a");
        assert_eq!(list(&["a", "b"], 3), "a and b");
        assert_eq!(list(&["a", "b", "c", "d", "e"], 3), "a, b, c and 2 more");
        assert_eq!(list::<&str>(&[], 3), "");
        assert_eq!(
            (count(1, "pod"), count(2, "pod"), count(2, "class")),
            ("1 pod".into(), "2 pods".into(), "2 classes".into())
        );
        assert_eq!(message("a\n  b. "), "a b");
        assert_eq!(cut("abcdef", 3), "ab…");
        assert_eq!(between("say \"x\" now", "\"", "\""), Some("x"));
        assert_eq!(after("error: x", ": "), Some("x"));
        assert_eq!(nearest("settigns", &["other", "settings"]), Some("settings"));
        assert_eq!(nearest("x", &["other", "settings"]), None);
    }
}
