//! Cases as text: objects, and the answer about the first of them. See the files in `testdata`.

use coxctl_kit::dig;
use expect_test::expect_file;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::case::Case;
use crate::facts::{self, Facts};
use crate::verb::{self, Answer};
use crate::{gather, print, subjects};

/// When all of it is asked.
const NOW: &str = "2026-01-01T12:00:00Z";
const WIDE: [&str; 5] = ["Node", "Namespace", "PersistentVolume", "StorageClass", "APIService"];

fn now() -> Timestamp {
    NOW.parse().expect("a moment")
}

/// `@30s` is half a minute ago, `@-30s` is to come.
fn moments(value: &mut Value) {
    match value {
        Value::String(text) => {
            let Some(span) = text.strip_prefix('@') else { return };
            let (sign, span) = span.strip_prefix('-').map_or((1, span), |rest| (-1, rest));
            let Some(nanos) = machinery::time::parse_go_duration(span) else { return };
            let at =
                now().checked_sub(SignedDuration::from_secs(sign * nanos / 1_000_000_000)).expect("in range");
            *text = at.to_string();
        }
        Value::Array(list) => list.iter_mut().for_each(moments),
        Value::Object(map) => map.values_mut().for_each(moments),
        _ => {}
    }
}

/// Fills in what every object has; `owner: Kind/name` and an event's `about: Kind/name` are short forms.
fn complete(mut object: Value) -> Value {
    moments(&mut object);
    let kind = dig::text(&object, "kind").to_string();
    if let Some(about) = object.get("about").and_then(Value::as_str).map(str::to_string) {
        let (kind, name) = about.split_once('/').expect("Kind/name");
        object["involvedObject"]["kind"] = kind.into();
        object["involvedObject"]["name"] = name.into();
        object["metadata"] = json!({"name": format!("{about}.{}", dig::text(&object, "reason"))});
    }
    if object["metadata"].get("namespace").is_none() && !WIDE.contains(&kind.as_str()) {
        object["metadata"]["namespace"] = "n".into();
    }
    let name = facts::name(&object).to_string();
    object["metadata"]["uid"] = format!("{kind}/{name}").into();
    if object["metadata"].get("creationTimestamp").is_none() {
        object["metadata"]["creationTimestamp"] = "2026-01-01T11:50:00Z".into();
    }
    if let Some(owner) = object.get("owner").and_then(Value::as_str).map(str::to_string) {
        object["metadata"]["ownerReferences"] = json!([{"controller": true, "uid": owner}]);
    }
    object
}

fn group(kind: &str) -> &'static str {
    subjects::SUBJECTS.iter().find(|subject| subject.kind == kind).map_or("", |subject| subject.group)
}

fn answer(yaml: &str) -> String {
    let documents = yaml
        .split("\n---\n")
        .map(|one| serde_yaml::from_str::<Value>(one).unwrap_or_else(|e| panic!("{e}:\n{one}")));
    let objects: Vec<Value> = documents.map(complete).collect();
    let mut facts = Facts::default();
    // Of nodes only those named are known.
    gather::kinds().filter(|kind| *kind != "Node").for_each(|kind| facts.take(kind, Vec::new()));
    for object in &objects {
        let (kind, namespace) = (dig::text(object, "kind"), facts::namespace(object));
        if let Some(text) = object.get("log").and_then(Value::as_str) {
            facts.take_log(namespace, facts::name(object), "main", text.into());
        }
        if object.get("remains").is_some() {
            facts.take_remains(vec![object.clone()]);
        }
        facts.take(kind, vec![object.clone()]);
    }
    let first = objects.first().expect("an object");
    if dig::text(first, "kind") == "Everything" {
        let judged = verb::judge(&facts, "n", &[], now());
        return print::lines(&judged, "n", &[]);
    }
    let kind = dig::text(first, "kind");
    let object = facts.find(kind, facts::namespace(first), facts::name(first)).expect("just taken");
    let case = Case { facts: &facts, object, now: now() };
    let finding = (subjects::of(kind, group(kind)).explain)(&case);
    let object = format!("{}/{}", kind.to_lowercase(), facts::name(object));
    print::text(&Answer { object, namespace: String::new(), finding })
}

/// Answers every case of a file again; the file holds what the answers must be.
fn check(text: &str, path: &str) {
    let mut out = String::new();
    for case in text.split("\n\n=== ").filter(|case| !case.trim().is_empty()) {
        let case = case.trim_start_matches("=== ");
        let (title, rest) = case.split_once('\n').expect("a title");
        let objects = rest.split("\n=>").next().expect("objects").trim_end();
        out.push_str(&format!("=== {title}\n{objects}\n=>\n{}\n", answer(objects)));
    }
    expect_file![path].assert_eq(&(out.trim_end().to_string() + "\n"));
}

macro_rules! files {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/", stringify!($name), ".txt");
            check(include_str!(concat!("../testdata/", stringify!($name), ".txt")), path);
        }
    )*};
}

files!(fit, pods, workloads, jobs, others);
