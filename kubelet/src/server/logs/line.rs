//! One line of a log file, in the CRI format or the JSON of a dockerd behind cri-dockerd.

use jiff::Timestamp;
use std::borrow::Cow;

/// Which output of the container a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// standard output
    Stdout,
    /// standard error
    Stderr,
}

/// A parsed line. `content` ends with a newline when the container's own line ended here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// when the runtime saw it
    pub time: Timestamp,
    /// where it came from
    pub output: Output,
    /// the container's bytes
    pub content: Cow<'a, [u8]>,
}

/// Parses a raw line (with its newline, if it has one). None: in no format we know.
pub fn parse(raw: &[u8]) -> Option<Line<'_>> {
    if raw.first() == Some(&b'{') { parse_json(raw) } else { parse_cri(raw) }
}

/// `TIME stdout|stderr TAGS CONTENT`: TAGS are joined by `:`, the first is P (the container's line goes on) or F.
fn parse_cri(raw: &[u8]) -> Option<Line<'_>> {
    let (time, rest) = split_space(raw)?;
    let (output, rest) = split_space(rest)?;
    let (tags, content) = split_space(rest)?;
    let partial = tags.split(|b| *b == b':').next() == Some(b"P");
    let content = match content.strip_suffix(b"\n") {
        Some(without) if partial => without,
        _ => content,
    };
    Some(Line {
        time: std::str::from_utf8(time).ok()?.parse().ok()?,
        output: output_of(output)?,
        content: Cow::Borrowed(content),
    })
}

fn split_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == b' ')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

fn output_of(name: &[u8]) -> Option<Output> {
    match name {
        b"stdout" => Some(Output::Stdout),
        b"stderr" => Some(Output::Stderr),
        _ => None,
    }
}

#[derive(serde::Deserialize)]
struct JsonLine {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    time: String,
}

fn parse_json(raw: &[u8]) -> Option<Line<'static>> {
    let line: JsonLine = serde_json::from_slice(raw).ok()?;
    Some(Line {
        time: line.time.parse().ok()?,
        output: output_of(line.stream.as_bytes())?,
        content: Cow::Owned(line.log.into_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(raw: &str, want: Option<(Output, &str)>) {
        let got = parse(raw.as_bytes()).map(|l| (l.output, String::from_utf8_lossy(&l.content).into_owned()));
        assert_eq!(got, want.map(|(o, c)| (o, c.to_owned())), "{raw}");
    }

    #[test]
    fn formats() {
        use Output::*;
        check("2016-10-06T00:17:09.669794202Z stdout F a b\n", Some((Stdout, "a b\n")));
        check("2016-10-06T00:17:09.669794202Z stderr P part\n", Some((Stderr, "part")));
        check("2016-10-06T00:17:09.669794202Z stderr P:x part\n", Some((Stderr, "part")));
        check("2016-10-06T00:17:09.669794202+02:00 stdout F\n", None);
        check("2016-10-06T00:17:09.669794202+02:00 stdout F \n", Some((Stdout, "\n")));
        check("2016-10-06T00:17:09Z stdout F cut", Some((Stdout, "cut")));
        check("2016-10-06T00:17:09Z stdin F cut", None);
        check("yesterday stdout F cut", None);
        check("", None);
        check(
            "{\"log\":\"1:M hello\\n\",\"stream\":\"stdout\",\"time\":\"2016-10-20T18:39:20.57606443Z\"}\n",
            Some((Stdout, "1:M hello\n")),
        );
        check("{\"log\":1}\n", None);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&raw);
            let mut json = vec![b'{'];
            json.extend(&raw);
            let _ = parse(&json);
        }
    }
}
