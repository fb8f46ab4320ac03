//! Claims that want to grow. Nothing that this manager knows can grow by itself: it is said who has to do it.

use std::sync::Arc;

use control::events::{Kind, reference};
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::kit::meta::uid;
use crate::kit::storage::{claim_ref, requested, storage, volume_name};
use crate::kit::{Context, Plan};

struct Room {
    context: Context,
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        claims: context.caches.of(),
        volumes: context.caches.of(),
        context: context.clone(),
    });
    let queue = Queue::new();
    let q = queue.clone();
    room.claims.handle(move |event| {
        let before = event.old.as_ref().map(|c| requested(c));
        if event.new.as_ref().is_some_and(|c| grows(c) && before.as_ref() != Some(&requested(c))) {
            q.add(event.key.clone());
        }
    });
    context.run(Options::new("persistentvolume-expander-controller", 1), queue, move |key| {
        let room = room.clone();
        async move { room.sync(key).await }
    });
}

/// Whether a bound claim asks for more than it has.
fn grows(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let bound = status.and_then(|s| s.phase.as_deref()) == Some("Bound");
    bound && requested(claim) > storage(status.and_then(|s| s.capacity.as_ref()))
}

fn plan(claim: &PersistentVolumeClaim, volume: Option<&Arc<PersistentVolume>>) -> Plan {
    let owner = volume.and_then(|v| claim_ref(v)?.uid.as_deref()).unwrap_or_default();
    if !grows(claim) || owner != uid(&claim.metadata) {
        return Plan::nothing("it has what it asks for, or no volume");
    }
    let mut plan = Plan::because("it asks for more than it has");
    let message = "waiting for an external controller to expand this PVC";
    plan.event(reference(claim), Kind::Normal, "ExternalExpanding", message);
    plan
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        let Some(claim) = self.claims.get_key(&key) else { return Ok(None) };
        let volume = self.volumes.get("", volume_name(&claim));
        plan(&claim, volume.as_ref()).apply(&self.context).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_has_to_grow_it_is_said() {
        let claim = |asks: &str, has: &str| {
            serde_json::from_value::<PersistentVolumeClaim>(json!({"metadata": {"name": "c", "uid": "u"},
                "spec": {"volumeName": "v", "resources": {"requests": {"storage": asks}}},
                "status": {"phase": "Bound", "capacity": {"storage": has}}}))
            .unwrap()
        };
        let volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"uid": "u"}}});
        let volume = Arc::new(serde_json::from_value(volume).unwrap());
        let text = plan(&claim("2Gi", "1Gi"), Some(&volume)).to_string();
        assert!(
            text.contains("event Normal ExternalExpanding: waiting for an external controller"),
            "{text}"
        );
        assert!(plan(&claim("1Gi", "1Gi"), Some(&volume)).steps.is_empty());
        assert!(plan(&claim("2Gi", "1Gi"), None).steps.is_empty());
    }
}
