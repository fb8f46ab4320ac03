//! An object taken apart only as far as it is touched: the rest stays text. A tenth of the work of a whole parse, where a
//! write changes two members of a large object.

use std::borrow::Cow;
use std::collections::BTreeMap;

use machinery::status::Status;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The members of a JSON object by name, each as the text it was written in.
#[derive(Default, Serialize)]
#[serde(transparent)]
pub struct Members<'a>(BTreeMap<String, Cow<'a, RawValue>>);

impl<'a> Members<'a> {
    /// Takes an object apart. InternalError if it is none, for what is stored should be.
    pub fn of(json: &'a [u8]) -> Result<Self, Status> {
        let members: BTreeMap<String, &RawValue> = serde_json::from_slice(json).map_err(Status::internal)?;
        Ok(Self(members.into_iter().map(|(name, text)| (name, Cow::Borrowed(text))).collect()))
    }

    /// Takes out a member and takes it apart; without members if it is missing or null.
    pub fn open(&mut self, name: &str) -> Result<Self, Status> {
        match self.0.remove(name) {
            Some(Cow::Borrowed(text)) if text.get() != "null" => Self::of(text.get().as_bytes()),
            _ => Ok(Self::default()),
        }
    }

    /// A member's value; Null if it is missing.
    pub fn value(&self, name: &str) -> Value {
        self.0.get(name).and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default()
    }

    /// A member's text; empty if it is missing or no string.
    pub fn text(&self, name: &str) -> String {
        self.0.get(name).and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default()
    }

    /// Whether there is such a member, other than null.
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|text| text.get() != "null")
    }

    /// Puts a member in, or in place of the one of that name.
    pub fn set(&mut self, name: &str, value: &impl Serialize) -> Result<(), Status> {
        let text = serde_json::value::to_raw_value(value).map_err(Status::internal)?;
        self.0.insert(name.to_owned(), Cow::Owned(text));
        Ok(())
    }

    /// Takes a member out.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_stays_as_it_is() {
        let json =
            br#"{"metadata":{"name":"a\u00e4","labels":{"k":"v"}},"spec":{"n":1.50,"x":null},"z":[1, 2]}"#;
        let mut whole = Members::of(json).expect("an object");
        let mut spec = whole.open("spec").expect("an object");
        assert_eq!((spec.has("n"), spec.has("x"), spec.has("y")), (true, false, false));
        spec.set("nodeName", &"worker").expect("sets");
        spec.remove("x");
        let metadata = whole.open("metadata").expect("an object");
        assert_eq!((metadata.text("name"), metadata.text("labels")), ("aä".to_owned(), String::new()));
        assert_eq!(metadata.value("labels")["k"], "v");
        whole.set("spec", &spec).expect("sets");
        whole.set("metadata", &metadata).expect("sets");
        let text = serde_json::to_string(&whole).expect("text");
        assert_eq!(
            text,
            r#"{"metadata":{"labels":{"k":"v"},"name":"a\u00e4"},"spec":{"n":1.50,"nodeName":"worker"},"z":[1, 2]}"#
        );
        assert!(Members::of(b"[]").is_err() && Members::of(b"{").is_err());
        assert!(!whole.open("none").expect("nothing").has("any"));
    }
}
