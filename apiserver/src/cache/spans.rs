//! Where in an object's bytes stands what it is found by. Of a hundred thousand objects each text of its own would cost more
//! than the objects.

use super::scan::Found;

/// Texts that stand for missing values.
const DEFAULTS: [&str; 2] = ["false", "0"];
/// Places from here on are those of `DEFAULTS`.
const DEFAULTS_AT: u32 = u32::MAX - DEFAULTS.len() as u32;

/// A text: its place in the object, behind its end in what is kept apart, or among the defaults.
#[derive(Clone, Copy, Default)]
struct Span {
    at: u32,
    len: u32,
}

/// The uid, labels and selectable values of an object.
#[derive(Clone)]
pub struct Spans {
    /// The uid, keys and values of labels in turn, the selectable values.
    all: Box<[Span]>,
    labels: u32,
    /// Length of the object, where places in `apart` begin.
    end: u32,
    /// Texts that are not in the object as such, because something in them is escaped.
    apart: Option<Box<str>>,
}

impl Spans {
    /// Finds the places of what a skim of `stored` found, in the object that is `grown` bytes longer behind the brace of its
    /// metadata.
    pub fn new(stored: &[u8], found: &Found<'_>, grown: usize) -> Self {
        let mut making = Making { stored, from: found.members_at, grown, apart: String::new() };
        let mut all = Vec::with_capacity(1 + 2 * found.labels.len() + found.values.len());
        all.push(making.span(&found.uid));
        for (key, value) in &found.labels {
            all.extend([making.span(key), making.span(value)]);
        }
        all.extend(found.values.iter().map(|value| making.span(value)));
        Self {
            all: all.into(),
            labels: found.labels.len() as u32,
            end: making.end(),
            apart: (!making.apart.is_empty()).then(|| making.apart.into()),
        }
    }

    /// The same for an object in which `old` bytes at `at` have become `new` ones.
    pub fn moved(&self, at: u32, old: usize, new: usize) -> Self {
        let shift = |place: u32| match place {
            before if before < at => before,
            fixed if fixed >= DEFAULTS_AT => fixed,
            behind => behind - old as u32 + new as u32,
        };
        let all = self.all.iter().map(|s| Span { at: shift(s.at), len: s.len }).collect();
        Self { all, labels: self.labels, end: shift(self.end), apart: self.apart.clone() }
    }

    /// The uid.
    pub fn uid<'a>(&'a self, object: &'a [u8]) -> &'a str {
        self.all.first().map_or("", |span| self.text(object, *span))
    }

    /// All labels.
    pub fn labels<'a>(&'a self, object: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.label_spans().map(|(key, value)| (self.text(object, key), self.text(object, value)))
    }

    /// One label.
    pub fn label<'a>(&'a self, object: &'a [u8], key: &str) -> Option<&'a str> {
        let found = self.label_spans().find(|(k, _)| self.bytes(object, *k) == key.as_bytes());
        found.map(|(_, value)| self.text(object, value))
    }

    /// A selectable value.
    pub fn value<'a>(&'a self, object: &'a [u8], index: usize) -> Option<&'a str> {
        self.all.get(1 + 2 * self.labels as usize + index).map(|span| self.text(object, *span))
    }

    fn label_spans(&self) -> impl Iterator<Item = (Span, Span)> {
        let pairs = self.all.get(1..1 + 2 * self.labels as usize).unwrap_or_default();
        pairs.chunks_exact(2).map(|pair| (pair[0], pair[1]))
    }

    fn text<'a>(&'a self, object: &'a [u8], span: Span) -> &'a str {
        std::str::from_utf8(self.bytes(object, span)).unwrap_or_default()
    }

    fn bytes<'a>(&'a self, object: &'a [u8], span: Span) -> &'a [u8] {
        if span.at >= DEFAULTS_AT {
            return DEFAULTS.get((span.at - DEFAULTS_AT) as usize).map_or(&[], |text| text.as_bytes());
        }
        let (bytes, at) = match span.at.checked_sub(self.end) {
            Some(at) => (self.apart.as_deref().unwrap_or_default().as_bytes(), at),
            None => (object, span.at),
        };
        bytes.get(at as usize..(at + span.len) as usize).unwrap_or_default()
    }
}

struct Making<'a> {
    stored: &'a [u8],
    from: usize,
    grown: usize,
    apart: String,
}

impl Making<'_> {
    fn end(&self) -> u32 {
        (self.stored.len() + self.grown) as u32
    }

    fn span(&mut self, text: &str) -> Span {
        let len = text.len() as u32;
        if len == 0 {
            return Span::default();
        }
        if let Some(at) = DEFAULTS.iter().position(|d| *d == text) {
            return Span { at: DEFAULTS_AT + at as u32, len };
        }
        // What had to be unescaped lies elsewhere.
        let inside = (text.as_ptr() as usize).checked_sub(self.stored.as_ptr() as usize);
        if let Some(at) = inside.filter(|at| at + text.len() <= self.stored.len()) {
            let at = if at < self.from { at } else { at + self.grown };
            return Span { at: at as u32, len };
        }
        let at = self.end() + self.apart.len() as u32;
        self.apart.push_str(text);
        Span { at, len }
    }
}
