//! Aligned columns of text whose cells end in tabs, by the rules of Go's elastic tabstops.
//!
//! A column is a run of neighbouring lines that all have a cell there; it is as wide as its widest cell and the
//! padding. The last cell of a line ends no column. Lines without a tab therefore end every column above them.

/// Spaces between the widest cell of a column and the next column.
const PADDING: usize = 2;

/// Lays out `text`: every tab ends a cell, every newline (or form feed) a line.
pub fn align(text: &str) -> String {
    let mut lines: Vec<Vec<&str>> =
        text.split(['\n', '\u{c}']).map(|line| line.split('\t').collect()).collect();
    // What follows the last newline is no line of its own when it is empty.
    let open =
        lines.last().is_some_and(|last| last.len() == 1 && last.first().is_some_and(|cell| cell.is_empty()));
    if open {
        lines.pop();
    }
    let ended = text.ends_with(['\n', '\u{c}']);
    let mut out = String::with_capacity(text.len() * 2);
    let mut widths = Vec::new();
    columns(&lines, 0, lines.len(), &mut widths, &mut out);
    if !ended && out.ends_with('\n') {
        out.pop();
    }
    out
}

/// Prints `lines[from..to]`, in which the columns left of `widths.len()` have these widths.
fn columns(lines: &[Vec<&str>], from: usize, to: usize, widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let has = |line: usize| lines.get(line).is_some_and(|cells| column + 1 < cells.len());
    let mut line = from;
    let mut printed = from;
    while line < to {
        if !has(line) {
            line += 1;
            continue;
        }
        print(lines, printed, line, widths, out);
        let first = line;
        let mut width = 0;
        while line < to && has(line) {
            width = width.max(lines[line][column].chars().count() + PADDING);
            line += 1;
        }
        widths.push(width);
        columns(lines, first, line, widths, out);
        widths.pop();
        printed = line;
    }
    print(lines, printed, to, widths, out);
}

fn print(lines: &[Vec<&str>], from: usize, to: usize, widths: &[usize], out: &mut String) {
    for cells in &lines[from..to] {
        for (at, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let (Some(width), true) = (widths.get(at), at + 1 < cells.len()) {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_are_runs_of_lines() {
        for (text, wanted) in [
            ("", ""),
            ("plain\n", "plain\n"),
            ("a\tb\nccc\td\n", "a    b\nccc  d\n"),
            ("a\tb\nplain\nccc\td\n", "a  b\nplain\nccc  d\n"),
            ("a\tb\tc\naaa\tbbbb\nx\ty\tz\n", "a    b  c\naaa  bbbb\nx    y  z\n"),
            ("a\t\tb\n", "a    b\n"),
            ("\tx:\ty\n\tlong:\tz\n", "  x:     y\n  long:  z\n"),
            ("ä\tb\nxy\tc\n", "ä   b\nxy  c\n"),
            ("a\tb", "a  b"),
            ("a\t\n", "a  \n"),
        ] {
            assert_eq!(align(text), wanted, "{text:?}");
        }
    }
}
