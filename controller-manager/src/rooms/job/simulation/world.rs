//! The cluster as it is: what the API server answers, what nodes and users do.

use std::collections::{BTreeMap, HashSet, VecDeque};

use http::Method;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::watcher::Event;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::super::pods::{FINALIZER, index_of, only_failed_replaced, tracked};
use super::super::tests::job as job_of;
use crate::kit::meta::{name, uid};
use crate::kit::pods;
use crate::testing::clock::now;
use crate::testing::server::{Asked, Server, differs, failure};

/// The cluster as it is, and what must not happen in it.
pub struct World {
    pub rng: StdRng,
    pub faults: bool,
    pub version: u64,
    pub job: Job,
    pub pods: Vec<Pod>,
    pub job_news: VecDeque<Event<Job>>,
    pub pod_news: VecDeque<Event<Pod>>,
    /// The parallelism in force from a version on.
    pub parallelism: Vec<(u64, i32)>,
    /// The version of the Job the manager last decided by.
    pub seen: u64,
    /// Ends counted, by UID.
    pub counted: HashSet<String>,
    /// How often an index succeeded.
    pub successes: BTreeMap<i32, u32>,
    pub disowned: HashSet<String>,
    pub log: Vec<String>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut job = job_of(&spec(&mut rng), "");
        let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}});
        let wants = job.spec.as_mut().unwrap();
        wants.selector = serde_json::from_value(selector.clone()).unwrap();
        wants.template.metadata = serde_json::from_value(json!({"labels": selector["matchLabels"]})).unwrap();
        job.metadata.generation = Some(1);
        job.metadata.resource_version = Some("1".into());
        let parallelism = vec![(1, wants.parallelism.unwrap_or(1))];
        Self {
            rng,
            faults: true,
            version: 1,
            job,
            pods: Vec::new(),
            job_news: VecDeque::new(),
            pod_news: VecDeque::new(),
            parallelism,
            seen: 1,
            counted: HashSet::new(),
            successes: BTreeMap::new(),
            disowned: HashSet::new(),
            log: Vec::new(),
        }
    }

    pub fn spec(&self) -> &k8s_openapi::api::batch::v1::JobSpec {
        self.job.spec.as_ref().unwrap()
    }

    pub fn bump(&mut self) -> Option<String> {
        self.version += 1;
        Some(self.version.to_string())
    }

    pub fn job_changed(&mut self) {
        self.job.metadata.resource_version = self.bump();
        self.job_news.push_back(Event::Apply(self.job.clone()));
    }

    /// Tells of a pod, and drops it when nothing holds it any more.
    fn pod_changed(&mut self, at: usize) {
        self.pods[at].metadata.resource_version = self.bump();
        let pod = &self.pods[at];
        let held = pod.metadata.finalizers.iter().flatten().next().is_some();
        // Without a node nobody has to end it.
        let ended = pods::finished(pod) || pods::node(pod).is_none();
        if pod.metadata.deletion_timestamp.is_some() && ended && !held {
            let pod = self.pods.remove(at);
            self.pod_news.push_back(Event::Delete(pod));
        } else {
            self.pod_news.push_back(Event::Apply(pod.clone()));
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    // ---- the API server ----

    fn serve(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        if path.ends_with("/jobs/j/status") && method == Method::PUT {
            return self.put_status(body);
        }
        if path.ends_with("/jobs/j") && method == Method::GET {
            return (200, serde_json::to_value(&self.job).unwrap());
        }
        if method == Method::POST && path.ends_with("/pods") {
            return self.create(body);
        }
        let wanted = path.rsplit('/').next().unwrap_or_default();
        let Some(at) = self.pods.iter().position(|p| name(&p.metadata) == wanted) else {
            return failure(404, "NotFound");
        };
        match *method {
            Method::GET => (200, serde_json::to_value(&self.pods[at]).unwrap()),
            Method::PATCH => self.patch(at, body),
            Method::DELETE => self.delete(at, body),
            _ => panic!("unexpected {method} {path}"),
        }
    }

    fn create(&mut self, body: &Value) -> (u16, Value) {
        let mut pod: Pod = serde_json::from_value(body.clone()).unwrap();
        if self.pods.iter().any(|p| p.metadata.name == pod.metadata.name) {
            return failure(409, "AlreadyExists");
        }
        pod.metadata.uid = Some(format!("p{:06}", self.version));
        pod.metadata.creation_timestamp = Some(Time(now()));
        pod.status = Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() });
        self.check_new(&pod);
        self.pods.push(pod);
        self.pod_changed(self.pods.len() - 1);
        (201, serde_json::to_value(self.pods.last()).unwrap())
    }

    pub fn patch(&mut self, at: usize, body: &Value) -> (u16, Value) {
        let pod = &self.pods[at];
        let meta = &body["metadata"];
        if differs(meta, &pod.metadata) {
            return failure(409, "Conflict");
        }
        assert_eq!(meta["$deleteFromPrimitiveList/finalizers"], json!([FINALIZER]));
        if tracked(pod) {
            self.check_free(at, meta.get("resourceVersion").is_some());
            self.pods[at].metadata.finalizers.as_mut().unwrap().retain(|f| f != FINALIZER);
            let answer = serde_json::to_value(&self.pods[at]).unwrap();
            self.pod_changed(at);
            return (200, answer);
        }
        (200, serde_json::to_value(pod).unwrap())
    }

    fn delete(&mut self, at: usize, body: &Value) -> (u16, Value) {
        let meta = &self.pods[at].metadata;
        if differs(&body["preconditions"], meta) {
            return failure(409, "Conflict");
        }
        let id = meta.uid.clone();
        if meta.deletion_timestamp.is_none() {
            self.pods[at].metadata.deletion_timestamp = Some(Time(now()));
            self.pod_changed(at);
        }
        let left = self.pods.iter().find(|p| p.metadata.uid == id);
        (
            200,
            left.map_or_else(
                || json!({"kind": "Status", "metadata": {}}),
                |p| serde_json::to_value(p).unwrap(),
            ),
        )
    }

    fn put_status(&mut self, body: &Value) -> (u16, Value) {
        let new: Job = serde_json::from_value(body.clone()).unwrap();
        if new.metadata.resource_version != self.job.metadata.resource_version {
            return failure(409, "Conflict");
        }
        let status = new.status.unwrap_or_default();
        self.check_status(&status);
        self.job.status = Some(status);
        self.job_changed();
        (200, serde_json::to_value(&self.job).unwrap())
    }

    // ---- nodes and users ----

    /// A node does something to a pod.
    pub fn live(&mut self, kindly: bool) {
        if self.pods.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.pods.len());
        let pod = &self.pods[at];
        let (bound, deleting) = (pods::node(pod).is_some(), pod.metadata.deletion_timestamp.is_some());
        let id = uid(&pod.metadata).to_string();
        if pods::finished(pod) {
            return;
        }
        let pending = pods::phase(pod) == "Pending";
        let (good_end, good) = (self.chance(25), kindly || self.chance(65));
        let phase = match deleting {
            // What never came to a node is ended by the pod collector.
            true if bound && !self.disowned.contains(&id) && good_end => "Succeeded",
            true => "Failed",
            false if pending => "Running",
            false if good => "Succeeded",
            false => "Failed",
        };
        let code = if phase == "Succeeded" { 0 } else { self.rng.random_range(1..5) };
        let pod = &mut self.pods[at];
        pod.spec.as_mut().unwrap().node_name.get_or_insert("n".into());
        let status = pod.status.as_mut().unwrap();
        status.phase = Some(phase.into());
        if phase != "Running" {
            let ended = ContainerStateTerminated {
                exit_code: code,
                finished_at: Some(Time(now())),
                ..Default::default()
            };
            let state = ContainerState { terminated: Some(ended), ..Default::default() };
            let one = ContainerStatus { name: "c".into(), state: Some(state), ..Default::default() };
            status.container_statuses = Some(vec![one]);
        }
        if phase == "Succeeded"
            && let Some(index) = index_of(&self.pods[at])
        {
            *self.successes.entry(index).or_default() += 1;
            let twice = only_failed_replaced(self.spec()) && self.successes[&index] > 1;
            assert!(!twice, "index {index} succeeded twice");
        }
        self.log.push(format!("{id} is {phase}"));
        self.pod_changed(at);
    }

    pub fn meddle(&mut self) {
        let roll = self.rng.random_range(0..4);
        let spec = self.job.spec.as_mut().unwrap();
        match roll {
            0 => spec.suspend = Some(!spec.suspend.unwrap_or(false)),
            1 => {
                spec.parallelism = Some(self.rng.random_range(1..5));
                self.parallelism.push((self.version + 1, spec.parallelism.unwrap_or(1)));
            }
            _ if !self.pods.is_empty() => {
                let at = self.rng.random_range(0..self.pods.len());
                if self.pods[at].metadata.deletion_timestamp.is_some() {
                    return;
                }
                self.pods[at].metadata.deletion_timestamp = Some(Time(now()));
                self.log.push(format!("{} is deleted by hand", uid(&self.pods[at].metadata)));
                return self.pod_changed(at);
            }
            _ => return,
        }
        *self.job.metadata.generation.as_mut().unwrap() += 1;
        self.log.push(format!(
            "spec: suspend {:?}, parallelism {:?}",
            self.spec().suspend,
            self.spec().parallelism
        ));
        self.job_changed();
    }
}

/// A Job of any make.
fn spec(rng: &mut StdRng) -> String {
    let mut text = format!("parallelism: {}", rng.random_range(1..5));
    let by_index = rng.random_bool(0.5);
    if by_index || rng.random_bool(0.8) {
        text += &format!(", completions: {}", rng.random_range(1..7));
    }
    text += &format!(", backoffLimit: {}", [2, 6, 50][rng.random_range(0..3)]);
    let policy = rng.random_bool(0.4);
    if policy {
        let fail = if rng.random_bool(0.3) {
            ", {action: FailJob, onExitCodes: {operator: In, values: [4]}}"
        } else {
            ""
        };
        text += &format!(
            ", podFailurePolicy: {{rules: [{{action: Ignore, onExitCodes: {{operator: In, values: [3]}}}}{fail}]}}"
        );
    }
    text += if policy || rng.random_bool(0.4) {
        ", podReplacementPolicy: Failed"
    } else {
        ", podReplacementPolicy: TerminatingOrFailed"
    };
    if by_index {
        text += ", completionMode: Indexed";
        if rng.random_bool(0.5) {
            text += &format!(", backoffLimitPerIndex: {}", rng.random_range(0..3));
        }
        if rng.random_bool(0.2) {
            text += ", successPolicy: {rules: [{succeededIndexes: '0'}, {succeededCount: 3}]}";
        }
    }
    text
}

impl Server for World {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        let (method, path) = (&asked.method, asked.path.as_str());
        if self.faults && self.chance(6) {
            self.log.push(format!("{method} {path} refused"));
            return failure(500, "InternalError");
        }
        let (code, value) = self.serve(method, path, &asked.body);
        self.log.push(format!("{method} {path} {} -> {code}", asked.body));
        if self.faults && self.chance(4) {
            self.log.push("  its answer is lost".into());
            return failure(504, "Timeout");
        }
        (code, value)
    }
}
