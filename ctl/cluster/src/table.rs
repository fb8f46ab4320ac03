//! Small tables, columns three spaces apart.

use jiff::SignedDuration;

/// Rows as text, each column as wide as its widest cell.
pub fn render<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> =
        (0..N).map(|i| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// A length of time in one or two units, as lists show it.
pub fn age(time: SignedDuration) -> String {
    let s = time.as_secs();
    match s {
        _ if s < 120 => format!("{s}s"),
        _ if s < 600 => format!("{}m{}s", s / 60, s % 60),
        _ if s < 3 * 3600 => format!("{}m", s / 60),
        _ if s < 8 * 3600 => format!("{}h{}m", s / 3600, s % 3600 / 60),
        _ if s < 48 * 3600 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["A".to_string(), "B".into()], ["long".into(), "x".into()]];
        assert_eq!(render(&rows), "A      B\nlong   x\n");
    }

    #[test]
    fn ages_are_short() {
        let of = |s| age(SignedDuration::from_secs(s));
        assert_eq!(
            [of(60), of(300), of(3600), of(5 * 3600), of(86400), of(3 * 86400)],
            ["60s", "5m0s", "60m", "5h0m", "24h", "3d"]
        );
    }
}
