use std::collections::HashMap;

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::plan::{Observed, Outcome, plan};
use crate::kit::Step;
use crate::kit::write::Verb;
use crate::testing::pod;

fn service(spec: serde_json::Value) -> Service {
    let mut spec = spec;
    spec["selector"] = json!({"app": "web"});
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"team": "x"}}, "spec": spec
    }))
    .unwrap()
}

fn web() -> Service {
    service(json!({"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}))
}

/// Slices kept as the plans leave them.
struct World {
    service: Service,
    slices: Vec<EndpointSlice>,
    max: usize,
    made: usize,
}

impl World {
    fn new(service: Service, max: usize) -> Self {
        Self { service, slices: Vec::new(), max, made: 0 }
    }

    fn apply(&mut self, pods: &[Pod]) -> String {
        let zones = HashMap::from([("n".to_string(), Some("z1".to_string())), ("m".to_string(), None)]);
        let observed = Observed {
            service: &self.service,
            pods: pods.iter().collect(),
            slices: self.slices.iter().collect(),
            zones: &zones,
            shares: None,
            max: self.max,
        };
        let Outcome { plan, homeless, .. } = plan(&observed);
        let mut text: String = plan.to_string().lines().skip(1).map(|l| format!("{l}\n")).collect();
        for step in plan.steps {
            let (Step::Write(w) | Step::Vanishing(w)) = step else { continue };
            let object = || serde_json::from_value::<EndpointSlice>(w.body.clone()).unwrap();
            match w.verb {
                Verb::Create => {
                    let mut slice = object();
                    self.made += 1;
                    slice.metadata.name = Some(format!("web-{}", self.made));
                    self.slices.push(slice);
                }
                Verb::Delete => self.slices.retain(|s| s.metadata.name.as_deref() != Some(&w.name)),
                _ => {
                    *self.slices.iter_mut().find(|s| s.metadata.name.as_deref() == Some(&w.name)).unwrap() =
                        object()
                }
            }
        }
        if !homeless.is_empty() {
            text += &format!("homeless {homeless:?}\n");
        }
        text
    }
}

fn pods(texts: &[&str]) -> Vec<Pod> {
    texts.iter().map(|t| pod(t)).collect()
}

fn check(text: String, expected: Expect) {
    expected.assert_eq(&text);
}

#[test]
fn readiness_and_termination() {
    let mut world = World::new(web(), 100);
    let before = pods(&[
        "a Running node=n ip=10.0.0.1 ready",
        "b Running node=m ip=10.0.0.2",
        "c Running node=n ip=10.0.0.3 ready deleting",
        "d Succeeded node=n ip=10.0.0.4",
        "e Pending",
        "f Running node=elsewhere ip=10.0.0.6 ready",
    ]);
    check(
        world.apply(&before),
        expect![[r#"
        create endpointslices web-: [http:8080/TCP] 10.0.0.1 rs-; 10.0.0.2 ---; 10.0.0.3 -st
        homeless ["f"]
    "#]],
    );
    assert_eq!(world.apply(&before), "homeless [\"f\"]\n");
    let labels = world.slices[0].metadata.labels.clone().unwrap();
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(
        (labels["team"].as_str(), labels.contains_key("service.kubernetes.io/headless")),
        ("x", false)
    );
    let endpoint = &world.slices[0].endpoints.as_ref().unwrap()[0];
    assert_eq!((endpoint.zone.as_deref(), endpoint.node_name.as_deref()), (Some("z1"), Some("n")));
}

#[test]
fn no_pods_leave_a_placeholder() {
    let mut world = World::new(web(), 100);
    check(
        world.apply(&[]),
        expect![[r#"
        create endpointslices web-: [] 
    "#]],
    );
    assert_eq!(world.apply(&[]), "");
    check(
        world.apply(&pods(&["a Running node=n ip=10.0.0.1 ready"])),
        expect![[r#"
        update endpointslices web-1: [http:8080/TCP] 10.0.0.1 rs-
    "#]],
    );
    check(
        world.apply(&[]),
        expect![[r#"
        update endpointslices web-1: [] 
    "#]],
    );
}

#[test]
fn slices_are_filled_and_few_are_changed() {
    let mut world = World::new(web(), 3);
    let all: Vec<Pod> = (1..=7).map(|i| pod(&format!("p{i} Running node=n ip=10.0.0.{i} ready"))).collect();
    check(
        world.apply(&all),
        expect![[r#"
        create endpointslices web-: [http:8080/TCP] 10.0.0.1 rs-; 10.0.0.2 rs-; 10.0.0.3 rs-
        create endpointslices web-: [http:8080/TCP] 10.0.0.4 rs-; 10.0.0.5 rs-; 10.0.0.6 rs-
        create endpointslices web-: [http:8080/TCP] 10.0.0.7 rs-
    "#]],
    );
    let mut fewer = all.clone();
    fewer.remove(0);
    fewer.push(pod("p8 Running node=n ip=10.0.0.8 ready"));
    check(
        world.apply(&fewer),
        expect![[r#"
        update endpointslices web-1: [http:8080/TCP] 10.0.0.2 rs-; 10.0.0.3 rs-; 10.0.0.8 rs-
    "#]],
    );
    fewer.push(pod("p9 Running node=n ip=10.0.0.9 ready"));
    check(
        world.apply(&fewer),
        expect![[r#"
        update endpointslices web-3: [http:8080/TCP] 10.0.0.7 rs-; 10.0.0.9 rs-
    "#]],
    );
}

#[test]
fn named_ports_part_pods_into_slices() {
    let mut world = World::new(
        service(json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80, "targetPort": "http"}]})),
        100,
    );
    let mut all = pods(&[
        "a Running node=n ip=10.0.0.1 ready",
        "b Running node=n ip=10.0.0.2 ready",
        "c Running node=n ip=10.0.0.3 ready",
    ]);
    for (pod, number) in all.iter_mut().zip([8080, 9090]) {
        let port = ContainerPort { name: Some("http".into()), container_port: number, ..Default::default() };
        pod.spec.as_mut().unwrap().containers =
            vec![Container { ports: Some(vec![port]), ..Default::default() }];
    }
    check(
        world.apply(&all),
        expect![[r#"
        create endpointslices web-: [:8080/TCP] 10.0.0.1 rs-
        create endpointslices web-: [:9090/TCP] 10.0.0.2 rs-
    "#]],
    );
}

#[test]
fn headless_and_published() {
    let spec = json!({"clusterIP": "None", "publishNotReadyAddresses": true});
    let mut world = World::new(service(spec), 100);
    let mut all = pods(&["a Running node=n ip=10.0.0.1", "b Running node=gone ip=10.0.0.2 deleting"]);
    let spec = all[0].spec.as_mut().unwrap();
    (spec.hostname, spec.subdomain) = (Some("a".into()), Some("web".into()));
    check(
        world.apply(&all),
        expect![[r#"
        create endpointslices web-: [] 10.0.0.1 r--; 10.0.0.2 r-t
    "#]],
    );
    let slice = &world.slices[0];
    assert_eq!(slice.metadata.labels.as_ref().unwrap()["service.kubernetes.io/headless"], "");
    assert_eq!(slice.endpoints.as_ref().unwrap()[0].hostname.as_deref(), Some("a"));
}
