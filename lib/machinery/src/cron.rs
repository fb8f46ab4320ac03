//! Cron schedules, and when they are due: five fields, `@hourly` and its like, `@every 90m`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// Schedules that are not due within this many years never are.
const HORIZON: i16 = 5;

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Minutes, hours, days, months and weekdays as bits.
    Fields(Fields),
    /// Always the same time after the last.
    Every(SignedDuration),
}

/// What each field allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Neither the day nor the weekday is left open: then one of them is enough.
    either_day: bool,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads a schedule. Errors: what is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(wait) = text.strip_prefix("@every ") {
            let nanos = crate::time::parse_go_duration(wait)
                .ok_or_else(|| format!("failed to parse duration {text}"))?;
            return Ok(Self::Every(SignedDuration::from_secs((nanos / 1_000_000_000).max(1))));
        }
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => return Err(format!("unrecognized descriptor: {other}")),
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        };
        let (day, any_day) = field(day, 1, 31, &[])?;
        let (weekday, any_weekday) = field(weekday, 0, 6, &DAYS)?;
        Ok(Self::Fields(Fields {
            minute: field(minute, 0, 59, &[])?.0,
            hour: field(hour, 0, 23, &[])?.0,
            day,
            month: field(month, 1, 12, &MONTHS)?.0,
            weekday,
            either_day: !any_day && !any_weekday,
        }))
    }

    /// The first time after `after`; `None` if there is none for years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(wait) => floor(after, 1)?.checked_add(*wait).ok(),
            Self::Fields(fields) => fields.next(after, zone),
        }
    }
}

/// Whole multiples of `seconds`.
fn floor(at: Timestamp, seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(at.as_second().div_euclid(seconds) * seconds).ok()
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut at = floor(after, 60)?.checked_add(SignedDuration::from_mins(1)).ok()?;
        let last = at.to_zoned(zone.clone()).year().saturating_add(HORIZON);
        loop {
            let local = at.to_zoned(zone.clone());
            if local.year() > last {
                return None;
            }
            at = if !has(self.month, local.month()) {
                start_of(local.date().last_of_month().tomorrow().ok()?, zone)?
            } else if !self.on(&local) {
                start_of(local.date().tomorrow().ok()?, zone)?
            } else if !has(self.hour, local.hour()) {
                // Clocks that are put forward skip hours, clocks put back have them twice.
                let passed = i64::from(local.minute()) * 60 + i64::from(local.second());
                at.checked_add(SignedDuration::from_secs(3600 - passed)).ok()?
            } else if !has(self.minute, local.minute()) {
                at.checked_add(SignedDuration::from_mins(1)).ok()?
            } else {
                return Some(at);
            };
        }
    }

    fn on(&self, at: &Zoned) -> bool {
        let day = has(self.day, at.day());
        let weekday = has(self.weekday, at.weekday().to_sunday_zero_offset());
        if self.either_day { day || weekday } else { day && weekday }
    }
}

fn start_of(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    Some(date.to_zoned(zone.clone()).ok()?.start_of_day().ok()?.timestamp())
}

fn has(bits: u64, n: i8) -> bool {
    u32::try_from(n).is_ok_and(|n| bits >> n & 1 == 1)
}

/// The bits of a field, and whether it leaves everything open.
fn field(text: &str, low: u32, high: u32, words: &[&str]) -> Result<(u64, bool), String> {
    let mut parts = text.split(',').map(|part| range(part, low, high, words));
    parts.try_fold((0, false), |(bits, any), part| part.map(|(b, a)| (bits | b, any || a)))
}

/// One part of a field: `*`, `a`, `a-b`, each with an optional `/step`.
fn range(part: &str, low: u32, high: u32, words: &[&str]) -> Result<(u64, bool), String> {
    let (span, step) = part.split_once('/').map_or((part, None), |(a, b)| (a, Some(b)));
    let step_by = step.map_or(Ok(1), |s| number(s, 0, &[]))?;
    let (from, to) = match (span, span.split_once('-')) {
        ("*" | "?", _) => (low, high),
        (_, Some((a, b))) => (number(a, low, words)?, number(b, low, words)?),
        (one, None) => {
            let n = number(one, low, words)?;
            (n, if step.is_some() { high } else { n })
        }
    };
    if from < low {
        return Err(format!("beginning of range ({from}) below minimum ({low}): {part}"));
    }
    if to > high {
        return Err(format!("end of range ({to}) above maximum ({high}): {part}"));
    }
    if from > to {
        return Err(format!("beginning of range ({from}) beyond end of range ({to}): {part}"));
    }
    if step_by == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    let bits = (from..=to).step_by(step_by as usize).fold(0, |bits, n| bits | 1 << n);
    Ok((bits, matches!(span, "*" | "?") && step_by == 1))
}

fn number(text: &str, low: u32, words: &[&str]) -> Result<u32, String> {
    let word = words.iter().position(|w| w.eq_ignore_ascii_case(text));
    let word = word.and_then(|n| u32::try_from(n).ok()).map(|n| n + low);
    word.or_else(|| text.parse().ok()).ok_or_else(|| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next three times after a moment, in a zone.
    fn times(schedule: &str, zone: &str, after: &str) -> Vec<String> {
        let (zone, schedule) = (TimeZone::get(zone).unwrap(), Schedule::parse(schedule).unwrap());
        let mut at: Timestamp = after.parse().unwrap();
        let mut next = || {
            at = schedule.next(at, &zone)?;
            Some(at.to_zoned(zone.clone()).strftime("%m-%d %H:%M %a %z").to_string())
        };
        (0..3).map_while(|_| next()).collect()
    }

    #[test]
    fn table() {
        let table: [(&str, &str, [&str; 3]); 12] = [
            ("* * * * *", "UTC", ["01-01 10:01 Thu +0000", "01-01 10:02 Thu +0000", "01-01 10:03 Thu +0000"]),
            (
                "*/20 * * * *",
                "UTC",
                ["01-01 10:20 Thu +0000", "01-01 10:40 Thu +0000", "01-01 11:00 Thu +0000"],
            ),
            (
                "5 8-10/2 * * *",
                "UTC",
                ["01-01 10:05 Thu +0000", "01-02 08:05 Fri +0000", "01-02 10:05 Fri +0000"],
            ),
            ("@hourly", "UTC", ["01-01 11:00 Thu +0000", "01-01 12:00 Thu +0000", "01-01 13:00 Thu +0000"]),
            ("@weekly", "UTC", ["01-04 00:00 Sun +0000", "01-11 00:00 Sun +0000", "01-18 00:00 Sun +0000"]),
            ("@monthly", "UTC", ["02-01 00:00 Sun +0000", "03-01 00:00 Sun +0000", "04-01 00:00 Wed +0000"]),
            ("@yearly", "UTC", ["01-01 00:00 Fri +0000", "01-01 00:00 Sat +0000", "01-01 00:00 Mon +0000"]),
            (
                "@every 90m",
                "UTC",
                ["01-01 11:30 Thu +0000", "01-01 13:00 Thu +0000", "01-01 14:30 Thu +0000"],
            ),
            // The 13th or a Friday; every other day that is a Monday.
            (
                "0 0 13 * fri",
                "UTC",
                ["01-02 00:00 Fri +0000", "01-09 00:00 Fri +0000", "01-13 00:00 Tue +0000"],
            ),
            (
                "0 0 */2 * mon",
                "UTC",
                ["01-03 00:00 Sat +0000", "01-05 00:00 Mon +0000", "01-07 00:00 Wed +0000"],
            ),
            (
                "0 9 * jan,mar mon",
                "Asia/Tokyo",
                ["01-05 09:00 Mon +0900", "01-12 09:00 Mon +0900", "01-19 09:00 Mon +0900"],
            ),
            (
                "30 2 1 2-3 *",
                "Europe/Berlin",
                ["02-01 02:30 Sun +0100", "03-01 02:30 Sun +0100", "02-01 02:30 Mon +0100"],
            ),
        ];
        for (schedule, zone, want) in table {
            assert_eq!(times(schedule, zone, "2026-01-01T10:00:30Z"), want, "{schedule}");
        }
        assert!(times("0 0 31 2 *", "UTC", "2026-01-01T00:00:00Z").is_empty());
        assert_eq!(times("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z")[0], "02-29 00:00 Tue +0000");
    }

    #[test]
    fn clocks_that_are_changed() {
        // Two o'clock does not exist on 29 March, and comes twice on 25 October.
        let spring = times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z");
        assert_eq!(spring, ["03-30 02:30 Mon +0200", "03-31 02:30 Tue +0200", "04-01 02:30 Wed +0200"]);
        let autumn = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z");
        assert_eq!(autumn, ["10-25 02:30 Sun +0200", "10-25 02:30 Sun +0100", "10-26 02:30 Mon +0100"]);
        let hourly = times("0 * * * *", "Europe/Berlin", "2026-03-29T00:10:00Z");
        assert_eq!(hourly, ["03-29 03:00 Sun +0200", "03-29 04:00 Sun +0200", "03-29 05:00 Sun +0200"]);
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "@never",
            "*/0 * * * *",
            "a * * * *",
            "* * * * 7",
            "@every x",
        ] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
