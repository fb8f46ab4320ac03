//! Walking a path through a value.

use std::borrow::Cow;

use serde_json::Value;

use super::parse::{Bound, Node};
use crate::print::gotext;

type Found<'a> = Vec<Cow<'a, Value>>;
type Outcome<T> = Result<T, String>;

/// The results of a template's parts.
pub fn run<'a>(nodes: &'a [Node], data: &'a Value, allow_missing: bool) -> Outcome<Vec<Found<'a>>> {
    let mut walk = Walk { allow_missing, depth: 0 };
    let (parts, _) = walk.block(nodes, vec![Cow::Borrowed(data)])?;
    Ok(parts)
}

/// What a step did to the flow of the template.
enum Flow<'a> {
    Values(Found<'a>),
    Range(Found<'a>),
    End,
}

struct Walk {
    allow_missing: bool,
    /// How many ranges are open.
    depth: usize,
}

impl Walk {
    /// Parts up to the end of the block; also how many nodes were used, the `{end}` included.
    fn block<'a>(&mut self, nodes: &'a [Node], input: Found<'a>) -> Outcome<(Vec<Found<'a>>, usize)> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(node) = nodes.get(at) {
            at += 1;
            match self.part(node, &input)? {
                Flow::Values(found) => parts.push(found),
                Flow::End => return Ok((parts, at)),
                Flow::Range(found) => {
                    self.depth += 1;
                    let used = self.range(&nodes[at..], found, &mut parts)?;
                    self.depth -= 1;
                    at += used;
                }
            }
        }
        Ok((parts, at))
    }

    /// A range without results is walked once for nothing, to find its end.
    fn range<'a>(
        &mut self,
        nodes: &'a [Node],
        found: Found<'a>,
        parts: &mut Vec<Found<'a>>,
    ) -> Outcome<usize> {
        if found.is_empty() {
            return Ok(self.block(nodes, Vec::new())?.1);
        }
        let mut used = 0;
        for value in found {
            let (more, count) = self.block(nodes, vec![value])?;
            parts.extend(more);
            used = count;
        }
        Ok(used)
    }

    fn part<'a>(&mut self, node: &'a Node, input: &Found<'a>) -> Outcome<Flow<'a>> {
        let Node::List(nodes) = node else { return self.step(node, input.clone()).map(Flow::Values) };
        let mut ranges = false;
        let mut current = input.clone();
        for node in nodes {
            match node {
                Node::Word(word) if word == "range" => ranges = true,
                Node::Word(word) if word == "end" && self.depth > 0 => return Ok(Flow::End),
                Node::Word(word) if word == "end" => return Err("not in range, nothing to end".into()),
                other => current = self.step(other, current)?,
            }
        }
        Ok(if ranges { Flow::Range(current) } else { Flow::Values(current) })
    }

    fn list<'a>(&mut self, nodes: &'a [Node], input: Found<'a>) -> Outcome<Found<'a>> {
        nodes.iter().try_fold(input, |current, node| self.step(node, current))
    }

    fn step<'a>(&mut self, node: &'a Node, input: Found<'a>) -> Outcome<Found<'a>> {
        match node {
            Node::Text(text) => Ok(vec![Cow::Owned(Value::from(text.as_str()))]),
            Node::Int(number) => Ok(vec![Cow::Owned(Value::from(*number))]),
            Node::Float(number) => Ok(vec![Cow::Owned(Value::from(*number))]),
            Node::Bool(yes) => Ok(vec![Cow::Owned(Value::from(*yes))]),
            Node::Field(name) => self.field(name, input),
            Node::Wildcard => Ok(input.into_iter().flat_map(children).collect()),
            Node::Recursive => Ok(descend(input)),
            Node::Slice(bounds) => slice(bounds, input),
            Node::Union(members) => {
                let mut all = Vec::new();
                for member in members {
                    all.extend(self.list(member, input.clone())?);
                }
                Ok(all)
            }
            Node::Filter { left, operator, right } => self.filter(left, operator, right, input),
            Node::Word(word) => Err(format!("unrecognized identifier {word}")),
            Node::List(nodes) => self.list(nodes, input),
        }
    }

    fn field<'a>(&self, name: &str, input: Found<'a>) -> Outcome<Found<'a>> {
        if input.is_empty() {
            return Ok(input);
        }
        let found: Found<'a> = input.into_iter().filter_map(|value| member(value, name)).collect();
        if found.is_empty() && !self.allow_missing {
            return Err(format!("{name} is not found"));
        }
        Ok(found)
    }

    fn filter<'a>(
        &mut self,
        left: &'a [Node],
        operator: &str,
        right: &'a [Node],
        input: Found<'a>,
    ) -> Outcome<Found<'a>> {
        let mut kept = Vec::new();
        for value in input {
            if !value.is_array() {
                return Err(format!(
                    "{} is not array or slice and cannot be filtered",
                    gotext::plain(&value)
                ));
            }
            for item in children(value) {
                if self.passes(left, operator, right, item.clone())? {
                    kept.push(item);
                }
            }
        }
        Ok(kept)
    }

    fn passes<'a>(
        &mut self,
        left: &'a [Node],
        operator: &str,
        right: &'a [Node],
        item: Cow<'a, Value>,
    ) -> Outcome<bool> {
        let lefts = self.list(left, vec![item.clone()]);
        if operator == "exists" {
            return Ok(lefts.is_ok_and(|found| !found.is_empty()));
        }
        let Some(left) = single(lefts?)? else { return Ok(false) };
        let Some(right) = single(self.list(right, vec![item.clone()])?)? else { return Ok(false) };
        compare(&left, operator, &right)
    }
}

fn single(found: Found<'_>) -> Outcome<Option<Cow<'_, Value>>> {
    if found.len() > 1 {
        return Err("can only compare one element at a time".into());
    }
    Ok(found.into_iter().next())
}

fn compare(left: &Value, operator: &str, right: &Value) -> Outcome<bool> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (left, right) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) if a.is_f64() == b.is_f64() => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Equal)
        }
        (Value::Bool(a), Value::Bool(b)) if matches!(operator, "==" | "!=") => a.cmp(b),
        (Value::Bool(_), Value::Bool(_)) => return Err("invalid type for comparison".into()),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            return Err("invalid type for comparison".into());
        }
        _ => return Err("incompatible types for comparison".into()),
    };
    match operator {
        "<" => Ok(order == Less),
        ">" => Ok(order == Greater),
        "==" => Ok(order == Equal),
        "!=" => Ok(order != Equal),
        "<=" => Ok(order != Greater),
        ">=" => Ok(order != Less),
        other => Err(format!("unrecognized filter operator {other}")),
    }
}

fn member<'a>(value: Cow<'a, Value>, name: &str) -> Option<Cow<'a, Value>> {
    match value {
        Cow::Borrowed(value) => value.as_object()?.get(name).map(Cow::Borrowed),
        Cow::Owned(mut value) => value.as_object_mut()?.remove(name).map(Cow::Owned),
    }
}

fn children(value: Cow<'_, Value>) -> Found<'_> {
    match value {
        Cow::Borrowed(Value::Array(items)) => items.iter().map(Cow::Borrowed).collect(),
        Cow::Borrowed(Value::Object(map)) => map.values().map(Cow::Borrowed).collect(),
        Cow::Owned(Value::Array(items)) => items.into_iter().map(Cow::Owned).collect(),
        Cow::Owned(Value::Object(map)) => map.into_iter().map(|(_, value)| Cow::Owned(value)).collect(),
        _ => Vec::new(),
    }
}

/// Every value that holds something, before what it holds.
fn descend(input: Found<'_>) -> Found<'_> {
    let mut all = Vec::new();
    for value in input {
        let inner = children(value.clone());
        let text = value.as_str().is_some_and(|text| !text.is_empty());
        if !inner.is_empty() || text {
            all.push(value);
            all.extend(descend(inner));
        }
    }
    all
}

fn slice<'a>(bounds: &[Bound; 3], input: Found<'a>) -> Outcome<Found<'a>> {
    let mut out = Vec::new();
    for value in input {
        if value.is_null() {
            continue;
        }
        if !value.is_array() {
            return Err(format!("{} is not array or slice", gotext::type_name(&value)));
        }
        let items = children(value);
        let (from, to) = limits(bounds, items.len() as i64);
        if from == to {
            return Ok(out);
        }
        check(from, to, items.len() as i64)?;
        let step = if bounds[2].known { bounds[2].value } else { 1 };
        if step <= 0 {
            return Err("step must be > 0".into());
        }
        let count = usize::try_from(to - from).unwrap_or_default();
        let skip = usize::try_from(from).unwrap_or_default();
        out.extend(items.into_iter().skip(skip).take(count).step_by(usize::try_from(step).unwrap_or(1)));
    }
    Ok(out)
}

/// Where a slice begins and ends, negative numbers counted from the end.
fn limits(bounds: &[Bound; 3], length: i64) -> (i64, i64) {
    let mut from = if bounds[0].known { bounds[0].value } else { 0 };
    if from < 0 {
        from += length;
    }
    let mut to = if bounds[1].known { bounds[1].value } else { length };
    if to < 0 || (to == 0 && bounds[1].derived) {
        to += length;
    }
    (from, to)
}

fn check(from: i64, to: i64, length: i64) -> Outcome<()> {
    if from >= length || from < 0 {
        return Err(format!("array index out of bounds: index {from}, length {length}"));
    }
    if to > length || to < 0 {
        return Err(format!("array index out of bounds: index {}, length {length}", to - 1));
    }
    if from > to {
        return Err(format!("starting index {from} is greater than ending index {to}"));
    }
    Ok(())
}
