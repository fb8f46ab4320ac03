//! Metrics in Prometheus' text form, with the process's own.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::registry::{Metric, Registry};

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A registry that daemons add their metrics to.
pub struct Metrics {
    registry: Mutex<Registry>,
    start: f64,
}

impl Metrics {
    /// An empty registry; process metrics are always part of the output.
    pub fn new() -> Arc<Self> {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        Arc::new(Self { registry: Mutex::new(Registry::default()), start })
    }

    /// Adds a metric and returns a handle to it. For counters leave out the `_total` ending.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        // The registry ends every help with a full stop.
        self.registry.lock().register(name, help.trim_end_matches('.'), metric.clone());
        metric
    }

    /// Everything, in the text exposition format 0.0.4.
    pub fn encode(&self) -> String {
        let mut open = String::new();
        if prometheus_client::encoding::text::encode(&mut open, &self.registry.lock()).is_err() {
            tracing::warn!("metrics could not be encoded");
        }
        let mut text = plain_text(&open);
        text.push_str(&process(self.start));
        text
    }
}

/// OpenMetrics names a counter's family without `_total`; the older text format names it as the sample.
fn plain_text(open: &str) -> String {
    let counters: Vec<&str> =
        open.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(open.len());
    for line in open.lines().filter(|l| *l != "# EOF") {
        let mut words = line.splitn(4, ' ');
        let (a, b, c, d) = (words.next(), words.next(), words.next(), words.next());
        match (a, b, c) {
            (Some("#"), Some(what), Some(name)) if counters.contains(&name) => {
                out.push_str(&format!("# {what} {name}_total {}", d.unwrap_or_default()));
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

fn process(start: f64) -> String {
    let mut out = String::new();
    let mut add = |name: &str, kind: &str, value: f64| {
        out.push_str(&format!("# TYPE {name} {kind}\n{name} {value}\n"));
    };
    add("process_start_time_seconds", "gauge", start);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    add("process_resident_memory_bytes", "gauge", kilobytes(&status, "VmRSS:"));
    add("process_virtual_memory_bytes", "gauge", kilobytes(&status, "VmSize:"));
    add("process_cpu_seconds_total", "counter", cpu_seconds());
    let fds = std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count());
    add("process_open_fds", "gauge", fds as f64);
    out
}

fn kilobytes(status: &str, field: &str) -> f64 {
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

/// User and system time from `/proc/self/stat`, which counts in hundredths of a second on Linux.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks =
        |i: usize| after_name.split_whitespace().nth(i).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    #[test]
    fn counters_are_typed_by_their_sample_name() {
        let metrics = Metrics::new();
        let counter: Counter = metrics.register("syncs", "Syncs so far.", Counter::default());
        let gauge: Gauge = metrics.register("depth", "Depth", Gauge::default());
        counter.inc_by(3);
        gauge.set(7);
        let text = metrics.encode();
        assert!(text.contains("# TYPE syncs_total counter\nsyncs_total 3\n"), "{text}");
        assert!(text.contains("# HELP syncs_total Syncs so far.\n"), "{text}");
        assert!(text.contains("depth 7\n") && !text.contains("# EOF"));
        assert!(text.contains("\nprocess_resident_memory_bytes "));
    }
}
