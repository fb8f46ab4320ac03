//! Standard output and standard error, and texts in Go's spelling.

use std::io::Write;
use std::time::Duration;

/// Writes to standard output. A reader that went away ends the program quietly.
pub fn put(text: &str) {
    put_bytes(text.as_bytes());
}

/// Writes a line to standard output.
pub fn line(text: &str) {
    put(&format!("{text}\n"));
}

/// Writes bytes to standard output. A reader that went away ends the program quietly.
pub fn put_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Writes a line to standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A duration in Go's spelling: `1h30m`, `1.5s`, `300ms`. None when it isn't one or is negative.
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0_f64;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        seconds += number.parse::<f64>().ok()? * unit_seconds(unit)?;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        let table: &[(&str, Option<u64>)] = &[
            ("1s", Some(1000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1500)),
            ("300ms", Some(300)),
            ("0", Some(0)),
            ("5", None),
            ("", None),
            ("-1s", None),
            ("1d", None),
        ];
        for (text, millis) in table {
            assert_eq!(go_duration(text).map(|d| d.as_millis() as u64), *millis, "{text}");
        }
    }
}
