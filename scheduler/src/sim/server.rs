//! Requests of a scheduler to the simulated API server: late, lost, refused, or answered though the answer is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::chance::Chance;
use super::world::{World, shown};

/// How a scheduler reaches the API server.
#[derive(Clone)]
pub struct Line {
    /// Which scheduler.
    pub who: usize,
    pub world: Arc<Mutex<World>>,
    pub chance: Arc<Mutex<Chance>>,
    /// Of a thousand requests, how many go wrong.
    pub trouble: Arc<Mutex<usize>>,
    /// The process was killed: nothing it sends arrives any more.
    pub dead: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq)]
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
}

impl Line {
    pub fn client(&self) -> kube::Client {
        let me = self.clone();
        kube::Client::new(tower::service_fn(move |request| me.clone().serve(request)), "ns")
    }

    fn fate(&self) -> (Duration, Fate, Duration) {
        let trouble = *self.trouble.lock();
        let mut chance = self.chance.lock();
        let slow = if chance.of(1000) < trouble { 3000 } else { 20 };
        let way = Duration::from_millis(chance.of(slow) as u64);
        let back = Duration::from_millis(chance.of(slow) as u64);
        if chance.of(1000) >= trouble {
            return (way, Fate::Good, back);
        }
        let all = [
            Fate::Refused(429),
            Fate::Refused(500),
            Fate::Lost,
            Fate::DoneBut(500),
            Fate::DoneBut(504),
            Fate::DoneAndCut,
            Fate::DoneAndSilent,
        ];
        (way, all[chance.of(all.len())], back)
    }

    async fn serve(self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body: Value =
            serde_json::from_slice(&body.collect_bytes().await.unwrap_or_default()).unwrap_or_default();
        let (way, fate, back) = self.fate();
        tokio::time::sleep(way).await;
        if self.dead.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        let cut = || std::io::Error::other("connection reset");
        let (code, answer) = match fate {
            Fate::Refused(code) => (code, status(code)),
            Fate::Lost => return Err(cut()),
            _ => self.act(&parts.method, parts.uri.path(), &body),
        };
        tokio::time::sleep(back).await;
        match fate {
            Fate::DoneAndCut => Err(cut()),
            Fate::DoneAndSilent => std::future::pending().await,
            Fate::DoneBut(code) => Ok(response(code, &status(code))),
            _ => Ok(response(code, &answer)),
        }
    }

    fn act(&self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let mut world = self.world.lock();
        let parts: Vec<&str> = path.split('/').collect();
        let (name, sub) = (parts.get(6).copied().unwrap_or(""), parts.get(7).copied());
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let uid = text(&body["metadata"]["uid"]);
        match (method, sub) {
            (&Method::POST, Some("binding")) => {
                match world.bind(self.who, name, &uid, &text(&body["target"]["name"])) {
                    Ok(()) => (201, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})),
                    Err(code) => (code, status(code)),
                }
            }
            (&Method::PATCH, Some("status")) => patch(&mut world, self.who, name, &uid, &body["status"]),
            (&Method::DELETE, None) => {
                let uid = text(&body["preconditions"]["uid"]);
                match world.pods.get(name) {
                    None => (404, status(404)),
                    Some(pod) if pod.uid != uid => (409, status(409)),
                    Some(pod) => {
                        let answer = shown(name, pod);
                        world.delete(name);
                        (200, answer)
                    }
                }
            }
            (&Method::GET, None) => match world.pods.get(name) {
                None => (404, status(404)),
                Some(pod) => (200, shown(name, pod)),
            },
            _ => panic!("nobody expected {method} {path}"),
        }
    }
}

fn patch(world: &mut World, who: usize, name: &str, uid: &str, status_: &Value) -> (u16, Value) {
    match world.pods.get_mut(name) {
        None => return (404, status(404)),
        Some(pod) if pod.uid != uid => return (409, status(409)),
        Some(pod) => {
            if let Some(nominated) = status_.get("nominatedNodeName").filter(|_| pod.node.is_none()) {
                pod.nominated = nominated.as_str().map(str::to_string);
            }
        }
    }
    if status_["conditions"][0]["type"] == "DisruptionTarget" {
        world.disrupt(who, name);
    } else {
        world.tell(name);
    }
    let pod = world.pods.get(name).map(|p| shown(name, p));
    (200, pod.unwrap_or_default())
}

fn status(code: u16) -> Value {
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
