//! What the scheduler knows of nodes and pods: derived once from the API's objects, immutable, shared.

pub mod affinity;
pub mod node;
pub mod pod;
pub mod resources;
pub mod snapshot;
pub mod taints;
