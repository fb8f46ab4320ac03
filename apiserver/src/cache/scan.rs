//! A skim over an object's JSON that finds what the cache indexes by, and parses nothing else.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// Which values of an object are wanted, as a tree of member names.
#[derive(Debug, Default, Clone)]
pub struct Wanted {
    root: Node,
    defaults: Vec<&'static str>,
}

#[derive(Debug, Default, Clone)]
struct Node {
    leaf: Option<usize>,
    children: Vec<(String, Node)>,
}

impl Wanted {
    /// Asks for the value at a dotted path; `default` stands for a missing one. Values come in the order of asking.
    pub fn add(&mut self, path: &str, default: &'static str) -> usize {
        let index = self.defaults.len();
        self.defaults.push(default);
        let mut node = &mut self.root;
        for segment in path.split('.') {
            let at = node.children.iter().position(|(name, _)| name == segment).unwrap_or_else(|| {
                node.children.push((segment.to_owned(), Node::default()));
                node.children.len() - 1
            });
            node = &mut node.children[at].1;
        }
        node.leaf = Some(index);
        index
    }
}

impl Node {
    fn child(&self, name: &[u8]) -> Option<&Node> {
        self.children.iter().find(|(n, _)| n.as_bytes() == name).map(|(_, node)| node)
    }
}

/// What a skim finds.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// metadata.namespace.
    pub namespace: Cow<'a, str>,
    /// metadata.name.
    pub name: Cow<'a, str>,
    /// metadata.uid.
    pub uid: Cow<'a, str>,
    /// metadata.labels.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Where metadata's members begin, just behind its brace.
    pub members_at: usize,
    /// Whether metadata has no members.
    pub members_empty: bool,
    /// metadata.resourceVersion with its key (and the comma that goes with it), if there is one.
    pub version: Option<Range<usize>>,
    /// The wanted values.
    pub values: Vec<Cow<'a, str>>,
}

/// Skims `json`, which must be one object with metadata. The error says what is wrong and where.
pub fn scan<'a>(json: &'a [u8], wanted: &Wanted) -> Result<Found<'a>, String> {
    let mut found =
        Found { values: wanted.defaults.iter().map(|d| Cow::Borrowed(*d)).collect(), ..Found::default() };
    let mut skim = Skim { bytes: json, at: 0 };
    let mut has_metadata = false;
    skim.object(|skim, key| match key {
        b"metadata" => {
            has_metadata = true;
            skim.metadata(&mut found)
        }
        _ => skim.wanted(wanted.root.child(key), &mut found.values),
    })?;
    if !has_metadata {
        return Err("object has no metadata".into());
    }
    Ok(found)
}

/// How many bytes the object (or list) takes that `json` begins with; all of them if it does not end.
pub fn object_length(json: &[u8]) -> usize {
    let mut skim = Skim { bytes: json, at: 0 };
    skim.skip_nested().map_or(json.len(), |()| skim.at)
}

struct Skim<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Skim<'a> {
    fn error(&self, what: &str) -> String {
        format!("{what} at byte {}", self.at)
    }

    fn peek(&mut self) -> Result<u8, String> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(self.error("unexpected end"))
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.peek()? != byte {
            return Err(self.error(&format!("expected {:?}", byte as char)));
        }
        self.at += 1;
        Ok(())
    }

    /// The raw text of a string, without its quotes.
    fn string(&mut self) -> Result<&'a [u8], String> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let step = memchr2(b'"', b'\\', rest).ok_or_else(|| self.error("unterminated string"))?;
            self.at += step + 1;
            if rest[step] == b'"' {
                return Ok(&self.bytes[start..self.at - 1]);
            }
            self.at += 1;
        }
    }

    /// Calls `member` for each key; it must consume the value.
    fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &'a [u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = {
                self.peek()?;
                self.string()?
            };
            self.expect(b':')?;
            member(self, key)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.error("expected ',' or '}'")),
            }
        }
    }

    fn skip(&mut self) -> Result<(), String> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' | b'[' => self.skip_nested(),
            _ => {
                self.scalar()?;
                Ok(())
            }
        }
    }

    fn skip_nested(&mut self) -> Result<(), String> {
        let mut depth = 0usize;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(self.error("unexpected end"))
    }

    fn scalar(&mut self) -> Result<&'a [u8], String> {
        let start = self.at;
        while let Some(byte) = self.bytes.get(self.at) {
            if matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace() {
                break;
            }
            self.at += 1;
        }
        let text = &self.bytes[start..self.at];
        match text.first() {
            Some(b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => Ok(text),
            _ => Err(self.error("expected a value")),
        }
    }

    fn wanted(&mut self, node: Option<&Node>, values: &mut [Cow<'a, str>]) -> Result<(), String> {
        let Some(node) = node else { return self.skip() };
        match self.peek()? {
            b'{' if !node.children.is_empty() => {
                self.object(|skim, key| skim.wanted(node.child(key), values))
            }
            b'"' => {
                let raw = self.string()?;
                put(node, values, unescape(raw));
                Ok(())
            }
            b'{' | b'[' => self.skip(),
            _ => match self.scalar()? {
                b"null" => Ok(()),
                text => {
                    put(node, values, String::from_utf8_lossy(text));
                    Ok(())
                }
            },
        }
    }

    fn metadata(&mut self, found: &mut Found<'a>) -> Result<(), String> {
        if self.peek()? != b'{' {
            return Err(self.error("metadata is no object"));
        }
        found.members_at = self.at + 1;
        let mut ahead = Skim { bytes: self.bytes, at: self.at + 1 };
        found.members_empty = ahead.peek()? == b'}';
        self.object(|skim, key| {
            match key {
                b"name" => found.name = skim.text()?,
                b"namespace" => found.namespace = skim.text()?,
                b"uid" => found.uid = skim.text()?,
                b"labels" => skim.labels(&mut found.labels)?,
                b"resourceVersion" => {
                    let start = skim.at - br#""resourceVersion":"#.len();
                    skim.skip()?;
                    found.version = Some(skim.with_comma(start..skim.at));
                }
                _ => skim.skip()?,
            }
            Ok(())
        })
    }

    /// Widens the span of a member by the comma behind it, or before it.
    fn with_comma(&self, span: Range<usize>) -> Range<usize> {
        let before = |at: usize| self.bytes[..at].iter().rposition(|b| !b.is_ascii_whitespace());
        let behind =
            self.bytes[span.end..].iter().position(|b| !b.is_ascii_whitespace()).map(|n| span.end + n);
        match (behind, before(span.start)) {
            (Some(at), _) if self.bytes[at] == b',' => span.start..at + 1,
            (_, Some(at)) if self.bytes[at] == b',' => at..span.end,
            _ => span,
        }
    }

    fn text(&mut self) -> Result<Cow<'a, str>, String> {
        if self.peek()? == b'"' {
            return Ok(unescape(self.string()?));
        }
        self.skip()?;
        Ok(Cow::Borrowed(""))
    }

    fn labels(&mut self, labels: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Result<(), String> {
        if self.peek()? != b'{' {
            return self.skip();
        }
        self.object(|skim, key| {
            let value = skim.text()?;
            labels.push((unescape(key), value));
            Ok(())
        })
    }
}

fn put<'a>(node: &Node, values: &mut [Cow<'a, str>], text: Cow<'a, str>) {
    if let Some(slot) = node.leaf.and_then(|leaf| values.get_mut(leaf)) {
        *slot = text;
    }
}

fn unescape(raw: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', raw).is_none() {
        return String::from_utf8_lossy(raw);
    }
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    Cow::Owned(serde_json::from_slice(&quoted).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        let mut wanted = Wanted::default();
        wanted.add("spec.nodeName", "");
        wanted.add("status.phase", "");
        wanted.add("spec.unschedulable", "false");
        wanted
    }

    #[test]
    fn finds_header_and_values() {
        let json = br#"{"kind":"Pod","data":{"metadata":"no","x":["}","\""]},"metadata":{"labels":{"a":"b","c\/d":"\u0065"},"name":"n","namespace":"s","uid":"u"},
            "spec":{"containers":[{"nodeName":"no"}],"nodeName":"w1","unschedulable":true},"status":{"phase":null}}"#;
        let found = scan(json, &wanted()).expect("scans");
        assert_eq!((&*found.namespace, &*found.name, &*found.uid), ("s", "n", "u"));
        assert_eq!(found.labels, [("a".into(), "b".into()), ("c/d".into(), "e".into())]);
        assert_eq!(found.values.iter().map(|v| &**v).collect::<Vec<_>>(), ["w1", "", "true"]);
        assert_eq!(json[found.members_at - 1], b'{');
        assert!(!found.members_empty && found.version.is_none());
    }

    #[test]
    fn finds_the_version_with_its_comma() {
        for (json, rest) in [
            (r#"{"metadata":{"resourceVersion":"5","name":"n"}}"#, r#"{"metadata":{"name":"n"}}"#),
            (r#"{"metadata":{"name":"n","resourceVersion":"5"}}"#, r#"{"metadata":{"name":"n"}}"#),
            (r#"{"metadata":{"resourceVersion":"5"}}"#, r#"{"metadata":{}}"#),
        ] {
            let span = scan(json.as_bytes(), &wanted()).expect("scans").version.expect("version");
            assert_eq!(format!("{}{}", &json[..span.start], &json[span.end..]), rest);
        }
    }

    #[test]
    fn refuses_what_is_no_object() {
        for bad in [
            "",
            "[]",
            "{",
            r#"{"metadata":5}"#,
            r#"{"a":"b"}"#,
            r#"{"metadata":{"name":"x}"#,
            r#"{"metadata":{}"#,
            "nonsense",
        ] {
            assert!(scan(bad.as_bytes(), &wanted()).is_err(), "{bad}");
        }
    }
}
