//! The running counts against counting by walking over all pods, and what is remembered against a new look, in random histories. The seed is printed when they differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{scores, verdicts};
use crate::model::counts::InPlace;
use crate::model::node::NodeInfo;
use crate::model::pod::PodInfo;
use crate::model::snapshot::Snapshot;
use crate::model::terms::Term;
use crate::plugins::inter_pod_affinity::InterPodAffinity;
use crate::plugins::resources_balanced::BalancedAllocation;
use crate::plugins::resources_fit::NodeResourcesFit;
use crate::plugins::topology_spread::TopologySpread;
use crate::testing::{node_spec, pod_with};

const KEYS: [&str; 3] = ["kubernetes.io/hostname", "zone", "rack"];
const SEEDS: u64 = 60;
const STEPS: usize = 120;

fn random_node(rng: &mut StdRng, name: &str) -> Value {
    let mut labels = BTreeMap::from([("kubernetes.io/hostname", name.to_string())]);
    if rng.random_bool(0.9) {
        labels.insert("zone", rng.random_range(0..3).to_string());
    }
    if rng.random_bool(0.6) {
        labels.insert("rack", rng.random_range(0..4).to_string());
    }
    let taints = if rng.random_bool(0.2) { json!([{"key": "k", "effect": "NoSchedule"}]) } else { json!([]) };
    json!({"metadata": {"labels": labels}, "spec": {"taints": taints}})
}

fn one_of(rng: &mut StdRng, list: &[&'static str]) -> &'static str {
    list[rng.random_range(0..list.len())]
}

fn random_term(rng: &mut StdRng) -> Value {
    let app = ["a", "b", "c"][rng.random_range(0..3)];
    let mut term = json!({"topologyKey": one_of(rng, &KEYS), "labelSelector": {"matchLabels": {"app": app}}});
    match rng.random_range(0..5) {
        0 => term["namespaces"] = json!(["x", "y"]),
        1 => term["namespaceSelector"] = json!({}),
        2 => term["namespaceSelector"] = json!({"matchLabels": {"team": "t"}}),
        _ => {}
    }
    term
}

fn random_affinity(rng: &mut StdRng) -> Value {
    let mut affinity = json!({});
    for kind in ["podAffinity", "podAntiAffinity"] {
        if rng.random_bool(0.4) {
            let terms: Vec<Value> = (0..rng.random_range(1..3)).map(|_| random_term(rng)).collect();
            affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"] = json!(terms);
        }
        if rng.random_bool(0.4) {
            let term = json!({"weight": rng.random_range(1..9), "podAffinityTerm": random_term(rng)});
            affinity[kind]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([term]);
        }
    }
    affinity
}

fn random_pod(rng: &mut StdRng, name: &str) -> Arc<PodInfo> {
    let labels = json!({"app": one_of(rng, &["a", "b", "c"])});
    let constraint = |rng: &mut StdRng| {
        json!({
            "maxSkew": rng.random_range(1..4), "topologyKey": one_of(rng, &KEYS),
            "whenUnsatisfiable": "DoNotSchedule", "minDomains": rng.random_range(1..4),
            "nodeTaintsPolicy": one_of(rng, &["Honor", "Ignore"]),
            "labelSelector": {"matchLabels": {"app": one_of(rng, &["a", "b"])}},
        })
    };
    let constraints: Vec<Value> = (0..rng.random_range(0..3)).map(|_| constraint(rng)).collect();
    let selector =
        if rng.random_bool(0.3) { json!({"zone": rng.random_range(0..3).to_string()}) } else { json!({}) };
    let mut over = json!({
        "metadata": {"labels": labels, "namespace": one_of(rng, &["x", "y", "z"])},
        "spec": {"topologySpreadConstraints": constraints, "nodeSelector": selector, "affinity": random_affinity(rng)},
    });
    if rng.random_bool(0.7) {
        let requests =
            json!({"cpu": rng.random_range(0..3).to_string(), "memory": one_of(rng, &["1Gi", "3Gi", "9Gi"])});
        over["spec"]["containers"] =
            json!([{"name": "c", "image": "i", "resources": {"requests": requests}}]);
    }
    if rng.random_bool(0.1) {
        over["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    pod_with(name, over)
}

/// Changes a random node, pod or namespace.
fn change(rng: &mut StdRng, all: &mut Snapshot, placed: &mut BTreeMap<String, String>, step: usize) {
    let name = format!("n{}", rng.random_range(0..8));
    match rng.random_range(0..10) {
        0 | 1 => drop(all.set_node(node_spec(&name, random_node(rng, &name)))),
        2 => drop(all.remove_node(&name)),
        3 => {
            let labels = [("team".to_string(), ["t", "u"][rng.random_range(0..2)].to_string())];
            all.set_namespace(["x", "y"][rng.random_range(0..2)], Some(labels.into()));
        }
        4..=6 if !placed.is_empty() => {
            let nth = rng.random_range(0..placed.len());
            let (uid, node) = placed.iter().nth(nth).map(|(u, n)| (u.clone(), n.clone())).unwrap();
            placed.remove(&uid);
            assert!(all.remove_pod(&node, &uid).is_some());
        }
        7 if !placed.is_empty() => {
            let (uid, node) = placed.iter().next().map(|(u, n)| (u.clone(), n.clone())).unwrap();
            // Seen with other labels, or being deleted: all else of a pod with a node stays.
            let old = all.remove_pod(&node, &uid).unwrap();
            let other = random_pod(rng, &old.name);
            let new =
                PodInfo { labels: other.labels.clone(), deleting: other.deleting, ..PodInfo::clone(&old) };
            all.add_pod(&node, old);
            all.recount_pod(&node, Arc::new(new));
        }
        _ => {
            let pod = random_pod(rng, &format!("p{step}"));
            placed.insert(pod.uid.clone(), name.clone());
            all.add_pod(&name, pod);
        }
    }
}

/// All pods on nodes that are there, with the node.
fn walk(all: &Snapshot) -> impl Iterator<Item = (&NodeInfo, &PodInfo)> {
    all.nodes().flat_map(|n| n.pods.iter().map(move |p| (n, p.as_ref())))
}

fn covers(term: &Term, pod: &PodInfo, all: &Snapshot) -> bool {
    term.pods.covers(&pod.namespace, all.namespace(&pod.namespace), &pod.labels)
}

fn together(key: &str, a: &NodeInfo, b: &NodeInfo) -> bool {
    a.spec.labels.contains_key(key) && a.spec.labels.get(key) == b.spec.labels.get(key)
}

/// The rule of spreading, by walking.
fn spread_word(all: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> &'static str {
    let hard: Vec<_> = pod.spread.iter().filter(|c| c.hard).collect();
    for c in &hard {
        let Some(mine) = node.spec.labels.get(&c.key) else { return "never" };
        let mut domains: BTreeMap<&String, i64> = BTreeMap::new();
        for n in all.nodes().filter(|n| hard.iter().all(|h| n.spec.labels.contains_key(&h.key))) {
            let tainted = c.honor_taints && n.spec.tainted(&["NoSchedule"]);
            if !tainted && pod.wishes.allows(n.name(), &n.spec.labels) {
                let namespace = all.namespace(&pod.namespace);
                let counted = n.pods.iter().filter(|p| c.wanted.counts(InPlace { pod: p, namespace }));
                *domains.entry(&n.spec.labels[&c.key]).or_default() += counted.count() as i64;
            }
        }
        let few = (domains.len() as i64) < c.min_domains;
        let least = if few { 0 } else { domains.values().min().copied().unwrap_or(i64::MAX) };
        let own = i64::from(c.selector.matches(&pod.labels));
        if domains.get(mine).copied().unwrap_or(0) + own - least > c.max_skew {
            return "no";
        }
    }
    "ok"
}

/// The rules of affinity, by walking.
fn affinity_word(all: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> &'static str {
    let none = Default::default();
    let mine = pod.affinity.as_deref().unwrap_or(&none);
    let company = |p: &PodInfo| mine.required.iter().all(|t| covers(&t.term, p, all));
    if !mine.required.is_empty() {
        let labelled = mine.required.iter().all(|t| node.spec.labels.contains_key(&t.term.key));
        let there = |key: &str| walk(all).any(|(n, p)| company(p) && together(key, n, node));
        let anywhere = mine
            .required
            .iter()
            .any(|t| walk(all).any(|(n, p)| company(p) && n.spec.labels.contains_key(&t.term.key)));
        if !labelled || !(mine.required.iter().all(|t| there(&t.term.key)) || (!anywhere && company(pod))) {
            return "never";
        }
    }
    let minds = |t: &Term| walk(all).any(|(n, p)| covers(t, p, all) && together(&t.key, n, node));
    let minded = walk(all).any(|(n, p)| {
        let mut anti = p.affinity.iter().flat_map(|a| &a.anti);
        anti.any(|t| covers(&t.term, pod, all) && together(&t.term.key, n, node))
    });
    if mine.anti.iter().any(|t| minds(&t.term)) || minded { "no" } else { "ok" }
}

/// The sum of preferences, by walking.
fn affinity_sum(all: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let mut sum = 0;
    for (n, p) in walk(all) {
        let mine = pod.affinity.iter().flat_map(|a| &a.preferred);
        let theirs = p.affinity.iter().flat_map(|a| a.preferred.iter().chain(&a.required));
        let liked = mine.filter(|t| covers(&t.term, p, all) && together(&t.term.key, n, node));
        let likes = theirs.filter(|t| covers(&t.term, pod, all) && together(&t.term.key, n, node));
        sum += liked.chain(likes).map(|t| t.weight).sum::<i64>();
    }
    sum
}

fn first_word(verdict: &str) -> &str {
    verdict.split(':').next().unwrap_or(verdict)
}

fn compare(all: &mut Snapshot, pod: &PodInfo, at: &str) {
    let spread = verdicts(&TopologySpread::default(), pod, all);
    let affinity = verdicts(&InterPodAffinity::default(), pod, all);
    let marks = scores(&InterPodAffinity::default(), pod, all).unwrap_or_else(|| vec![0; all.order().len()]);
    let sums: Vec<i64> = all.nodes().map(|n| affinity_sum(all, pod, n)).collect();
    let (least, most) = (sums.iter().min().copied().unwrap_or(0), sums.iter().max().copied().unwrap_or(0));
    for (i, node) in all.nodes().enumerate() {
        assert_eq!(first_word(&spread[i]), spread_word(all, pod, node), "{at}: spread on {}", node.name());
        assert_eq!(
            first_word(&affinity[i]),
            affinity_word(all, pod, node),
            "{at}: affinity on {}",
            node.name()
        );
        let want = if most == least {
            0
        } else {
            (100.0 * ((sums[i] - least) as f64 / (most - least) as f64)) as i64
        };
        assert_eq!(marks[i], want, "{at}: score of {}", node.name());
    }
}

/// What is remembered of nodes against a look at them: a copy of the snapshot begins with nothing.
fn compare_rooms(all: &mut Snapshot, pod: &PodInfo, at: &str) {
    let (fit, even) = (NodeResourcesFit::default(), BalancedAllocation::default());
    let fresh = verdicts(&fit, pod, &mut all.clone());
    assert_eq!(verdicts(&fit, pod, all), fresh, "{at}: room");
    let looked = |all: &mut Snapshot| [scores(&fit, pod, all), scores(&even, pod, all)];
    assert_eq!(looked(all), looked(&mut all.clone()), "{at}: scores");
}

#[test]
fn random_histories() {
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut all, mut placed) = (Snapshot::default(), BTreeMap::new());
        let asking: Vec<Arc<PodInfo>> = (0..4).map(|i| random_pod(&mut rng, &format!("q{i}"))).collect();
        for step in 0..STEPS {
            change(&mut rng, &mut all, &mut placed, step);
            if step % 3 == 0 {
                let pod = &asking[rng.random_range(0..asking.len())];
                compare(&mut all, pod, &format!("seed {seed} step {step}"));
                compare_rooms(&mut all, pod, &format!("seed {seed} step {step}"));
            }
        }
    }
}
