//! Two texts as a unified diff, as `diff -u` prints it.

/// One line of both texts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Both(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// The diff of two texts with so many lines around each change; empty when they are the same. Quadratic in the number of
/// lines: for files people read.
pub fn diff(old_name: &str, new_name: &str, old: &str, new: &str, context: usize) -> String {
    let lines = align(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let changed: Vec<usize> =
        lines.iter().enumerate().filter(|(_, l)| !matches!(l, Line::Both(_))).map(|(i, _)| i).collect();
    if changed.is_empty() {
        return String::new();
    }
    let mut out = format!("--- {old_name}\n+++ {new_name}\n");
    for (from, to) in hunks(&changed, lines.len(), context) {
        let before = &lines[..from];
        let within = &lines[from..to];
        out.push_str(&format!(
            "@@ -{} +{} @@\n",
            range(count(before, true), count(within, true)),
            range(count(before, false), count(within, false))
        ));
        for line in within {
            let (mark, text) = match line {
                Line::Both(text) => (' ', text),
                Line::Old(text) => ('-', text),
                Line::New(text) => ('+', text),
            };
            out.push_str(&format!("{mark}{text}\n"));
        }
    }
    out
}

/// Lines of the old text (else the new one).
fn count(lines: &[Line<'_>], old: bool) -> usize {
    lines.iter().filter(|l| if old { !matches!(l, Line::New(_)) } else { !matches!(l, Line::Old(_)) }).count()
}

/// `first,count`; the first line of nothing is the one before it.
fn range(before: usize, within: usize) -> String {
    match within {
        0 => format!("{before},0"),
        1 => format!("{}", before + 1),
        n => format!("{},{n}", before + 1),
    }
}

/// Spans of changes with what is around them; spans that touch are one.
fn hunks(changed: &[usize], len: usize, context: usize) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for &at in changed {
        let (from, to) = (at.saturating_sub(context), at.saturating_add(context + 1).min(len));
        match out.last_mut() {
            Some(last) if from <= last.1 => last.1 = to,
            _ => out.push((from, to)),
        }
    }
    out
}

/// Both texts as one, with as many lines as possible in common.
fn align<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let longest = common(old, new);
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        match (old.get(i), new.get(j)) {
            (Some(a), Some(b)) if a == b => {
                out.push(Line::Both(a));
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), b) if b.is_none() || longest[i + 1][j] >= longest[i][j + 1] => {
                out.push(Line::Old(a));
                i += 1;
            }
            (_, Some(b)) => {
                out.push(Line::New(b));
                j += 1;
            }
            _ => break,
        }
    }
    out
}

/// How many lines the rests of both texts have in common, from each pair of places on.
fn common(old: &[&str], new: &[&str]) -> Vec<Vec<u32>> {
    let mut longest = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i][j] = match old[i] == new[j] {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_the_same_have_no_diff() {
        assert_eq!(diff("a", "b", "x\ny\n", "x\ny\n", 3), "");
        assert_eq!(diff("a", "b", "", "", 3), "");
    }

    #[test]
    fn changes_are_shown_with_what_is_around_them() {
        let old: String = (1..=12).map(|n| format!("{n}\n")).collect();
        let new = old.replace("2\n3\n", "2\nthree\n").replace("11\n", "").replace("12\n", "12\n13\n");
        expect_test::expect![[r#"
            --- a
            +++ b
            @@ -2,3 +2,3 @@
             2
            -3
            +three
             4
            @@ -10,3 +10,3 @@
             10
            -11
             12
            +13
        "#]]
        .assert_eq(&diff("a", "b", &old, &new, 1));
        assert_eq!(diff("a", "b", "", "x\n", 3), "--- a\n+++ b\n@@ -0,0 +1 @@\n+x\n");
        assert_eq!(diff("a", "b", "x\n", "", 0), "--- a\n+++ b\n@@ -1 +0,0 @@\n-x\n");
    }
}
