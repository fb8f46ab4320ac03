//! The pods and containers made for debugging.

use super::Debug;
use crate::dig;
use crate::target;
use coxctl_kit::{Error, Result, out};
use rand::Rng;
use serde_json::{Map, Value, json};

/// What is debugged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A pod, by a container beside its own.
    Ephemeral,
    /// A pod, by a changed copy.
    Copy,
    Node,
}

/// Letters and digits that make no words.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five characters nobody guesses.
pub fn suffix() -> String {
    let mut random = rand::rng();
    (0..5).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

/// The container of the flags; empty fields are left out.
fn container(args: &Debug, name: &str) -> Value {
    let words = if args.arguments_only { "args" } else { "command" };
    let fields = [
        ("name", Value::from(name)),
        ("image", args.image.as_str().into()),
        ("imagePullPolicy", args.image_pull_policy.as_str().into()),
        (words, args.command.clone().into()),
        ("env", env(args).into()),
        ("stdin", args.stdin.into()),
        ("tty", args.tty.into()),
        ("terminationMessagePolicy", "File".into()),
    ];
    let empty =
        |value: &Value| *value == "" || *value == false || value.as_array().is_some_and(Vec::is_empty);
    let kept = fields.into_iter().filter(|(_, value)| !empty(value));
    Value::Object(kept.map(|(field, value)| (field.to_string(), value)).collect())
}

fn env(args: &Debug) -> Vec<Value> {
    let pair =
        |pair: &String| pair.split_once('=').map(|(name, value)| json!({"name": name, "value": value}));
    args.env.iter().filter_map(pair).collect()
}

/// A container to be put beside those of a pod.
pub fn ephemeral(args: &Debug, name: &str) -> Value {
    let mut container = container(args, name);
    if !args.target.is_empty() {
        container["targetContainerName"] = args.target.as_str().into();
    }
    container
}

/// Puts it there.
pub fn add_ephemeral(pod: &mut Value, container: Value) {
    add(pod, "ephemeralContainers", container);
}

fn add(pod: &mut Value, list: &str, container: Value) {
    let mut all = pod["spec"][list].as_array().cloned().unwrap_or_default();
    all.push(container);
    pod["spec"][list] = all.into();
}

/// A pod that looks at a node.
pub fn node_pod(args: &Debug, name: &str, container_name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "kubectl-debug"}},
        "spec": {
            "containers": [container(args, container_name)],
            "nodeName": node,
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
        },
    })
}

/// A copy of a pod with other images, before a container of it is changed.
pub fn copy(args: &Debug, pod: &Value) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".into(), args.copy_to.as_str().into());
    for field in ["namespace", "annotations", "labels"] {
        if dig::has(&pod["metadata"], field) {
            metadata.insert(field.into(), pod["metadata"][field].clone());
        }
    }
    let mut copy = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]});
    if let Some(spec) = copy["spec"].as_object_mut() {
        spec.remove("ephemeralContainers");
        if !args.same_node {
            spec.remove("nodeName");
        }
        if let Some(share) = args.share_processes {
            spec.insert("shareProcessNamespace".into(), share.into());
        }
    }
    set_images(&mut copy, args);
    copy
}

fn set_images(copy: &mut Value, args: &Debug) {
    let images: Vec<_> = args.set_image.iter().filter_map(|pair| pair.split_once('=')).collect();
    let image_of =
        |name: &str| images.iter().rev().find(|(known, _)| *known == name).map(|(_, image)| *image);
    for container in copy["spec"]["containers"].as_array_mut().into_iter().flatten() {
        let name = dig::text(container, "name").to_string();
        if let Some(image) = image_of(&name).or_else(|| image_of("*")) {
            container["image"] = image.into();
        }
    }
}

/// Adds a container to a copy, to be filled by [`set_container`].
pub fn add_container(copy: &mut Value, name: &str) {
    add(copy, "containers", json!({"name": name, "terminationMessagePolicy": "File"}));
}

/// Changes a container of a copy to what the flags say.
pub fn set_container(copy: &mut Value, name: &str, args: &Debug) {
    for list in ["containers", "initContainers"] {
        let all = copy["spec"][list].as_array_mut().into_iter().flatten();
        for container in all.filter(|container| container["name"] == name) {
            set(container, args);
        }
    }
}

fn set(container: &mut Value, args: &Debug) {
    if !args.command.is_empty() {
        let words = if args.arguments_only { "args" } else { "command" };
        if let (false, Some(map)) = (args.arguments_only, container.as_object_mut()) {
            map.remove("args");
        }
        container[words] = args.command.clone().into();
    }
    if !args.env.is_empty() {
        container["env"] = env(args).into();
    }
    for (field, value) in [("image", &args.image), ("imagePullPolicy", &args.image_pull_policy)] {
        if !value.is_empty() {
            container[field] = value.as_str().into();
        }
    }
    container["stdin"] = args.stdin.into();
    container["tty"] = args.tty.into();
}

/// Merges the partial container of `--custom` into a container.
///
/// # Errors
/// When the two don't fit together.
pub fn customize(pod: &mut Value, list: &str, name: &str, custom: Option<&Value>) -> Result<()> {
    let Some(custom) = custom else { return Ok(()) };
    let kind = machinery::schema::type_named("io.k8s.api.core.v1.Container");
    let all = pod["spec"][list].as_array_mut().into_iter().flatten();
    for container in all.filter(|container| container["name"] == name) {
        if let Some(kind) = kind {
            *container = patch::strategic::apply(container, custom, kind).map_err(|error| {
                Error::message(format!("error creating three way patch to add debug container: {error}"))
            })?;
        }
    }
    Ok(())
}

/// Says when rights may not work, as the whole pod runs as somebody else than root.
pub fn warn(pod: &Value, name: &str) {
    let Some((container, _)) = target::container(pod, name) else { return };
    let context = &container["securityContext"];
    let granted = dig::flag(context, "privileged") || !dig::items(context, "capabilities.add").is_empty();
    let root = context["runAsUser"] == 0;
    if dig::int(pod, "spec.securityContext.runAsUser") != 0 && granted && !root {
        out::note(
            "Warning: Non-root user is configured for the entire target Pod, and some capabilities granted by debug profile may not work. Please consider using \"--custom\" with a custom profile that specifies \"securityContext.runAsUser: 0\".",
        );
    }
}

/// The state of a container.
pub fn state(pod: &Value, name: &str) -> Value {
    let lists = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
    let all = lists.iter().flat_map(|list| dig::items(&pod["status"], list));
    all.into_iter()
        .find(|status| dig::text(status, "name") == name)
        .map(|status| status["state"].clone())
        .unwrap_or_default()
}
