//! `-o custom-columns`: a header and a path for each column.

use serde_json::Value;

use super::gotext;
use super::jsonpath::JsonPath;
use super::tab::TabWriter;
use crate::{Error, Result};

/// Columns somebody asked for.
#[derive(Clone, Debug)]
pub struct Columns {
    columns: Vec<(String, JsonPath)>,
}

impl Columns {
    /// Parses `HEADER:path,HEADER:path`.
    pub fn parse(spec: &str) -> Result<Columns> {
        if spec.is_empty() {
            return Err(Error::message("custom-columns format specified but no custom columns given"));
        }
        let column = |part: &str| -> Result<(String, JsonPath)> {
            let bad = || {
                Error::message(format!(
                    "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
                ))
            };
            let (header, path) = part.split_once(':').ok_or_else(bad)?;
            if path.is_empty() {
                return Err(bad());
            }
            Ok((header.to_string(), JsonPath::relaxed(path)?))
        };
        Ok(Columns { columns: spec.split(',').map(column).collect::<Result<_>>()? })
    }

    /// Parses a file of two lines: headers, and paths under them.
    pub fn parse_file(text: &str) -> Result<Columns> {
        let mut lines = text.lines();
        let (Some(headers), Some(paths)) = (lines.next(), lines.next()) else {
            return Err(Error::message(
                "invalid template, missing paths line. Expected format is one line of space separated headers, one line of space separated column specs.",
            ));
        };
        let headers: Vec<&str> = headers.split_whitespace().collect();
        let paths: Vec<&str> = paths.split_whitespace().collect();
        if headers.len() != paths.len() {
            return Err(Error::message(format!(
                "number of headers ({}) and field specifications ({}) don't match",
                headers.len(),
                paths.len()
            )));
        }
        let columns = headers
            .iter()
            .zip(paths)
            .map(|(header, path)| Ok((header.to_string(), JsonPath::relaxed(path)?)));
        Ok(Columns { columns: columns.collect::<Result<_>>()? })
    }

    pub fn header(&self, out: &mut TabWriter) {
        let names: Vec<&str> = self.columns.iter().map(|(header, _)| header.as_str()).collect();
        out.row(&names);
    }

    /// An object's row; what isn't there is `<none>`.
    pub fn row(&self, object: &Value, out: &mut TabWriter) -> Result<()> {
        let mut cells = Vec::with_capacity(self.columns.len());
        for (_, path) in &self.columns {
            let found = path.values(object).map_err(Error::message)?;
            let texts: Vec<String> =
                found.iter().map(|value| super::table::escape(&gotext::plain(value))).collect();
            cells.push(if texts.is_empty() { "<none>".to_string() } else { texts.join(",") });
        }
        out.row(&cells);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_of_wanted_columns() {
        let columns = Columns::parse("NAME:.metadata.name,X:a,L:{.l[*]}").expect("columns");
        let mut out = TabWriter::default();
        columns.header(&mut out);
        columns
            .row(&json!({"metadata": {"name": "one"}, "a": {"b": 1}, "l": [1, 2]}), &mut out)
            .expect("row");
        columns.row(&json!({"metadata": {"name": "two"}}), &mut out).expect("row");
        assert_eq!(out.flush(), "NAME   X          L\none    map[b:1]   1,2\ntwo    <none>     <none>\n");
        for bad in ["", "a", "A:"] {
            assert!(Columns::parse(bad).is_err());
        }
    }
}
