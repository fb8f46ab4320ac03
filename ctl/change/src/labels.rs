//! The grammar of `label` and `annotate`: which arguments are resources and which are changes.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

/// Changes of labels or annotations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Keys to set, in the order given.
    pub set: Vec<(String, String)>,
    /// Keys to remove.
    pub remove: Vec<String>,
}

/// Splits arguments: resources first, then `key=value` and `key-`.
///
/// # Errors
/// A resource after a change; `what` is the word for changes in the message.
pub fn split(args: &[String], what: &str) -> Result<(Vec<String>, Vec<String>)> {
    let is_change = |arg: &String| (arg.contains('=') && !arg.starts_with('=')) || arg.ends_with('-');
    let at = args.iter().position(is_change).unwrap_or(args.len());
    let (resources, changes) = args.split_at(at);
    if let Some(stray) = changes.iter().find(|arg| !is_change(arg)) {
        bail!("all resources must be specified before {what} changes: {stray}");
    }
    Ok((resources.to_vec(), changes.to_vec()))
}

/// Reads the changes of `label`.
pub fn parse_labels(specs: &[String]) -> Result<Changes> {
    let mut out = Changes::default();
    for spec in specs {
        if spec.contains('=') {
            let parts: Vec<&str> = spec.split('=').collect();
            let [key, value] = parts.as_slice() else { bail!("invalid label spec: {spec}") };
            let errors = machinery::names::is_label_value(value);
            if !errors.is_empty() {
                bail!("invalid label value: {spec:?}: {}", errors.join(";"));
            }
            put(&mut out.set, key, value);
        } else if let Some(key) = spec.strip_suffix('-') {
            out.remove.push(key.into());
        } else {
            bail!("unknown label spec: {spec}");
        }
    }
    if out.remove.iter().any(|gone| out.set.iter().any(|(key, _)| key == gone)) {
        bail!("can not both modify and remove a label in the same command");
    }
    Ok(out)
}

/// Reads the changes of `annotate`; values may hold `=`.
pub fn parse_annotations(specs: &[String]) -> Result<Changes> {
    let mut out = Changes::default();
    for spec in specs {
        if let Some((key, value)) = spec.split_once('=').filter(|(key, _)| !key.is_empty()) {
            put(&mut out.set, key, value);
        } else if let Some(key) = spec.strip_suffix('-') {
            out.remove.push(key.into());
        } else {
            bail!("invalid annotation format: {spec}");
        }
    }
    let both: Vec<&str> = out
        .remove
        .iter()
        .filter(|gone| out.set.iter().any(|(k, _)| k == *gone))
        .map(String::as_str)
        .collect();
    if !both.is_empty() {
        bail!(
            "can not both modify and remove the following annotation(s) in the same command: {}",
            both.join(", ")
        );
    }
    Ok(out)
}

fn put(set: &mut Vec<(String, String)>, key: &str, value: &str) {
    match set.iter_mut().find(|(known, _)| known == key) {
        Some((_, old)) => *old = value.into(),
        None => set.push((key.into(), value.into())),
    }
}

impl Changes {
    /// True when nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Keys that have another value already, with that value.
    pub fn overwritten(&self, current: &Map<String, Value>) -> Vec<(String, String)> {
        let had = |key: &String| current.get(key.as_str()).and_then(Value::as_str);
        let differs = |(key, value): &(String, String)| match had(key) {
            Some(had) if had != value => Some((key.clone(), had.to_string())),
            _ => None,
        };
        self.set.iter().filter_map(differs).collect()
    }

    /// The map after the changes.
    pub fn apply(&self, current: &Map<String, Value>) -> Map<String, Value> {
        let mut out = current.clone();
        out.extend(self.set.iter().map(|(key, value)| (key.clone(), json!(value))));
        out.retain(|key, _| !self.remove.contains(key));
        out
    }
}

/// Merge patch of one map of the metadata that turns `before` into `after`; `{}` when they are the same.
pub fn map_patch(field: &str, before: &Map<String, Value>, after: &Map<String, Value>) -> Value {
    let mut patch: Map<String, Value> = after
        .iter()
        .filter(|(k, v)| before.get(*k) != Some(v))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    patch.extend(before.keys().filter(|k| !after.contains_key(*k)).map(|k| (k.clone(), Value::Null)));
    match (patch.is_empty(), after.is_empty() && !before.is_empty()) {
        (true, _) => json!({}),
        // The last one goes with the map itself.
        (_, true) => json!({"metadata": {field: null}}),
        _ => json!({"metadata": {field: patch}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|s| (*s).to_string()).collect()
    }

    #[test]
    fn grammar() {
        let (resources, changes) = split(&list(&["pod", "x", "a=b", "c-"]), "label").expect("splits");
        assert_eq!((resources.len(), changes.len()), (2, 2));
        assert!(split(&list(&["pod", "a=b", "x"]), "label").is_err());
        for bad in [&["a=b=c"][..], &["a=b c"], &["a=b", "a-"]] {
            assert!(parse_labels(&list(bad)).is_err(), "{bad:?}");
        }
        assert_eq!(parse_annotations(&list(&["a=b=c"])).expect("parses").set, [("a".into(), "b=c".into())]);
        assert!(parse_annotations(&list(&["a=b", "a-"])).is_err());
    }

    #[test]
    fn changes() {
        let current = json!({"a": "1", "b": "2"}).as_object().cloned().unwrap_or_default();
        let changes = parse_labels(&list(&["a=9", "b-", "c=3"])).expect("parses");
        assert_eq!(changes.overwritten(&current), [("a".to_string(), "1".to_string())]);
        let after = changes.apply(&current);
        assert_eq!(Value::Object(after.clone()), json!({"a": "9", "c": "3"}));
        assert_eq!(
            map_patch("labels", &current, &after),
            json!({"metadata": {"labels": {"a": "9", "b": null, "c": "3"}}})
        );
        assert_eq!(map_patch("labels", &after, &after), json!({}));
    }
}
