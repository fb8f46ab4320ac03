//! Which slices mirror an Endpoints object. Pure.

use std::collections::BTreeMap;

use control::events::{Kind, reference};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kit::meta::{Labels, annotation, controller_ref, label, name};
use crate::kit::{Plan, Write};
use crate::rooms::endpointslice::plan::{MANAGED_BY, SERVICE_LABEL, TRIGGER};
use crate::rooms::endpointslice::source::Family;

pub const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An Endpoints object, the Service of its name, and our slices of it.
pub struct Observed<'a> {
    pub endpoints: Option<&'a Endpoints>,
    pub service: Option<&'a Service>,
    pub slices: Vec<&'a EndpointSlice>,
    /// Addresses mirrored of each subset.
    pub max: usize,
}

/// Whether a slice is one of ours.
pub fn ours(slice: &EndpointSlice) -> bool {
    label(&slice.metadata, MANAGED_BY) == Some(CONTROLLER)
}

/// What to write, and how many addresses are left out.
pub fn plan(o: &Observed<'_>) -> (Plan, usize) {
    let Some(endpoints) = o.endpoints.filter(|e| mirrored(e, o.service)) else {
        let mut plan = Plan::because("nothing to mirror");
        o.slices.iter().for_each(|slice| plan.vanishing(Write::delete(*slice)));
        return (plan, 0);
    };
    let mut plan = Plan::because("mirrors Endpoints");
    let (mut groups, skipped) = groups(endpoints, o.max, &mut plan);
    let mut spare = Vec::new();
    for slice in &o.slices {
        match groups.remove(&group_of(slice)) {
            Some(wanted) => refresh(endpoints, slice, wanted, &mut plan),
            None => spare.push(*slice),
        }
    }
    for ((family, ports), wanted) in groups {
        plan.write(Write::create(&slice(endpoints, family, &ports, wanted)).note("mirror"));
    }
    spare.into_iter().for_each(|slice| plan.vanishing(Write::delete(slice)));
    (plan, skipped)
}

fn mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let meta = &endpoints.metadata;
    let selectorless = |s: &Service| s.spec.as_ref().is_some_and(|s| s.selector.is_none());
    meta.deletion_timestamp.is_none()
        && label(meta, SKIP) != Some("true")
        && annotation(meta, LEADER).is_none()
        && service.is_some_and(selectorless)
}

/// Ports as something to sort by: name, protocol, number, application protocol.
type Ports = Vec<(String, String, i32, Option<String>)>;
type Groups = BTreeMap<(Family, Ports), Vec<Endpoint>>;

fn groups(endpoints: &Endpoints, max: usize, plan: &mut Plan) -> (Groups, usize) {
    let (mut groups, mut skipped) = (Groups::new(), 0);
    let mut warn = |reason, message: String| plan.event(reference(endpoints), Kind::Warning, reason, message);
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        let all: Vec<_> = ready.chain(unready).collect();
        if all.len() > max {
            skipped += all.len() - max;
            let message = format!(
                "A max of {max} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                all.len() - max
            );
            warn("TooManyAddressesToMirror", message);
        }
        for (address, ready) in all.into_iter().take(max) {
            match Family::of(&address.ip) {
                Some(family) => {
                    groups.entry((family, ports.clone())).or_default().push(endpoint(address, ready));
                }
                None => {
                    skipped += 1;
                    warn("InvalidIPAddress", format!("{:?} is not a valid IP address", address.ip));
                }
            }
        }
    }
    (groups, skipped)
}

fn ports(subset: &EndpointSubset) -> Ports {
    let port = |p: &k8s_openapi::api::core::v1::EndpointPort| {
        let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
        (p.name.clone().unwrap_or_default(), protocol, p.port, p.app_protocol.clone())
    };
    let mut ports: Ports = subset.ports.iter().flatten().map(port).collect();
    ports.sort();
    ports
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..Default::default() }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}

fn group_of(slice: &EndpointSlice) -> (Family, Ports) {
    let family = if slice.address_type == Family::V6.as_str() { Family::V6 } else { Family::V4 };
    let port = |p: &EndpointPort| {
        let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
        (p.name.clone().unwrap_or_default(), protocol, p.port.unwrap_or(0), p.app_protocol.clone())
    };
    let mut ports: Ports = slice.ports.iter().flatten().map(port).collect();
    ports.sort();
    (family, ports)
}

fn refresh(endpoints: &Endpoints, current: &EndpointSlice, wanted: Vec<Endpoint>, plan: &mut Plan) {
    let mut fresh = current.clone();
    fresh.endpoints = Some(wanted);
    fresh.metadata.labels = Some(labels(endpoints));
    fresh.metadata.annotations = annotations(endpoints);
    let none = |a: &Option<BTreeMap<String, String>>| a.clone().unwrap_or_default();
    let same = fresh.endpoints == current.endpoints
        && fresh.metadata.labels == current.metadata.labels
        && none(&fresh.metadata.annotations) == none(&current.metadata.annotations);
    if !same {
        plan.write(Write::update(&fresh).note("mirror"));
    }
}

fn slice(endpoints: &Endpoints, family: Family, ports: &Ports, wanted: Vec<Endpoint>) -> EndpointSlice {
    let port = |(name, protocol, port, app): &(String, String, i32, Option<String>)| EndpointPort {
        name: Some(name.clone()),
        protocol: Some(protocol.clone()),
        port: Some(*port),
        app_protocol: app.clone(),
    };
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name(&endpoints.metadata))),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels(endpoints)),
            annotations: annotations(endpoints),
            owner_references: Some(vec![controller_ref(endpoints)]),
            ..Default::default()
        },
        address_type: family.as_str().into(),
        endpoints: Some(wanted),
        ports: Some(ports.iter().map(port).collect()),
    }
}

fn labels(endpoints: &Endpoints) -> Labels {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_LABEL.into(), name(&endpoints.metadata).into());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels
}

fn annotations(endpoints: &Endpoints) -> Option<BTreeMap<String, String>> {
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key != TRIGGER && key != LAST_APPLIED);
    Some(annotations).filter(|a| !a.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoints(subsets: serde_json::Value) -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {"name": "m", "namespace": "ns", "uid": "u", "labels": {"a": "b"},
                         "annotations": {LAST_APPLIED: "{}", "keep": "me"}},
            "subsets": subsets,
        }))
        .unwrap()
    }

    fn service(selector: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "m"}, "spec": {"selector": selector}})).unwrap()
    }

    fn words(endpoints: Option<&Endpoints>, service: &Service, slices: Vec<&EndpointSlice>) -> Vec<String> {
        let (plan, _) = plan(&Observed { endpoints, service: Some(service), slices, max: 2 });
        plan.to_string().lines().skip(1).map(str::to_string).collect()
    }

    #[test]
    fn each_family_and_set_of_ports_has_a_slice() {
        let source = endpoints(json!([
            {"addresses": [{"ip": "1.2.3.4"}, {"ip": "fd00::1"}], "ports": [{"port": 80}]},
            {"notReadyAddresses": [{"ip": "1.2.3.5"}], "ports": [{"port": 80}]},
            {"addresses": [{"ip": "1.2.3.6"}], "ports": [{"port": 81, "name": "x"}]},
        ]));
        let service = service(json!(null));
        assert_eq!(words(Some(&source), &service, vec![]), vec!["create endpointslices m-: mirror"; 3]);
        let mut made: Vec<EndpointSlice> = groups(&source, 9, &mut Plan::default())
            .0
            .into_iter()
            .map(|((family, ports), wanted)| slice(&source, family, &ports, wanted))
            .collect();
        made.iter_mut().enumerate().for_each(|(i, s)| s.metadata.name = Some(format!("s{i}")));
        let ready = |s: &EndpointSlice| {
            let all = s.endpoints.iter().flatten();
            all.map(|e| e.conditions.as_ref().and_then(|c| c.ready)).collect::<Vec<_>>()
        };
        assert_eq!(ready(&made[0]), [Some(true), Some(false)]);
        assert_eq!(made[0].metadata.annotations.as_ref().unwrap().len(), 1);
        assert!(words(Some(&source), &service, made.iter().collect()).is_empty());
        let fewer = endpoints(json!([{"addresses": [{"ip": "1.2.3.9"}], "ports": [{"port": 80}]}]));
        assert_eq!(
            words(Some(&fewer), &service, made.iter().collect()),
            ["update endpointslices s0: mirror", "delete endpointslices s1", "delete endpointslices s2"]
        );
        assert_eq!(words(None, &service, vec![&made[0]]), ["delete endpointslices s0"]);
    }

    #[test]
    fn some_are_left_alone_and_some_cut() {
        let many = endpoints(json!([{"addresses": [{"ip": "1.1.1.1"}, {"ip": "x"}, {"ip": "1.1.1.3"}]}]));
        let said = words(Some(&many), &service(json!(null)), vec![]);
        assert!(
            said[0].contains("TooManyAddressesToMirror") && said[1].contains("InvalidIPAddress"),
            "{said:?}"
        );
        assert!(words(Some(&many), &service(json!({"a": "b"})), vec![]).is_empty());
        let mut skipped = many;
        skipped.metadata.labels = Some([(SKIP.to_string(), "true".to_string())].into());
        assert!(words(Some(&skipped), &service(json!(null)), vec![]).is_empty());
    }
}
