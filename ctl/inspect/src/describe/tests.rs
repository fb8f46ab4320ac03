//! Descriptions of objects in `testdata`, as they came from a server. Each file holds an object and what was read for it;
//! what is printed of it stands beside. The texts were compared with kubectl's.

use super::list;
use super::subject::Subject;
use super::template;
use expect_test::expect_file;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// When all of them are looked at.
const NOW: &str = "2026-11-21T20:00:00Z";

fn list_of(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn some(value: &Value) -> Option<Vec<Value>> {
    value.as_array().cloned()
}

fn by_name(value: &Value) -> BTreeMap<String, Value> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn subject(file: &Value) -> Subject {
    let error = |value: &Value| value.as_str().map(str::to_string);
    let object = file["object"].clone();
    Subject {
        now: machinery::time::parse(NOW).unwrap_or_default(),
        events: some(&file["events"]),
        pods: list_of(&file["pods"]),
        replica_sets: template::old_and_new(&object, list_of(&file["replicaSets"])),
        slices: by_name(&file["slices"]).into_iter().map(|(name, list)| (name, Ok(list_of(&list)))).collect(),
        services: by_name(&file["services"])
            .into_iter()
            .map(|(name, service)| (name, error(&service).map_or(Ok(service), Err)))
            .collect(),
        lease: file.get("lease").map(|lease| Ok(lease.clone())),
        quotas: some(&file["quotas"]),
        limit_ranges: some(&file["limitRanges"]),
        object,
        ..Subject::default()
    }
}

#[test]
fn descriptions() -> Result<(), Box<dyn std::error::Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut seen = 0;
    for entry in std::fs::read_dir(&directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        let kind = file["object"]["kind"].as_str().unwrap_or_default();
        let version = file["object"]["apiVersion"].as_str().unwrap_or_default();
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        let text = list::find(group, kind).page(&subject(&file))?;
        expect_file![path.with_extension("txt")].assert_eq(&text);
        seen += 1;
    }
    assert!(seen > 40, "{seen} descriptions");
    Ok(())
}
