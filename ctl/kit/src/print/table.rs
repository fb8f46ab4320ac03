//! Tables as the server makes them, laid out as kubectl lays them out.

use serde_json::Value;

use super::gotext;
use super::tab::TabWriter;
use crate::Kind;

/// What is shown besides the server's columns.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    pub no_headers: bool,
    pub wide: bool,
    pub show_labels: bool,
    /// A NAMESPACE column in front.
    pub namespace: bool,
    /// `pod/NAME` instead of `NAME`.
    pub kind: bool,
    /// Labels that get a column.
    pub label_columns: Vec<String>,
}

/// Prints the tables of one kind, one after another, under one header.
#[derive(Clone, Debug, Default)]
pub struct TablePrinter {
    options: TableOptions,
    kind: Option<String>,
    columns: Vec<Value>,
    printed_headers: bool,
}

impl TablePrinter {
    pub fn new(options: TableOptions, kind: Option<&Kind>) -> TablePrinter {
        TablePrinter { options, kind: kind.map(Kind::printed), ..TablePrinter::default() }
    }

    /// Adds a table's rows, with `event` as a column in front when a watch shows what happened.
    pub fn print(&mut self, table: &Value, event: Option<&str>, out: &mut TabWriter) {
        let given = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
        let same = given.is_empty() || given == self.columns;
        let headers = !(self.options.no_headers || self.printed_headers && same);
        if !given.is_empty() {
            self.columns = given;
        }
        let rows = table["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        if rows.is_empty() {
            return;
        }
        if headers {
            let mut names = self.header();
            if event.is_some() {
                names.insert(0, "EVENT".into());
            }
            out.row(&names);
        }
        self.printed_headers = true;
        for row in rows {
            let mut cells = self.row(row);
            if let Some(event) = event {
                // As wide as the longest event, so that later rows line up.
                cells.insert(0, format!("{event:<8}"));
            }
            out.row(&cells);
        }
    }

    fn shown(&self, at: usize) -> bool {
        self.columns
            .get(at)
            .is_some_and(|column| self.options.wide || column["priority"].as_i64().unwrap_or_default() == 0)
    }

    fn header(&self) -> Vec<String> {
        let mut names = Vec::new();
        if self.options.namespace {
            names.push("NAMESPACE".to_string());
        }
        let shown = self.columns.iter().enumerate().filter(|(at, _)| self.shown(*at));
        names.extend(shown.map(|(_, column)| column["name"].as_str().unwrap_or_default().to_uppercase()));
        let short = |label: &String| label.rsplit('/').next().unwrap_or(label).to_uppercase();
        names.extend(self.options.label_columns.iter().map(short));
        if self.options.show_labels {
            names.push("LABELS".into());
        }
        names
    }

    fn row(&self, row: &Value) -> Vec<String> {
        let metadata = &row["object"]["metadata"];
        let mut cells = Vec::new();
        if self.options.namespace {
            cells.push(metadata["namespace"].as_str().unwrap_or_default().to_string());
        }
        let named = self.name_column();
        for (at, value) in
            row["cells"].as_array().into_iter().flatten().enumerate().filter(|(at, _)| self.shown(*at))
        {
            let text = cell(value);
            cells.push(match &self.kind {
                Some(kind) if Some(at) == named => format!("{kind}/{text}"),
                _ => text,
            });
        }
        let label = |key: &String| metadata["labels"][key].as_str().unwrap_or_default().to_string();
        cells.extend(self.options.label_columns.iter().map(label));
        if self.options.show_labels {
            cells.push(labels(&metadata["labels"]));
        }
        cells
    }

    /// The column that holds the name, where names are shown with their kind.
    fn name_column(&self) -> Option<usize> {
        let is_name = |column: &Value| column["format"] == "name" && column["type"] == "string";
        self.columns.iter().position(is_name).filter(|_| self.options.kind)
    }
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(labels: &Value) -> String {
    let mut pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(",") }
}

/// A cell's text: the first line of it, terminal escapes made harmless.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => match text.split_once(['\u{c}', '\n', '\r']) {
            Some((first, _)) => format!("{}...", escape(first)),
            None => escape(text),
        },
        other => escape(&gotext::plain(other)),
    }
}

/// Keeps control characters from reaching the terminal.
pub fn escape(text: &str) -> String {
    text.replace('\u{1b}', "^[").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Value {
        json!({"columnDefinitions": [
            {"name": "Name", "type": "string", "format": "name", "priority": 0},
            {"name": "Ready", "type": "string", "priority": 0},
            {"name": "IP", "type": "string", "priority": 1}],
          "rows": [
            {"cells": ["a", "1/1", "10.0.0.1"], "object": {"metadata": {"namespace": "x", "labels": {"app.io/tier": "web", "b": "c"}}}},
            {"cells": ["b", 3, null], "object": {"metadata": {"namespace": "y"}}}]})
    }

    fn print(options: TableOptions) -> String {
        let kind = Kind { kind: "Deployment".into(), group: "apps".into(), ..Kind::default() };
        let mut out = TabWriter::remembering();
        let mut printer = TablePrinter::new(options, Some(&kind));
        printer.print(&table(), None, &mut out);
        printer.print(&json!({"rows": []}), None, &mut out);
        out.flush()
    }

    #[test]
    fn layouts() {
        let some = TableOptions::default;
        let table = [
            (some(), "NAME   READY\na      1/1\nb      3\n"),
            (
                TableOptions { wide: true, ..some() },
                "NAME   READY   IP\na      1/1     10.0.0.1\nb      3       \n",
            ),
            (
                TableOptions { namespace: true, no_headers: true, ..some() },
                "x     a     1/1\ny     b     3\n",
            ),
            (
                TableOptions { kind: true, ..some() },
                "NAME                READY\ndeployment.apps/a   1/1\ndeployment.apps/b   3\n",
            ),
            (
                TableOptions { label_columns: vec!["app.io/tier".into()], ..some() },
                "NAME   READY   TIER\na      1/1     web\nb      3       \n",
            ),
            (
                TableOptions { show_labels: true, ..some() },
                "NAME   READY   LABELS\na      1/1     app.io/tier=web,b=c\nb      3       <none>\n",
            ),
        ];
        for (options, text) in table {
            assert_eq!(print(options), text);
        }
    }

    #[test]
    fn cells_stay_on_their_line() {
        assert_eq!(cell(&json!("one\ntwo")), "one...");
        assert_eq!(cell(&json!("a\u{1b}[31m")), "a^[[31m");
        assert_eq!(cell(&json!(null)), "");
    }
}
