//! HTTP extenders: programs beside the scheduler that filter, score, bind and choose victims. What is sent and how answers are read is
//! here as values; [`client`] does the talking.

mod ask;
pub mod client;
#[cfg(test)]
mod scenes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::framework::preempt::Candidate;
use crate::model::pod::PodInfo;

/// Stands for all extenders among the plugins that refused a pod: any event may change their minds.
pub const NAME: &str = "Extender";

/// How to trust an extender, and how it trusts us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Any certificate will do.
    pub insecure: bool,
    /// The name in its certificate, if it is not the address's.
    pub server_name: Option<String>,
    /// Files and contents: authority, certificate, key.
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub ca_data: Vec<u8>,
    pub cert_data: Vec<u8>,
    pub key_data: Vec<u8>,
}

/// One extender, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Extender {
    /// Where its verbs are.
    pub url: String,
    /// Empty verbs are not asked.
    pub filter: String,
    pub prioritize: String,
    pub preempt: String,
    pub bind: String,
    /// The weight of its scores.
    pub weight: i64,
    /// How long an answer may take.
    pub timeout: Duration,
    /// It knows the nodes itself; names are enough.
    pub knows_nodes: bool,
    /// Its failing is no failure.
    pub ignorable: bool,
    /// Only pods that ask for one of these; empty: all pods. True: the scheduler itself does not count the resource.
    pub resources: BTreeMap<String, bool>,
    /// For https.
    pub tls: Option<Tls>,
}

impl Extender {
    /// Whether this pod is its business.
    pub fn concerns(&self, pod: &PodInfo) -> bool {
        self.resources.is_empty()
            || pod.request.scalar.iter().any(|(name, _)| self.resources.contains_key(name))
    }

    /// The address of a verb.
    pub fn address(&self, verb: &str) -> String {
        format!("{}/{verb}", self.url.trim_end_matches('/'))
    }

    /// What is sent to filter and to score; `nodes` are whole objects if it does not know them itself.
    pub fn arguments(&self, pod: &Pod, names: &[String], nodes: &[Value]) -> Value {
        let pod = object(pod);
        match self.knows_nodes {
            true => json!({"Pod": pod, "NodeNames": names}),
            false => json!({"Pod": pod, "Nodes": {"metadata": {}, "items": nodes}}),
        }
    }

    /// What is sent to choose among victims.
    pub fn victims(&self, pod: &Pod, candidates: &[Candidate], whole: impl Fn(&PodInfo) -> Value) -> Value {
        let mut all = serde_json::Map::new();
        for c in candidates {
            let pods: Vec<Value> = match self.knows_nodes {
                true => c.victims.iter().map(|v| json!({"UID": v.uid})).collect(),
                false => c.victims.iter().map(|v| whole(v)).collect(),
            };
            all.insert(c.node.clone(), json!({"Pods": pods, "NumPDBViolations": c.violations}));
        }
        let field = if self.knows_nodes { "NodeNameToMetaVictims" } else { "NodeNameToVictims" };
        json!({"Pod": object(pod), field: all})
    }
}

/// A pod as an object of its own, with its kind.
pub fn object(pod: &Pod) -> Value {
    serde_json::to_value(pod).unwrap_or_default()
}

/// What is sent to bind.
pub fn binding(pod: &PodInfo, node: &str) -> Value {
    json!({"PodName": pod.name, "PodNamespace": pod.namespace, "PodUID": pod.uid, "Node": node})
}

/// The answer to a filter call. Keys are read in any case.
#[derive(Debug, Default, PartialEq)]
pub struct Filtered {
    /// Names of nodes that will do.
    pub nodes: Vec<String>,
    /// Why others won't: until something leaves them, or for ever.
    pub failed: BTreeMap<String, String>,
    pub never: BTreeMap<String, String>,
}

fn lower(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v)).collect(),
        other => other,
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawFiltered {
    nodes: Option<Value>,
    nodenames: Option<Vec<String>>,
    failednodes: Option<BTreeMap<String, String>>,
    failedandunresolvablenodes: Option<BTreeMap<String, String>>,
    error: Option<String>,
}

/// Reads the answer to a filter call.
///
/// # Errors
/// What the extender calls an error, or what is no answer.
pub fn read_filtered(answer: Value) -> Result<Filtered, String> {
    let raw: RawFiltered = serde_json::from_value(lower(answer)).map_err(|e| e.to_string())?;
    if let Some(error) = raw.error.filter(|e| !e.is_empty()) {
        return Err(error);
    }
    let listed = raw.nodes.as_ref().and_then(|n| n.get("items")).and_then(Value::as_array);
    let name = |n: &Value| n.pointer("/metadata/name").and_then(Value::as_str).map(String::from);
    let nodes = match (raw.nodenames, listed) {
        (Some(names), _) => names,
        (None, Some(items)) => items.iter().filter_map(name).collect(),
        (None, None) => Vec::new(),
    };
    let (failed, never) =
        (raw.failednodes.unwrap_or_default(), raw.failedandunresolvablenodes.unwrap_or_default());
    Ok(Filtered { nodes, failed, never })
}

/// Reads the answer to a prioritize call: 0 to 10 by node.
///
/// # Errors
/// What is no answer.
pub fn read_scores(answer: Value) -> Result<BTreeMap<String, i64>, String> {
    let items = answer.as_array().ok_or("the answer is no list")?;
    let one = |v: &Value| {
        let v = lower(v.clone());
        Some((v.get("host")?.as_str()?.to_string(), v.get("score")?.as_i64()?))
    };
    items.iter().map(|v| one(v).ok_or_else(|| format!("{v} is no score"))).collect()
}

/// Reads the answer to a preempt call and keeps of the candidates what it leaves, with the victims it names.
///
/// # Errors
/// What is no answer, or names what was not offered.
pub fn read_victims(answer: Value, candidates: Vec<Candidate>) -> Result<Vec<Candidate>, String> {
    let answer = lower(answer);
    let left = answer.get("nodenametometavictims").and_then(Value::as_object);
    let left = left.ok_or("the answer has no NodeNameToMetaVictims")?;
    let mut kept = Vec::new();
    for mut c in candidates {
        let Some(victims) = left.get(&c.node) else { continue };
        let victims = lower(victims.clone());
        let pods = victims.get("pods").and_then(Value::as_array).cloned().unwrap_or_default();
        let uid = |p: Value| lower(p).get("uid").and_then(Value::as_str).map(String::from);
        let uids: BTreeSet<String> = pods.into_iter().filter_map(uid).collect();
        if let Some(unknown) = uids.iter().find(|u| !c.victims.iter().any(|v| v.uid == **u)) {
            return Err(format!("node {}: pod {unknown} was not offered", c.node));
        }
        c.victims.retain(|v| uids.contains(&v.uid));
        let violations = victims.get("numpdbviolations").and_then(Value::as_u64);
        c.violations = violations.map_or(c.violations, |n| n as usize);
        kept.push(c);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[test]
    fn answers() {
        let answer = json!({"NodeNames": ["a"], "FailedNodes": {"b": "no"}, "FailedAndUnresolvableNodes": {"c": "never"}});
        let got = read_filtered(answer).unwrap();
        assert_eq!(
            (got.nodes, got.failed["b"].as_str(), got.never["c"].as_str()),
            (vec!["a".into()], "no", "never")
        );
        let whole = json!({"nodes": {"items": [{"metadata": {"name": "a"}}]}});
        assert_eq!(read_filtered(whole).unwrap().nodes, ["a"]);
        assert_eq!(read_filtered(json!({"Error": "broken"})), Err("broken".into()));
        assert_eq!(read_scores(json!([{"Host": "a", "Score": 7}])).unwrap()["a"], 7);
        assert!(read_scores(json!({})).is_err());
        assert!(read_scores(json!([{"Host": "a"}])).is_err());
    }

    #[test]
    fn an_extender_may_only_take_away_victims() {
        let offered = || {
            let victims = vec![pod("v", json!({})), pod("w", json!({}))];
            let other = Candidate { node: "b".into(), victims: Vec::new(), violations: 0 };
            vec![Candidate { node: "a".into(), victims, violations: 2 }, other]
        };
        let answer = |uid: &str| json!({"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": uid}], "NumPDBViolations": 1}}});
        let kept = read_victims(answer("uid-v"), offered()).unwrap();
        assert_eq!((kept.len(), kept[0].victims.len(), kept[0].violations), (1, 1, 1));
        assert!(read_victims(answer("uid-x"), offered()).is_err());
    }

    #[test]
    fn only_pods_that_ask_for_its_resources() {
        let mut e = Extender {
            url: "http://x/y/".into(),
            filter: "f".into(),
            prioritize: String::new(),
            preempt: String::new(),
            bind: String::new(),
            weight: 1,
            timeout: Duration::from_secs(5),
            knows_nodes: true,
            ignorable: false,
            resources: BTreeMap::new(),
            tls: None,
        };
        let gpu =
            json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"x.y/gpu": "1"}}}]});
        let (plain, gpu) = (pod("p", json!({})), pod("g", gpu));
        assert!(e.concerns(&plain));
        e.resources.insert("x.y/gpu".into(), false);
        assert!(!e.concerns(&plain) && e.concerns(&gpu));
        assert_eq!(e.address("f"), "http://x/y/f");
        let names = ["a".to_string()];
        assert_eq!(e.arguments(&Pod::default(), &names, &[])["NodeNames"], json!(["a"]));
        e.knows_nodes = false;
        assert_eq!(e.arguments(&Pod::default(), &names, &[json!({})])["Nodes"]["items"], json!([{}]));
    }
}
