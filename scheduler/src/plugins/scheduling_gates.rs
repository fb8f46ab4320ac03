//! SchedulingGates: a pod with gates waits until they are gone.

use crate::framework::{Kind, Plugin};
use crate::model::pod::PodInfo;

/// Keeps gated pods out of the queue.
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), String> {
        if pod.gates.is_empty() {
            Ok(())
        } else {
            Err(format!("waiting for scheduling gates: [{}]", pod.gates.join(" ")))
        }
    }

    fn woken_by(&self) -> &'static [Kind] {
        &[Kind::OwnGates]
    }
}
