//! Documents of v1beta3, lifted to v1beta4: maps of arguments become lists, scattered timeouts come together.

use serde_json::{Value, json};

use crate::API_VERSION;

/// A document of v1beta3 as one of v1beta4. What the API server's timeout was comes back apart: it belongs to another
/// document now.
pub fn lift(mut document: Value) -> (Value, Option<Value>) {
    document["apiVersion"] = json!(API_VERSION);
    for pointer in [
        "/nodeRegistration/kubeletExtraArgs",
        "/etcd/local/extraArgs",
        "/apiServer/extraArgs",
        "/controllerManager/extraArgs",
        "/scheduler/extraArgs",
    ] {
        if let Some(args) = document.pointer_mut(pointer) {
            *args = listed(args);
        }
    }
    if let Some(wait) = taken(&mut document, "/discovery", "timeout") {
        document["timeouts"] = json!({"discovery": wait});
    }
    let api_server = taken(&mut document, "/apiServer", "timeoutForControlPlane");
    (document, api_server)
}

fn taken(document: &mut Value, parent: &str, key: &str) -> Option<Value> {
    let value = document.pointer_mut(parent)?.as_object_mut()?.remove(key)?;
    // A zero meant "by default" then; now it would mean not to wait.
    let unset = value.is_null() || value.as_str().is_some_and(|t| t.parse() == Ok(crate::GoDuration(0)));
    (!unset).then_some(value)
}

/// A map as a list of arguments, sorted by name as kubeadm's conversion has it.
fn listed(map: &Value) -> Value {
    let mut args: Vec<(&String, &Value)> = map.as_object().into_iter().flatten().collect();
    args.sort_by_key(|(name, _)| *name);
    args.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_become_lists_and_timeouts_move() {
        let (cluster, wait) =
            lift(json!({"apiVersion": "kubeadm.k8s.io/v1beta3", "kind": "ClusterConfiguration",
            "apiServer": {"extraArgs": {"v": "4", "a": "b"}, "timeoutForControlPlane": "3m0s"}}));
        assert_eq!(
            cluster["apiServer"],
            json!({"extraArgs": [{"name": "a", "value": "b"}, {"name": "v", "value": "4"}]})
        );
        assert_eq!((cluster["apiVersion"].as_str(), wait), (Some(API_VERSION), Some(json!("3m0s"))));
        let (join, _) = lift(json!({"kind": "JoinConfiguration", "discovery": {"timeout": "2m0s"}}));
        assert_eq!(join["timeouts"], json!({"discovery": "2m0s"}));
        let (join, _) = lift(json!({"kind": "JoinConfiguration", "discovery": {"timeout": "0s"}}));
        assert_eq!(join.get("timeouts"), None);
    }
}
