//! Rules one by one: a Job as YAML, its pods as lines, and what is decided and written, as text.

mod failures;
mod indexes;

use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};

use super::plan::{Act, decide};
use super::pods::{FAILURES, FINALIZER, IGNORED, INDEX};
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
