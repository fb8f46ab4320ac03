//! The writes of a look at a Job, sent to the API server.

use std::collections::HashSet;

use async_trait::async_trait;
use control::Key;
use control::events::reference;
use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::observe::Room;
use super::pods::{disown, free, tracked};
use super::run::Hands;
use super::tally::Note;
use crate::kit::meta::{name, uid};
use crate::kit::write::Failure;
use crate::kit::{Write, creation, pods};

#[async_trait]
impl Hands for Room {
    async fn make(&self, job: &Job, pods: Vec<Pod>) -> (i32, Option<String>) {
        let key = Key::of(job);
        self.expectations.expect(&key, pods.len(), []);
        let writes: Vec<Write> = pods.iter().map(|pod| creation::named(&Write::create(pod))).collect();
        let (mut rest, mut batch, mut made) = (writes.as_slice(), 1, 0);
        // Batches of 1, 2, 4, ...: one with a failure is the last.
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            let results = join_all(now.iter().map(|w| self.make_one(&key, job, w))).await;
            made += results.iter().filter(|r| r.is_ok()).count() as i32;
            rest = later;
            if let Some(failure) = results.into_iter().find_map(Result::err) {
                self.expectations.created_many(&key, rest.len());
                return (made, (!failure.namespace_terminating()).then(|| failure.to_string()));
            }
            batch *= 2;
        }
        (made, None)
    }

    async fn remove<'a>(
        &self,
        job: &Job,
        pods: Vec<&'a Pod>,
        disown: bool,
    ) -> (Vec<&'a Pod>, Option<String>) {
        let key = Key::of(job);
        // What is cleared away at the end of a Job goes by itself; other deletions are waited for.
        if disown {
            self.expectations.expect(&key, 0, pods.iter().map(|p| uid(&p.metadata).to_string()));
        }
        let results = join_all(pods.iter().map(|p| self.remove_one(&key, job, p, disown))).await;
        let (mut gone, mut trouble) = (Vec::new(), None);
        for (pod, result) in pods.into_iter().zip(results) {
            match result {
                Ok(()) => gone.push(pod),
                Err(failure) => trouble = Some(failure.to_string()),
            }
        }
        (gone, trouble)
    }

    async fn free(&self, job: &Job, pods: &[&Pod]) -> (HashSet<String>, Option<String>) {
        let key = Key::of(job);
        let results = join_all(pods.iter().map(|p| self.free_one(&key, p))).await;
        let (mut freed, mut trouble) = (HashSet::new(), None);
        for (pod, result) in pods.iter().zip(results) {
            match result {
                Ok(()) => drop(freed.insert(uid(&pod.metadata).to_string())),
                Err(failure) => trouble = Some(failure.to_string()),
            }
        }
        (freed, trouble)
    }

    async fn status(&self, job: &Job) -> anyhow::Result<Option<String>> {
        let answer = self.context.writer.send(&Write::update_status(job)).await?;
        self.seen.wrote(Key::of(job), &answer);
        Ok(answer.metadata.resource_version)
    }

    fn event(&self, job: &Job, (kind, reason, message): Note) {
        self.context.recorder.record(&reference(job), kind, reason, message);
    }
}

impl Room {
    async fn make_one(&self, key: &Key, job: &Job, write: &Write) -> Result<(), Failure> {
        let account = (&self.expectations, &self.doubts);
        let made = creation::pod(&self.context, reference(job), key, write, account).await;
        self.counts.made(job, made.is_ok());
        made
    }

    async fn remove_one(&self, key: &Key, job: &Job, pod: &Pod, disowned: bool) -> Result<(), Failure> {
        let result = self.send_removal(pod, disowned).await;
        match &result {
            Ok(()) => {
                let message = format!("Deleted pod: {}", name(&pod.metadata));
                self.context.recorder.normal(&reference(job), "SuccessfulDelete", message);
            }
            Err(failure) => {
                self.expectations.deleted(key, uid(&pod.metadata));
                // A pod that changed meanwhile is looked at anew, which is no failure to speak of.
                if !failure.conflict() {
                    let message = format!("Error deleting: {}", failure.message);
                    self.context.recorder.warning(&reference(job), "FailedDelete", message);
                }
            }
        }
        result
    }

    async fn send_removal(&self, pod: &Pod, disowned: bool) -> Result<(), Failure> {
        let mut delete = Write::delete(pod);
        if disowned && tracked(pod) {
            // As it was seen: had it ended meanwhile, its end would be lost.
            delete.body["preconditions"]["resourceVersion"] =
                pod.metadata.resource_version.as_deref().unwrap_or_default().into();
        }
        let gone = match self.context.writer.send(&delete).await {
            Err(failure) if failure.not_found() => return Ok(()),
            other => other?,
        };
        if let Some(version) = gone.metadata.resource_version.filter(|_| disowned && tracked(pod)) {
            // Its node may have told of it since, which is no end yet: once more, as it is. If that fails too the
            // pod's end is counted as it comes, which is not what was meant but loses nothing.
            let mut tried = self.context.writer.send(&disown(pod, &version)).await;
            if tried.as_ref().is_err_and(Failure::conflict) {
                tried = self.context.writer.send(&free(pod)).await;
            }
            if let Err(failure) = tried {
                tracing::debug!(%failure, "pod could not be disowned");
            }
        }
        Ok(())
    }

    async fn free_one(&self, key: &Key, pod: &Pod) -> Result<(), Failure> {
        self.expect_free(key, pod);
        // One that has not ended must not have done so since it was seen.
        let version = pod.metadata.resource_version.as_deref().unwrap_or_default();
        let write = if pods::finished(pod) { free(pod) } else { disown(pod, version) };
        match self.context.writer.send(&write).await {
            Err(failure) if failure.not_found() => Ok(()),
            Err(failure) => {
                self.not_freed(key, pod);
                Err(failure)
            }
            Ok(_) => Ok(()),
        }
    }
}
