//! Patches of the user for what is written: files `TARGET[SUFFIX][+TYPE].{json,yaml}` of a directory.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use coxctl_config::Patches;
use serde::Deserialize;
use serde_json::Value;

/// What can be patched; the control plane is no pods here, so its names are known but have no effect.
const TARGETS: [&str; 6] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubeletconfiguration",
    "corednsdeployment",
];

/// The document with the patches for `target` applied, in the order of their file names.
///
/// # Errors
/// When a file is misnamed, can't be read, or does not fit.
pub fn apply(patches: Option<&Patches>, target: &str, mut document: Value) -> Result<Value> {
    let Some(dir) = patches.map(|p| Path::new(&p.directory)).filter(|d| !d.as_os_str().is_empty()) else {
        return Ok(document);
    };
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .with_context(|| format!("reading the patches in {}", dir.display()))?
        .filter_map(|e| Some(e.ok()?.path()))
        .collect();
    files.sort();
    for file in files {
        let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some((found, kind)) = parse(name)? else { continue };
        if found == target {
            document =
                patch_file(&file, kind, document).with_context(|| format!("patch {}", file.display()))?;
        }
    }
    Ok(document)
}

/// Target and type named by a file; `None` for files that are no patches.
fn parse(name: &str) -> Result<Option<(&'static str, &str)>> {
    let Some((stem, "json" | "yaml" | "yml")) = name.rsplit_once('.') else { return Ok(None) };
    let (stem, kind) = stem.split_once('+').unwrap_or((stem, "strategic"));
    ensure!(matches!(kind, "strategic" | "merge" | "json"), "{name}: unknown patch type {kind:?}");
    let target = TARGETS.iter().filter(|t| stem.starts_with(**t)).max_by_key(|t| t.len());
    match target {
        Some(target) => Ok(Some((target, kind))),
        None => bail!("{name}: unknown target; want one of {}", TARGETS.join(", ")),
    }
}

fn patch_file(file: &Path, kind: &str, mut document: Value) -> Result<Value> {
    let text = std::fs::read_to_string(file)?;
    for part in serde_yaml::Deserializer::from_str(&text) {
        let change = Value::deserialize(part)?;
        document = match kind {
            "json" => patch::json_patch(&document, &change).map_err(|e| anyhow::anyhow!("{e}"))?,
            _ => patch::merge_patch(&document, &change),
        };
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_say_what_and_how() {
        assert_eq!(
            parse("kubeletconfiguration0+merge.yaml").unwrap(),
            Some(("kubeletconfiguration", "merge"))
        );
        assert_eq!(parse("etcd.json").unwrap(), Some(("etcd", "strategic")));
        assert_eq!(parse("README").unwrap(), None);
        assert!(parse("kubelet.yaml").is_err() && parse("etcd+x.yaml").is_err());
    }

    #[test]
    fn patches_are_applied_in_order() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kubeletconfiguration1.yaml"), "a: 2\n").unwrap();
        let second = r#"[{"op": "add", "path": "/b", "value": 3}]"#;
        std::fs::write(dir.path().join("kubeletconfiguration2+json.json"), second).unwrap();
        let patches = Patches { directory: dir.path().display().to_string() };
        let got = apply(Some(&patches), "kubeletconfiguration", json!({"a": 1})).unwrap();
        assert_eq!(got, json!({"a": 2, "b": 3}));
    }
}
