//! What the scheduler knows of nodes and pods: derived once from the API's objects, shared, and counted as it changes.

pub mod affinity;
pub mod budgets;
pub mod counts;
pub mod labels;
pub mod memo;
pub mod node;
pub mod owners;
pub mod pod;
pub mod resources;
pub mod snapshot;
pub mod spread;
pub mod storage;
pub mod taints;
pub mod terms;
pub mod volumes;
