//! The plugins. Adding one is a file here and a line in [`default_set`].

mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod resources_balanced;
mod resources_fit;
mod scheduling_gates;
mod taint_toleration;

use crate::framework::Plugin;

/// All default plugins in upstream's order, with the weight of each one's score. PrioritySort is the order of the active queue and
/// DefaultBinder the way a choice is written; both are parts of the scheduler itself, named in [`NAMES_OF_PARTS`].
pub fn default_set() -> Vec<(Box<dyn Plugin>, i64)> {
    let all: Vec<Box<dyn Plugin>> = vec![
        Box::new(scheduling_gates::SchedulingGates),
        Box::new(node_unschedulable::NodeUnschedulable),
        Box::new(node_name::NodeName),
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(resources_fit::NodeResourcesFit),
        Box::new(resources_balanced::BalancedAllocation),
        Box::new(image_locality::ImageLocality),
    ];
    all.into_iter().map(|p| (p.weight(), p)).map(|(w, p)| (p, w)).collect()
}

/// Plugins that are built into the queue and the binder.
pub const NAMES_OF_PARTS: &[&str] = &["PrioritySort", "DefaultBinder"];
