//! NodeVolumeLimits: a driver attaches only so many volumes to a node.

use std::collections::{BTreeSet, HashMap};

use coxctl_kit::dig;
use serde_json::Value;

use super::volumes::pod_claims;
use super::{Help, Obstacle, Spot, World};
use crate::claim;
use crate::facts::{self, Facts};
use crate::finding::evidence;
use crate::words;

/// Volumes by the namespace and name of the claim they are for.
type Volumes<'a> = HashMap<(&'a str, &'a str), &'a Value>;

pub fn obstacles(world: &World<'_>, spot: &Spot<'_>) -> Vec<Obstacle> {
    let drivers = world.facts.find("CSINode", "", spot.name).map(|node| dig::items(node, "spec.drivers"));
    let limited: Vec<_> =
        drivers.into_iter().flatten().filter(|d| dig::has(d, "allocatable.count")).collect();
    if limited.is_empty() || pod_claims(world.facts, world.pod).is_empty() {
        return Vec::new();
    }
    let claimed = |volume: &'_ Value| dig::has(volume, "spec.claimRef.name");
    let of = |v| ((dig::text(v, "spec.claimRef.namespace"), dig::text(v, "spec.claimRef.name")), v);
    let volumes: Volumes<'_> = world.facts.all("PersistentVolume").filter(|v| claimed(v)).map(of).collect();
    limited.into_iter().filter_map(|driver| full(world, spot, driver, &volumes)).collect()
}

fn full(world: &World<'_>, spot: &Spot<'_>, driver: &Value, volumes: &Volumes<'_>) -> Option<Obstacle> {
    let (name, limit) = (dig::text(driver, "name"), dig::int(driver, "allocatable.count"));
    let mine = used(world.facts, world.pod, name, volumes);
    let held: BTreeSet<String> =
        spot.pods.iter().flat_map(|pod| used(world.facts, pod, name, volumes)).collect();
    let more = mine.difference(&held).count();
    let over = i64::try_from(held.len() + more).unwrap_or(i64::MAX).saturating_sub(limit);
    (more > 0 && over > 0).then(|| Obstacle {
        plugin: "NodeVolumeLimits",
        text: format!(
            "takes at most {} of driver {name}; {} used, and the pod brings {more} more",
            words::count(limit, "volume"),
            match held.len() {
                1 => "1 is".to_string(),
                n => format!("{n} are"),
            },
        ),
        alike: format!("volume limit of {name}"),
        help: Help {
            gap: 0,
            cost: 5,
            text: format!(
                "end pods there that use {} of driver {name}, or add a node",
                words::count(over, "volume")
            ),
        },
        evidence: vec![evidence("CSINode", spot.name, "spec.drivers.allocatable.count", limit.to_string())],
    })
}

/// The volumes of a driver that a pod uses; a claim that waits for its volume counts by its own name.
fn used(facts: &Facts, pod: &Value, driver: &str, volumes: &Volumes<'_>) -> BTreeSet<String> {
    let namespace = facts::namespace(pod);
    let one = |(name, claim): (String, Option<&Value>)| match volumes.get(&(namespace, name.as_str())) {
        Some(volume) => {
            (dig::text(volume, "spec.csi.driver") == driver).then(|| facts::name(volume).to_string())
        }
        None => {
            let class = claim::class_of(facts, claim?)?;
            (dig::text(class, "provisioner") == driver).then(|| format!("{namespace}/{name}"))
        }
    };
    pod_claims(facts, pod).into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, claim: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"nodeName": node,
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}})
    }

    fn told(asked: &str) -> Vec<String> {
        let volume = |name: &str, driver: &str| {
            json!({"metadata": {"name": format!("pv-{name}")},
            "spec": {"claimRef": {"namespace": "a", "name": name}, "csi": {"driver": driver}}})
        };
        let claim = |name: &str| json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"storageClassName": "fast"}});
        let mut facts = Facts::default();
        facts.take("Node", vec![json!({"metadata": {"name": "n"}})]);
        facts.take(
            "CSINode",
            vec![json!({"metadata": {"name": "n"}, "spec": {"drivers": [
            {"name": "d.io", "allocatable": {"count": 1}}, {"name": "free.io"}]}})],
        );
        facts.take(
            "PersistentVolume",
            vec![volume("one", "d.io"), volume("two", "d.io"), volume("other", "free.io")],
        );
        facts.take("PersistentVolumeClaim", ["one", "two", "other", "new"].map(claim).to_vec());
        facts.take("StorageClass", vec![json!({"metadata": {"name": "fast"}, "provisioner": "d.io"})]);
        facts.take("Pod", vec![pod("old", "n", "one")]);
        let pod = pod("p", "", asked);
        let world = World::new(&facts, &pod);
        obstacles(&world, &world.nodes[0]).into_iter().map(|o| o.text).collect()
    }

    #[test]
    fn a_driver_that_is_full_is_told_with_its_limit() {
        let full = "takes at most 1 volume of driver d.io; 1 is used, and the pod brings 1 more";
        assert_eq!(told("two"), [full]);
        assert_eq!(told("new"), [full]);
        assert_eq!(told("one"), [""; 0], "used there already");
        assert_eq!(told("other"), [""; 0], "another driver");
    }
}
