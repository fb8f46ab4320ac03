//! What a description is made from: the object and what else was read for it.

use super::{events, page::Page};
use crate::dig;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// One object and what belongs to it. What its kind does not need stays empty.
#[derive(Default)]
pub struct Subject {
    pub object: Value,
    /// The moment ages are counted from.
    pub now: Timestamp,
    /// Its events, if they are to be shown.
    pub events: Option<Vec<Value>>,
    /// Pods it selects, runs or is used by.
    pub pods: Vec<Value>,
    /// Why they could not be read.
    pub refused: Option<String>,
    /// Replica sets of a deployment: (those of old templates, that of its template).
    pub replica_sets: (Vec<Value>, Vec<Value>),
    /// The endpoint slices of services, by the service's name; or why they could not be read.
    pub slices: BTreeMap<String, Result<Vec<Value>, String>>,
    /// Services, by name; or why they could not be read.
    pub services: BTreeMap<String, Result<Value, String>>,
    /// The lease of a node, or why it could not be read.
    pub lease: Option<Result<Value, String>>,
    /// Resource slices of a node.
    pub resource_slices: Vec<Value>,
    /// Quotas and limit ranges of a namespace, unless the server has no such kinds.
    pub quotas: Option<Vec<Value>>,
    pub limit_ranges: Option<Vec<Value>>,
}

impl Subject {
    /// The table of its events, if it is to be shown.
    pub fn events(&self, page: &mut Page) {
        events::table(self.events.as_deref(), self.now, page);
    }

    /// The name of the object.
    pub fn name(&self) -> &str {
        dig::text(&self.object, "metadata.name")
    }

    /// How many pods controlled by the object are running, waiting, succeeded and failed.
    pub fn pod_phases(&self) -> [usize; 4] {
        let uid = dig::text(&self.object, "metadata.uid");
        let own = |pod: &&Value| dig::controller(pod).is_some_and(|owner| dig::text(owner, "uid") == uid);
        let mut counts = [0; 4];
        for pod in self.pods.iter().filter(own) {
            let phase = dig::text(pod, "status.phase");
            if let Some(at) =
                ["Running", "Pending", "Succeeded", "Failed"].iter().position(|name| *name == phase)
            {
                counts[at] += 1;
            }
        }
        counts
    }

    /// Those counts as a line.
    pub fn pod_phases_line(&self) -> String {
        let [running, waiting, succeeded, failed] = self.pod_phases();
        format!("{running} Running / {waiting} Waiting / {succeeded} Succeeded / {failed} Failed")
    }

    /// `<Title>: Terminating (lasts 3s)` or the phase of the object.
    pub fn phase(&self, page: &mut Page) {
        if dig::has(&self.object, "metadata.deletionTimestamp") {
            let lasts = dig::since(&self.object, "metadata.deletionTimestamp", self.now);
            return page.field(0, "Status", format!("Terminating (lasts {lasts})"));
        }
        page.field(0, "Status", dig::text(&self.object, "status.phase"));
    }
}
