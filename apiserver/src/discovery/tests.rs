use super::negotiate::{Accepted, accepted};
use super::*;
use machinery::kinds::builtin;

fn served() -> Vec<Arc<Resource>> {
    builtin().iter().filter(|r| r.default_enabled).cloned().collect()
}

#[test]
fn groups_in_order() {
    let groups = api_groups(&served());
    let names: Vec<&str> =
        groups["groups"].as_array().expect("groups").iter().filter_map(|g| g["name"].as_str()).collect();
    assert_eq!(names[..3], ["apiregistration.k8s.io", "apps", "events.k8s.io"]);
    let autoscaling = group(&served(), "autoscaling").expect("group");
    assert_eq!(autoscaling["preferredVersion"]["groupVersion"], "autoscaling/v2");
    assert!(group(&served(), "nonsense").is_none() && group(&served(), "").is_none());
}

#[test]
fn resources_with_hashes() {
    let list = resource_list(&served(), "", "v1").expect("v1");
    let find = |name: &str| {
        list["resources"]
            .as_array()
            .and_then(|l| l.iter().find(|r| r["name"] == name))
            .cloned()
            .expect("resource")
    };
    assert_eq!(find("pods")["storageVersionHash"], "xPOwRZ+Yhw8=");
    assert_eq!(
        find("pods/eviction"),
        serde_json::json!({"name": "pods/eviction", "singularName": "", "namespaced": true,
        "group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]})
    );
    assert!(find("bindings").get("storageVersionHash").is_none());
    assert!(resource_list(&served(), "apps", "v9").is_none());
}

#[test]
fn aggregated_form_round_trips_as_protobuf() {
    let value = aggregated(&served(), false);
    assert_eq!(value["items"][1]["versions"][0]["resources"][2]["resource"], "deployments");
    let (_, _, back) =
        codec::proto::decode_object(&codec::proto::encode(&value).expect("encodes")).expect("decodes");
    assert_eq!(back["items"][1], value["items"][1]);
    assert_eq!(aggregated(&served(), true)["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn negotiation() {
    let table = [
        ("", Accepted::Plain { protobuf: false }),
        ("application/json", Accepted::Plain { protobuf: false }),
        (
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
            Accepted::Aggregated { protobuf: false },
        ),
        (
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
            Accepted::Plain { protobuf: false },
        ),
        (
            "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Accepted::Aggregated { protobuf: true },
        ),
        ("application/vnd.kubernetes.protobuf,application/json", Accepted::Plain { protobuf: true }),
    ];
    for (accept, want) in table {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        assert_eq!(accepted(&headers), want, "{accept}");
    }
}
