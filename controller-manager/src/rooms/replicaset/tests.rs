use std::collections::HashMap;

use expect_test::{Expect, expect};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::Pod;

use super::kinds::{Replicas, Spec};
use super::plan::{Observed, Trouble, again, manage, status};
use crate::testing::{now, pod};

fn set(replicas: i32, min_ready: i32) -> ReplicaSet {
    let mut set = ReplicaSet::default();
    set.metadata.name = Some("web".into());
    set.metadata.uid = Some("u".into());
    set.metadata.generation = Some(1);
    set.spec = Some(ReplicaSetSpec {
        replicas: Some(replicas),
        min_ready_seconds: Some(min_ready),
        ..ReplicaSetSpec::default()
    });
    set
}

/// The plan for a set of `replicas` and pods, as text.
fn check(replicas: i32, min_ready: i32, settled: bool, pods: &[&str], expected: Expect) {
    let set = set(replicas, min_ready);
    let spec: Spec = set.wants().unwrap();
    let pods: Vec<Pod> = pods.iter().map(|t| pod(t)).collect();
    let observed = Observed {
        meta: &set.metadata,
        spec: &spec,
        status: set.says(),
        pods: pods.iter().collect(),
        neighbours: HashMap::from([("crowded".to_string(), 5)]),
        settled,
    };
    let status = status(&observed, None, now());
    let text = format!(
        "{:?}\n{} active, {} ready, {} available, {} terminating; again {:?}\n",
        manage(&observed, now()),
        status.replicas,
        status.ready,
        status.available,
        status.terminating.unwrap(),
        again(&observed, &status, now())
    );
    expected.assert_eq(&text);
}

#[test]
fn too_few_too_many_just_right() {
    check(
        3,
        0,
        true,
        &["a Running node=n ready"],
        expect![[r#"
        Create(2)
        1 active, 1 ready, 1 available, 0 terminating; again None
    "#]],
    );
    check(
        1,
        0,
        true,
        &["a Running node=n ready", "b Pending", "c Running node=n"],
        expect![[r#"
            Delete(["b", "c"])
            3 active, 1 ready, 1 available, 0 terminating; again None
        "#]],
    );
    check(
        1,
        0,
        true,
        &["a Running node=n ready"],
        expect![[r#"
        Nothing
        1 active, 1 ready, 1 available, 0 terminating; again None
    "#]],
    );
}

#[test]
fn finished_and_terminating_pods_do_not_count() {
    check(
        2,
        0,
        true,
        &["a Failed node=n", "b Running node=n ready deleting", "c Running node=n ready"],
        expect![[r#"
        Create(1)
        1 active, 1 ready, 1 available, 1 terminating; again None
    "#]],
    );
}

#[test]
fn unsettled_writes_hold_back_but_status_is_counted() {
    check(
        3,
        0,
        false,
        &["a Running node=n ready"],
        expect![[r#"
        Nothing
        1 active, 1 ready, 1 available, 0 terminating; again None
    "#]],
    );
}

#[test]
fn the_crowded_node_loses_first() {
    check(
        1,
        0,
        true,
        &["a Running node=free ready", "b Running node=crowded ready"],
        expect![[r#"
        Delete(["b"])
        2 active, 2 ready, 2 available, 0 terminating; again None
    "#]],
    );
}

#[test]
fn min_ready_is_waited_for() {
    check(
        1,
        30,
        true,
        &["a Running node=n ready=2026-01-01T09:59:50Z"],
        expect![[r#"
        Nothing
        1 active, 1 ready, 0 available, 0 terminating; again Some(20s)
    "#]],
    );
}

#[test]
fn a_failure_is_noted_and_cleared() {
    let set = set(1, 0);
    let spec = set.wants().unwrap();
    let observed = |status, settled| Observed {
        meta: &set.metadata,
        spec: &spec,
        status,
        pods: Vec::new(),
        neighbours: HashMap::new(),
        settled,
    };
    let trouble = Trouble { creating: true, message: "quota".into() };
    let failed = status(&observed(set.says(), true), Some(&trouble), now());
    assert_eq!(failed.conditions[0].reason.as_deref(), Some("FailedCreate"));
    let still = status(&observed(failed.clone(), false), None, now());
    assert_eq!(still.conditions.len(), 1);
    assert!(status(&observed(failed, true), None, now()).conditions.is_empty());
}
