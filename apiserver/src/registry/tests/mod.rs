//! Manifests in; defaulted manifests, or errors as `path: message`, out.

mod defaults;
mod panics;
mod pods;
mod rest;
mod scalers;
mod services;
mod updates;

use super::strategy::KindStrategy;
use super::{KINDS, kind::Kind};
use machinery::kinds::{Resource, by_kind, split_api_version};
use serde_json::Value;
use std::sync::Arc;

fn resource(object: &Value) -> Arc<Resource> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = split_api_version(text("apiVersion"));
    by_kind(group, version, text("kind")).unwrap_or_else(|| panic!("no kind {object}"))
}

fn strategy(object: &Value, subresource: &str) -> KindStrategy {
    let resource = resource(object);
    let kind = KINDS.iter().find(|k| k.group == resource.group && k.plural == resource.plural);
    KindStrategy::new(kind.copied().unwrap_or(&Kind::PLAIN), &resource, subresource)
}

fn parse(yaml: &str) -> Value {
    serde_yaml::from_str(yaml).unwrap_or_else(|e| panic!("{e}: {yaml}"))
}

/// The object as a create would store it: defaults, then what the server sets.
fn created(yaml: &str) -> Value {
    let mut object = parse(yaml);
    let strategy = strategy(&object, "");
    crate::strategy::Strategy::default(&strategy, &mut object);
    strategy.start(&mut object);
    object
}

/// The object after defaulting alone.
fn defaulted(yaml: &str) -> String {
    let mut object = parse(yaml);
    crate::strategy::Strategy::default(&strategy(&object, ""), &mut object);
    serde_yaml::to_string(&object).unwrap_or_default()
}

/// What a create complains of, one line each.
fn errors(yaml: &str) -> String {
    let object = created(yaml);
    lines(strategy(&object, "").check_create(&object))
}

/// What a change through an endpoint complains of.
fn update_errors(old: &Value, new: &Value, subresource: &str) -> String {
    let strategy = strategy(old, subresource);
    let mut new = new.clone();
    strategy.carry_over(&mut new, old);
    lines(strategy.check_update(&new, old))
}

fn lines(errors: Vec<machinery::field::FieldError>) -> String {
    errors.iter().map(|e| format!("{e}\n")).collect()
}

/// A change of one value, by JSON pointer.
fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = object.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
    let parent = changed.pointer_mut(parent).unwrap_or_else(|| panic!("no {pointer}"));
    match parent {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => items[key.parse::<usize>().unwrap_or_default()] = value,
        parent => {
            super::val::members(parent).insert(key.replace("~1", "/"), value);
        }
    }
    changed
}
