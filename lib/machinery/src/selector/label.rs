//! Label selectors.

use serde_json::{Map, Value};

use super::parse::requirements;
use crate::names;

/// What a requirement asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values, or not set.
    NotIn,
    /// Set.
    Exists,
    /// Not set.
    DoesNotExist,
    /// Set to an integer above the value.
    GreaterThan,
    /// Set to an integer below the value.
    LessThan,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Operator.
    pub operator: Operator,
    /// Values, sorted.
    pub values: Vec<String>,
}

/// Anything labels can be read from.
pub trait Labels {
    /// Value of a label.
    fn get_label(&self, key: &str) -> Option<&str>;
}

impl Labels for Map<String, Value> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

impl<L: Labels> Labels for Option<&L> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.and_then(|l| l.get_label(key))
    }
}

impl Labels for std::collections::BTreeMap<String, String> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Vec<(String, String)> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// Requirements that must all hold. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// All must hold.
    pub requirements: Vec<Requirement>,
    /// Matches nothing at all: the selector of an unset `LabelSelector` field.
    pub nothing: bool,
}

impl LabelSelector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Reads the `labelSelector` of a request: `a=b,c!=d,e in (f,g),h,!i,j notin (k),l>1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = requirements(text)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// From a `LabelSelector` object with `matchLabels` and `matchExpressions`; null matches nothing, `{}` everything.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        if value.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        for (key, wanted) in value.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let wanted = wanted.as_str().unwrap_or_default().to_string();
            requirements.push(Requirement::new(key, Operator::In, vec![wanted])?);
        }
        for expression in value.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(Requirement::from_expression(expression)?);
        }
        Ok(Self { requirements, nothing: false })
    }

    /// From a plain map of labels, as in `Service.spec.selector`.
    pub fn from_map(map: &Map<String, Value>) -> Self {
        let exact = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.as_str().unwrap_or_default().to_string()],
        };
        Self { requirements: map.iter().map(exact).collect(), nothing: false }
    }

    /// True when all requirements hold.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// True when every object matches.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The value a label must have, when the selector fixes one.
    pub fn requires_exact(&self, key: &str) -> Option<&str> {
        let exact = |r: &&Requirement| r.key == key && r.operator == Operator::In && r.values.len() == 1;
        self.requirements.iter().find(exact).and_then(|r| r.values.first()).map(String::as_str)
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::In if self.values.len() == 1 => write!(f, "{key}={values}"),
            Operator::NotIn if self.values.len() == 1 => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl Requirement {
    /// A checked requirement.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, String> {
        if let Some(error) = names::is_qualified_name(key).first() {
            return Err(format!("key: Invalid value: {key:?}: {error}"));
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return Err(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
                        .into(),
                );
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return Err(format!(
                    "values: Invalid value: {values:?}: values set must be empty for exists and does not exist"
                ));
            }
            Operator::GreaterThan | Operator::LessThan
                if values.len() != 1 || values[0].parse::<i64>().is_err() =>
            {
                return Err(format!(
                    "values[0]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an integer",
                    values.first().cloned().unwrap_or_default()
                ));
            }
            _ => {}
        }
        for (at, value) in values.iter().enumerate() {
            if let Some(error) = names::is_label_value(value).first() {
                return Err(format!("values[{at}][{key}]: Invalid value: {value:?}: {error}"));
            }
        }
        values.sort();
        values.dedup();
        Ok(Self { key: key.to_string(), operator, values })
    }

    fn from_expression(expression: &Value) -> Result<Self, String> {
        let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
        let operator = match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::GreaterThan,
            "Lt" => Operator::LessThan,
            other => return Err(format!("{other:?} is not a valid label selector operator")),
        };
        let listed = expression.get("values").and_then(Value::as_array);
        let values = listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect();
        Self::new(text("key"), operator, values)
    }

    /// True when the requirement holds.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        let actual = labels.get_label(&self.key);
        let listed = |v: &str| self.values.iter().any(|wanted| wanted == v);
        match self.operator {
            Operator::Exists => actual.is_some(),
            Operator::DoesNotExist => actual.is_none(),
            Operator::In => actual.is_some_and(listed),
            Operator::NotIn => !actual.is_some_and(listed),
            Operator::GreaterThan => self.compare(actual).is_some_and(|(a, b)| a > b),
            Operator::LessThan => self.compare(actual).is_some_and(|(a, b)| a < b),
        }
    }

    fn compare(&self, actual: Option<&str>) -> Option<(i64, i64)> {
        Some((actual?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}
