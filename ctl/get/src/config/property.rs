//! `config set` and `config unset`: one value by its path.

use base64::Engine;
use coxctl_kit::print::gotext::quote;
use coxctl_kit::{Error, Globals, Result, out};
use serde_json::{Map, Value, json};

use super::SetArgs;
use super::store::{Section, Store};

/// A property's parts: a section's entry and field, or one at the top.
enum Property {
    Top(String),
    Entry(Section, String, Vec<String>),
}

/// `clusters.NAME.server`; a name with dots is the longest that fits an entry there is.
fn property(text: &str, store: &Store) -> Result<Property> {
    let (first, rest) = text.split_once('.').unwrap_or((text, ""));
    let section = match first {
        "clusters" => Section::Clusters,
        "users" => Section::Users,
        "contexts" => Section::Contexts,
        "current-context" | "kind" | "apiVersion" if rest.is_empty() => {
            return Ok(Property::Top(first.into()));
        }
        "preferences" => return Ok(Property::Top(text.into())),
        other => return Err(Error::message(format!("unknown property {}", quote(other)))),
    };
    let parts: Vec<&str> = rest.split('.').collect();
    let known =
        (1..=parts.len()).rev().find(|count| store.body(section, &parts[..*count].join(".")).is_some());
    let count = known.unwrap_or(if parts.len() > 1 { parts.len() - 1 } else { parts.len() });
    let fields = parts[count..].iter().map(|part| part.to_string()).collect();
    Ok(Property::Entry(section, parts[..count].join("."), fields))
}

pub fn set(args: &SetArgs, globals: &Globals) -> Result<i32> {
    let mut store = Store::load(globals)?;
    match property(&args.property, &store)? {
        Property::Top(key) => store.change_top(&key, |config| config[&key] = args.value.as_str().into())?,
        Property::Entry(_, _, fields) if fields.is_empty() => {
            return Err(Error::message("can't set a map to a value"));
        }
        Property::Entry(section, name, fields) => {
            let value = scalar(fields.last().map(String::as_str).unwrap_or_default(), args)?;
            store.change(section, &name, |body| assign(body, &fields, Some(value)))?;
        }
    }
    out::line(&format!("Property {} set.", quote(&args.property)));
    Ok(0)
}

fn scalar(field: &str, args: &SetArgs) -> Result<Value> {
    let standard = base64::engine::general_purpose::STANDARD;
    if field.ends_with("-data") && args.set_raw_bytes {
        return Ok(standard.encode(&args.value).into());
    }
    if field.ends_with("-data") && standard.decode(&args.value).is_err() {
        return Err(Error::message(format!("error decoding {}: illegal base64 data", quote(&args.property))));
    }
    match (field, args.value.as_str()) {
        ("insecure-skip-tls-verify" | "disable-compression" | "provideClusterInfo", "true") => {
            Ok(true.into())
        }
        ("insecure-skip-tls-verify" | "disable-compression" | "provideClusterInfo", "false") => {
            Ok(false.into())
        }
        (_, text) => Ok(text.into()),
    }
}

/// Sets or (none) removes what a path of fields leads to.
fn assign(body: &mut Map<String, Value>, fields: &[String], value: Option<Value>) {
    match (fields, value) {
        ([], _) => {}
        ([last], Some(value)) => drop(body.insert(last.clone(), value)),
        ([last], None) => drop(body.remove(last)),
        ([first, rest @ ..], value) => {
            let inner = body.entry(first.clone()).or_insert_with(|| json!({}));
            if let Some(inner) = inner.as_object_mut() {
                assign(inner, rest, value);
            }
        }
    }
}

pub fn unset(text: &str, globals: &Globals) -> Result<i32> {
    let mut store = Store::load(globals)?;
    match property(text, &store)? {
        Property::Top(key) => store.change_top(&key, |config| {
            config.as_object_mut().map(|map| map.remove(&key));
        })?,
        Property::Entry(section, name, _) if name.is_empty() => {
            let (list, _) = section.keys();
            store.change_top(list, |config| config[list] = Value::Null)?;
        }
        Property::Entry(section, name, fields) if fields.is_empty() => drop(store.remove(section, &name)?),
        Property::Entry(section, name, fields) if store.body(section, &name).is_some() => {
            store.change(section, &name, |body| assign(body, &fields, None))?;
        }
        Property::Entry(..) => {
            return Err(Error::message(
                "current map key `is` is invalid".replace("`is`", &format!("`{text}`")),
            ));
        }
    }
    out::line(&format!("Property {} unset.", quote(text)));
    Ok(0)
}
