//! Logs on stderr in klog's text form, levels as `--v`.

use std::borrow::Cow;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Starts logging. `v` below 4 shows information and worse, 4 and 5 debugging, 6 and up everything of our own.
/// The environment variable `COXSWAIN_LOG` overrides this with a filter of `tracing-subscriber`'s grammar.
pub fn init(component: &str, v: u8) {
    let level = match v {
        0..=3 => "info",
        4..=5 => "debug",
        _ => "trace",
    };
    let quiet = if v >= 8 { "debug" } else { "warn" };
    // A failing watch is reported by whoever watches.
    let watcher = if v >= 8 { "debug" } else { "error" };
    let spec = format!(
        "{level},hyper={quiet},hyper_util={quiet},h2={quiet},rustls={quiet},kube_client={quiet},\
         kube_runtime={watcher},tower={quiet},tonic={quiet}"
    );
    let filter = EnvFilter::try_from_env("COXSWAIN_LOG").unwrap_or_else(|_| EnvFilter::new(spec));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(Klog { pid: std::process::id() });
    // A second initialisation (tests, several daemons in one process) keeps the first.
    if subscriber.try_init().is_ok() {
        tracing::info!(component, version = env!("CARGO_PKG_VERSION"), "starting");
    }
}

/// An error with its causes as one sentence, each part said once.
pub fn brief(error: &dyn std::error::Error) -> String {
    let mut text = without_dump(&error.to_string()).into_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        let part = cause.to_string();
        let part = without_dump(&part);
        if !text.contains(part.as_ref()) {
            text = format!("{text}: {part}");
        }
        source = cause.source();
    }
    text
}

/// The kube crate says a Status twice, the second time as Rust prints a structure for debugging. This leaves the
/// first alone.
fn without_dump(text: &str) -> Cow<'_, str> {
    const DUMP: &str = " (Status {";
    let Some((before, dump)) = text.split_once(DUMP) else { return Cow::Borrowed(text) };
    let after = dump.rsplit_once("})").map_or("", |(_, after)| after);
    Cow::Owned(format!("{}{after}", before.replace("ApiError: ", "")))
}

struct Klog {
    pid: u32,
}

impl<S, N> FormatEvent<S, N> for Klog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let letter = match *meta.level() {
            Level::ERROR => 'E',
            Level::WARN => 'W',
            _ => 'I',
        };
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::system());
        let place = meta.file().and_then(|f| f.rsplit('/').next()).unwrap_or("-");
        write!(out, "{letter}{} {:>7} ", now.strftime("%m%d %H:%M:%S%.6f"), self.pid)?;
        write!(out, "{place}:{}] ", meta.line().unwrap_or(0))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        writeln!(out, "{:?}{}", fields.message, fields.rest)
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        let value = without_dump(&value);
        if field.name() == "message" {
            self.message = value.into_owned();
        } else {
            self.rest.push_str(&format!(" {}={value}", field.name()));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let quoted = if field.name() == "message" { value.to_string() } else { format!("{value:?}") };
        self.add(field, quoted);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_said_once() {
        let long = "list: ApiError: pods is forbidden: Forbidden (Status { code: 403, message: \"(x)\", \
                    details: Some(StatusDetails { uid: \"\" }) }) after 3 tries";
        assert_eq!(without_dump(long), "list: pods is forbidden: Forbidden after 3 tries");
        assert_eq!(without_dump("plain (text)"), "plain (text)");
        let error = anyhow::anyhow!("refused").context("connect: refused").context("list pods");
        assert_eq!(brief(error.as_ref()), "list pods: connect: refused");
    }
}
