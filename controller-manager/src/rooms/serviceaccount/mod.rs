//! What every namespace is given: a `default` service account, and the cluster's CA as a ConfigMap.

use std::sync::Arc;
use std::time::Duration;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use daemon::metrics::Metrics;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::kit::counts::{self, Counters, Labels, count};
use crate::kit::{Context, Write, write::Failure};

const ACCOUNT: &str = "default";
const CA_MAP: &str = "kube-root-ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.",
);

/// Whether things may still be made in a namespace.
fn active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
        && namespace.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Terminating")
}

/// Success too: somebody made it first, or the namespace is ending.
fn settled<T>(result: Result<T, Failure>) -> anyhow::Result<()> {
    match result {
        Err(failure)
            if failure.already_exists() || failure.namespace_terminating() || failure.not_found() =>
        {
            Ok(())
        }
        other => {
            other?;
            Ok(())
        }
    }
}

/// Starts the service account controller. Keys are namespaces.
pub fn start(context: Context) {
    let namespaces: Cache<Namespace> = context.caches.of();
    let accounts: Cache<ServiceAccount> = context.caches.of();
    let queue: Queue<Key> = Queue::new();
    let q = queue.clone();
    namespaces.handle(move |event| q.add(event.key.clone()));
    let q = queue.clone();
    accounts.handle(move |event| {
        if event.new.is_none() && &*event.key.name == ACCOUNT {
            q.add(Key::new("", &event.key.namespace));
        }
    });
    let room = Arc::new((context.clone(), namespaces, accounts));
    context.run(Options::new("serviceaccount-controller", 1), queue, move |key| {
        let room = room.clone();
        async move { sync_account(&room.0, &room.1, &room.2, &key).await }
    });
}

async fn sync_account(
    context: &Context,
    namespaces: &Cache<Namespace>,
    accounts: &Cache<ServiceAccount>,
    key: &Key,
) -> Outcome {
    let wanted = namespaces.get_key(key).is_some_and(|n| active(&n));
    if !wanted || accounts.get(&key.name, ACCOUNT).is_some() {
        return Ok(None);
    }
    let account = ServiceAccount { metadata: named(ACCOUNT, &key.name), ..Default::default() };
    settled(context.writer.send(&Write::create(&account)).await)?;
    Ok(None)
}

fn named(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()), ..Default::default() }
}

/// What the publisher counts.
struct Counts {
    syncs: Counters,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Counts {
    fn register(metrics: &Arc<Metrics>) -> Self {
        let made: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        Self {
            syncs: metrics.register(
                "root_ca_cert_publisher_sync",
                "Number of namespace syncs happened in root ca cert publisher.",
                Family::default(),
            ),
            durations: metrics.register(
                "root_ca_cert_publisher_sync_duration_seconds",
                "Number of namespace syncs happened in root ca cert publisher.",
                Family::new_with_constructor(made),
            ),
        }
    }

    /// A sync is over; where there was no answer it counts as the server's fault.
    fn synced(&self, failure: Option<&Failure>, took: Duration) {
        let code = failure.map_or(200, |f| if f.code == 0 { 500 } else { f.code });
        let labels = [("code", &*code.to_string())];
        count(&self.syncs, labels);
        self.durations.get_or_create(&counts::named(labels)).observe(took.as_secs_f64());
    }
}

/// Starts the publisher of the root CA. Keys are namespaces.
pub fn start_root_ca(context: Context) {
    let Some(path) = context.config.root_ca_file.clone() else {
        tracing::info!("no --root-ca-file, the root CA is not published");
        return;
    };
    let Ok(ca) = std::fs::read_to_string(&path) else {
        tracing::error!(path = %path.display(), "root CA cannot be read, it is not published");
        return;
    };
    let namespaces: Cache<Namespace> = context.caches.of();
    let fields = format!("metadata.name={CA_MAP}");
    let options = control::cache::Options::default().fields(fields);
    let maps: Cache<ConfigMap> = Cache::start(kube::Api::all(context.root.clone()), options, &context.tasks);
    let queue: Queue<Key> = Queue::new();
    let q = queue.clone();
    namespaces.handle(move |event| q.add(event.key.clone()));
    let q = queue.clone();
    maps.handle(move |event| q.add(Key::new("", &event.key.namespace)));
    let counts = Counts::register(&context.metrics);
    let room = Arc::new((context.clone(), namespaces, maps, ca, counts));
    context.run(Options::new("root-ca-certificate-publisher-controller", 1), queue, move |key| {
        let room = room.clone();
        async move {
            room.2.synced().await;
            let namespace = room.1.get_key(&key).filter(|n| active(n));
            let write =
                namespace.and_then(|_| plan_ca(&key.name, room.2.get(&key.name, CA_MAP).as_deref(), &room.3));
            let began = tokio::time::Instant::now();
            let sent = match &write {
                Some(write) => room.0.writer.send(write).await.map(drop),
                None => Ok(()),
            };
            room.4.synced(sent.as_ref().err(), began.elapsed());
            settled(sent)?;
            Ok(None)
        }
    });
}

/// The write that makes the ConfigMap right, if it is not.
fn plan_ca(namespace: &str, current: Option<&ConfigMap>, ca: &str) -> Option<Write> {
    let data = [("ca.crt".to_string(), ca.to_string())].into();
    let described = |m: &ConfigMap| {
        m.metadata.annotations.as_ref().and_then(|a| a.get(DESCRIPTION.0)).is_some_and(|d| d == DESCRIPTION.1)
    };
    if current.is_some_and(|m| m.data.as_ref() == Some(&data) && described(m)) {
        return None;
    }
    let mut map = current
        .cloned()
        .unwrap_or_else(|| ConfigMap { metadata: named(CA_MAP, namespace), ..Default::default() });
    map.data = Some(data);
    map.binary_data = None;
    map.metadata.annotations.get_or_insert_default().insert(DESCRIPTION.0.into(), DESCRIPTION.1.into());
    Some(if current.is_some() { Write::update(&map) } else { Write::create(&map) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ca_map_is_made_kept_and_restored() {
        let made = plan_ca("ns", None, "CA").unwrap();
        assert_eq!(made.to_string(), "create configmaps kube-root-ca.crt");
        let mut map: ConfigMap = serde_json::from_value(made.body).unwrap();
        assert_eq!(plan_ca("ns", Some(&map), "CA"), None);
        map.data.get_or_insert_default().insert("extra".into(), "x".into());
        let restored = plan_ca("ns", Some(&map), "CA").unwrap();
        assert_eq!(restored.to_string(), "update configmaps kube-root-ca.crt");
        assert_eq!(restored.body["data"], serde_json::json!({"ca.crt": "CA"}));
    }

    #[test]
    fn syncs_are_counted_by_their_answer() {
        let metrics = Metrics::new();
        let counts = Counts::register(&metrics);
        counts.synced(None, Duration::from_millis(3));
        counts.synced(Some(&Failure::of_code(409)), Duration::from_millis(3));
        counts.synced(Some(&Failure::of_code(0)), Duration::from_millis(3));
        let text = metrics.encode();
        for code in [200, 409, 500] {
            assert!(
                text.contains(&format!("root_ca_cert_publisher_sync_total{{code=\"{code}\"}} 1")),
                "{text}"
            );
        }
        assert!(text.contains("sync_duration_seconds_bucket{le=\"0.004\",code=\"200\"} 1"), "{text}");
    }

    #[test]
    fn an_ending_namespace_gets_nothing() {
        let mut namespace = Namespace::default();
        assert!(active(&namespace));
        namespace.status.get_or_insert_default().phase = Some("Terminating".into());
        assert!(!active(&namespace));
    }
}
