//! Decisions in which extenders have a say, with real extenders on this machine and an API server that only remembers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use control::cache::Cache;
use daemon::metrics::Metrics;
use http::{Request, Response};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::client::Body;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use crate::binder::Binder;
use crate::configuration::Configuration;
use crate::follow::Whole;
use crate::metrics::Counts;
use crate::model::node::NodeSpec;
use crate::model::pod::PodInfo;
use crate::queue::{Queue, Queued};
use crate::schedule::{Decision, Place, Scheduler};
use crate::state::State;
use crate::testing::{merge, node, pod_object};

/// What an extender is asked: the verb and the arguments.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A program that answers each verb with what it is given for it, `None` with nothing at all, and notes what it is asked.
async fn program(answers: Value) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let noted = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answers.clone(), noted.clone()));
        }
    });
    (url, asked)
}

async fn serve(stream: TcpStream, answers: Value, asked: Asked) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        stream.read_line(&mut first).await.ok()?;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
            let line = line.trim().to_ascii_lowercase();
            length = line.strip_prefix("content-length:").map_or(length, |n| n.trim().parse().unwrap());
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let verb = first.split(['/', ' ']).nth(2).unwrap_or_default().to_string();
        let answer = answers.get(&verb).cloned();
        asked.lock().push((verb, serde_json::from_slice(&body).unwrap_or_default()));
        let answer = answer?;
        let code = answer.get("code").and_then(Value::as_u64).unwrap_or(200);
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        stream.get_mut().write_all((head + &text).as_bytes()).await.ok()?;
    }
}

/// A scheduler with extenders, the requests it made to the API server, and what the extenders were asked.
struct Scene {
    scheduler: Arc<Scheduler>,
    written: Arc<Mutex<Vec<(String, Value)>>>,
    asked: Vec<Asked>,
}

/// What a decision came to, in words.
type Word = Result<String, String>;

impl Scene {
    /// With extenders of these configurations and answers, and these nodes.
    async fn new(extenders: Vec<(Value, Value)>, nodes: &[Node]) -> Self {
        let (mut configs, mut asked) = (Vec::new(), Vec::new());
        for (mut config, answers) in extenders {
            let (url, noted) = program(answers).await;
            merge(&mut config, json!({"urlPrefix": url}));
            configs.push(config);
            asked.push(noted);
        }
        let config = json!({"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
            "extenders": configs});
        let config = Configuration::parse(&config.to_string()).map_err(|e| e.to_string()).unwrap();
        let mut clients = Vec::new();
        for extender in config.extenders {
            clients.push(Client::new(extender).await.unwrap());
        }
        let profiles = Arc::new(config.profiles);
        let queue = Queue::new(Duration::from_secs(1), Duration::from_secs(10));
        let state = State::new(queue, profiles.clone()).seeded(7);
        let written: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let binder = Binder::new(api_server(written.clone()), HashMap::new());
        let counts = Counts::register(&Metrics::new());
        let scheduler = Scheduler::new(state, profiles, binder, counts, clients);
        scheduler.keep(Whole { pods: Cache::detached(), nodes: Cache::detached() });
        let me = Self { scheduler, written, asked };
        nodes.iter().for_each(|n| me.add_node(n));
        me
    }

    fn add_node(&self, node: &Node) {
        let info = Arc::new(NodeSpec::of(node));
        self.scheduler.whole.get().unwrap().nodes.take(Event::Apply(node.clone()), None);
        self.scheduler.state.lock().node_changed(&info.name, Some(info.clone()), Instant::now());
    }

    fn add_pod(&self, pod: &Pod) {
        self.scheduler.whole.get().unwrap().pods.take(Event::Apply(pod.clone()), None);
        self.scheduler.state.lock().pod_seen(Arc::new(PodInfo::of(pod)), Instant::now());
    }

    async fn decide(&self, pod: &Pod) -> (Queued, Decision) {
        self.add_pod(pod);
        let queued = self.scheduler.state.lock().queue().pop(Instant::now()).unwrap();
        let profile = self.scheduler.profiles[0].clone();
        let decision = self.scheduler.decide_with_extenders(&profile, &queued).await;
        (queued, decision)
    }

    async fn word(&self, pod: &Pod) -> Word {
        match self.decide(pod).await.1 {
            Decision::Node(node, _) => Ok(node),
            Decision::Refused(refusal, _) => Err(refusal.message()),
            Decision::Failed(error) => Err(format!("failed: {error:#}")),
        }
    }

    fn verbs(&self, extender: usize) -> Vec<String> {
        self.asked[extender].lock().iter().map(|(verb, _)| verb.clone()).collect()
    }
}

fn api_server(written: Arc<Mutex<Vec<(String, Value)>>>) -> kube::Client {
    let serve = move |request: Request<Body>| {
        let written = written.clone();
        async move {
            let path = request.uri().path().to_string();
            let body = request.into_body().collect_bytes().await.unwrap_or_default();
            written.lock().push((path, serde_json::from_slice(&body).unwrap_or_default()));
            let answer = json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}).to_string();
            Ok::<_, std::io::Error>(Response::new(Body::from(answer.into_bytes())))
        }
    };
    kube::Client::new(tower::service_fn(serve), "ns")
}

fn three() -> Vec<Node> {
    ["a", "b", "c"].map(|n| node(n, json!({}))).to_vec()
}

fn plain(name: &str) -> Pod {
    pod_object(name, json!({}))
}

/// A pod of this priority, on a node or not, that takes a whole node.
fn large(name: &str, priority: i32, node: Option<&str>) -> Pod {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "4"}}});
    pod_object(name, json!({"priority": priority, "nodeName": node, "containers": [container]}))
}

#[tokio::test]
async fn filters_take_nodes_away_one_after_the_other() {
    let keep = |names: Value| json!({"filter": {"NodeNames": names}});
    let knows = json!({"filterVerb": "filter", "nodeCacheCapable": true});
    let first = (knows.clone(), keep(json!(["a", "b"])));
    let scene = Scene::new(vec![first, (knows, keep(json!(["b", "c"])))], &three()).await;
    assert_eq!(scene.word(&plain("p")).await, Ok("b".into()));
    let (_, asked) = scene.asked[1].lock()[0].clone();
    let mut names = asked["NodeNames"].as_array().unwrap().clone();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, ["a", "b"], "the second sees what the first left");
    assert_eq!(asked["Pod"]["metadata"]["name"], "p");
}

#[tokio::test]
async fn who_does_not_know_the_nodes_is_sent_them_whole() {
    let items = json!([{"metadata": {"name": "c"}}]);
    let answers = json!({"filter": {"Nodes": {"items": items}}});
    let scene = Scene::new(vec![(json!({"filterVerb": "filter"}), answers)], &three()).await;
    assert_eq!(scene.word(&plain("p")).await, Ok("c".into()));
    let (_, asked) = scene.asked[0].lock()[0].clone();
    let sent = asked["Nodes"]["items"].as_array().unwrap();
    assert_eq!((sent.len(), &sent[0]["status"]["allocatable"]["cpu"]), (3, &json!("4")));
}

#[tokio::test]
async fn refusals_of_extenders_are_told_and_nothing_is_pushed_away_for_them() {
    let answer = json!({"filter": {"NodeNames": [], "FailedNodes": {"a": "no gpu left", "b": "no gpu left"},
        "FailedAndUnresolvableNodes": {"c": "no gpu at all"}}});
    let config = json!({"filterVerb": "filter", "nodeCacheCapable": true});
    let mut nodes = three();
    nodes.push(node("d", json!({"spec": {"unschedulable": true}})));
    let scene = Scene::new(vec![(config, answer)], &nodes).await;
    // On b there is somebody to push away, but that would not help.
    scene.add_pod(&pod_object("low", json!({"priority": -1, "nodeName": "b"})));
    let want = "0/4 nodes are available: 1 no gpu at all, 1 node(s) were unschedulable, 2 no gpu left. preemption: 0/4 nodes \
                are available: 2 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.";
    assert_eq!(scene.word(&plain("p")).await, Err(want.into()));
}

#[tokio::test]
async fn one_that_fails_holds_the_pod_up_unless_it_is_ignorable() {
    for (answers, says) in [
        (json!({"filter": {"Error": "out of order"}}), "out of order"),
        (json!({"filter": {"code": 500, "message": "broken"}}), "broken"),
        (json!({"filter": "nonsense"}), "invalid type"),
        (json!({}), "http"),
    ] {
        let config =
            |ignorable: bool| json!({"filterVerb": "filter", "ignorable": ignorable, "httpTimeout": "5s"});
        let strict = Scene::new(vec![(config(false), answers.clone())], &three()).await;
        let word = strict.word(&plain("p")).await.unwrap_err();
        assert!(word.starts_with("failed: ") && word.contains(says), "{answers}: {word}");
        let lenient = Scene::new(vec![(config(true), answers)], &three()).await;
        assert!(lenient.word(&plain("p")).await.is_ok());
        assert_eq!(lenient.verbs(0)[0], "filter", "it was asked all the same");
    }
}

#[tokio::test]
async fn scores_are_weighed_and_added_and_who_fails_has_no_say() {
    let scores = |a: i64, b: i64| json!([{"Host": "a", "Score": a}, {"Host": "b", "Score": b}]);
    let config =
        |weight: i64| json!({"prioritizeVerb": "prioritize", "weight": weight, "nodeCacheCapable": true});
    for (one, two, want) in
        [((1, scores(9, 0)), (5, scores(0, 2)), "b"), ((3, scores(9, 0)), (5, scores(0, 2)), "a")]
    {
        let extenders = [one, two].map(|(weight, s)| (config(weight), json!({"prioritize": s}))).to_vec();
        assert_eq!(Scene::new(extenders, &three()).await.word(&plain("p")).await, Ok(want.into()));
    }
    let broken = (config(100), json!({"prioritize": {"code": 500}}));
    let sound = (config(1), json!({"prioritize": scores(0, 10)}));
    assert_eq!(Scene::new(vec![broken, sound], &three()).await.word(&plain("p")).await, Ok("b".into()));
}

#[tokio::test]
async fn only_pods_that_ask_for_its_resources_are_its_business_and_it_alone_counts_them() {
    let config = json!({"filterVerb": "filter", "nodeCacheCapable": true,
        "managedResources": [{"name": "x.y/gpu", "ignoredByScheduler": true}]});
    let scene = Scene::new(vec![(config.clone(), json!({"filter": {"NodeNames": ["c"]}}))], &three()).await;
    let concerns = |pod: &Pod| scene.scheduler.extenders[0].config.concerns(&PodInfo::of(pod));
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"x.y/gpu": "1"}}});
    let gpu = pod_object("gpu", json!({"containers": [container]}));
    assert!(concerns(&gpu) && !concerns(&plain("p")));
    scene.word(&plain("p")).await.unwrap();
    assert_eq!(scene.verbs(0), [""; 0]);
    // No node offers it: the scheduler itself would refuse them all.
    assert_eq!(scene.word(&gpu).await, Ok("c".into()));
    let mut counted = config;
    counted["managedResources"][0]["ignoredByScheduler"] = json!(false);
    let scene = Scene::new(vec![(counted, json!({"filter": {"NodeNames": ["c"]}}))], &three()).await;
    let word = scene.word(&gpu).await.unwrap_err();
    assert!(word.starts_with("0/3 nodes are available: 3 Insufficient x.y/gpu. preemption: "), "{word}");
}

#[tokio::test]
async fn an_extender_chooses_among_victims() {
    let config = json!({"preemptVerb": "preempt", "filterVerb": "filter", "nodeCacheCapable": true});
    let victims = json!({"b": {"Pods": [{"UID": "uid-low-b"}], "NumPDBViolations": 0}});
    let answers =
        json!({"filter": {"NodeNames": ["a", "b", "c"]}, "preempt": {"NodeNameToMetaVictims": victims}});
    let scene = Scene::new(vec![(config.clone(), answers)], &three()).await;
    for n in ["a", "b", "c"] {
        scene.add_pod(&large(&format!("low-{n}"), 0, Some(n)));
    }
    let (_, decision) = scene.decide(&large("high", 10, None)).await;
    let Decision::Refused(refusal, Place::Cleared(chosen)) = decision else { panic!("no place is cleared") };
    assert_eq!((chosen.node.as_str(), chosen.victims[0].name.as_str()), ("b", "low-b"));
    assert_eq!(refusal.message(), "0/3 nodes are available: 3 Insufficient cpu.");
    let (verb, asked) = scene.asked[0].lock().last().cloned().unwrap();
    assert_eq!((verb.as_str(), asked["NodeNameToMetaVictims"].as_object().unwrap().len()), ("preempt", 3));

    let nobody = json!({"preempt": {"NodeNameToMetaVictims": {}}, "filter": {"NodeNames": []}});
    let scene = Scene::new(vec![(config, nobody)], &three()).await;
    scene.add_pod(&large("low", 0, Some("a")));
    scene.add_node(&node("b", json!({"spec": {"unschedulable": true}})));
    scene.add_node(&node("c", json!({"spec": {"unschedulable": true}})));
    let (_, decision) = scene.decide(&large("high", 10, None)).await;
    assert!(matches!(decision, Decision::Refused(_, Place::Lost)));
}

#[tokio::test]
async fn a_node_that_only_extenders_refuse_is_not_cleared_for_nothing() {
    let config = json!({"preemptVerb": "preempt", "filterVerb": "filter", "nodeCacheCapable": true});
    let answers = json!({"filter": {"NodeNames": [], "FailedNodes": {"a": "no"}}, "preempt": {"NodeNameToMetaVictims": {}}});
    let scene = Scene::new(vec![(config, answers)], &three()[..1]).await;
    scene.add_pod(&pod_object("low", json!({"priority": -1, "nodeName": "a"})));
    let want = "0/1 nodes are available: 1 no. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    assert_eq!(scene.word(&plain("p")).await, Err(want.into()));
    assert_eq!(scene.verbs(0), ["filter"], "there is nothing to choose from");
}

/// Runs the loop until something was written, or asked of the extender.
async fn until(scene: &Scene, done: impl Fn(&Scene) -> bool) {
    let token = CancellationToken::new();
    let running = tokio::spawn(scene.scheduler.clone().run(token.clone()));
    let come = async {
        while !done(scene) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), come).await.unwrap();
    token.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn an_extender_that_binds_does_it_alone_and_only_for_its_pods() {
    let config =
        json!({"bindVerb": "bind", "managedResources": [{"name": "x.y/gpu", "ignoredByScheduler": true}]});
    let scene = Scene::new(vec![(config, json!({"bind": {}}))], &three()[..1]).await;
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"x.y/gpu": "1"}}});
    scene.add_pod(&pod_object("gpu", json!({"containers": [container]})));
    until(&scene, |s| !s.asked[0].lock().is_empty() && !s.scheduler.state.lock().wants_node("uid-gpu")).await;
    let want = json!({"PodName": "gpu", "PodNamespace": "ns", "PodUID": "uid-gpu", "Node": "a"});
    assert_eq!(*scene.asked[0].lock(), [("bind".to_string(), want)]);
    assert!(scene.written.lock().is_empty());
    scene.add_pod(&plain("p"));
    until(&scene, |s| !s.written.lock().is_empty()).await;
    let (path, body) = scene.written.lock()[0].clone();
    assert_eq!(path, "/api/v1/namespaces/ns/pods/p/binding");
    let want = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p", "namespace": "ns", "uid": "uid-p"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "a"}});
    assert_eq!(body, want);
    assert_eq!(scene.verbs(0), ["bind"]);
}

#[tokio::test]
async fn a_binding_that_an_extender_refuses_is_said_and_tried_again() {
    let scene = Scene::new(
        vec![(json!({"bindVerb": "bind"}), json!({"bind": {"Error": "not today"}}))],
        &three()[..1],
    )
    .await;
    scene.add_pod(&plain("p"));
    until(&scene, |s| !s.written.lock().is_empty()).await;
    let (path, body) = scene.written.lock()[0].clone();
    assert_eq!(path, "/api/v1/namespaces/ns/pods/p/status");
    let condition = &body["status"]["conditions"][0];
    assert_eq!((&condition["reason"], &condition["status"]), (&json!("SchedulerError"), &json!("False")));
    assert!(condition["message"].as_str().is_some_and(|m| m.ends_with("/bind: not today")));
    let mut state = scene.scheduler.state.lock();
    assert_eq!(state.queue().lengths(), [0, 1, 0, 0], "after a pause");
    assert!(state.placed().is_empty(), "its room is free again");
}
