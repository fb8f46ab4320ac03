//! Events as upstream's recorder writes them: repeated ones are counted, similar ones combined, floods stopped.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

use ahash::AHashMap;
use daemon::direct::Direct;
use daemon::tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// Events waiting to be written; beyond it they are dropped, for events must never hold up work.
const ROOM: usize = 1000;
/// Remembered events, and remembered groups of similar ones (client-go's LRU size).
const MEMORY: usize = 4096;
/// More than this many different messages of one kind within the interval are combined.
const SIMILAR: usize = 10;
const SIMILAR_INTERVAL: Duration = Duration::from_secs(600);
/// Per source and object: this many at once, then one in five minutes.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
const WRITE_DEADLINE: Duration = Duration::from_secs(15);
const TRIES: usize = 12;

/// Normal or Warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Normal,
    Warning,
}

impl Kind {
    /// The word in `Event.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Normal => "Normal",
            Kind::Warning => "Warning",
        }
    }
}

#[derive(Clone, Debug)]
struct Record {
    object: ObjectReference,
    kind: Kind,
    reason: String,
    message: String,
    at: Timestamp,
}

/// A handle to record with; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Record>,
}

impl Recorder {
    /// Starts the writer. `component` is upstream's name of the source, `host` the node's name for a kubelet.
    pub fn start(client: kube::Client, component: &str, host: Option<&str>, tasks: &Tasks) -> Self {
        Self::start_by(client.clone().into(), client, component, host, tasks)
    }

    /// The same with a way of its own for new events.
    pub fn start_by(
        direct: Direct,
        client: kube::Client,
        component: &str,
        host: Option<&str>,
        tasks: &Tasks,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(ROOM);
        let source = EventSource { component: Some(component.into()), host: host.map(str::to_string) };
        let writer = Writer { client, direct, source, correlator: Correlator::default() };
        tasks.spawn(format!("events of {component}"), writer.run(receiver));
        Self { sender }
    }

    /// A recorder that forgets everything.
    pub fn silent() -> Self {
        Self { sender: mpsc::channel(1).0 }
    }

    /// Whether an event would be taken now, for those to whom it is work to put one together.
    pub fn has_room(&self) -> bool {
        self.sender.capacity() > 0 || tracing::enabled!(tracing::Level::DEBUG)
    }

    /// Records an event about an object. Never waits.
    pub fn record(&self, object: &ObjectReference, kind: Kind, reason: &str, message: impl Into<String>) {
        let message = message.into();
        tracing::debug!(
            object = format!(
                "{}/{}",
                object.namespace.as_deref().unwrap_or(""),
                object.name.as_deref().unwrap_or("")
            ),
            kind = object.kind,
            reason,
            message,
            "event"
        );
        let record =
            Record { object: object.clone(), kind, reason: reason.into(), message, at: Timestamp::now() };
        // Full: the flood itself is the news, and it is in the log at debug level.
        let _ = self.sender.try_send(record);
    }

    /// A Normal event.
    pub fn normal(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(object, Kind::Normal, reason, message);
    }

    /// A Warning event.
    pub fn warning(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(object, Kind::Warning, reason, message);
    }
}

/// A reference to a typed object, as events want it.
pub fn reference<T: Resource<DynamicType = ()>>(object: &T) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(T::api_version(&()).into_owned()),
        kind: Some(T::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        ..Default::default()
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Group {
    object: [Option<String>; 6],
    kind: Kind,
    reason: String,
}

impl Group {
    fn of(record: &Record) -> Self {
        let o = record.object.clone();
        let object = [o.kind, o.namespace, o.name, o.uid, o.api_version, o.field_path];
        Self { object, kind: record.kind, reason: record.reason.clone() }
    }
}

/// What to write.
#[derive(Debug, PartialEq)]
enum Verdict {
    Drop,
    Create,
    /// The name of the event to raise, and its new count.
    Raise(String, i32),
}

struct Written {
    name: String,
    count: i32,
    first: Timestamp,
}

struct Similar {
    messages: HashSet<String>,
    last: Instant,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Upstream's three filters: flood, similarity, repetition. Pure but for the time it is given.
#[derive(Default)]
struct Correlator {
    buckets: AHashMap<[Option<String>; 6], Bucket>,
    similar: AHashMap<Group, Similar>,
    written: AHashMap<(Group, String), Written>,
}

impl Correlator {
    fn judge(&mut self, record: &mut Record, now: Instant) -> Verdict {
        let group = Group::of(record);
        if !self.admit(&group, now) {
            return Verdict::Drop;
        }
        let identity = self.combine(&group, record, now);
        match self.written.get_mut(&(group, identity)) {
            Some(written) => {
                written.count += 1;
                Verdict::Raise(written.name.clone(), written.count)
            }
            None => Verdict::Create,
        }
    }

    fn admit(&mut self, group: &Group, now: Instant) -> bool {
        bound(&mut self.buckets);
        let bucket = self.buckets.entry(group.object.clone()).or_insert(Bucket { tokens: BURST, at: now });
        let refill = (now - bucket.at).as_secs_f64() / REFILL.as_secs_f64();
        bucket.tokens = (bucket.tokens + refill).min(BURST);
        bucket.at = now;
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }

    /// The text that tells this event from others of its group: its message, or nothing once they are combined.
    fn combine(&mut self, group: &Group, record: &mut Record, now: Instant) -> String {
        bound(&mut self.similar);
        let fresh = || Similar { messages: HashSet::new(), last: now };
        let similar = self.similar.entry(group.clone()).or_insert_with(fresh);
        if now - similar.last > SIMILAR_INTERVAL {
            similar.messages.clear();
        }
        similar.last = now;
        if similar.messages.len() < SIMILAR || similar.messages.contains(&record.message) {
            similar.messages.insert(record.message.clone());
        }
        if similar.messages.len() < SIMILAR {
            return record.message.clone();
        }
        record.message = format!("(combined from similar events): {}", record.message);
        String::new()
    }

    fn wrote(&mut self, record: &Record, name: String) {
        bound(&mut self.written);
        let combined = record.message.starts_with("(combined from similar events): ");
        let identity = if combined { String::new() } else { record.message.clone() };
        self.written.insert((Group::of(record), identity), Written { name, count: 1, first: record.at });
    }

    fn forget(&mut self, name: &str) -> Option<Timestamp> {
        let key = self.written.iter().find(|(_, w)| w.name == name).map(|(k, _)| k.clone())?;
        self.written.remove(&key).map(|w| w.first)
    }
}

/// A map that has grown full forgets half of what it knows; the price is an event written anew.
fn bound<K: Eq + Hash + Clone, V>(map: &mut AHashMap<K, V>) {
    if map.len() >= MEMORY {
        let half: Vec<K> = map.keys().take(MEMORY / 2).cloned().collect();
        half.iter().for_each(|k| {
            map.remove(k);
        });
    }
}

struct Writer {
    client: kube::Client,
    direct: Direct,
    source: EventSource,
    correlator: Correlator,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Record>) {
        while let Some(record) = receiver.recv().await {
            self.write(record).await;
        }
        // All recorders are gone: the daemon is ending.
        std::future::pending::<()>().await;
    }

    async fn write(&mut self, mut record: Record) {
        match self.correlator.judge(&mut record, Instant::now()) {
            Verdict::Drop => {}
            Verdict::Create => self.create(&record).await,
            Verdict::Raise(name, count) => {
                if !self.raise(&record, &name, count).await {
                    self.correlator.forget(&name);
                    self.create(&record).await;
                }
            }
        }
    }

    fn api(&self, record: &Record) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace(record))
    }

    async fn create(&mut self, record: &Record) {
        let event = event_of(record, &self.source);
        let name = event.metadata.name.clone().unwrap_or_default();
        let path = format!("/api/v1/namespaces/{}/events", namespace(record));
        let Ok(body) = serde_json::to_vec(&event).map(bytes::Bytes::from) else { return };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        for _ in 0..TRIES {
            match tokio::time::timeout(WRITE_DEADLINE, self.direct.post(&path, body.clone())).await {
                Ok(Ok(())) => return self.correlator.wrote(record, name),
                // Refused for good (namespace ending, invalid): another try changes nothing.
                Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 429 => {
                    return tracing::debug!(
                        reason = record.reason,
                        message = status.message,
                        "event refused"
                    );
                }
                _ => tokio::time::sleep(backoff.next_wait()).await,
            }
        }
        tracing::warn!(reason = record.reason, "event could not be written");
    }

    /// Counts one more on an event written before; false if it is no longer there.
    async fn raise(&self, record: &Record, name: &str, count: i32) -> bool {
        let patch = serde_json::json!({
            "count": count, "lastTimestamp": Time(record.at), "message": record.message,
        });
        let api = self.api(record);
        let (params, patch) = (PatchParams::default(), Patch::Strategic(&patch));
        let call = api.patch(name, &params, &patch);
        match tokio::time::timeout(WRITE_DEADLINE, call).await {
            Ok(Ok(_)) => true,
            Ok(Err(kube::Error::Api(status))) => status.code != 404,
            _ => true,
        }
    }
}

fn namespace(record: &Record) -> &str {
    record.object.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or("default")
}

fn event_of(record: &Record, source: &EventSource) -> Event {
    let object = &record.object;
    let name = object.name.as_deref().unwrap_or_default();
    let mut event = Event::default();
    event.metadata.name = Some(format!("{name}.{:x}", record.at.as_nanosecond()));
    event.metadata.namespace = Some(namespace(record).into());
    event.involved_object = object.clone();
    event.type_ = Some(record.kind.as_str().into());
    event.reason = Some(record.reason.clone());
    event.message = Some(record.message.clone());
    event.count = Some(1);
    event.first_timestamp = Some(Time(record.at));
    event.last_timestamp = Some(Time(record.at));
    event.reporting_component = source.component.clone();
    event.reporting_instance = Some(source.host.clone().unwrap_or_default());
    event.source = Some(source.clone());
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(object: &str, message: &str) -> Record {
        let object = ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some("ns".into()),
            name: Some(object.into()),
            ..Default::default()
        };
        Record {
            object,
            kind: Kind::Warning,
            reason: "Failed".into(),
            message: message.into(),
            at: Timestamp::now(),
        }
    }

    fn feed(correlator: &mut Correlator, mut record: Record) -> (Verdict, String) {
        let verdict = correlator.judge(&mut record, Instant::now());
        if verdict == Verdict::Create {
            correlator.wrote(&record, format!("e{}", correlator.written.len()));
        }
        (verdict, record.message)
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_counted() {
        let mut c = Correlator::default();
        assert_eq!(feed(&mut c, record("a", "m")).0, Verdict::Create);
        assert_eq!(feed(&mut c, record("a", "m")).0, Verdict::Raise("e0".into(), 2));
        assert_eq!(feed(&mut c, record("a", "m")).0, Verdict::Raise("e0".into(), 3));
        assert_eq!(feed(&mut c, record("b", "m")).0, Verdict::Create);
    }

    #[tokio::test(start_paused = true)]
    async fn the_similar_is_combined_from_the_tenth_on() {
        let mut c = Correlator::default();
        for n in 0..9 {
            assert_eq!(feed(&mut c, record("a", &format!("m{n}"))).0, Verdict::Create);
        }
        let (verdict, message) = feed(&mut c, record("a", "m9"));
        assert_eq!((verdict, message.as_str()), (Verdict::Create, "(combined from similar events): m9"));
        let (verdict, message) = feed(&mut c, record("a", "m10"));
        assert_eq!(
            (verdict, message.as_str()),
            (Verdict::Raise("e9".into(), 2), "(combined from similar events): m10")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_stopped_and_recovers_slowly() {
        let mut c = Correlator::default();
        let verdicts: Vec<_> = (0..30).map(|_| feed(&mut c, record("a", "m")).0).collect();
        assert_eq!(verdicts.iter().filter(|v| **v != Verdict::Drop).count(), 25);
        tokio::time::advance(Duration::from_secs(301)).await;
        assert_ne!(feed(&mut c, record("a", "m")).0, Verdict::Drop);
        assert_eq!(feed(&mut c, record("a", "m")).0, Verdict::Drop);
    }

    #[test]
    fn fields_are_upstreams() {
        let source = EventSource { component: Some("kubelet".into()), host: Some("n1".into()) };
        let event = event_of(&record("a", "m"), &source);
        assert!(event.metadata.name.unwrap().starts_with("a."));
        assert_eq!(event.reporting_component.as_deref(), Some("kubelet"));
        assert_eq!(event.reporting_instance.as_deref(), Some("n1"));
        assert_eq!((event.count, event.type_.as_deref()), (Some(1), Some("Warning")));
    }
}
