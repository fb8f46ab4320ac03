//! `auth can-i`: asks the server whether an action is allowed.

use coxctl_kit::print::tab::TabWriter;
use coxctl_kit::rbac;
use coxctl_kit::{Call, Cluster, Error, Globals, Result, out};
use http::Method;
use serde_json::{Value, json};

use super::{CanIArgs, rules};

const HOW: &str = "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'coxctl auth can-i -h' for help and examples.";

pub async fn run(args: &CanIArgs, globals: &Globals) -> Result<i32> {
    if args.quiet && args.list {
        return Err(Error::message("--quiet and --list are mutually exclusive"));
    }
    if args.list {
        if !args.words.is_empty() {
            return Err(Error::message("list option must be specified with no arguments"));
        }
        return list(args, &globals.connect().await?).await;
    }
    let [verb, what] = args.words.as_slice() else { return Err(Error::message(HOW)) };
    let cluster = globals.connect().await?;
    let spec = match what.strip_prefix('/') {
        Some(_) => path_question(args, verb, what)?,
        None => resource_question(args, &cluster, verb, what).await?,
    };
    answer(args, &ask(&cluster, "selfsubjectaccessreviews", "SelfSubjectAccessReview", spec).await?["status"])
}

async fn ask(cluster: &Cluster, plural: &str, kind: &str, spec: Value) -> Result<Value> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": {}, "spec": spec});
    cluster
        .send(Call::new(Method::POST, format!("/apis/authorization.k8s.io/v1/{plural}")).json(&review))
        .await?
        .json()
}

fn answer(args: &CanIArgs, status: &Value) -> Result<i32> {
    let text = |key: &str| {
        status[key]
            .as_str()
            .filter(|text| !text.is_empty())
            .map(|text| format!(" - {text}"))
            .unwrap_or_default()
    };
    let allowed = status["allowed"] == true;
    if !args.quiet {
        let no = || format!("no{}{}", text("reason"), text("evaluationError"));
        out::line(&if allowed { "yes".to_string() } else { no() });
    }
    Ok(if allowed { 0 } else { 1 })
}

fn path_question(args: &CanIArgs, verb: &str, path: &str) -> Result<Value> {
    if args.subresource.is_some() {
        return Err(Error::message("--subresource can not be used with NonResourceURL"));
    }
    if !rbac::URL_VERBS.contains(&verb) {
        warn(&format!("verb '{verb}' is not a known verb"));
    }
    Ok(json!({"nonResourceAttributes": {"path": path, "verb": verb}}))
}

async fn resource_question(args: &CanIArgs, cluster: &Cluster, verb: &str, what: &str) -> Result<Value> {
    let (word, name) = what.split_once('/').unwrap_or((what, ""));
    let found = if word == "*" { None } else { cluster.kind(word).await.ok() };
    let (group, version, resource) = match &found {
        Some(kind) => (kind.group.clone(), kind.version.clone(), kind.plural.clone()),
        None => unknown(word),
    };
    if let Some(kind) = found.filter(|kind| !kind.namespaced && !args.all_namespaces) {
        let of = if kind.group.is_empty() { String::new() } else { format!(" in group '{}'", kind.group) };
        warn(&format!("resource '{}' is not namespace scoped{of}", kind.plural));
    }
    // kubectl does not know this one here, though it does in roles.
    if verb == "proxy" || !rbac::is_resource_verb(verb) {
        warn(&format!("verb '{verb}' is not a known verb"));
    }
    let namespace = if args.all_namespaces { "" } else { cluster.namespace.as_str() };
    let mut attributes = json!({"verb": verb, "resource": resource});
    let subresource = args.subresource.clone().unwrap_or_default();
    for (key, value) in [
        ("namespace", namespace),
        ("group", &group),
        ("version", &version),
        ("subresource", &subresource),
        ("name", name),
    ] {
        if !value.is_empty() && key != "version" {
            attributes[key] = value.into();
        }
    }
    Ok(json!({"resourceAttributes": attributes}))
}

/// A resource the server doesn't have is asked about as it was written.
fn unknown(word: &str) -> (String, String, String) {
    if word == "*" {
        return (String::new(), String::new(), word.into());
    }
    match word.split_once('.') {
        None => warn(&format!("the server doesn't have a resource type '{word}'")),
        Some((resource, group)) => {
            warn(&format!("the server doesn't have a resource type '{resource}' in group '{group}'"))
        }
    }
    let (resource, group) = word.split_once('.').unwrap_or((word, ""));
    (group.into(), String::new(), resource.into())
}

fn warn(text: &str) {
    out::note(&format!("Warning: {text}\n"));
}

async fn list(args: &CanIArgs, cluster: &Cluster) -> Result<i32> {
    let namespace = if args.all_namespaces { "" } else { cluster.namespace.as_str() };
    let answer =
        ask(cluster, "selfsubjectrulesreviews", "SelfSubjectRulesReview", json!({"namespace": namespace}))
            .await?;
    let status = &answer["status"];
    if status["incomplete"] == true {
        out::note(&format!(
            "warning: the list may be incomplete: {}",
            status["evaluationError"].as_str().unwrap_or_default()
        ));
    }
    let mut table = TabWriter::remembering();
    if !args.no_headers {
        table.row(&["Resources", "Non-Resource URLs", "Resource Names", "Verbs"]);
    }
    rules::rows(status).iter().for_each(|row| table.row(row));
    out::put(&table.flush());
    Ok(0)
}
