//! `config view` and the lists.

use std::path::Path;

use base64::Engine;
use coxctl_kit::print::output::OBJECT_FORMATS;
use coxctl_kit::print::tab::TabWriter;
use coxctl_kit::print::{Output, Printer};
use coxctl_kit::{Error, Globals, Result, out};
use serde_json::{Map, Value};

use super::store::{Section, Store, find, name};
use super::{ContextsArgs, ViewArgs};

/// The order Kubernetes declares a kubeconfig's fields in, for JSON.
const ORDER: &[&str] = &[
    "kind",
    "apiVersion",
    "preferences",
    "clusters",
    "users",
    "contexts",
    "current-context",
    "name",
    "cluster",
    "server",
    "tls-server-name",
    "insecure-skip-tls-verify",
    "certificate-authority",
    "certificate-authority-data",
    "proxy-url",
    "disable-compression",
    "user",
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
    "token",
    "tokenFile",
    "as",
    "as-uid",
    "as-groups",
    "as-user-extra",
    "username",
    "password",
    "auth-provider",
    "exec",
    "command",
    "args",
    "env",
    "installHint",
    "provideClusterInfo",
    "interactiveMode",
    "context",
    "namespace",
    "extensions",
];

/// Prints the merged files.
pub fn view(args: &ViewArgs, globals: &Globals) -> Result<i32> {
    let store = Store::load(globals)?;
    let mut config = if args.flatten { store.merged_absolute() } else { store.merged() };
    if let Some(context) = &globals.context {
        config["current-context"] = context.as_str().into();
    }
    if args.minify {
        minify(&mut config)?;
    }
    if args.flatten {
        each_body(&mut config, flatten)?;
    }
    if !args.raw {
        each_body(&mut config, |body| {
            redact(body);
            Ok(())
        })?;
    }
    match args.print.output(OBJECT_FORMATS)? {
        Output::Human => Printer::new(Output::Yaml, true).print(&config, None)?,
        Output::Json => out::line(&ordered(&config)),
        output => Printer::new(output, true).print(&config, None)?,
    }
    Ok(0)
}

fn each_body(
    config: &mut Value,
    mut change: impl FnMut(&mut Map<String, Value>) -> Result<()>,
) -> Result<()> {
    for section in [Section::Users, Section::Clusters] {
        let (list, body) = section.keys();
        for entry in config[list].as_array_mut().into_iter().flatten() {
            entry[body].as_object_mut().map_or(Ok(()), &mut change)?;
        }
    }
    Ok(())
}

fn redact(body: &mut Map<String, Value>) {
    for (key, shown) in [
        ("certificate-authority-data", "DATA+OMITTED"),
        ("client-certificate-data", "DATA+OMITTED"),
        ("client-key-data", "DATA+OMITTED"),
        ("token", "REDACTED"),
        ("password", "REDACTED"),
    ] {
        if let Some(value) = body.get_mut(key) {
            *value = shown.into();
        }
    }
}

/// Files' contents in place of their names.
fn flatten(body: &mut Map<String, Value>) -> Result<()> {
    for key in ["certificate-authority", "client-certificate", "client-key"] {
        let Some(path) = body.get(key).and_then(Value::as_str).map(str::to_string) else { continue };
        body.remove(key);
        body.insert(format!("{key}-data"), embedded(&path)?.into());
    }
    Ok(())
}

/// A file's content in base64.
pub fn embedded(path: &str) -> Result<String> {
    let bytes = std::fs::read(Path::new(path))
        .map_err(|cause| Error::message(format!("open {path}: {}", coxctl_kit::files::os_text(&cause))))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// Leaves only what the current context needs.
fn minify(config: &mut Value) -> Result<()> {
    let current = config["current-context"].as_str().unwrap_or_default().to_string();
    if current.is_empty() {
        return Err(Error::message("current-context must exist in order to minify"));
    }
    let context = find(config, Section::Contexts, &current).cloned();
    let context = context.ok_or_else(|| Error::message(format!("cannot locate context {current}")))?;
    let keep = [
        (Section::Contexts, current.as_str()),
        (Section::Clusters, text(&context, "cluster")),
        (Section::Users, text(&context, "user")),
    ];
    for (section, wanted) in keep {
        let list = &mut config[section.keys().0];
        if let Some(entries) = list.as_array_mut() {
            entries.retain(|entry| name(entry) == wanted);
        }
        if list.as_array().is_some_and(Vec::is_empty) {
            *list = Value::Null;
        }
    }
    Ok(())
}

fn text<'a>(context: &'a Value, key: &str) -> &'a str {
    context["context"][key].as_str().unwrap_or_default()
}

/// Indented JSON in the declared order of fields.
fn ordered(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

fn write(value: &Value, depth: usize, out: &mut String) {
    let margin = "    ".repeat(depth + 1);
    let close = "    ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            // A plug-in's version is declared after its environment.
            let plugin = map.contains_key("command");
            let place = |key: &str| ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
            let rank = |key: &str| match plugin && key == "apiVersion" {
                true => (place("env"), true),
                false => (place(key), false),
            };
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| rank(key));
            let lines: Vec<String> = pairs
                .into_iter()
                .map(|(key, value)| {
                    let mut line = format!("{margin}{}: ", Value::from(key.as_str()));
                    write(value, depth + 1, &mut line);
                    line
                })
                .collect();
            out.push_str(&format!("{{\n{}\n{close}}}", lines.join(",\n")));
        }
        Value::Array(items) if !items.is_empty() => {
            let lines: Vec<String> = items
                .iter()
                .map(|item| {
                    let mut line = margin.clone();
                    write(item, depth + 1, &mut line);
                    line
                })
                .collect();
            out.push_str(&format!("[\n{}\n{close}]", lines.join(",\n")));
        }
        other => out.push_str(&coxctl_kit::print::json::compact(other)),
    }
}

/// Prints the contexts, or some of them.
pub fn contexts(args: &ContextsArgs, globals: &Globals) -> Result<i32> {
    if !matches!(args.output.as_str(), "" | "name") {
        return Err(Error::message(format!("output must be one of '' or 'name': {}", args.output)));
    }
    let config = Store::load(globals)?.merged();
    let all: Vec<&Value> = config["contexts"].as_array().into_iter().flatten().collect();
    let (mut shown, mut errors) = (Vec::new(), Vec::new());
    for wanted in &args.names {
        match all.iter().find(|entry| name(entry) == wanted) {
            Some(entry) => shown.push(*entry),
            None => errors.push(Error::message(format!("context {wanted} not found"))),
        }
    }
    if args.names.is_empty() {
        shown = all;
    }
    let mut table = TabWriter::remembering();
    if !args.no_headers && args.output.is_empty() {
        table.row(&["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"]);
    }
    for entry in shown {
        if args.output == "name" {
            table.put(&format!("{}\n", name(entry)));
            continue;
        }
        let mark = if config["current-context"] == name(entry) { "*" } else { "" };
        table.row(&[
            mark,
            name(entry),
            text(entry, "cluster"),
            text(entry, "user"),
            text(entry, "namespace"),
        ]);
    }
    out::put(&table.flush());
    if errors.is_empty() { Ok(0) } else { Err(Error::many(errors)) }
}

/// Prints the names of a section.
pub fn names(section: Section, globals: &Globals) -> Result<i32> {
    let config = Store::load(globals)?.merged();
    out::line("NAME");
    for entry in config[section.keys().0].as_array().into_iter().flatten() {
        out::line(name(entry));
    }
    Ok(0)
}

/// Prints the current context's name.
pub fn current(globals: &Globals) -> Result<i32> {
    let config = Store::load(globals)?.merged();
    match config["current-context"].as_str().filter(|name| !name.is_empty()) {
        Some(name) => out::line(name),
        None => return Err(Error::message("current-context is not set")),
    }
    Ok(0)
}
