//! Volume sources → files. Pure over objects looked up before.

use super::atomic::{File, Payload};
use crate::pods::env;
use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

fn mode(item: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(item.or(default).unwrap_or(0o644)).unwrap_or(0o644)
}

fn file(data: Vec<u8>, mode: u32) -> File {
    File { data, mode, owner: None }
}

/// Picks keys as `items` say (all without items). A missing key is an error unless optional.
fn pick(
    all: &BTreeMap<String, Vec<u8>>,
    items: Option<&Vec<KeyToPath>>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Payload, String> {
    let items = items.filter(|i| !i.is_empty());
    let Some(items) = items else {
        return Ok(all.iter().map(|(k, v)| (k.clone(), file(v.clone(), mode(None, default_mode)))).collect());
    };
    let mut out = Payload::new();
    for item in items {
        match all.get(&item.key) {
            Some(data) => {
                out.insert(item.path.clone(), file(data.clone(), mode(item.mode, default_mode)));
            }
            None if optional => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(out)
}

/// Files of a ConfigMap.
pub fn config_map(
    object: Option<&ConfigMap>,
    namespace: &str,
    name: &str,
    items: Option<&Vec<KeyToPath>>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Payload, String> {
    let Some(object) = object else {
        return if optional { Ok(Payload::new()) } else { Err(format!("configmap \"{name}\" not found")) };
    };
    let mut all: BTreeMap<String, Vec<u8>> =
        object.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes())).collect();
    all.extend(object.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())));
    pick(&all, items, default_mode, optional).map_err(|e| {
        format!("configmap {e}")
            .replace("configmap references", &format!("configmap {namespace}/{name} references"))
    })
}

/// Files of a Secret.
pub fn secret(
    object: Option<&Secret>,
    namespace: &str,
    name: &str,
    items: Option<&Vec<KeyToPath>>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Payload, String> {
    let Some(object) = object else {
        return if optional { Ok(Payload::new()) } else { Err(format!("secret \"{name}\" not found")) };
    };
    let all: BTreeMap<String, Vec<u8>> =
        object.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect();
    pick(&all, items, default_mode, optional).map_err(|e| {
        e.replace(
            "references non-existent config key",
            &format!("secret {namespace}/{name} references non-existent secret key"),
        )
    })
}

/// Files of a downward API volume.
pub fn downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: Option<i32>,
    pod_ips: &[String],
    host_ips: &[String],
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<Payload, String> {
    let mut out = Payload::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(f), _) => env::pod_field(pod, f, pod_ips, host_ips)?,
            (None, Some(r)) => {
                let none = Default::default();
                env::resource_field(pod, &none, r, allocatable)?
            }
            (None, None) => continue,
        };
        out.insert(item.path.clone(), file(text.into_bytes(), mode(item.mode, default_mode)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_items_modes() {
        let cm: ConfigMap = serde_yaml::from_str("data: {a: '1', b: '2'}\nbinaryData: {c: AAE=}").unwrap();
        let all = config_map(Some(&cm), "n", "m", None, Some(0o400), false).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(all["a"].mode, 0o400);
        let items = vec![KeyToPath { key: "a".into(), path: "x/y".into(), mode: Some(0o600) }];
        let some = config_map(Some(&cm), "n", "m", Some(&items), None, false).unwrap();
        assert_eq!((some.len(), some["x/y"].mode), (1, 0o600));
        let bad = vec![KeyToPath { key: "zz".into(), path: "x".into(), mode: None }];
        assert_eq!(
            config_map(Some(&cm), "n", "m", Some(&bad), None, false).unwrap_err(),
            "configmap n/m references non-existent config key: zz"
        );
        assert!(config_map(Some(&cm), "n", "m", Some(&bad), None, true).unwrap().is_empty());
        assert_eq!(config_map(None, "n", "m", None, None, false).unwrap_err(), "configmap \"m\" not found");
        assert!(secret(None, "n", "m", None, None, true).unwrap().is_empty());
    }

    #[test]
    fn downward_files() {
        let pod: Pod = serde_yaml::from_str("metadata: {name: p, labels: {b: '2', a: '1'}}\nspec: {containers: [{name: c, resources: {limits: {cpu: 250m}}}]}").unwrap();
        let items: Vec<DownwardAPIVolumeFile> = serde_yaml::from_str("[{path: l, fieldRef: {fieldPath: metadata.labels}}, {path: c, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}]").unwrap();
        let out = downward(&pod, &items, None, &[], &[], &BTreeMap::new()).unwrap();
        assert_eq!(out["l"].data, b"a=\"1\"\nb=\"2\"");
        assert_eq!(out["c"].data, b"250");
    }
}
