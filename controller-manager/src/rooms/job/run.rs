//! One look at a Job, from the decision to the last write. What is written where is behind [`Hands`], so that a
//! simulation goes exactly the same way.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::backoff::Record;
use super::plan::{Act, decide};
use super::pods::make;
use super::tally::{Acted, Note, conclude, settle, tally};
use super::view::{Observed, View};
use crate::kit::meta::uid;
use crate::kit::pods;

/// What a look at a Job writes.
#[async_trait]
pub trait Hands: Send + Sync {
    /// Makes pods, slowly at first; gives how many were made, and what went wrong.
    async fn make(&self, job: &Job, pods: Vec<Pod>) -> (i32, Option<String>);
    /// Deletes pods, letting them go before if their end is not to be counted. Gives those deleted, and what went
    /// wrong.
    async fn remove<'a>(&self, job: &Job, pods: Vec<&'a Pod>, disown: bool)
    -> (Vec<&'a Pod>, Option<String>);
    /// Lets pods go; gives the UIDs of those that are, and what went wrong.
    async fn free(&self, job: &Job, pods: &[&Pod]) -> (HashSet<String>, Option<String>);
    /// Replaces the status of the Job as it is given; answers with the new resource version.
    async fn status(&self, job: &Job) -> anyhow::Result<Option<String>>;
    /// Tells about the Job.
    fn event(&self, job: &Job, note: Note);
}

/// What a look came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub again: Option<Duration>,
    /// The pauses after failures from now on.
    pub backoff: Record,
    /// What was not done, and has to be tried again.
    pub trouble: Option<String>,
    /// What kind of thing was done, as metrics name it.
    pub action: &'static str,
    /// The status as it was left.
    pub status: Option<JobStatus>,
    /// Actions of the failure policy's rules that failed pods met.
    pub handled: Vec<&'static str>,
}

/// Looks, and does.
pub async fn run(observed: &Observed, hands: &dyn Hands, now: Timestamp) -> anyhow::Result<Outcome> {
    let Some(view) = View::of(observed, now) else { return Ok(Outcome::default()) };
    let mut decision = decide(&view, now);
    let mut job = observed.job.clone();
    let act = std::mem::replace(&mut decision.act, Act::Nothing);
    let action = match &act {
        Act::Make(_) => "pods_created",
        Act::Remove(_) => "pods_deleted",
        Act::Nothing if decision.managed => "tracking",
        _ => "reconciling",
    };
    let acted = perform(hands, &job, act).await;
    let tally = tally(&view, &decision, &acted, now);
    let mut outcome = Outcome {
        again: decision.again,
        backoff: view.backoff,
        trouble: acted.trouble,
        action,
        handled: tally.handled.clone(),
        ..Outcome::default()
    };
    write(hands, &mut job, tally.status.clone()).await?;
    tally.events.iter().for_each(|note| hands.event(&job, note.clone()));
    let (freed, trouble) = match tally.free.is_empty() {
        true => Default::default(),
        false => hands.free(&job, &tally.free).await,
    };
    let held: HashSet<&str> = view.open().map(|p| uid(&p.metadata)).filter(|u| !freed.contains(*u)).collect();
    let mut status = job.status.clone().unwrap_or_default();
    settle(&mut status, &|uid| held.contains(uid));
    let last = if trouble.is_none() { conclude(&job, &tally, &mut status, now) } else { Vec::new() };
    write(hands, &mut job, status).await?;
    last.into_iter().for_each(|note| hands.event(&job, note));
    outcome.status = job.status;
    outcome.trouble = outcome.trouble.or(trouble);
    if tally.full {
        outcome.again = Some(Duration::ZERO);
    }
    Ok(outcome)
}

async fn perform(hands: &dyn Hands, job: &Job, act: Act<'_>) -> Acted {
    let gone = |(gone, trouble): (Vec<&Pod>, Option<String>)| Acted {
        deleted: gone.len() as i32,
        deleted_ready: gone.iter().filter(|p| pods::ready(p)).count() as i32,
        made: 0,
        trouble,
    };
    match act {
        Act::Nothing => Acted::default(),
        Act::Remove(pods) => gone(hands.remove(job, pods, true).await),
        Act::Clear(pods) if pods.is_empty() => Acted::default(),
        Act::Clear(pods) => gone(hands.remove(job, pods, false).await),
        Act::Make(what) => {
            let pods = what.into_iter().map(|(index, failures)| make(job, index, failures)).collect();
            let (made, trouble) = hands.make(job, pods).await;
            Acted { made, trouble, ..Acted::default() }
        }
    }
}

/// Writes the status if it says anything new.
async fn write(hands: &dyn Hands, job: &mut Job, status: JobStatus) -> anyhow::Result<()> {
    if job.status.as_ref() == Some(&status) {
        return Ok(());
    }
    job.status = Some(status);
    job.metadata.resource_version = hands.status(job).await?;
    Ok(())
}
