//! The revisions of a DaemonSet's template. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::kit::Write;
use crate::kit::history::{self, POD_HASH, holds, means, next_number};
use crate::kit::meta::{label, name};
use crate::kit::template;
use crate::kit::write::Format;

/// What the history is, or what has to be done before it is.
pub enum History {
    /// The hash of the template in force, and the revisions of other templates, oldest first.
    Settled { hash: String, old: Vec<Arc<ControllerRevision>> },
    /// None keeps the template yet.
    Make(Box<ControllerRevision>),
    /// Writes that bring order in; the history is looked at again after.
    Mend(Vec<Write>),
}

/// Looks at the revisions of a set. `pods` are those it owns.
pub fn history(set: &DaemonSet, mut revisions: Vec<Arc<ControllerRevision>>, pods: &[Arc<Pod>]) -> History {
    history::sort(&mut revisions);
    let bare: Vec<_> = revisions.iter().filter(|r| hash_of(r).is_none()).map(|r| labelled(r)).collect();
    if !bare.is_empty() {
        return History::Mend(bare);
    }
    let template = set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let data = history::data(&template);
    let exact = revisions.iter().any(|r| holds(r, &data));
    let same = |r: &Arc<ControllerRevision>| if exact { holds(r, &data) } else { means(r, &data) };
    let (mut now, old): (Vec<_>, Vec<_>) = revisions.into_iter().partition(same);
    let number = next_number(&old);
    let Some(keep) = now.pop() else {
        return History::Make(Box::new(snapshot(set, number, data)));
    };
    let mut writes = merge(&keep, &now, pods);
    if keep.revision < number {
        writes.push(history::renumbered(&keep, number));
    }
    match hash_of(&keep) {
        Some(hash) if writes.is_empty() => History::Settled { hash: hash.into(), old },
        _ => History::Mend(writes),
    }
}

fn hash_of(revision: &ControllerRevision) -> Option<&str> {
    label(&revision.metadata, POD_HASH).filter(|h| !h.is_empty())
}

/// A revision without its label gets its name for one: a hash made anew could collide.
fn labelled(revision: &ControllerRevision) -> Write {
    let mut revision = revision.clone();
    let called = name(&revision.metadata).to_string();
    revision.metadata.labels.get_or_insert_default().insert(POD_HASH.into(), called);
    Write::update(&revision).note("label")
}

/// Of several revisions of one template the newest stays, and gets the pods of the others before they go.
fn merge(keep: &ControllerRevision, others: &[Arc<ControllerRevision>], pods: &[Arc<Pod>]) -> Vec<Write> {
    let hashes: HashSet<_> = others.iter().filter_map(|r| hash_of(r)).collect();
    let of_others = |pod: &&Arc<Pod>| label(&pod.metadata, POD_HASH).is_some_and(|h| hashes.contains(h));
    let body =
        |pod: &Pod| json!({"metadata": {"uid": pod.metadata.uid, "labels": {POD_HASH: hash_of(keep)}}});
    let moved = pods.iter().filter(of_others).filter(|_| !others.is_empty());
    let moved = moved.map(|pod| Write::patch(&**pod, Format::Strategic, body(pod)).note("relabel"));
    moved.chain(others.iter().map(|r| Write::delete(&**r))).collect()
}

fn snapshot(set: &DaemonSet, number: i64, data: serde_json::Value) -> ControllerRevision {
    let template = set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let collisions = set.status.as_ref().and_then(|s| s.collision_count);
    let hash = template::hash(&template, collisions);
    let mut labels = template.metadata.and_then(|m| m.labels).unwrap_or_default();
    labels.insert(POD_HASH.into(), hash.clone());
    history::revision(set, labels, format!("{}-{hash}", name(&set.metadata)), number, data)
}

/// Old revisions beyond the limit, oldest first, that no living pod is of.
pub fn surplus(set: &DaemonSet, old: &[Arc<ControllerRevision>], pods: &[Arc<Pod>]) -> Vec<Write> {
    let limit = set.spec.as_ref().and_then(|s| s.revision_history_limit).unwrap_or(10).max(0) as usize;
    let live: HashSet<_> = pods.iter().filter_map(|p| label(&p.metadata, POD_HASH)).collect();
    let idle = old.iter().filter(|r| !hash_of(r).is_some_and(|h| live.contains(h)));
    idle.take(old.len().saturating_sub(limit)).map(|r| Write::delete(&**r)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::runtime::RawExtension;

    fn set(image: &str) -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": {"name": "d", "namespace": "ns", "uid": "d"},
            "spec": {"selector": {"matchLabels": {"app": "d"}}, "revisionHistoryLimit": 1,
                "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
        }))
        .expect("a set")
    }

    /// `name:number:image[:bare]`, the hash being the name.
    fn revisions(text: &str) -> Vec<Arc<ControllerRevision>> {
        let one = |word: &str| {
            let parts: Vec<_> = word.split(':').collect();
            let template = set(parts[2]).spec.unwrap().template;
            let mut made = ControllerRevision {
                data: Some(RawExtension(history::data(&template))),
                revision: parts[1].parse().unwrap(),
                ..Default::default()
            };
            made.metadata.name = Some(parts[0].into());
            if parts.len() < 4 {
                made.metadata.labels = Some([(POD_HASH.to_string(), parts[0].to_string())].into());
            }
            Arc::new(made)
        };
        text.split_whitespace().map(one).collect()
    }

    fn pods(text: &str) -> Vec<Arc<Pod>> {
        let one = |(at, hash): (usize, &str)| {
            Arc::new(crate::testing::pod(&format!("p{at} Running l:{POD_HASH}={hash}")))
        };
        text.split_whitespace().enumerate().map(one).collect()
    }

    #[test]
    fn what_is_done() {
        // revisions, image, pods, what is done
        let table = [
            ("", "a", "", "make 1"),
            ("x:1:a", "a", "", "x, old"),
            ("x:1:a y:2:b", "b", "", "y, old x"),
            ("x:1:a y:2:b", "a", "", "update controllerrevisions x: number 3"),
            ("x:1:a y:2:b", "c", "", "make 3"),
            ("x:1:a:bare", "a", "", "update controllerrevisions x: label"),
            (
                "x:1:a y:2:a z:3:b",
                "a",
                "x z y",
                "patch pods p0: relabel, delete controllerrevisions x, update controllerrevisions y: number 4",
            ),
            ("x:1:a y:2:a", "a", "y", "delete controllerrevisions x"),
        ];
        for (there, image, running, expected) in table {
            let found = match history(&set(image), revisions(there), &pods(running)) {
                History::Make(made) => format!("make {}", made.revision),
                History::Mend(writes) => {
                    writes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                }
                History::Settled { hash, old } => {
                    let old: Vec<_> = old.iter().map(|r| name(&r.metadata)).collect();
                    format!("{hash}, old {}", old.join(" ")).trim_end().to_string()
                }
            };
            assert_eq!(found, expected, "{there} {image}");
        }
    }

    #[test]
    fn a_collision_gives_another_name() {
        let mut set = set("a");
        let called = |set: &DaemonSet| name(&snapshot(set, 1, json!({})).metadata).to_string();
        let first = called(&set);
        set.status.get_or_insert_default().collision_count = Some(1);
        assert_ne!(called(&set), first);
        assert!(first.starts_with("d-"));
    }

    #[test]
    fn revisions_of_living_pods_stay() {
        let gone = |there: &str, running: &str| {
            let writes = surplus(&set("z"), &revisions(there), &pods(running));
            writes.iter().map(|w| w.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(gone("x:1:a", ""), "");
        assert_eq!(gone("x:1:a y:2:b w:3:c", ""), "x y");
        assert_eq!(gone("x:1:a y:2:b w:3:c", "x"), "y w");
    }
}
