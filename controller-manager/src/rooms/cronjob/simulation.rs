//! Random histories of a CronJob: caches that lag, writes that fail or are not answered, leaders that change and whose
//! clocks are ten minutes off and jump, Jobs that end or hang or are taken away. Whatever happens no time is run twice,
//! a policy of one at a time holds, nothing starts after its deadline; and once all is quiet every time is run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::plan::{Made, Observed, forgotten, plan};
use super::tests::cron;
use super::{Pending, enlist, strike};
use crate::kit::meta::{name, uid};
use crate::rooms::job::finished;
use crate::testing::{caught, time};
use control::events::reference;

/// What the API server has.
#[derive(Clone, PartialEq)]
struct State {
    cron: CronJob,
    version: u64,
    jobs: BTreeMap<String, Job>,
}

struct World {
    rng: StdRng,
    state: State,
    now: Timestamp,
    /// How far the leader's clock is off.
    skew: SignedDuration,
    past: Vec<State>,
    /// Where the caches of CronJobs and Jobs are.
    caches: [usize; 2],
    /// The newest status the leader knows it has written.
    wrote: u64,
    pending: Vec<Pending>,
    uids: u32,
    /// The times Jobs were made for.
    ran: BTreeSet<Timestamp>,
    faults: bool,
    /// What the check would find if it were a policy that is not the CronJob's.
    policy: Option<&'static str>,
    wrong: Option<String>,
}

fn ended(job: &mut Job, kind: &str, at: Timestamp) {
    let condition = serde_json::json!({"type": kind, "status": "True"});
    let status = job.status.get_or_insert_default();
    status.conditions = Some(vec![serde_json::from_value(condition).unwrap()]);
    status.completion_time = (kind == "Complete").then_some(Time(at));
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let policy = ["Allow", "Forbid", "Replace"][rng.random_range(0..3)];
        let schedule = ["* * * * *", "*/2 * * * *", "*/7 * * * *", "@every 90s"][rng.random_range(0..4)];
        let mut spec = format!("schedule: '{schedule}', concurrencyPolicy: {policy}");
        // With a deadline shorter than the interval nothing that counts from the last time is ever due: upstream's rule.
        if rng.random_ratio(1, 3) && !schedule.starts_with('@') {
            spec += &format!(", startingDeadlineSeconds: {}", rng.random_range(1..8) * 20);
        }
        let kept = (rng.random_range(0..3), rng.random_range(0..2));
        spec += &format!(", successfulJobsHistoryLimit: {}, failedJobsHistoryLimit: {}", kept.0, kept.1);
        let state = State { cron: cron(&spec, ""), version: 1, jobs: BTreeMap::new() };
        Self {
            rng,
            past: vec![state.clone()],
            state,
            now: time("2026-01-01T09:10:00Z").0,
            skew: SignedDuration::ZERO,
            caches: [0; 2],
            wrote: 0,
            pending: Vec::new(),
            uids: 0,
            ran: BTreeSet::new(),
            faults: true,
            policy: None,
            wrong: None,
        }
    }

    fn chance(&mut self, of: u32) -> bool {
        self.rng.random_ratio(1, of)
    }

    fn fails(&mut self) -> bool {
        self.faults && self.chance(8)
    }

    fn moved(&mut self) {
        self.state.version += 1;
        self.past.push(self.state.clone());
    }

    /// Another leader, with caches just filled and nothing remembered; or the same with its clock set.
    fn lead(&mut self, anew: bool) {
        self.skew = SignedDuration::from_secs(self.rng.random_range(-600..=600));
        if anew {
            self.caches = [self.past.len() - 1; 2];
            self.wrote = 0;
            self.pending.clear();
        }
    }

    fn see(&mut self, all: bool) {
        let last = self.past.len() - 1;
        for at in 0..2 {
            self.caches[at] = if all { last } else { self.rng.random_range(self.caches[at]..=last) };
        }
    }

    /// Jobs begin, end, and are taken away.
    fn live(&mut self, calm: bool) {
        let names: Vec<_> = self.state.jobs.keys().cloned().collect();
        let Some(called) = names.get(self.rng.random_range(0..names.len().max(1))).cloned() else { return };
        let (draw, now) = (self.rng.random_range(0..8), self.now);
        // One that the status does not know of is all that tells of its time: whoever takes it away asks for another.
        let known = !forgotten(&self.state.cron, &self.state.jobs[&called]);
        let job = self.state.jobs.get_mut(&called).unwrap();
        match draw {
            0 if !calm && known && finished(job) => drop(self.state.jobs.remove(&called)),
            0..=3 if !finished(job) => ended(job, "Complete", now),
            4 if !finished(job) => ended(job, "Failed", now),
            _ if calm && !finished(job) => ended(job, "Complete", now),
            _ => return,
        }
        self.moved();
    }

    fn clock(&self) -> Timestamp {
        self.now + self.skew
    }

    /// One look of the controller, as the room does it. Answers whether it went through.
    fn look(&mut self) -> bool {
        let seen = &self.past[self.caches[0]];
        if seen.version < self.wrote {
            return false;
        }
        let (cron, base) = (seen.cron.clone(), self.caches[0]);
        let jobs = self.past[self.caches[1]].jobs.clone();
        let listed = cron.status.iter().flat_map(|s| s.active.iter().flatten());
        let there = |id: &str, jobs: &BTreeMap<String, Job>| jobs.values().any(|j| uid(&j.metadata) == id);
        let missing = listed
            .filter_map(|r| r.uid.clone())
            .filter(|id| !there(id, &jobs) && !there(id, &self.state.jobs));
        let missing = missing.collect();
        let made = self.pending.iter().filter_map(|one| {
            let live = self.state.jobs.get(&one.name);
            let job = live.filter(|j| !finished(j)).map(reference);
            (live.is_some() || one.sure).then_some(Made { job, at: one.at })
        });
        let made = made.collect();
        let clock = self.clock();
        let observed =
            Observed { cron: &cron, jobs: jobs.values().collect(), missing, zone: TimeZone::UTC, made };
        let decided = plan(&observed, clock);
        let old: Vec<Job> = decided.old.into_iter().cloned().collect();
        let (mut status, replace, make) = (decided.status, decided.replace, decided.make);
        let mut tried = old.iter().all(|job| self.delete(&mut status, job));
        for active in &replace {
            if !tried {
                break;
            }
            let live = self.state.jobs.get(active.name.as_deref().unwrap()).cloned();
            match live {
                Some(job) => tried &= self.delete(&mut status, &job),
                None => strike(&mut status, active.uid.as_deref().unwrap()),
            }
        }
        if let Some((job, at)) = make.filter(|_| tried) {
            tried = self.make(&mut status, &cron, job, at, clock);
        }
        self.write(base, status) && {
            if tried {
                self.pending.clear();
            }
            tried
        }
    }

    fn delete(&mut self, status: &mut CronJobStatus, job: &Job) -> bool {
        if self.fails() {
            return false;
        }
        let called = name(&job.metadata);
        if self.state.jobs.get(called).is_some_and(|held| held.metadata.uid == job.metadata.uid) {
            self.state.jobs.remove(called);
            self.moved();
        }
        if self.fails() {
            return false;
        }
        strike(status, uid(&job.metadata));
        true
    }

    fn pend(&mut self, called: &str, at: Timestamp, sure: bool) {
        self.pending.retain(|one| one.name != called);
        self.pending.push(Pending { name: called.into(), at, sure });
    }

    fn make(
        &mut self,
        status: &mut CronJobStatus,
        cron: &CronJob,
        mut job: Job,
        at: Timestamp,
        clock: Timestamp,
    ) -> bool {
        if self.fails() {
            return false;
        }
        let called = name(&job.metadata).to_string();
        self.pend(&called, at, false);
        match self.state.jobs.get(&called) {
            Some(live) if finished(live) => {
                status.last_schedule_time = Some(Time(at));
                return true;
            }
            Some(live) => enlist(status, reference(live)),
            None => {
                self.judge(cron, at, clock);
                self.uids += 1;
                job.metadata.uid = Some(format!("u{}", self.uids));
                job.status.get_or_insert_default().start_time = Some(Time(self.now));
                enlist(status, reference(&job));
                self.state.jobs.insert(called.clone(), job);
                self.moved();
                if self.fails() {
                    return false;
                }
            }
        }
        self.pend(&called, at, true);
        status.last_schedule_time = Some(Time(at));
        true
    }

    /// What has to hold when a Job is made.
    fn judge(&mut self, cron: &CronJob, at: Timestamp, clock: Timestamp) {
        let policy = self.policy.or(cron.spec.concurrency_policy.as_deref()).unwrap_or("Allow");
        let running: Vec<_> =
            self.state.jobs.values().filter(|j| !finished(j)).map(|j| name(&j.metadata)).collect();
        if policy != "Allow" && !running.is_empty() {
            self.wrong = Some(format!("{policy}, and {running:?} run when one for {at} is made"));
        }
        if !self.ran.insert(at) {
            self.wrong = Some(format!("{at} is run twice"));
        }
        let limit = cron.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        if at > clock || limit.is_some_and(|limit| at + limit < clock) {
            self.wrong = Some(format!("made for {at} at {clock}"));
        }
    }

    /// Writes the status over the one it was made from.
    fn write(&mut self, base: usize, status: CronJobStatus) -> bool {
        if self.past[base].cron.status.clone().unwrap_or_default() == status {
            return true;
        }
        let fresh = self.past[base].cron == self.state.cron;
        if !fresh || self.fails() {
            return false;
        }
        self.state.cron.status = Some(status);
        self.moved();
        if self.fails() {
            return false;
        }
        self.wrote = self.state.version;
        true
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(50..400) {
            match self.rng.random_range(0..12) {
                0 => {
                    let anew = self.chance(2);
                    self.lead(anew);
                }
                1 | 2 => self.live(false),
                3..=5 => self.see(false),
                6 => self.now += SignedDuration::from_secs(self.rng.random_range(1..120)),
                _ => drop(self.look()),
            }
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
        }
        self.quiet()
    }

    /// Without faults, and with clocks set right, every time from now on is run.
    fn quiet(&mut self) -> Result<(), String> {
        (self.faults, self.skew) = (false, SignedDuration::ZERO);
        // What ran ahead of its time must be over.
        self.now += SignedDuration::from_secs(1200);
        let begin = self.now + SignedDuration::from_secs(120);
        let end = begin + SignedDuration::from_secs(1800);
        while self.now < end {
            self.now += SignedDuration::from_secs(10);
            while self.state.jobs.values().any(|j| !finished(j)) {
                self.live(true);
            }
            for _ in 0..4 {
                self.see(true);
                self.look();
            }
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
        }
        let schedule = machinery::cron::Schedule::parse(&self.state.cron.spec.schedule).unwrap();
        let last = self.state.cron.status.as_ref().and_then(|s| s.last_schedule_time.clone());
        // An interval counts from the last time.
        let every = self.state.cron.spec.schedule.starts_with('@');
        let before = self.ran.range(..begin).next_back().copied();
        let mut at = before.filter(|_| every).unwrap_or(begin);
        while let Some(next) = schedule.next(at, &TimeZone::UTC).filter(|t| *t <= self.now) {
            if !self.ran.contains(&next) {
                return Err(format!("{next} was not run"));
            }
            at = next;
        }
        let running = self.state.cron.status.as_ref().and_then(|s| s.active.as_ref()).map_or(0, Vec::len);
        match last.is_some_and(|last| last.0 == at) && running <= 1 {
            true => Ok(()),
            false => Err(format!("the status has not noticed: {:?}", self.state.cron.status)),
        }
    }
}

/// Seeds run by default: about a second.
const SEEDS: u64 = 40;

#[test]
fn histories() {
    crate::testing::histories(SEEDS, |seed| World::new(seed).run());
}

#[test]
fn the_check_is_awake() {
    assert!(caught(50, |seed| World { policy: Some("Forbid"), ..World::new(seed) }.run()));
}
