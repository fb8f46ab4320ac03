//! What the codec calls canonical must be readable by the typed structs that the other daemons use.

use k8s_openapi::api::{core::v1 as core, discovery::v1::EndpointSlice, rbac::v1::Role};
use k8s_openapi::{Resource, api::apps::v1::Deployment};
use machinery::kinds::{split_api_version, type_of};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// JSON → canonical → protobuf → canonical → struct → JSON → canonical.
fn round<T: Resource + Serialize + DeserializeOwned>(object: Value) -> T {
    let (group, version) = split_api_version(T::API_VERSION);
    let ty = type_of(group, version, T::KIND).expect("type");
    let canonical = codec::json::decode(object.to_string().as_bytes(), ty).expect("decodes");
    assert_eq!(canonical.strict_errors, Vec::<String>::new());
    let bytes = codec::proto::encode_object(&canonical.value, ty, T::API_VERSION, T::KIND);
    let (_, _, back) = codec::proto::decode_object(&bytes).expect("protobuf");
    let typed: T = serde_json::from_value(back.clone()).expect("typed");
    let again = serde_json::to_value(&typed).expect("json");
    assert_eq!(codec::json::decode_value(again, ty).expect("decodes again").value, back);
    typed
}

#[test]
fn pods_and_deployments() {
    let spec = json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "0.5"}},
        "readinessProbe": {"httpGet": {"port": "http"}}, "ports": [{"containerPort": 80}]}],
        "volumes": [{"name": "v", "configMap": {"name": "m"}}], "tolerations": [{"operator": "Exists"}]});
    let pod: core::Pod =
        round(json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-02T03:04:05Z"}, "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
    let limits =
        pod.spec.as_ref().and_then(|s| s.containers[0].resources.as_ref()).and_then(|r| r.limits.clone());
    assert_eq!(limits.map(|l| l["cpu"].0.clone()), Some("500m".to_string()));
    let deployment: Deployment = round(
        json!({"metadata": {"name": "d"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}}}),
    );
    assert_eq!(deployment.spec.and_then(|s| s.replicas), Some(0));
}

#[test]
fn unset_lists() {
    let role: Role = round(json!({"metadata": {"name": "r"}}));
    assert!(role.rules.is_none_or(|rules| rules.is_empty()));
    let slice: EndpointSlice = round(json!({"metadata": {"name": "s"}, "addressType": "IPv4"}));
    assert!(slice.endpoints.is_none_or(|endpoints| endpoints.is_empty()));
    let secret: core::Secret = round(json!({"metadata": {"name": "s"}, "data": {"a": "aGk="}}));
    assert_eq!(secret.data.map(|d| d["a"].0.clone()), Some(b"hi".to_vec()));
}
