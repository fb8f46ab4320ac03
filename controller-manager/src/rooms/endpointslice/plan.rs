//! Which slices a Service needs, changing as few as can be. Pure.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::source::{self, Family, HEADLESS, Port};
use super::topology::{self, Shares};
use crate::kit::meta::{Labels, controller_ref, label, name, uid};
use crate::kit::{Plan, Write, pods};

pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
pub const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A Service, its pods, its present slices, and the zones of nodes (nodes that exist are keys).
pub struct Observed<'a> {
    pub service: &'a Service,
    pub pods: Vec<&'a Pod>,
    pub slices: Vec<&'a EndpointSlice>,
    pub zones: &'a HashMap<String, Option<String>>,
    /// What each zone has of the nodes' CPU, where the Service wants hints by that.
    pub shares: Option<&'a Shares>,
    pub max: usize,
}

/// What is to be done, and what is to be said of it.
pub struct Outcome {
    pub plan: Plan,
    /// Pods left out because their node is not known yet.
    pub homeless: Vec<String>,
    /// For each family whether endpoints have hints by zone, or why not; `None` if nobody asked for them.
    pub hinted: Vec<(Family, Option<Result<(), String>>)>,
}

/// Plans.
pub fn plan(o: &Observed<'_>) -> Outcome {
    let (mut wanted, homeless) = wanted(o);
    let families = source::families(o.service).into_iter();
    let hinted = families.map(|family| (family, hint_zones(o, family, &mut wanted))).collect();
    let mut plan = Plan::because(format!("{} pods in {} groups of ports", o.pods.len(), wanted.len()));
    let mut change = Change::default();
    for family in source::families(o.service) {
        reconcile(o, family, &wanted, &mut change);
    }
    for slice in &o.slices {
        let kept = source::families(o.service).iter().any(|f| f.as_str() == slice.address_type);
        if !kept {
            change.delete.push((*slice).clone());
        }
    }
    change.reuse_names();
    change.write(o, &mut plan);
    Outcome { plan, homeless, hinted }
}

/// Spreads the endpoints of a family over the zones, if the Service wants that.
fn hint_zones(o: &Observed<'_>, family: Family, wanted: &mut Groups) -> Option<Result<(), String>> {
    let shares = o.shares?;
    let groups = wanted.iter_mut().filter(|((f, _), _)| *f == family);
    let mut endpoints: Vec<&mut Endpoint> = groups.flat_map(|(_, endpoints)| endpoints.iter_mut()).collect();
    Some(topology::hint(&mut endpoints, shares))
}

type Groups = BTreeMap<(Family, Vec<Port>), Vec<Endpoint>>;

fn wanted(o: &Observed<'_>) -> (Groups, Vec<String>) {
    let mut groups = Groups::new();
    let mut homeless = Vec::new();
    let Some(spec) = &o.service.spec else { return (groups, homeless) };
    let tolerant = spec.publish_not_ready_addresses == Some(true);
    let mut ordered: Vec<&Pod> = o.pods.iter().copied().filter(|p| !pods::finished(p)).collect();
    ordered.sort_by_key(|p| name(&p.metadata));
    for pod in ordered {
        let known = pods::node(pod).is_none_or(|n| o.zones.contains_key(n));
        if !known && !tolerant {
            homeless.push(name(&pod.metadata).to_string());
            continue;
        }
        let mut ports = source::ports(spec, pod);
        if ports.is_empty() && !spec.ports.as_ref().is_none_or(|p| p.is_empty()) {
            // None of the Service's ports is on this pod.
            continue;
        }
        ports.sort();
        for family in source::families(o.service) {
            if let Some(address) = source::address(pod, family) {
                groups.entry((family, ports.clone())).or_default().push(endpoint(o, pod, address));
            }
        }
    }
    (groups, homeless)
}

fn endpoint(o: &Observed<'_>, pod: &Pod, address: &str) -> Endpoint {
    let spec = o.service.spec.as_ref();
    let serving = pods::ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let published = spec.and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let ready = published || (serving && !terminating);
    let node = pods::node(pod).map(str::to_string);
    let zone = node.as_ref().and_then(|n| o.zones.get(n).cloned().flatten());
    let hints = spec.and_then(|s| s.traffic_distribution.as_deref());
    Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: hints.filter(|_| ready).and_then(|wish| hint(wish, node.as_deref(), zone.as_deref())),
        hostname: source::hostname(pod, o.service),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
        node_name: node,
        zone,
        deprecated_topology: None,
    }
}

/// Where traffic for an endpoint should come from, by `spec.trafficDistribution`.
fn hint(wish: &str, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let zones = zone.map(|z| vec![ForZone { name: z.into() }]);
    match wish {
        "PreferClose" | "PreferSameZone" => {
            zones.map(|z| EndpointHints { for_zones: Some(z), for_nodes: None })
        }
        "PreferSameNode" => {
            let nodes = node.map(|n| vec![ForNode { name: n.into() }]);
            (zones.is_some() || nodes.is_some())
                .then_some(EndpointHints { for_zones: zones, for_nodes: nodes })
        }
        _ => None,
    }
}

#[derive(Default)]
struct Change {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<EndpointSlice>,
}

impl Change {
    /// A slice to be deleted gives its name to one that would be made, so that no moment is without either.
    fn reuse_names(&mut self) {
        let mut creates = std::mem::take(&mut self.create);
        while let Some(at) =
            creates.iter().position(|c| self.delete.iter().any(|d| d.address_type == c.address_type))
        {
            let create = creates.remove(at);
            let Some(spot) = self.delete.iter().position(|d| d.address_type == create.address_type) else {
                break;
            };
            let mut slice = self.delete.remove(spot);
            slice.endpoints = create.endpoints;
            slice.ports = create.ports;
            self.update.push(slice);
        }
        self.create = creates;
    }

    fn write(self, o: &Observed<'_>, plan: &mut Plan) {
        for slice in &self.create {
            plan.write(Write::create(&stamped(o, slice)).note(summary(slice)));
        }
        for slice in &self.update {
            plan.write(Write::update(&stamped(o, slice)).note(summary(slice)));
        }
        for slice in &self.delete {
            plan.vanishing(Write::delete(slice));
        }
    }
}

fn summary(slice: &EndpointSlice) -> String {
    let ports: Vec<String> = slice
        .ports
        .iter()
        .flatten()
        .map(|p| {
            format!(
                "{}:{}/{}",
                p.name.as_deref().unwrap_or(""),
                p.port.unwrap_or(0),
                p.protocol.as_deref().unwrap_or("")
            )
        })
        .collect();
    let show = |e: &Endpoint| {
        let c = e.conditions.clone().unwrap_or_default();
        let mark = |on: Option<bool>, letter: &'static str| if on == Some(true) { letter } else { "-" };
        let marks = format!("{}{}{}", mark(c.ready, "r"), mark(c.serving, "s"), mark(c.terminating, "t"));
        format!("{} {marks}", e.addresses.join(","))
    };
    let endpoints: Vec<String> = slice.endpoints.iter().flatten().map(show).collect();
    format!("[{}] {}", ports.join(" "), endpoints.join("; "))
}

/// When the newest change of a pod happened that these endpoints show.
fn stamped(o: &Observed<'_>, slice: &EndpointSlice) -> EndpointSlice {
    let mut slice = slice.clone();
    let changed = |p: &&Pod| pods::condition(p, "Ready").and_then(|c| c.last_transition_time.clone());
    if let Some(time) = o.pods.iter().filter_map(changed).map(|t| t.0).max() {
        slice.metadata.annotations.get_or_insert_default().insert(TRIGGER.into(), time.to_string());
    }
    slice
}

fn reconcile(o: &Observed<'_>, family: Family, wanted: &Groups, change: &mut Change) {
    let of_family: Vec<&EndpointSlice> =
        o.slices.iter().copied().filter(|s| s.address_type == family.as_str()).collect();
    let mut by_ports: BTreeMap<Vec<Port>, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in &of_family {
        by_ports.entry(ports_of(slice)).or_default().push(slice);
    }
    let groups: Vec<_> = wanted.iter().filter(|((f, _), _)| *f == family).collect();
    for ((_, ports), endpoints) in &groups {
        let existing = by_ports.remove(ports).unwrap_or_default();
        pack(o, family, ports, existing, endpoints, change);
    }
    let mut left: Vec<&EndpointSlice> = by_ports.into_values().flatten().collect();
    if groups.is_empty() {
        keep_placeholder(o, family, &mut left, change);
    }
    change.delete.extend(left.into_iter().cloned());
}

/// A Service without endpoints keeps one empty slice, so that readers know it was looked at.
fn keep_placeholder(o: &Observed<'_>, family: Family, left: &mut Vec<&EndpointSlice>, change: &mut Change) {
    let empty = |s: &&EndpointSlice| s.endpoints.iter().flatten().next().is_none() && ports_of(s).is_empty();
    match left.iter().position(empty) {
        Some(at) => {
            let slice = left.remove(at);
            let mut fresh = slice.clone();
            if dress(o, &mut fresh) {
                change.update.push(fresh);
            }
        }
        None => change.create.push(new_slice(o, family, &[], Vec::new())),
    }
}

fn pack(
    o: &Observed<'_>,
    family: Family,
    ports: &[Port],
    existing: Vec<&EndpointSlice>,
    wanted: &[Endpoint],
    change: &mut Change,
) {
    let mut left: BTreeMap<String, Endpoint> = wanted.iter().map(|e| (identity(e), e.clone())).collect();
    let (mut updates, mut untouched) = (Vec::new(), Vec::new());
    for slice in existing {
        let mut fresh = slice.clone();
        let kept = slice.endpoints.iter().flatten().filter_map(|e| left.remove(&identity(e)));
        let kept: Vec<Endpoint> = kept.collect();
        let changed = dress(o, &mut fresh) || kept != slice.endpoints.clone().unwrap_or_default();
        fresh.endpoints = Some(kept);
        match (fresh.endpoints.iter().flatten().next().is_none(), changed) {
            (true, _) => change.delete.push(slice.clone()),
            (false, true) => updates.push(fresh),
            (false, false) => untouched.push(fresh),
        }
    }
    let mut left: Vec<Endpoint> = left.into_values().collect();
    left.sort_by_key(|e| e.target_ref.as_ref().and_then(|t| t.name.clone()));
    fill(&mut updates, &mut left, o.max);
    while !left.is_empty() {
        if left.len() < o.max
            && let Some(mut slice) = best_fit(&mut untouched, left.len(), o.max)
        {
            slice.endpoints.get_or_insert_default().append(&mut left);
            updates.push(slice);
            break;
        }
        let rest = left.split_off(left.len().min(o.max));
        change.create.push(new_slice(o, family, ports, std::mem::replace(&mut left, rest)));
    }
    change.update.append(&mut updates);
}

/// Puts what is left into slices that are written anyway, the fullest first.
fn fill(updates: &mut [EndpointSlice], left: &mut Vec<Endpoint>, max: usize) {
    updates.sort_by_key(|s| std::cmp::Reverse(s.endpoints.iter().flatten().count()));
    for slice in updates {
        let endpoints = slice.endpoints.get_or_insert_default();
        let room = max.saturating_sub(endpoints.len()).min(left.len());
        endpoints.extend(left.drain(..room));
    }
}

/// The slice that would be fullest with `count` more.
fn best_fit(slices: &mut Vec<EndpointSlice>, count: usize, max: usize) -> Option<EndpointSlice> {
    let size = |s: &EndpointSlice| s.endpoints.iter().flatten().count();
    let fits = slices.iter().enumerate().filter(|(_, s)| size(s) + count <= max);
    let best = fits.max_by_key(|(_, s)| size(s)).map(|(i, _)| i)?;
    Some(slices.remove(best))
}

fn identity(e: &Endpoint) -> String {
    let pod = e.target_ref.as_ref().and_then(|t| t.uid.as_deref()).unwrap_or_default();
    format!("{} {pod}", e.addresses.first().map(String::as_str).unwrap_or_default())
}

fn ports_of(slice: &EndpointSlice) -> Vec<Port> {
    let port = |p: &EndpointPort| Port {
        name: p.name.clone().unwrap_or_default(),
        protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
        port: p.port.unwrap_or(0),
        app_protocol: p.app_protocol.clone(),
    };
    let mut ports: Vec<Port> = slice.ports.iter().flatten().map(port).collect();
    ports.sort();
    ports
}

fn new_slice(o: &Observed<'_>, family: Family, ports: &[Port], endpoints: Vec<Endpoint>) -> EndpointSlice {
    let port = |p: &Port| EndpointPort {
        name: Some(p.name.clone()),
        protocol: Some(p.protocol.clone()),
        port: Some(p.port),
        app_protocol: p.app_protocol.clone(),
    };
    let mut slice = EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name(&o.service.metadata))),
            namespace: o.service.metadata.namespace.clone(),
            ..Default::default()
        },
        address_type: family.as_str().into(),
        endpoints: Some(endpoints),
        ports: Some(ports.iter().map(port).collect()),
    };
    dress(o, &mut slice);
    slice
}

/// Sets labels and owner; says whether that changed anything.
fn dress(o: &Observed<'_>, slice: &mut EndpointSlice) -> bool {
    let labels = labels(o.service);
    let owner = controller_ref(o.service);
    let owned = slice.metadata.owner_references.iter().flatten().any(|r| r.uid == uid(&o.service.metadata));
    let changed = slice.metadata.labels.as_ref() != Some(&labels) || !owned;
    slice.metadata.labels = Some(labels);
    if !owned {
        slice.metadata.owner_references = Some(vec![owner]);
    }
    changed
}

fn labels(service: &Service) -> Labels {
    let reserved =
        |k: &str| k == HEADLESS || k == SERVICE_LABEL || k.starts_with("endpointslice.kubernetes.io/");
    let given = service.metadata.labels.iter().flatten().filter(|(k, _)| !reserved(k));
    let mut labels: Labels = given.map(|(k, v)| (k.clone(), v.clone())).collect();
    if source::headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_LABEL.into(), name(&service.metadata).into());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels
}

/// Whether a slice is one of ours.
pub fn ours(slice: &EndpointSlice) -> bool {
    label(&slice.metadata, MANAGED_BY) == Some(CONTROLLER)
}
