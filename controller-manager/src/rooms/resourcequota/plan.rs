//! The status of a quota, counted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::{Format, Quantity};
use machinery::quota::{Amounts, add, covers, in_scope, resource_of, usage};
use serde_json::Value;

/// A resource by group and plural.
pub type Of = (String, String);

/// Quantities as objects carry them.
pub type Texts = BTreeMap<String, Text>;

/// The resources a quota is about, each with whether its objects must be looked at, not just counted.
pub fn resources(hard: &Texts, scoped: bool) -> BTreeMap<Of, bool> {
    let mut all = BTreeMap::new();
    for name in hard.keys() {
        if let Some(of) = resource_of(name) {
            let counted = name.starts_with("count/") || *name == of.1;
            *all.entry(of).or_insert(false) |= scoped || !counted;
        }
    }
    all
}

/// The names of a quota for one resource, at zero.
pub fn zero(hard: &Texts, (group, plural): &Of) -> Amounts {
    let names = hard.keys().filter(|n| covers(group, plural, n));
    names.map(|n| (n.clone(), Quantity::new(0, Format::DecimalSi))).collect()
}

/// What objects of a resource use of a quota (its spec).
pub fn sum<'a>(
    spec: &Value,
    hard: &Texts,
    of: &Of,
    objects: impl IntoIterator<Item = &'a Value>,
    now: Timestamp,
) -> Amounts {
    let (group, plural) = of;
    let mut sum = zero(hard, of);
    for object in objects.into_iter().filter(|o| in_scope(spec, group, plural, o)) {
        let mut used = usage(group, plural, object, now);
        used.retain(|name, _| hard.contains_key(name));
        add(&mut sum, &used);
    }
    sum
}

/// What so many objects of a resource use of a quota without scopes.
pub fn count(hard: &Texts, of: &Of, number: i64) -> Amounts {
    let names = zero(hard, of).into_keys();
    names.map(|n| (n, Quantity::new(number, Format::DecimalSi))).collect()
}

/// The amounts a quota's status says are used.
fn told(quota: &ResourceQuota) -> Texts {
    quota.status.as_ref().and_then(|s| s.used.clone()).unwrap_or_default()
}

/// Whether less was counted of anything than the quota says is used, or it does not say: a first count that is too low
/// would let too much in.
pub fn less(quota: &ResourceQuota, counted: &Amounts) -> bool {
    let told = told(quota);
    let was = |name: &String| told.get(name).and_then(|text| Quantity::parse(&text.0).ok());
    counted.iter().any(|(name, amount)| was(name).is_none_or(|was| was > *amount))
}

/// The resources of which more is used than in the version before.
pub fn charged(old: Option<&ResourceQuota>, new: &ResourceQuota) -> BTreeSet<Of> {
    let before = old.map(told).unwrap_or_default();
    let amount = |texts: &Texts, name: &String| texts.get(name).and_then(|t| Quantity::parse(&t.0).ok());
    let now = told(new);
    let hard = new.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
    let more = |name: &&String| match (amount(&before, name), amount(&now, name)) {
        (Some(before), Some(now)) => now > before,
        _ => true,
    };
    hard.keys().chain(now.keys()).filter(more).filter_map(|name| resource_of(name)).collect()
}

/// The status to write.
pub fn status(quota: &ResourceQuota, used: &Amounts) -> ResourceQuotaStatus {
    let hard = quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
    let before = told(quota);
    // The same amount in the same words: a quota is not written for a change of notation.
    let text = |name: &String, amount: &Quantity| match before.get(name) {
        Some(old) if Quantity::parse(&old.0).is_ok_and(|was| was == *amount) => old.clone(),
        _ => Text(amount.canonical()),
    };
    let written: Texts = used.iter().map(|(name, amount)| (name.clone(), text(name, amount))).collect();
    let some = |texts: Texts| Some(texts).filter(|t| !t.is_empty());
    ResourceQuotaStatus { hard: some(hard), used: some(written) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;
    use serde_json::json;

    fn quota(hard: Value, used: Value) -> ResourceQuota {
        let object = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}});
        serde_json::from_value(object).expect("a quota")
    }

    fn hard(quota: &ResourceQuota) -> Texts {
        quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default()
    }

    #[test]
    fn what_must_be_looked_at() {
        let q = quota(
            json!({"pods": "1", "secrets": "1", "count/jobs.batch": "1", "services": "1", "services.nodeports": "1", "odd": "1"}),
            json!({}),
        );
        let said = |scoped| {
            let all = resources(&hard(&q), scoped);
            all.into_iter()
                .map(|((_, plural), look)| format!("{plural}:{look}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(said(false), "pods:false secrets:false services:true jobs:false");
        assert_eq!(said(true), "pods:true secrets:true services:true jobs:true");
    }

    #[test]
    fn sums() {
        let q = quota(json!({"pods": "9", "requests.cpu": "9", "limits.cpu": "9"}), json!({}));
        let pod = |cpu: &str, phase: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}, "status": {"phase": phase}});
        let pods = [pod("1", "Running"), pod("500m", "Pending"), pod("4", "Failed")];
        let used = sum(&json!({}), &hard(&q), &(String::new(), "pods".into()), &pods, now());
        assert_eq!(machinery::quota::pretty(&used), "limits.cpu=0,pods=2,requests.cpu=1500m");
        let used = sum(
            &json!({"scopes": ["Terminating"]}),
            &hard(&q),
            &(String::new(), "pods".into()),
            &pods,
            now(),
        );
        assert_eq!(machinery::quota::pretty(&used), "limits.cpu=0,pods=0,requests.cpu=0");
    }

    #[test]
    fn what_is_said_and_when_it_takes_a_closer_look() {
        let q = quota(json!({"pods": "9", "secrets": "9"}), json!({"pods": "5000m", "secrets": "1"}));
        let used = |pods: i64, secrets: i64| -> Amounts {
            [("pods", pods), ("secrets", secrets)]
                .map(|(n, v)| (n.to_string(), Quantity::new(v, Format::DecimalSi)))
                .into()
        };
        let said = |used: &Amounts| {
            let written = status(&q, used).used.unwrap();
            format!("pods={} secrets={} {}", written["pods"].0, written["secrets"].0, less(&q, used))
        };
        assert_eq!(said(&used(3, 2)), "pods=3 secrets=2 true");
        assert_eq!(said(&used(5, 1)), "pods=5000m secrets=1 false");
        assert_eq!(said(&used(6, 0)), "pods=6 secrets=0 true");
        assert_eq!(said(&used(6, 1)), "pods=6 secrets=1 false");
    }

    #[test]
    fn what_was_charged() {
        let hard = json!({"pods": "9", "requests.cpu": "9", "secrets": "9"});
        let at = |pods: &str, cpu: &str, secrets: &str| {
            quota(hard.clone(), json!({"pods": pods, "requests.cpu": cpu, "secrets": secrets}))
        };
        let said = |old: Option<&ResourceQuota>, new: &ResourceQuota| {
            charged(old, new).into_iter().map(|(_, plural)| plural).collect::<Vec<_>>().join(" ")
        };
        let before = at("1", "500m", "1");
        assert_eq!(said(None, &before), "pods secrets");
        assert_eq!(said(Some(&before), &at("1", "500m", "1")), "");
        assert_eq!(said(Some(&before), &at("0", "600m", "1")), "pods");
        assert_eq!(said(Some(&before), &at("0", "0", "2")), "secrets");
        assert_eq!(said(Some(&quota(hard.clone(), json!({}))), &before), "pods secrets");
    }
}
