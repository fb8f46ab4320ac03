//! The explanation as text.

use coxctl_kit::{Error, Kind};
use serde_json::Value;

use super::schema::{descriptions, inner, of_kind, ref_name, type_name, values};

/// How wide texts are, without their indent.
const WIDTH: usize = 76;
/// How many values are listed beside a field.
const SHOWN: usize = 4;

/// The explanation, and what went wrong half way.
pub fn render(document: &Value, kind: &Kind, path: &[String], recursive: bool) -> (String, Option<Error>) {
    let Some(root) = of_kind(document, kind) else {
        return (
            String::new(),
            Some(Error::message(format!(
                "GVR ({}, Resource={}) not found in OpenAPI schema",
                kind.api_version(),
                kind.plural
            ))),
        );
    };
    let mut out = head(kind);
    let mut schema = root;
    for name in path {
        match inner(document, schema)["properties"].get(name) {
            Some(field) => schema = field,
            None => return (out, Some(Error::message(format!("field {name:?} does not exist")))),
        }
    }
    if let Some(name) = path.last() {
        out.push_str(&field_head(document, schema, name));
    }
    out.push_str("DESCRIPTION:\n");
    out.push_str(&description(&descriptions(document, schema)));
    out.push_str(&fields(document, schema, recursive));
    out.push('\n');
    (out, None)
}

fn head(kind: &Kind) -> String {
    let group = if kind.group.is_empty() { String::new() } else { format!("GROUP:      {}\n", kind.group) };
    format!("{group}KIND:       {}\nVERSION:    {}\n\n", kind.kind, kind.version)
}

fn field_head(document: &Value, schema: &Value, name: &str) -> String {
    let allowed = values(document, schema);
    let list = match allowed.is_empty() {
        true => "\n".to_string(),
        false => {
            format!("ENUM:\n{}", allowed.iter().map(|value| format!("    {value}\n")).collect::<String>())
        }
    };
    format!("FIELD: {name} <{}>\n{list}\n", type_name(document, schema))
}

fn description(texts: &[String]) -> String {
    if texts.is_empty() {
        return "    <empty>\n".into();
    }
    let text = texts.join("\n");
    indent(&(wrap(&text, WIDTH) + "\n"), 4) + "\n"
}

fn fields(document: &Value, schema: &Value, recursive: bool) -> String {
    let holder = inner(document, schema);
    if holder["properties"].as_object().is_none_or(|fields| fields.is_empty()) {
        return String::new();
    }
    let mut out = String::from("FIELDS:\n");
    list(document, holder, recursive, 1, &mut Vec::new(), &mut out);
    out
}

fn list<'a>(
    document: &'a Value,
    holder: &'a Value,
    recursive: bool,
    level: usize,
    above: &mut Vec<&'a str>,
    out: &mut String,
) {
    let mut names: Vec<(&String, &Value)> = holder["properties"].as_object().into_iter().flatten().collect();
    names.sort_by_key(|(name, _)| *name);
    for (name, field) in names {
        let required =
            holder["required"].as_array().into_iter().flatten().any(|required| required == name.as_str());
        out.push_str(&line(document, name, field, required, level));
        if !recursive {
            let texts =
                descriptions(document, field).into_iter().next().unwrap_or_else(|| "<no description>".into());
            out.push_str(&indent(&wrap(&texts, WIDTH), 4));
            out.push_str("\n\n");
            continue;
        }
        deeper(document, field, level, above, out);
    }
}

/// A type that holds itself is not opened again.
fn deeper<'a>(
    document: &'a Value,
    field: &'a Value,
    level: usize,
    above: &mut Vec<&'a str>,
    out: &mut String,
) {
    let name = reference(field);
    if name.is_some_and(|name| above.contains(&name)) {
        return;
    }
    above.extend(name);
    list(document, inner(document, field), true, level + 1, above, out);
    if name.is_some() {
        above.pop();
    }
}

/// The name of the type a field refers to, through lists and maps.
fn reference(schema: &Value) -> Option<&str> {
    ref_name(schema)
        .or_else(|| reference(super::schema::only(schema)?))
        .or_else(|| reference(schema.get("items")?))
        .or_else(|| reference(schema.get("additionalProperties").filter(|more| more.is_object())?))
}

fn line(document: &Value, name: &str, field: &Value, required: bool, level: usize) -> String {
    let margin = "  ".repeat(level);
    let required = if required { " -required-" } else { "" };
    let allowed = values(document, field);
    let mut text = format!("{margin}{name}\t<{}>{required}\n", type_name(document, field));
    if !allowed.is_empty() {
        let more = if allowed.len() > SHOWN { ", ...." } else { "" };
        text.push_str(&format!("{margin}enum: {}{more}\n", allowed[..allowed.len().min(SHOWN)].join(", ")));
    }
    text
}

/// Breaks lines at spaces so that they are no wider than `width`; line breaks stay.
pub fn wrap(text: &str, width: usize) -> String {
    text.split('\n').map(|line| wrap_line(line, width)).collect::<Vec<_>>().join("\n")
}

fn wrap_line(line: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    let mut rest = line;
    while !rest.is_empty() {
        let spaces = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let (gap, after) = rest.split_at(spaces);
        let end = after.find([' ', '\t']).unwrap_or(after.len());
        let (word, after) = after.split_at(end);
        if column > 0 && column + gap.chars().count() + word.chars().count() > width {
            out.push('\n');
            column = 0;
        } else {
            out.push_str(gap);
            column += gap.chars().count();
        }
        out.push_str(word);
        column += word.chars().count();
        rest = after;
    }
    out
}

fn indent(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.split('\n').map(|line| format!("{margin}{line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn explains_objects_and_fields() {
        let document = json!({"components": {"schemas": {
            "io.x.v1.Thing": {"description": "A thing.", "x-kubernetes-group-version-kind": [{"group": "x.io", "version": "v1", "kind": "Thing"}],
                "properties": {"spec": {"description": "Wanted.", "allOf": [{"$ref": "#/components/schemas/io.x.v1.Spec"}]}, "kind": {"type": "string"}}, "required": ["spec"]},
            "io.x.v1.Spec": {"description": "What is wanted.", "type": "object", "properties": {
                "mode": {"type": "string", "enum": ["", "a", "b", "c", "d"], "description": "How."},
                "inner": {"type": "array", "items": {"$ref": "#/components/schemas/io.x.v1.Spec"}}}}}}});
        let kind =
            Kind { group: "x.io".into(), version: "v1".into(), kind: "Thing".into(), ..Kind::default() };
        let (text, error) = render(&document, &kind, &[], true);
        assert!(error.is_none());
        assert_eq!(
            text,
            "GROUP:      x.io\nKIND:       Thing\nVERSION:    v1\n\nDESCRIPTION:\n    A thing.\n    \nFIELDS:\n  kind\t<string>\n  spec\t<Spec> -required-\n    inner\t<[]Spec>\n    mode\t<string>\n    enum: \"\", a, b, c, ....\n\n"
        );
        let (text, _) = render(&document, &kind, &["spec".into(), "mode".into()], false);
        assert_eq!(
            text,
            "GROUP:      x.io\nKIND:       Thing\nVERSION:    v1\n\nFIELD: mode <string>\nENUM:\n    \"\"\n    a\n    b\n    c\n    d\n\nDESCRIPTION:\n    How.\n    \n\n"
        );
        let (_, error) = render(&document, &kind, &["no".into()], false);
        assert_eq!(error.map(|error| error.to_string()).as_deref(), Some("field \"no\" does not exist"));
    }

    #[test]
    fn lines_are_wrapped() {
        assert_eq!(wrap("one two three\nfour", 8), "one two\nthree\nfour");
        assert_eq!(wrap("averyveryverylongword x", 8), "averyveryverylongword\nx");
    }
}
