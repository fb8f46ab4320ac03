//! Profiles: plugins with their weights and arguments, behind a scheduler name.

use std::sync::Arc;

use serde_json::json;

use super::args::{self, Args};
use super::fault::Reader;
use super::points::Points;
use crate::framework::Plugin;
use crate::framework::profile::Profile;
use crate::plugins;

/// Reads `profiles`; without any there is the default one. `percentage` is the file's, `ignored` are resources that extenders count.
pub fn read(r: &mut Reader<'_>, percentage: usize, ignored: &[String]) -> Vec<Profile> {
    let count = r.length("profiles");
    if count == 0 {
        let mut none = Vec::new();
        let mut empty = Reader::new(&serde_json::Value::Null, &mut none);
        let (points, args) = (Points::read(&mut empty), args::read(&mut empty, ignored));
        return vec![build(plugins::DEFAULT_SCHEDULER.into(), &points, args, percentage)];
    }
    let (mut all, mut sorts): (Vec<Profile>, Vec<Vec<String>>) = (Vec::new(), Vec::new());
    for n in 0..count {
        let mut p = r.item("profiles", n);
        p.known(&["schedulerName", "percentageOfNodesToScore", "plugins", "pluginConfig"]);
        let name = name(&mut p, count);
        if all.iter().any(|other| other.name == name) {
            p.duplicate("schedulerName", &name);
        }
        let points = Points::read(&mut p);
        let sort: Vec<String> = points.at("queueSort").iter().map(|(name, _)| name.clone()).collect();
        check_sort(&mut p, &sort, sorts.first());
        sorts.push(sort);
        let args = args::read(&mut p, ignored);
        let own = super::percentage(&mut p);
        all.push(build(name, &points, args, own.unwrap_or(percentage)));
    }
    all
}

/// A single profile may leave out its name.
fn name(p: &mut Reader<'_>, count: usize) -> String {
    match p.text("schedulerName").filter(|n| !n.is_empty()) {
        Some(name) => name,
        None => {
            if count > 1 {
                p.required("schedulerName", "");
            }
            plugins::DEFAULT_SCHEDULER.into()
        }
    }
}

fn check_sort(p: &mut Reader<'_>, sort: &[String], first: Option<&Vec<String>>) {
    if first.is_some_and(|f| f.as_slice() != sort) {
        p.invalid("plugins.queueSort", &json!(sort), "must be the same for all profiles");
    } else if sort.is_empty() {
        p.required("plugins.queueSort", "one queue sort plugin is needed");
    }
}

fn build(name: String, points: &Points, args: Args, percentage: usize) -> Profile {
    let all = args.plugins();
    let find = |name: &str| all.iter().find(|p| p.name() == name).cloned();
    let at = |point: &str| -> Vec<Arc<dyn Plugin>> {
        points.at(point).iter().filter_map(|(name, _)| find(name)).collect()
    };
    let scores = points.at("score").iter().filter_map(|(name, weight)| Some((find(name)?, *weight)));
    let scores = scores.filter(|(p, _)| p.weight() > 0).collect();
    let binds_volumes = points.has("reserve", "VolumeBinding") && points.has("preBind", "VolumeBinding");
    Profile {
        name,
        gates: at("preEnqueue"),
        filters: at("filter"),
        scores,
        preemption: points.has("postFilter", crate::preemption::NAME).then_some(args.preemption),
        bind_volumes: binds_volumes.then_some(args.bind_timeout),
        binds: points.has("bind", "DefaultBinder"),
        percentage,
        all,
    }
}
