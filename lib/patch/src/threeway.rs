//! Patches made from three states of an object: what was applied last, what is wanted now, and what the server has.
//!
//! Additions and changes come from comparing the live object with the wanted one; deletions from comparing what was
//! applied last with what is wanted. Fields that others own are thereby left alone. [`strategic`] walks the type
//! table and speaks the directives of [`crate::strategic`]; [`merge`] is its plain sister for custom kinds.

use crate::PatchError;
use crate::strategic::{DELETE_PRIMITIVES, DIRECTIVE, ELEMENT_ORDER, RETAIN_KEYS, Shape};
use machinery::schema::{Card, Field, FieldKind, Type};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// Three states of one object.
#[derive(Clone, Copy, Debug)]
pub struct States<'a> {
    /// What was applied last; an empty object when nothing is known of it.
    pub original: &'a Value,
    /// What is wanted.
    pub modified: &'a Value,
    /// What the server has.
    pub current: &'a Value,
}

/// Which half of the differences a comparison looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Changes,
    Deletions,
    Both,
}

impl Look {
    fn changes(self) -> bool {
        self != Self::Deletions
    }
    fn deletions(self) -> bool {
        self != Self::Changes
    }
}

/// Three-way strategic merge patch; `{}` when nothing is to be done.
///
/// # Errors
/// Lists of mixed items, items without their merge key, states that are not objects.
pub fn strategic(states: States<'_>, ty: &'static Type) -> Result<Value, PatchError> {
    let shape = Shape::of(ty);
    let (original, modified, current) = objects(states)?;
    let changes = diff_maps(current, modified, shape, false, Look::Changes)?;
    let deletions = diff_maps(original, modified, shape, false, Look::Deletions)?;
    Ok(Value::Object(join(deletions, changes, shape)))
}

/// Two-way strategic merge patch that turns `from` into `to`; used for edits, where there is no third state.
///
/// # Errors
/// As [`strategic`].
pub fn strategic_between(from: &Value, to: &Value, ty: &'static Type) -> Result<Value, PatchError> {
    diff_maps(object(from)?, object(to)?, Shape::of(ty), false, Look::Both).map(Value::Object)
}

/// Three-way JSON merge patch; `{}` when nothing is to be done.
///
/// # Errors
/// States that are not objects.
pub fn merge(states: States<'_>) -> Result<Value, PatchError> {
    let (original, modified, current) = objects(states)?;
    let changes = without_nulls(&merge_diff(current, modified));
    let mut patch = Value::Object(only_nulls(&merge_diff(original, modified)));
    overlay(&mut patch, Value::Object(changes));
    Ok(patch)
}

/// JSON merge patch that turns `from` into `to`.
///
/// # Errors
/// States that are not objects.
pub fn merge_between(from: &Value, to: &Value) -> Result<Value, PatchError> {
    Ok(Value::Object(merge_diff(object(from)?, object(to)?)))
}

fn object(value: &Value) -> Result<&Object, PatchError> {
    value.as_object().ok_or_else(|| PatchError::Malformed("a patch needs objects to compare".into()))
}

fn objects<'a>(states: States<'a>) -> Result<(&'a Object, &'a Object, &'a Object), PatchError> {
    Ok((object(states.original)?, object(states.modified)?, object(states.current)?))
}

fn diff_maps(
    from: &Object,
    to: &Object,
    shape: Shape,
    retain: bool,
    look: Look,
) -> Result<Object, PatchError> {
    let mut patch = Object::new();
    for (name, wanted) in to {
        match from.get(name) {
            None if look.changes() => drop(patch.insert(name.clone(), wanted.clone())),
            None => {}
            Some(had) => diff_member(&mut patch, name, (had, wanted), shape, look)?,
        }
    }
    let gone: Vec<&String> = from.keys().filter(|name| !to.contains_key(*name)).collect();
    if look.deletions() {
        patch.extend(gone.iter().map(|name| ((*name).clone(), Value::Null)));
    }
    if retain && (!patch.is_empty() || !gone.is_empty()) {
        let keys: Vec<&String> = to.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| k).collect();
        if !keys.is_empty() {
            patch.insert(RETAIN_KEYS.into(), json!(keys));
        }
    }
    Ok(patch)
}

fn diff_member(
    patch: &mut Object,
    name: &str,
    (had, wanted): (&Value, &Value),
    shape: Shape,
    look: Look,
) -> Result<(), PatchError> {
    let field = shape.field(name);
    match (had, wanted) {
        (Value::Object(from), Value::Object(to)) => {
            let retain = field.is_some_and(Field::retains_keys);
            let inner = diff_maps(from, to, shape.member(name), retain, look)?;
            if !inner.is_empty() {
                patch.insert(name.into(), Value::Object(inner));
            }
        }
        (Value::Array(from), Value::Array(to)) if field.is_some_and(Field::merges) => {
            let difference = diff_lists(from, to, field, look)?;
            difference.write(patch, name);
        }
        _ if had != wanted && look.changes() => drop(patch.insert(name.into(), wanted.clone())),
        _ => {}
    }
    Ok(())
}

/// What a comparison of two merged lists says.
#[derive(Default)]
struct ListDiff {
    items: Vec<Value>,
    deleted_primitives: Vec<Value>,
    order: Vec<Value>,
}

impl ListDiff {
    fn write(self, patch: &mut Object, name: &str) {
        let parts = [
            (name.to_string(), self.items),
            (format!("{DELETE_PRIMITIVES}{name}"), self.deleted_primitives),
            (format!("{ELEMENT_ORDER}{name}"), self.order),
        ];
        let filled = parts.into_iter().filter(|(_, list)| !list.is_empty());
        patch.extend(filled.map(|(name, list)| (name, Value::Array(list))));
    }
}

fn diff_lists(
    from: &[Value],
    to: &[Value],
    field: Option<&'static Field>,
    look: Look,
) -> Result<ListDiff, PatchError> {
    if from.is_empty() {
        let items = if look.changes() { to.to_vec() } else { Vec::new() };
        return Ok(ListDiff { items, ..ListDiff::default() });
    }
    match field.map(|f| (f.kind, f.patch_key, f.ty())) {
        Some((FieldKind::Message, Some(key), ty)) => {
            diff_keyed(from, to, key, ty.map_or(Shape::Unknown, Shape::of), look)
        }
        _ => Ok(diff_primitives(from, to, look)),
    }
}

fn diff_keyed(
    from: &[Value],
    to: &[Value],
    key: &str,
    shape: Shape,
    look: Look,
) -> Result<ListDiff, PatchError> {
    check_keys(from, key)?;
    check_keys(to, key)?;
    let mut items = Vec::new();
    for wanted in to {
        match find(from, key, wanted) {
            None if look.changes() => items.push(wanted.clone()),
            None => {}
            Some(had) => items.extend(diff_item(had, wanted, key, shape, look)?),
        }
    }
    if look.deletions() {
        let gone = from.iter().filter(|had| find(to, key, had).is_none());
        items.extend(gone.map(|had| json!({key: had.get(key), DIRECTIVE: "delete"})));
    }
    let moved = from.len() != to.len() || from.iter().zip(to).any(|(a, b)| a.get(key) != b.get(key));
    let ordered = !items.is_empty() || (look.changes() && moved);
    let order = if ordered { to.iter().map(|v| json!({key: v.get(key)})).collect() } else { Vec::new() };
    Ok(ListDiff { items, order, ..ListDiff::default() })
}

fn diff_item(
    had: &Value,
    wanted: &Value,
    key: &str,
    shape: Shape,
    look: Look,
) -> Result<Option<Value>, PatchError> {
    let mut inner = diff_maps(object(had)?, object(wanted)?, shape, false, look)?;
    if inner.is_empty() {
        return Ok(None);
    }
    inner.insert(key.into(), wanted.get(key).cloned().unwrap_or_default());
    Ok(Some(Value::Object(inner)))
}

fn check_keys(list: &[Value], key: &str) -> Result<(), PatchError> {
    match list.iter().find(|item| item.get(key).is_none()) {
        None => Ok(()),
        Some(item) => {
            Err(PatchError::Strategic(format!("map: {item} does not contain declared merge key: {key}")))
        }
    }
}

fn find<'a>(list: &'a [Value], key: &str, like: &Value) -> Option<&'a Value> {
    list.iter().find(|item| item.get(key) == like.get(key))
}

fn diff_primitives(from: &[Value], to: &[Value], look: Look) -> ListDiff {
    let added = to.iter().filter(|v| !from.contains(v) && look.changes());
    let mut gone: Vec<Value> = Vec::new();
    for had in from.iter().filter(|v| !to.contains(v) && look.deletions()) {
        if !gone.contains(had) {
            gone.push(had.clone());
        }
    }
    let ordered = !gone.is_empty() || (look.changes() && from != to);
    ListDiff {
        items: added.cloned().collect(),
        deleted_primitives: gone,
        order: if ordered { to.to_vec() } else { Vec::new() },
    }
}

/// Lays the changes over the deletions. Both are patches towards the same wanted object, so that they never
/// contradict each other.
fn join(mut deletions: Object, changes: Object, shape: Shape) -> Object {
    for (name, change) in changes {
        let joined = match (deletions.remove(&name), change) {
            (Some(Value::Object(a)), Value::Object(b)) => Value::Object(join(a, b, shape.member(&name))),
            (Some(Value::Array(a)), Value::Array(b)) => join_lists(a, b, shape.field(&name), &name),
            (_, change) => change,
        };
        deletions.insert(name, joined);
    }
    deletions
}

fn join_lists(
    deletions: Vec<Value>,
    changes: Vec<Value>,
    field: Option<&'static Field>,
    name: &str,
) -> Value {
    let keyed = field.filter(|f| f.merges() && f.card == Card::List);
    let (Some(key), false) = (keyed.and_then(|f| f.patch_key), name.starts_with('$')) else {
        return Value::Array(changes);
    };
    let shape = keyed.and_then(Field::ty).map_or(Shape::Unknown, Shape::of);
    let (mut out, mut rest) = (Vec::new(), deletions);
    for change in changes {
        let same = rest.iter().position(|item| item.get(key) == change.get(key));
        match (same.map(|at| rest.remove(at)), change) {
            (Some(Value::Object(a)), Value::Object(b)) => out.push(Value::Object(join(a, b, shape))),
            (_, change) => out.push(change),
        }
    }
    out.extend(rest);
    Value::Array(out)
}

fn merge_diff(from: &Object, to: &Object) -> Object {
    let mut patch = Object::new();
    for (name, wanted) in to {
        match (from.get(name), wanted) {
            (Some(Value::Object(a)), Value::Object(b)) => {
                let inner = merge_diff(a, b);
                if !inner.is_empty() {
                    patch.insert(name.clone(), Value::Object(inner));
                }
            }
            (had, _) if had == Some(wanted) => {}
            _ => drop(patch.insert(name.clone(), wanted.clone())),
        }
    }
    let gone = from.keys().filter(|name| !to.contains_key(*name));
    patch.extend(gone.map(|name| (name.clone(), Value::Null)));
    patch
}

/// The additions and changes of a merge patch. Empty maps that are wanted are values, not empty patches.
fn without_nulls(patch: &Object) -> Object {
    let kept = patch.iter().filter_map(|(name, value)| match value {
        Value::Null => None,
        Value::Object(inner) if !inner.is_empty() => {
            let inner = without_nulls(inner);
            (!inner.is_empty()).then(|| (name.clone(), Value::Object(inner)))
        }
        other => Some((name.clone(), other.clone())),
    });
    kept.collect()
}

/// The deletions of a merge patch.
fn only_nulls(patch: &Object) -> Object {
    let kept = patch.iter().filter_map(|(name, value)| match value {
        Value::Null => Some((name.clone(), Value::Null)),
        Value::Object(inner) => {
            let inner = only_nulls(inner);
            (!inner.is_empty()).then(|| (name.clone(), Value::Object(inner)))
        }
        _ => None,
    });
    kept.collect()
}

/// Merges one merge patch into another, nulls kept.
fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                overlay(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machinery::schema::type_named;

    fn three(kind: &str, original: Value, modified: Value, current: Value) -> Value {
        let ty = type_named(&format!("io.k8s.api.{kind}")).expect(kind);
        let states = States { original: &original, modified: &modified, current: &current };
        let patch = strategic(states, ty).expect("a patch");
        // Whatever the patch says, applying it must be accepted by the server's side.
        crate::strategic::apply(&current, &patch, ty).expect("applies");
        patch
    }

    #[test]
    fn nothing_to_do() {
        let wanted = json!({"containers": [{"name": "a", "image": "1"}]});
        let live = json!({"containers": [{"name": "a", "image": "1", "imagePullPolicy": "Always"}], "nodeName": "n"});
        assert_eq!(three("core.v1.PodSpec", wanted.clone(), wanted, live), json!({}));
    }

    #[test]
    fn containers_change_come_and_go() {
        let original = json!({"containers": [{"name": "a", "image": "1", "tty": true}, {"name": "b"}]});
        let modified = json!({"containers": [{"name": "c"}, {"name": "a", "image": "2"}]});
        let live = json!({"containers": [{"name": "a", "image": "1", "tty": true}, {"name": "b"}, {"name": "sidecar"}]});
        let patch = three("core.v1.PodSpec", original, modified, live);
        assert_eq!(
            patch,
            json!({
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [{"name": "c"}, {"name": "a", "image": "2", "tty": null}, {"name": "b", "$patch": "delete"}],
            })
        );
    }

    #[test]
    fn deletions_alone() {
        let patch = three(
            "core.v1.ConfigMap",
            json!({"data": {"a": "1", "b": "2"}}),
            json!({"data": {"a": "1"}}),
            json!({"data": {"a": "1", "b": "2", "c": "3"}}),
        );
        assert_eq!(patch, json!({"data": {"b": null}}));
    }

    #[test]
    fn retained_keys() {
        let rolling = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}});
        let patch = three(
            "apps.v1.DeploymentSpec",
            rolling.clone(),
            json!({"strategy": {"type": "Recreate"}}),
            rolling,
        );
        assert_eq!(
            patch,
            json!({"strategy": {"$retainKeys": ["type"], "rollingUpdate": null, "type": "Recreate"}})
        );
    }

    #[test]
    fn primitive_lists() {
        let patch = three(
            "core.v1.Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
            json!({"metadata": {"finalizers": ["a", "b"]}}),
        );
        let want = json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["b", "c"],
            "finalizers": ["c"],
        }});
        assert_eq!(patch, want);
    }

    #[test]
    fn both_ways() {
        let ty = type_named("io.k8s.api.core.v1.PodSpec").expect("known");
        let from = json!({"containers": [{"name": "a", "image": "1"}], "nodeName": "n"});
        let to = json!({"containers": [{"name": "a", "image": "2"}]});
        let patch = strategic_between(&from, &to, ty).expect("a patch");
        assert_eq!(crate::strategic::apply(&from, &patch, ty), Ok(to));
        let unkeyed = json!({"containers": [{"image": "2"}]});
        assert!(strategic_between(&from, &unkeyed, ty).is_err());
    }

    #[test]
    fn merge_patches() {
        let original = json!({"spec": {"a": 1, "gone": {"x": 1}, "deep": {"y": 1, "z": 2}}});
        let modified = json!({"spec": {"a": 2, "empty": {}, "deep": {"y": 1}, "list": [1]}});
        let current =
            json!({"spec": {"a": 1, "gone": {"x": 1}, "deep": {"y": 1, "z": 2}, "other": 5}, "status": {}});
        let states = States { original: &original, modified: &modified, current: &current };
        let want = json!({"spec": {"a": 2, "deep": {"z": null}, "empty": {}, "gone": null, "list": [1]}});
        assert_eq!(merge(states), Ok(want));
    }
}
