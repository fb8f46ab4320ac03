//! Shapes of upstream's flag values, and tolerance for the flags a daemon knows but has no use for.

use std::time::Duration;

/// Parses a Go duration: a sequence of numbers with units, such as `1h30m`, `500ms` or `0`.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let bad = || format!("time: invalid duration {text:?}");
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_len = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        total += number * unit_seconds(&rest[digits..digits + unit_len]).ok_or_else(bad)?;
        rest = &rest[digits + unit_len..];
    }
    if text.is_empty() { Err(bad()) } else { Duration::try_from_secs_f64(total).map_err(|_| bad()) }
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

/// Takes the flags in `accepted` out of an argument list and returns both parts. A flag may be written
/// `--name=value`, `--name value` or, for names listed as boolean (ending in `!`), `--name`.
pub fn split_accepted(args: Vec<String>, accepted: &[&str]) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        let name = arg.strip_prefix("--").map(|a| a.split('=').next().unwrap_or(a).replace('_', "-"));
        let known = name.as_ref().and_then(|n| accepted.iter().find(|a| a.trim_end_matches('!') == n));
        let Some(known) = known else {
            kept.push(arg);
            continue;
        };
        let takes_value = !known.ends_with('!') && !arg.contains('=');
        taken.push(name.unwrap_or_default());
        if takes_value {
            args.next();
        }
    }
    (kept, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let secs = |t: &str| duration(t).map(|d| d.as_secs_f64());
        assert_eq!(secs("1h30m"), Ok(5400.0));
        assert_eq!(secs("1.5s"), Ok(1.5));
        assert_eq!(secs("250ms"), Ok(0.25));
        assert_eq!(secs("0"), Ok(0.0));
        assert!(secs("5").is_err() && secs("").is_err() && secs("5x").is_err());
    }

    #[test]
    fn accepted_flags_are_taken_with_their_values() {
        let args = ["d", "--vmodule", "a=1", "--v=2", "--profiling", "--master=x", "--keep", "y"];
        let (kept, taken) =
            split_accepted(args.map(String::from).to_vec(), &["vmodule", "profiling!", "master"]);
        assert_eq!(kept, ["d", "--v=2", "--keep", "y"]);
        assert_eq!(taken, ["vmodule", "profiling", "master"]);
    }
}
