//! Three API servers over one real etcd: they start at once, give out addresses and ports, come and go.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::Etcd;
use daemon::tasks::Tasks;
use futures::future::join_all;
use kube_apiserver::app::App;
use kube_apiserver::{internal, server};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const COMES_UP: Duration = Duration::from_secs(30);
/// News of a server that came or went is everywhere within this time, the lease apart.
const SOON: Duration = Duration::from_secs(5);

struct Server {
    app: Arc<App>,
    tasks: Tasks,
}

impl Server {
    async fn start(etcd: &str, address: &str) -> Self {
        let flags = format!(
            "x --etcd-servers={etcd} --authorization-mode=Node,RBAC --service-cluster-ip-range=10.96.0.0/24 \
             --service-node-port-range=30000-30127 --advertise-address={address} --disable-admission-plugins=ServiceAccount"
        );
        let (config, _) =
            kube_apiserver::config::parse(flags.split_whitespace().map(str::to_owned)).expect("flags");
        let app = server::build(config).await.expect("build");
        let tasks = Tasks::new(CancellationToken::new());
        server::start(&app, &tasks);
        Self { app, tasks }
    }

    fn ready(&self) -> bool {
        self.app.health.report("readyz").iter().all(|(_, state)| state.is_ok())
    }

    /// The addresses this server sees in both lists, if they agree.
    fn listed(&self) -> Option<Vec<String>> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let endpoints = internal::get(&self.app, "endpoints", "default", "kubernetes")?;
        let slice = internal::get(&self.app, "endpointslices.discovery.k8s.io", "default", "kubernetes")?;
        let list = |v: &Value, pointer: &str| v.pointer(pointer).and_then(Value::as_array).cloned();
        let a = list(&endpoints, "/subsets/0/addresses")?.iter().map(|a| text(&a["ip"])).collect::<Vec<_>>();
        let b = list(&slice, "/endpoints")?.iter().map(|e| text(&e["addresses"][0])).collect::<Vec<_>>();
        (a == b).then_some(a)
    }

    /// Whether a ConfigMap could be made; panics if it failed for anything but a quota.
    async fn map(&self, name: String) -> bool {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
        match internal::create(&self.app, "v1", "configmaps", "default", map).await {
            Ok(_) => true,
            Err(status) => {
                assert!(status.message.contains("exceeded quota: some"), "{status:?}");
                false
            }
        }
    }

    async fn service(&self, name: String) -> Value {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        internal::create(&self.app, "v1", "services", "default", service).await.expect("service")
    }
}

/// Waits until something holds of servers, looking whenever one of them has news.
async fn until(what: &str, limit: Duration, servers: &[&Server], holds: impl Fn(&Server) -> bool) {
    let holding = async {
        for server in servers {
            let (mut objects, mut checks) = (server.app.cache.revisions(), server.app.health.changes());
            while !holds(server) {
                tokio::select! {
                    _ = objects.changed() => {}
                    _ = checks.changed() => {}
                }
            }
        }
    };
    assert!(tokio::time::timeout(limit, holding).await.is_ok(), "{what} takes too long");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_share_a_store() {
    daemon::init_crypto();
    let etcd = Etcd::start();
    let addresses = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];
    // All at once, over a store that is empty and not even up yet.
    let servers = join_all(addresses.map(|a| Server::start(&etcd.url, a))).await;
    assert!(servers.iter().all(|s| !s.ready()), "not before there is a store");
    let all: Vec<&Server> = servers.iter().collect();
    until("start", COMES_UP, &all, Server::ready).await;
    until("the list of three", SOON, &all, |s| s.listed().is_some_and(|l| l == addresses)).await;

    // Everybody gives out addresses and ports at the same time, most of all there are.
    let made = join_all((0..96).map(|n| servers[n % 3].service(format!("s{n}")))).await;
    let unique = |pointer: &str| {
        made.iter().filter_map(|s| s.pointer(pointer)).map(Value::to_string).collect::<BTreeSet<_>>()
    };
    assert_eq!((unique("/spec/clusterIP").len(), unique("/spec/ports/0/nodePort").len()), (96, 96));

    quota_holds(&servers).await;

    // One vanishes without a word: here its lease ends early.
    let [first, second, third] = <[Server; 3]>::try_from(servers).ok().expect("three");
    second.tasks.token().cancel();
    second.tasks.drain(SOON).await;
    let key = "/registry/masterleases/10.1.0.2";
    let lease = first.app.storage.get(key).await.expect("read").kv.expect("lease");
    first.app.storage.delete(key, lease.mod_revision).await.expect("delete");
    let rest = ["10.1.0.1", "10.1.0.3"];
    until("the list of two", SOON, &[&first, &third], |s| s.listed().is_some_and(|l| l == rest)).await;

    // One takes its leave, and is not listed any more when that is done.
    first.app.health.stop();
    first.app.leaving.leave().await;
    assert!(!first.ready());
    third.app.reader.caught_up().await.expect("read");
    assert_eq!(third.listed().expect("lists"), ["10.1.0.3"]);

    // It stays away although it lives on, and the last one stays listed whatever it does.
    third.app.leaving.leave().await;
    third.app.reader.caught_up().await.expect("read");
    assert_eq!(third.listed().expect("lists"), ["10.1.0.3"]);
    for server in [first, third] {
        server.tasks.token().cancel();
        server.tasks.drain(SOON).await;
    }
}

/// Many writers by all servers at once for few places: exactly so many are made, and all of them are charged.
async fn quota_holds(servers: &[Server]) {
    const PLACES: usize = 20;
    let first = &servers[0].app;
    let counts = |n: usize| json!({"configmaps": n.to_string()});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "some", "namespace": "default"}, "spec": {"hard": counts(PLACES)}});
    internal::create(first, "v1", "resourcequotas", "default", quota).await.expect("quota");
    // What the controller does: it counts.
    let key = "/registry/resourcequotas/default/some";
    let read = async || first.storage.get(key).await.expect("read").kv.expect("there");
    let stored = async || serde_json::from_slice::<Value>(&read().await.value).expect("json");
    let mut counted = stored().await;
    counted["status"] = json!({"hard": counts(PLACES), "used": counts(0)});
    let at = read().await.mod_revision;
    first.storage.update(key, counted.to_string().into(), at, None).await.expect("status");
    let seen = |s: &Server| {
        internal::get(&s.app, "resourcequotas", "default", "some").is_some_and(|q| q["status"].is_object())
    };
    until("the quota", SOON, &servers.iter().collect::<Vec<_>>(), seen).await;
    // A name that is taken costs nothing.
    let twin = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map-0", "namespace": "default"}});
    for taken in [false, true] {
        let made = internal::create(first, "v1", "configmaps", "default", twin.clone()).await;
        assert_eq!(made.is_err(), taken, "{made:?}");
        assert_eq!(stored().await["status"]["used"], counts(1));
    }
    let writers = (1..4 * PLACES).map(|n| servers[n % servers.len()].map(format!("map-{n}")));
    let made = join_all(writers).await.into_iter().filter(|made| *made).count();
    assert_eq!((made, &stored().await["status"]["used"]), (PLACES - 1, &counts(PLACES)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_store_is_not_ready() {
    daemon::init_crypto();
    let etcd = Etcd::start();
    let server = Server::start(&etcd.url, "10.1.0.1").await;
    until("start", COMES_UP, &[&server], Server::ready).await;
    drop(etcd);
    until("the news", SOON, &[&server], |s| !s.ready()).await;
}
