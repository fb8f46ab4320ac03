//! Environment files as systemd reads them (`NAME="value"` lines), and the words that an unquoted `$NAME` on a command line
//! becomes: split at blanks, quotes respected, a backslash takes the next character as it is.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};

/// Files outside our own directory from which a daemon gets further arguments, in order: daemon, file, variable. They are
/// kubeadm's and the packages' contract for the kubelet.
pub const FURTHER: [(&str, &str, &str); 3] = [
    ("kubelet", "/var/lib/kubelet/kubeadm-flags.env", "KUBELET_KUBEADM_ARGS"),
    ("kubelet", "/etc/default/kubelet", "KUBELET_EXTRA_ARGS"),
    ("kubelet", "/etc/sysconfig/kubelet", "KUBELET_EXTRA_ARGS"),
];

/// The environment file of a daemon: its arguments as ARGS, then its environment.
///
/// # Errors
/// When something holds a line break, which such a file can't carry, or a name isn't one.
pub fn environment_file(args: &[String], env: &BTreeMap<String, String>) -> Result<String> {
    let mut text = format!("ARGS={}\n", quoted_value(&join(args)?)?);
    for (name, value) in env {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
            bail!("{name:?} is not the name of an environment variable");
        }
        text.push_str(&format!("{name}={}\n", quoted_value(value)?));
    }
    Ok(text)
}

/// Words on one line, each quoted where it needs to be.
fn join(words: &[String]) -> Result<String> {
    let one = |word: &String| -> Result<String> {
        if word.contains(['\n', '\r', '\0']) {
            bail!("an argument holds a line break: {word:?}");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            return Ok(word.clone());
        }
        Ok(format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
    };
    Ok(words.iter().map(one).collect::<Result<Vec<_>>>()?.join(" "))
}

fn quoted_value(value: &str) -> Result<String> {
    if value.contains(['\n', '\r', '\0']) {
        bail!("a value holds a line break: {value:?}");
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        if "\"\\`$".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    Ok(text)
}

/// Variables of an environment file; later ones win.
pub fn variables(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let joined = text.replace("\\\n", "");
    for line in joined.lines().map(str::trim) {
        let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) else {
            continue;
        };
        all.insert(name.trim_end().to_string(), unquote(value.trim()));
    }
    all
}

/// Takes the quotes off a value: inside double ones a backslash only frees `"`, `\`, `` ` `` and `$`; inside single ones
/// nothing; outside any character.
fn unquote(value: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), _) if q == c => quote = None,
            (Some('"'), '\\') => match chars.next() {
                Some(next) if "\"\\`$".contains(next) => out.push(next),
                Some(next) => out.extend(['\\', next]),
                None => {}
            },
            (None, '\\') => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out
}

/// The words of an unquoted variable on a command line.
pub fn split(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(q), _) if q == c => quote = None,
            (_, '\\') => word.get_or_insert_default().extend(chars.next()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What [`FURTHER`] files give this daemon now.
pub fn further(name: &str) -> Vec<String> {
    let one = |(_, file, variable): &(&str, &str, &str)| {
        let text = std::fs::read_to_string(Path::new(file)).unwrap_or_default();
        split(variables(&text).get(*variable).map_or("", String::as_str))
    };
    FURTHER.iter().filter(|(of, ..)| *of == name).flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_goes_in_comes_out() -> Result<()> {
        let cases: [&[&str]; 7] = [
            &["--a=b", "--c=d"],
            &["--issuer=https://x/?a=1&b=2", "--list=a,b"],
            &["two words", "", "tab\there"],
            &["quote\"s", "it's", "back\\slash", "\\\""],
            &["$HOME", "${X}", "`date`", "100%", "%h"],
            &["# no comment", "; neither", "a;b"],
            &["--map={\"a\": [\"b c\"]}"],
        ];
        for case in cases {
            let text = environment_file(&words(case), &BTreeMap::new())?;
            assert_eq!(text.lines().count(), 1, "{text}");
            assert_eq!(split(&variables(&text)["ARGS"]), words(case), "{text}");
        }
        Ok(())
    }

    #[test]
    fn the_file_reads_as_documented() -> Result<()> {
        let env = BTreeMap::from([("HTTPS_PROXY".to_string(), "http://u:p$1@x".to_string())]);
        let text = environment_file(&words(&["--a=b", "--c=x y"]), &env)?;
        assert_eq!(text, "ARGS=\"--a=b \\\"--c=x y\\\"\"\nHTTPS_PROXY=\"http://u:p\\$1@x\"\n");
        Ok(())
    }

    #[test]
    fn files_of_others() {
        let text = "# comment\n; too\nA=plain \nB='single \\ $x'\nC=\"a\\\"b\\n\"\nD=x\\\ny\n E = 1\nnothing\nA=later\n";
        let got = variables(text);
        assert_eq!(got["A"], "later");
        assert_eq!(got["B"], "single \\ $x");
        assert_eq!(got["C"], "a\"b\\n");
        assert_eq!(got["D"], "xy");
        assert_eq!(got["E"], "1");
        assert_eq!(got.len(), 5);
        assert_eq!(
            split("one 'two two' too  \"\" --x=\"y z\""),
            words(&["one", "two two", "too", "", "--x=y z"])
        );
    }

    #[test]
    fn line_breaks_and_bad_names_are_refused() {
        assert!(environment_file(&words(&["a\nb"]), &BTreeMap::new()).is_err());
        for name in ["", "A B", "1A", "A=B"] {
            let env = BTreeMap::from([(name.to_string(), String::new())]);
            assert!(environment_file(&[], &env).is_err(), "{name}");
        }
    }
}
