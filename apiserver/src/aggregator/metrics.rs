//! Metrics of availability, under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use parking_lot::Mutex;

use super::{Aggregator, RESOURCE, health};

const GAUGE: &str = "aggregator_unavailable_apiservice";
const COUNTER: &str = "aggregator_unavailable_apiservice_total";

/// How often which APIService became unavailable, and why.
#[derive(Default)]
pub struct Losses(Mutex<BTreeMap<(String, &'static str), u64>>);

impl Losses {
    /// Counts one.
    pub fn add(&self, name: &str, reason: &'static str) {
        *self.0.lock().entry((name.to_owned(), reason)).or_default() += 1;
    }
}

impl Aggregator {
    /// All of them as text.
    pub fn encode_metrics(&self) -> String {
        let mut out =
            format!("# HELP {GAUGE} Whether an API service is unavailable.\n# TYPE {GAUGE} gauge\n");
        for entry in self.reader.list(RESOURCE, "") {
            let away = u8::from(!health::says_available(&entry.parsed()));
            let _ = writeln!(out, "{GAUGE}{{name=\"{}\"}} {away}", entry.name());
        }
        let _ = writeln!(
            out,
            "# HELP {COUNTER} How often an API service became unavailable.\n# TYPE {COUNTER} counter"
        );
        for ((name, reason), count) in self.losses.0.lock().iter() {
            let _ = writeln!(out, "{COUNTER}{{name=\"{name}\",reason=\"{reason}\"}} {count}");
        }
        out
    }
}
