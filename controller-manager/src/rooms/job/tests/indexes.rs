//! Indexed Jobs, and which successes are enough.

use expect_test::expect;

use super::super::pods::make;
use super::{STARTED, check, job, started};

#[test]
fn success_policy() {
    let spec = |rules: &str| {
        format!(
            "completions: 5, parallelism: 5, completionMode: Indexed, successPolicy: {{rules: [{rules}]}}"
        )
    };
    let pods = ["a Succeeded node=n exit=0 i=1", "b Running node=n i=2"];
    check(
        &spec("{succeededIndexes: '0'}, {succeededIndexes: '0-2', succeededCount: 1}"),
        STARTED,
        &pods,
        expect![[r#"
        clear b
        {"active":0,"completedIndexes":"1","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":1,"uncountedTerminatedPods":{}}
        SuccessCriteriaMet=True SuccessPolicy: Matched rules at index 1
        free a
    "#]],
    );
    check(
        &spec("{succeededCount: 2}"),
        STARTED,
        &pods,
        expect![[r#"
        make [(Some(0), None), (Some(3), None), (Some(4), None)]
        {"active":4,"completedIndexes":"1","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
        free a
    "#]],
    );
}

#[test]
fn a_smaller_indexed_job_forgets_the_indexes_beyond() {
    check(
        "completions: 2, parallelism: 2, completionMode: Indexed",
        &started("completedIndexes: '0,3', succeeded: 2"),
        &["a Running node=n i=1", "b Running node=n i=2"],
        expect![[r#"
            remove b
            {"active":1,"completedIndexes":"0","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":1,"uncountedTerminatedPods":{}}
        "#]],
    );
}

#[test]
fn pods_are_made_with_their_index() {
    let job = job(
        "completions: 9, completionMode: Indexed, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c}], initContainers: [{name: i}]}}",
        "",
    );
    expect![[r#"
        apiVersion: v1
        kind: Pod
        metadata:
          annotations:
            batch.kubernetes.io/job-completion-index: '7'
            batch.kubernetes.io/job-index-failure-count: '1'
            batch.kubernetes.io/job-index-ignored-failure-count: '2'
          finalizers:
          - batch.kubernetes.io/job-tracking
          generateName: j-7-
          labels:
            a: b
            batch.kubernetes.io/job-completion-index: '7'
          namespace: ns
          ownerReferences:
          - apiVersion: batch/v1
            blockOwnerDeletion: true
            controller: true
            kind: Job
            name: j
            uid: u
        spec:
          containers:
          - env:
            - name: JOB_COMPLETION_INDEX
              valueFrom:
                fieldRef:
                  fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
            name: c
          hostname: j-7
          initContainers:
          - env:
            - name: JOB_COMPLETION_INDEX
              valueFrom:
                fieldRef:
                  fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
            name: i
    "#]]
    .assert_eq(&serde_yaml::to_string(&make(&job, Some(7), Some((1, 2)))).unwrap());
}
