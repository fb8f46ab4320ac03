//! What failures lead to.

use expect_test::expect;

use super::super::backoff::{Record, remaining};
use super::super::pods::finish_time;
use super::{STARTED, check, pod, started};
use crate::testing::{now, time};

#[test]
fn pauses_after_failures() {
    check(
        "completions: 3, parallelism: 1, backoffLimit: 6",
        STARTED,
        &["a Failed node=n exit=1@2026-01-01T09:59:55Z", "b Failed node=n exit=1@2026-01-01T09:59:50Z"],
        expect![[r#"
            {"active":0,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["uid-a","uid-b"]}}
            free a b
            then {"active":0,"failed":2,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
            again in 15s
        "#]],
    );
    let at = |t: &str| time(t).0;
    let waits: Vec<u64> = (0..9).map(|n| remaining(n, at("2026-01-01T10:00:00Z"), now()).as_secs()).collect();
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 320, 600, 600]);
    // A success begins the count anew; failures after it stand.
    let (ok, old, new) = (
        pod("a Succeeded exit=0@2026-01-01T09:30:00Z"),
        pod("b Failed exit=1@2026-01-01T09:20:00Z"),
        pod("c Failed exit=1@2026-01-01T09:40:00Z"),
    );
    let before = Record { failures: 5, last: Some(now()) };
    let after = before.after(&[&ok], &[&old, &new]);
    assert_eq!(after, Record { failures: 1, last: Some(at("2026-01-01T09:40:00Z")) });
    assert_eq!(before.after(&[], &[&new]).failures, 6);
    assert_eq!(before.after(&[], &[]), before);
}

#[test]
fn backoff_limit() {
    check(
        "completions: 3, parallelism: 2, backoffLimit: 1",
        &started("failed: 1"),
        &["a Failed node=n exit=1", "b Running node=n ready"],
        expect![[r#"
            clear b
            {"active":0,"failed":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":1,"uncountedTerminatedPods":{"failed":["uid-a"]}}
            FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit
            free a
            then {"active":0,"failed":2,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":1,"uncountedTerminatedPods":{}}
            FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit
        "#]],
    );
    // Restarts in place count too.
    check(
        "completions: 3, backoffLimit: 2, template: {spec: {containers: [{name: c}], restartPolicy: OnFailure}}",
        STARTED,
        &["a Running node=n restarts=2"],
        expect![[r#"
            clear a
            {"active":0,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":1,"uncountedTerminatedPods":{}}
            FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit
        "#]],
    );
}

#[test]
fn failure_policy() {
    let policy = |rule: &str| {
        format!(
            "completions: 3, parallelism: 2, backoffLimit: 6, podFailurePolicy: {{rules: [{{action: Count, onPodConditions: [{{type: Never, status: 'True'}}]}}, {rule}]}}"
        )
    };
    let pods = ["a Failed node=n exit=42 condition=DisruptionTarget"];
    check(
        &policy("{action: FailJob, onExitCodes: {operator: In, values: [42]}}"),
        STARTED,
        &pods,
        expect![[r#"
        clear 
        {"active":0,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["uid-a"]}}
        FailureTarget=True PodFailurePolicy: Container c for pod ns/a failed with exit code 42 matching FailJob rule at index 1
        free a
        then {"active":0,"failed":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        FailureTarget=True PodFailurePolicy: Container c for pod ns/a failed with exit code 42 matching FailJob rule at index 1
        Failed=True PodFailurePolicy: Container c for pod ns/a failed with exit code 42 matching FailJob rule at index 1
        event Warning PodFailurePolicy: Container c for pod ns/a failed with exit code 42 matching FailJob rule at index 1
    "#]],
    );
    check(
        &policy("{action: FailJob, onExitCodes: {containerName: x, operator: In, values: [42]}}"),
        STARTED,
        &pods,
        expect![[r#"
        make [(None, None), (None, None)]
        {"active":2,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["uid-a"]}}
        free a
        then {"active":2,"failed":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        &policy("{action: FailJob, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}"),
        STARTED,
        &pods,
        expect![[r#"
        clear 
        {"active":0,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["uid-a"]}}
        FailureTarget=True PodFailurePolicy: Pod ns/a has condition DisruptionTarget matching FailJob rule at index 1
        free a
        then {"active":0,"failed":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        FailureTarget=True PodFailurePolicy: Pod ns/a has condition DisruptionTarget matching FailJob rule at index 1
        Failed=True PodFailurePolicy: Pod ns/a has condition DisruptionTarget matching FailJob rule at index 1
        event Warning PodFailurePolicy: Pod ns/a has condition DisruptionTarget matching FailJob rule at index 1
    "#]],
    );
    check(
        &policy("{action: Ignore, onExitCodes: {operator: NotIn, values: [1]}}"),
        STARTED,
        &pods,
        expect![[r#"
        make [(None, None), (None, None)]
        {"active":2,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        free a
    "#]],
    );
}

#[test]
fn replacement() {
    let pods = ["a Running node=n deleting", "b Running node=n"];
    check(
        "completions: 3, parallelism: 2, podReplacementPolicy: TerminatingOrFailed, backoffLimit: 6",
        STARTED,
        &pods,
        expect![[r#"
        make [(None, None)]
        {"active":2,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":1,"uncountedTerminatedPods":{"failed":["uid-a"]}}
        free a
        then {"active":2,"failed":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":1,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        "completions: 3, parallelism: 2, podReplacementPolicy: Failed, backoffLimit: 6",
        STARTED,
        &pods,
        expect![[r#"
        {"active":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":1,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn limits_per_index() {
    let spec = "completions: 3, parallelism: 3, completionMode: Indexed, backoffLimit: 2147483647, backoffLimitPerIndex: 1";
    // The failed pod stays until a new one carries its count on.
    check(
        spec,
        STARTED,
        &["a Failed node=n exit=1 i=1 fails=0", "b Running node=n i=0"],
        expect![[r#"
        make [(Some(1), Some((1, 0))), (Some(2), Some((0, 0)))]
        {"active":3,"completedIndexes":"","failedIndexes":"","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":0,"terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        spec,
        STARTED,
        &[
            "a Failed node=n exit=1 i=1 fails=0",
            "b Running node=n i=0",
            "c Pending i=1 fails=1",
            "d Pending i=2",
        ],
        expect![[r#"
        {"active":3,"completedIndexes":"","failedIndexes":"","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":0,"terminating":0,"uncountedTerminatedPods":{"failed":["uid-a"]}}
        free a
        then {"active":3,"completedIndexes":"","failed":1,"failedIndexes":"","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":0,"terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        spec,
        STARTED,
        &["a Failed node=n exit=1 i=1 fails=1", "b Running node=n i=0", "d Pending i=2"],
        expect![[r#"
        {"active":2,"completedIndexes":"","failedIndexes":"1","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":0,"terminating":0,"uncountedTerminatedPods":{"failed":["uid-a"]}}
        free a
        then {"active":2,"completedIndexes":"","failed":1,"failedIndexes":"1","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":0,"terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        spec,
        &started("completedIndexes: '0,2'"),
        &["a Failed node=n exit=1 i=1 fails=1"],
        expect![[r#"
        clear 
        {"active":0,"completedIndexes":"0,2","failedIndexes":"1","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":2,"terminating":0,"uncountedTerminatedPods":{"failed":["uid-a"]}}
        FailureTarget=True FailedIndexes: Job has failed indexes
        free a
        then {"active":0,"completedIndexes":"0,2","failed":1,"failedIndexes":"1","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":2,"terminating":0,"uncountedTerminatedPods":{}}
        FailureTarget=True FailedIndexes: Job has failed indexes
        Failed=True FailedIndexes: Job has failed indexes
        event Warning FailedIndexes: Job has failed indexes
    "#]],
    );
    check(
        &format!("{spec}, maxFailedIndexes: 0"),
        STARTED,
        &["a Failed node=n exit=1 i=1 fails=1", "b Running node=n i=0"],
        expect![[r#"
        clear b
        {"active":0,"completedIndexes":"","failedIndexes":"1","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":0,"terminating":1,"uncountedTerminatedPods":{"failed":["uid-a"]}}
        FailureTarget=True MaxFailedIndexesExceeded: Job has exceeded the specified maximal number of failed indexes
        free a
        then {"active":0,"completedIndexes":"","failed":1,"failedIndexes":"1","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":0,"terminating":1,"uncountedTerminatedPods":{}}
        FailureTarget=True MaxFailedIndexesExceeded: Job has exceeded the specified maximal number of failed indexes
    "#]],
    );
    let ignore = format!(
        "{spec}, podFailurePolicy: {{rules: [{{action: Ignore, onExitCodes: {{operator: In, values: [3]}}}}, {{action: FailIndex, onExitCodes: {{operator: In, values: [4]}}}}]}}"
    );
    check(
        &ignore,
        STARTED,
        &["a Failed node=n exit=3 i=0 fails=1 ignored=2", "b Failed node=n exit=4 i=1", "c Running i=2"],
        expect![[r#"
        make [(Some(0), Some((1, 3)))]
        {"active":2,"completedIndexes":"","failedIndexes":"1","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":0,"terminating":0,"uncountedTerminatedPods":{"failed":["uid-b"]}}
        free b
        then {"active":2,"completedIndexes":"","failed":1,"failedIndexes":"1","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":0,"terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn finish_times() {
    let at = |text: &str| finish_time(&pod(text)).to_string();
    assert_eq!(at("a Failed exit=1@2026-01-01T09:31:00Z"), "2026-01-01T09:31:00Z");
    assert_eq!(at("a Failed deleting=2026-01-01T09:32:00Z"), "2026-01-01T09:32:00Z");
    assert_eq!(at("a Failed created=2026-01-01T09:33:00Z"), "2026-01-01T09:33:00Z");
}
