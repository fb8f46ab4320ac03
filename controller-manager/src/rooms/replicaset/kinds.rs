//! The two kinds seen as one.

use control::Namespaced;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use serde::Serialize;

/// The parts of the spec that matter.
#[derive(Clone, Debug)]
pub struct Spec {
    pub replicas: i32,
    pub min_ready: i32,
    pub selector: LabelSelector,
    pub template: PodTemplateSpec,
}

/// A condition of either kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub kind: String,
    pub status: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub since: Option<Time>,
}

/// The status of either kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub replicas: i32,
    pub fully_labeled: i32,
    pub ready: i32,
    pub available: i32,
    /// ReplicaSets only.
    pub terminating: Option<i32>,
    pub observed_generation: Option<i64>,
    pub conditions: Vec<Condition>,
}

/// A kind that keeps a number of pods.
pub trait Replicas: Namespaced + Serialize {
    /// The controller's name.
    const CONTROLLER: &'static str;
    /// What it wants.
    fn wants(&self) -> Option<Spec>;
    /// What it says it is.
    fn says(&self) -> Status;
    /// Itself with another status.
    fn with_status(&self, status: Status) -> Self;
}

impl Replicas for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";

    fn wants(&self) -> Option<Spec> {
        let spec = self.spec.clone()?;
        Some(Spec {
            replicas: spec.replicas.unwrap_or(1),
            min_ready: spec.min_ready_seconds.unwrap_or(0),
            selector: spec.selector,
            template: spec.template.unwrap_or_default(),
        })
    }

    fn says(&self) -> Status {
        let status = self.status.clone().unwrap_or_default();
        let condition = |c: ReplicaSetCondition| Condition {
            kind: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            since: c.last_transition_time,
        };
        Status {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: Some(status.terminating_replicas.unwrap_or(0)),
            observed_generation: status.observed_generation,
            conditions: status.conditions.into_iter().flatten().map(condition).collect(),
        }
    }

    fn with_status(&self, status: Status) -> Self {
        let condition = |c: Condition| ReplicaSetCondition {
            type_: c.kind,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.since,
        };
        let conditions: Vec<_> = status.conditions.into_iter().map(condition).collect();
        let mut set = self.clone();
        set.status = Some(ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: Some(status.fully_labeled),
            ready_replicas: Some(status.ready),
            available_replicas: Some(status.available),
            terminating_replicas: status.terminating,
            observed_generation: status.observed_generation,
            conditions: Some(conditions).filter(|c| !c.is_empty()),
        });
        set
    }
}

impl Replicas for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";

    fn wants(&self) -> Option<Spec> {
        let spec = self.spec.clone()?;
        let selector = LabelSelector { match_labels: Some(spec.selector?), match_expressions: None };
        Some(Spec {
            replicas: spec.replicas.unwrap_or(1),
            min_ready: spec.min_ready_seconds.unwrap_or(0),
            selector,
            template: spec.template.unwrap_or_default(),
        })
    }

    fn says(&self) -> Status {
        let status = self.status.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| Condition {
            kind: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            since: c.last_transition_time,
        };
        Status {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: None,
            observed_generation: status.observed_generation,
            conditions: status.conditions.into_iter().flatten().map(condition).collect(),
        }
    }

    fn with_status(&self, status: Status) -> Self {
        let condition = |c: Condition| ReplicationControllerCondition {
            type_: c.kind,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.since,
        };
        let conditions: Vec<_> = status.conditions.into_iter().map(condition).collect();
        let mut controller = self.clone();
        controller.status = Some(ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: Some(status.fully_labeled),
            ready_replicas: Some(status.ready),
            available_replicas: Some(status.available),
            observed_generation: status.observed_generation,
            conditions: Some(conditions).filter(|c| !c.is_empty()),
        });
        controller
    }
}
