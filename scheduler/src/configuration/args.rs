//! Arguments of plugins.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{NodeAffinity as Affinity, TopologySpreadConstraint};
use serde_json::json;

use super::fault::Reader;
use crate::framework::Plugin;
use crate::framework::profile::PreemptionArgs;
use crate::plugins;
use crate::plugins::inter_pod_affinity::InterPodAffinity;
use crate::plugins::node_affinity::NodeAffinity;
use crate::plugins::resources_balanced::BalancedAllocation;
use crate::plugins::resources_fit::{NodeResourcesFit, Strategy, Weighted};
use crate::plugins::topology_spread::TopologySpread;

/// The plugins that have arguments, made with them.
pub struct Args {
    /// How preemption looks for candidates.
    pub preemption: PreemptionArgs,
    /// How long binding volumes may take.
    pub bind_timeout: Duration,
    made: Vec<Arc<dyn Plugin>>,
}

impl Args {
    /// All plugins, those with arguments in the place of the plain ones.
    pub fn plugins(&self) -> Vec<Arc<dyn Plugin>> {
        let made = |p: Arc<dyn Plugin>| self.made.iter().find(|m| m.name() == p.name()).cloned().unwrap_or(p);
        plugins::default_set().into_iter().map(made).collect()
    }
}

/// Reads `pluginConfig` of a profile. `ignored` are resources that extenders count.
pub fn read(profile: &mut Reader<'_>, ignored: &[String]) -> Args {
    let preemption = PreemptionArgs::default();
    let bind_timeout = Duration::from_secs(600);
    let fit = NodeResourcesFit { ignored: ignored.to_vec(), ..NodeResourcesFit::default() };
    let mut all = Args { preemption, bind_timeout, made: vec![Arc::new(fit)] };
    let mut seen: Vec<String> = Vec::new();
    for n in 0..profile.length("pluginConfig") {
        let mut entry = profile.item("pluginConfig", n);
        entry.known(&["name", "args"]);
        let name = entry.text("name").unwrap_or_default();
        if seen.contains(&name) {
            entry.duplicate("name", &name);
        }
        if let Some(mut args) = entry.child("args") {
            all.take(&name, &mut args, ignored);
        }
        seen.push(name);
    }
    all
}

/// Notes unknown fields and a kind that is not this plugin's.
fn fields(r: &mut Reader<'_>, plugin: &str, own: &[&str]) {
    r.known(&[&["apiVersion", "kind"], own].concat());
    let want = format!("{plugin}Args");
    if let Some(kind) = r.text("kind").filter(|k| *k != want) {
        r.unsupported("kind", &json!(kind), &[&want]);
    }
}

impl Args {
    fn take(&mut self, name: &str, r: &mut Reader<'_>, ignored: &[String]) {
        match name {
            "DefaultPreemption" => self.preemption = preemption(r),
            "InterPodAffinity" => self.made.push(Arc::new(inter_pod_affinity(r))),
            "NodeAffinity" => {
                fields(r, name, &["addedAffinity"]);
                self.made.push(Arc::new(NodeAffinity::with(added(r))));
            }
            "NodeResourcesFit" => {
                self.made.retain(|p| p.name() != name);
                self.made.push(Arc::new(fit(r, ignored)));
            }
            "NodeResourcesBalancedAllocation" => {
                fields(r, name, &["resources"]);
                self.made.push(Arc::new(BalancedAllocation { resources: resources(r) }));
            }
            "PodTopologySpread" => self.made.push(Arc::new(spread(r))),
            "VolumeBinding" => self.bind_timeout = volume_binding(r),
            "DynamicResources" => fields(r, name, &["filterTimeout", "bindingTimeout"]),
            _ => r.note("", &format!("plugin {name:?} takes no arguments")),
        }
    }
}

fn preemption(r: &mut Reader<'_>) -> PreemptionArgs {
    fields(r, "DefaultPreemption", &["minCandidateNodesPercentage", "minCandidateNodesAbsolute"]);
    let percentage = r.int("minCandidateNodesPercentage").unwrap_or(10);
    let absolute = r.int("minCandidateNodesAbsolute").unwrap_or(100);
    if !(0..=100).contains(&percentage) {
        r.invalid("minCandidateNodesPercentage", &json!(percentage), "not in valid range [0, 100]");
    }
    if absolute < 0 {
        r.invalid("minCandidateNodesAbsolute", &json!(absolute), "not in valid range [0, inf)");
    }
    if percentage == 0 && absolute == 0 {
        let rule = "cannot be zero at the same time as minCandidateNodesAbsolute";
        r.invalid("minCandidateNodesPercentage", &json!(percentage), rule);
    }
    let size = |n: i64| usize::try_from(n).unwrap_or(0);
    PreemptionArgs { percentage: size(percentage), absolute: size(absolute) }
}

fn inter_pod_affinity(r: &mut Reader<'_>) -> InterPodAffinity {
    fields(r, "InterPodAffinity", &["hardPodAffinityWeight", "ignorePreferredTermsOfExistingPods"]);
    let hard_weight = r.int("hardPodAffinityWeight").unwrap_or(1);
    if !(0..=100).contains(&hard_weight) {
        r.invalid("hardPodAffinityWeight", &json!(hard_weight), "not in valid range [0-100]");
    }
    let ignore_existing = r.bool("ignorePreferredTermsOfExistingPods").unwrap_or(false);
    InterPodAffinity { hard_weight, ignore_existing }
}

fn added(r: &mut Reader<'_>) -> Option<Affinity> {
    let added: Affinity = r.object("addedAffinity")?;
    let required = added.required_during_scheduling_ignored_during_execution.as_ref();
    if required.is_some_and(|s| s.node_selector_terms.is_empty()) {
        let field = "addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        r.required(field, "must have at least one node selector term");
    }
    Some(added)
}

fn resources(r: &mut Reader<'_>) -> Vec<Weighted> {
    let mut all = Vec::new();
    for n in 0..r.length("resources") {
        let mut item = r.item("resources", n);
        item.known(&["name", "weight"]);
        let name = item.text("name").unwrap_or_default();
        let weight = item.int("weight").unwrap_or(1);
        if name.is_empty() {
            item.required("name", "");
        }
        if !(1..=100).contains(&weight) {
            item.invalid("weight", &json!(weight), "resource weight not in valid range [1, 100]");
        }
        all.push(Weighted { name, weight });
    }
    if all.is_empty() { Weighted::both() } else { all }
}

fn fit(r: &mut Reader<'_>, ignored: &[String]) -> NodeResourcesFit {
    fields(r, "NodeResourcesFit", &["ignoredResources", "ignoredResourceGroups", "scoringStrategy"]);
    let mut plugin = NodeResourcesFit {
        ignored: r.texts("ignoredResources"),
        ignored_groups: r.texts("ignoredResourceGroups"),
        ..Default::default()
    };
    for (n, group) in plugin.ignored_groups.clone().iter().enumerate().filter(|(_, g)| g.contains('/')) {
        r.invalid(
            &format!("ignoredResourceGroups[{n}]"),
            &json!(group),
            "resource group name can't contain '/'",
        );
    }
    plugin.ignored.extend_from_slice(ignored);
    if let Some(mut s) = r.child("scoringStrategy") {
        s.known(&["type", "resources", "requestedToCapacityRatio"]);
        plugin.resources = resources(&mut s);
        plugin.strategy = strategy(&mut s);
    }
    plugin
}

fn strategy(s: &mut Reader<'_>) -> Strategy {
    match s.text("type").as_deref().unwrap_or("LeastAllocated") {
        "LeastAllocated" => Strategy::Least,
        "MostAllocated" => Strategy::Most,
        "RequestedToCapacityRatio" => match s.child("requestedToCapacityRatio") {
            Some(mut r) => Strategy::Ratio(shape(&mut r)),
            None => {
                s.required("requestedToCapacityRatio.shape", "at least one point must be specified");
                Strategy::Least
            }
        },
        other => {
            s.unsupported(
                "type",
                &json!(other),
                &["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"],
            );
            Strategy::Least
        }
    }
}

fn shape(r: &mut Reader<'_>) -> Vec<(i64, i64)> {
    r.known(&["shape"]);
    let mut points: Vec<(i64, i64)> = Vec::new();
    for n in 0..r.length("shape") {
        let mut item = r.item("shape", n);
        item.known(&["utilization", "score"]);
        let (utilization, score) = (item.int("utilization").unwrap_or(0), item.int("score").unwrap_or(0));
        if !(0..=100).contains(&utilization) {
            item.invalid("utilization", &json!(utilization), "not in valid range [0, 100]");
        }
        if points.last().is_some_and(|(before, _)| *before >= utilization) {
            item.invalid(
                "utilization",
                &json!(utilization),
                "utilization values must be sorted in increasing order",
            );
        }
        if !(0..=10).contains(&score) {
            item.invalid("score", &json!(score), "not in valid range [0, 10]");
        }
        points.push((utilization, score));
    }
    if points.is_empty() {
        r.required("shape", "at least one point must be specified");
    }
    points
}

fn spread(r: &mut Reader<'_>) -> TopologySpread {
    fields(r, "PodTopologySpread", &["defaultConstraints", "defaultingType"]);
    let constraints: Vec<TopologySpreadConstraint> = r.object("defaultConstraints").unwrap_or_default();
    for (n, c) in constraints.iter().enumerate() {
        check_constraint(r, n, c, &constraints[..n]);
    }
    match r.text("defaultingType").as_deref() {
        None | Some("System") if constraints.is_empty() => TopologySpread::default(),
        Some("System") => {
            let rule = "when .defaultingType is System, .defaultConstraints must be empty";
            r.invalid("defaultingType", &json!("System"), rule);
            TopologySpread::default()
        }
        None | Some("List") => TopologySpread::with(constraints),
        Some(other) => {
            r.unsupported("defaultingType", &json!(other), &["System", "List"]);
            TopologySpread::default()
        }
    }
}

fn check_constraint(
    r: &mut Reader<'_>,
    n: usize,
    c: &TopologySpreadConstraint,
    before: &[TopologySpreadConstraint],
) {
    let at = |field: &str| format!("defaultConstraints[{n}].{field}");
    if c.max_skew <= 0 {
        r.invalid(&at("maxSkew"), &json!(c.max_skew), "not in valid range (0, inf)");
    }
    if c.topology_key.is_empty() {
        r.required(&at("topologyKey"), "can not be empty");
    }
    if !matches!(c.when_unsatisfiable.as_str(), "DoNotSchedule" | "ScheduleAnyway") {
        r.unsupported(
            &at("whenUnsatisfiable"),
            &json!(c.when_unsatisfiable),
            &["DoNotSchedule", "ScheduleAnyway"],
        );
    }
    if c.label_selector.is_some() {
        r.note(
            &at("labelSelector"),
            "Forbidden: constraint must not define a selector, as they deduced for each pod",
        );
    }
    let same = |b: &TopologySpreadConstraint| {
        b.topology_key == c.topology_key && b.when_unsatisfiable == c.when_unsatisfiable
    };
    if before.iter().any(same) {
        r.duplicate(
            &format!("defaultConstraints[{n}]"),
            &format!("{}, {}", c.topology_key, c.when_unsatisfiable),
        );
    }
}

fn volume_binding(r: &mut Reader<'_>) -> Duration {
    fields(r, "VolumeBinding", &["bindTimeoutSeconds", "shape"]);
    let seconds = r.int("bindTimeoutSeconds").unwrap_or(600);
    if seconds < 0 {
        r.invalid(
            "bindTimeoutSeconds",
            &json!(seconds),
            "invalid BindTimeoutSeconds, should not be a negative value",
        );
    }
    Duration::from_secs(u64::try_from(seconds).unwrap_or(600))
}
