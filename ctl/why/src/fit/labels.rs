//! Selectors over labels and nodes.

use coxctl_kit::dig;
use machinery::selector::LabelSelector;
use serde_json::{Map, Value};

use super::Spot;

/// Whether a LabelSelector takes an object.
pub fn selects(selector: &Value, object: &Value) -> bool {
    let labels: Option<&Map<String, Value>> = dig::at(object, "metadata.labels").as_object();
    let none = Map::new();
    LabelSelector::from_json(selector).is_ok_and(|selector| selector.matches(labels.unwrap_or(&none)))
}

/// A LabelSelector as text.
pub fn written(selector: &Value) -> String {
    match dig::selector(selector) {
        Ok(text) if text.is_empty() => "any labels".into(),
        Ok(text) => text,
        Err(_) => "an unreadable selector".into(),
    }
}

/// Whether a node meets a node selector term; an empty term meets nothing.
pub fn term_holds(term: &Value, spot: &Spot<'_>) -> bool {
    let (expressions, fields) = (dig::items(term, "matchExpressions"), dig::items(term, "matchFields"));
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|e| holds(e, spot.label(dig::text(e, "key"))))
        && fields.iter().all(|e| holds(e, Some(spot.name)))
}

/// Whether a requirement holds for a value.
pub fn holds(requirement: &Value, value: Option<&str>) -> bool {
    let wanted = dig::texts(requirement, "values");
    let number = |text: Option<&&str>| text.and_then(|text| text.parse::<i64>().ok());
    let pair = number(value.as_ref()).zip(number(wanted.first()));
    match dig::text(requirement, "operator") {
        "In" => value.is_some_and(|value| wanted.contains(&value)),
        "NotIn" => !value.is_some_and(|value| wanted.contains(&value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => pair.is_some_and(|(value, wanted)| value > wanted),
        "Lt" => pair.is_some_and(|(value, wanted)| value < wanted),
        _ => false,
    }
}

/// A requirement as text: `zone in (a, b)`.
pub fn requirement(requirement: &Value) -> String {
    let (key, values) = (dig::text(requirement, "key"), dig::texts(requirement, "values"));
    match (dig::text(requirement, "operator"), values.as_slice()) {
        ("In", [value]) => format!("{key}={value}"),
        ("In", _) => format!("{key} in ({})", values.join(", ")),
        ("NotIn", _) => format!("{key} not in ({})", values.join(", ")),
        ("Exists", _) => key.to_string(),
        ("DoesNotExist", _) => format!("no {key}"),
        ("Gt", [value]) => format!("{key} > {value}"),
        ("Lt", [value]) => format!("{key} < {value}"),
        (other, _) => format!("{key} {other} ({})", values.join(", ")),
    }
}
