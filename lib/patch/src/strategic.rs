//! Strategic merge patch: a merge patch that knows lists of keyed items.
//!
//! Merge keys and strategies come from the type table. Directives: `$patch` (`replace`, `delete`, `merge`),
//! `$retainKeys`, `$deleteFromPrimitiveList/FIELD` and `$setElementOrder/FIELD`.

use crate::PatchError;
use machinery::schema::{Card, Field, FieldKind, JsonForm, Type};
use serde_json::{Map, Value};

pub(crate) const DIRECTIVE: &str = "$patch";
pub(crate) const RETAIN_KEYS: &str = "$retainKeys";
pub(crate) const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
pub(crate) const ELEMENT_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// Applies a strategic merge patch to an object of a type.
pub fn apply(original: &Value, patch: &Value, ty: &'static Type) -> Result<Value, PatchError> {
    let patch = patch.as_object().ok_or_else(|| bad("a strategic merge patch must be an object"))?;
    let original = original.as_object().cloned().unwrap_or_default();
    merge_object(original, patch, Shape::Struct(ty)).map(Value::Object)
}

/// What is known about the members of an object.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Struct(&'static Type),
    /// A map whose values are structs, or of which nothing more is known.
    MapOf(Option<&'static Type>),
    Unknown,
}

impl Shape {
    /// Shape of an object of a type.
    pub(crate) fn of(ty: &'static Type) -> Self {
        of_type(ty)
    }

    pub(crate) fn field(self, name: &str) -> Option<&'static Field> {
        match self {
            Self::Struct(ty) => ty.field(name),
            _ => None,
        }
    }

    /// Shape of a member that is an object.
    pub(crate) fn member(self, name: &str) -> Self {
        match self {
            Self::MapOf(ty) => ty.map_or(Self::Unknown, of_type),
            Self::Unknown => Self::Unknown,
            Self::Struct(_) => match self.field(name) {
                Some(field) if field.card == Card::Map => Self::MapOf(field.ty()),
                Some(field) => field.ty().map_or(Self::Unknown, of_type),
                None => Self::Unknown,
            },
        }
    }
}

/// Types whose JSON is kept as it is have no known members.
fn of_type(ty: &'static Type) -> Shape {
    match ty.form {
        JsonForm::Object => Shape::Struct(ty),
        JsonForm::SchemaOrArray | JsonForm::SchemaOrBool | JsonForm::SchemaOrStrings => {
            ty.fields.iter().find_map(Field::ty).map_or(Shape::Unknown, Shape::Struct)
        }
        _ => Shape::Unknown,
    }
}

fn bad(text: impl Into<String>) -> PatchError {
    PatchError::Strategic(text.into())
}

fn merge_object(mut original: Object, patch: &Object, shape: Shape) -> Result<Object, PatchError> {
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::String(word)) if word == "replace" => return Ok(without_directives(patch)),
        Some(Value::String(word)) if word == "delete" => return Ok(Object::new()),
        Some(Value::String(word)) if word == "merge" => {}
        Some(other) => return Err(bad(format!("unknown patch type found in $patch directive: {other}"))),
    }
    retain_keys(&mut original, patch)?;
    for (name, value) in patch {
        if name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(ELEMENT_ORDER) {
            continue;
        }
        if let Some(field) = name.strip_prefix(DELETE_PRIMITIVES) {
            if !patch.contains_key(field) {
                delete_primitives(&mut original, field, value)?;
            }
            continue;
        }
        merge_member(&mut original, patch, name, value, shape)?;
    }
    order_untouched_lists(&mut original, patch, shape)?;
    Ok(original)
}

/// The content of a replacing patch. Nested directives have no meaning there and nulls mean absent.
fn without_directives(patch: &Object) -> Object {
    let kept = patch.iter().filter(|(name, _)| !is_directive(name));
    kept.filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn is_directive(name: &str) -> bool {
    name == DIRECTIVE
        || name == RETAIN_KEYS
        || name.starts_with(DELETE_PRIMITIVES)
        || name.starts_with(ELEMENT_ORDER)
}

/// `$retainKeys`: members of the original that are not listed go; the patch may only set listed ones.
fn retain_keys(original: &mut Object, patch: &Object) -> Result<(), PatchError> {
    let Some(listed) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let listed = listed.as_array().ok_or_else(|| bad("invalid patch format of $retainKeys"))?;
    let keeps = |name: &str| listed.iter().any(|v| v.as_str() == Some(name));
    let stray = patch.iter().find(|(name, value)| !is_directive(name) && !value.is_null() && !keeps(name));
    if stray.is_some() {
        return Err(bad(
            "invalid patch format of $retainKeys: the listed keys must contain every key of the patch",
        ));
    }
    original.retain(|name, _| keeps(name));
    Ok(())
}

fn merge_member(
    original: &mut Object,
    patch: &Object,
    name: &str,
    value: &Value,
    shape: Shape,
) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(name);
        return Ok(());
    }
    let old = original.remove(name);
    let new = match value {
        Value::Object(inner) => merge_value(old, inner, shape.member(name), shape.field(name))?,
        Value::Array(items) => Some(merge_list(old, items, patch, name, shape)?),
        scalar => Some(scalar.clone()),
    };
    if let Some(new) = new {
        original.insert(name.to_string(), new);
    }
    Ok(())
}

/// An object member. `$patch: delete` removes it.
fn merge_value(
    old: Option<Value>,
    patch: &Object,
    shape: Shape,
    field: Option<&Field>,
) -> Result<Option<Value>, PatchError> {
    if patch.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
        return Ok(None);
    }
    let replaces = field.is_some_and(|f| f.patch_strategy == "replace");
    let old = match old {
        Some(Value::Object(old)) if !replaces => old,
        _ => Object::new(),
    };
    merge_object(old, patch, shape).map(|object| Some(Value::Object(object)))
}

fn merge_list(
    old: Option<Value>,
    items: &[Value],
    patch: &Object,
    name: &str,
    shape: Shape,
) -> Result<Value, PatchError> {
    let field = shape.field(name).filter(|f| f.merges() && f.card == Card::List);
    let Some(field) = field else { return Ok(Value::Array(replaced(items))) };
    let old = match old {
        Some(Value::Array(old)) => old,
        _ => Vec::new(),
    };
    let order = patch.get(&format!("{ELEMENT_ORDER}{name}"));
    let merged = match field.kind {
        FieldKind::Message => merge_keyed(old, items, field, order)?,
        _ => {
            let deleted = patch.get(&format!("{DELETE_PRIMITIVES}{name}"));
            merge_primitives(old, items, deleted, order)?
        }
    };
    Ok(Value::Array(merged))
}

/// An atomic list as it stands in the patch; a `$patch: replace` marker item is dropped.
fn replaced(items: &[Value]) -> Vec<Value> {
    let marker = |item: &&Value| item.as_object().is_some_and(|o| o.len() == 1 && o.contains_key(DIRECTIVE));
    items.iter().filter(|item| !marker(item)).cloned().collect()
}

fn merge_keyed(
    old: Vec<Value>,
    items: &[Value],
    field: &'static Field,
    order: Option<&Value>,
) -> Result<Vec<Value>, PatchError> {
    let key = field.patch_key.ok_or_else(|| bad(format!("no merge key for list {}", field.json)))?;
    if items.iter().any(|item| directive(item) == Some("replace") && item.get(key).is_none()) {
        return Ok(replaced(items));
    }
    let shape = field.ty().map_or(Shape::Unknown, of_type);
    let mut list = old;
    let mut added = Vec::new();
    for item in items {
        merge_keyed_item(&mut list, &mut added, item, key, shape)?;
    }
    list.extend(added);
    sort_by_order(list, items, order, |v| v.get(key).cloned())
}

fn directive(item: &Value) -> Option<&str> {
    item.get(DIRECTIVE)?.as_str()
}

fn merge_keyed_item(
    list: &mut Vec<Value>,
    added: &mut Vec<Value>,
    item: &Value,
    key: &str,
    shape: Shape,
) -> Result<(), PatchError> {
    let object = item
        .as_object()
        .ok_or_else(|| bad(format!("expected an object with key {key:?} in the list, got {item}")))?;
    let id = object.get(key).ok_or_else(|| missing_key(object, key))?;
    let same = |candidate: &Value| candidate.get(key) == Some(id);
    match directive(item) {
        Some("delete") => list.retain(|candidate| !same(candidate)),
        Some("replace") => {
            list.retain(|candidate| !same(candidate));
            added.push(Value::Object(without_directives(object)));
        }
        Some("merge") | None => {
            match list.iter_mut().chain(added.iter_mut()).find(|candidate| same(candidate)) {
                Some(found) => {
                    let old = std::mem::take(found);
                    let old = if let Value::Object(old) = old { old } else { Object::new() };
                    *found = Value::Object(merge_object(old, object, shape)?);
                }
                None => added.push(Value::Object(merge_object(Object::new(), object, shape)?)),
            }
        }
        Some(other) => return Err(bad(format!("unknown patch type found in $patch directive: {other}"))),
    }
    Ok(())
}

fn missing_key(object: &Object, key: &str) -> PatchError {
    let shown = Value::Object(object.clone());
    bad(format!("map: {shown} does not contain declared merge key: {key}"))
}

fn merge_primitives(
    mut old: Vec<Value>,
    items: &[Value],
    deleted: Option<&Value>,
    order: Option<&Value>,
) -> Result<Vec<Value>, PatchError> {
    if let Some(deleted) = deleted {
        let deleted = deleted.as_array().ok_or_else(|| bad("invalid patch format of primitive list"))?;
        old.retain(|item| !deleted.contains(item));
    }
    for item in items {
        if !old.contains(item) {
            old.push(item.clone());
        }
    }
    sort_by_order(old, items, order, |v| Some(v.clone()))
}

fn delete_primitives(original: &mut Object, field: &str, deleted: &Value) -> Result<(), PatchError> {
    let deleted = deleted.as_array().ok_or_else(|| bad("invalid patch format of primitive list"))?;
    if let Some(Value::Array(items)) = original.get_mut(field) {
        items.retain(|item| !deleted.contains(item));
    }
    Ok(())
}

/// A `$setElementOrder` without its list still orders the list that is there.
fn order_untouched_lists(original: &mut Object, patch: &Object, shape: Shape) -> Result<(), PatchError> {
    for (directive, order) in patch {
        let Some(name) = directive.strip_prefix(ELEMENT_ORDER) else { continue };
        let field = shape.field(name).filter(|f| f.merges());
        let (None, Some(field)) = (patch.get(name), field) else { continue };
        if let Some(Value::Array(items)) = original.get_mut(name) {
            let list = std::mem::take(items);
            *items = match (field.kind, field.patch_key) {
                (FieldKind::Message, Some(key)) => {
                    sort_by_order(list, &[], Some(order), |v| v.get(key).cloned())?
                }
                _ => sort_by_order(list, &[], Some(order), |v| Some(v.clone()))?,
            };
        }
    }
    Ok(())
}

/// Puts the items named by `$setElementOrder` into that order; the other items (known to the server only) stay
/// behind the item they followed.
fn sort_by_order(
    list: Vec<Value>,
    patched: &[Value],
    order: Option<&Value>,
    id: impl Fn(&Value) -> Option<Value>,
) -> Result<Vec<Value>, PatchError> {
    let Some(order) = order else { return Ok(list) };
    let order = order.as_array().ok_or_else(|| bad("invalid patch format of $setElementOrder"))?;
    let ids: Vec<Option<Value>> = order.iter().map(&id).collect();
    check_order(patched, &ids, &id)?;
    let rank = |item: &Value| ids.iter().position(|wanted| wanted.is_some() && *wanted == id(item));
    Ok(interleave(list, rank))
}

/// Every item of the patch must be named in the order, deletions apart.
fn check_order(
    patched: &[Value],
    ids: &[Option<Value>],
    id: &impl Fn(&Value) -> Option<Value>,
) -> Result<(), PatchError> {
    let stray = patched.iter().find(|item| directive(item) != Some("delete") && !ids.contains(&id(item)));
    match stray {
        None => Ok(()),
        Some(item) => Err(bad(format!(
            "The order in patch list:\n{item}\n doesn't match $setElementOrder list:\n{ids:?}\n"
        ))),
    }
}

/// Merges two sequences: ordered items by rank, and server-only items kept in front of the ordered items they
/// preceded in the list.
fn interleave(list: Vec<Value>, rank: impl Fn(&Value) -> Option<usize>) -> Vec<Value> {
    let ranked: Vec<(Option<usize>, Value)> = list.into_iter().map(|item| (rank(&item), item)).collect();
    let total = ranked.len();
    let mut ordered: Vec<(usize, usize, Value)> = Vec::new();
    let mut server_only: Vec<(usize, Value)> = Vec::new();
    for (at, (rank, item)) in ranked.into_iter().enumerate() {
        match rank {
            Some(rank) => ordered.push((rank, at, item)),
            None => server_only.push((at, item)),
        }
    }
    ordered.sort_by_key(|(rank, ..)| *rank);
    let mut out = Vec::with_capacity(total);
    let mut rest = server_only.into_iter().peekable();
    for (_, at, item) in ordered {
        while let Some((_, server)) = rest.next_if(|(place, _)| *place < at) {
            out.push(server);
        }
        out.push(item);
    }
    out.extend(rest.map(|(_, item)| item));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use machinery::schema::type_named;
    use serde_json::json;

    fn run(kind: &str, original: Value, patch: Value) -> Result<Value, PatchError> {
        apply(&original, &patch, type_named(&format!("io.k8s.api.{kind}")).expect(kind))
    }

    fn pod(original: Value, patch: Value) -> Value {
        run("core.v1.PodSpec", original, patch).expect("applies")
    }

    #[test]
    fn keyed_lists() {
        let original = json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "2"}]});
        let merged = pod(
            original.clone(),
            json!({"containers": [{"name": "a", "image": "9", "env": [{"name": "Y", "value": "2"}]}, {"name": "c"}]}),
        );
        assert_eq!(
            merged,
            json!({"containers": [{"name": "a", "image": "9", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
            {"name": "b", "image": "2"}, {"name": "c"}]})
        );
        let deleted = pod(original.clone(), json!({"containers": [{"name": "a", "$patch": "delete"}]}));
        assert_eq!(deleted, json!({"containers": [{"name": "b", "image": "2"}]}));
        let replaced = pod(original.clone(), json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}));
        assert_eq!(replaced, json!({"containers": [{"name": "z"}]}));
        let one =
            pod(original.clone(), json!({"containers": [{"$patch": "replace", "name": "a", "image": "7"}]}));
        assert_eq!(one, json!({"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "7"}]}));
        assert_eq!(pod(original, json!({"containers": null})), json!({}));
        assert!(run("core.v1.PodSpec", json!({}), json!({"containers": [{"image": "x"}]})).is_err());
    }

    #[test]
    fn element_order() {
        let original = json!({"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]});
        let patch = json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}], "containers": [{"name": "c"}]});
        assert_eq!(
            pod(original.clone(), patch),
            json!({"containers": [{"name": "s"}, {"name": "b"}, {"name": "c"}, {"name": "a"}]})
        );
        let alone =
            pod(original.clone(), json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}));
        assert_eq!(alone, json!({"containers": [{"name": "s"}, {"name": "b"}, {"name": "a"}]}));
        let stray = json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "c"}]});
        assert!(run("core.v1.PodSpec", original, stray).is_err());
    }

    #[test]
    fn primitive_lists() {
        let original = json!({"metadata": {"finalizers": ["a", "b"]}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}});
        assert_eq!(
            run("core.v1.Pod", original.clone(), patch),
            Ok(json!({"metadata": {"finalizers": ["b", "c"]}}))
        );
        let only = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}});
        assert_eq!(
            run("core.v1.Pod", original.clone(), only),
            Ok(json!({"metadata": {"finalizers": ["a"]}}))
        );
        let order =
            json!({"metadata": {"$setElementOrder/finalizers": ["c", "b", "a"], "finalizers": ["c"]}});
        assert_eq!(
            run("core.v1.Pod", original, order),
            Ok(json!({"metadata": {"finalizers": ["c", "b", "a"]}}))
        );
    }

    #[test]
    fn objects() {
        let original =
            json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, "replicas": 1});
        let retained = json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}});
        assert_eq!(
            run("apps.v1.DeploymentSpec", original.clone(), retained),
            Ok(json!({"strategy": {"type": "Recreate"}, "replicas": 1}))
        );
        let stray = json!({"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}});
        assert!(run("apps.v1.DeploymentSpec", original.clone(), stray).is_err());
        let replace = json!({"strategy": {"$patch": "replace", "type": "Recreate"}});
        assert_eq!(
            run("apps.v1.DeploymentSpec", original.clone(), replace),
            Ok(json!({"strategy": {"type": "Recreate"}, "replicas": 1}))
        );
        let delete = json!({"strategy": {"$patch": "delete"}});
        assert_eq!(run("apps.v1.DeploymentSpec", original.clone(), delete), Ok(json!({"replicas": 1})));
        assert!(run("apps.v1.DeploymentSpec", original, json!({"strategy": {"$patch": "mix"}})).is_err());
    }

    #[test]
    fn maps_and_atomic_lists() {
        let original = json!({"nodeSelector": {"a": "1", "b": "2"}, "containers": [{"name": "a", "args": ["x"]}], "tolerations": [{"key": "k"}]});
        let merged = pod(
            original,
            json!({"nodeSelector": {"a": null, "c": "3"}, "containers": [{"name": "a", "args": ["y"]}], "tolerations": [{"key": "z"}]}),
        );
        assert_eq!(
            merged,
            json!({"nodeSelector": {"b": "2", "c": "3"}, "containers": [{"name": "a", "args": ["y"]}], "tolerations": [{"key": "z"}]})
        );
    }

    #[test]
    fn ports_merge_by_number() {
        let original = json!({"ports": [{"port": 80, "name": "a"}, {"port": 90}]});
        let merged =
            run("core.v1.ServiceSpec", original, json!({"ports": [{"port": 80, "targetPort": 8080}]}));
        assert_eq!(
            merged,
            Ok(json!({"ports": [{"port": 80, "name": "a", "targetPort": 8080}, {"port": 90}]}))
        );
    }
}
