//! Formats of names. Each check returns upstream-style messages; none means the text is fine.

/// Longest DNS label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const LABEL_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const SUBDOMAIN_REGEX: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const LABEL_1035_REGEX: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const QUALIFIED_REGEX: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const VALUE_REGEX: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

/// `TEXT (e.g. 'a', or 'b', regex used for validation is 'R')`, as upstream words a failed pattern.
pub fn regex_error(text: &str, regex: &str, examples: &[&str]) -> String {
    let shown: Vec<String> = examples.iter().map(|e| format!("'{e}'")).collect();
    match shown.is_empty() {
        true => format!("{text} (regex used for validation is '{regex}')"),
        // Upstream prints a comma after every example, also before the "or" of the next one, with two spaces there.
        false => format!("{text} (e.g. {}, regex used for validation is '{regex}')", shown.join(",  or ")),
    }
}

/// `must be no more than N bytes`.
pub fn max_len_error(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

const EMPTY: &str = "must be non-empty";

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Non-empty, `inner` characters, `edge` characters at both ends.
fn shaped(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match (text.as_bytes().first(), text.as_bytes().last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && text.bytes().all(inner),
        _ => false,
    }
}

fn label_shape(text: &str) -> bool {
    shaped(text, lower_alnum, |b| lower_alnum(b) || b == b'-')
}

fn qualified_shape(text: &str) -> bool {
    shaped(
        text,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    )
}

fn subdomain_shape(text: &str) -> bool {
    text.split('.').all(label_shape)
}

/// A DNS label: at most 63 of `[a-z0-9-]` with alphanumeric ends.
pub fn is_dns1123_label(text: &str) -> Vec<String> {
    let mut errors = too_long(text, LABEL_MAX);
    if !label_shape(text) {
        errors.push(regex_error(LABEL_TEXT, LABEL_REGEX, &["my-name", "123-abc"]));
    }
    errors
}

/// A DNS subdomain: at most 253 characters of labels joined by dots.
pub fn is_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = too_long(text, SUBDOMAIN_MAX);
    if !subdomain_shape(text) {
        errors.push(regex_error(SUBDOMAIN_TEXT, SUBDOMAIN_REGEX, &["example.com"]));
    }
    errors
}

/// A subdomain that may start with `*.`.
pub fn is_wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = too_long(text, SUBDOMAIN_MAX);
    if !text.strip_prefix("*.").is_some_and(subdomain_shape) {
        let wording = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        errors.push(regex_error(wording, &format!(r"\*\.{SUBDOMAIN_REGEX}"), &["*.example.com"]));
    }
    errors
}

/// A DNS label that starts with a letter.
pub fn is_dns1035_label(text: &str) -> Vec<String> {
    let mut errors = too_long(text, LABEL_MAX);
    if !(label_shape(text) && text.starts_with(|c: char| c.is_ascii_lowercase())) {
        errors.push(regex_error(LABEL_1035_TEXT, LABEL_1035_REGEX, &["my-name", "abc-123"]));
    }
    errors
}

/// An optional DNS subdomain and `/`, then 1 to 63 of `[A-Za-z0-9._-]` with alphanumeric ends.
pub fn is_qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            errors.extend(prefix_errors(prefix));
            *name
        }
        _ => {
            let wording = regex_error(QUALIFIED_TEXT, QUALIFIED_REGEX, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a qualified name {wording} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push(format!("name part {EMPTY}"));
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", max_len_error(LABEL_MAX)));
    }
    if !qualified_shape(name) {
        errors.push(format!(
            "name part {}",
            regex_error(QUALIFIED_TEXT, QUALIFIED_REGEX, &["MyName", "my.name", "123-abc"])
        ));
    }
    errors
}

fn prefix_errors(prefix: &str) -> Vec<String> {
    match prefix.is_empty() {
        true => vec![format!("prefix part {EMPTY}")],
        false => is_dns1123_subdomain(prefix).into_iter().map(|e| format!("prefix part {e}")).collect(),
    }
}

/// Empty, or at most 63 of `[A-Za-z0-9._-]` with alphanumeric ends.
pub fn is_label_value(text: &str) -> Vec<String> {
    let mut errors = too_long(text, LABEL_MAX);
    if !text.is_empty() && !qualified_shape(text) {
        errors.push(regex_error(VALUE_TEXT, VALUE_REGEX, &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// A key of a config map or secret.
pub fn is_config_key(text: &str) -> Vec<String> {
    let mut errors = too_long(text, SUBDOMAIN_MAX);
    let fine = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !fine {
        let wording = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        errors.push(regex_error(wording, r"[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match text {
        "." => errors.push("must not be '.'".into()),
        ".." => errors.push("must not be '..'".into()),
        _ if text.starts_with("..") => errors.push("must not start with '..'".into()),
        _ => {}
    }
    errors
}

/// A port name: at most 15 of `[a-z0-9-]`, with a letter, no `--`, no `-` at the ends.
pub fn is_port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push(max_len_error(15));
    }
    if text.is_empty() || !text.bytes().all(|b| lower_alnum(b) || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".into());
    }
    errors
}

/// A port number.
pub fn is_port_number(port: i64) -> Vec<String> {
    match (1..=65535).contains(&port) {
        true => Vec::new(),
        false => vec!["must be between 1 and 65535, inclusive".into()],
    }
}

/// A number within bounds.
pub fn is_in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    match (low..=high).contains(&value) {
        true => Vec::new(),
        false => vec![format!("must be between {low} and {high}, inclusive")],
    }
}

/// An environment variable name, relaxed form: printable ASCII without `=`.
pub fn is_env_var_name(text: &str) -> Vec<String> {
    match text {
        "" => vec!["environment variable name must be non-empty".into()],
        _ if text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') => Vec::new(),
        _ => vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()],
    }
}

/// A C identifier.
pub fn is_c_identifier(text: &str) -> Vec<String> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    match first && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        true => Vec::new(),
        false => vec![regex_error(
            "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
            "[A-Za-z_][A-Za-z0-9_]*",
            &["my_name", "MY_NAME", "MyName"],
        )],
    }
}

/// A fully qualified domain: a subdomain with at least two labels.
pub fn is_fully_qualified_name(text: &str) -> Vec<String> {
    match text.split('.').count() {
        _ if text.is_empty() => vec!["Required value".into()],
        0 | 1 => {
            let mut errors = is_dns1123_subdomain(text);
            errors.push("should be a domain with at least two segments separated by dots".into());
            errors
        }
        2 if !is_dns1123_subdomain(text).is_empty() => is_dns1123_subdomain(text),
        _ => is_dns1123_subdomain(text),
    }
}

/// A name as part of a URL path: not `.` or `..`, no `/`, no `%`.
pub fn is_path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    let mut errors = Vec::new();
    for bad in ['/', '%'] {
        if text.contains(bad) {
            errors.push(format!("may not contain '{bad}'"));
        }
    }
    errors
}

/// A percentage such as `25%`.
pub fn is_percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    match !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => Vec::new(),
        false => vec![regex_error(
            "a valid percent string must be a numeric string followed by an ending '%'",
            "[0-9]+%",
            &["1%", "93%"],
        )],
    }
}

fn too_long(text: &str, max: usize) -> Vec<String> {
    match text.len() > max {
        true => vec![max_len_error(max)],
        false => Vec::new(),
    }
}

/// Characters of generated names: no vowels, nothing that looks alike.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Longest base of a generated name.
const BASE_MAX: usize = 63 - 5;

/// A name from `generateName`: the base, cut to 58 bytes, and five random characters.
pub fn generate(base: &str) -> String {
    let mut end = base.len().min(BASE_MAX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], random_suffix(5))
}

/// `n` random characters of the safe alphabet.
pub fn random_suffix(n: usize) -> String {
    (0..n).map(|_| char::from(SAFE[rand::random_range(0..SAFE.len())])).collect()
}

/// Maps the digits of a hash onto the safe alphabet.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|b| char::from(SAFE[usize::from(b) % SAFE.len()])).collect()
}

/// A random version 4 UUID.
pub fn new_uid() -> String {
    // The thread's own generator, seeded by the system, asks the kernel once and not for each of them.
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        type Check = fn(&str) -> Vec<String>;
        let table: [(Check, &[&str], &[&str]); 7] = [
            (is_dns1123_label, &["a", "0", "a-b", "1-2"], &["", "-a", "a-", "A", "a.b", "a_b"]),
            (is_dns1123_subdomain, &["a", "a.b", "0.a-b"], &["", "a..b", ".a", "a.", "A.b", "-a"]),
            (is_dns1035_label, &["a", "a1"], &["", "1a", "a-", "a.b"]),
            (is_qualified_name, &["a", "A_b.c", "x.y/a"], &["", "/a", "a/", "a/b/c", "_a", "X/a"]),
            (is_label_value, &["", "a", "A.b_c-d"], &["-a", "a-", "a b", "a/b"]),
            (is_config_key, &["a", "A_b.c", ".a"], &["", ".", "..", "..a", "a/b"]),
            (is_port_name, &["a", "http-1"], &["", "1", "-a", "a-", "a--b", "A", "abcdefghijklmnop"]),
        ];
        for (at, (check, good, bad)) in table.iter().enumerate() {
            good.iter().for_each(|text| assert!(check(text).is_empty(), "{at} {text:?}: {:?}", check(text)));
            bad.iter().for_each(|text| assert!(!check(text).is_empty(), "{at} {text:?}"));
        }
    }

    #[test]
    fn texts() {
        assert_eq!(
            is_dns1123_label("A")[0],
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        );
        assert_eq!(is_dns1123_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
    }

    #[test]
    fn generated_names() {
        let name = generate(&"x".repeat(80));
        assert_eq!(name.len(), 63);
        assert!(is_dns1123_label(&name).is_empty());
        assert_ne!(generate("a-"), generate("a-"));
    }
}
