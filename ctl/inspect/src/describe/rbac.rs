//! Roles and their bindings.

use super::page::Page;
use super::subject::Subject;
use crate::dig;
use crate::put;
use serde_json::Value;

/// A rule of one resource (or path), with all its verbs.
#[derive(Default, Clone)]
struct Rule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    paths: Vec<String>,
}

/// Writes a role or a cluster role.
pub fn role(subject: &Subject, page: &mut Page) {
    let role = &subject.object;
    page.name(role);
    page.labels_and_annotations(role);
    page.put(0, "PolicyRule:\n");
    page.put(1, "Resources\tNon-Resource URLs\tResource Names\tVerbs\n");
    page.put(1, "---------\t-----------------\t--------------\t-----\n");
    for rule in compact(dig::items(role, "rules").iter().flat_map(single).collect()) {
        let (paths, names, verbs) = (go(&rule.paths), go(&rule.names), go(&rule.verbs));
        put!(page, 1, "{}\t{paths}\t{names}\t{verbs}\n", resource(&rule));
    }
}

fn go(list: &[String]) -> String {
    format!("[{}]", list.join(" "))
}

/// `deployments.apps/scale`.
fn resource(rule: &Rule) -> String {
    let Some(resource) = rule.resources.first() else { return String::new() };
    let (name, sub) = resource
        .split_once('/')
        .map_or((resource.as_str(), String::new()), |(name, sub)| (name, format!("/{sub}")));
    match rule.groups.first().filter(|group| !group.is_empty()) {
        Some(group) => format!("{name}.{group}{sub}"),
        None => resource.clone(),
    }
}

/// Splits a rule into rules of one verb on one thing.
fn single(rule: &Value) -> Vec<Rule> {
    let list = |field| dig::texts(rule, field);
    let (verbs, names) = (list("verbs"), list("resourceNames"));
    let names: Vec<Vec<String>> = if names.is_empty() {
        vec![Vec::new()]
    } else {
        names.iter().map(|name| vec![name.to_string()]).collect()
    };
    let mut out = Vec::new();
    for group in list("apiGroups") {
        for resource in list("resources") {
            for verb in &verbs {
                out.extend(names.iter().map(|names| Rule {
                    verbs: vec![verb.to_string()],
                    groups: vec![group.into()],
                    resources: vec![resource.into()],
                    names: names.clone(),
                    paths: Vec::new(),
                }));
            }
        }
    }
    for path in list("nonResourceURLs") {
        out.extend(verbs.iter().map(|verb| Rule {
            verbs: vec![verb.to_string()],
            paths: vec![path.into()],
            ..Rule::default()
        }));
    }
    out
}

/// Joins rules on the same thing, and orders them by the text upstream orders them by.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = |other: &&mut Rule| {
            rule.paths.is_empty()
                && other.paths.is_empty()
                && other.groups == rule.groups
                && other.resources == rule.resources
                && other.names == rule.names
        };
        match out.iter_mut().find(same) {
            Some(other) => other.verbs.extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out.sort_by_cached_key(order);
    out
}

fn order(rule: &Rule) -> String {
    format!(
        "&PolicyRule{{Verbs:{},APIGroups:{},Resources:{},ResourceNames:{},NonResourceURLs:{},}}",
        go(&rule.verbs),
        go(&rule.groups),
        go(&rule.resources),
        go(&rule.names),
        go(&rule.paths)
    )
}

/// Writes a binding of either kind.
pub fn binding(subject: &Subject, page: &mut Page) {
    let binding = &subject.object;
    page.name(binding);
    page.labels_and_annotations(binding);
    page.put(0, "Role:\n");
    page.field(1, "Kind", dig::text(binding, "roleRef.kind"));
    page.field(1, "Name", dig::text(binding, "roleRef.name"));
    page.put(0, "Subjects:\n");
    page.put(1, "Kind\tName\tNamespace\n");
    page.put(1, "----\t----\t---------\n");
    for subject in dig::items(binding, "subjects") {
        let text = |field| dig::text(subject, field);
        put!(page, 1, "{}\t{}\t{}\n", text("kind"), text("name"), text("namespace"));
    }
}
