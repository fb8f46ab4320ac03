//! The history of a workload's templates in ControllerRevisions: what a revision holds, what it is called, which one is
//! in force, and which are too many.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Resource;
use kube::api::Api;
use serde_json::{Value, json};

use super::meta::{Labels, controlled_by, controller_ref, created, cut, fnv1, name, namespace, safe_encode};
use super::template::prune;
use super::write::Failure;
use super::{Context, Write};

/// The label of a revision that carries its hash.
pub const HASH: &str = "controller.kubernetes.io/hash";
/// The label of a pod (and of a DaemonSet's revision) that names the revision it is of.
pub const POD_HASH: &str = "controller-revision-hash";
/// Longest part of the owner's name in a revision's.
const NAME_LIMIT: usize = 223;

/// What a revision keeps: the template, as a strategic merge patch that restores it.
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(members) = template.as_object_mut() {
        members.insert("$patch".into(), "replace".into());
    }
    json!({"spec": {"template": template}})
}

/// The template a revision keeps, if it keeps one.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Whether a revision keeps just this.
pub fn holds(revision: &ControllerRevision, data: &Value) -> bool {
    revision.data.as_ref().is_some_and(|kept| kept.0 == *data)
}

/// Whether a revision means just this: what says nothing (null, an empty list or map) counts for nothing.
pub fn means(revision: &ControllerRevision, data: &Value) -> bool {
    let Some(kept) = template(revision) else { return false };
    let bare = |mut value: Value| {
        prune(&mut value);
        value
    };
    bare(self::data(&kept)) == bare(data.clone())
}

/// Oldest first: by number, then creation, then name.
pub fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by_cached_key(|r| (r.revision, created(&r.metadata), name(&r.metadata).to_string()));
}

/// The number of the next revision.
pub fn next_number<'a>(revisions: impl IntoIterator<Item = &'a Arc<ControllerRevision>>) -> i64 {
    revisions.into_iter().map(|r| r.revision).max().unwrap_or(0) + 1
}

/// The hash of what a revision keeps.
pub fn hash(data: &Value, collisions: Option<i32>) -> String {
    let text = serde_json::to_vec(data).unwrap_or_default();
    let salt = collisions.map(|c| c.to_string()).unwrap_or_default();
    safe_encode(&fnv1(text.into_iter().chain(salt.into_bytes())).to_string())
}

/// A revision's name.
pub fn revision_name(parent: &str, hash: &str) -> String {
    format!("{}-{hash}", cut(parent, NAME_LIMIT))
}

/// A revision of an owner, not yet made.
pub fn revision<T: Resource<DynamicType = ()>>(
    owner: &T,
    labels: Labels,
    name: String,
    number: i64,
    data: Value,
) -> ControllerRevision {
    let meta = owner.meta();
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: meta.annotations.clone(),
            owner_references: Some(vec![controller_ref(owner)]),
            ..Default::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

/// Which revision is in force.
#[derive(Debug, PartialEq)]
pub enum Choice {
    /// The one at this place of the sorted list, which is the newest.
    Use(usize),
    /// An older one holds the same: it becomes the newest by this number.
    Renumber(usize, i64),
    /// None holds it: one of this number has to be made.
    Make(i64),
}

/// Chooses among sorted revisions the one that holds `data`.
pub fn choose(revisions: &[Arc<ControllerRevision>], data: &Value) -> Choice {
    let next = next_number(revisions);
    let Some(last) = revisions.len().checked_sub(1) else { return Choice::Make(next) };
    match revisions.iter().rposition(|r| holds(r, data)) {
        Some(at) if at == last => Choice::Use(last),
        Some(at) => Choice::Renumber(at, next),
        None if means(&revisions[last], data) => Choice::Use(last),
        None => Choice::Make(next),
    }
}

/// The same revision with another number.
pub fn renumbered(revision: &ControllerRevision, number: i64) -> Write {
    let mut revision = revision.clone();
    revision.revision = number;
    Write::update(&revision).note(format!("number {number}"))
}

/// Revisions beyond the limit, oldest first; those `live` says are in use neither count nor go. `revisions` are sorted.
pub fn surplus<'a>(
    revisions: &'a [Arc<ControllerRevision>],
    live: &HashSet<&str>,
    limit: usize,
) -> Vec<&'a ControllerRevision> {
    let idle: Vec<_> = revisions.iter().map(|r| &**r).filter(|r| !live.contains(name(&r.metadata))).collect();
    let many = idle.len().saturating_sub(limit);
    idle.into_iter().take(many).collect()
}

/// How making a revision ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    /// It is there, made now or before.
    There,
    /// Another one has the name: the owner has to count a collision.
    Collision,
}

/// Makes a revision. A name that is taken by one with the same data is as good.
///
/// # Errors
/// The server's, but for a namespace that is going away, where nothing can be made and nothing need be.
pub async fn make(
    context: &Context,
    owner: &ObjectMeta,
    revision: &ControllerRevision,
) -> anyhow::Result<Made> {
    let failure: Failure = match context.writer.send(&Write::create(revision)).await {
        Ok(_) => return Ok(Made::There),
        Err(failure) if failure.namespace_terminating() => return Ok(Made::There),
        Err(failure) => failure,
    };
    if !failure.already_exists() {
        return Err(failure.into());
    }
    let api: Api<ControllerRevision> = Api::namespaced(context.writer.client(), namespace(owner));
    let wanted = name(&revision.metadata);
    let Some(live) = api.get_opt(wanted).await? else { anyhow::bail!("{wanted} came and went") };
    let same = revision.data.as_ref().is_some_and(|data| holds(&live, &data.0));
    if !same {
        return Ok(Made::Collision);
    }
    // Somebody else's, or one that waits to be adopted: the next look shows which.
    anyhow::ensure!(controlled_by(&live.metadata, owner), "{wanted} belongs to another");
    Ok(Made::There)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    fn template_of(image: &str) -> PodTemplateSpec {
        let container = Container { name: "c".into(), image: Some(image.into()), ..Default::default() };
        PodTemplateSpec {
            metadata: None,
            spec: Some(PodSpec { containers: vec![container], ..Default::default() }),
        }
    }

    /// `name:number:image ...`, sorted.
    fn revisions(text: &str) -> Vec<Arc<ControllerRevision>> {
        let one = |word: &str| {
            let parts: Vec<_> = word.split(':').collect();
            let mut made = ControllerRevision {
                data: Some(RawExtension(data(&template_of(parts[2])))),
                revision: parts[1].parse().unwrap(),
                ..Default::default()
            };
            made.metadata.name = Some(parts[0].into());
            Arc::new(made)
        };
        let mut all: Vec<_> = text.split_whitespace().map(one).collect();
        sort(&mut all);
        all
    }

    #[test]
    fn choices() {
        let table = [
            ("", "a", Choice::Make(1)),
            ("x:1:a", "a", Choice::Use(0)),
            ("x:1:a", "b", Choice::Make(2)),
            ("x:1:a y:2:b", "a", Choice::Renumber(0, 3)),
            ("x:1:a y:2:b z:3:a", "a", Choice::Use(2)),
            ("x:1:a y:2:a z:3:b", "a", Choice::Renumber(1, 4)),
            ("z:7:b x:1:a", "c", Choice::Make(8)),
        ];
        for (there, wanted, expected) in table {
            assert_eq!(choose(&revisions(there), &data(&template_of(wanted))), expected, "{there} {wanted}");
        }
    }

    #[test]
    fn what_says_nothing_counts_for_nothing() {
        let mut all = revisions("x:1:a");
        let kept = Arc::make_mut(&mut all[0]).data.as_mut().unwrap();
        kept.0["spec"]["template"]["spec"]["securityContext"] = json!({});
        kept.0["spec"]["template"]["metadata"] = json!({"creationTimestamp": null});
        let wanted = data(&template_of("a"));
        assert!(!holds(&all[0], &wanted));
        assert_eq!(choose(&all, &wanted), Choice::Use(0));
    }

    #[test]
    fn names_and_hashes() {
        let a = data(&template_of("a"));
        assert_eq!(hash(&a, None), hash(&a, None));
        assert_ne!(hash(&a, None), hash(&a, Some(1)));
        assert_ne!(hash(&a, Some(0)), hash(&a, Some(1)));
        assert_ne!(hash(&a, None), hash(&data(&template_of("b")), None));
        assert_eq!(revision_name("web", "h"), "web-h");
        assert_eq!(revision_name(&"w".repeat(250), "h").len(), 225);
    }

    #[test]
    fn a_template_comes_back() {
        let all = revisions("x:1:a");
        assert_eq!(template(&all[0]), Some(template_of("a")));
        assert_eq!(all[0].data.as_ref().unwrap().0["spec"]["template"]["$patch"], "replace");
        assert_eq!(template(&ControllerRevision::default()), None);
    }

    #[test]
    fn the_oldest_idle_ones_are_too_many() {
        let all = revisions("a:1:a b:2:b c:3:c d:4:d e:5:e");
        let gone = |live: &[&str], limit| {
            let live = live.iter().copied().collect();
            surplus(&all, &live, limit).iter().map(|r| name(&r.metadata).to_string()).collect::<Vec<_>>()
        };
        assert_eq!(gone(&["e"], 10), [""; 0]);
        assert_eq!(gone(&["e", "a"], 2), ["b"]);
        assert_eq!(gone(&["e"], 0), ["a", "b", "c", "d"]);
    }
}
