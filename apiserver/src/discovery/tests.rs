use super::negotiate::{Accepted, accepted};
use super::*;
use crate::aggregator::discovery::Elsewhere;
use machinery::kinds::builtin;

fn served() -> Vec<Arc<Resource>> {
    builtin().iter().filter(|r| r.default_enabled).cloned().collect()
}

#[test]
fn groups_in_order() {
    let groups = api_groups(&served(), &[]);
    let names: Vec<&str> =
        groups["groups"].as_array().expect("groups").iter().filter_map(|g| g["name"].as_str()).collect();
    assert_eq!(names[..3], ["apiregistration.k8s.io", "apps", "events.k8s.io"]);
    let autoscaling = group(&served(), &[], "autoscaling").expect("group");
    assert_eq!(autoscaling["preferredVersion"]["groupVersion"], "autoscaling/v2");
    assert!(group(&served(), &[], "nonsense").is_none() && group(&served(), &[], "").is_none());
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
    let value = aggregated(&served(), &[], false);
    assert_eq!(value["items"][1]["versions"][0]["resources"][2]["resource"], "deployments");
    let (_, _, back) =
        codec::proto::decode_object(&codec::proto::encode(&value).expect("encodes")).expect("decodes");
    assert_eq!(back["items"][1], value["items"][1]);
    assert_eq!(aggregated(&served(), &[], true)["items"].as_array().map(Vec::len), Some(1));
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

#[test]
fn other_servers_groups_stand_among_ours() {
    let other = |group: &str, version: &str, priority: (i64, i64)| Elsewhere {
        group: group.into(),
        version: version.into(),
        group_priority: priority.0,
        version_priority: priority.1,
        entry: serde_json::json!({"version": version, "freshness": "Stale"}),
    };
    let elsewhere = [
        other("metrics.k8s.io", "v1beta1", (100, 100)),
        other("second.example.com", "v1alpha1", (17_790, 1)),
        other("second.example.com", "v1", (100, 1)),
        other("apps", "v2", (1, 16)),
    ];
    let groups = api_groups(&served(), &elsewhere);
    let names: Vec<&str> =
        groups["groups"].as_array().expect("groups").iter().filter_map(|g| g["name"].as_str()).collect();
    assert_eq!(names[..4], ["apiregistration.k8s.io", "apps", "second.example.com", "events.k8s.io"]);
    assert_eq!(names.last(), Some(&"metrics.k8s.io"));
    assert_eq!(groups["groups"][2]["preferredVersion"]["version"], "v1");
    let apps = group(&served(), &elsewhere, "apps").expect("apps");
    assert_eq!(apps["versions"][0]["groupVersion"], "apps/v2");
    assert!(group(&served(), &elsewhere, "metrics.k8s.io").is_some());
    let all = aggregated(&served(), &elsewhere, false);
    assert_eq!(all["items"][1]["versions"][0], elsewhere[3].entry);
    assert_eq!(all["items"][1]["versions"][1]["freshness"], "Current");
    let (_, _, back) =
        codec::proto::decode_object(&codec::proto::encode(&all).expect("encodes")).expect("decodes");
    assert_eq!(back["items"][2]["versions"][0]["freshness"], "Stale");
}
