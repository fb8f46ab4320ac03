//! Requests of a scheduler to the simulated API server: late, lost, refused, or answered though the answer is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use super::objects;
use super::world::{Sender, World};

/// A process that is to be killed when it next does this: before the API server does it, or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    pub on: Deed,
    pub before: bool,
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Bind,
    /// Says that a pod is being pushed away.
    Mark,
    Delete,
    /// Says why a pod has no node, or which is being cleared for it.
    Say,
    Ask,
}

/// How a scheduler reaches the API server.
#[derive(Clone)]
pub struct Line {
    /// Which scheduler.
    pub who: usize,
    pub world: Arc<Mutex<World>>,
    pub chance: Arc<Mutex<Chance>>,
    /// Of a thousand requests, how many go wrong.
    pub trouble: Arc<Mutex<usize>>,
    pub trap: Arc<Mutex<Option<Trap>>>,
    /// The process was killed.
    pub dead: Arc<AtomicBool>,
    pub token: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Good,
    Refused(u16),
    Lost,
    /// Done, but answered with this code.
    DoneBut(u16),
    /// Done, and the connection breaks.
    DoneAndCut,
    /// Done, and never answered.
    DoneAndSilent,
    /// Done when nobody waits for it any more.
    DoneLate,
}

const TROUBLES: [Fate; 11] = [
    Fate::Refused(409),
    Fate::Refused(429),
    Fate::Refused(500),
    Fate::Refused(503),
    Fate::Lost,
    Fate::DoneBut(500),
    Fate::DoneBut(504),
    Fate::DoneAndCut,
    Fate::DoneAndSilent,
    Fate::DoneAndSilent,
    Fate::DoneLate,
];

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "a good answer",
            Self::Refused(409) => "a 409",
            Self::Refused(429) => "a 429",
            Self::Refused(_) => "a 500 or 503",
            Self::Lost => "a lost request",
            Self::DoneLate => "a request on its way for very long",
            _ => "a lost answer",
        }
    }
}

fn deed(method: &Method, path: &str, body: &Value) -> Deed {
    match *method {
        Method::POST if path.ends_with("/binding") => Deed::Bind,
        Method::PATCH if body["status"]["conditions"][0]["type"] == "DisruptionTarget" => Deed::Mark,
        Method::PATCH if path.ends_with("/status") => Deed::Say,
        Method::DELETE => Deed::Delete,
        Method::GET => Deed::Ask,
        _ => panic!("nobody expected {method} {path}"),
    }
}

type Answer = Result<Response<Body>, std::io::Error>;

impl Line {
    pub fn client(&self) -> kube::Client {
        let me = self.clone();
        kube::Client::new(tower::service_fn(move |request| me.clone().serve(request)), "ns")
    }

    pub fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.token.cancel();
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    fn fate(&self, deed: Deed) -> (Duration, Fate, Duration) {
        let trouble = *self.trouble.lock();
        let mut chance = self.chance.lock();
        let slow = if chance.of(1000) < trouble { 3000 } else { 20 };
        let mut way = Duration::from_millis(chance.of(slow) as u64);
        let back = Duration::from_millis(chance.of(slow) as u64);
        if chance.of(1000) >= trouble {
            return (way, Fate::Good, back);
        }
        let mut fate = TROUBLES[chance.of(TROUBLES.len())];
        if fate == Fate::DoneLate {
            way = Duration::from_millis(15_500 + chance.of(20_000) as u64);
            // What is said of a pod so late nothing puts right; upstream's does no better.
            if deed == Deed::Say {
                fate = Fate::Lost;
            }
        }
        // A question never meets a conflict.
        if deed == Deed::Ask && fate == Fate::Refused(409) {
            fate = Fate::Refused(500);
        }
        self.world.lock().count(fate.name());
        (way, fate, back)
    }

    async fn serve(self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body: Value =
            serde_json::from_slice(&body.collect_bytes().await.unwrap_or_default()).unwrap_or_default();
        let (answer, receiver) = oneshot::channel();
        // What was sent comes, though its sender gave up or is dead by then.
        tokio::spawn(self.travel(parts.method, parts.uri.path().to_string(), body, answer));
        match receiver.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    }

    async fn travel(self, method: Method, path: String, body: Value, answer: oneshot::Sender<Answer>) {
        let deed = deed(&method, &path, &body);
        let (way, fate, back) = self.fate(deed);
        let outlives = self.chance.lock().once_in(2) && deed != Deed::Say;
        if self.is_dead() {
            return;
        }
        tokio::time::sleep(way).await;
        let late = self.is_dead() || answer.is_closed();
        if late && !outlives && self.is_dead() {
            return;
        }
        let trapped = self.trap.lock().take_if(|t| t.on == deed);
        if trapped.is_some_and(|t| t.before) {
            return self.fall(deed);
        }
        let (code, words) = match fate {
            Fate::Refused(code) => (code, refusal(code)),
            Fate::Lost => {
                let _ = answer.send(Err(cut()));
                return;
            }
            _ => self.act(deed, Sender { who: self.who, late }, &path, &body),
        };
        if trapped.is_some() {
            return self.fall(deed);
        }
        tokio::time::sleep(back).await;
        if self.is_dead() {
            return;
        }
        let _ = match fate {
            Fate::DoneAndCut => answer.send(Err(cut())),
            Fate::DoneAndSilent => {
                // As long as anyone waits.
                let mut answer = answer;
                answer.closed().await;
                return;
            }
            Fate::DoneBut(code) => answer.send(Ok(response(code, &refusal(code)))),
            _ => answer.send(Ok(response(code, &words))),
        };
    }

    /// The trap closes.
    fn fall(&self, deed: Deed) {
        self.kill();
        let mut world = self.world.lock();
        world.note(format!("scheduler {} is killed at {deed:?}", self.who));
        world.count(match deed {
            Deed::Bind => "killed mid-bind",
            Deed::Mark | Deed::Delete => "killed mid-preemption",
            _ => "killed mid-word",
        });
    }

    fn act(&self, deed: Deed, from: Sender, path: &str, body: &Value) -> (u16, Value) {
        let mut world = self.world.lock();
        let name = path.split('/').nth(6).unwrap_or("");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let uid = text(&body["metadata"]["uid"]);
        match deed {
            Deed::Bind => match world.bind(from, name, &uid, &text(&body["target"]["name"])) {
                Ok(()) => (201, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})),
                Err(code) => (code, refusal(code)),
            },
            Deed::Mark | Deed::Say => patch(&mut world, from, name, &uid, &body["status"]),
            Deed::Delete => delete(&mut world, name, &text(&body["preconditions"]["uid"])),
            Deed::Ask => match world.pods.get(name) {
                None => (404, refusal(404)),
                Some(pod) => (200, objects::pod(name, pod)),
            },
        }
    }
}

fn delete(world: &mut World, name: &str, uid: &str) -> (u16, Value) {
    match world.pods.get(name) {
        None => (404, refusal(404)),
        Some(pod) if pod.uid != uid => (409, refusal(409)),
        Some(pod) => {
            let (answer, unmarked) = (objects::pod(name, pod), !pod.disrupted);
            if unmarked {
                world.fault(format!("{name} is deleted, and nothing says why"));
            }
            world.delete(name);
            (200, answer)
        }
    }
}

fn patch(world: &mut World, from: Sender, name: &str, uid: &str, status: &Value) -> (u16, Value) {
    let condition = &status["conditions"][0];
    match world.pods.get_mut(name) {
        None => return (404, refusal(404)),
        Some(pod) if pod.uid != uid => return (409, refusal(409)),
        Some(pod) => {
            if let Some(nominated) = status.get("nominatedNodeName").filter(|_| pod.node.is_none()) {
                pod.nominated = nominated.as_str().map(str::to_string);
            }
            if condition["type"] == "PodScheduled" {
                pod.refusal = condition["message"].as_str().map(str::to_string);
            }
        }
    }
    if condition["type"] == "DisruptionTarget" {
        world.disrupt(from, name);
    } else {
        world.tell(name);
    }
    let pod = world.pods.get(name).map(|p| objects::pod(name, p));
    (200, pod.unwrap_or_default())
}

fn cut() -> std::io::Error {
    std::io::Error::other("connection reset")
}

fn refusal(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "simulated", "reason": "", "code": code})
}

fn response(code: u16, body: &Value) -> Response<Body> {
    let body = Body::from(serde_json::to_vec(body).expect("JSON"));
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(body)
        .expect("a response")
}
