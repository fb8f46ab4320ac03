//! Turns parsed lines into what the caller sees: filter by time and output, time stamps, byte limit.

use super::line::{Line, Output};
use super::options::{LogOptions, Streams};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Formats lines; keeps what spans lines (a partial line gets one time stamp, the limit counts all bytes).
pub struct LineWriter<'a> {
    options: &'a LogOptions,
    left: Option<u64>,
    new_line: bool,
}

impl<'a> LineWriter<'a> {
    /// A writer at the beginning of a log.
    pub fn new(options: &'a LogOptions) -> Self {
        Self { options, left: options.limit_bytes, new_line: true }
    }

    /// Appends the line to `out`. False when the byte limit is used up: nothing more is to be written.
    pub fn write(&mut self, line: &Line<'_>, out: &mut Vec<u8>) -> bool {
        if !self.wanted(line) {
            return true;
        }
        let start = out.len();
        if self.options.timestamps && self.new_line {
            out.extend_from_slice(stamp(line.time).as_bytes());
        }
        out.extend_from_slice(&line.content);
        self.new_line = line.content.ends_with(b"\n");
        self.cut(start, out)
    }

    fn wanted(&self, line: &Line<'_>) -> bool {
        let output = match self.options.streams {
            Streams::All => true,
            Streams::Stdout => line.output == Output::Stdout,
            Streams::Stderr => line.output == Output::Stderr,
        };
        output && self.options.since.is_none_or(|since| line.time >= since)
    }

    fn cut(&mut self, start: usize, out: &mut Vec<u8>) -> bool {
        let Some(left) = self.left else { return true };
        let added = (out.len() - start) as u64;
        out.truncate(start + added.min(left) as usize);
        self.left = Some(left.saturating_sub(added));
        added < left
    }
}

/// Nine digits of a second, always, so that columns line up; UTC; a space after it.
fn stamp(time: Timestamp) -> String {
    let time = time.to_zoned(TimeZone::UTC);
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string()
}

#[cfg(test)]
mod tests {
    use super::super::line::parse;
    use super::*;

    #[track_caller]
    fn check(options: LogOptions, want: &str) {
        let log = "2026-01-01T00:00:01.5Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n2026-01-01T00:00:03Z stderr F o\n2026-01-01T00:00:04Z stdout F three\n";
        let (mut writer, mut out) = (LineWriter::new(&options), vec![]);
        for raw in log.split_inclusive('\n') {
            if !writer.write(&parse(raw.as_bytes()).unwrap(), &mut out) {
                break;
            }
        }
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn options_shape_the_output() {
        let base = LogOptions::default;
        check(base(), "one\ntwo\nthree\n");
        check(LogOptions { since: Some("2026-01-01T00:00:03Z".parse().unwrap()), ..base() }, "o\nthree\n");
        check(LogOptions { limit_bytes: Some(6), ..base() }, "one\ntw");
        check(LogOptions { limit_bytes: Some(4), ..base() }, "one\n");
        check(LogOptions { streams: Streams::Stdout, ..base() }, "one\nthree\n");
        check(LogOptions { streams: Streams::Stderr, ..base() }, "two\n");
        check(
            LogOptions { timestamps: true, ..base() },
            "2026-01-01T00:00:01.500000000Z one\n2026-01-01T00:00:02.000000000Z two\n2026-01-01T00:00:04.000000000Z three\n",
        );
    }
}
