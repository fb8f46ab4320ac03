//! `--watch`: what there is, and then what happens to it.

use coxctl_kit::cluster::{TABLE, take_items};
use coxctl_kit::print::tab::TabWriter;
use coxctl_kit::print::table::TablePrinter;
use coxctl_kit::print::{Printer, hide_managed_fields, json};
use coxctl_kit::{Call, Cluster, Error, Event, Kind, ListOptions, Output, Result, Wanted, out};
use futures::StreamExt;
use serde_json::{Value, json as value};

use super::{GetArgs, human, target};

/// Prints what is wanted and follows it until the server or the user ends it.
pub async fn run(args: &GetArgs, cluster: &Cluster, output: &Output, wanted: Vec<Wanted>) -> Result<i32> {
    let [one] = wanted.as_slice() else {
        return Err(Error::message(
            "watch is only supported on individual resources and resource collections - more than 1 resource was found",
        ));
    };
    let (kind, namespace, name) = target(one);
    let tables = matches!(output, Output::Human | Output::Wide);
    let mut show = Show::new(args, output, kind);
    let first = fetch(args, cluster, kind, namespace, name, tables).await?;
    if !args.watch_only {
        show.initial(first.clone(), name.is_some())?;
    }
    let version = match name {
        None => first["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string(),
        Some(_) => "0".into(),
    };
    let mut events =
        cluster.watch(call(args, kind, namespace, name, tables).query("resourceVersion", version)).await?;
    // Watching one object from now on begins with what it is, which has been printed already.
    let mut skip = name.is_some();
    while let Some(event) = events.next().await {
        let event = event?;
        if !std::mem::take(&mut skip) {
            show.event(event)?;
        }
    }
    Ok(0)
}

fn call(args: &GetArgs, kind: &Kind, namespace: Option<&str>, name: Option<&str>, tables: bool) -> Call {
    let fields = name.map(|name| format!("metadata.name={name}")).or(args.field_selector.clone());
    let call = Call::get(kind.path(namespace, None, None))
        .query_some("fieldSelector", fields)
        .query_some("labelSelector", args.selector.clone());
    if tables { call.accept(TABLE) } else { call }
}

async fn fetch(
    args: &GetArgs,
    cluster: &Cluster,
    kind: &Kind,
    namespace: Option<&str>,
    name: Option<&str>,
    tables: bool,
) -> Result<Value> {
    let accept = tables.then(|| TABLE.to_string());
    match name {
        None => cluster.list(kind, namespace, &ListOptions { accept, ..args.list_options() }).await,
        Some(name) => {
            let call = Call { accept, ..Call::get(kind.path(namespace, Some(name), None)) };
            cluster.send(call).await?.json()
        }
    }
}

/// Where rows and objects go.
struct Show {
    kind: Kind,
    /// Where tables are wanted: their printer and their columns' widths.
    table: Option<(TablePrinter, TabWriter)>,
    printer: Printer,
    json: bool,
    with_events: bool,
    managed_fields: bool,
}

impl Show {
    fn new(args: &GetArgs, output: &Output, kind: &Kind) -> Show {
        let wide = matches!(output, Output::Wide);
        let tables = wide || matches!(output, Output::Human);
        let printer = || TablePrinter::new(args.table_options(wide, kind.namespaced, false), Some(kind));
        Show {
            kind: kind.clone(),
            table: tables.then(|| (printer(), TabWriter::remembering())),
            printer: Printer::new(output.clone(), args.print.show_managed_fields)
                .without_headers(args.no_headers),
            json: matches!(output, Output::Json),
            with_events: args.output_watch_events,
            managed_fields: args.print.show_managed_fields,
        }
    }

    fn initial(&mut self, mut first: Value, single: bool) -> Result<()> {
        if self.table.is_some() {
            self.rows(first, "ADDED");
            return Ok(());
        }
        let objects = if single { vec![first] } else { take_items(&mut first, &self.kind) };
        objects.into_iter().try_for_each(|object| self.object(object, "ADDED"))
    }

    fn event(&mut self, event: Event) -> Result<()> {
        if event.what == "BOOKMARK" {
            return Ok(());
        }
        if self.table.is_some() {
            self.rows(event.object, &event.what);
            return Ok(());
        }
        self.object(event.object, &event.what)
    }

    fn rows(&mut self, answer: Value, what: &str) {
        let Some((printer, lines)) = &mut self.table else { return };
        let table = if answer["kind"] == "Table" { answer } else { human::by_name_and_age(answer) };
        printer.print(&table, self.with_events.then_some(what), lines);
        out::put(&lines.flush());
    }

    fn object(&mut self, mut object: Value, what: &str) -> Result<()> {
        if !self.with_events {
            return self.printer.print(&object, None);
        }
        if !self.managed_fields {
            hide_managed_fields(&mut object);
        }
        if self.json {
            // An event is a line of its own, its fields in the order Go declares them.
            out::line(&format!("{{\"type\":\"{what}\",\"object\":{}}}", json::compact(&object)));
            return Ok(());
        }
        self.printer.print(&value!({"type": what, "object": object}), None)
    }
}
