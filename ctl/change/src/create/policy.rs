//! Generators of quotas, disruption budgets and priority classes.

use anyhow::{Result, anyhow, bail};
use machinery::quantity::Quantity;
use serde_json::{Map, Value, json};

/// `create quota NAME`.
#[derive(clap::Args, Clone, Debug)]
pub struct Quota {
    /// A comma-delimited set of resource=quantity pairs that define a hard limit.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub hard: String,
    /// A comma-delimited set of quota scopes that must all match each object tracked by the quota.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub scopes: String,
}

impl Quota {
    /// The object.
    pub fn build(&self, name: &str) -> Result<Value> {
        let mut spec = Map::new();
        let hard = resource_list(&self.hard)?;
        if !hard.is_empty() {
            spec.insert("hard".into(), Value::Object(hard));
        }
        if !self.scopes.is_empty() {
            spec.insert("scopes".into(), json!(self.scopes.split(',').collect::<Vec<_>>()));
        }
        Ok(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec}))
    }
}

/// `cpu=1,memory=2Gi` as a list of resources with canonical quantities.
pub(crate) fn resource_list(text: &str) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (name, quantity) = match part.split_once('=') {
            Some((name, quantity)) if !quantity.contains('=') => (name, quantity),
            _ => bail!("Invalid argument syntax {part}, expected <resource>=<value>"),
        };
        let quantity = Quantity::parse(quantity).map_err(|e| anyhow!("{e}"))?;
        out.insert(name.into(), json!(quantity.canonical()));
    }
    Ok(out)
}

/// `create poddisruptionbudget NAME`.
#[derive(clap::Args, Clone, Debug)]
pub struct Budget {
    /// The maximum number or percentage of unavailable pods this budget requires.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub max_unavailable: String,
    /// The minimum number or percentage of available pods this budget requires.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub min_available: String,
    /// A label selector to use for this budget.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub selector: String,
}

impl Budget {
    /// The object.
    pub fn build(&self, name: &str) -> Result<Value> {
        if self.selector.is_empty() {
            bail!("a selector must be specified");
        }
        let selector = json_selector(&self.selector)
            .map_err(|e| anyhow!("couldn't parse the selector string {:?}: {e}", self.selector))?;
        let mut spec = json!({"selector": selector});
        match (self.min_available.is_empty(), self.max_unavailable.is_empty()) {
            (true, true) => bail!("one of min-available or max-unavailable must be specified"),
            (false, false) => bail!("min-available and max-unavailable cannot be both specified"),
            (false, true) => spec["minAvailable"] = number_or_percent("min-available", &self.min_available)?,
            (true, false) => {
                spec["maxUnavailable"] = number_or_percent("max-unavailable", &self.max_unavailable)?
            }
        }
        Ok(
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}),
        )
    }
}

fn number_or_percent(flag: &str, text: &str) -> Result<Value> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        bail!("invalid format specified for {flag}");
    }
    Ok(text.parse::<i32>().map_or_else(|_| json!(text), |number| json!(number)))
}

/// A selector's text as a LabelSelector object.
pub(crate) fn json_selector(text: &str) -> Result<Value, String> {
    use machinery::selector::{LabelSelector, Operator};
    let (mut labels, mut expressions) = (Map::new(), Vec::new());
    for requirement in LabelSelector::parse(text)?.requirements {
        let word = match (requirement.operator, requirement.values.as_slice()) {
            (Operator::In, [value]) => {
                labels.insert(requirement.key, json!(value));
                continue;
            }
            (Operator::In, _) => "In",
            (Operator::NotIn, _) => "NotIn",
            (Operator::Exists, _) => "Exists",
            (Operator::DoesNotExist, _) => "DoesNotExist",
            (Operator::GreaterThan, _) => return Err("\"gt\" is not a valid label selector operator".into()),
            (Operator::LessThan, _) => return Err("\"lt\" is not a valid label selector operator".into()),
        };
        let mut expression = json!({"key": requirement.key, "operator": word});
        if !requirement.values.is_empty() {
            expression["values"] = json!(requirement.values);
        }
        expressions.push(expression);
    }
    let mut out = Map::new();
    if !labels.is_empty() {
        out.insert("matchLabels".into(), Value::Object(labels));
    }
    if !expressions.is_empty() {
        out.insert("matchExpressions".into(), Value::Array(expressions));
    }
    Ok(Value::Object(out))
}

/// `create priorityclass NAME`.
#[derive(clap::Args, Clone, Debug)]
pub struct Priority {
    /// The value of this priority class.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    pub value: i32,
    /// Whether this priority class is considered as the default priority.
    #[arg(long)]
    pub global_default: bool,
    /// When this priority class should be used.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub description: String,
    /// The policy for preempting pods with lower priority.
    #[arg(long, default_value = "PreemptLowerPriority")]
    pub preemption_policy: String,
}

impl Priority {
    /// The object.
    pub fn build(&self, name: &str) -> Value {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": self.value,
            "globalDefault": self.global_default,
            "description": self.description,
            "preemptionPolicy": self.preemption_policy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas() {
        let made =
            Quota { hard: "cpu=1000m,pods=3".into(), scopes: "A,B".into() }.build("q").expect("builds");
        assert_eq!(made["spec"], json!({"hard": {"cpu": "1", "pods": "3"}, "scopes": ["A", "B"]}));
        for bad in ["x", "a=b=c", "cpu=x"] {
            assert!(resource_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn budgets() {
        let budget = |min: &str, max: &str, selector: &str| {
            Budget { max_unavailable: max.into(), min_available: min.into(), selector: selector.into() }
                .build("b")
        };
        let made = budget("10%", "", "a in (b,c),d,e=f,g!=h").expect("builds");
        let want = json!({"minAvailable": "10%", "selector": {"matchLabels": {"e": "f"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["b", "c"]},
            {"key": "d", "operator": "Exists"},
            {"key": "g", "operator": "NotIn", "values": ["h"]},
        ]}});
        assert_eq!(made["spec"], want);
        assert_eq!(budget("", "1", "a=b").expect("builds")["spec"]["maxUnavailable"], json!(1));
        for (min, max, selector) in
            [("1", "", ""), ("", "", "a=b"), ("1", "1", "a=b"), ("x", "", "a=b"), ("1", "", "a==,=")]
        {
            assert!(budget(min, max, selector).is_err(), "{min} {max} {selector}");
        }
    }
}
