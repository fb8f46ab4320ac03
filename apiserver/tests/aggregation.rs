//! Group versions of an extension server behind ours: both in process, over real connections.

mod extension;

use std::sync::Arc;
use std::time::Duration;

use extension::{Ca, Extension, Manners};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube_apiserver::app::App;
use kube_apiserver::http::request_body;
use kube_apiserver::proxy::transport::{Roots, Way};
use kube_apiserver::server::{self, connection};
use kube_apiserver::storage::memory::Memory;
use kube_apiserver::{aggregator, internal};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);
/// The loopback network is the service network: a service's address is where its server listens.
const IP: &str = "127.0.77.7";
const GROUP: &str = "/apis/ext.example.com/v1";
const APISERVICE: &str = "v1.ext.example.com";

struct World {
    app: Arc<App>,
    way: Way,
    base: String,
    ca: Ca,
    front: Ca,
    stop: CancellationToken,
    _files: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Answer {
    code: u16,
    headers: http::HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

impl World {
    async fn start(more: &str) -> Self {
        daemon::init_crypto();
        let files = tempfile::tempdir().expect("directory");
        let (ca, front) = (Ca::new("extension-ca"), Ca::new("front-proxy-ca"));
        let client = front.sign("front-proxy-client", &[]);
        let put = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).expect("write");
            path.display().to_string()
        };
        let (cert, key) = (put("front.crt", &client.cert), put("front.key", &client.key));
        let tokens = put("tokens", "secret,ann,7,\"dev,ops\"\nother,eve,8,\n");
        let flags = format!(
            "x --etcd-servers=memory --service-cluster-ip-range=127.0.77.0/24 --disable-admission-plugins=ServiceAccount \
             --endpoint-reconciler-type=none --cert-dir={} --token-auth-file={tokens} --proxy-client-cert-file={cert} \
             --proxy-client-key-file={key} {more}",
            files.path().display()
        );
        let (config, _) =
            kube_apiserver::config::parse(flags.split_whitespace().map(str::to_owned)).expect("flags");
        let tls = server::tls::server_config(&config).expect("TLS");
        let app = server::build_over(config, Arc::new(Memory::default())).expect("build");
        let stop = CancellationToken::new();
        tokio::spawn(app.cache.clone().feed(stop.clone()));
        tokio::spawn(aggregator::keeper::run(app.clone()));
        app.reader.synced().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let base = format!("https://{}", listener.local_addr().expect("address"));
        tokio::spawn(connection::accept(app.clone(), listener, tls, stop.clone()));
        let way = Way::new(Roots::Any, None, None).expect("client");
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ext"}});
        internal::create(&app, "v1", "namespaces", "", namespace).await.expect("namespace");
        Self { app, way, base, ca, front, stop, _files: files }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in [("authorization", "Bearer secret")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        let request = request.body(request_body(body.to_owned())).expect("request");
        let (parts, body) = self.way.client().request(request).await.expect("answer").into_parts();
        let body = body.collect().await.expect("body").to_bytes();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    async fn extension(&self) -> Arc<Extension> {
        Extension::start(IP, &self.ca, "server.ext.svc", &self.front).await
    }

    async fn service(&self, port: u16) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server", "namespace": "ext"},
            "spec": {"clusterIP": IP, "ports": [{"name": "https", "port": port}]}});
        internal::create(&self.app, "v1", "services", "ext", service).await.expect("service");
    }

    /// Where the service is served; the addresses are never dialled unless routing is by endpoints.
    async fn slice(&self, ready: bool) {
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "server-a", "namespace": "ext", "labels": {"kubernetes.io/service-name": "server"}},
            "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.0.7"], "conditions": {"ready": ready}}]});
        let made = internal::get(&self.app, "endpointslices.discovery.k8s.io", "ext", "server-a");
        let version = "discovery.k8s.io/v1";
        match made {
            None => {
                internal::create(&self.app, version, "endpointslices", "ext", slice).await.expect("slice")
            }
            Some(_) => {
                internal::update(&self.app, version, "endpointslices", "ext", slice).await.expect("slice")
            }
        };
    }

    async fn register(&self, port: u16, more: Value) {
        use base64::Engine;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca.pem);
        let mut object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": APISERVICE},
            "spec": {"group": "ext.example.com", "version": "v1", "groupPriorityMinimum": 17_650, "versionPriority": 5, "caBundle": ca,
                "service": {"namespace": "ext", "name": "server", "port": port}}});
        for (key, value) in more.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        let version = "apiregistration.k8s.io/v1";
        internal::create(&self.app, version, "apiservices", "", object).await.expect("APIService");
    }

    /// Everything in place, and found available.
    async fn ready(&self) -> Arc<Extension> {
        let extension = self.extension().await;
        self.service(extension.port).await;
        self.slice(true).await;
        self.register(extension.port, json!({})).await;
        self.until("Passed").await;
        extension
    }

    /// It answers no more, and a change of its endpoints makes ours look.
    async fn fail(&self, extension: &Extension) {
        extension.manners.send_modify(|m| m.failing = Some(500));
        self.slice(false).await;
        self.until("MissingEndpoints").await;
        self.slice(true).await;
        self.until("FailedDiscoveryCheck").await;
    }

    /// Our group's entry in the aggregated document.
    async fn entry(&self) -> Value {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let all = self.send(Method::GET, "/apis", &[("accept", accept)], "").await.json();
        let items = all["items"].as_array().cloned().unwrap_or_default();
        let ours = items.into_iter().find(|g| g["metadata"]["name"] == "ext.example.com");
        ours.expect("group")["versions"][0].clone()
    }

    /// Waits until the condition has this reason; yields its message.
    async fn until(&self, reason: &str) -> String {
        let mut changes = self.app.reader.changed(aggregator::RESOURCE).expect("resource");
        let waiting = async {
            loop {
                changes.borrow_and_update();
                let object =
                    internal::get(&self.app, aggregator::RESOURCE, "", APISERVICE).unwrap_or_default();
                let condition = object["status"]["conditions"][0].clone();
                if condition["reason"] == reason {
                    let available = if reason == "Passed" { "True" } else { "False" };
                    assert_eq!(condition["status"], available);
                    return condition["message"].as_str().unwrap_or_default().to_owned();
                }
                changes.changed().await.expect("changes");
            }
        };
        tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("never {reason}"))
    }
}

#[tokio::test]
async fn requests_reach_their_server() {
    let world = World::start("").await;
    let extension = world.ready().await;
    let forged = [("x-remote-user", "root"), ("x-remote-group", "system:masters"), ("x-remote-extra-a", "b")];
    let path = format!("{GROUP}/namespaces/a/things/b%2Fc?labelSelector=x%3Dy&limit=5");
    let answer = world.send(Method::PUT, &path, &forged, "{}").await;
    let seen = answer.json();
    assert_eq!(
        (answer.code, seen["method"].as_str(), seen["uri"].as_str()),
        (200, Some("PUT"), Some(path.as_str()))
    );
    assert_eq!(seen["user"], json!(["ann"]));
    assert_eq!(seen["groups"], json!(["dev", "ops", "system:authenticated"]));
    assert_eq!(seen["authorization"], json!([]));
    let names: Vec<&str> = seen["names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(names.contains(&"x-remote-uid") && names.contains(&"audit-id"), "{names:?}");
    assert!(!names.iter().any(|n| n.starts_with("x-remote-extra")), "{names:?}");
    assert_eq!(world.get(GROUP).await.json()["resources"][0]["name"], "things");
    let away = world.get(&format!("{GROUP}/away")).await;
    assert_eq!((away.code, away.header("location")), (502, ""));
    assert_eq!(extension.asked.lock().len(), 2);
}

#[tokio::test]
async fn watches_stream_and_upgrades_pass() {
    let world = World::start("").await;
    let extension = world.ready().await;
    let request = Request::builder().uri(format!("{}{GROUP}/things?watch=true", world.base));
    let request = request.header("authorization", "Bearer secret").body(request_body("")).expect("request");
    let mut body = world.way.client().request(request).await.expect("watch").into_body();
    for n in 0..3 {
        extension.events.add_permits(1);
        let frame =
            tokio::time::timeout(SOON, body.frame()).await.expect("in time").expect("more").expect("frame");
        let line: Value = serde_json::from_slice(&frame.into_data().expect("data")).expect("JSON");
        assert_eq!(line["object"]["n"], n);
    }
    let uri = format!("{}{GROUP}/namespaces/a/things/b/exec", world.base).parse().expect("uri");
    let io = world.way.dial(&uri).await.expect("dial");
    let mut headers = http::HeaderMap::new();
    for (name, value) in [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "doubling"),
        (header::AUTHORIZATION, "Bearer secret"),
    ] {
        headers.insert(name, value.parse().expect("value"));
    }
    let answer = daemon::upgrade::ask(io, Method::POST, &uri, headers).await.expect("upgrade");
    let daemon::upgrade::Answer::Switched(io, headers) = answer else { panic!("refused") };
    assert_eq!(headers["x-seen-user"], "ann");
    let mut io = hyper_util::rt::TokioIo::new(io);
    io.write_all(b"ab").await.expect("write");
    let mut back = [0; 4];
    tokio::time::timeout(SOON, io.read_exact(&mut back)).await.expect("in time").expect("read");
    assert_eq!(&back, b"abab");
}

#[tokio::test]
async fn availability_follows_what_there_is() {
    let world = World::start("").await;
    let extension = world.extension().await;
    world.register(extension.port, json!({})).await;
    assert_eq!(world.until("ServiceNotFound").await, "service/server in \"ext\" is not present");
    let refused = world.get(&format!("{GROUP}/things")).await;
    assert_eq!((refused.code, refused.body.as_str()), (503, "service unavailable\n"));
    assert_eq!(refused.header("content-type"), "text/plain; charset=utf-8");
    world.service(extension.port).await;
    assert_eq!(
        world.until("EndpointsNotFound").await,
        "cannot find endpointslices for service/server in \"ext\""
    );
    world.slice(false).await;
    world.until("MissingEndpoints").await;
    world.slice(true).await;
    assert_eq!(world.until("Passed").await, "all checks passed");
    assert_eq!(world.get(&format!("{GROUP}/things")).await.code, 200);
    world.fail(&extension).await;
    let message = world.until("FailedDiscoveryCheck").await;
    let url = format!("https://{IP}:{}{GROUP}", extension.port);
    assert_eq!(message, format!("failing or missing response from {url}: bad status from {url}: 500"));
    extension.manners.send_replace(Manners::default());
    world.until("Passed").await;
    internal::delete(&world.app, "apiregistration.k8s.io/v1", "apiservices", "", APISERVICE)
        .await
        .expect("delete");
    let gone = world.get(&format!("{GROUP}/things")).await;
    assert_eq!(gone.code, 404);
}

#[tokio::test]
async fn certificates_are_checked() {
    let world = World::start("").await;
    let extension = world.extension().await;
    world.service(extension.port).await;
    world.slice(true).await;
    use base64::Engine;
    let other = base64::engine::general_purpose::STANDARD.encode(Ca::new("other").pem);
    world.register(extension.port, json!({"caBundle": other})).await;
    // It is there, as the check says; but who it is nobody vouches for.
    world.until("Passed").await;
    let refused = world.get(&format!("{GROUP}/things")).await;
    assert_eq!(refused.code, 503);
    assert!(refused.body.starts_with("error trying to reach service: "), "{}", refused.body);
    let mut object = internal::get(&world.app, aggregator::RESOURCE, "", APISERVICE).expect("object");
    object["spec"]["caBundle"] = Value::Null;
    object["spec"]["insecureSkipTLSVerify"] = true.into();
    internal::update(&world.app, "apiregistration.k8s.io/v1", "apiservices", "", object)
        .await
        .expect("update");
    world.app.reader.caught_up().await.expect("caught up");
    assert_eq!(world.get(&format!("{GROUP}/things")).await.code, 200);
}

#[tokio::test]
async fn discovery_names_what_others_serve() {
    let world = World::start("").await;
    let extension = world.ready().await;
    let groups = world.get("/apis").await.json();
    let names: Vec<&str> =
        groups["groups"].as_array().into_iter().flatten().filter_map(|g| g["name"].as_str()).collect();
    let at = names.iter().position(|n| *n == "ext.example.com").expect("listed");
    assert_eq!((names[at - 1], names[at + 1]), ("authentication.k8s.io", "authorization.k8s.io"));
    let group = world.get("/apis/ext.example.com").await.json();
    assert_eq!(group["preferredVersion"]["groupVersion"], "ext.example.com/v1");
    let current = world.entry().await;
    assert_eq!(
        (&current["freshness"], &current["resources"][0]["shortNames"][0]),
        (&json!("Current"), &json!("tg"))
    );
    assert_eq!(current["resources"][0]["subresources"][0]["subresource"], "status");
    let index = world.get("/").await.json();
    assert!(index["paths"].as_array().is_some_and(|p| p.contains(&json!(GROUP))));
    world.fail(&extension).await;
    let stale = world.entry().await;
    assert_eq!(stale["freshness"], "Stale");
    assert_eq!(stale["resources"], current["resources"]);
    assert_eq!(world.get(GROUP).await.code, 503);
    assert_eq!(world.get("/apis").await.json(), groups);
    // An old server says the same in the plain form.
    extension.manners.send_replace(Manners { old: true, failing: None });
    world.until("Passed").await;
    assert_eq!(world.entry().await, current);
    internal::delete(&world.app, "apiregistration.k8s.io/v1", "apiservices", "", APISERVICE)
        .await
        .expect("delete");
    assert!(!world.get("/apis").await.body.contains("ext.example.com"));
}

#[tokio::test]
async fn openapi_has_what_others_say() {
    let world = World::start("").await;
    let _extension = world.ready().await;
    let index = world.get("/openapi/v3").await.json();
    let url =
        index["paths"]["apis/ext.example.com/v1"]["serverRelativeURL"].as_str().expect("path").to_owned();
    assert_eq!(url, "/openapi/v3/apis/ext.example.com/v1?hash=ABC");
    assert!(index["paths"]["apis/apps/v1"].is_object());
    assert_eq!(world.get(&url).await.json()["components"]["schemas"]["com.example.Thing"]["type"], "object");
    let all = world.get("/openapi/v2").await.json();
    assert!(all["paths"][format!("{GROUP}/things")].is_object() && all["paths"]["/version/"].is_null());
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let reference = &all["definitions"]["com.example.Thing"]["properties"]["metadata"]["$ref"];
    assert_eq!(*reference, format!("#/definitions/{meta}_v2"));
    assert_ne!(all["definitions"][meta], all["definitions"][format!("{meta}_v2")]);
    assert!(all["definitions"]["com.example.Unused"].is_null());
}

#[tokio::test]
async fn local_group_versions_are_registered() {
    let world = World::start("").await;
    aggregator::local::register(&world.app).await.expect("registered");
    world.app.reader.caught_up().await.expect("caught up");
    let all = world.get("/apis/apiregistration.k8s.io/v1/apiservices").await.json();
    let items = all["items"].as_array().cloned().unwrap_or_default();
    let served = world.app.kinds.all();
    assert_eq!(items.len(), aggregator::local::wanted(&served).len());
    for item in &items {
        assert_eq!(item["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
        assert_eq!(item["status"]["conditions"][0]["reason"], "Local");
    }
    let version = "apiregistration.k8s.io/v1";
    let mut odd = items[0].clone();
    odd["spec"]["versionPriority"] = 3.into();
    let name = odd["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    internal::update(&world.app, version, "apiservices", "", odd).await.expect("update");
    let gone = json!({"apiVersion": version, "kind": "APIService",
        "metadata": {"name": "v1.gone.example.com", "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
        "spec": {"group": "gone.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}});
    internal::create(&world.app, version, "apiservices", "", gone).await.expect("create");
    world.app.reader.caught_up().await.expect("caught up");
    aggregator::local::register(&world.app).await.expect("registered");
    world.app.reader.caught_up().await.expect("caught up");
    let get = |name: &str| internal::get(&world.app, aggregator::RESOURCE, "", name);
    assert_eq!(get(&name).expect("object")["spec"], items[0]["spec"]);
    assert!(get("v1.gone.example.com").is_none());
    let metrics = world.get("/metrics").await.body;
    assert!(metrics.contains("aggregator_unavailable_apiservice{name=\"v1.apps\"} 0\n"));
}
