//! NodeMetrics and PodMetrics of metrics.k8s.io/v1beta1, as JSON and as protobuf.

use std::collections::BTreeMap;

use codec::proto::wire;
use machinery::quantity::{Format, Quantity};
use machinery::time::{format_go_duration, format_seconds};
use serde::Serialize;

use crate::store::Usage;

/// Group and version.
pub const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// Metadata as far as there is any: metrics are made when they are asked for.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Of the node or pod.
    pub name: String,
    /// Of the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Now.
    pub creation_timestamp: Time,
    /// Of the node or pod.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Unix seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time(pub i64);

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match machinery::time::from_unix(self.0, 0) {
            Some(time) => to.serialize_str(&format_seconds(time)),
            None => to.serialize_none(),
        }
    }
}

/// Nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window(pub i64);

impl Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_go_duration(self.0))
    }
}

/// A ResourceList of CPU (billionths of a core) and memory (bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    /// Billionths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

impl Amount {
    /// As quantities in their canonical form.
    pub fn texts(self) -> [(&'static str, String); 2] {
        let whole = i64::try_from(self.memory).unwrap_or(i64::MAX);
        // A number of billionths is always a quantity
        let cpu = Quantity::parse(&format!("{}n", self.cpu)).map_or_else(|_| "0".into(), |q| q.canonical());
        [("cpu", cpu), ("memory", Quantity::new(whole, Format::BinarySi).canonical())]
    }

    /// The sum of some.
    pub fn sum(all: impl Iterator<Item = Amount>) -> Amount {
        all.fold(Amount::default(), |a, b| Amount {
            cpu: a.cpu.saturating_add(b.cpu),
            memory: a.memory.saturating_add(b.memory),
        })
    }
}

impl From<&Usage> for Amount {
    fn from(usage: &Usage) -> Self {
        Self { cpu: usage.cpu, memory: usage.memory }
    }
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.texts())
    }
}

/// What a container uses.
#[derive(Clone, Debug, Serialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// What it uses.
    pub usage: Amount,
}

/// What there is to say of a node, or of a pod's containers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Body {
    /// A node's.
    Usage(Amount),
    /// A pod's.
    Containers(Vec<Container>),
}

/// NodeMetrics or PodMetrics.
#[derive(Clone, Debug, Serialize)]
pub struct Object {
    /// Name and labels.
    pub metadata: Meta,
    /// When it was measured.
    pub timestamp: Time,
    /// Over which time before that.
    pub window: Window,
    /// What.
    #[serde(flatten)]
    pub body: Body,
}

impl Object {
    /// All that it uses.
    pub fn total(&self) -> Amount {
        match &self.body {
            Body::Usage(amount) => *amount,
            Body::Containers(all) => Amount::sum(all.iter().map(|container| container.usage)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        wire::message(out, 1, |out| write_meta(out, &self.metadata));
        wire::message(out, 2, |out| write_time(out, self.timestamp));
        wire::message(out, 3, |out| wire::int(out, 1, self.window.0));
        match &self.body {
            Body::Usage(amount) => write_amount(out, 4, *amount),
            Body::Containers(all) => all.iter().for_each(|container| {
                wire::message(out, 4, |out| {
                    wire::bytes(out, 1, container.name.as_bytes());
                    write_amount(out, 2, container.usage);
                });
            }),
        }
    }
}

/// An answer: one object or a list of them.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Of a get.
    One(Object),
    /// Of a list.
    List(Vec<Object>),
}

/// What a JSON document begins with.
#[derive(Serialize)]
struct Typed<'a, T> {
    kind: String,
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
struct List<'a> {
    metadata: BTreeMap<String, String>,
    items: &'a [Object],
}

impl Answer {
    /// Its objects.
    pub fn objects(&self) -> &[Object] {
        match self {
            Answer::One(object) => std::slice::from_ref(object),
            Answer::List(all) => all,
        }
    }

    /// The kind of the whole; `kind` is that of an object.
    pub fn kind(&self, kind: &str) -> String {
        match self {
            Answer::One(_) => kind.to_string(),
            Answer::List(_) => format!("{kind}List"),
        }
    }

    /// As a document for serde.
    ///
    /// # Errors
    /// None that are known of.
    pub fn json(&self, kind: &str) -> serde_json::Result<Vec<u8>> {
        let (kind, api_version) = (self.kind(kind), API_VERSION);
        match self {
            Answer::One(rest) => line(&Typed { kind, api_version, rest }),
            Answer::List(items) => {
                line(&Typed { kind, api_version, rest: List { metadata: BTreeMap::new(), items } })
            }
        }
    }

    /// As protobuf, enveloped.
    pub fn protobuf(&self, kind: &str) -> Vec<u8> {
        let mut raw = Vec::new();
        match self {
            Answer::One(object) => object.write(&mut raw),
            Answer::List(all) => {
                wire::message(&mut raw, 1, |out| (1..=3).for_each(|tag| wire::bytes(out, tag, b"")));
                all.iter().for_each(|object| wire::message(&mut raw, 2, |out| object.write(out)));
            }
        }
        codec::proto::envelope(&raw, API_VERSION, &self.kind(kind))
    }
}

/// A document ends its line.
fn line(document: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(document)?;
    text.push(b'\n');
    Ok(text)
}

fn write_meta(out: &mut Vec<u8>, meta: &Meta) {
    let texts: [(u32, &str); 6] = [(1, &meta.name), (2, ""), (3, &meta.namespace), (4, ""), (5, ""), (6, "")];
    texts.iter().for_each(|(tag, text)| wire::bytes(out, *tag, text.as_bytes()));
    wire::int(out, 7, 0);
    wire::message(out, 8, |out| write_time(out, meta.creation_timestamp));
    for (key, value) in &meta.labels {
        wire::message(out, 11, |out| {
            wire::bytes(out, 1, key.as_bytes());
            wire::bytes(out, 2, value.as_bytes());
        });
    }
}

fn write_time(out: &mut Vec<u8>, time: Time) {
    wire::int(out, 1, time.0);
    wire::int(out, 2, 0);
}

fn write_amount(out: &mut Vec<u8>, tag: u32, amount: Amount) {
    for (resource, text) in amount.texts() {
        wire::message(out, tag, |out| {
            wire::bytes(out, 1, resource.as_bytes());
            wire::message(out, 2, |out| wire::bytes(out, 1, text.as_bytes()));
        });
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A pod with two containers.
    pub fn pod() -> Object {
        let container =
            |name: &str, cpu, memory| Container { name: name.into(), usage: Amount { cpu, memory } };
        Object {
            metadata: Meta {
                name: "p".into(),
                namespace: "n".into(),
                creation_timestamp: Time(1_700_000_015),
                labels: [("app".to_string(), "x".to_string())].into(),
            },
            timestamp: Time(1_700_000_000),
            window: Window(15_033_000_000),
            body: Body::Containers(vec![
                container("a", 5_301_234, 17_825_792),
                container("b", 250_000_000, 1000),
            ]),
        }
    }

    /// A node.
    pub fn node() -> Object {
        let metadata = Meta { name: "w".into(), creation_timestamp: Time(1_700_000_015), ..Meta::default() };
        Object { metadata, body: Body::Usage(Amount { cpu: 0, memory: 2048 }), ..pod() }
    }

    #[test]
    fn json_is_upstreams() {
        let text = String::from_utf8(Answer::One(pod()).json("PodMetrics").unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"PodMetrics","apiVersion":"metrics.k8s.io/v1beta1","metadata":{"name":"p","namespace":"n","creationTimestamp":"2023-11-14T22:13:35Z","labels":{"app":"x"}},"timestamp":"2023-11-14T22:13:20Z","window":"15.033s","containers":[{"name":"a","usage":{"cpu":"5301234n","memory":"17Mi"}},{"name":"b","usage":{"cpu":"250m","memory":"1k"}}]}"#.to_owned() + "\n"
        );
        let list = Answer::List(vec![node()]).json("NodeMetrics").unwrap();
        let list: Value = serde_json::from_slice(&list).unwrap();
        assert_eq!(list["kind"], "NodeMetricsList");
        assert_eq!(list["metadata"], json!({}));
        assert_eq!(list["items"][0]["usage"], json!({"cpu": "0", "memory": "2Ki"}));
        assert!(list["items"][0].get("kind").is_none());
    }

    #[test]
    fn protobuf_says_the_same_as_json() {
        for (answer, kind) in [
            (Answer::One(pod()), "PodMetrics"),
            (Answer::One(node()), "NodeMetrics"),
            (Answer::List(vec![pod(), pod()]), "PodMetrics"),
            (Answer::List(vec![node()]), "NodeMetrics"),
            (Answer::List(vec![]), "NodeMetrics"),
        ] {
            let mut want: Value = serde_json::from_slice(&answer.json(kind).unwrap()).unwrap();
            let (api_version, whole, mut got) = codec::proto::decode_object(&answer.protobuf(kind)).unwrap();
            assert_eq!((api_version, whole), (API_VERSION.to_string(), answer.kind(kind)));
            for value in [&mut want, &mut got] {
                let map = value.as_object_mut().unwrap();
                map.remove("kind");
                map.remove("apiVersion");
                map.retain(|_, v| *v != json!([]) && !v.is_null());
            }
            assert_eq!(got, want);
        }
    }
}
