//! The plugins. Adding one is a file here, a line in [`default_set`], and one in the table of the configuration's points.

pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_unschedulable;
pub mod resources_balanced;
pub mod resources_fit;
pub mod scheduling_gates;
pub mod taint_toleration;
pub mod topology_spread;
pub mod volume_binding;
pub mod volume_limits;
pub mod volume_restrictions;
pub mod volume_zone;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::framework::Plugin;
use crate::framework::profile::Profile;

/// The name of the scheduler of pods that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// All default plugins in upstream's order, with the weight of each one's score. PrioritySort is the order of the active queue,
/// DefaultPreemption and DefaultBinder parts of the scheduler itself.
pub fn default_set() -> Vec<Arc<dyn Plugin>> {
    vec![
        Arc::new(scheduling_gates::SchedulingGates),
        Arc::new(node_unschedulable::NodeUnschedulable),
        Arc::new(node_name::NodeName),
        Arc::new(taint_toleration::TaintToleration),
        Arc::new(node_affinity::NodeAffinity::default()),
        Arc::new(node_ports::NodePorts),
        Arc::new(resources_fit::NodeResourcesFit::default()),
        Arc::new(volume_restrictions::VolumeRestrictions),
        Arc::new(volume_limits::NodeVolumeLimits),
        Arc::new(volume_binding::VolumeBinding),
        Arc::new(volume_zone::VolumeZone),
        Arc::new(topology_spread::TopologySpread::default()),
        Arc::new(inter_pod_affinity::InterPodAffinity::default()),
        Arc::new(resources_balanced::BalancedAllocation::default()),
        Arc::new(image_locality::ImageLocality),
    ]
}

/// The profile of a scheduler without a configuration.
pub fn default_profile() -> Profile {
    let all = default_set();
    let scoring = |p: &Arc<dyn Plugin>| (p.weight() > 0).then(|| (p.clone(), p.weight()));
    Profile {
        name: DEFAULT_SCHEDULER.into(),
        gates: all.clone(),
        filters: all.clone(),
        scores: all.iter().filter_map(scoring).collect(),
        all,
        preemption: Some(Default::default()),
        bind_volumes: Some(std::time::Duration::from_secs(600)),
        binds: true,
        percentage: 0,
    }
}
