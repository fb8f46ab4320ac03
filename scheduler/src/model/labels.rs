//! Label selectors in a form that is quick to match and can be compared, so that equal selectors share one count.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use ahash::AHashSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use parking_lot::Mutex;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Labels in use, so that pods of one workload have them once.
static SHARED: LazyLock<Mutex<AHashSet<Arc<Labels>>>> = LazyLock::new(Default::default);
/// Beyond so many, and twice as many as last time, those nobody uses are dropped.
const ROOM: usize = 1024;

/// The same labels as others have, if any others have them.
pub fn share(labels: Labels) -> Arc<Labels> {
    let mut shared = SHARED.lock();
    if let Some(same) = shared.get(&labels) {
        return same.clone();
    }
    if shared.len() >= ROOM && shared.len() == shared.capacity() {
        shared.retain(|l| Arc::strong_count(l) > 1);
    }
    let labels = Arc::new(labels);
    shared.insert(labels.clone());
    labels
}

/// How a label is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    /// Never holds: an operator nobody knows.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let listed = || value.is_some_and(|v| self.values.iter().any(|x| x == v));
        match self.operator {
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Unknown => false,
        }
    }
}

/// Requirements that must all hold; an absent selector matches nothing, an empty one everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Reads the API's selector.
    pub fn of(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self { nothing: true, ..Self::default() } };
        let mut all = Self::default();
        for (key, value) in selector.match_labels.iter().flatten() {
            all.require(key, value);
        }
        for e in selector.match_expressions.iter().flatten() {
            let operator = match e.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => Operator::Unknown,
            };
            all.insert(Requirement {
                key: e.key.clone(),
                operator,
                values: e.values.clone().unwrap_or_default(),
            });
        }
        all
    }

    /// Matches what has all of these labels.
    pub fn exactly(labels: &Labels) -> Self {
        let mut all = Self::default();
        labels.iter().for_each(|(k, v)| all.require(k, v));
        all
    }

    /// Asks for a label in addition.
    pub fn require(&mut self, key: &str, value: &str) {
        self.insert(Requirement { key: key.into(), operator: Operator::In, values: vec![value.into()] });
    }

    /// Asks for anything but this value of a label in addition.
    pub fn exclude(&mut self, key: &str, value: &str) {
        self.insert(Requirement { key: key.into(), operator: Operator::NotIn, values: vec![value.into()] });
    }

    /// Asks for all that `other` asks for in addition.
    pub fn merge(&mut self, other: &Self) {
        self.nothing |= other.nothing;
        other.requirements.iter().for_each(|r| self.insert(r.clone()));
    }

    fn insert(&mut self, mut requirement: Requirement) {
        requirement.values.sort();
        if let Err(place) = self.requirements.binary_search(&requirement) {
            self.requirements.insert(place, requirement);
        }
    }

    /// Whether an object with these labels is meant.
    pub fn matches(&self, labels: &Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.holds(labels))
    }

    /// Whether it asks for nothing, so that everything matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selector(value: serde_json::Value) -> Selector {
        Selector::of(serde_json::from_value::<Option<LabelSelector>>(value).unwrap().as_ref())
    }

    #[test]
    fn what_matches() {
        let labels = Labels::from([("app".into(), "web".into()), ("tier".into(), "front".into())]);
        let e = |key: &str, op: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": op, "values": values}]});
        for (value, want) in [
            (json!(null), false),
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (e("tier", "In", &["front", "back"]), true),
            (e("tier", "NotIn", &["front"]), false),
            (e("none", "NotIn", &["front"]), true),
            (e("none", "Exists", &[]), false),
            (e("none", "DoesNotExist", &[]), true),
            (e("app", "Odd", &[]), false),
        ] {
            assert_eq!(selector(value.clone()).matches(&labels), want, "{value}");
        }
    }

    #[test]
    fn equal_selectors_are_equal_in_any_order() {
        let a = selector(json!({"matchLabels": {"a": "1", "b": "2"}}));
        let mut b = selector(json!({"matchExpressions": [{"key": "b", "operator": "In", "values": ["2"]}]}));
        b.require("a", "1");
        b.require("a", "1");
        assert_eq!(a, b);
    }
}
