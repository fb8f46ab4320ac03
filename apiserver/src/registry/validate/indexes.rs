//! Sets of completion indexes as text: `0,2,4-7`.

/// Reads runs of indexes, increasing and below `completions`. Errors: what is wrong, in words.
pub fn parse(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    if text.is_empty() {
        return Ok(runs);
    }
    for part in text.split(',') {
        let ends: Vec<&str> = part.split('-').collect();
        let (first, last) = match ends[..] {
            [one] => (one, one),
            [first, last] => (first, last),
            _ => {
                return Err(format!(
                    "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
        };
        let before = runs.last().map(|run| run.1);
        let first_index = index(first, completions)?;
        if let Some(before) = before.filter(|b| *b >= first_index) {
            return Err(format!("non-increasing order, previous: {before}, current: {first_index}"));
        }
        let last_index = index(last, completions)?;
        if ends.len() == 2 && last_index <= first_index {
            return Err(format!("non-increasing order, previous: {first_index}, current: {last_index}"));
        }
        runs.push((first_index, last_index));
    }
    Ok(runs)
}

fn index(text: &str, completions: i64) -> Result<i64, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse::<i64>().ok().filter(|_| digits);
    let number = number.ok_or_else(|| format!("cannot convert string to integer for index: {text:?}"))?;
    if number >= completions { Err(format!("too large index: {text:?}")) } else { Ok(number) }
}

/// How many there are.
pub fn total(runs: &[(i64, i64)]) -> i64 {
    runs.iter().map(|(first, last)| last - first + 1).sum()
}

/// The lowest index that is in both.
pub fn common(a: &[(i64, i64)], b: &[(i64, i64)]) -> Option<i64> {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x.0.max(y.0), x.1.min(y.1))));
    pairs.filter(|(first, last)| first <= last).map(|(first, _)| first).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let table = [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("0,2,4-7", Ok(6)),
            ("8", Err("too large index: \"8\"")),
            ("1-9", Err("too large index: \"9\"")),
            ("2,1", Err("non-increasing order, previous: 2, current: 1")),
            ("2,2", Err("non-increasing order, previous: 2, current: 2")),
            ("3-3", Err("non-increasing order, previous: 3, current: 3")),
            ("0-3,2", Err("non-increasing order, previous: 3, current: 2")),
            ("a", Err("cannot convert string to integer for index: \"a\"")),
            ("1,", Err("cannot convert string to integer for index: \"\"")),
            ("+1", Err("cannot convert string to integer for index: \"+1\"")),
            (
                "99999999999999999999",
                Err("cannot convert string to integer for index: \"99999999999999999999\""),
            ),
            (
                "1-2-3",
                Err(
                    "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
                ),
            ),
        ];
        for (text, wanted) in table {
            let found = parse(text, 8).map(|runs| total(&runs));
            assert_eq!(found, wanted.map_err(str::to_owned), "{text}");
        }
        let parsed = |text| parse(text, 20).unwrap();
        assert_eq!(common(&parsed("0-3,7"), &parsed("4,6-8")), Some(7));
        assert_eq!(common(&parsed("0-3,7"), &parsed("4-6")), None);
    }
}
