//! `events`: what happened, in the order it happened.

use clap::Args;
use coxctl_kit::print::age::since;
use coxctl_kit::print::output::OBJECT_FORMATS;
use coxctl_kit::print::tab::TabWriter;
use coxctl_kit::print::typed;
use coxctl_kit::{Call, Cluster, Error, Globals, Kind, ListOptions, Output, PrintArgs, Printer, Result, out};
use futures::StreamExt;
use serde_json::{Value, json};

/// The flags of `events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    #[arg(hide = true)]
    pub words: Vec<String>,
    #[command(flatten)]
    pub print: PrintArgs,
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long = "all-namespaces")]
    pub all_namespaces: bool,
    /// Filter events to only those pertaining to the specified resource
    #[arg(long = "for", value_name = "TYPE/NAME")]
    pub target: Option<String>,
    /// After listing the requested events, watch for more events
    #[arg(short = 'w', long)]
    pub watch: bool,
    /// Output only events of given types
    #[arg(long, value_delimiter = ',')]
    pub types: Vec<String>,
    /// When using the default output format, don't print headers
    #[arg(long = "no-headers")]
    pub no_headers: bool,
    /// Return large lists in chunks rather than all at once; 0 to disable
    #[arg(long = "chunk-size", default_value_t = 500)]
    pub chunk_size: u32,
}

/// Prints the events.
pub async fn run(args: &EventsArgs, globals: &Globals) -> Result<i32> {
    if let Some(word) = args.words.first() {
        return Err(Error::message(format!("unknown command {word:?} for \"coxctl events\"")));
    }
    if args.types.iter().any(|kind| !matches!(kind.to_lowercase().as_str(), "normal" | "warning")) {
        return Err(Error::message("valid --types are Normal or Warning"));
    }
    let printer = args.print.printer(OBJECT_FORMATS)?;
    let cluster = globals.connect().await?;
    let kind = Kind {
        version: "v1".into(),
        kind: "Event".into(),
        plural: "events".into(),
        namespaced: true,
        ..Kind::default()
    };
    let fields = about(args, &cluster).await?;
    let namespace = (!args.all_namespaces).then(|| cluster.namespace.clone());
    let options = ListOptions { fields: fields.clone(), limit: args.chunk_size, ..ListOptions::default() };
    let mut list = cluster.list(&kind, namespace.as_deref(), &options).await?;
    let version = list["metadata"]["resourceVersion"].clone();
    let mut events = coxctl_kit::cluster::take_items(&mut list, &kind);
    events.retain(|event| shows(args, event));
    events.sort_by_key(order);
    let mut show = Show { args, printer, table: TabWriter::remembering(), headed: args.no_headers };
    if events.is_empty() && !args.watch {
        out::note(&nothing(namespace.as_deref()));
        return Ok(0);
    }
    show.all(events, args.watch)?;
    if args.watch {
        let call = Call::get(kind.path(namespace.as_deref(), None, None)).query_some("fieldSelector", fields);
        follow(
            args,
            &cluster,
            call.query("resourceVersion", version.as_str().unwrap_or_default()),
            &mut show,
        )
        .await?;
    }
    Ok(0)
}

fn nothing(namespace: Option<&str>) -> String {
    namespace.map_or_else(
        || "No events found.".into(),
        |namespace| format!("No events found in {namespace} namespace."),
    )
}

async fn follow(args: &EventsArgs, cluster: &Cluster, call: Call, show: &mut Show<'_>) -> Result<()> {
    let mut changes = cluster.watch(call).await?;
    while let Some(change) = changes.next().await {
        let change = change?;
        if matches!(change.what.as_str(), "ADDED" | "MODIFIED") && shows(args, &change.object) {
            show.all(vec![change.object], true)?;
        }
    }
    Ok(())
}

/// The field selector for `--for`.
async fn about(args: &EventsArgs, cluster: &Cluster) -> Result<Option<String>> {
    let Some(target) = args.target.as_deref().filter(|target| !target.is_empty()) else { return Ok(None) };
    let bad = || Error::message("--for must be in resource/name form");
    let (word, name) =
        target.split_once('/').filter(|(word, name)| !word.is_empty() && !name.is_empty()).ok_or_else(bad)?;
    let kind = cluster.kind(word).await?;
    Ok(Some(format!(
        "involvedObject.apiVersion={},involvedObject.kind={},involvedObject.name={name}",
        kind.api_version(),
        kind.kind
    )))
}

fn shows(args: &EventsArgs, event: &Value) -> bool {
    args.types.is_empty()
        || args
            .types
            .iter()
            .any(|kind| event["type"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(kind)))
}

/// When it happened last, in microseconds; of the same moment what was written first.
fn order(event: &Value) -> (i128, u64) {
    let time = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
    let moment = time.into_iter().find_map(|time| time.as_str()?.parse::<jiff::Timestamp>().ok());
    let version = event["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
    (moment.map(|moment| moment.as_nanosecond()).unwrap_or_default(), version.unwrap_or_default())
}

/// How long ago, and how often.
fn seen(event: &Value) -> String {
    let ago = |value: &Value| since(value.as_str().unwrap_or_default());
    let first =
        if event["eventTime"].is_string() { ago(&event["eventTime"]) } else { ago(&event["firstTimestamp"]) };
    let count = event["count"].as_i64().unwrap_or_default();
    if event["series"].is_object() {
        return format!(
            "{} (x{} over {first})",
            ago(&event["series"]["lastObservedTime"]),
            event["series"]["count"]
        );
    }
    if count > 1 { format!("{} (x{count} over {first})", ago(&event["lastTimestamp"])) } else { first }
}

struct Show<'a> {
    args: &'a EventsArgs,
    printer: Option<Printer>,
    table: TabWriter,
    headed: bool,
}

impl Show<'_> {
    fn all(&mut self, events: Vec<Value>, singly: bool) -> Result<()> {
        if self.printer.is_some() {
            return self.objects(events, singly);
        }
        if !self.headed && !events.is_empty() {
            let names = ["NAMESPACE", "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
            self.table.row(&names[usize::from(!self.args.all_namespaces)..]);
            self.headed = true;
        }
        for event in &events {
            self.row(event);
        }
        out::put(&self.table.flush());
        Ok(())
    }

    fn row(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let about = &event["involvedObject"];
        let object = format!("{}/{}", text(&about["kind"]), text(&about["name"]));
        let mut cells = vec![
            seen(event),
            text(&event["type"]),
            text(&event["reason"]),
            object,
            text(&event["message"]).trim().to_string(),
        ];
        if self.args.all_namespaces {
            cells.insert(0, text(&event["metadata"]["namespace"]));
        }
        self.table.row(&cells);
    }

    fn objects(&mut self, events: Vec<Value>, singly: bool) -> Result<()> {
        let objects = if singly {
            events
        } else {
            vec![json!({"apiVersion": "v1", "kind": "EventList", "items": events, "metadata": {}})]
        };
        let json = matches!(self.args.print.output(OBJECT_FORMATS)?, Output::Json);
        for object in objects {
            match &mut self.printer {
                // These are printed from their Go types: the fields in the order they are declared.
                Some(_) if json => out::line(&typed::pretty(&object, self.args.print.show_managed_fields)),
                Some(printer) => printer.print(&object, None)?,
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_in_their_order() {
        let mut events = vec![
            json!({"n": 3, "lastTimestamp": "2026-01-01T00:00:05Z", "metadata": {"resourceVersion": "9"}}),
            json!({"n": 1, "eventTime": "2026-01-01T00:00:01.5Z", "metadata": {"resourceVersion": "20"}}),
            json!({"n": 2, "lastTimestamp": "2026-01-01T00:00:05Z", "metadata": {"resourceVersion": "8"}}),
            json!({"n": 4, "series": {"lastObservedTime": "2026-01-01T00:00:07Z"}, "lastTimestamp": "2026-01-01T00:00:00Z"}),
        ];
        events.sort_by_key(order);
        assert_eq!(
            events.iter().map(|event| event["n"].as_i64().unwrap_or_default()).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
    }
}
