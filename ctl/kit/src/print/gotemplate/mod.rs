//! `-o go-template`: the part of Go's template language that scripts around kubectl use: fields, variables, pipelines,
//! `if`, `range`, `with`, and the usual functions.

mod functions;
mod parse;

use std::collections::BTreeMap;

use serde_json::Value;

use super::gotext;
use crate::{Error, Result};
use parse::{Node, Pipe, Term};

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    nodes: Vec<Node>,
}

type Variables = BTreeMap<String, Value>;
type Outcome<T> = Result<T, String>;

impl Template {
    pub fn parse(text: &str) -> Result<Template> {
        let nodes = parse::template(text).map_err(|cause| {
            Error::message(format!("error parsing template {text}, template: output:1: {cause}"))
        })?;
        Ok(Template { text: text.into(), nodes })
    }

    /// The template filled in with an object.
    pub fn fill(&self, data: &Value) -> Result<String> {
        let mut out = String::new();
        let mut variables = Variables::from([("$".to_string(), data.clone())]);
        block(&self.nodes, data, &mut variables, &mut out).map_err(|cause| self.failed(&cause, data))?;
        Ok(out)
    }

    fn failed(&self, cause: &str, data: &Value) -> Error {
        let raw = super::json::compact(data);
        Error::message(format!(
            "error executing template {}: template: output:1: executing \"output\": {cause}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{}\n\traw data was:\n\t\t{raw}\n\tobject given to template engine was:\n\t\t{}\n\n\n",
            gotext::quote(&self.text),
            self.text,
            gotext::plain(data)
        ))
    }
}

fn block(nodes: &[Node], dot: &Value, variables: &mut Variables, out: &mut String) -> Outcome<()> {
    nodes.iter().try_for_each(|node| one(node, dot, variables, out))
}

fn one(node: &Node, dot: &Value, variables: &mut Variables, out: &mut String) -> Outcome<()> {
    match node {
        Node::Text(text) => out.push_str(text),
        Node::Show(value) => out.push_str(&shown(&evaluate(value, dot, variables)?)),
        Node::Set(name, value) => {
            let value = evaluate(value, dot, variables)?;
            variables.insert(name.clone(), value);
        }
        Node::If(condition, yes, no) => {
            let chosen = if truth(&evaluate(condition, dot, variables)?) { yes } else { no };
            block(chosen, dot, &mut variables.clone(), out)?;
        }
        Node::With(value, yes, no) => {
            let value = evaluate(value, dot, variables)?;
            match truth(&value) {
                true => block(yes, &value, &mut variables.clone(), out)?,
                false => block(no, dot, &mut variables.clone(), out)?,
            }
        }
        Node::Range { names, over, body, empty } => {
            let pairs = pairs(&evaluate(over, dot, variables)?)?;
            if pairs.is_empty() {
                block(empty, dot, &mut variables.clone(), out)?;
            }
            for (key, value) in pairs {
                let mut inner = variables.clone();
                match names.as_slice() {
                    [only] => drop(inner.insert(only.clone(), value.clone())),
                    [first, second, ..] => {
                        inner.insert(first.clone(), key);
                        inner.insert(second.clone(), value.clone());
                    }
                    [] => {}
                }
                block(body, &value, &mut inner, out)?;
            }
        }
    }
    Ok(())
}

fn pairs(value: &Value) -> Outcome<Vec<(Value, Value)>> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            Ok(items.iter().enumerate().map(|(at, item)| (Value::from(at), item.clone())).collect())
        }
        Value::Object(map) => {
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            Ok(pairs.into_iter().map(|(key, value)| (Value::from(key.as_str()), value.clone())).collect())
        }
        Value::Number(count) => {
            Ok((0..count.as_i64().unwrap_or_default()).map(|at| (Value::from(at), Value::from(at))).collect())
        }
        other => Err(format!("range can't iterate over {}", gotext::plain(other))),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        other => gotext::plain(other),
    }
}

/// Nothing, false, zero and what is empty are false.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A pipeline: each command's result is the last argument of the next.
fn evaluate(pipe: &Pipe, dot: &Value, variables: &Variables) -> Outcome<Value> {
    let mut piped: Option<Value> = None;
    for command in &pipe.0 {
        piped = Some(run(command, piped, dot, variables)?);
    }
    Ok(piped.unwrap_or_default())
}

fn run(command: &[Term], piped: Option<Value>, dot: &Value, variables: &Variables) -> Outcome<Value> {
    let Some((first, rest)) = command.split_first() else { return Ok(Value::Null) };
    let Term::Function(name) = first else {
        return term(first, dot, variables);
    };
    let mut arguments: Vec<Value> =
        rest.iter().map(|argument| term(argument, dot, variables)).collect::<Outcome<_>>()?;
    arguments.extend(piped);
    functions::call(name, &arguments)
}

fn term(term: &Term, dot: &Value, variables: &Variables) -> Outcome<Value> {
    match term {
        Term::Literal(value) => Ok(value.clone()),
        Term::Path(names) => field(dot, names),
        Term::Variable(name, names) => field(
            variables.get(name).ok_or_else(|| format!("undefined variable {}", gotext::quote(name)))?,
            names,
        ),
        Term::Group(pipe, names) => field(&evaluate(pipe, dot, variables)?, names),
        Term::Function(name) => functions::call(name, &[]),
    }
}

/// A field that isn't there is nothing; a field of something without fields is an error.
fn field(value: &Value, names: &[String]) -> Outcome<Value> {
    let mut current = value;
    for name in names {
        current = match current {
            Value::Object(map) => map.get(name).unwrap_or(&Value::Null),
            Value::Null => &Value::Null,
            other => return Err(format!("can't evaluate field {name} in type {}", gotext::type_name(other))),
        };
    }
    Ok(current.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates() {
        let data = json!({"kind": "List", "n": 2, "items": [{"name": "a", "l": {"x": "1"}}, {"name": "b"}], "enc": "aGk="});
        let table = [
            ("{{.kind}}", "List"),
            ("{{range .items}}{{.name}}{{\"\\n\"}}{{end}}", "a\nb\n"),
            ("{{range $i, $e := .items}}{{$i}}={{$e.name}} {{end}}", "0=a 1=b "),
            ("{{range $k, $v := (index .items 0).l}}{{$k}}:{{$v}}{{end}}", "x:1"),
            ("{{if eq .kind \"List\"}}yes{{else}}no{{end}}", "yes"),
            ("{{if and .missing (gt .n 1)}}a{{else if .n}}b{{end}}", "b"),
            ("{{len .items}} {{ .missing }}", "2 <no value>"),
            ("a {{- .n -}} b", "a2b"),
            ("{{with .enc}}{{. | base64decode}}{{end}}", "hi"),
            ("{{printf \"%s-%d %q\" .kind .n .kind}}", "List-2 \"List\""),
            ("{{$x := .kind}}{{range .items}}{{$x}}{{$.n}} {{end}}", "List2 List2 "),
            ("{{range .none}}x{{else}}empty{{end}}{{/* nothing */}}", "empty"),
            ("{{.items}}", "[map[l:map[x:1] name:a] map[name:b]]"),
        ];
        for (template, text) in table {
            assert_eq!(
                Template::parse(template).and_then(|t| t.fill(&data)).expect(template),
                text,
                "{template}"
            );
        }
        assert!(Template::parse("{{range .x}}").is_err());
        assert!(Template::parse("{{.a").is_err());
    }
}
