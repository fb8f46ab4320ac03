//! /pods, /runningpods and /containerLogs.

use super::answer::json;
use super::logs::follow::Follow;
use super::logs::{LogOptions, read_logs};
use super::route::Target;
use crate::context::Context;
use crate::pods::table::{ContainerState, PodEntry, PodTable, RuntimeContainer};
use bytes::Bytes;
use daemon::serving::{Body, text};
use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde_json::{Value, json as object};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

/// Chunks of a log on their way to the client.
const QUEUE: usize = 8;

/// All pods of the node, with the status this kubelet has made.
pub fn pod_list(ctx: &Context) -> Value {
    let mut entries = ctx.pods.list();
    entries.sort_by(|a, b| (a.namespace(), a.name(), a.uid()).cmp(&(b.namespace(), b.name(), b.uid())));
    let items: Vec<Pod> = entries.iter().map(with_status).collect();
    object!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items })
}

fn with_status(entry: &PodEntry) -> Pod {
    let mut pod = (*entry.pod).clone();
    if entry.status.phase.is_some() {
        pod.status = Some((*entry.status).clone());
    }
    pod
}

/// Pods as the runtime knows them, whatever the API says.
pub async fn running(ctx: &Context) -> Response<Body> {
    match ctx.runtime.list_containers(None).await {
        Ok(containers) => json(&running_list(&containers)),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn running_list(containers: &[crate::runtime::cri::Container]) -> Value {
    let label = |c: &crate::runtime::cri::Container, l: &str| c.labels.get(l).cloned().unwrap_or_default();
    let mut pods: BTreeMap<[String; 3], Vec<Value>> = BTreeMap::new();
    let running = crate::runtime::cri::ContainerState::ContainerRunning as i32;
    for c in containers.iter().filter(|c| c.state == running) {
        let key = ["namespace", "name", "uid"].map(|n| label(c, &format!("io.kubernetes.pod.{n}")));
        let image = c.image.as_ref().map(|i| i.image.clone()).unwrap_or_default();
        let name = label(c, "io.kubernetes.container.name");
        pods.entry(key).or_default().push(object!({ "name": name, "image": image, "resources": {} }));
    }
    let items: Vec<Value> = pods
        .into_iter()
        .map(|([ns, name, uid], containers)| {
            object!({
                "metadata": { "namespace": ns, "name": name, "uid": uid, "creationTimestamp": null },
                "spec": { "containers": containers },
                "status": {},
            })
        })
        .collect();
    object!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items })
}

/// The log of a container, to its end or followed.
pub async fn container_logs(
    ctx: &Arc<Context>,
    target: &Target,
    query: &[(String, String)],
) -> Response<Body> {
    let options = match LogOptions::from_query(query, jiff::Timestamp::now()) {
        Ok(options) => options,
        Err(why) => return text(StatusCode::UNPROCESSABLE_ENTITY, format!("{{\"message\": \"{why}\"}}")),
    };
    let Some(entry) = ctx.pods.by_name(&target.namespace, &target.pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod \"{}\" not found\n", target.pod));
    };
    if !has_container(&entry.pod, &target.container) {
        let (pod, container) = (&target.pod, &target.container);
        return text(StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {pod:?}\n"));
    }
    let (id, path) = match find_log(&entry, &target.container, options.previous) {
        Ok(found) => found,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    if let Err(error) = tokio::fs::metadata(&path).await {
        let why = format!("failed to try resolving symlinks in path {path:?}: {error}\n");
        return text(StatusCode::INTERNAL_SERVER_ERROR, why);
    }
    let follow = Watching::new(ctx.pods.clone(), entry.uid().to_owned(), id);
    stream_log(path, options, follow, ctx)
}

fn stream_log(path: PathBuf, options: LogOptions, follow: Watching, ctx: &Context) -> Response<Body> {
    let (tx, rx) = mpsc::channel::<Bytes>(QUEUE);
    let cancel = ctx.cancel.clone();
    tokio::spawn(async move {
        let reading = cancel.run_until_cancelled(read_logs(&path, &options, follow, &tx)).await;
        if let Some(Err(error)) = reading {
            let text = format!("failed to read log: {error}\n");
            tracing::debug!(%error, path = %path.display(), "reading a container log");
            let _ = tx.send(text.into()).await;
        }
    });
    let frames = ReceiverStream::new(rx).map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    let mut response = Response::new(StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Is there a container of this name, of any kind?
pub fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| c.name.as_str());
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| c.name.as_str());
    plain.chain(ephemeral).any(|n| n == name)
}

/// Id and log file of the instance whose log is meant, or upstream's words for why there is none.
fn find_log(entry: &PodEntry, container: &str, previous: bool) -> Result<(String, PathBuf), String> {
    let found = if previous { previous_of(entry, container) } else { current_of(entry, container) };
    match found {
        Some(c) => Ok((c.id.clone(), c.log_path.clone())),
        None if previous => {
            Err(format!("previous terminated container {container:?} in pod {:?} not found", entry.name()))
        }
        None => Err(why_none(status_of(entry, container), container, entry.name())),
    }
}

fn current_of<'a>(entry: &'a PodEntry, container: &str) -> Option<&'a RuntimeContainer> {
    let mut of_name = entry.view.containers.iter().filter(|c| c.name == container);
    let newest = of_name.next()?;
    // One that is only just made, or failed to start, has nothing to show: the one before it has.
    if newest.state == ContainerState::Created
        && let Some(older) = of_name.next()
    {
        return Some(older);
    }
    (newest.state != ContainerState::Created).then_some(newest)
}

/// The instance before the current one; in a back-off that is the current one's predecessor too.
fn previous_of<'a>(entry: &'a PodEntry, container: &str) -> Option<&'a RuntimeContainer> {
    entry.view.previous(container).or_else(|| {
        // Waiting to be started anew: the status calls the last instance the previous one.
        let waiting =
            status_of(entry, container).and_then(|s| s.state.as_ref()).is_some_and(|s| s.waiting.is_some());
        entry.view.container(container).filter(|c| waiting && c.state == ContainerState::Exited)
    })
}

fn status_of<'a>(entry: &'a PodEntry, container: &str) -> Option<&'a ContainerStatus> {
    let s = &entry.status;
    let all = [&s.container_statuses, &s.init_container_statuses, &s.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|c| c.name == container)
}

fn why_none(status: Option<&ContainerStatus>, container: &str, pod: &str) -> String {
    let head = format!("container {container:?} in pod {pod:?}");
    let Some(state) = status.and_then(|s| s.state.as_ref()) else {
        return format!("{head} is not available");
    };
    if state.terminated.is_some() {
        return format!("{head} is terminated");
    }
    let reason = state.waiting.as_ref().and_then(|w| w.reason.as_deref());
    match reason {
        Some("ErrImagePull") => format!("{head} is waiting to start: image can't be pulled"),
        Some("ImagePullBackOff") => format!("{head} is waiting to start: trying and failing to pull image"),
        Some(reason) => format!("{head} is waiting to start: {reason}"),
        None => format!("{head} is waiting to start - no logs yet"),
    }
}

/// Follows a container's life in the pod table.
struct Watching {
    table: Arc<PodTable>,
    version: watch::Receiver<u64>,
    uid: String,
    id: String,
}

impl Watching {
    fn new(table: Arc<PodTable>, uid: String, id: String) -> Self {
        let version = table.subscribe();
        Self { table, version, uid, id }
    }
}

impl Follow for Watching {
    fn ended(&mut self) -> bool {
        self.version.borrow_and_update();
        let Some(entry) = self.table.by_uid(&self.uid) else { return true };
        let state = entry.view.containers.iter().find(|c| c.id == self.id).map(|c| c.state);
        state.is_none_or(|s| s == ContainerState::Exited)
    }

    async fn changed(&mut self) {
        if self.version.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::table::PodView;
    use k8s_openapi::api::core::v1::PodStatus;

    /// Instances newest first, as letters: Created, Running, Exited; ids count from 1.
    fn entry(instances: &str, state: Value) -> PodEntry {
        let state_of = |c| match c {
            'C' => ContainerState::Created,
            'R' => ContainerState::Running,
            _ => ContainerState::Exited,
        };
        let containers = instances
            .chars()
            .enumerate()
            .map(|(i, c)| RuntimeContainer {
                name: "c".into(),
                id: (i + 1).to_string(),
                state: state_of(c),
                ..Default::default()
            })
            .collect();
        let status: PodStatus = serde_json::from_value(object!({ "containerStatuses": [
            { "name": "c", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state }
        ] }))
        .unwrap();
        let pod =
            serde_json::from_value(object!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" } }))
                .unwrap();
        PodEntry {
            pod: Arc::new(pod),
            status: Arc::new(status),
            view: Arc::new(PodView { containers, ..Default::default() }),
            ..Default::default()
        }
    }

    #[track_caller]
    fn check(instances: &str, state: Value, current: Result<&str, &str>, previous: Result<&str, &str>) {
        let e = entry(instances, state);
        let got = |p| find_log(&e, "c", p).map(|(id, _)| id);
        let own = |r: Result<&str, &str>| r.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(got(false), own(current), "{instances} current");
        assert_eq!(got(true), own(previous), "{instances} previous");
    }

    #[test]
    fn which_instance_is_meant() {
        let none = Err("previous terminated container \"c\" in pod \"p\" not found");
        let waiting = |r: &str| object!({ "waiting": { "reason": r } });
        check("R", object!({ "running": {} }), Ok("1"), none);
        check("RE", object!({ "running": {} }), Ok("1"), Ok("2"));
        check("E", object!({ "terminated": { "exitCode": 0 } }), Ok("1"), none);
        check("E", waiting("CrashLoopBackOff"), Ok("1"), Ok("1"));
        check("CE", waiting("RunContainerError"), Ok("2"), Ok("2"));
        check(
            "",
            waiting("ContainerCreating"),
            Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
            none,
        );
        check(
            "",
            waiting("ErrImagePull"),
            Err("container \"c\" in pod \"p\" is waiting to start: image can't be pulled"),
            none,
        );
        check("", object!({}), Err("container \"c\" in pod \"p\" is waiting to start - no logs yet"), none);
    }

    #[tokio::test]
    async fn a_container_ends_when_the_table_says_so() {
        let table = Arc::new(PodTable::default());
        table.upsert("u", |e| *e = entry("R", object!({})));
        let mut follow = Watching::new(table.clone(), "u".into(), "1".into());
        assert!(!follow.ended());
        table.upsert("u", |e| *e = entry("E", object!({})));
        follow.changed().await;
        assert!(follow.ended());
        table.remove("u");
        follow.changed().await;
        assert!(follow.ended());
    }
}
