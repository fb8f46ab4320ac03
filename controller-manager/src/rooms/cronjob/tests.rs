//! Rules one by one, as text.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, Job};

use super::plan::{Observed, plan};
use crate::kit::meta::name;
use crate::testing::now;

pub fn cron(spec: &str, status: &str) -> CronJob {
    let text = format!(
        "{{metadata: {{name: c, namespace: ns, uid: u, creationTimestamp: '2026-01-01T09:00:30Z'}}, spec: {{jobTemplate: {{metadata: {{labels: {{a: b}}}}, spec: {{template: {{spec: {{containers: []}}}}}}}}, {spec}}}, status: {{{status}}}}}"
    );
    serde_yaml::from_str(&text).expect("a cron job")
}

/// `NAME [running|complete|failed] [start] [end]`, the times of a day.
fn job(text: &str) -> Job {
    let mut words = text.split_whitespace();
    let (name, state) = (words.next().unwrap(), words.next().unwrap());
    let time = |t: Option<&str>| t.map_or("null".into(), |t| format!("'2026-01-01T{t}:00Z'"));
    let (start, end) = (time(words.next()), time(words.next()));
    let condition = match state {
        "complete" => "{type: Complete, status: 'True'}",
        "failed" => "{type: Failed, status: 'True'}",
        _ => "",
    };
    let text = format!(
        "{{metadata: {{name: {name}, uid: uid-{name}}}, status: {{startTime: {start}, completionTime: {end}, conditions: [{condition}]}}}}"
    );
    serde_yaml::from_str(&text).expect("a job")
}

fn look(cron: &CronJob, jobs: &[&str], missing: &[&str]) -> String {
    let jobs: Vec<Job> = jobs.iter().map(|t| job(t)).collect();
    let missing = missing.iter().map(|m| m.to_string()).collect();
    let observed =
        Observed { cron, jobs: jobs.iter().collect(), missing, zone: TimeZone::UTC, made: Vec::new() };
    let plan = plan(&observed, now());
    let mut text = String::new();
    for job in &plan.old {
        writeln!(text, "delete {}", name(&job.metadata)).unwrap();
    }
    for active in &plan.replace {
        writeln!(text, "replace {}", active.name.as_deref().unwrap()).unwrap();
    }
    if let Some((job, at)) = &plan.make {
        writeln!(
            text,
            "make {} for {at} {:?}",
            name(&job.metadata),
            job.metadata.annotations.as_ref().unwrap()
        )
        .unwrap();
    }
    for (kind, reason, message) in &plan.events {
        writeln!(text, "event {} {reason}: {message}", kind.as_str()).unwrap();
    }
    if Some(&plan.status) != cron.status.as_ref() {
        writeln!(text, "{}", serde_json::to_string(&plan.status).unwrap()).unwrap();
    }
    if let Some(again) = plan.again {
        writeln!(text, "again in {}s", again.as_secs_f64()).unwrap();
    }
    text
}

fn check(spec: &str, status: &str, expected: Expect) {
    expected.assert_eq(&look(&cron(spec, status), &[], &[]));
}

const ACTIVE: &str = "lastScheduleTime: '2026-01-01T09:55:00Z', active: [{name: c-1, uid: uid-c-1}]";

#[test]
fn due_or_not() {
    check(
        "schedule: '30 12 * * *'",
        "",
        expect![[r#"
        again in 9000.1s
    "#]],
    );
    check(
        "schedule: '0 10 * * *'",
        "",
        expect![[r#"
        make c-29454360 for 2026-01-01T10:00:00Z {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T10:00:00Z"}
        again in 86400.1s
    "#]],
    );
    check(
        "schedule: '*/10 * * * *'",
        "",
        expect![[r#"
        make c-29454360 for 2026-01-01T10:00:00Z {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T10:00:00Z"}
        again in 600.1s
    "#]],
    );
    check(
        "schedule: '*/10 * * * *'",
        "lastScheduleTime: '2026-01-01T10:00:00Z'",
        expect![[r#"
        again in 600.1s
    "#]],
    );
    check(
        "schedule: '@every 25m'",
        "",
        expect![[r#"
        make c-29454350 for 2026-01-01T09:50:30Z {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T09:50:30Z"}
        again in 930.1s
    "#]],
    );
    check(
        "schedule: '0 15 * * *', timeZone: Asia/Kolkata",
        "lastScheduleTime: '2025-12-31T09:30:00Z'",
        expect![[r#"
        make c-29454330 for 2026-01-01T09:30:00Z {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T15:00:00+05:30"}
        again in 84600.1s
    "#]],
    );
    check("schedule: '* * * * *', suspend: true", "", expect![[""]]);
}

#[test]
fn missed_times() {
    check(
        "schedule: '* * * * *'",
        "lastScheduleTime: '2026-01-01T08:19:00Z'",
        expect![[r#"
        make c-29454360 for 2026-01-01T10:00:00Z {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T10:00:00Z"}
        event Warning TooManyMissedTimes: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew
        again in 60.1s
    "#]],
    );
    check(
        "schedule: '* * * * *'",
        "lastScheduleTime: '2026-01-01T08:20:00Z'",
        expect![[r#"
        make c-29454360 for 2026-01-01T10:00:00Z {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T10:00:00Z"}
        again in 60.1s
    "#]],
    );
    check(
        "schedule: '* * * * *', startingDeadlineSeconds: 200",
        "lastScheduleTime: '2026-01-01T01:00:00Z'",
        expect![[r#"
        make c-29454360 for 2026-01-01T10:00:00Z {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T10:00:00Z"}
        again in 60.1s
    "#]],
    );
    check(
        "schedule: '55 * * * *', startingDeadlineSeconds: 200",
        "lastScheduleTime: '2026-01-01T08:55:00Z'",
        expect![[r#"
        again in 3300.1s
    "#]],
    );
}

#[test]
fn concurrency() {
    let with = |policy: &str| format!("schedule: '*/5 * * * *', concurrencyPolicy: {policy}");
    for (policy, want) in [
        (
            "Allow",
            expect![[r#"
            make c-29454360 for 2026-01-01T10:00:00Z {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T10:00:00Z"}
            again in 300.1s
        "#]],
        ),
        (
            "Forbid",
            expect![[r#"
            event Normal JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid
            again in 300.1s
        "#]],
        ),
        (
            "Replace",
            expect![[r#"
            replace c-1
            make c-29454360 for 2026-01-01T10:00:00Z {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T10:00:00Z"}
            again in 300.1s
        "#]],
        ),
    ] {
        want.assert_eq(&look(&cron(&with(policy), ACTIVE), &["c-1 running 09:55"], &[]));
    }
}

#[test]
fn bookkeeping() {
    let spec = "schedule: '0 0 1 1 *'";
    expect![[r#"
        event Normal SawCompletedJob: Saw completed job: c-1, condition: Complete
        {"lastScheduleTime":"2026-01-01T09:55:00Z","lastSuccessfulTime":"2026-01-01T09:58:00Z"}
        again in 31500000.1s
    "#]]
    .assert_eq(&look(&cron(spec, ACTIVE), &["c-1 complete 09:55 09:58"], &[]));
    expect![[r#"
        event Normal SawCompletedJob: Saw completed job: c-1, condition: Failed
        {"lastScheduleTime":"2026-01-01T09:55:00Z"}
        again in 31500000.1s
    "#]]
    .assert_eq(&look(&cron(spec, ACTIVE), &["c-1 failed 09:55"], &[]));
    expect![[r#"
        event Warning UnexpectedJob: Saw a job that the controller did not create or forgot: c-2
        event Normal MissingJob: Active job went missing: c-1
        {"lastScheduleTime":"2026-01-01T09:55:00Z"}
        again in 31500000.1s
    "#]]
    .assert_eq(&look(&cron(spec, ACTIVE), &["c-2 running 09:55"], &["uid-c-1"]));
}

#[test]
fn history() {
    let spec = "schedule: '0 0 1 1 *', successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 0";
    let jobs = [
        "a complete 08:00 08:10",
        "b complete 07:00 07:10",
        "c complete 09:00 09:10",
        "d failed 06:00",
        "e running 05:00",
    ];
    expect![[r#"
        delete b
        delete a
        delete d
        again in 31500000.1s
    "#]]
    .assert_eq(&look(
        &cron(spec, "lastSuccessfulTime: '2026-01-01T09:10:00Z', active: [{name: e, uid: uid-e}]"),
        &jobs,
        &[],
    ));
}

#[test]
fn mistakes_are_told() {
    check(
        "schedule: '61 * * * *'",
        "",
        expect![[r#"
        event Warning UnparseableSchedule: unparseable schedule: "61 * * * *" : end of range (61) above maximum (59): 61
    "#]],
    );
    check(
        "schedule: '0 0 30 2 *'",
        "",
        expect![[r#"
        event Warning InvalidSchedule: invalid schedule: 0 0 30 2 * : time difference between two schedules is less than 1 second
    "#]],
    );
    check(
        "schedule: '* * * * *', timeZone: Mars/Olympus",
        "",
        expect![[r#"
        event Warning UnknownTimeZone: invalid timeZone: "Mars/Olympus": unknown time zone Mars/Olympus
    "#]],
    );
    check(
        "schedule: 'TZ=Asia/Tokyo 30 18 * * *'",
        "",
        expect![[r#"
        make c-29454330 for 2026-01-01T09:30:00Z {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T18:30:00+09:00"}
        event Warning UnsupportedSchedule: CRON_TZ or TZ used in schedule "TZ=Asia/Tokyo 30 18 * * *" is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details
        again in 84600.1s
    "#]],
    );
}
