//! A made-up API server for a real room.

use std::sync::{Arc, LazyLock};
use std::task::{Context as Poller, Poll};

use clap::Parser;
use control::{Caches, Recorder};
use daemon::metrics::Metrics;
use daemon::tasks::Tasks;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::kit::{Context, Writer};

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub body: Value,
    /// For the metadata alone.
    pub metadata: bool,
}

/// A status and a body.
pub type Answer = (u16, Value);

/// Answers requests.
pub trait Server: Send + 'static {
    fn answer(&mut self, asked: &Asked) -> Answer;
}

/// A failure in the API server's words.
pub fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": reason,
    });
    (code, status)
}

/// Whether what a request says of the object it means (in its metadata, or as preconditions) is not so.
pub fn differs(said: &Value, meta: &ObjectMeta) -> bool {
    let wrong =
        |key: &str, have: &Option<String>| said[key].as_str().is_some_and(|v| Some(v) != have.as_deref());
    wrong("uid", &meta.uid) || wrong("resourceVersion", &meta.resource_version)
}

struct Connection<S>(Arc<Mutex<S>>);

impl<S> Clone for Connection<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Server> tower::Service<Request<Body>> for Connection<S> {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap_or_default();
            let accept = parts.headers.get(http::header::ACCEPT).and_then(|a| a.to_str().ok());
            let asked = Asked {
                path: parts.uri.path().into(),
                query: parts.uri.query().unwrap_or_default().into(),
                body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
                metadata: accept.is_some_and(|a| a.contains("PartialObjectMetadata")),
                method: parts.method,
            };
            let (code, answer) = server.lock().answer(&asked);
            Ok(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
        })
    }
}

/// As without any flags.
static CONFIG: LazyLock<Arc<crate::Config>> =
    LazyLock::new(|| Arc::new(crate::Config::parse_from(["kube-controller-manager"])));

/// A manager's context that talks to the server, with no caches but those a room opens itself.
pub fn context<S: Server>(server: &Arc<Mutex<S>>, name: &'static str) -> Context {
    let client = kube::Client::new(Connection(server.clone()), "default");
    let tasks = Tasks::new(CancellationToken::new());
    Context {
        name,
        config: CONFIG.clone(),
        caches: Caches::new(client.clone(), tasks.clone()),
        root: client.clone(),
        writer: Writer::new(client),
        recorder: Recorder::silent(),
        metrics: Metrics::new(),
        tasks,
    }
}
