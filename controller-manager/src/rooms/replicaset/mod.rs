//! ReplicaSets and ReplicationControllers: so many pods of one template.

mod instruments;
pub(crate) mod kinds;
mod observe;
pub(crate) mod plan;
#[cfg(test)]
mod tests;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;

use crate::kit::Context;

/// Starts the ReplicaSet controller.
pub fn start(context: Context) {
    let workers = context.config.workers("replicaset", 5);
    observe::start::<ReplicaSet>(context, workers);
}

/// Starts the ReplicationController controller, which is the same with another kind.
pub fn start_replication_controllers(context: Context) {
    let workers = context.config.workers("rc", 5);
    observe::start::<ReplicationController>(context, workers);
}
