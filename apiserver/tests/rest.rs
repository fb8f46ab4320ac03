//! The REST path in process, over the store in memory.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use kube_apiserver::app::App;
use kube_apiserver::http::{Body, request_body};
use kube_apiserver::server::{self, connection::Peer, filters};
use kube_apiserver::storage::memory::Memory;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Server {
    app: Arc<App>,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Answer {
    code: u16,
    warnings: Vec<String>,
    content_type: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Server {
    async fn start() -> Self {
        let flags = "x --etcd-servers=memory --authorization-mode=AlwaysAllow --service-cluster-ip-range=10.96.0.0/16 \
            --disable-admission-plugins=ServiceAccount --endpoint-reconciler-type=none";
        let (config, _) =
            kube_apiserver::config::parse(flags.split_whitespace().map(str::to_owned)).expect("flags");
        let app = server::build_over(config, Arc::new(Memory::default())).expect("build");
        let stop = CancellationToken::new();
        tokio::spawn(app.cache.clone().feed(stop.clone()));
        app.reader.synced().await;
        let server = Self { app, stop };
        let made = server.post("/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
        assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
        server
    }

    async fn raw(
        &self,
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> http::Response<Body> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(request_body(body)).expect("request");
        let peer = Arc::new(Peer { certificates: Vec::new(), address: ([127, 0, 0, 1], 1).into() });
        filters::serve(self.app.clone(), peer, request).await
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> Answer {
        let response = self.raw(method, uri, headers, body).await;
        let text = |name: header::HeaderName| {
            response
                .headers()
                .get_all(name)
                .iter()
                .map(|v| v.to_str().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        let (warnings, content_type) = (text(header::WARNING), text(header::CONTENT_TYPE).join(""));
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.expect("body").to_bytes().to_vec();
        Answer { code, warnings, content_type, body }
    }

    async fn get(&self, uri: &str) -> Answer {
        self.send(Method::GET, uri, &[], "").await
    }

    async fn post(&self, uri: &str, body: Value) -> Answer {
        self.send(Method::POST, uri, &[], body.to_string()).await
    }

    async fn put(&self, uri: &str, body: Value) -> Answer {
        self.send(Method::PUT, uri, &[], body.to_string()).await
    }

    async fn delete(&self, uri: &str, body: Value) -> Answer {
        self.send(Method::DELETE, uri, &[], body.to_string()).await
    }

    async fn patch(&self, kind: &str, uri: &str, body: Value) -> Answer {
        let content_type = format!("application/{kind}+json");
        self.send(Method::PATCH, uri, &[("content-type", &content_type)], body.to_string()).await
    }

    async fn watch(&self, uri: &str) -> Events {
        let response = self.raw(Method::GET, uri, &[], "").await;
        assert_eq!(response.status(), StatusCode::OK);
        Events { body: response.into_body(), buffer: Vec::new() }
    }
}

struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("event"));
            }
            let frame =
                tokio::time::timeout(Duration::from_secs(5), self.body.frame()).await.expect("in time")?;
            self.buffer.extend_from_slice(frame.expect("frame").data_ref().expect("data"));
        }
    }

    async fn line(&mut self) -> String {
        let event = self.next().await.expect("event");
        let meta = &event["object"]["metadata"];
        format!("{} {}", event["type"].as_str().unwrap_or(""), meta["name"].as_str().unwrap_or(""))
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

#[tokio::test]
async fn create_get_update_delete() {
    let server = Server::start().await;
    let made = server.post(MAPS, map("a", json!({"k": "1"}))).await;
    assert_eq!((made.code, made.content_type.as_str()), (201, "application/json"));
    let mut object = made.json();
    assert_eq!(object["metadata"]["namespace"], "default");
    for key in ["uid", "resourceVersion", "creationTimestamp"] {
        assert!(object["metadata"][key].is_string(), "{key}");
    }
    let again = server.post(MAPS, map("a", json!({}))).await;
    assert_eq!((again.code, again.json()["reason"].clone()), (409, json!("AlreadyExists")));
    assert_eq!(again.json()["message"], "configmaps \"a\" already exists");

    let uri = format!("{MAPS}/a");
    assert_eq!(server.get(&uri).await.json(), object);
    object["data"]["k"] = "2".into();
    let updated = server.put(&uri, object.clone()).await;
    assert_eq!((updated.code, updated.json()["data"]["k"].clone()), (200, json!("2")));
    let stale = server.put(&uri, object.clone()).await;
    assert_eq!((stale.code, stale.json()["reason"].clone()), (409, json!("Conflict")));

    let same = server.put(&uri, updated.json()).await;
    assert_eq!(same.json()["metadata"]["resourceVersion"], updated.json()["metadata"]["resourceVersion"]);
    let gone = server.delete(&uri, Value::Null).await;
    assert_eq!((gone.code, gone.json()["status"].clone()), (200, json!("Success")));
    assert_eq!(gone.json()["details"]["uid"], object["metadata"]["uid"]);
    let missing = server.get(&uri).await;
    assert_eq!((missing.code, missing.json()["message"].clone()), (404, json!("configmaps \"a\" not found")));
}

#[tokio::test]
async fn bad_requests() {
    let server = Server::start().await;
    let other = json!({"metadata": {"name": "a", "namespace": "other"}});
    assert_eq!(server.post(MAPS, other).await.code, 400);
    assert_eq!(server.post(MAPS, json!({"kind": "Secret", "apiVersion": "v1"})).await.code, 400);
    assert_eq!(server.send(Method::POST, MAPS, &[], "{nonsense").await.code, 400);
    assert_eq!(server.send(Method::POST, MAPS, &[("content-type", "text/plain")], "{}").await.code, 415);
    assert_eq!(server.send(Method::GET, MAPS, &[("accept", "text/html")], "").await.code, 406);
    let invalid = server.post(MAPS, map("Not_A_Name", json!({}))).await;
    assert_eq!(
        (invalid.code, invalid.json()["details"]["causes"][0]["field"].clone()),
        (422, json!("metadata.name"))
    );
    let versioned = json!({"metadata": {"name": "a", "resourceVersion": "5"}});
    assert_eq!(server.post(MAPS, versioned).await.code, 500);
    assert_eq!(server.get("/api/v1/nothings").await.code, 404);
    assert_eq!(server.put(MAPS, json!({})).await.code, 405);
    let huge = vec![b' '; 4 * 1024 * 1024];
    assert_eq!(server.send(Method::POST, MAPS, &[], huge).await.code, 413);
}

#[tokio::test]
async fn field_validation() {
    let server = Server::start().await;
    let body = json!({"metadata": {"name": "a"}, "dat": {}});
    let strict = server.post(&format!("{MAPS}?fieldValidation=Strict"), body.clone()).await;
    assert_eq!(strict.code, 400);
    assert!(
        strict.json()["message"]
            .as_str()
            .is_some_and(|m| m.contains("strict decoding error: unknown field \"dat\""))
    );
    let warned = server.post(&format!("{MAPS}?fieldValidation=Warn&dryRun=All"), body.clone()).await;
    assert_eq!((warned.code, warned.warnings), (201, vec!["299 - \"unknown field \\\"dat\\\"\"".to_owned()]));
    let ignored = server.post(&format!("{MAPS}?fieldValidation=Ignore"), body).await;
    assert_eq!((ignored.code, ignored.warnings.len()), (201, 0));
}

#[tokio::test]
async fn patches() {
    let server = Server::start().await;
    server.post(MAPS, map("a", json!({"k": "1", "gone": "x"}))).await;
    let uri = format!("{MAPS}/a");
    let merged = server.patch("merge-patch", &uri, json!({"data": {"gone": null, "n": "2"}})).await;
    assert_eq!((merged.code, merged.json()["data"].clone()), (200, json!({"k": "1", "n": "2"})));
    let json_patch = json!([{"op": "test", "path": "/data/k", "value": "1"}, {"op": "replace", "path": "/data/k", "value": "9"}]);
    assert_eq!(server.patch("json-patch", &uri, json_patch.clone()).await.json()["data"]["k"], "9");
    assert_eq!(server.patch("json-patch", &uri, json_patch).await.code, 422);
    let strategic =
        server.patch("strategic-merge-patch", &uri, json!({"metadata": {"labels": {"l": "v"}}})).await;
    assert_eq!(strategic.json()["metadata"]["labels"], json!({"l": "v"}));
    let stale = server
        .patch("merge-patch", &uri, json!({"metadata": {"resourceVersion": "1"}, "data": {"k": "0"}}))
        .await;
    assert_eq!(stale.code, 409);
    assert_eq!(server.patch("apply-patch", &uri, json!({})).await.code, 415);
    assert_eq!(server.patch("merge-patch", &format!("{MAPS}/none"), json!({})).await.code, 404);
    assert_eq!(server.patch("merge-patch", &uri, json!({"data": {"k": 5}})).await.code, 422);
}

#[tokio::test]
async fn dry_run_and_generated_names() {
    let server = Server::start().await;
    let dry = server.post(&format!("{MAPS}?dryRun=All"), map("dry", json!({}))).await;
    assert_eq!((dry.code, dry.json()["metadata"].get("resourceVersion").cloned()), (201, None));
    assert_eq!(server.get(&format!("{MAPS}/dry")).await.code, 404);
    assert_eq!(server.post(&format!("{MAPS}?dryRun=Some"), map("dry", json!({}))).await.code, 422);
    let generated = server.post(MAPS, json!({"metadata": {"generateName": "g-"}})).await.json();
    let name = generated["metadata"]["name"].as_str().expect("name").to_owned();
    assert!(name.starts_with("g-") && name.len() == 7, "{name}");
    let changed = server
        .patch("merge-patch", &format!("{MAPS}/{name}?dryRun=All"), json!({"data": {"a": "b"}}))
        .await
        .json();
    assert_eq!(changed["data"]["a"], "b");
    assert!(server.get(&format!("{MAPS}/{name}")).await.json().get("data").is_none());
    server.delete(&format!("{MAPS}/{name}?dryRun=All"), Value::Null).await;
    assert_eq!(server.get(&format!("{MAPS}/{name}")).await.code, 200);
}

#[tokio::test]
async fn finalizers_and_preconditions() {
    let server = Server::start().await;
    let made = server.post(MAPS, json!({"metadata": {"name": "f", "finalizers": ["x.io/y"]}})).await.json();
    let uri = format!("{MAPS}/f");
    let wrong = server.delete(&uri, json!({"preconditions": {"uid": "other"}})).await;
    assert_eq!((wrong.code, wrong.json()["reason"].clone()), (409, json!("Conflict")));
    let going = server.delete(&uri, json!({"preconditions": {"uid": made["metadata"]["uid"]}})).await;
    assert_eq!((going.code, going.json()["kind"].clone()), (200, json!("ConfigMap")));
    assert!(going.json()["metadata"]["deletionTimestamp"].is_string());
    let mut object = server.get(&uri).await.json();
    object["metadata"]["finalizers"] = json!(["x.io/y", "x.io/z"]);
    assert_eq!(server.put(&uri, object.clone()).await.code, 422);
    object["metadata"]["finalizers"] = json!([]);
    assert_eq!(server.put(&uri, object).await.code, 200);
    assert_eq!(server.get(&uri).await.code, 404);
}

#[tokio::test]
async fn lists_select_and_page() {
    let server = Server::start().await;
    for n in 0..5 {
        let labels = json!({"parity": if n % 2 == 0 { "even" } else { "odd" }});
        let body = json!({"metadata": {"name": format!("m{n}"), "labels": labels}});
        assert_eq!(server.post(MAPS, body).await.code, 201);
    }
    let names = |answer: &Answer| -> Vec<String> {
        let items = answer.json()["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|i| i["metadata"]["name"].as_str().unwrap_or("").to_owned()).collect()
    };
    let all = server.get(MAPS).await;
    assert_eq!(all.json()["kind"], "ConfigMapList");
    assert_eq!(names(&all), ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(names(&server.get(&format!("{MAPS}?labelSelector=parity%3Deven")).await), ["m0", "m2", "m4"]);
    assert_eq!(names(&server.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dm3")).await), ["m3"]);
    assert_eq!(server.get(&format!("{MAPS}?fieldSelector=spec.x%3Dm3")).await.code, 400);
    let page = server.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(names(&page), ["m0", "m1"]);
    assert_eq!(page.json()["metadata"]["remainingItemCount"], 3);
    // The list goes on at its revision, whatever happened in between.
    server.delete(&format!("{MAPS}/m3"), Value::Null).await;
    let token = page.json()["metadata"]["continue"].as_str().expect("token").to_owned();
    let rest = server.get(&format!("{MAPS}?limit=5&continue={token}")).await;
    assert_eq!(names(&rest), ["m2", "m3", "m4"]);
    assert_eq!(rest.json()["metadata"]["resourceVersion"], page.json()["metadata"]["resourceVersion"]);
    assert!(rest.json()["metadata"].get("continue").is_none());
    assert_eq!(
        server.get("/api/v1/configmaps?limit=1").await.json()["items"].as_array().map(Vec::len),
        Some(1)
    );
    let future = server.get(&format!("{MAPS}?resourceVersion=99999")).await;
    assert_eq!(
        (future.code, future.json()["details"]["causes"][0]["reason"].clone()),
        (504, json!("ResourceVersionTooLarge"))
    );
    let removed = server.delete(&format!("{MAPS}?labelSelector=parity%3Deven"), Value::Null).await;
    assert_eq!(names(&removed), ["m0", "m2", "m4"]);
    assert_eq!(names(&server.get(MAPS).await), ["m1"]);
}

#[tokio::test]
async fn watches() {
    let server = Server::start().await;
    let made = server.post(MAPS, map("a", json!({}))).await.json();
    let version = made["metadata"]["resourceVersion"].as_str().expect("version").to_owned();
    let mut from = server.watch(&format!("{MAPS}?watch=true&resourceVersion={version}")).await;
    let mut all = server.watch(&format!("{MAPS}?watch=true")).await;
    let mut chosen =
        server.watch(&format!("{MAPS}?watch=true&labelSelector=l&resourceVersion={version}")).await;
    let mut named = server
        .watch(&format!("{MAPS}?watch=true&fieldSelector=metadata.name%3Db&resourceVersion={version}"))
        .await;
    assert_eq!(all.line().await, "ADDED a");
    server.post(MAPS, map("b", json!({}))).await;
    server.patch("merge-patch", &format!("{MAPS}/a"), json!({"metadata": {"labels": {"l": "v"}}})).await;
    server.patch("merge-patch", &format!("{MAPS}/a"), json!({"metadata": {"labels": {"l": null}}})).await;
    server.delete(&format!("{MAPS}/a"), Value::Null).await;
    for line in ["ADDED b", "MODIFIED a", "MODIFIED a", "DELETED a"] {
        assert_eq!((from.line().await, all.line().await), (line.to_owned(), line.to_owned()));
    }
    assert_eq!((chosen.line().await, chosen.line().await), ("ADDED a".to_owned(), "DELETED a".to_owned()));
    assert_eq!(named.line().await, "ADDED b");
    let mut late = server.watch(&format!("{MAPS}?watch=true&resourceVersion={version}")).await;
    assert_eq!(late.line().await, "ADDED b");
    assert_eq!(server.get(&format!("{MAPS}?watch=true&resourceVersion=1&timeoutSeconds=1")).await.code, 200);
}

#[tokio::test]
async fn watch_lists_end_with_a_bookmark() {
    let server = Server::start().await;
    server.post(MAPS, map("a", json!({}))).await;
    let uri = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut events = server.watch(&uri).await;
    assert_eq!(events.line().await, "ADDED a");
    let mark = events.next().await.expect("bookmark");
    assert_eq!(
        (mark["type"].clone(), mark["object"]["kind"].clone()),
        (json!("BOOKMARK"), json!("ConfigMap"))
    );
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    server.post(MAPS, map("b", json!({}))).await;
    assert_eq!(events.line().await, "ADDED b");
}

#[tokio::test]
async fn forms_of_answers() {
    let server = Server::start().await;
    server.post(MAPS, map("a", json!({"k": "v"}))).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let shown = server.send(Method::GET, MAPS, &[("accept", table)], "").await.json();
    assert_eq!(
        (shown["kind"].clone(), shown["apiVersion"].clone()),
        (json!("Table"), json!("meta.k8s.io/v1"))
    );
    assert_eq!(
        (shown["columnDefinitions"][0]["name"].clone(), shown["rows"][0]["cells"][0].clone()),
        (json!("Name"), json!("a"))
    );
    assert_eq!(shown["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let shown = server.send(Method::GET, MAPS, &[("accept", partial)], "").await.json();
    assert_eq!(shown["kind"], "PartialObjectMetadataList");
    assert!(shown["items"][0].get("data").is_none());
    let yaml = server.send(Method::GET, &format!("{MAPS}/a"), &[("accept", "application/yaml")], "").await;
    assert!(String::from_utf8_lossy(&yaml.body).contains("kind: ConfigMap"));
    let protobuf = "application/vnd.kubernetes.protobuf";
    let bytes = server.send(Method::GET, &format!("{MAPS}/a"), &[("accept", protobuf)], "").await;
    let (_, kind, value) = codec::proto::decode_object(&bytes.body).expect("protobuf");
    assert_eq!((kind.as_str(), value["data"]["k"].clone()), ("ConfigMap", json!("v")));
    let list = server.send(Method::GET, MAPS, &[("accept", protobuf)], "").await;
    let (_, kind, value) = codec::proto::decode_object(&list.body).expect("protobuf");
    assert_eq!((kind.as_str(), value["items"][0]["metadata"]["name"].clone()), ("ConfigMapList", json!("a")));
    let body = codec::proto::encode(&map("p", json!({"k": "w"}))).expect("encode");
    let made = server.send(Method::POST, MAPS, &[("content-type", protobuf)], body).await;
    assert_eq!((made.code, made.json()["data"]["k"].clone()), (201, json!("w")));
}

#[tokio::test]
async fn two_versions_of_one_kind() {
    let server = Server::start().await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "message": "m", "type": "Normal"});
    let made = server.post("/api/v1/namespaces/default/events", event).await;
    assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
    let newer = server
        .get("/apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=regarding.name%3Dp")
        .await
        .json();
    assert_eq!(
        (newer["items"][0]["note"].clone(), newer["items"][0]["apiVersion"].clone()),
        (json!("m"), json!("events.k8s.io/v1"))
    );
    let none =
        server.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dq").await.json();
    assert_eq!(none["items"], json!([]));
}

fn deployment() -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn status_and_scale() {
    let server = Server::start().await;
    let base = "/apis/apps/v1/namespaces/default/deployments";
    let made = server.post(base, deployment()).await;
    assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
    assert_eq!(made.json()["metadata"]["generation"], 1);
    let status = server
        .patch(
            "merge-patch",
            &format!("{base}/d/status"),
            json!({"status": {"replicas": 2}, "spec": {"replicas": 9}}),
        )
        .await
        .json();
    assert_eq!(
        (status["status"]["replicas"].clone(), status["spec"]["replicas"].clone()),
        (json!(2), json!(2))
    );
    let scale = server.get(&format!("{base}/d/scale")).await.json();
    assert_eq!(
        (scale["kind"].clone(), scale["status"]["selector"].clone()),
        (json!("Scale"), json!("app=x"))
    );
    let scaled = server
        .patch("merge-patch", &format!("{base}/d/scale"), json!({"spec": {"replicas": 5}}))
        .await
        .json();
    assert_eq!(scaled["spec"]["replicas"], 5);
    let now = server.get(&format!("{base}/d")).await.json();
    assert_eq!(
        (now["spec"]["replicas"].clone(), now["metadata"]["generation"].clone()),
        (json!(5), json!(2))
    );
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn pods_are_bound_deleted_and_evicted() {
    let server = Server::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let made = server.post(pods, pod("p")).await;
    assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = server.post(&format!("{pods}/p/binding"), binding.clone()).await;
    assert_eq!((bound.code, bound.json()["status"].clone()), (201, json!("Success")));
    assert_eq!(server.post(&format!("{pods}/p/binding"), binding).await.code, 409);
    let found = server.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.json();
    assert_eq!(found["items"][0]["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(server.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2").await.json()["items"], json!([]));
    let going = server.delete(&format!("{pods}/p"), json!({})).await.json();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(server.delete(&format!("{pods}/p"), json!({"gracePeriodSeconds": 0})).await.code, 200);
    assert_eq!(server.get(&format!("{pods}/p")).await.code, 404);
}

#[tokio::test]
async fn evictions_respect_budgets() {
    let server = Server::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    server.post(pods, pod("p")).await;
    let running =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(server.patch("merge-patch", &format!("{pods}/p/status"), running).await.code, 200);
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    assert_eq!(server.post(budgets, budget).await.code, 201);
    let eviction = json!({"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}});
    let unseen = server.post(&format!("{pods}/p/eviction"), eviction.clone()).await;
    assert_eq!(
        (unseen.code, unseen.json()["details"]["causes"][0]["reason"].clone()),
        (429, json!("DisruptionBudget"))
    );
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    assert_eq!(server.patch("merge-patch", &format!("{budgets}/b/status"), status).await.code, 200);
    assert_eq!(server.post(&format!("{pods}/p/eviction"), eviction.clone()).await.code, 429);
    let status = json!({"status": {"disruptionsAllowed": 1}});
    assert_eq!(server.patch("merge-patch", &format!("{budgets}/b/status"), status).await.code, 200);
    assert_eq!(server.post(&format!("{pods}/p/eviction"), eviction).await.code, 201);
    assert_eq!(server.get(&format!("{budgets}/b")).await.json()["status"]["disruptionsAllowed"], 0);
    assert_eq!(server.get(&format!("{pods}/p")).await.code, 404);
}

#[tokio::test]
async fn health_version_and_metrics() {
    let server = Server::start().await;
    assert_eq!(server.get("/version").await.json()["minor"], "36");
    let ready = server.get("/readyz").await;
    assert_eq!(ready.code, 500, "the store's health is not watched here");
    let livez = server.get("/livez?verbose&exclude=etcd").await;
    let text = String::from_utf8_lossy(&livez.body).into_owned();
    assert!(text.starts_with("[+]ping ok\n") && text.ends_with("livez check passed\n"), "{text}");
    let metrics = String::from_utf8_lossy(&server.get("/metrics").await.body).into_owned();
    assert!(
        metrics.contains("apiserver_request_total{")
            && metrics.contains("apiserver_storage_objects{resource=\"pods\"} 0")
    );
}
