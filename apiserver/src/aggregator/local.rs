//! Registers the group versions that this server serves itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{GROUP_VERSION, RESOURCE};
use crate::app::App;
use crate::internal;
use crate::registry::val::{get, s_at};

/// Label of APIServices that the server keeps.
pub const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const ON_START: &str = "onstart";

/// Priorities of a group and of its versions, as upstream orders them: the highest first.
type Priorities = (&'static str, i64, &'static [(&'static str, i64)]);

const GROUPS: &[Priorities] = &[
    ("", 18_000, &[("v1", 1)]),
    ("apps", 17_800, &[("v1", 15)]),
    ("events.k8s.io", 17_750, &[("v1", 15)]),
    ("authentication.k8s.io", 17_700, &[("v1", 15)]),
    ("authorization.k8s.io", 17_600, &[("v1", 15)]),
    ("autoscaling", 17_500, &[("v2", 30), ("v1", 15)]),
    ("batch", 17_400, &[("v1", 15)]),
    ("certificates.k8s.io", 17_300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("networking.k8s.io", 17_200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17_100, &[("v1", 15)]),
    ("rbac.authorization.k8s.io", 17_000, &[("v1", 15)]),
    ("storage.k8s.io", 16_800, &[("v1", 15), ("v1beta1", 9)]),
    ("admissionregistration.k8s.io", 16_700, &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)]),
    ("apiextensions.k8s.io", 16_700, &[("v1", 15)]),
    ("scheduling.k8s.io", 16_600, &[("v1", 15), ("v1alpha2", 9)]),
    ("coordination.k8s.io", 16_500, &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)]),
    ("node.k8s.io", 16_300, &[("v1", 15)]),
    ("discovery.k8s.io", 16_200, &[("v1", 15)]),
    ("resource.k8s.io", 16_200, &[("v1", 20), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)]),
    ("flowcontrol.apiserver.k8s.io", 16_100, &[("v1", 21)]),
    ("internal.apiserver.k8s.io", 16_000, &[("v1alpha1", 9)]),
    ("storagemigration.k8s.io", 15_800, &[("v1beta1", 9)]),
];

/// The group that says who serves what stands before all others and is never another server's.
const OWN: &str = "apiregistration.k8s.io";
/// Priorities of custom groups.
const CUSTOM: (i64, i64) = (1000, 100);

/// Priority of a group version that this server serves, and of the version in it.
pub fn priority(group: &str, version: &str) -> (i64, i64) {
    if group == OWN {
        return (i64::MAX, 0);
    }
    built_in(group, version).unwrap_or(CUSTOM)
}

fn built_in(group: &str, version: &str) -> Option<(i64, i64)> {
    let (_, priority, versions) = GROUPS.iter().find(|(name, ..)| *name == group)?;
    versions.iter().find(|(name, _)| *name == version).map(|(_, of_version)| (*priority, *of_version))
}

/// The APIServices for what is served, by name.
pub fn wanted(resources: &[Arc<Resource>]) -> BTreeMap<String, Value> {
    let of = |r: &Arc<Resource>| {
        let (group_priority, version_priority) = built_in(&r.group, &r.version)?;
        let name = format!("{}.{}", r.version, r.group);
        let mut spec = json!({"version": r.version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority});
        if !r.group.is_empty() {
            spec["group"] = r.group.clone().into();
        }
        let object = json!({"apiVersion": GROUP_VERSION, "kind": "APIService", "spec": spec,
            "metadata": {"name": name, "labels": {AUTOMANAGED: ON_START}}});
        Some((name, object))
    };
    resources.iter().filter_map(of).collect()
}

/// What is to be done about one name.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing: it is right, or somebody else's.
    Nothing,
    /// It is missing.
    Create,
    /// It is ours and says something else.
    Update(Box<Value>),
    /// It is ours and no longer served.
    Delete,
}

/// Compares what is stored under a name with what is wanted.
pub fn step(stored: Option<&Value>, wanted: Option<&Value>) -> Step {
    let Some(stored) = stored else { return if wanted.is_some() { Step::Create } else { Step::Nothing } };
    if s_at(stored, &["metadata", "labels", AUTOMANAGED]) != ON_START {
        return Step::Nothing;
    }
    let Some(wanted) = wanted else { return Step::Delete };
    if get(stored, "spec") == get(wanted, "spec") {
        return Step::Nothing;
    }
    let mut new = stored.clone();
    new["spec"] = wanted["spec"].clone();
    Step::Update(Box::new(new))
}

/// Brings the stored APIServices in line, once at the start: who deletes one later means it.
pub async fn register(app: &Arc<App>) -> Result<(), Status> {
    let wanted = wanted(&app.kinds.all());
    let stored: BTreeMap<String, Value> =
        app.reader.list(RESOURCE, "").iter().map(|e| (e.name().to_owned(), e.parse())).collect();
    let names: std::collections::BTreeSet<&String> = wanted.keys().chain(stored.keys()).collect();
    let steps = names.into_iter().map(|name| (name, step(stored.get(name), wanted.get(name))));
    let writes = steps.filter(|(_, step)| *step != Step::Nothing).map(|(name, step)| {
        let object = wanted.get(name).cloned().unwrap_or_default();
        take(app, name, step, object)
    });
    for outcome in futures::future::join_all(writes).await {
        outcome?;
    }
    Ok(())
}

async fn take(app: &Arc<App>, name: &str, step: Step, wanted: Value) -> Result<(), Status> {
    let outcome = match step {
        Step::Nothing => return Ok(()),
        Step::Create => internal::create(app, GROUP_VERSION, "apiservices", "", wanted).await.map(drop),
        Step::Update(new) => internal::update(app, GROUP_VERSION, "apiservices", "", *new).await.map(drop),
        Step::Delete => internal::delete(app, GROUP_VERSION, "apiservices", "", name).await,
    };
    // Another server may have been quicker.
    match outcome {
        Err(status) if !status.is("AlreadyExists") && !status.is("NotFound") => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Vec<Arc<Resource>> {
        machinery::kinds::builtin().to_vec()
    }

    #[test]
    fn every_group_version_is_registered() {
        let all = wanted(&served());
        for group in machinery::kinds::groups().iter().filter(|g| g.group != OWN) {
            let name = format!("{}.{}", group.version, group.group);
            assert!(all.contains_key(&name), "{name}");
        }
        assert_eq!(all.len(), machinery::kinds::groups().len() - 1);
        assert_eq!(
            all["v1."]["spec"],
            json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1})
        );
        assert_eq!(all["v2.autoscaling"]["spec"]["versionPriority"], 30);
    }

    #[test]
    fn priorities_keep_the_order_of_the_table() {
        let order: Vec<_> =
            machinery::kinds::groups().iter().map(|g| (g.group.clone(), g.version.clone())).collect();
        let mut sorted = order.clone();
        sorted.sort_by(|a, b| {
            let (x, y) = (priority(&a.0, &a.1), priority(&b.0, &b.1));
            b.0.is_empty().cmp(&a.0.is_empty()).then(y.0.cmp(&x.0)).then(a.0.cmp(&b.0)).then(y.1.cmp(&x.1))
        });
        assert_eq!(sorted, order);
    }

    #[test]
    fn steps() {
        let wanted = wanted(&served())["v1.apps"].clone();
        let with = |key: &str, value: Value| {
            let mut other = wanted.clone();
            other["spec"][key] = value;
            other
        };
        let mut foreign = with("versionPriority", json!(1));
        foreign["metadata"]["labels"] = json!({});
        assert_eq!(step(None, Some(&wanted)), Step::Create);
        assert_eq!(step(None, None), Step::Nothing);
        assert_eq!(step(Some(&wanted), Some(&wanted)), Step::Nothing);
        assert_eq!(step(Some(&wanted), None), Step::Delete);
        assert_eq!(step(Some(&foreign), Some(&wanted)), Step::Nothing);
        assert_eq!(step(Some(&foreign), None), Step::Nothing);
        let old = with("versionPriority", json!(1));
        assert_eq!(step(Some(&old), Some(&wanted)), Step::Update(Box::new(wanted.clone())));
    }
}
