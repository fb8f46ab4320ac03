//! The order of keys: letters after other characters, numbers by their value.

use std::cmp::Ordering;

/// Compares two keys as Go's YAML library sorts them.
pub fn order(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(x, y)| x != y) else { return a.len().cmp(&b.len()) };
    let (x, y) = (a[at], b[at]);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (x_end, y_end) = (digits(&a, at), digits(&b, at));
    let leading = u64::from((x == '0' || y == '0') && nonzero_before(&a, at));
    let number = |text: &[char]| {
        text.iter().fold(leading, |sum, digit| {
            sum.wrapping_mul(10).wrapping_add(u64::from(digit.to_digit(10).unwrap_or_default()))
        })
    };
    number(&a[at..x_end]).cmp(&number(&b[at..y_end])).then(x_end.cmp(&y_end)).then(x.cmp(&y))
}

fn digits(text: &[char], from: usize) -> usize {
    text[from..].iter().position(|c| !c.is_ascii_digit()).map_or(text.len(), |count| from + count)
}

/// A zero that differs counts only inside a number that began before it.
fn nonzero_before(text: &[char], at: usize) -> bool {
    text[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_natural_order() {
        let sorted = ["_a", "1", "a", "a.b", "a2", "a9", "a10", "aB", "ab", "b", "true"];
        let mut keys = sorted;
        keys.reverse();
        keys.sort_by(|a, b| order(a, b));
        assert_eq!(keys, sorted);
    }
}
