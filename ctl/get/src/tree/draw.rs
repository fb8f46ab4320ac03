//! The tree as text.

use coxctl_kit::print::age::since;
use coxctl_kit::print::tab::TabWriter;
use serde_json::Value;

use super::state::{Mood, state};
use super::{Forest, uid};

/// A line before colours are put on.
struct Line {
    name: String,
    ready: String,
    status: String,
    age: String,
    mood: Mood,
    chosen: bool,
}

/// The lines from `root` down; of the owners above `chosen` only what leads to it.
pub fn tree(forest: &Forest, root: &str, chosen: &str, colours: bool) -> String {
    let mut lines = Vec::new();
    branch(forest, root, chosen, String::new(), String::new(), &mut Vec::new(), &mut lines);
    let mut table = TabWriter::default();
    table.row(&["NAME", "READY", "STATUS", "AGE"]);
    for line in &lines {
        table.row(&[&line.name, &line.ready, &line.status, &line.age]);
    }
    let text = table.flush();
    if colours { painted(&text, &lines) } else { text }
}

fn branch(
    forest: &Forest,
    own: &str,
    chosen: &str,
    head: String,
    below: String,
    above: &mut Vec<String>,
    lines: &mut Vec<Line>,
) {
    let Some(object) = forest.objects.get(own) else { return };
    lines.push(line(object, own == chosen, head));
    above.push(own.to_string());
    let mut children: Vec<&Value> = forest
        .children
        .get(own)
        .into_iter()
        .flatten()
        .filter(|child| !above.contains(child))
        .filter_map(|child| forest.objects.get(child))
        .collect();
    if above.iter().all(|passed| passed != chosen) {
        children.retain(|child| leads(forest, &uid(child), chosen, 0));
    }
    children.sort_by_key(|child| name(child));
    let last = children.len().saturating_sub(1);
    for (at, child) in children.iter().enumerate() {
        let (corner, bar) = if at == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        branch(
            forest,
            &uid(child),
            chosen,
            format!("{below}{corner}"),
            format!("{below}{bar}"),
            above,
            lines,
        );
    }
    above.pop();
}

/// Whether the chosen object is this one or under it.
fn leads(forest: &Forest, own: &str, chosen: &str, depth: usize) -> bool {
    let children = forest.children.get(own).map(Vec::as_slice).unwrap_or_default();
    own == chosen || depth < 16 && children.iter().any(|child| leads(forest, child, chosen, depth + 1))
}

fn name(object: &Value) -> String {
    format!(
        "{}/{}",
        object["kind"].as_str().unwrap_or_default(),
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}

fn line(object: &Value, chosen: bool, head: String) -> Line {
    let state = state(object);
    let age = since(object["metadata"]["creationTimestamp"].as_str().unwrap_or_default());
    Line {
        name: format!("{head}{}", name(object)),
        ready: state.ready,
        status: state.status,
        age,
        mood: state.mood,
        chosen,
    }
}

/// Good is green, bad red, on its way yellow; the chosen object is bold.
fn painted(text: &str, lines: &[Line]) -> String {
    let mut out = String::new();
    for (at, line) in text.lines().enumerate() {
        let about = at.checked_sub(1).and_then(|at| lines.get(at));
        let code = match about.map(|line| (line.chosen, line.mood)) {
            None => "1",
            Some((_, Mood::Bad)) => "31",
            Some((_, Mood::Waiting)) => "33",
            Some((true, Mood::Good)) => "1;32",
            Some((true, Mood::Plain)) => "1",
            Some((false, Mood::Good)) => "32",
            Some((false, Mood::Plain)) => "0",
        };
        out.push_str(&format!("\u{1b}[{code}m{line}\u{1b}[0m\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(kind: &str, name: &str, owner: Option<&str>) -> Value {
        let owners: Vec<Value> =
            owner.map(|uid| json!({"uid": uid, "controller": true})).into_iter().collect();
        json!({"kind": kind, "metadata": {"name": name, "uid": name, "ownerReferences": owners}})
    }

    #[test]
    fn owners_lead_down_and_children_follow() {
        let objects = [
            object("Deployment", "web", None),
            object("ReplicaSet", "old", Some("web")),
            object("ReplicaSet", "new", Some("web")),
            object("Pod", "a", Some("new")),
            object("Pod", "b", Some("new")),
        ];
        let forest = Forest::grow(objects.into_iter());
        let names = |text: String| {
            text.lines()
                .skip(1)
                .map(|line| line.split("  ").next().unwrap_or_default().trim_end().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(forest.top("a"), "web");
        let whole = tree(&forest, "web", "web", false);
        assert_eq!(whole.lines().next(), Some("NAME                READY   STATUS        AGE"));
        assert_eq!(whole.lines().count(), 6);
        let branch: Vec<String> = names(tree(&forest, "web", "new", false));
        assert_eq!(branch.len(), 4);
        assert_eq!(branch[1], "└─ ReplicaSet/new");
        assert_eq!(tree(&forest, "new", "new", false).lines().count(), 4);
    }
}
