//! `auth reconcile`: roles get the rules they lack, bindings the subjects they lack.

use coxctl_kit::print::output::OBJECT_FORMATS;
use coxctl_kit::{Cluster, Error, Globals, Item, Pick, Result, Write, out};
use serde_json::{Value, json};

use super::ReconcileArgs;

pub async fn run(args: &ReconcileArgs, globals: &Globals) -> Result<i32> {
    if args.files.is_empty() {
        return Err(Error::message("must specify one of -f and -k"));
    }
    let mut printer = args.print.printer(OBJECT_FORMATS)?;
    let cluster = globals.connect().await?;
    let picked = Pick { files: args.files.clone(), ..Pick::default() }.items(&cluster, false).await?;
    let mut errors = picked.errors;
    for item in picked.items {
        if item.kind.group != "rbac.authorization.k8s.io" {
            continue;
        }
        match one(args, &cluster, &item).await {
            Ok((object, how)) => match &mut printer {
                Some(printer) => printer.print(&object, Some(&item.kind))?,
                None => say(&item, &how, suffix(args)),
            },
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(0) } else { Err(Error::many(errors)) }
}

fn suffix(args: &ReconcileArgs) -> &'static str {
    coxctl_kit::print::output::dry_run_suffix(Some(&args.dry_run))
}

/// What was done, and which rules and subjects were the reason.
#[derive(Default)]
struct How {
    operation: &'static str,
    missing: Vec<Value>,
    extra: Vec<Value>,
    /// What they are: rules or subjects.
    what: &'static str,
}

fn say(item: &Item, how: &How, suffix: &str) {
    out::line(&format!("{} reconciled{suffix}", item.printed()));
    if !how.operation.is_empty() {
        out::note(&format!("\treconciliation required {}", how.operation));
    }
    for (title, list) in [("missing", &how.missing), ("extra", &how.extra)] {
        if !list.is_empty() {
            let done = if title == "missing" { "added" } else { "removed" };
            out::note(&format!("\t{title} {} {done}:", how.what));
            list.iter().for_each(|entry| out::note(&format!("\t\t{}", shown(entry))));
        }
    }
}

/// `{Verbs:[get] APIGroups:[] …}`: a rule or subject in one line.
fn shown(entry: &Value) -> String {
    let name = |key: &str| match key {
        "verbs" => "Verbs".to_string(),
        "apiGroups" => "APIGroups".into(),
        "resources" => "Resources".into(),
        "resourceNames" => "ResourceNames".into(),
        "nonResourceURLs" => "NonResourceURLs".into(),
        "kind" => "Kind".into(),
        "apiGroup" => "APIGroup".into(),
        "name" => "Name".into(),
        "namespace" => "Namespace".into(),
        other => other.into(),
    };
    let keys: &[&str] = match entry.get("verbs") {
        Some(_) => &["verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"],
        None => &["kind", "apiGroup", "name", "namespace"],
    };
    let empty = if entry.get("verbs").is_some() { "[]" } else { "" };
    let text =
        |key: &&str| entry.get(*key).map_or_else(|| empty.to_string(), coxctl_kit::print::gotext::plain);
    let pairs: Vec<String> = keys.iter().map(|key| format!("{}:{}", name(key), text(key))).collect();
    format!("{{{}}}", pairs.join(" "))
}

async fn one(args: &ReconcileArgs, cluster: &Cluster, item: &Item) -> Result<(Value, How)> {
    let wanted = item.object.clone().unwrap_or_default();
    let live = cluster.find(&item.kind, item.namespace.as_deref(), &item.name).await?;
    let binding = item.kind.kind.ends_with("Binding");
    let Some(live) = live else {
        return Ok((
            create(args, cluster, item, &wanted).await?,
            How {
                operation: "create",
                missing: list(&wanted, binding),
                what: what(binding),
                ..How::default()
            },
        ));
    };
    if binding && live["roleRef"] != wanted["roleRef"] {
        if args.dry_run == "none" {
            cluster.delete(&item.kind, item.namespace.as_deref(), &item.name, &json!({})).await?;
        }
        return Ok((
            create(args, cluster, item, &wanted).await?,
            How { operation: "recreate", what: what(binding), ..How::default() },
        ));
    }
    let (merged, how) = merge(args, live, &wanted, binding);
    if how.operation.is_empty() || args.dry_run == "client" {
        return Ok((merged, how));
    }
    Ok((
        cluster
            .update(&item.kind, item.namespace.as_deref(), &item.name, None, &merged, &write(args))
            .await?,
        how,
    ))
}

fn what(binding: bool) -> &'static str {
    if binding { "subjects" } else { "rules" }
}

fn list(object: &Value, binding: bool) -> Vec<Value> {
    object[what(binding)].as_array().cloned().unwrap_or_default()
}

fn write(args: &ReconcileArgs) -> Write {
    Write { dry_run: args.dry_run == "server", ..Write::default() }
}

async fn create(args: &ReconcileArgs, cluster: &Cluster, item: &Item, wanted: &Value) -> Result<Value> {
    if args.dry_run == "client" {
        return Ok(wanted.clone());
    }
    cluster.create(&item.kind, item.namespace.as_deref(), wanted, &write(args)).await
}

/// The live object with what is wanted put in, and what is too much taken out if that is asked for.
fn merge(args: &ReconcileArgs, mut live: Value, wanted: &Value, binding: bool) -> (Value, How) {
    let (have, want) = (list(&live, binding), list(wanted, binding));
    let covered = |entry: &Value, by: &[Value]| if binding { by.contains(entry) } else { covers(by, entry) };
    let missing: Vec<Value> = want.iter().filter(|entry| !covered(entry, &have)).cloned().collect();
    let extra: Vec<Value> = have.iter().filter(|entry| !covered(entry, &want)).cloned().collect();
    let remove = if binding { args.remove_extra_subjects } else { args.remove_extra_permissions };
    let changed = !missing.is_empty() || (remove && !extra.is_empty());
    let key = what(binding);
    if remove && !extra.is_empty() {
        live[key] = want.into();
    } else if !missing.is_empty() {
        live[key] = have.into_iter().chain(missing.clone()).collect();
    }
    let annotations = carry(&mut live, wanted);
    let operation = if changed || annotations { "update" } else { "" };
    (live, How { operation, missing, extra: if remove { extra } else { Vec::new() }, what: key })
}

/// Labels and annotations that are wanted too. Whether any was new.
fn carry(live: &mut Value, wanted: &Value) -> bool {
    let mut changed = false;
    for key in ["labels", "annotations"] {
        for (name, value) in wanted["metadata"][key].as_object().into_iter().flatten() {
            if live["metadata"][key][name] != *value {
                live["metadata"][key][name] = value.clone();
                changed = true;
            }
        }
    }
    changed
}

/// Whether rules together allow everything a rule allows.
fn covers(rules: &[Value], rule: &Value) -> bool {
    let texts = |rule: &Value, key: &str| -> Vec<String> {
        rule[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|text| text.as_str().map(str::to_string))
            .collect()
    };
    let has = |list: &[String], text: &str| list.iter().any(|own| own == "*" || own == text);
    let paths = texts(rule, "nonResourceURLs");
    let verbs = texts(rule, "verbs");
    let path_ok = |verb: &str, path: &str| {
        rules.iter().any(|own| has(&texts(own, "verbs"), verb) && has(&texts(own, "nonResourceURLs"), path))
    };
    if !paths.iter().all(|path| verbs.iter().all(|verb| path_ok(verb, path))) {
        return false;
    }
    let named = |own: &Value, name: Option<&String>| {
        let names = texts(own, "resourceNames");
        names.is_empty() || name.is_some_and(|name| names.contains(name))
    };
    let names: Vec<Option<String>> = match texts(rule, "resourceNames") {
        names if names.is_empty() => vec![None],
        names => names.into_iter().map(Some).collect(),
    };
    let allowed = |verb: &str, group: &str, resource: &str, name: Option<&String>| {
        rules.iter().any(|own| {
            has(&texts(own, "verbs"), verb)
                && has(&texts(own, "apiGroups"), group)
                && has(&texts(own, "resources"), resource)
                && named(own, name)
        })
    };
    let (groups, resources) = (texts(rule, "apiGroups"), texts(rule, "resources"));
    verbs.iter().all(|verb| {
        groups.iter().all(|group| {
            resources
                .iter()
                .all(|resource| names.iter().all(|name| allowed(verb, group, resource, name.as_ref())))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_cover_rules() {
        let have = [
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}),
            json!({"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"]}),
        ];
        let table = [
            (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), true),
            (
                json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
                true,
            ),
            (json!({"verbs": ["get", "watch"], "apiGroups": [""], "resources": ["pods"]}), false),
            (json!({"verbs": ["patch"], "apiGroups": ["apps"], "resources": ["deployments"]}), true),
            (json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}), false),
        ];
        for (rule, covered) in table {
            assert_eq!(covers(&have, &rule), covered, "{rule}");
        }
    }
}
