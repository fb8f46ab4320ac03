//! Rules one by one: a Job as YAML, its pods as lines, and what is decided and written, as text.

use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};

use super::backoff::{Record, remaining};
use super::plan::{Act, decide};
use super::pods::{FAILURES, FINALIZER, IGNORED, INDEX, finish_time, make};
use super::tally::{Acted, conclude, settle, tally};
use super::view::{Observed, View};
use crate::kit::meta::name;
use crate::testing::{now, pod as plain_pod, time};

/// The Job `j` with a spec and a status in YAML.
pub fn job(spec: &str, status: &str) -> Job {
    let text = format!(
        "{{metadata: {{name: j, namespace: ns, uid: u}}, spec: {{template: {{spec: {{containers: [{{name: c}}], restartPolicy: Never}}}}, {spec}}}, status: {{{status}}}}}"
    );
    serde_yaml::from_str(&text).expect("a job")
}

/// As [`plain_pod`], with `[i=INDEX] [exit=CODE[@TIME]] [fails=N] [ignored=N] [condition=TYPE] [untracked]`.
fn pod(text: &str) -> Pod {
    let (mut own, mut rest) = (Vec::new(), Vec::new());
    for word in text.split_whitespace() {
        let key = word.split('=').next().unwrap_or_default();
        let ours = ["i", "exit", "fails", "ignored", "condition", "untracked"].contains(&key);
        if ours { own.push(word) } else { rest.push(word) }
    }
    let mut pod = plain_pod(&rest.join(" "));
    pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
    for word in own {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let annotations = pod.metadata.annotations.get_or_insert_default();
        let status = pod.status.as_mut().unwrap();
        match key {
            "i" => drop(annotations.insert(INDEX.into(), value.into())),
            "fails" => drop(annotations.insert(FAILURES.into(), value.into())),
            "ignored" => drop(annotations.insert(IGNORED.into(), value.into())),
            "untracked" => pod.metadata.finalizers = None,
            "exit" => {
                let (code, at) = value.split_once('@').unwrap_or((value, "2026-01-01T09:50:00Z"));
                let ended = ContainerStateTerminated {
                    exit_code: code.parse().unwrap(),
                    finished_at: Some(time(at)),
                    ..Default::default()
                };
                let state = ContainerState { terminated: Some(ended), ..Default::default() };
                status.container_statuses = Some(vec![ContainerStatus {
                    name: "c".into(),
                    state: Some(state),
                    ..Default::default()
                }]);
            }
            _ => status.conditions.get_or_insert_default().push(PodCondition {
                type_: value.into(),
                status: "True".into(),
                ..Default::default()
            }),
        }
    }
    pod
}

fn observed(job: Job, pods: &[&str]) -> Observed {
    let pods = pods.iter().map(|t| Arc::new(pod(t))).collect();
    Observed { job, pods, settled: true, ..Observed::default() }
}

fn names(pods: &[&Pod]) -> String {
    pods.iter().map(|p| name(&p.metadata)).collect::<Vec<_>>().join(" ")
}

fn status_text(status: &JobStatus) -> String {
    let mut value = serde_json::to_value(status).unwrap();
    let conditions = value.as_object_mut().and_then(|o| o.remove("conditions"));
    let mut text = value.to_string();
    for c in conditions.iter().flat_map(|c| c.as_array().into_iter().flatten()) {
        let word = |k: &str| c[k].as_str().unwrap_or_default().to_string();
        write!(text, "\n{}={} {}: {}", word("type"), word("status"), word("reason"), word("message"))
            .unwrap();
    }
    text
}

/// Everything one look decides and writes, supposing that all goes well.
fn look(observed: &Observed, now: Timestamp) -> String {
    let view = View::of(observed, now).unwrap();
    let decision = decide(&view, now);
    let mut text = String::new();
    let acted = match &decision.act {
        Act::Nothing => Acted::default(),
        Act::Remove(pods) | Act::Clear(pods) => {
            writeln!(
                text,
                "{} {}",
                if matches!(decision.act, Act::Clear(_)) { "clear" } else { "remove" },
                names(pods)
            )
            .unwrap();
            Acted { deleted: pods.len() as i32, ..Acted::default() }
        }
        Act::Make(what) => {
            writeln!(text, "make {what:?}").unwrap();
            Acted { made: what.len() as i32, ..Acted::default() }
        }
    };
    let mut tally = tally(&view, &decision, &acted, now);
    writeln!(text, "{}", status_text(&tally.status)).unwrap();
    if !tally.free.is_empty() {
        writeln!(text, "free {}", names(&tally.free)).unwrap();
    }
    let mut status = tally.status.clone();
    let held: Vec<_> =
        view.open().filter(|p| !tally.free.iter().any(|f| f.metadata.uid == p.metadata.uid)).collect();
    settle(&mut status, &|uid| held.iter().any(|p| p.metadata.uid.as_deref() == Some(uid)));
    tally.events.extend(conclude(&observed.job, &tally, &mut status, now));
    if status != tally.status {
        writeln!(text, "then {}", status_text(&status)).unwrap();
    }
    for (kind, reason, message) in &tally.events {
        writeln!(text, "event {} {reason}: {message}", kind.as_str()).unwrap();
    }
    if let Some(again) = decision.again {
        writeln!(text, "again in {}s", again.as_secs_f64()).unwrap();
    }
    text
}

fn check(spec: &str, status: &str, pods: &[&str], expected: Expect) {
    expected.assert_eq(&look(&observed(job(spec, status), pods), now()));
}

const STARTED: &str = "startTime: '2026-01-01T09:00:00Z', uncountedTerminatedPods: {}";

fn started(more: &str) -> String {
    format!("{STARTED}, {more}")
}

#[test]
fn a_new_job_starts() {
    check(
        "completions: 5, parallelism: 2, backoffLimit: 6",
        "",
        &[],
        expect![[r#"
        make [(None, None), (None, None)]
        {"active":2,"ready":0,"startTime":"2026-01-01T10:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        "parallelism: 3",
        "",
        &[],
        expect![[r#"
        make [(None, None), (None, None), (None, None)]
        {"active":3,"ready":0,"startTime":"2026-01-01T10:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        "completions: 0",
        "",
        &[],
        expect![[r#"
        {"active":0,"ready":0,"startTime":"2026-01-01T10:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        then {"active":0,"completionTime":"2026-01-01T10:00:00Z","ready":0,"startTime":"2026-01-01T10:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        Complete=True CompletionsReached: Reached expected number of succeeded pods
        event Normal Completed: Job completed
    "#]],
    );
    check(
        "completions: 4, parallelism: 2, completionMode: Indexed",
        "",
        &[],
        expect![[r#"
        make [(Some(0), None), (Some(1), None)]
        {"active":2,"completedIndexes":"","ready":0,"startTime":"2026-01-01T10:00:00Z","succeeded":0,"terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn ends_are_noted_before_pods_are_let_go() {
    check(
        "completions: 3, parallelism: 2",
        &started("active: 2, succeeded: 1"),
        &[
            "a Succeeded node=n exit=0",
            "b Running node=n ready",
            "c Failed node=n exit=1@2026-01-01T09:59:55Z",
        ],
        expect![[r#"
            {"active":1,"ready":1,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{"failed":["uid-c"],"succeeded":["uid-a"]}}
            free a c
            then {"active":1,"failed":1,"ready":1,"startTime":"2026-01-01T09:00:00Z","succeeded":2,"terminating":0,"uncountedTerminatedPods":{}}
        "#]],
    );
    // Noted, and the pod gone: the counter is raised.
    check(
        "completions: 3, parallelism: 2",
        "startTime: '2026-01-01T09:00:00Z', uncountedTerminatedPods: {succeeded: [x], failed: [uid-y]}",
        &["y Failed node=n exit=1"],
        expect![[r#"
            make [(None, None), (None, None)]
            {"active":2,"ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{"failed":["uid-y"]}}
            free y
            then {"active":2,"failed":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
        "#]],
    );
}

#[test]
fn without_completions_one_success_is_the_end() {
    check(
        "parallelism: 3",
        STARTED,
        &["a Succeeded node=n exit=0", "b Running node=n"],
        expect![[r#"
        {"active":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{"succeeded":["uid-a"]}}
        free a
        then {"active":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        "parallelism: 3",
        &started("succeeded: 1"),
        &["b Failed untracked node=n"],
        expect![[r#"
        {"active":0,"ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
        SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        then {"active":0,"completionTime":"2026-01-01T10:00:00Z","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
        SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        Complete=True CompletionsReached: Reached expected number of succeeded pods
        event Normal Completed: Job completed
    "#]],
    );
}

#[test]
fn completion() {
    check(
        "completions: 1",
        STARTED,
        &["a Succeeded node=n exit=0"],
        expect![[r#"
        {"active":0,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{"succeeded":["uid-a"]}}
        SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        free a
        then {"active":0,"completionTime":"2026-01-01T10:00:00Z","ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
        SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        Complete=True CompletionsReached: Reached expected number of succeeded pods
        event Normal Completed: Job completed
    "#]],
    );
    // What is on its way out is waited for.
    check(
        "completions: 1",
        &started(
            "succeeded: 1, conditions: [{type: SuccessCriteriaMet, status: 'True', reason: CompletionsReached, message: m}]",
        ),
        &["a Running untracked deleting node=n"],
        expect![[r#"
            clear 
            {"active":0,"ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":1,"uncountedTerminatedPods":{}}
            SuccessCriteriaMet=True CompletionsReached: m
        "#]],
    );
}

#[test]
fn too_many_pods() {
    check(
        "completions: 9, parallelism: 1",
        STARTED,
        &["a Running node=n ready", "b Pending", "c Running node=n"],
        expect![[r#"
            remove b c
            {"active":1,"ready":1,"startTime":"2026-01-01T09:00:00Z","terminating":2,"uncountedTerminatedPods":{}}
        "#]],
    );
    check(
        "completions: 2, parallelism: 5, completionMode: Indexed",
        STARTED,
        &["a Running node=n ready i=0", "b Running node=n i=0", "c Running node=n i=7", "d Running node=n"],
        expect![[r#"
            remove c d b
            {"active":1,"completedIndexes":"","ready":1,"startTime":"2026-01-01T09:00:00Z","succeeded":0,"terminating":3,"uncountedTerminatedPods":{}}
        "#]],
    );
}

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
fn deadline() {
    check(
        "completions: 3, activeDeadlineSeconds: 3600",
        STARTED,
        &["a Running node=n"],
        expect![[r#"
        clear a
        {"active":0,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":1,"uncountedTerminatedPods":{}}
        FailureTarget=True DeadlineExceeded: Job was active longer than specified deadline
    "#]],
    );
    check(
        "completions: 1, activeDeadlineSeconds: 3601",
        STARTED,
        &["a Running node=n"],
        expect![[r#"
        {"active":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        again in 1s
    "#]],
    );
    check(
        "completions: 1, suspend: true, activeDeadlineSeconds: 1",
        "",
        &[],
        expect![[r#"
        {"active":0,"ready":0,"terminating":0,"uncountedTerminatedPods":{}}
        Suspended=True JobSuspended: Job suspended
        event Normal Suspended: Job suspended
    "#]],
    );
}

#[test]
fn suspend_and_resume() {
    check(
        "completions: 3, parallelism: 3, suspend: true",
        STARTED,
        &["a Running node=n", "b Succeeded node=n exit=0"],
        expect![[r#"
        remove a
        {"active":0,"ready":0,"terminating":1,"uncountedTerminatedPods":{"succeeded":["uid-b"]}}
        Suspended=True JobSuspended: Job suspended
        free b
        then {"active":0,"ready":0,"succeeded":1,"terminating":1,"uncountedTerminatedPods":{}}
        Suspended=True JobSuspended: Job suspended
        event Normal Suspended: Job suspended
    "#]],
    );
    check(
        "completions: 3, suspend: false",
        "conditions: [{type: Suspended, status: 'True', reason: JobSuspended, message: Job suspended}]",
        &[],
        expect![[r#"
            make [(None, None)]
            {"active":1,"ready":0,"startTime":"2026-01-01T10:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
            Suspended=False JobResumed: Job resumed
            event Normal Resumed: Job resumed
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
fn unsettled_writes_hold_back_making_and_ending() {
    let mut observed =
        observed(job("completions: 2", STARTED), &["a Succeeded node=n exit=0", "b Succeeded node=n exit=0"]);
    observed.settled = false;
    expect![[r#"
        {"active":0,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{"succeeded":["uid-a","uid-b"]}}
        free a b
        then {"active":0,"ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":2,"terminating":0,"uncountedTerminatedPods":{}}
    "#]].assert_eq(&look(&observed, now()));
    // A pod that was let go and is still shown as held is not counted again.
    observed.settled = true;
    observed.freed.insert("uid-a".into());
    expect![[r#"
        make [(None, None)]
        {"active":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{"succeeded":["uid-b"]}}
        free b
        then {"active":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
    "#]].assert_eq(&look(&observed, now()));
}

#[test]
fn a_job_being_deleted_lets_its_pods_go() {
    let mut job = job("completions: 2", STARTED);
    job.metadata.deletion_timestamp = Some(time("2026-01-01T09:59:00Z"));
    expect![[r#"
        {"active":1,"ready":0,"startTime":"2026-01-01T09:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        free a
    "#]]
    .assert_eq(&look(&observed(job, &["a Running node=n"]), now()));
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

#[test]
fn finish_times() {
    let at = |text: &str| finish_time(&pod(text)).to_string();
    assert_eq!(at("a Failed exit=1@2026-01-01T09:31:00Z"), "2026-01-01T09:31:00Z");
    assert_eq!(at("a Failed deleting=2026-01-01T09:32:00Z"), "2026-01-01T09:32:00Z");
    assert_eq!(at("a Failed created=2026-01-01T09:33:00Z"), "2026-01-01T09:33:00Z");
}
