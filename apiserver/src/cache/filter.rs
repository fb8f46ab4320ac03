//! Which entries a list or watch is about.

use machinery::kinds::Resource;
use machinery::selector::{FieldSelector, LabelSelector, Labels};
use machinery::status::Status;

use super::collection::Collection;
use super::entry::Entry;

/// Namespace, labels and fields, compiled against a collection's header values.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this namespace; all when empty.
    pub namespace: String,
    /// Label requirements.
    pub labels: LabelSelector,
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    source: Source,
    value: Box<str>,
    negated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    Name,
    Namespace,
    Value(usize),
    Nothing,
}

impl Labels for Entry {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.label(key)
    }
}

impl Filter {
    /// Compiles selectors; BadRequest names a field label that the resource does not take.
    pub fn new(
        resource: &Resource,
        collection: &Collection,
        namespace: &str,
        labels: LabelSelector,
        fields: &FieldSelector,
    ) -> Result<Self, Status> {
        let terms = (fields.terms.iter())
            .map(|term| {
                let source = source_of(resource, collection, &term.field)?;
                Ok(Term { source, value: term.value.as_str().into(), negated: term.negated })
            })
            .collect::<Result<_, Status>>()?;
        Ok(Self { namespace: namespace.to_owned(), labels, terms })
    }

    /// Everything in a namespace, or everywhere when it is empty.
    pub fn namespace(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..Self::default() }
    }

    /// Whether everything (of the namespace) matches.
    pub fn is_plain(&self) -> bool {
        self.labels.is_empty() && self.terms.is_empty()
    }

    /// Whether an entry matches.
    pub fn matches(&self, entry: &Entry) -> bool {
        (self.namespace.is_empty() || entry.namespace() == self.namespace)
            && self.terms.iter().all(|term| term.matches(entry))
            && (self.labels.is_empty() || self.labels.matches(entry))
    }

    /// The one name that can match, if there is only one.
    pub fn name(&self) -> Option<&str> {
        self.exact(Source::Name)
    }

    /// The value that `values[index]` must have, if the filter fixes it.
    pub fn value(&self, index: usize) -> Option<&str> {
        self.exact(Source::Value(index))
    }

    fn exact(&self, source: Source) -> Option<&str> {
        self.terms.iter().find(|t| t.source == source && !t.negated).map(|t| &*t.value)
    }
}

impl Term {
    fn matches(&self, entry: &Entry) -> bool {
        let actual = match self.source {
            Source::Name => entry.name(),
            Source::Namespace => entry.namespace(),
            Source::Value(index) => entry.value(index).unwrap_or_default(),
            Source::Nothing => "",
        };
        (actual == &*self.value) != self.negated
    }
}

fn source_of(resource: &Resource, collection: &Collection, label: &str) -> Result<Source, Status> {
    let unknown = || Status::bad_request(format!("field label not supported: {label}"));
    let field = resource.field_labels.iter().find(|f| f.label == label).ok_or_else(unknown)?;
    Ok(match field.path.as_str() {
        "metadata.name" => Source::Name,
        "metadata.namespace" => Source::Namespace,
        _ if !field.present => Source::Nothing,
        path => collection.value_index(path).map_or(Source::Nothing, Source::Value),
    })
}
