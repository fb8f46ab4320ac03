//! Lengths of time as Go writes them: `24h0m0s`, `1m30s`, `500ms`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A length of time in nanoseconds, read and printed in Go's form. May be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub i64);

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

impl GoDuration {
    /// So many hours.
    pub const fn hours(n: i64) -> Self {
        Self(n * HOUR)
    }

    /// So many minutes.
    pub const fn minutes(n: i64) -> Self {
        Self(n * MINUTE)
    }

    /// So many seconds.
    pub const fn seconds(n: i64) -> Self {
        Self(n * SECOND)
    }

    /// As the standard library's duration; negative ones are zero.
    pub fn std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Whole seconds, rounded towards zero.
    pub fn whole_seconds(self) -> i64 {
        self.0 / SECOND
    }
}

impl From<std::time::Duration> for GoDuration {
    fn from(value: std::time::Duration) -> Self {
        Self(i64::try_from(value.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// A text that is no Go duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number without its unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit Go does not know.
    #[error("time: unknown unit {1:?} in duration {0:?}")]
    UnknownUnit(String, String),
    /// Anything else.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid(text.into());
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        let mut total: i128 = if rest.is_empty() { return Err(invalid()) } else { 0 };
        while !rest.is_empty() {
            let (nanos, left) = segment(text, rest)?;
            total += nanos;
            rest = left;
        }
        let total = if negative { -total } else { total };
        i64::try_from(total).map(Self).map_err(|_| invalid())
    }
}

/// One number and its unit, as nanoseconds, and what follows.
fn segment<'a>(whole: &str, text: &'a str) -> Result<(i128, &'a str), DurationError> {
    let number = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (digits, rest) = text.split_at(number);
    let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    let invalid = || DurationError::Invalid(whole.into());
    let (int, frac) = digits.split_once('.').unwrap_or((digits, ""));
    if (int.is_empty() && frac.is_empty()) || frac.contains('.') || int.len() > 19 {
        return Err(invalid());
    }
    if unit.is_empty() {
        return Err(DurationError::MissingUnit(whole.into()));
    }
    let scale = unit_nanos(unit).ok_or_else(|| DurationError::UnknownUnit(whole.into(), unit.into()))?;
    let whole_part: i128 = if int.is_empty() { 0 } else { int.parse().map_err(|_| invalid())? };
    Ok((whole_part * i128::from(scale) + fraction(frac, scale), rest))
}

fn fraction(digits: &str, scale: i64) -> i128 {
    let mut share = i128::from(scale);
    let mut nanos = 0i128;
    let mut unit = 1i128;
    // Digits beyond a nanosecond of the largest unit say nothing more.
    for digit in digits.bytes().take(15) {
        unit *= 10;
        nanos = nanos * 10 + i128::from(digit - b'0');
    }
    share *= nanos;
    share / unit
}

fn unit_nanos(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return None,
    })
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{sign}{nanos}ns"),
            1_000..1_000_000 => write!(f, "{sign}{}µs", decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{sign}{}ms", decimal(nanos, 1_000_000)),
            _ => write!(f, "{sign}{}", clock(nanos)),
        }
    }
}

fn clock(nanos: u64) -> String {
    let seconds = nanos / SECOND as u64;
    let tail = decimal(nanos % MINUTE as u64, SECOND as u64);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{tail}s"),
        (0, m) => format!("{m}m{tail}s"),
        (h, m) => format!("{h}h{m}m{tail}s"),
    }
}

/// `value / unit` without trailing zeros.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{part:0width$}").trim_end_matches('0'))
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_and_how_it_prints_it() {
        for (text, printed) in [
            ("24h", "24h0m0s"),
            ("24h0m0s", "24h0m0s"),
            ("90s", "1m30s"),
            ("1.5h", "1h30m0s"),
            ("0", "0s"),
            ("-5m", "-5m0s"),
            ("500ms", "500ms"),
            ("1500ms", "1.5s"),
            ("1h0.25s", "1h0m0.25s"),
            ("3us", "3µs"),
            ("2ns", "2ns"),
            ("8760h", "8760h0m0s"),
            (".5s", "500ms"),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_go_refuses() {
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("h", "time: invalid duration \"h\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
            ("-", "time: invalid duration \"-\""),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap_err().to_string(), error);
        }
    }
}
