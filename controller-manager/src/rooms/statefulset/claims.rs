//! The claims of a place in line, and who owns them: nobody, the set, or the pod that is scaled away.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use crate::kit::Write;
use crate::kit::meta::{controller_ref, name, uid};

/// Finds a claim of the set's namespace by name.
pub type Find<'a> = dyn Fn(&str) -> Option<std::sync::Arc<PersistentVolumeClaim>> + 'a;

/// The name of the claim of a template at a place.
pub fn claim_name(template: &ObjectMeta, set: &str, ordinal: i64) -> String {
    format!("{}-{set}-{ordinal}", name(template))
}

/// Whether a claim's name is one this set gives.
pub fn is_claim_of(set: &StatefulSet, claim: &str) -> bool {
    let templates = set.spec.iter().flat_map(|s| s.volume_claim_templates.iter().flatten());
    templates.into_iter().any(|template| {
        let rest = claim.strip_prefix(name(&template.metadata)).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|pod| super::identity::ordinal(name(&set.metadata), pod).is_some())
    })
}

/// The claims of a place, as they are to be made.
pub fn wanted(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i64) -> Vec<PersistentVolumeClaim> {
    let one = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        let meta = &mut claim.metadata;
        meta.name = Some(claim_name(&template.metadata, name(&set.metadata), ordinal));
        meta.namespace = set.metadata.namespace.clone();
        let selector = spec.selector.match_labels.iter().flatten();
        meta.labels.get_or_insert_default().extend(selector.map(|(k, v)| (k.clone(), v.clone())));
        if Policy::of(spec).deleted {
            meta.owner_references = Some(vec![controller_ref(set)]);
        }
        claim.status = None;
        claim
    };
    spec.volume_claim_templates.iter().flatten().map(one).collect()
}

/// Writes that make the claims of a place which are not there. They have the set for an owner from the first if they
/// are to go with it.
pub fn missing(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i64, find: &Find<'_>) -> Vec<Write> {
    let absent = |claim: &PersistentVolumeClaim| find(name(&claim.metadata)).is_none();
    wanted(set, spec, ordinal).into_iter().filter(absent).map(|claim| Write::create(&claim)).collect()
}

/// Why a pod cannot be made at a place yet: a claim it needs is going, or will go with a former pod of the name.
pub fn hindrance(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i64, find: &Find<'_>) -> Option<String> {
    let pod = super::identity::pod_name(set, ordinal);
    for claim in wanted(set, spec, ordinal) {
        let claim = name(&claim.metadata);
        let Some(there) = find(claim) else { continue };
        if there.metadata.deletion_timestamp.is_some() {
            return Some(format!("pvc {claim} is being deleted"));
        }
        let owners = there.metadata.owner_references.iter().flatten();
        if owners.into_iter().any(|o| o.kind == "Pod" && o.api_version == "v1" && o.name == pod) {
            return Some(format!("pvc {claim} goes with the former pod {pod}"));
        }
    }
    None
}

/// What is to become of claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    deleted: bool,
    scaled: bool,
}

impl Policy {
    fn of(spec: &StatefulSetSpec) -> Self {
        let policy = spec.persistent_volume_claim_retention_policy.as_ref();
        let deletes = |p: Option<&String>| p.is_some_and(|p| p == "Delete");
        Self {
            deleted: deletes(policy.and_then(|p| p.when_deleted.as_ref())),
            scaled: deletes(policy.and_then(|p| p.when_scaled.as_ref())),
        }
    }
}

/// Writes that give the claims of a pod the owners the retention policy asks for. `outside`: the pod's place is no
/// longer wanted. Claims that others control are left alone.
pub fn owners(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    pod: &Pod,
    ordinal: i64,
    outside: bool,
    find: &Find<'_>,
) -> Vec<Write> {
    let policy = Policy::of(spec);
    let one = |claim: PersistentVolumeClaim| {
        let there = find(name(&claim.metadata))?;
        let references = fix(policy, set, pod, outside, &there.metadata)?;
        let mut claim = (*there).clone();
        claim.metadata.owner_references = Some(references);
        let note = if policy.scaled && outside { "owner pod" } else { "owner set" };
        Some(Write::update(&claim).note(
            if claim.metadata.owner_references.iter().flatten().next().is_none() {
                "owner none"
            } else {
                note
            },
        ))
    };
    wanted(set, spec, ordinal).into_iter().filter_map(one).collect()
}

fn names<T: Resource<DynamicType = ()>>(reference: &OwnerReference, object: &T) -> bool {
    reference.kind == T::kind(&())
        && reference.api_version == T::api_version(&())
        && reference.name == name(object.meta())
}

/// The owner references a claim should have, if they are not those it has.
fn fix(
    policy: Policy,
    set: &StatefulSet,
    pod: &Pod,
    outside: bool,
    claim: &ObjectMeta,
) -> Option<Vec<OwnerReference>> {
    let present = claim.owner_references.as_deref().unwrap_or_default();
    let (by_set, by_pod) = (|r: &OwnerReference| names(r, set), |r: &OwnerReference| names(r, pod));
    // A namesake of the set or the pod is a stranger too: what it owns is for the garbage collector.
    let foreign = |r: &OwnerReference| {
        (by_set(r) && r.uid != uid(&set.metadata))
            || (by_pod(r) && r.uid != uid(&pod.metadata))
            || (!by_set(r) && !by_pod(r) && r.controller == Some(true))
    };
    if present.iter().any(foreign) {
        return None;
    }
    let to_pod = policy.scaled && outside;
    let to_set = policy.deleted && !to_pod;
    let mut wanted: Vec<_> = present.iter().filter(|r| !by_set(r) && !by_pod(r)).cloned().collect();
    if to_set {
        wanted.push(controller_ref(set));
    }
    if to_pod {
        wanted.push(controller_ref(pod));
    }
    let has = |owner: &OwnerReference| {
        present.iter().any(|r| r.uid == owner.uid && r.controller == owner.controller)
    };
    (wanted.len() != present.len() || !wanted.iter().all(has)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(policy: &str) -> StatefulSet {
        let (deleted, scaled) = policy.split_once(' ').expect("two words");
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "s"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}}, "template": {},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled},
                "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"a": "b"}}, "spec": {}}],
            }
        }))
        .expect("a set")
    }

    /// Owners as `kind:name:uid[:c]`, `c` for the controller.
    fn references(text: &str) -> Vec<OwnerReference> {
        let one = |word: &str| {
            let parts: Vec<_> = word.split(':').collect();
            OwnerReference {
                kind: parts[0].into(),
                api_version: if parts[0] == "StatefulSet" { "apps/v1" } else { "v1" }.into(),
                name: parts[1].into(),
                uid: parts[2].into(),
                controller: parts.get(3).map(|_| true),
                ..Default::default()
            }
        };
        text.split_whitespace().map(one).collect()
    }

    fn shown(references: &[OwnerReference]) -> String {
        let one = |r: &OwnerReference| {
            format!("{}:{}:{}{}", r.kind, r.name, r.uid, if r.controller == Some(true) { ":c" } else { "" })
        };
        references.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn owners_follow_the_policy() {
        const SET: &str = "StatefulSet:web:s:c";
        const POD: &str = "Pod:web-1:p:c";
        // whenDeleted whenScaled, outside, owners there are, owners there should be (= for: as they are)
        let table = [
            ("Retain Retain", false, "", "="),
            ("Retain Retain", false, SET, ""),
            ("Retain Retain", true, POD, ""),
            ("Delete Retain", false, "", SET),
            ("Delete Retain", false, SET, "="),
            ("Delete Retain", false, "StatefulSet:web:s", SET),
            ("Delete Retain", true, POD, SET),
            ("Retain Delete", false, "", "="),
            ("Retain Delete", false, POD, ""),
            ("Retain Delete", true, "", POD),
            ("Retain Delete", true, POD, "="),
            ("Delete Delete", false, "", SET),
            ("Delete Delete", false, POD, SET),
            ("Delete Delete", true, SET, POD),
            ("Delete Delete", true, POD, "="),
            ("Delete Retain", false, "ConfigMap:x:1", "ConfigMap:x:1 StatefulSet:web:s:c"),
            ("Retain Retain", false, "ConfigMap:x:1", "="),
            ("Delete Retain", false, "ConfigMap:x:1:c", "="),
            ("Delete Retain", false, "StatefulSet:web:other:c", "="),
            ("Retain Delete", false, "Pod:web-1:other:c", "="),
        ];
        let mut pod = Pod::default();
        (pod.metadata.name, pod.metadata.uid) = (Some("web-1".into()), Some("p".into()));
        for (policy, outside, there, expected) in table {
            let set = set(policy);
            let policy_of = Policy::of(set.spec.as_ref().unwrap());
            let claim = ObjectMeta { owner_references: Some(references(there)), ..Default::default() };
            let fixed = fix(policy_of, &set, &pod, outside, &claim);
            let fixed = fixed.map_or_else(|| "=".to_string(), |r| shown(&r));
            assert_eq!(fixed, expected, "{policy} outside={outside} {there}");
        }
    }

    #[test]
    fn claims_have_the_labels_of_the_selector() {
        let set = set("Retain Retain");
        let all = wanted(&set, set.spec.as_ref().unwrap(), 3);
        assert_eq!(all.len(), 1);
        assert_eq!(name(&all[0].metadata), "data-web-3");
        let labels = all[0].metadata.labels.as_ref().unwrap();
        assert_eq!((labels["a"].as_str(), labels["app"].as_str()), ("b", "web"));
        assert_eq!(all[0].metadata.owner_references, None);
        let set = self::set("Delete Retain");
        let all = wanted(&set, set.spec.as_ref().unwrap(), 3);
        assert_eq!(shown(all[0].metadata.owner_references.as_deref().unwrap()), "StatefulSet:web:s:c");
    }

    #[test]
    fn whose_claim() {
        let set = set("Retain Retain");
        for (claim, expected) in
            [("data-web-0", true), ("data-web-x", false), ("data-webb-0", false), ("x-web-0", false)]
        {
            assert_eq!(is_claim_of(&set, claim), expected, "{claim}");
        }
    }
}
