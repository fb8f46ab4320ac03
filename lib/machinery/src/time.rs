//! Times as the API writes them.

use jiff::{SignedDuration, Timestamp};

/// Now, RFC 3339 UTC with whole seconds (`metav1.Time`).
pub fn now_rfc3339() -> String {
    format_seconds(Timestamp::now())
}

/// Now, RFC 3339 UTC with microseconds (`metav1.MicroTime`).
pub fn now_micro() -> String {
    format_micro(Timestamp::now())
}

/// Formats with whole seconds, `2026-01-02T03:04:05Z`.
pub fn format_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats with exactly six fraction digits, `2026-01-02T03:04:05.000000Z`.
pub fn format_micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Parses RFC 3339 with any offset and fraction. `None` for anything else.
pub fn parse(text: &str) -> Option<Timestamp> {
    // jiff is more lenient than RFC 3339 (spaces, missing seconds, zone names), so the shape is checked first.
    let bytes = text.as_bytes();
    let shape = bytes.len() >= 20 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T';
    let zone = text.ends_with('Z') || bytes.iter().rev().nth(5).is_some_and(|b| *b == b'+' || *b == b'-');
    if !(shape && zone && bytes[13] == b':' && bytes[16] == b':') {
        return None;
    }
    text.parse().ok()
}

/// Whole seconds of Unix time.
pub fn to_unix(at: Timestamp) -> i64 {
    at.as_nanosecond().div_euclid(1_000_000_000) as i64
}

/// From Unix seconds and nanoseconds; `None` out of range.
pub fn from_unix(seconds: i64, nanos: i32) -> Option<Timestamp> {
    Timestamp::new(seconds, nanos).ok()
}

/// Seconds since the Unix epoch, now.
pub fn now_unix() -> i64 {
    to_unix(Timestamp::now())
}

/// Age of an RFC 3339 time as kubectl prints it, or `<unknown>` when the text is no time.
pub fn age(text: Option<&str>, now: Timestamp) -> String {
    match text.and_then(parse) {
        Some(at) => human_duration(now.duration_since(at)),
        None => "<unknown>".to_string(),
    }
}

/// A duration in the two most significant units, as in kubectl's AGE column: `45s`, `4m5s`, `12m`, `3h10m`, `2d3h`,
/// `40d`, `2y100d`, `9y`.
pub fn human_duration(d: SignedDuration) -> String {
    let seconds = d.as_secs();
    if seconds < -1 {
        return "<invalid>".to_string();
    }
    if seconds < 0 {
        return "0s".to_string();
    }
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => pair(hours / 24, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => pair(hours / 24 / 365, "y", (hours / 24) % 365, "d"),
        () => format!("{}y", hours / 24 / 365),
    }
}

fn pair(big: i64, big_unit: &str, small: i64, small_unit: &str) -> String {
    match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit}{small}{small_unit}"),
    }
}

/// Parses a Go duration string such as `1h2m3.5s` into nanoseconds.
pub fn parse_go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (value, tail) = duration_part(rest)?;
        total += value;
        rest = tail;
    }
    let signed = if negative { -total } else { total };
    (text.len() > 1).then_some(())?;
    i64::try_from(signed).ok()
}

/// One number with its unit, in nanoseconds, and what follows.
fn duration_part(text: &str) -> Option<(i128, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(end);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_end);
    let scale: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || number.len() > 30 {
        return None;
    }
    let units = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? };
    let mut value = units.checked_mul(scale)?;
    if !fraction.is_empty() {
        value += fraction.parse::<i128>().ok()? * scale / 10i128.checked_pow(fraction.len() as u32)?;
    }
    Some((value, tail))
}

/// Formats nanoseconds as Go does: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn format_go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    match n {
        0 => "0s".to_string(),
        1..1_000 => format!("{sign}{n}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(n, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(n, 1_000_000)),
        _ => {
            let (hours, minutes) = (n / 3_600_000_000_000, n / 60_000_000_000 % 60);
            let seconds = decimal(n % 60_000_000_000, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, m) => format!("{sign}{m}m{seconds}s"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
            }
        }
    }
}

/// `value / scale` with as many fraction digits as needed.
fn decimal(value: u64, scale: u64) -> String {
    let digits = scale.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / scale, value % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let table = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (245, "4m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_400, "3h10m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (183_600, "2d3h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (71_712_000, "2y100d"),
            (252_288_000, "8y"),
        ];
        for (seconds, want) in table {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), want, "{seconds}");
        }
    }

    #[test]
    fn times() {
        let at = parse("2026-01-02T03:04:05.1234567+02:00").expect("time");
        assert_eq!(format_seconds(at), "2026-01-02T01:04:05Z");
        assert_eq!(format_micro(at), "2026-01-02T01:04:05.123456Z");
        for bad in ["", "2026-01-02", "2026-01-02 03:04:05Z", "2026-13-02T03:04:05Z", "2026-01-02T03:04:05"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert_eq!(to_unix(parse("1969-12-31T23:59:59.5Z").expect("time")), -1);
    }

    #[test]
    fn go_durations() {
        for (text, nanos, back) in [
            ("1m30s", 90_000_000_000, "1m30s"),
            ("0", 0, "0s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("-1ms", -1_000_000, "-1ms"),
            ("1500us", 1_500_000, "1.5ms"),
            ("2s500ms", 2_500_000_000, "2.5s"),
        ] {
            assert_eq!(parse_go_duration(text), Some(nanos), "{text}");
            assert_eq!(format_go_duration(nanos), back);
        }
        for bad in ["", "-", "5", "1x", ".s"] {
            assert_eq!(parse_go_duration(bad), None, "{bad}");
        }
    }
}
