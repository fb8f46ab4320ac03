//! Which unquoted text a YAML 1.1 reader would take for something else than a string.

use std::sync::LazyLock;

use regex::Regex;

const WORDS: &[&str] = &[
    "", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "n", "N", "no", "No", "NO",
    "false", "False", "FALSE", "off", "Off", "OFF", "~", "null", "Null", "NULL", ".nan", ".NaN", ".NAN",
    ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF",
];

static FLOAT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$").ok());
static BASE60: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$").ok());
static DATE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})| [0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?)?$").ok()
});

fn is(pattern: &Option<Regex>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// Whether the text, unquoted, would be read as a string.
pub fn is_string(text: &str) -> bool {
    if WORDS.contains(&text) {
        return false;
    }
    match text.as_bytes().first() {
        Some(b'.') => !is(&FLOAT, text),
        Some(b'+' | b'-' | b'0'..=b'9') => !is_number(text) && !is(&DATE, text) && !is(&BASE60, text),
        _ => true,
    }
}

fn is_number(text: &str) -> bool {
    let plain = text.replace('_', "");
    let digits = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    is(&FLOAT, &plain) || based(digits)
}

/// `0x1f`, `0b1`, `0o17`.
fn based(digits: &str) -> bool {
    let bases = [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8)];
    bases.iter().any(|(prefix, radix)| {
        digits.strip_prefix(prefix).is_some_and(|rest| u64::from_str_radix(rest, *radix).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_quotes() {
        let strings = [
            "a", "yess", "1a", "v1", "10.0.0.1", "1.2.3", "-", "- x", "24h", "2024-1", "1:99", "0xzz",
            "<none>", "10m",
        ];
        let others = [
            "yes",
            "1",
            "-1",
            "+1",
            "1.5",
            ".5",
            "1e3",
            "1_000",
            "0x1f",
            "017",
            "1:30",
            "2024-01-02",
            "2024-01-02T03:04:05Z",
            "null",
            "~",
            "",
            ".inf",
            "08",
        ];
        for text in strings {
            assert!(is_string(text), "{text}");
        }
        for text in others {
            assert!(!is_string(text), "{text}");
        }
    }
}
