use std::collections::BTreeMap;
use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::identity::ordinal;
use super::plan::{Observed, Plan, plan};
use crate::kit::history;
use crate::kit::meta::{Labels, controller_ref, name};
use crate::testing::{now, pod};

/// `replicas [parallel] [ondelete] [plain] [start=N] [partition=N] [most=N] [ready=N] [claims] [deleted=P] [scaled=P]
/// [going] [image=I] [current=N]`; `plain` is a rolling update without parameters.
pub fn set(text: &str) -> StatefulSet {
    let mut words = text.split_whitespace();
    let replicas: i32 = words.next().unwrap().parse().unwrap();
    let mut set: StatefulSet = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "s", "generation": 1, "resourceVersion": "1"},
        "spec": {
            "replicas": replicas, "serviceName": "svc",
            "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "a"}]}},
        }
    }))
    .unwrap();
    let spec = set.spec.as_mut().unwrap();
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let strategy = spec.update_strategy.as_mut().unwrap();
        let retention = &mut spec.persistent_volume_claim_retention_policy;
        match key {
            "parallel" => spec.pod_management_policy = Some("Parallel".into()),
            "ondelete" => {
                (strategy.type_, strategy.rolling_update) = (Some("OnDelete".into()), None);
            }
            "plain" => strategy.rolling_update = None,
            "start" => {
                spec.ordinals =
                    Some(serde_json::from_value(json!({"start": value.parse::<i32>().unwrap()})).unwrap())
            }
            "partition" => strategy.rolling_update.as_mut().unwrap().partition = value.parse().ok(),
            "most" => {
                let most = value.parse().map_or_else(|_| IntOrString::String(value.into()), IntOrString::Int);
                strategy.rolling_update.as_mut().unwrap().max_unavailable = Some(most);
            }
            "ready" => spec.min_ready_seconds = value.parse().ok(),
            "claims" => {
                spec.volume_claim_templates =
                    Some(vec![serde_json::from_value(json!({"metadata": {"name": "data"}})).unwrap()]);
            }
            "deleted" => retention.get_or_insert_default().when_deleted = Some(value.into()),
            "scaled" => retention.get_or_insert_default().when_scaled = Some(value.into()),
            "going" => set.metadata.deletion_timestamp = Some(crate::testing::time("2026-01-01T09:59:00Z")),
            "image" => spec.template.spec.as_mut().unwrap().containers[0].image = Some(value.into()),
            "current" => set.status.get_or_insert_default().current_replicas = value.parse().ok(),
            other => panic!("unknown word {other}"),
        }
    }
    set
}

/// A revision of the set's template, called by the image.
pub fn revision_of(set: &StatefulSet, number: i64) -> ControllerRevision {
    let template = &set.spec.as_ref().unwrap().template;
    let image = template.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    history::revision(set, Labels::new(), image, number, history::data(template))
}

/// A pod of the set: `ordinal revision` and then as [`pod`] has it.
fn member(set: &StatefulSet, text: &str) -> Pod {
    let (place, rest) = text.split_once(' ').unwrap();
    let (of, rest) = rest.split_once(' ').unwrap();
    let mut made = pod(&format!("web-{place} {rest}"));
    made.metadata.owner_references = Some(vec![controller_ref(set)]);
    let labels = [
        ("app", "web".to_string()),
        ("controller-revision-hash", of.into()),
        ("statefulset.kubernetes.io/pod-name", format!("web-{place}")),
        ("apps.kubernetes.io/pod-index", place.into()),
    ];
    let labels: Labels = labels.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    made.metadata.labels.get_or_insert_default().extend(labels);
    let claims = set.spec.as_ref().unwrap().volume_claim_templates.iter().flatten();
    let volumes = claims.map(|c| {
        let called = name(&c.metadata);
        serde_json::from_value(
            json!({"name": called, "persistentVolumeClaim": {"claimName": format!("{called}-web-{place}")}}),
        )
        .unwrap()
    });
    made.spec.as_mut().unwrap().volumes = Some(volumes.collect());
    made
}

fn claim(text: &str) -> (String, Arc<PersistentVolumeClaim>) {
    let mut words = text.split_whitespace();
    let mut claim = PersistentVolumeClaim::default();
    let called = words.next().unwrap().to_string();
    claim.metadata.name = Some(called.clone());
    claim.metadata.namespace = Some("ns".into());
    for word in words {
        match word.split_once('=') {
            None => claim.metadata.deletion_timestamp = Some(crate::testing::time("2026-01-01T09:59:00Z")),
            Some((kind, owner)) => {
                let api = if kind == "Pod" { "v1" } else { "apps/v1" };
                let (owner, uid) = owner.split_once(':').unwrap();
                claim.metadata.owner_references = Some(vec![
                    serde_json::from_value(json!({"apiVersion": api, "kind": kind, "name": owner, "uid": uid, "controller": true})).unwrap(),
                ]);
            }
        }
    }
    (called, Arc::new(claim))
}

/// The plan for a set of revision `b` (whose pods were of `a`), its pods and claims.
fn planned(text: &str, pods: &[&str], claims: &[&str]) -> Plan {
    let old = set(text);
    let mut set = old.clone();
    set.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0].image = Some("b".into());
    let (current, update) = (revision_of(&old, 1), revision_of(&set, 2));
    let pods: Vec<Pod> = pods.iter().map(|p| member(&set, p)).collect();
    let claims: BTreeMap<_, _> = claims.iter().map(|c| claim(c)).collect();
    let find = |wanted: &str| claims.get(wanted).cloned();
    let spec = set.spec.as_ref().unwrap();
    let pods = pods.iter().collect();
    plan(&Observed { set: &set, spec, pods, current: &current, update: &update, find: &find }, now())
}

fn shows(text: &str, pods: &[&str], expected: Expect) {
    expected.assert_eq(&planned(text, pods, &[]).to_string());
}

const UP: &str = "Running ready node=n";

#[test]
fn names_say_the_place() {
    let table = [
        ("web-0", Some(0)),
        ("web-10", Some(10)),
        ("web-01", None),
        ("web-", None),
        ("web-x", None),
        ("web-0-1", None),
        ("other-0", None),
        ("web", None),
        ("web-2147483647", Some(2147483647)),
        ("web-2147483648", None),
        ("web-+1", None),
    ];
    for (pod, expected) in table {
        assert_eq!(ordinal("web", pod), expected, "{pod}");
    }
}

/// What stages do, in short: `+web-0:b` made of revision b, `-web-1` deleted, `~web-2` updated, claims by name; stages
/// are parted by bars.
fn short(plan: &Plan) -> String {
    let claims = |writes: &[crate::kit::Write]| -> String {
        writes
            .iter()
            .map(|w| {
                format!(
                    "{}{} ",
                    w.name,
                    if w.note.is_empty() { String::new() } else { format!("={}", w.note) }
                )
            })
            .collect()
    };
    let one = |act: &super::plan::Act| {
        use super::plan::What::*;
        let of = act.write.as_ref().map_or("", |w| w.note.as_str());
        let own = match act.what {
            Create => format!("+{}:{of}", act.pod),
            Update => format!("~{}", act.pod),
            Delete => format!("-{}", act.pod),
            Claims => String::new(),
        };
        format!("{}{own} {}", claims(&act.claims), claims(&act.owners)).trim().to_string()
    };
    let stages = plan.stages.iter().map(|s| s.iter().map(one).collect::<Vec<_>>().join(", "));
    stages.collect::<Vec<_>>().join(" | ")
}

#[test]
fn the_order_of_things() {
    let (a, b) = (format!("a {UP}"), format!("b {UP}"));
    let p = |place: i32, what: &str| format!("{place} {what}");
    let up = |of: &str, places: &[i32]| places.iter().map(|n| format!("{n} {of} {UP}")).collect::<Vec<_>>();
    let with = |mut pods: Vec<String>, more: &[String]| {
        pods.extend(more.iter().cloned());
        pods
    };
    let table: Vec<(&str, Vec<String>, &str)> = vec![
        // Made one by one, or all at once.
        ("3", vec![], "+web-0:b"),
        ("3", up("b", &[0]), "+web-1:b"),
        ("3", vec![p(0, "b Pending")], ""),
        ("3", vec![p(0, "b Running")], ""),
        ("3", vec![p(0, &format!("{b} deleting"))], ""),
        ("3 parallel", vec![], "+web-0:b, +web-1:b, +web-2:b"),
        ("3 parallel", vec![p(1, "b Pending")], "+web-0:b, +web-2:b"),
        ("2 start=5", vec![], "+web-5:b"),
        ("2 start=5", up("b", &[5]), "+web-6:b"),
        ("0", vec![], ""),
        // Which revision.
        ("3 partition=1", vec![], "+web-0:a"),
        ("3 partition=1", up("a", &[0]), "+web-1:b"),
        ("3 start=4 partition=1", up("a", &[4]), "+web-5:b"),
        ("3 plain current=2", up("a", &[0]), "+web-1:a"),
        ("3 plain current=2", up("a", &[0, 1]), "+web-2:b"),
        ("3 ondelete current=2", vec![], "+web-0:b"),
        // Finished pods are made anew.
        ("3", with(up("b", &[0]), &[p(1, "b Failed")]), "-web-1"),
        ("3", with(up("b", &[0]), &[p(1, "b Succeeded")]), "-web-1"),
        ("3", with(up("b", &[0]), &[p(1, "b Failed deleting")]), ""),
        ("3 parallel", vec![p(0, "b Failed"), p(2, "b Failed deleting")], "-web-0, +web-1:b"),
        // minReadySeconds (ready since 09:01, now 10:00).
        ("2 ready=10", up("b", &[0]), "+web-1:b"),
        ("2 ready=3600", up("b", &[0]), ""),
        ("2 ready=3600 parallel", up("b", &[0]), "+web-1:b"),
        // Fewer places: the highest goes first, and only when what is below is well.
        ("1", up("b", &[0, 1, 2]), "-web-2"),
        ("1", with(up("b", &[0, 1]), &[p(2, &format!("{b} deleting"))]), ""),
        ("1", with(up("b", &[1, 2]), &[p(0, "b Running")]), ""),
        ("1", with(up("b", &[0, 1]), &[p(2, "b Running")]), "-web-2"),
        ("1", with(up("b", &[0]), &[p(1, "b Running"), p(2, "b Running")]), ""),
        ("1", with(up("b", &[0, 2]), &[p(1, "b Running")]), "-web-2"),
        (
            "1 parallel",
            with(up("b", &[0, 1]), &[p(2, "b Running"), p(3, &format!("{b} deleting"))]),
            "-web-2, -web-1",
        ),
        ("1 parallel", up("b", &[1]), "+web-0:b | -web-1"),
        ("2 start=2", up("b", &[1, 2, 3, 4]), "-web-4"),
        ("2 start=2", up("b", &[1, 2, 3]), "-web-1"),
        // Updates go from the highest place down.
        ("3", up("a", &[0, 1, 2]), "-web-2"),
        ("3", with(up("a", &[0, 1]), &up("b", &[2])), "-web-1"),
        ("3", with(up("a", &[0, 1]), &[p(2, "b Running")]), ""),
        ("3 partition=2", up("a", &[0, 1, 2]), "-web-2"),
        ("3 partition=2", with(up("a", &[0, 1]), &up("b", &[2])), ""),
        ("3 partition=9", up("a", &[0, 1, 2]), ""),
        ("3 start=7 partition=2", up("a", &[7, 8, 9]), "-web-9"),
        ("3 ondelete", up("a", &[0, 1, 2]), ""),
        ("3 parallel", with(up("a", &[0, 1]), &[p(2, &format!("{a} deleting"))]), ""),
        ("3 parallel", with(up("a", &[0, 1]), &[p(2, "b Running")]), ""),
        ("3 parallel", with(up("a", &[0, 1]), &[p(2, "a Running")]), "-web-2"),
        ("3 parallel ready=3600", with(up("a", &[0, 1]), &up("b", &[2])), ""),
        // A broken pod of an old revision that is not next stays (in order): the known case for a hand.
        ("3", with(up("a", &[1, 2]), &[p(0, "a Running")]), ""),
        // Scaling comes before updating.
        ("2", up("a", &[0, 1, 2]), "-web-2"),
        // Several at once.
        ("4 most=2", up("a", &[0, 1, 2, 3]), "-web-3, -web-2"),
        ("4 parallel most=2", with(up("a", &[0, 1, 2]), &[p(3, "b Running")]), "-web-2"),
        ("4 parallel most=2", with(up("a", &[0, 1]), &[p(2, "b Running"), p(3, "b Running")]), ""),
        ("4 parallel most=50%", up("a", &[0, 1, 2, 3]), "-web-3, -web-2"),
        ("3 parallel most=50%", up("a", &[0, 1, 2]), "-web-2"),
        ("3 parallel most=10%", up("a", &[0, 1, 2]), "-web-2"),
        ("4 parallel most=3 partition=2", up("a", &[0, 1, 2, 3]), "-web-3, -web-2"),
        // A set being deleted changes nothing.
        ("3 going", up("a", &[0, 1]), ""),
    ];
    for (text, pods, expected) in table {
        let pods: Vec<_> = pods.iter().map(String::as_str).collect();
        let plan = planned(text, &pods, &[]);
        assert_eq!(short(&plan), expected, "{text} {pods:?}\n{plan}");
    }
}

#[test]
fn claims_come_first_and_follow_their_policy() {
    let pod = |place: i32| format!("{place} b {UP}");
    let table: Vec<(&str, Vec<String>, Vec<&str>, &str)> = vec![
        ("2 claims", vec![], vec![], "data-web-0 +web-0:b"),
        ("2 claims", vec![], vec!["data-web-0"], "+web-0:b"),
        ("2 claims", vec![], vec!["data-web-0 going"], ""),
        ("2 claims", vec![], vec!["data-web-0 Pod=web-0:former"], ""),
        ("2 claims parallel", vec![], vec!["data-web-0 going"], "data-web-1 +web-1:b"),
        // A pending pod whose claim was deleted gets another.
        ("2 claims", vec!["0 b Pending".into()], vec![], "data-web-0"),
        ("1 claims", vec![pod(0)], vec!["data-web-0"], ""),
        ("1 claims deleted=Delete", vec![pod(0)], vec!["data-web-0"], "~web-0 data-web-0=owner set"),
        ("1 claims deleted=Delete", vec![pod(0)], vec!["data-web-0 StatefulSet=web:s"], ""),
        ("1 claims", vec![pod(0)], vec!["data-web-0 StatefulSet=web:s"], "~web-0 data-web-0=owner none"),
        ("1 claims deleted=Delete", vec![pod(0)], vec!["data-web-0 Deployment=x:y"], ""),
        ("1 claims deleted=Delete", vec![], vec!["data-web-0"], "+web-0:b data-web-0=owner set"),
        // The pod that goes for good takes its claim with it, and owns it before it goes.
        (
            "1 claims scaled=Delete",
            vec![pod(0), pod(1)],
            vec!["data-web-0", "data-web-1"],
            "data-web-1=owner pod | -web-1",
        ),
        (
            "1 claims scaled=Delete",
            vec![pod(0), pod(1)],
            vec!["data-web-0", "data-web-1 Pod=web-1:uid-web-1"],
            "-web-1",
        ),
        ("1 claims", vec![pod(0), pod(1)], vec!["data-web-0", "data-web-1"], "-web-1"),
    ];
    for (text, pods, claims, expected) in table {
        let pods: Vec<_> = pods.iter().map(String::as_str).collect();
        let plan = planned(text, &pods, &claims);
        assert_eq!(short(&plan), expected, "{text} {pods:?} {claims:?}\n{plan}");
    }
}

#[test]
fn a_pod_is_made_for_its_place() {
    let plan = planned("1 claims", &[], &[]);
    let made = &plan.stages[0][0].write.as_ref().unwrap().body;
    expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "metadata": {
            "generateName": "web-",
            "labels": {
              "app": "web",
              "apps.kubernetes.io/pod-index": "0",
              "controller-revision-hash": "b",
              "statefulset.kubernetes.io/pod-name": "web-0"
            },
            "name": "web-0",
            "namespace": "ns",
            "ownerReferences": [
              {
                "apiVersion": "apps/v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "StatefulSet",
                "name": "web",
                "uid": "s"
              }
            ]
          },
          "spec": {
            "containers": [
              {
                "image": "b",
                "name": "c"
              }
            ],
            "hostname": "web-0",
            "subdomain": "svc",
            "volumes": [
              {
                "name": "data",
                "persistentVolumeClaim": {
                  "claimName": "data-web-0"
                }
              }
            ]
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(made).unwrap());
}

#[test]
fn an_adopted_pod_gets_its_identity() {
    let old = set("1");
    let mut bare = member(&old, &format!("0 b {UP}"));
    bare.metadata.labels.as_mut().unwrap().remove("apps.kubernetes.io/pod-index");
    let write = super::identity::correct(&old, old.spec.as_ref().unwrap(), &bare, 0).unwrap();
    assert_eq!(
        write.body,
        json!({"metadata": {"uid": "uid-web-0", "labels": {"apps.kubernetes.io/pod-index": "0"}}})
    );
}

#[test]
fn what_the_status_says() {
    shows(
        "4 ready=3600 plain",
        &[
            "0 a Running ready",
            "1 a Running ready=2026-01-01T08:00:00Z",
            "2 b Running",
            "3 b Running ready deleting",
        ],
        expect![[r#"
            why: web-0 is not available yet
            status: 4 pods, 3 ready, 1 available, 2 of a, 1 of b
            again in 60s
        "#]],
    );
    shows(
        "3 plain",
        &["0 a Running ready", "1 a Running ready", "2 a Running ready"],
        expect![[r#"
            why: web-2 is of an old revision
            stage of 1
              delete pods web-2: a
            status: 3 pods, 3 ready, 3 available, 2 of a, 0 of b
        "#]],
    );
    shows(
        "2",
        &["0 b Running ready", "1 b Running ready"],
        expect![[r#"
            why: all is as it should be
            status: 2 pods, 2 ready, 2 available, 2 of b, 2 of b
        "#]],
    );
    shows(
        "2 ondelete",
        &["0 b Running ready", "1 b Running ready"],
        expect![[r#"
            why: all is as it should be
            status: 2 pods, 2 ready, 2 available, 0 of a, 2 of b
        "#]],
    );
}

#[test]
fn the_next_look_is_when_a_pod_becomes_available() {
    let since = now() - SignedDuration::from_secs(4);
    let pods = [format!("0 b Running ready={since}")];
    let plan = planned("2 ready=10", &[&pods[0]], &[]);
    assert_eq!(plan.again.map(|a| a.as_secs()), Some(6));
    let _: Timestamp = now();
}

#[test]
fn a_pod_to_go_that_is_not_available_yet_goes() {
    // Ready for ten seconds of the thirty it takes.
    let fresh = "1 a Running ready=2026-01-01T09:59:50Z node=n";
    let plan = planned("1 ready=30", &[&format!("0 b {UP}"), fresh], &[]);
    assert!(plan.to_string().contains("delete pods web-1"), "{plan}");
}
