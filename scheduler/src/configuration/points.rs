//! Which plugins act at which points, after what a profile enables and disables.

use serde_json::json;

use super::fault::Reader;

/// The extension points, by their names in a profile.
pub const POINTS: &[&str] = &[
    "preEnqueue",
    "queueSort",
    "preFilter",
    "filter",
    "postFilter",
    "preScore",
    "score",
    "reserve",
    "permit",
    "preBind",
    "bind",
    "postBind",
    "placementGenerate",
    "placementScore",
];
const ALL_POINTS: &str = "multiPoint";

/// A default plugin: its name, the weight of its score, and where it acts.
type Row = (&'static str, i64, &'static [&'static str]);

/// Upstream's default plugins in order. Those without a part here (DynamicResources, NodeDeclaredFeatures) can be named, and do
/// nothing.
pub const DEFAULTS: &[Row] = &[
    ("SchedulingGates", 0, &["preEnqueue"]),
    ("PrioritySort", 0, &["queueSort"]),
    ("NodeUnschedulable", 0, &["filter"]),
    ("NodeName", 0, &["filter"]),
    ("TaintToleration", 3, &["filter", "preScore", "score"]),
    ("NodeAffinity", 2, &["preFilter", "filter", "preScore", "score"]),
    ("NodePorts", 0, &["preFilter", "filter"]),
    ("NodeResourcesFit", 1, &["preFilter", "filter", "preScore", "score"]),
    ("VolumeRestrictions", 0, &["preFilter", "filter"]),
    ("NodeVolumeLimits", 0, &["preFilter", "filter"]),
    ("VolumeBinding", 0, &["preFilter", "filter", "reserve", "preBind", "preScore", "score"]),
    ("VolumeZone", 0, &["preFilter", "filter"]),
    ("PodTopologySpread", 2, &["preFilter", "filter", "preScore", "score"]),
    ("InterPodAffinity", 2, &["preFilter", "filter", "preScore", "score"]),
    (
        "DynamicResources",
        2,
        &["preEnqueue", "preFilter", "filter", "postFilter", "score", "reserve", "preBind"],
    ),
    ("DefaultPreemption", 0, &["preEnqueue", "postFilter"]),
    ("NodeResourcesBalancedAllocation", 1, &["preScore", "score"]),
    ("ImageLocality", 1, &["score"]),
    ("DefaultBinder", 0, &["bind"]),
    ("NodeDeclaredFeatures", 0, &["preFilter", "filter"]),
];

/// A plugin with its weight.
pub type Entry = (String, i64);

fn row(name: &str) -> Option<&'static Row> {
    DEFAULTS.iter().find(|r| r.0 == name)
}

/// What a profile says of one point.
#[derive(Default)]
struct Set {
    enabled: Vec<Entry>,
    disabled: Vec<String>,
}

impl Set {
    fn read(r: &mut Reader<'_>, point: &str) -> Self {
        let mut set = Self::default();
        let Some(mut r) = r.child(point) else { return set };
        r.known(&["enabled", "disabled"]);
        for n in 0..r.length("enabled") {
            let mut e = r.item("enabled", n);
            e.known(&["name", "weight"]);
            let name = e.text("name").unwrap_or_default();
            check(&mut e, &name, point);
            if set.enabled.iter().any(|(other, _)| *other == name) {
                e.duplicate("name", &name);
            }
            let weight = e.int("weight").unwrap_or(0);
            if weight < 0 {
                e.invalid("weight", &json!(weight), "must not be negative");
            }
            set.enabled.push((name, weight));
        }
        for n in 0..r.length("disabled") {
            let mut d = r.item("disabled", n);
            d.known(&["name", "weight"]);
            set.disabled.extend(d.text("name"));
        }
        set
    }

    fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|d| d == "*" || d == name)
    }
}

fn check(e: &mut Reader<'_>, name: &str, point: &str) {
    match row(name) {
        None => {
            let names: Vec<&str> = DEFAULTS.iter().map(|r| r.0).collect();
            e.unsupported("name", &json!(name), &names);
        }
        Some(row) if point != ALL_POINTS && !row.2.contains(&point) => {
            e.invalid("name", &json!(name), &format!("plugin does not extend {point}"));
        }
        Some(_) => {}
    }
}

/// The plugins of every point, in order.
pub struct Points {
    all: Vec<(&'static str, Vec<Entry>)>,
}

impl Points {
    /// Reads `plugins` of a profile over the defaults.
    pub fn read(profile: &mut Reader<'_>) -> Self {
        let defaults: Vec<Entry> =
            DEFAULTS.iter().map(|(name, weight, _)| (name.to_string(), *weight)).collect();
        let Some(mut r) = profile.child("plugins") else {
            return Self::expand(&defaults, |_| Set::default());
        };
        let known: Vec<&str> = POINTS.iter().copied().chain([ALL_POINTS]).collect();
        r.known(&known);
        let everywhere = merge(defaults, Set::read(&mut r, ALL_POINTS));
        Self::expand(&everywhere, |point| Set::read(&mut r, point))
    }

    /// What a point names itself goes first; then what is enabled everywhere and acts there.
    fn expand(everywhere: &[Entry], mut of: impl FnMut(&str) -> Set) -> Self {
        let one = |point: &&'static str| {
            let set = of(point);
            let acts = |name: &str| row(name).is_some_and(|r| r.2.contains(point));
            let named = |name: &str| set.enabled.iter().any(|(e, _)| e == name);
            let rest = everywhere.iter().filter(|(n, _)| acts(n) && !named(n) && !set.disables(n));
            let rest: Vec<Entry> = rest.cloned().collect();
            let all = set.enabled.into_iter().chain(rest);
            (*point, all.map(|(name, weight)| (name.clone(), or_default(&name, weight))).collect())
        };
        Self { all: POINTS.iter().map(one).collect() }
    }

    /// The plugins of a point.
    pub fn at(&self, point: &str) -> &[Entry] {
        self.all.iter().find(|(p, _)| *p == point).map_or(&[], |(_, list)| list)
    }

    /// Whether a plugin acts at a point.
    pub fn has(&self, point: &str, name: &str) -> bool {
        self.at(point).iter().any(|(n, _)| n == name)
    }
}

fn or_default(name: &str, weight: i64) -> i64 {
    if weight != 0 { weight } else { row(name).map_or(1, |r| r.1.max(1)) }
}

/// What is enabled takes the place of the default of the same name, or follows the others.
fn merge(defaults: Vec<Entry>, set: Set) -> Vec<Entry> {
    let mut all = Vec::new();
    let mut left = set.enabled.clone();
    for (name, weight) in defaults {
        match left.iter().position(|(n, _)| *n == name) {
            _ if set.disables(&name) => {}
            Some(place) => all.push(left.remove(place)),
            None => all.push((name, weight)),
        }
    }
    all.extend(left);
    all
}
