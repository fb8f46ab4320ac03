use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetStatus,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use serde_json::Value;

use super::plan::{Observed, is_complete, plan};
use crate::kit::write::Verb;
use crate::kit::{Plan, Step};
use crate::testing::now;

pub fn template(image: &str) -> PodTemplateSpec {
    let labels: BTreeMap<_, _> = [("app".to_string(), "web".to_string())].into();
    let container = Container { name: "c".into(), image: Some(image.into()), ..Default::default() };
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels), ..Default::default() }),
        spec: Some(PodSpec { containers: vec![container], ..Default::default() }),
    }
}

/// `replicas image [surge=N] [unavailable=N] [recreate] [paused] [deadline=N] [history=N]`
pub fn deployment(text: &str) -> Deployment {
    let mut words = text.split_whitespace();
    let mut spec = DeploymentSpec {
        replicas: Some(words.next().unwrap().parse().unwrap()),
        template: template(words.next().unwrap()),
        selector: LabelSelector {
            match_labels: Some([("app".to_string(), "web".to_string())].into()),
            match_expressions: None,
        },
        progress_deadline_seconds: Some(600),
        revision_history_limit: Some(10),
        ..Default::default()
    };
    let number = |v: &str| match v.parse() {
        Ok(n) => IntOrString::Int(n),
        Err(_) => IntOrString::String(v.into()),
    };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let strategy = spec.strategy.get_or_insert_default();
        match key {
            "surge" => strategy.rolling_update.get_or_insert_default().max_surge = Some(number(value)),
            "unavailable" => {
                strategy.rolling_update.get_or_insert_default().max_unavailable = Some(number(value))
            }
            "recreate" => strategy.type_ = Some("Recreate".into()),
            "paused" => spec.paused = Some(true),
            "deadline" => spec.progress_deadline_seconds = value.parse().ok(),
            "history" => spec.revision_history_limit = value.parse().ok(),
            other => panic!("unknown word {other}"),
        }
    }
    Deployment {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("ns".into()),
            uid: Some("d".into()),
            generation: Some(1),
            ..Default::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// A cluster in memory that plans are applied to: sets get their pods, pods get ready when told to.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    now: Timestamp,
    made: i64,
    events: Vec<String>,
}

impl World {
    fn new(text: &str) -> Self {
        Self { deployment: deployment(text), sets: Vec::new(), now: now(), made: 0, events: Vec::new() }
    }

    fn plan(&self) -> Plan {
        let running = self.sets.iter().filter(|s| s.status.as_ref().is_some_and(|s| s.replicas > 0));
        let observed = Observed {
            deployment: self.deployment.clone(),
            sets: self.sets.clone(),
            running: running.map(|s| s.metadata.uid.clone().unwrap()).collect(),
        };
        plan(&observed, self.now)
    }

    /// One step of the Deployment; says whether it did anything.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let busy = !plan.steps.is_empty();
        for step in plan.steps {
            match step {
                Step::Write(w) | Step::Vanishing(w) => match (w.verb, w.kind.plural.as_ref()) {
                    (Verb::Create, _) => self.create(w.body),
                    (Verb::Update, "deployments") => {
                        self.deployment = serde_json::from_value(w.body).unwrap()
                    }
                    (Verb::Update, _) => {
                        let set: ReplicaSet = serde_json::from_value(w.body).unwrap();
                        let place = self.sets.iter_mut().find(|s| s.metadata.name == set.metadata.name);
                        *place.unwrap() = set;
                    }
                    (Verb::Delete, _) => self.sets.retain(|s| s.metadata.name.as_deref() != Some(&w.name)),
                    other => panic!("unexpected {other:?}"),
                },
                Step::Event { message, .. } => self.events.push(message),
            }
        }
        self.now += SignedDuration::from_secs(1);
        busy
    }

    fn create(&mut self, body: Value) {
        let mut set: ReplicaSet = serde_json::from_value(body).unwrap();
        self.made += 1;
        set.metadata.uid = Some(format!("s{}", self.made));
        set.metadata.creation_timestamp = Some(Time(self.now));
        assert!(self.sets.iter().all(|s| s.metadata.name != set.metadata.name), "made twice");
        self.sets.push(set);
    }

    /// ReplicaSets follow their sizes; of the pods missing readiness `ready` more become available.
    fn pods(&mut self, mut ready: i32) {
        for set in &mut self.sets {
            let size = set.spec.as_ref().and_then(|s| s.replicas).unwrap();
            let status = set.status.get_or_insert_with(ReplicaSetStatus::default);
            let available = status.available_replicas.unwrap_or(0).min(size);
            let more = ready.min(size - available);
            ready -= more;
            status.replicas = size;
            status.ready_replicas = Some(available + more);
            status.available_replicas = Some(available + more);
            status.observed_generation = set.metadata.generation;
        }
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let busy = self.step();
            self.pods(100);
            if !busy && !self.step() {
                return;
            }
        }
        panic!("does not settle: {}", self.plan());
    }

    fn sizes(&self) -> Vec<(i32, i32)> {
        let size = |s: &ReplicaSet| {
            (
                s.spec.as_ref().unwrap().replicas.unwrap(),
                s.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0),
            )
        };
        self.sets.iter().map(size).collect()
    }

    fn status(&self) -> DeploymentStatus {
        self.deployment.status.clone().unwrap_or_default()
    }

    fn image(&mut self, image: &str) {
        self.deployment.spec.as_mut().unwrap().template = template(image);
        self.deployment.metadata.generation = self.deployment.metadata.generation.map(|g| g + 1);
    }
}

fn shows(plan: &Plan, expected: Expect) {
    // The hash is stable, yet says nothing to a reader.
    let text = plan.to_string();
    let hash = regex_lite(&text);
    expected.assert_eq(&hash);
}

/// Replaces `web-<hash>` by `web-#`.
fn regex_lite(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("web-") {
        out.push_str(&rest[..at]);
        out.push_str("web-#");
        rest = rest[at + 4..].trim_start_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    }
    out + rest
}

#[test]
fn a_new_deployment_gets_its_set() {
    shows(
        &World::new("3 a").plan(),
        expect![[r#"
        why: no replica set has this template, making web-#
        create replicasets web-#: new
        event Normal ScalingReplicaSet: Scaled up replica set web-# from 0 to 3
        update deployments/status web: 0 pods, 0 updated, 0 ready, 0 available; Progressing=True NewReplicaSetCreated, Available=False MinimumReplicasUnavailable
        again in 601s
    "#]],
    );
}

#[test]
fn a_rollout_surges_first() {
    let mut world = World::new("4 a");
    world.settle();
    world.image("b");
    world.step();
    world.pods(0);
    shows(
        &world.plan(),
        expect![[r#"
        why: 1 old pods may go
        update replicasets web-#: size 4 -> 3
        event Normal ScalingReplicaSet: Scaled down replica set web-# from 4 to 3
        update deployments/status web: 5 pods, 1 updated, 4 ready, 4 available; Available=True MinimumReplicasAvailable, Progressing=True ReplicaSetUpdated
        again in 601s
    "#]],
    );
}

#[test]
fn unavailable_old_pods_go_first() {
    let mut world = World::new("4 a surge=1 unavailable=2");
    world.settle();
    world.sets[0].status.as_mut().unwrap().available_replicas = Some(1);
    world.image("b");
    world.step();
    world.pods(0);
    shows(
        &world.plan(),
        expect![[r#"
            why: 2 old pods may go
            update replicasets web-#: size 4 -> 2
            event Normal ScalingReplicaSet: Scaled down replica set web-# from 4 to 2
            update deployments/status web: 5 pods, 1 updated, 1 ready, 1 available; Available=False MinimumReplicasUnavailable, Progressing=True ReplicaSetUpdated
            again in 601s
        "#]],
    );
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new("2 a recreate");
    world.settle();
    world.image("b");
    world.step();
    assert_eq!(world.sizes(), [(0, 2)]);
    shows(
        &world.plan(),
        expect![[r#"
        why: old pods must go first
        again in 597s
    "#]],
    );
    world.pods(0);
    world.settle();
    assert_eq!(world.sizes(), [(0, 0), (2, 2)]);
}

#[test]
fn a_change_of_size_in_a_rollout_is_shared_out() {
    let mut world = World::new("10 a surge=3 unavailable=2");
    world.settle();
    world.image("b");
    for _ in 0..3 {
        world.step();
        world.pods(0);
    }
    assert_eq!(world.sizes(), [(8, 8), (5, 0)]);
    world.deployment.spec.as_mut().unwrap().replicas = Some(15);
    shows(
        &world.plan(),
        expect![[r#"
        why: replicas changed
        update replicasets web-#: size 8 -> 11
        event Normal ScalingReplicaSet: Scaled up replica set web-# from 8 to 11
        update replicasets web-#: size 5 -> 7
        event Normal ScalingReplicaSet: Scaled up replica set web-# from 5 to 7
        update deployments/status web: 13 pods, 5 updated, 8 ready, 8 available; Progressing=True ReplicaSetUpdated, Available=False MinimumReplicasUnavailable
        again in 600s
    "#]],
    );
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new("2 a");
    world.settle();
    world.image("b");
    world.deployment.spec.as_mut().unwrap().paused = Some(true);
    world.deployment.spec.as_mut().unwrap().replicas = Some(5);
    world.settle();
    assert_eq!(world.sizes(), [(5, 5)]);
    world.deployment.spec.as_mut().unwrap().paused = None;
    world.settle();
    assert_eq!(world.sizes(), [(0, 0), (5, 5)]);
}

#[test]
fn no_progress_is_noticed_at_the_deadline() {
    let mut world = World::new("1 a deadline=60");
    world.step();
    world.pods(0);
    world.step();
    let again = world.plan().again.expect("a look at the deadline");
    assert!((55..=61).contains(&again.as_secs()), "{again:?}");
    world.now += SignedDuration::from_secs(62);
    world.step();
    let conditions = world.status().conditions.unwrap();
    let progressing = conditions.iter().find(|c| c.type_ == "Progressing").unwrap();
    assert_eq!(
        (progressing.status.as_str(), progressing.reason.as_deref()),
        ("False", Some("ProgressDeadlineExceeded"))
    );
    assert_eq!(world.plan().again, None);
    world.pods(1);
    world.settle();
    assert!(is_complete(&world.status()));
}

#[test]
fn history_is_limited_and_an_old_template_returns_with_a_new_revision() {
    let mut world = World::new("1 a history=2");
    world.settle();
    for image in ["b", "c", "d"] {
        world.image(image);
        world.settle();
    }
    let revision = |s: &ReplicaSet| {
        s.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"].clone()
    };
    assert_eq!(world.sets.iter().map(revision).collect::<Vec<_>>(), ["2", "3", "4"]);
    world.image("b");
    world.settle();
    assert_eq!(world.sets.iter().map(revision).collect::<Vec<_>>(), ["5", "3", "4"]);
    let history =
        &world.sets[0].metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision-history"];
    assert_eq!((history.as_str(), world.sizes()), ("2", vec![(1, 1), (0, 0), (0, 0)]));
    assert_eq!(
        world.deployment.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"],
        "5"
    );
}

#[test]
fn a_selector_of_nothing_is_refused() {
    let mut world = World::new("1 a");
    world.deployment.spec.as_mut().unwrap().selector = LabelSelector::default();
    shows(
        &world.plan(),
        expect![[r#"
        why: the selector selects everything
        event Warning SelectingAll: This deployment is selecting all pods. A non-empty selector is required.
        update deployments/status web
    "#]],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the budget and the order in which pods get ready: never more than replicas + surge, never fewer
    /// available than replicas - unavailable, and it ends with only the new set.
    #[test]
    fn a_rollout_keeps_its_promises(
        replicas in 1..12i32, surge in 0..5i32, unavailable in 0..5i32, ready in proptest::collection::vec(0..4i32, 1..40)
    ) {
        let mut world = World::new(&format!("{replicas} a surge={surge} unavailable={unavailable}"));
        world.settle();
        world.image("b");
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        let least = replicas - unavailable.min(replicas);
        for more in ready.iter().chain(std::iter::repeat_n(&3, 100)) {
            world.step();
            let asked: i32 = world.sizes().iter().map(|s| s.0).sum();
            prop_assert!(asked <= replicas + surge, "{asked} pods asked for");
            // What is asked to go is gone at once, available ones last: the worst case.
            world.pods(0);
            let available: i32 = world.sizes().iter().map(|s| s.1).sum();
            prop_assert!(available >= least, "{available} available, {least} promised");
            world.pods(*more);
        }
        prop_assert_eq!(world.sizes(), vec![(0, 0), (replicas, replicas)]);
        prop_assert!(is_complete(&world.status()));
    }
}
