//! Histories at random: syncs over stale caches, writes that fail or whose answers are lost, pods that die, users who
//! change their minds, managers that start anew. What must hold is checked at every write. A history that breaks it
//! prints its seed; the controller itself is the real one, only the API server is made up.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use clap::Parser;
use control::{Cache, Caches, Key, Queue, Recorder};
use daemon::tasks::Tasks;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::client::Body;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::indexes::Indexes;
use super::observe::{Room, wake};
use super::pods::{FINALIZER, failed, index_of, indexed, only_failed_replaced, tracked};
use super::policy::judge;
use super::tests::job as job_of;
use super::view::{finished, holds};
use crate::kit::adopt::BY_CONTROLLER;
use crate::kit::meta::{controller, name, uid};
use crate::kit::{Context, Writer, pods};

thread_local! {
    static CLOCK: Cell<i64> = const { Cell::new(1_767_261_600) };
}

fn now() -> Timestamp {
    Timestamp::from_second(CLOCK.get()).unwrap()
}

/// The cluster as it is, and what must not happen in it.
struct World {
    rng: StdRng,
    faults: bool,
    version: u64,
    job: Job,
    pods: Vec<Pod>,
    job_news: VecDeque<Event<Job>>,
    pod_news: VecDeque<Event<Pod>>,
    /// The parallelism in force from a version on.
    parallelism: Vec<(u64, i32)>,
    /// The version of the Job the manager last decided by.
    seen: u64,
    /// Ends counted, by UID.
    counted: HashSet<String>,
    /// How often an index succeeded.
    successes: BTreeMap<i32, u32>,
    disowned: HashSet<String>,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
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

    fn spec(&self) -> &k8s_openapi::api::batch::v1::JobSpec {
        self.job.spec.as_ref().unwrap()
    }

    fn bump(&mut self) -> Option<String> {
        self.version += 1;
        Some(self.version.to_string())
    }

    fn job_changed(&mut self) {
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

    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        if self.faults && self.chance(6) {
            self.log.push(format!("{method} {path} refused"));
            return failure(500, "InternalError");
        }
        let (code, value) = self.serve(method, path, &body);
        self.log.push(format!("{method} {path} {body} -> {code}"));
        if self.faults && self.chance(4) {
            self.log.push("  its answer is lost".into());
            return failure(504, "Timeout");
        }
        (code, value)
    }

    fn serve(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        if path.ends_with("/jobs/j/status") && method == Method::PUT {
            return self.put_status(body);
        }
        if method == Method::GET && path.contains("/pods?") {
            let items: Vec<Value> = (self.pods.iter().filter(|p| path.ends_with(name(&p.metadata))))
                .map(|p| json!({"metadata": p.metadata}))
                .collect();
            return (200, json!({"metadata": {}, "items": items}));
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

    fn patch(&mut self, at: usize, body: &Value) -> (u16, Value) {
        let pod = &self.pods[at];
        let meta = &body["metadata"];
        let wrong =
            |key: &str, have: &Option<String>| meta[key].as_str().is_some_and(|v| Some(v) != have.as_deref());
        if wrong("uid", &pod.metadata.uid) || wrong("resourceVersion", &pod.metadata.resource_version) {
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
        let wrong = |key: &str, have: &Option<String>| {
            body["preconditions"][key].as_str().is_some_and(|v| Some(v) != have.as_deref())
        };
        if wrong("uid", &meta.uid) || wrong("resourceVersion", &meta.resource_version) {
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

    // ---- what must hold ----

    /// Never more pods than were allowed at any time since what the manager saw; no index twice at a time.
    fn check_new(&self, pod: &Pod) {
        let before = self.parallelism.iter().rev().find(|(v, _)| *v <= self.seen);
        let since = self.parallelism.iter().filter(|(v, _)| *v > self.seen);
        let allowed = before.into_iter().chain(since).map(|(_, p)| *p).max().unwrap_or(0);
        let leaving = only_failed_replaced(self.spec());
        let counts = |p: &&Pod| pods::active(p) || (leaving && pods::terminating(p));
        let running = self.pods.iter().filter(counts).count() as i32;
        assert!(running < allowed, "pod {} of {allowed}", running + 1);
        if let Some(index) = index_of(pod) {
            let twin = self.pods.iter().filter(counts).any(|p| index_of(p) == Some(index));
            assert!(!twin, "index {index} runs twice");
            let done = leaving && self.successes.contains_key(&index);
            assert!(!done, "index {index} begins again");
        }
        assert!(!finished(&self.job), "a pod for a job that is over");
    }

    /// A pod is let go only when its end is written down, or is not to be.
    fn check_free(&mut self, at: usize, disowned: bool) {
        let pod = &self.pods[at];
        let id = uid(&pod.metadata).to_string();
        if disowned {
            assert!(!pods::finished(pod), "{id} had ended when it was disowned");
            self.disowned.insert(id);
            return;
        }
        let status = self.job.status.clone().unwrap_or_default();
        let lists = status.uncounted_terminated_pods.unwrap_or_default();
        let noted = [&lists.succeeded, &lists.failed].into_iter().flatten().flatten().any(|u| *u == id);
        let index = index_of(pod).filter(|i| *i < self.spec().completions.unwrap_or(0));
        let done = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), i32::MAX);
        let good = pods::phase(pod) == "Succeeded";
        let by_index =
            indexed(self.spec()) && (index.is_none() || (good && index.is_some_and(|i| done.has(i))));
        let ignored = failed(pod, self.spec()) && !judge(self.spec(), pod).counts();
        let success = holds(&self.job, "SuccessCriteriaMet").is_some() && !good;
        let over = finished(&self.job) || self.job.metadata.deletion_timestamp.is_some();
        assert!(
            noted || by_index || ignored || success || over || self.counted.contains(&id),
            "{id} ({}) was let go uncounted",
            pods::phase(pod)
        );
    }

    /// Counters only grow, and by exactly the ends that are struck off; each end is counted once.
    fn check_status(&mut self, new: &JobStatus) {
        let old = self.job.status.clone().unwrap_or_default();
        let lists = |s: &JobStatus| -> [BTreeSet<String>; 2] {
            let l = s.uncounted_terminated_pods.clone().unwrap_or_default();
            [l.succeeded, l.failed].map(|l| l.into_iter().flatten().collect())
        };
        let (before, after) = (lists(&old), lists(new));
        for id in after.iter().flatten() {
            assert!(!self.counted.contains(id), "{id} is noted again");
        }
        assert!(after[0].is_disjoint(&after[1]), "noted as both");
        let struck = [0, 1].map(|n| before[n].difference(&after[n]).count() as i32);
        self.counted.extend(before.iter().zip(&after).flat_map(|(b, a)| b.difference(a).cloned()));
        let grown = |a: Option<i32>, b: Option<i32>| a.unwrap_or(0) - b.unwrap_or(0);
        assert_eq!(grown(new.failed, old.failed), struck[1], "failed");
        let completions = self.spec().completions.unwrap_or(0);
        if indexed(self.spec()) {
            let parse = |s: &JobStatus| {
                Indexes::parse(s.completed_indexes.as_deref().unwrap_or_default(), completions)
            };
            let (was, is) = (parse(&old), parse(new));
            assert_eq!(is.common(&was), was.total(), "an index is no longer complete");
            assert_eq!(new.succeeded.unwrap_or(0), is.total(), "succeeded");
            let known = (0..completions).filter(|i| is.has(*i)).all(|i| self.successes.contains_key(&i));
            assert!(known, "an index is complete that never succeeded");
            let lost = Indexes::parse(new.failed_indexes.as_deref().unwrap_or_default(), completions);
            assert_eq!(lost.common(&is), 0, "an index is both");
        } else {
            assert_eq!(grown(new.succeeded, old.succeeded), struck[0], "succeeded");
        }
        assert!(new.ready.unwrap_or(0) <= new.active.unwrap_or(0), "ready");
        let job = Job { status: Some(new.clone()), ..self.job.clone() };
        if finished(&job) {
            assert!(after.iter().all(BTreeSet::is_empty), "over with ends uncounted");
            assert_eq!((new.active, new.terminating), (Some(0), Some(0)));
            let wanted = if holds(&job, "Failed").is_some() { "FailureTarget" } else { "SuccessCriteriaMet" };
            assert!(holds(&job, wanted).is_some(), "over without {wanted}");
        }
        assert!(!finished(&self.job) || finished(&job), "no longer over");
    }

    // ---- nodes and users ----

    /// A node does something to a pod.
    fn live(&mut self, kindly: bool) {
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

    fn meddle(&mut self) {
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

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason, "message": reason}),
    )
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

#[derive(Clone)]
struct Server(Arc<Mutex<World>>);

impl tower::Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let world = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap_or_default();
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let path = match parts.method {
                Method::GET => parts.uri.to_string(),
                _ => parts.uri.path().to_string(),
            };
            let (code, answer) = world.lock().answer(&parts.method, &path, body);
            Ok(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
        })
    }
}

/// A manager that has just started, with caches as things are.
fn manager(world: &Arc<Mutex<World>>) -> Arc<Room> {
    let client = kube::Client::new(Server(world.clone()), "default");
    let tasks = Tasks::new(CancellationToken::new());
    let context = Context {
        name: "job-controller",
        config: Arc::new(crate::Config::parse_from(["kube-controller-manager"])),
        caches: Caches::new(client.clone(), tasks.clone()),
        root: client.clone(),
        writer: Writer::new(client),
        recorder: Recorder::silent(),
        metrics: daemon::metrics::Metrics::new(),
        tasks,
    };
    let (jobs, all): (Cache<Job>, Cache<Pod>) = (Cache::detached(), Cache::detached());
    jobs.add_index(BY_CONTROLLER, |job: &Job| {
        controller(&job.metadata).map(|c| c.uid.clone()).into_iter().collect()
    });
    pods::index(&all);
    let mut room = Room::new(context, jobs, all);
    room.now = now;
    let room = Arc::new(room);
    wake(&room, &Queue::new(), &Queue::new());
    let mut world = world.lock();
    world.job_news.clear();
    world.pod_news.clear();
    room.jobs.take(Event::Init, None);
    room.jobs.take(Event::InitApply(world.job.clone()), None);
    room.jobs.take(Event::InitDone, None);
    room.pods.take(Event::Init, None);
    world.pods.iter().for_each(|p| room.pods.take(Event::InitApply(p.clone()), None));
    room.pods.take(Event::InitDone, None);
    room
}

fn deliver(world: &Mutex<World>, room: &Room, jobs: usize, all: usize) {
    for _ in 0..jobs {
        let Some(news) = world.lock().job_news.pop_front() else { break };
        room.jobs.take(news, None);
    }
    for _ in 0..all {
        let Some(news) = world.lock().pod_news.pop_front() else { break };
        room.pods.take(news, None);
    }
}

async fn sync(world: &Mutex<World>, room: &Room) {
    let seen = room.jobs.get("ns", "j").and_then(|j| control::cache::version_of(&*j));
    world.lock().seen = seen.unwrap_or(0);
    // A failed look is looked at again, which is what the next step may be.
    let _ = room.sync(Key::new("ns", "j")).await;
}

async fn free_orphans(world: &Mutex<World>, room: &Room) {
    let keys: Vec<Key> = world.lock().pods.iter().map(Key::of).collect();
    for key in keys {
        let _ = room.sync_orphan(key).await;
    }
}

async fn history(world: &Arc<Mutex<World>>) {
    let mut room = manager(world);
    let steps = world.lock().rng.random_range(40..160);
    for _ in 0..steps {
        let (roll, more) = {
            let mut world = world.lock();
            (world.rng.random_range(0..100), world.rng.random_range(1..5))
        };
        match roll {
            0..30 => sync(world, &room).await,
            30..45 => deliver(world, &room, more, 0),
            45..62 => deliver(world, &room, 0, more),
            62..84 => world.lock().live(false),
            84..88 => CLOCK.set(CLOCK.get() + 15 * more as i64),
            88..92 => free_orphans(world, &room).await,
            92..97 => world.lock().meddle(),
            _ => {
                world.lock().log.push("the manager starts anew".into());
                room = manager(world);
            }
        }
    }
    settle(world, &room).await;
}

/// Nothing fails any more: the Job must come to its end, and let all its pods go.
async fn settle(world: &Arc<Mutex<World>>, room: &Room) {
    {
        let mut world = world.lock();
        world.faults = false;
        world.job.spec.as_mut().unwrap().suspend = Some(false);
        world.job_changed();
        world.log.push("all is well".into());
    }
    for _ in 0..400 {
        deliver(world, room, usize::MAX, usize::MAX);
        sync(world, room).await;
        free_orphans(world, room).await;
        (0..3).for_each(|_| world.lock().live(true));
        CLOCK.set(CLOCK.get() + 100);
        // What is not known to have been made is waited for, at most five minutes.
        tokio::time::advance(std::time::Duration::from_secs(100)).await;
        let world = world.lock();
        if finished(&world.job) && !world.pods.iter().any(tracked) {
            return;
        }
    }
    panic!("the job does not end: {}", serde_json::to_string(&world.lock().job.status).unwrap());
}

fn run(seed: u64) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = Arc::new(Mutex::new(World::new(seed)));
    let told = world.clone();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(history(&world))));
    // A broken promise may have been noticed inside the made-up server, whose lock is then still whole.
    if result.is_err() {
        let world = told.lock();
        println!(
            "seed {seed}\n{}\n{}",
            serde_json::to_string(&world.job.spec).unwrap(),
            world.log.join("\n")
        );
        panic!("the history of seed {seed} breaks a promise");
    }
}

/// Another range of seeds: `JOB_SEEDS=100000..200000`.
#[test]
fn histories() {
    let range = std::env::var("JOB_SEEDS").ok();
    let bounds = range
        .as_deref()
        .and_then(|r| r.split_once(".."))
        .map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
    let (from, to) = bounds.unwrap_or((0, 250));
    (from..to).for_each(run);
}

/// The checks themselves notice something: a pod that is let go without a note.
#[test]
#[should_panic(expected = "uncounted")]
fn a_pod_let_go_uncounted_is_noticed() {
    let mut world = World::new(1);
    world.job = job_of("completions: 2, parallelism: 2", "");
    let mut pod = crate::testing::pod("a Succeeded node=n");
    pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
    world.pods.push(pod);
    let _ = world
        .patch(0, &json!({"metadata": {"uid": "uid-a", "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}));
}
