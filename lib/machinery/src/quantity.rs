//! Quantities such as `100m`, `1.5Gi` or `12e6`: exact decimal numbers with a suffix family.
//!
//! A quantity is kept as an integer times a power of ten. Like upstream, nothing below a nano is kept (values are
//! rounded away from zero) and the canonical form has no fraction and the largest suffix that leaves an integer.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Family of suffixes a quantity is printed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`.
    DecimalSi,
}

/// An exact number: `nanos` billionths.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Empty text.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Malformed,
    /// A suffix that does not exist.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// Digits that are no number.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

const NANO: i128 = 1_000_000_000;
/// Largest magnitude kept, 2^63-1 whole units: larger texts are cut to it, as upstream does.
const MAX: i128 = (i64::MAX as i128) * NANO;

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

enum Scale {
    Ten(i32),
    Two(u32),
}

impl Quantity {
    /// Zero in this format.
    pub fn zero(format: Format) -> Self {
        Self { nanos: 0, format }
    }

    /// Whole units.
    pub fn new(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * NANO, format }
    }

    /// Thousandths.
    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self { nanos: i128::from(milli) * 1_000_000, format }
    }

    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, digits, suffix) = split(text)?;
        let (scale, format) = read_suffix(suffix)?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if fraction.contains('.') || whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Numeric);
        }
        let nanos = match scale {
            Scale::Ten(power) => decimal_nanos(whole, fraction, power),
            Scale::Two(power) => binary_nanos(whole, fraction, power),
        };
        let format = match format {
            // A binary suffix cannot show fractions of a byte.
            Format::BinarySi
                if nanos % NANO != 0 || nanos < 1024 * NANO && nanos > 0 && scale_is_fraction(fraction) =>
            {
                Format::DecimalSi
            }
            other => other,
        };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// Whole units, rounded away from zero; saturates.
    pub fn value(&self) -> i64 {
        clamp(round_up(self.nanos, NANO))
    }

    /// Thousandths, rounded away from zero; saturates.
    pub fn milli_value(&self) -> i64 {
        clamp(round_up(self.nanos, 1_000_000))
    }

    /// As a float.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Billionths, exact.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// The suffix family.
    pub fn format(&self) -> Format {
        self.format
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// True for zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Sum; keeps the left format unless it is zero.
    #[must_use]
    pub fn add(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// Difference; keeps the left format unless it is zero.
    #[must_use]
    pub fn sub(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }

    /// Negated.
    #[must_use]
    pub fn neg(&self) -> Self {
        Self { nanos: -self.nanos, format: self.format }
    }

    /// The canonical text.
    pub fn canonical(&self) -> String {
        self.to_string()
    }
}

/// The canonical form of a text, or why it is no quantity.
pub fn canonical(text: &str) -> Result<String, QuantityError> {
    // Most values in real objects are small plain integers, already canonical.
    let plain = !text.is_empty()
        && text.len() <= 2
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    match plain {
        true => Ok(text.to_string()),
        false => Quantity::parse(text).map(|q| q.to_string()),
    }
}

fn scale_is_fraction(fraction: &str) -> bool {
    fraction.bytes().any(|b| b != b'0')
}

/// Sign, digits with an optional point, suffix.
fn split(text: &str) -> Result<(bool, &str, &str), QuantityError> {
    let (negative, rest) = match text.as_bytes().first() {
        None => return Err(QuantityError::Malformed),
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (digits, suffix) = rest.split_at(end);
    match digits.bytes().any(|b| b.is_ascii_digit()) {
        true => Ok((negative, digits, suffix)),
        false => Err(QuantityError::Malformed),
    }
}

fn read_suffix(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Ten(*power), Format::DecimalSi));
    }
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Two(*power), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(bad_suffix(suffix))?;
    let power: i32 = exponent.parse().map_err(|_| bad_suffix(suffix))?;
    Ok((Scale::Ten(power), Format::DecimalExponent))
}

/// Characters no suffix has make the text malformed, the rest is an unknown suffix.
fn bad_suffix(suffix: &str) -> QuantityError {
    match suffix.chars().all(|c| "eEinumkKMGTP+-".contains(c) || c.is_ascii_digit()) {
        true => QuantityError::Suffix,
        false => QuantityError::Malformed,
    }
}

/// digits × 10^power in billionths, rounded up, capped.
fn decimal_nanos(whole: &str, fraction: &str, power: i32) -> i128 {
    let all: String = whole.chars().chain(fraction.chars()).collect();
    let digits = all.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let shift = i64::from(power) - fraction.len() as i64 + 9;
    if digits.len() as i64 + shift > 29 {
        return MAX;
    }
    if shift >= 0 {
        return digits.parse::<i128>().unwrap_or(MAX).saturating_mul(10i128.pow(shift as u32)).min(MAX);
    }
    let keep = digits.len() as i64 + shift;
    if keep <= 0 {
        return 1;
    }
    let (kept, cut) = digits.split_at(keep as usize);
    let up = i128::from(cut.bytes().any(|b| b != b'0'));
    kept.parse::<i128>().map_or(MAX, |n| n.saturating_add(up)).min(MAX)
}

/// digits × 2^power in billionths, rounded up, capped.
fn binary_nanos(whole: &str, fraction: &str, power: u32) -> i128 {
    let units = whole.trim_start_matches('0');
    let units = if units.is_empty() {
        0
    } else if units.len() > 19 {
        return MAX;
    } else {
        units.parse::<i128>().unwrap_or(MAX)
    };
    let part = &fraction[..fraction.len().min(18)];
    let lost = i128::from(fraction.len() > 18 && scale_is_fraction(&fraction[18..]));
    let scale = 10i128.pow(part.len() as u32);
    let numerator = (if part.is_empty() { 0 } else { part.parse::<i128>().unwrap_or_default() }) + lost;
    let base = units.saturating_mul(1 << power);
    if base > i128::from(i64::MAX) {
        return MAX;
    }
    // The fraction is below one unit, so its bytes fit; the nanos of those bytes are kept apart to stay exact.
    let product = numerator.saturating_mul(1 << power);
    let (bytes, rest) = (product / scale, product % scale);
    let nanos = round_up(rest.saturating_mul(NANO), scale);
    (base + bytes).saturating_mul(NANO).saturating_add(nanos).min(MAX)
}

/// Division that rounds away from zero.
fn round_up(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    match value % by {
        0 => quotient,
        rest => quotient + rest.signum(),
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        match self.format {
            Format::BinarySi if !small && self.nanos % NANO == 0 => write_binary(f, self.nanos / NANO),
            Format::BinarySi | Format::DecimalSi => write_decimal(f, self.nanos, false),
            Format::DecimalExponent => write_decimal(f, self.nanos, true),
        }
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, mut value: i128) -> fmt::Result {
    let mut steps = 0;
    while value % 1024 == 0 && steps < BINARY.len() {
        value /= 1024;
        steps += 1;
    }
    let suffix = steps.checked_sub(1).and_then(|at| BINARY.get(at)).map_or("", |(name, _)| name);
    write!(f, "{value}{suffix}")
}

fn write_decimal(f: &mut fmt::Formatter<'_>, mut nanos: i128, exponent: bool) -> fmt::Result {
    let mut power = -9;
    while nanos % 1000 == 0 && power < 18 {
        nanos /= 1000;
        power += 3;
    }
    let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(name, _)| name);
    match (exponent, power) {
        (_, 0) => write!(f, "{nanos}"),
        (true, _) => write!(f, "{nanos}e{power}"),
        (false, _) => write!(f, "{nanos}{suffix}"),
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_forms() {
        let table = [
            ("0", "0"),
            ("1", "1"),
            ("01", "1"),
            ("0.5", "500m"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("1000Ki", "1000Ki"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("1E3", "1e3"),
            ("1000", "1k"),
            ("5000", "5k"),
            ("100k", "100k"),
            ("1000k", "1M"),
            ("-1", "-1"),
            ("+2", "2"),
            (".5", "500m"),
            ("5.", "5"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("100000000n", "100m"),
            ("1E", "1E"),
            ("0Ki", "0"),
            ("0Mi", "0"),
            ("123456789", "123456789"),
            ("0.0001k", "100m"),
            ("1e-3", "1e-3"),
            ("100e-3", "100e-3"),
            ("1e1", "10"),
            ("1e2", "100"),
            ("1.5Ki", "1536"),
        ];
        for (text, want) in table {
            assert_eq!(canonical(text).as_deref(), Ok(want), "{text}");
        }
        for bad in ["", "a", "1x", "1 ", " 1", "1.2.3", "1KI", "1mm", "--1", "1e", "e3", ".", "-"] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers() {
        let q = |t: &str| Quantity::parse(t).expect(t);
        assert_eq!((q("100m").value(), q("100m").milli_value()), (1, 100));
        assert_eq!(q("1Gi").value(), 1 << 30);
        assert_eq!(q("9999999999999999999999").value(), i64::MAX);
        assert!(q("1Ki") > q("1k") && q("1000m") == q("1"));
        assert_eq!(q("1Gi").add(&q("512Mi")).to_string(), "1536Mi");
        assert_eq!(q("1").sub(&q("1500m")).to_string(), "-500m");
        assert_eq!(q("0").add(&q("1Ki")).to_string(), "1Ki");
    }

    proptest! {
        #[test]
        fn canonical_is_stable(text in "[+-]?[0-9]{1,12}(\\.[0-9]{1,6})?(n|u|m|k|M|G|Ki|Mi|Gi|e3|e-2)?") {
            let first = Quantity::parse(&text).expect("parses");
            let again = Quantity::parse(&first.to_string()).expect("parses again");
            prop_assert_eq!(first, again);
            prop_assert_eq!(first.to_string(), again.to_string());
        }
    }
}
