//! What to do about a Job's pods: at most one kind of thing at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::backoff::remaining;
use super::pods::{
    Failures, failures_before, finish_time, index_of, indexed, only_failed_replaced, rank, valid_index,
};
use super::policy::judge;
use super::view::{View, suspended};
use crate::kit::pods;

/// Pods made or deleted in one go.
pub const BURST: usize = 500;

/// One kind of thing.
#[derive(Debug)]
pub enum Act<'a> {
    Nothing,
    /// Deletes pods whose end is not to be counted.
    Remove(Vec<&'a Pod>),
    /// Deletes what is left of a Job that ends.
    Clear(Vec<&'a Pod>),
    /// Makes pods, each with its index and what is carried on of its predecessors.
    Make(Vec<(Option<i32>, Failures)>),
}

/// The decision.
#[derive(Debug)]
pub struct Decision<'a> {
    pub act: Act<'a>,
    /// Whether the number of pods was looked after at all.
    pub managed: bool,
    pub again: Option<Duration>,
}

/// What to do now.
pub fn decide<'a>(view: &View<'a>, now: Timestamp) -> Decision<'a> {
    let again = view.deadline.filter(|d| !d.is_zero());
    if view.finish.is_some() {
        return Decision { act: Act::Clear(view.active.clone()), managed: false, again };
    }
    if !view.observed.settled || view.observed.job.metadata.deletion_timestamp.is_some() {
        return Decision { act: Act::Nothing, managed: false, again };
    }
    let (act, wait) = manage(view, now);
    let again = wait.into_iter().chain(again).min();
    Decision { act, managed: true, again }
}

fn manage<'a>(view: &View<'a>, now: Timestamp) -> (Act<'a>, Option<Duration>) {
    let active = view.active.len() as i32;
    if suspended(view.spec) {
        return (remove(view.active.clone(), view.active.len()), None);
    }
    let wanted = wanted(view, active);
    let surplus = surplus(view, (active - wanted).max(0) as usize);
    if !surplus.is_empty() {
        let count = surplus.len();
        return (remove(surplus, count), None);
    }
    // Where only ended pods are replaced, those on their way out hold their places.
    let leaving = if only_failed_replaced(view.spec) { view.terminating } else { 0 };
    let room = (wanted - leaving - active).clamp(0, BURST as i32) as usize;
    if room == 0 { (Act::Nothing, None) } else { make(view, room, now) }
}

fn remove(mut pods: Vec<&Pod>, count: usize) -> Act<'_> {
    pods.truncate(count.min(BURST));
    if pods.is_empty() { Act::Nothing } else { Act::Remove(pods) }
}

fn wanted(view: &View<'_>, active: i32) -> i32 {
    let parallelism = view.spec.parallelism.unwrap_or(1);
    match view.spec.completions {
        // Without a number, one success ends the making of pods; those that run may run on.
        None if view.succeeded > 0 => active,
        None => parallelism,
        Some(completions) => (completions - view.succeeded).min(parallelism).max(0),
    }
}

/// At least `count` pods to do without: those of indexes there are not, or twice, then the least useful.
fn surplus<'a>(view: &View<'a>, count: usize) -> Vec<&'a Pod> {
    let (mut going, mut rest) = match indexed(view.spec) {
        true => misplaced(view),
        false => (Vec::new(), view.active.clone()),
    };
    if going.len() < count {
        rest.sort_by_cached_key(|p| rank(p));
        rest.truncate(count - going.len());
        going.extend(rest);
    }
    going
}

fn misplaced<'a>(view: &View<'a>) -> (Vec<&'a Pod>, Vec<&'a Pod>) {
    let (mut going, mut places): (Vec<&Pod>, BTreeMap<i32, Vec<&Pod>>) = Default::default();
    for pod in view.active.iter().copied() {
        match valid_index(pod, view.spec) {
            Some(index) => places.entry(index).or_default().push(pod),
            None => going.push(pod),
        }
    }
    let mut rest = Vec::new();
    for mut same in places.into_values() {
        same.sort_by_cached_key(|p| rank(p));
        rest.extend(same.pop());
        going.extend(same);
    }
    (going, rest)
}

fn make<'a>(view: &View<'a>, room: usize, now: Timestamp) -> (Act<'a>, Option<Duration>) {
    if view.lost.is_none() {
        let wait = view.backoff.wait(now);
        if !wait.is_zero() {
            return (Act::Nothing, Some(wait));
        }
    }
    if !indexed(view.spec) {
        return (Act::Make(vec![(None, None); room]), None);
    }
    let (mut making, mut waits) = (Vec::new(), Vec::new());
    for index in free_indexes(view, room) {
        let wait = index_wait(view, index, now);
        if wait.is_zero() { making.push((Some(index), carried(view, index))) } else { waits.push(wait) }
    }
    let act = if making.is_empty() { Act::Nothing } else { Act::Make(making) };
    (act, waits.into_iter().min())
}

/// The lowest indexes that are neither done, given up nor taken.
fn free_indexes(view: &View<'_>, count: usize) -> Vec<i32> {
    let mut taken = view.done.clone();
    view.active.iter().filter_map(|p| index_of(p)).for_each(|i| taken.add(i));
    if only_failed_replaced(view.spec) {
        let leaving = view.observed.pods.iter().filter(|p| pods::terminating(p));
        leaving.filter_map(|p| index_of(p)).for_each(|i| taken.add(i));
    }
    view.lost.iter().for_each(|lost| taken.merge(lost));
    taken.missing(count, view.spec.completions.unwrap_or(0))
}

fn index_wait(view: &View<'_>, index: i32, now: Timestamp) -> Duration {
    let Some(pod) = view.kept.get(&index) else { return Duration::ZERO };
    let (counted, ignored) = failures_before(pod);
    remaining(counted.saturating_add(ignored).saturating_add(1), finish_time(pod), now)
}

/// What a new pod of an index is told about those before it.
fn carried(view: &View<'_>, index: i32) -> Failures {
    view.lost.as_ref()?;
    let Some(pod) = view.kept.get(&index) else { return Some((0, 0)) };
    let (counted, ignored) = failures_before(pod);
    match judge(view.spec, pod).counts() {
        true => Some((counted.saturating_add(1), ignored)),
        false => Some((counted, ignored.saturating_add(1))),
    }
}
