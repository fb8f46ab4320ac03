//! Patches of the user for what is written: files `TARGET[SUFFIX][+TYPE].{json,yaml}` of a directory, as kubeadm reads them.
//!
//! The control plane and etcd are daemons of the machine here. Their patches are for kubeadm's static pods; what such a pod
//! would be is made of the daemon, patched, and read back: command, arguments and environment of its container.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use coxctl_config::Patches;
use coxctl_machine::Daemon;
use machinery::schema::type_named;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::host::Host;
use crate::{daemons, say};

/// What can be patched.
const TARGETS: [&str; 6] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubeletconfiguration",
    "corednsdeployment",
];
/// Where the patches a machine was made with are kept, for commands that write its daemons again.
pub const KEPT: &str = "/var/lib/coxswain/patches";

/// How a patch is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Strategic,
    Merge,
    Json,
}

/// One patch file.
#[derive(Debug)]
struct File {
    path: PathBuf,
    target: &'static str,
    kind: Kind,
}

/// Looks the directory over before anything is made, and says which patches there are.
///
/// # Errors
/// When the directory or a file can't be read, or a file is misnamed.
pub fn check(patches: Option<&Patches>) -> Result<()> {
    let Some(dir) = directory(patches) else { return Ok(()) };
    say::line("patches", format_args!("Reading patches from path {:?}", dir.display().to_string()));
    let found = files(dir, true)?;
    for file in &found {
        documents(&file.path)?;
    }
    let names: Vec<String> = found.iter().map(|f| name(&f.path)).collect();
    if names.is_empty() {
        say::line("patches", format_args!("No patch files found in path {:?}", dir.display().to_string()));
    } else {
        say::line("patches", format_args!("Found the following patch files: [{}]", names.join(" ")));
    }
    Ok(())
}

/// Keeps the patches beside the machine's other facts.
///
/// # Errors
/// When a file can't be read or written.
pub fn keep(host: &Host, patches: Option<&Patches>) -> Result<()> {
    let Some(dir) = directory(patches).filter(|d| *d != Path::new(KEPT)) else { return Ok(()) };
    let found = files(dir, false)?;
    for old in files(&host.path(KEPT), false).unwrap_or_default() {
        if !found.iter().any(|f| name(&f.path) == name(&old.path)) {
            let _ = std::fs::remove_file(&old.path);
        }
    }
    for file in found {
        let text = std::fs::read(&file.path).with_context(|| format!("reading {}", file.path.display()))?;
        host.write(&format!("{KEPT}/{}", name(&file.path)), &text, 0o600)?;
    }
    Ok(())
}

/// The patches given, else those this machine was made with.
pub fn given_or_kept(given: Option<&Patches>) -> Option<Patches> {
    let kept = || Path::new(KEPT).is_dir().then(|| Patches { directory: KEPT.into() });
    given.cloned().filter(|p| !p.directory.is_empty()).or_else(kept)
}

/// The document with the patches for `target` applied, in the order of their file names.
///
/// # Errors
/// When a file is misnamed, can't be read, or does not fit.
pub fn apply(patches: Option<&Patches>, target: &str, mut document: Value) -> Result<Value> {
    let Some(dir) = directory(patches) else { return Ok(document) };
    for file in files(dir, false)?.iter().filter(|f| f.target == target) {
        document = file.apply(document).with_context(|| format!("patch {}", file.path.display()))?;
        say::detail(format_args!("[patches] Applied patch {} to target {target:?}", file.path.display()));
    }
    Ok(document)
}

/// A daemon of the control plane with the patches for its static pod.
///
/// # Errors
/// As [`apply`], and when what comes out can't be run.
pub fn daemon(patches: Option<&Patches>, daemon: Daemon) -> Result<Daemon> {
    let Some(dir) = directory(patches) else { return Ok(daemon) };
    let target = target_of(&daemon.name).to_string();
    let target = target.as_str();
    if !files(dir, false)?.iter().any(|f| f.target == target) {
        return Ok(daemon);
    }
    let before = manifest(&daemon);
    let after = apply(patches, target, before.clone())?;
    let read = read_back(daemon, &after).with_context(|| format!("patches for {target}"))?;
    if without_effect(&before, target) != without_effect(&after, target) {
        say::warn(
            "patches",
            format_args!(
                "{target} is a daemon of the machine, not a pod: only command, args and env of its container have an effect"
            ),
        );
    }
    Ok(read)
}

/// kubeadm's name of a component.
fn target_of(daemon: &str) -> &str {
    if daemon == daemons::ETCD { "etcd" } else { daemon }
}

/// The static pod a daemon would be, as kubeadm writes it.
pub fn manifest(daemon: &Daemon) -> Value {
    let name = target_of(&daemon.name);
    let command: Vec<&str> =
        daemon.program.to_str().into_iter().chain(daemon.args.iter().map(String::as_str)).collect();
    let env: Vec<Value> =
        daemon.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut container = json!({"name": name, "command": command});
    if !env.is_empty() {
        container["env"] = env.into();
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "kube-system", "labels": {"component": name, "tier": "control-plane"}},
        "spec": {"containers": [container], "hostNetwork": true, "priorityClassName": "system-node-critical"},
    })
}

fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    pod["spec"]["containers"].as_array()?.iter().find(|c| c["name"] == name)
}

fn read_back(mut daemon: Daemon, pod: &Value) -> Result<Daemon> {
    let name = target_of(&daemon.name);
    let container = container(pod, name).with_context(|| format!("the container {name} is gone"))?;
    let mut words = texts(&container["command"], "command")?;
    words.extend(texts(&container["args"], "args")?);
    ensure!(!words.is_empty(), "the container {name} has no command");
    daemon.program = words.remove(0).into();
    daemon.args = words;
    daemon.env = container["env"].as_array().into_iter().flatten().map(variable).collect::<Result<_>>()?;
    Ok(daemon)
}

fn texts(list: &Value, what: &str) -> Result<Vec<String>> {
    let text = |v: &Value| v.as_str().map(str::to_string).with_context(|| format!("{what}: {v} is no text"));
    list.as_array().into_iter().flatten().map(text).collect()
}

fn variable(env: &Value) -> Result<(String, String)> {
    let name = env["name"].as_str().context("env: a variable has no name")?;
    ensure!(env.get("valueFrom").is_none(), "env {name}: valueFrom is for pods; give a value");
    Ok((name.into(), env["value"].as_str().unwrap_or_default().into()))
}

/// A pod without what is read back.
fn without_effect(pod: &Value, name: &str) -> Value {
    let mut rest = pod.clone();
    let containers = rest["spec"]["containers"].as_array_mut();
    for object in
        containers.into_iter().flatten().filter(|c| c["name"] == name).filter_map(Value::as_object_mut)
    {
        ["command", "args", "env"].iter().for_each(|field| drop(object.remove(*field)));
    }
    rest
}

fn directory(patches: Option<&Patches>) -> Option<&Path> {
    patches.map(|p| Path::new(&p.directory)).filter(|d| !d.as_os_str().is_empty())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The patch files of a directory in the order of their names; others are told when `tell`.
fn files(dir: &Path, tell: bool) -> Result<Vec<File>> {
    let listing =
        std::fs::read_dir(dir).with_context(|| format!("reading the patches in {}", dir.display()))?;
    let mut paths: Vec<PathBuf> =
        listing.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        match parse(&name(&path))? {
            Some((target, kind)) => found.push(File { path, target, kind }),
            None if tell => say::warn(
                "patches",
                format_args!("{} is ignored: the file extension must be json or yaml", path.display()),
            ),
            None => {}
        }
    }
    Ok(found)
}

/// Target and type named by a file; `None` for files that are no patches.
fn parse(name: &str) -> Result<Option<(&'static str, Kind)>> {
    let Some((stem, "json" | "yaml")) = name.rsplit_once('.') else { return Ok(None) };
    let (stem, kind) = stem.split_once('+').unwrap_or((stem, "strategic"));
    let kind = match kind {
        "strategic" => Kind::Strategic,
        "merge" => Kind::Merge,
        "json" => Kind::Json,
        _ => bail!("{name}: unknown patch type {kind:?}, must be one of strategic, merge, json"),
    };
    let target = TARGETS.iter().filter(|t| stem.starts_with(**t)).max_by_key(|t| t.len());
    match target {
        Some(target) => Ok(Some((target, kind))),
        None => bail!("{name}: unknown target, must be one of {}", TARGETS.join(", ")),
    }
}

/// The documents of a file, empty ones left out.
fn documents(path: &Path) -> Result<Vec<Value>> {
    let what = || format!("reading the patch {}", path.display());
    let text = std::fs::read_to_string(path).with_context(what)?;
    let all =
        serde_yaml::Deserializer::from_str(&text).map(Value::deserialize).collect::<Result<Vec<_>, _>>();
    Ok(all.with_context(what)?.into_iter().filter(|v| !v.is_null()).collect())
}

impl File {
    fn apply(&self, mut document: Value) -> Result<Value> {
        // The kubelet's document has no lists that are merged: there a strategic patch is a merge patch.
        let ty = match self.target {
            "kubeletconfiguration" => None,
            "corednsdeployment" => type_named("io.k8s.api.apps.v1.Deployment"),
            _ => type_named("io.k8s.api.core.v1.Pod"),
        };
        for change in documents(&self.path)? {
            document = match (self.kind, ty) {
                (Kind::Json, _) => patch::json_patch(&document, &change).map_err(plain)?,
                (Kind::Strategic, Some(ty)) => {
                    patch::strategic::apply(&document, &change, ty).map_err(plain)?
                }
                _ => patch::merge_patch(&document, &change),
            };
        }
        Ok(document)
    }
}

fn plain(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn patches(files: &[(&str, &str)]) -> (tempfile::TempDir, Option<Patches>) {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
        let patches = Patches { directory: dir.path().display().to_string() };
        (dir, Some(patches))
    }

    fn scheduler() -> Daemon {
        Daemon {
            name: "kube-scheduler".into(),
            program: "kube-scheduler".into(),
            args: vec!["--leader-elect=true".into()],
            ..Daemon::default()
        }
    }

    #[test]
    fn names_say_what_and_how() {
        for (name, want) in [
            ("kubeletconfiguration0+merge.yaml", Some(("kubeletconfiguration", Kind::Merge))),
            ("etcd.json", Some(("etcd", Kind::Strategic))),
            ("kube-apiserver_01+json.yaml", Some(("kube-apiserver", Kind::Json))),
            ("README", None),
            ("etcd.yaml.bak", None),
        ] {
            assert_eq!(parse(name).unwrap(), want, "{name}");
        }
        assert!(parse("kubelet.yaml").unwrap_err().to_string().contains("unknown target"));
        assert!(parse("etcd+x.yaml").unwrap_err().to_string().contains("unknown patch type \"x\""));
        let (_dir, bad) = patches(&[("etcd.yaml", "a: [")]);
        assert!(check(bad.as_ref()).is_err());
        assert!(check(Some(&Patches { directory: "/nowhere".into() })).is_err());
    }

    #[test]
    fn patches_are_applied_in_order() {
        let (_dir, all) = patches(&[
            ("kubeletconfiguration1.yaml", "a: 2\n---\n---\nc: {d: 4}\n"),
            ("kubeletconfiguration2+json.json", r#"[{"op": "add", "path": "/b", "value": 3}]"#),
        ]);
        let got = apply(all.as_ref(), "kubeletconfiguration", json!({"a": 1})).unwrap();
        assert_eq!(got, json!({"a": 2, "b": 3, "c": {"d": 4}}));
    }

    #[test]
    fn a_static_pods_patch_changes_a_daemon() {
        let (_dir, all) = patches(&[
            ("kube-scheduler0+json.yaml", "- {op: add, path: /spec/containers/0/command/-, value: --v=4}\n"),
            (
                "kube-scheduler1.yaml",
                "spec:\n  containers:\n  - name: kube-scheduler\n    args: [--x=1]\n    env: [{name: A, value: b}]\n",
            ),
            ("etcd.yaml", "spec: {containers: []}\n"),
        ]);
        let got = daemon(all.as_ref(), scheduler()).unwrap();
        assert_eq!(got.args, ["--leader-elect=true", "--v=4", "--x=1"]);
        assert_eq!(got.env, BTreeMap::from([("A".to_string(), "b".to_string())]));
        assert_eq!(got.program, Path::new("kube-scheduler"));
        let other = Daemon { name: "kube-apiserver".into(), ..scheduler() };
        assert_eq!(daemon(all.as_ref(), other.clone()).unwrap(), other);
    }

    #[test]
    fn patches_that_leave_nothing_to_run_are_refused() {
        for (file, text, want) in [
            ("kube-scheduler+json.yaml", "[{op: remove, path: /spec/containers/0}]", "is gone"),
            ("kube-scheduler+merge.yaml", "spec: {containers: [{name: kube-scheduler}]}", "no command"),
            ("kube-scheduler+json.yaml", "[{op: add, path: /nowhere/x, value: 1}]", "patch /"),
            (
                "kube-scheduler.yaml",
                "spec: {containers: [{name: kube-scheduler, env: [{name: A, valueFrom: {}}]}]}",
                "valueFrom",
            ),
        ] {
            let (_dir, all) = patches(&[(file, text)]);
            let error = format!("{:#}", daemon(all.as_ref(), scheduler()).unwrap_err());
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn etcd_is_known_by_kubeadms_name() {
        let etcd = Daemon { name: daemons::ETCD.into(), program: "etcd".into(), ..Daemon::default() };
        let (_dir, all) = patches(&[(
            "etcd+json.json",
            r#"[{"op":"add","path":"/spec/containers/0/command/1","value":"--y"}]"#,
        )]);
        assert_eq!(daemon(all.as_ref(), etcd).unwrap().args, ["--y"]);
    }
}
