//! Columns that line up, as Go's tabwriter makes them with kubectl's settings.

/// Collects lines of tab-separated cells. The last cell of a line belongs to no column.
#[derive(Clone, Debug)]
pub struct TabWriter {
    least: usize,
    padding: usize,
    /// Widths of earlier blocks, kept while columns follow one another across flushes.
    remembered: Option<Vec<usize>>,
    text: String,
}

impl Default for TabWriter {
    fn default() -> TabWriter {
        TabWriter::new(6, 3)
    }
}

impl TabWriter {
    /// A writer whose columns are at least `least` wide, `padding` included.
    pub fn new(least: usize, padding: usize) -> TabWriter {
        TabWriter { least, padding, remembered: None, text: String::new() }
    }

    /// kubectl's writer for tables, whose widths never shrink from one flush to the next.
    pub fn remembering() -> TabWriter {
        TabWriter { remembered: Some(Vec::new()), ..TabWriter::default() }
    }

    /// Adds text; lines end with a newline, cells with a tab.
    pub fn put(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds a line of cells.
    pub fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
        self.put(&cells.join("\t"));
        self.put("\n");
    }

    /// Forgets the widths of earlier blocks.
    pub fn forget(&mut self) {
        if let Some(widths) = &mut self.remembered {
            widths.clear();
        }
    }

    /// The lines added since the last flush, lined up.
    pub fn flush(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        let mut lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
        let open = text.ends_with('\n') || text.is_empty();
        if open {
            lines.pop();
        }
        let mut widths: Vec<Vec<usize>> =
            lines.iter().map(|line| vec![0; line.len().saturating_sub(1)]).collect();
        self.measure(&lines, &mut widths, 0, lines.len(), 0);
        self.layout(&lines, &widths, open)
    }

    /// A column is a run of lines that all have a cell there; it is as wide as its widest cell.
    fn measure(
        &mut self,
        lines: &[Vec<&str>],
        widths: &mut [Vec<usize>],
        from: usize,
        to: usize,
        column: usize,
    ) {
        let mut at = from;
        while at < to {
            if column + 1 >= lines[at].len() {
                at += 1;
                continue;
            }
            let end = (at..to).find(|line| column + 1 >= lines[*line].len()).unwrap_or(to);
            let widest = lines[at..end].iter().map(|line| line[column].chars().count() + self.padding).max();
            let width = self.settle(column, widest.unwrap_or_default().max(self.least));
            widths[at..end].iter_mut().for_each(|line| line[column] = width);
            self.measure(lines, widths, at, end, column + 1);
            at = end;
        }
    }

    fn settle(&mut self, column: usize, width: usize) -> usize {
        let Some(known) = &mut self.remembered else { return width };
        if known.len() <= column {
            known.resize(column + 1, 0);
        }
        known[column] = known[column].max(width);
        known[column]
    }

    fn layout(&self, lines: &[Vec<&str>], widths: &[Vec<usize>], open: bool) -> String {
        let mut out = String::new();
        for (at, (line, widths)) in lines.iter().zip(widths).enumerate() {
            for (cell, width) in line.iter().zip(widths) {
                out.push_str(cell);
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
            out.push_str(line.last().copied().unwrap_or_default());
            if open || at + 1 < lines.len() {
                out.push('\n');
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let table = [
            ("NAME\tAGE\na\t1\n", "NAME   AGE\na      1\n"),
            ("A\tB\nlonger-name\tx\n", "A             B\nlonger-name   x\n"),
            // Trailing text of a line pads nothing and widens nothing.
            ("a\tb\tc\nno cells at all here\nd\te\n", "a     b     c\nno cells at all here\nd     e\n"),
            ("a\t\tb\n", "a           b\n"),
            ("", ""),
        ];
        for (text, lined) in table {
            let mut writer = TabWriter::default();
            writer.put(text);
            assert_eq!(writer.flush(), lined);
        }
    }

    #[test]
    fn widths_are_remembered_until_forgotten() {
        let mut writer = TabWriter::remembering();
        writer.row(&["long-name-here", "x"]);
        writer.flush();
        writer.row(&["a", "b"]);
        assert_eq!(writer.flush(), "a                b\n");
        writer.forget();
        writer.row(&["a", "b"]);
        assert_eq!(writer.flush(), "a     b\n");
    }
}
