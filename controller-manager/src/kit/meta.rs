//! Small questions about objects that several rooms ask.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;

/// Labels as objects carry them.
pub type Labels = BTreeMap<String, String>;

/// An object's UID, empty if it has none.
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// An object's name, empty if it has none.
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// An object's namespace, empty for cluster-scoped ones.
pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// The value of a label.
pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// The value of an annotation.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether a finalizer is set.
pub fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == finalizer)
}

/// Creation time; objects without one count as made at the epoch.
pub fn created(meta: &ObjectMeta) -> Timestamp {
    meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0)
}

/// The owner that controls the object.
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|r| r.controller == Some(true))
}

/// Whether the controlling owner is this object.
pub fn controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller(meta).is_some_and(|c| Some(&c.uid) == owner.uid.as_ref())
}

/// A reference that makes `owner` the controller.
pub fn controller_ref<T: Resource<DynamicType = ()>>(owner: &T) -> OwnerReference {
    let meta = owner.meta();
    OwnerReference {
        api_version: T::api_version(&()).into_owned(),
        kind: T::kind(&()).into_owned(),
        name: name(meta).into(),
        uid: uid(meta).into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether labels satisfy a selector. An empty selector takes everything, an ill-formed one nothing.
pub fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let get = |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
    let exact = selector.match_labels.iter().flatten().all(|(k, v)| get(k) == Some(v));
    exact
        && selector.match_expressions.iter().flatten().all(|e| {
            let values = e.values.as_deref().unwrap_or_default();
            let listed = |v: &str| values.iter().any(|x| x == v);
            match (e.operator.as_str(), get(&e.key)) {
                ("In", Some(v)) => listed(v),
                ("NotIn", value) => !value.is_some_and(listed),
                ("Exists", value) => value.is_some(),
                ("DoesNotExist", value) => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a selector says nothing and so would select everything.
pub fn is_empty_selector(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(|l| l.is_empty())
        && selector.match_expressions.as_ref().is_none_or(|e| e.is_empty())
}

/// A plain map of labels as a selector (Services, ReplicationControllers).
pub fn selects_map(selector: &Labels, labels: Option<&Labels>) -> bool {
    selector.iter().all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
}

/// A number or a share of `total`; shares are rounded up or down. `None` if it is neither.
pub fn scaled(value: &IntOrString, total: i32, up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(text) => {
            let share = i64::from(text.strip_suffix('%')?.parse::<i32>().ok()?) * i64::from(total);
            let whole = if up { (share + 99).div_euclid(100) } else { share.div_euclid(100) };
            i32::try_from(whole).ok()
        }
    }
}

/// Whole and fractional seconds from `now` until `at`; zero if it has passed.
pub fn until(at: Timestamp, now: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// FNV-1a, 32 bits.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u32 {
    bytes.into_iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// FNV-1, 32 bits.
pub fn fnv1(bytes: impl IntoIterator<Item = u8>) -> u32 {
    bytes.into_iter().fold(0x811c_9dc5_u32, |hash, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte))
}

const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A number as text that cannot spell words: each byte of its decimal form picks a letter (upstream's rule).
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|b| char::from(SAFE[usize::from(b) % SAFE.len()])).collect()
}

/// A prefix of `text` of at most `limit` bytes that ends on a character.
pub fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    #[test]
    fn shares_are_rounded_as_asked() {
        let pct = |t: &str| IntOrString::String(t.into());
        assert_eq!(scaled(&pct("25%"), 10, true), Some(3));
        assert_eq!(scaled(&pct("25%"), 10, false), Some(2));
        assert_eq!(scaled(&pct("100%"), 7, false), Some(7));
        assert_eq!(scaled(&IntOrString::Int(4), 10, true), Some(4));
        assert_eq!(scaled(&pct("x"), 10, true), None);
    }

    #[test]
    fn selectors() {
        let labels: Labels = [("a".to_string(), "1".to_string())].into();
        let with = |operator: &str, key: &str, values: &[&str]| LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| v.to_string()).collect()),
            }]),
            match_labels: None,
        };
        assert!(selects(&with("In", "a", &["1", "2"]), Some(&labels)));
        assert!(!selects(&with("In", "b", &["1"]), Some(&labels)));
        assert!(selects(&with("NotIn", "b", &["1"]), Some(&labels)));
        assert!(selects(&with("DoesNotExist", "b", &[]), None));
        assert!(!selects(&with("Near", "a", &[]), Some(&labels)));
        assert!(selects(&LabelSelector::default(), None));
    }

    #[test]
    fn hashes_are_safe_and_stable() {
        assert_eq!(fnv1a(*b"a"), 0xe40c_292c);
        assert_eq!(fnv1(*b"a"), 0x050c_5d7e);
        assert_eq!(safe_encode("4294967295").len(), 10);
        assert!(safe_encode("0123456789").bytes().all(|b| SAFE.contains(&b)));
    }
}
