//! Tables: the server makes them, kinds are set apart.

use coxctl_kit::cluster::TABLE;
use coxctl_kit::pick::listing;
use coxctl_kit::print::tab::TabWriter;
use coxctl_kit::print::table::TablePrinter;
use coxctl_kit::print::{paint, sort};
use coxctl_kit::{Call, Cluster, Error, Kind, ListOptions, Result, Wanted, out};
use futures::StreamExt;
use serde_json::{Value, json};

use super::{GetArgs, target};

/// How many lists are asked for at the same time.
const AT_ONCE: usize = 8;

/// Prints what is wanted as tables.
pub async fn run(
    args: &GetArgs,
    cluster: &Cluster,
    wide: bool,
    wanted: Vec<Wanted>,
    mut errors: Vec<Error>,
    colours: bool,
) -> Result<i32> {
    let answers: Vec<Result<Value>> =
        futures::stream::iter(&wanted).map(|one| fetch(args, cluster, one)).buffered(AT_ONCE).collect().await;
    let mut tables: Vec<(&Kind, Value)> = Vec::new();
    for (one, answer) in wanted.iter().zip(answers) {
        match answer {
            Ok(table) => tables.push((target(one).0, table)),
            Err(error) if args.ignore_not_found && error.is_not_found() => {}
            Err(error) => errors.push(error),
        }
    }
    let printed = print(args, wide, &tables, colours);
    if !printed && !args.ignore_not_found && errors.is_empty() {
        out::note(&nothing(args, cluster, &tables));
    }
    if errors.is_empty() { Ok(0) } else { Err(Error::Many(errors)) }
}

fn nothing(args: &GetArgs, cluster: &Cluster, tables: &[(&Kind, Value)]) -> String {
    let namespaced = !args.all_namespaces && tables.iter().all(|(kind, _)| kind.namespaced);
    if namespaced {
        format!("No resources found in {} namespace.", cluster.namespace)
    } else {
        "No resources found".into()
    }
}

/// Prints the tables; whether there was anything to print.
fn print(args: &GetArgs, wide: bool, tables: &[(&Kind, Value)], colours: bool) -> bool {
    let several = tables.windows(2).any(|pair| pair[0].0 != pair[1].0);
    let mut out = TabWriter::remembering();
    let mut text = String::new();
    let mut last: Option<(&Kind, TablePrinter)> = None;
    for (kind, table) in tables {
        let mut printer = match last.take() {
            Some((before, printer)) if before == *kind => printer,
            _ => {
                flush(&mut out, &mut text, args.no_headers);
                TablePrinter::new(args.table_options(wide, kind.namespaced, several), Some(kind))
            }
        };
        printer.print(table, None, &mut out);
        last = Some((kind, printer));
    }
    flush(&mut out, &mut text, args.no_headers);
    out::put(&if colours { paint::table(&text, !args.no_headers) } else { text.clone() });
    !text.is_empty()
}

/// Ends a kind's block; blocks with headers are set apart by an empty line.
fn flush(out: &mut TabWriter, text: &mut String, no_headers: bool) {
    let block = out.flush();
    out.forget();
    if !block.is_empty() && !text.is_empty() && !no_headers {
        text.push('\n');
    }
    text.push_str(&block);
}

async fn fetch(args: &GetArgs, cluster: &Cluster, wanted: &Wanted) -> Result<Value> {
    let (kind, namespace, name) = target(wanted);
    let mut table = match name {
        None => {
            let mut options =
                ListOptions { accept: args.server_print.then(|| TABLE.into()), ..args.list_options() };
            if args.sort_by.is_some() {
                options.extra.push(("includeObject".into(), "Object".into()));
            }
            cluster.list(kind, namespace, &options).await.map_err(|error| listing(error, kind, &options))?
        }
        Some(name) => {
            let mut call = Call::get(kind.path(namespace, Some(name), args.subresource.as_deref()));
            call.accept = args.server_print.then(|| TABLE.into());
            if args.sort_by.is_some() {
                call = call.query("includeObject", "Object");
            }
            match cluster.send(call).await {
                Ok(answer) => answer.json()?,
                Err(error) => return Err(cluster.missing(error, namespace).await),
            }
        }
    };
    if table["kind"] != "Table" {
        table = by_name_and_age(table);
    }
    Ok(sorted(args, table))
}

fn sorted(args: &GetArgs, mut table: Value) -> Value {
    let Some(field) = &args.sort_by else { return table };
    if let Some(Value::Array(rows)) = table.get_mut("rows")
        && rows.len() > 1
        && sort::by_field(rows, field, |row| &row["object"]).is_err()
    {
        // kubectl shows no rows then, and doesn't say why. With one row there is nothing it could fail to compare.
        table["rows"] = json!([]);
    }
    table
}

/// A table for a server that makes none.
pub fn by_name_and_age(answer: Value) -> Value {
    let objects = match answer.get("items") {
        Some(Value::Array(items)) => items.clone(),
        _ => vec![answer],
    };
    let row = |object: Value| {
        let age = coxctl_kit::print::age::since(
            object["metadata"]["creationTimestamp"].as_str().unwrap_or_default(),
        );
        json!({"cells": [object["metadata"]["name"], age], "object": object})
    };
    json!({
        "kind": "Table",
        "columnDefinitions": [{"name": "Name", "type": "string", "format": "name", "priority": 0}, {"name": "Age", "type": "string", "priority": 0}],
        "rows": objects.into_iter().map(row).collect::<Vec<_>>(),
    })
}
