//! PersistentVolumeClaims: why they are not bound.

use coxctl_kit::dig;
use serde_json::Value;

use crate::amount::bare;
use crate::case::{Case, event_time};
use crate::facts::{self, Facts};
use crate::finding::{Finding, Reason};
use crate::fit::{selects, written};
use crate::{leaving, pod, words};

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const SELECTED: &str = "volume.kubernetes.io/selected-node";
/// How many volumes get a line of their own.
const EACH: usize = 4;

/// The class a claim names; none where it names none, or one that isn't there.
pub fn class_of<'a>(facts: &'a Facts, claim: &Value) -> Option<&'a Value> {
    facts.find("StorageClass", "", dig::text(claim, "spec.storageClassName"))
}

/// Whether a claim is only bound when a pod that uses it is scheduled.
pub fn waits_for_pod(facts: &Facts, claim: &Value) -> bool {
    dig::text(claim, "spec.volumeName").is_empty()
        && class_of(facts, claim)
            .is_some_and(|class| dig::text(class, "volumeBindingMode") == "WaitForFirstConsumer")
}

/// The node whose volume a claim has been promised, while it is being made.
pub fn selected_node(claim: &Value) -> Option<&str> {
    dig::at(claim, "metadata.annotations").get(SELECTED).and_then(Value::as_str).filter(|n| !n.is_empty())
}

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    match case.text("status.phase") {
        "Bound" => bound(case),
        "Lost" => {
            let volume = case.text("spec.volumeName");
            let text = format!("its volume {volume} does not exist any more, and its data with it");
            let reason = Reason::new("volume-lost", text).seen(
                "PersistentVolumeClaim",
                case.name(),
                "spec.volumeName",
                volume,
            );
            Finding::bad(
                "is Lost",
                vec![reason.help("delete the claim and make it anew, or bring the PersistentVolume back")],
            )
        }
        _ => pending(case),
    }
}

fn bound(case: &Case<'_>) -> Finding {
    let volume = case.text("spec.volumeName");
    let size = bare("storage", &dig::quantity(dig::at(case.object, "status.capacity.storage")));
    let mut notes = Vec::new();
    for kind in [
        "FileSystemResizePending",
        "Resizing",
        "ControllerResizeError",
        "NodeResizeError",
        "ModifyVolumeError",
    ] {
        let Some(condition) = case.condition(kind).filter(|c| dig::text(c, "status") == "True") else {
            continue;
        };
        notes.push(
            Reason::new("resize", format!("{kind}: {}", words::message(dig::text(condition, "message"))))
                .seen("PersistentVolumeClaim", case.name(), "status.conditions", kind),
        );
    }
    match notes.is_empty() {
        true => Finding::well(format!("is well: bound to {volume}, {size}")),
        false => Finding::waiting(format!("is bound to {volume}, {size}, and being resized"), notes),
    }
}

fn pending(case: &Case<'_>) -> Finding {
    if !case.text("spec.volumeName").is_empty() {
        return Finding::bad("is Pending", vec![named_volume(case)]);
    }
    let class = case.text("spec.storageClassName");
    let found = class_of(case.facts, case.object);
    let reasons = match (dig::has(case.object, "spec.storageClassName"), class, found) {
        (true, "", _) => {
            volumes(case, "it asks for a volume without a class (storageClassName is empty)".into())
        }
        (true, name, None) => missing_class(case, name),
        (false, _, _) => no_class(case),
        (true, _, Some(class)) if waits_for_pod(case.facts, case.object) => {
            return first_consumer(case, class);
        }
        (true, _, Some(class)) => provisioning(case, class),
    };
    Finding::bad("is Pending", reasons)
}

/// A claim that names its volume itself.
fn named_volume(case: &Case<'_>) -> Reason {
    let name = case.text("spec.volumeName");
    let reason = |text| {
        Reason::new("volume", text).seen("PersistentVolumeClaim", case.name(), "spec.volumeName", name)
    };
    let Some(volume) = case.facts.find("PersistentVolume", "", name) else {
        return reason(format!("spec.volumeName is {name}, and there is no such PersistentVolume"));
    };
    match mismatches(case.object, volume) {
        why if why.is_empty() => reason(format!(
            "it is to be bound to {name}; the volume binder has not done so for {}",
            case.since("metadata.creationTimestamp")
        )),
        why => reason(format!("spec.volumeName is {name}, which does not fit: {}", words::list(&why, 4))),
    }
}

fn classes(case: &Case<'_>) -> Vec<String> {
    let default =
        |class: &Value| dig::at(class, "metadata.annotations").get(DEFAULT).is_some_and(|v| v == "true");
    let told =
        |class: &Value| format!("{}{}", facts::name(class), if default(class) { " (default)" } else { "" });
    case.facts.all("StorageClass").map(told).collect()
}

fn missing_class(case: &Case<'_>, name: &str) -> Vec<Reason> {
    let classes = classes(case);
    let known = if classes.is_empty() {
        "the cluster has none".to_string()
    } else {
        format!("there are {}", words::list(&classes, 5))
    };
    let reason = Reason::new("class-missing", format!("there is no StorageClass named {name}; {known}"))
        .seen("PersistentVolumeClaim", case.name(), "spec.storageClassName", name)
        .help(format!("make the claim anew with a class that exists, or create StorageClass {name}"));
    let fitting = volumes(case, String::new());
    std::iter::once(reason).chain(fitting.into_iter().filter(|r| r.rule == "volume-mismatch")).collect()
}

fn no_class(case: &Case<'_>) -> Vec<Reason> {
    let lead =
        "it names no StorageClass and the cluster has no default one, so nothing makes a volume for it"
            .to_string();
    let help = match classes(case).first() {
        Some(class) => format!(
            "make the claim anew with storageClassName {class}, or mark a default: `coxctl annotate storageclass {class} {DEFAULT}=true`"
        ),
        None => "create a StorageClass with a provisioner, or a PersistentVolume by hand that fits".into(),
    };
    let mut reasons = volumes(case, lead);
    if let Some(first) = reasons.first_mut() {
        first.rule = "no-class";
        first.helps = vec![help];
    }
    reasons
}

/// No volume that is there fits: why not, volume by volume.
fn volumes(case: &Case<'_>, lead: String) -> Vec<Reason> {
    let all: Vec<&Value> = case.facts.all("PersistentVolume").collect();
    let size = bare("storage", &dig::quantity(dig::at(case.object, "spec.resources.requests.storage")));
    let mut judged: Vec<(&Value, Vec<String>)> =
        all.iter().map(|v| (*v, mismatches(case.object, v))).collect();
    judged.sort_by_key(|(_, why)| why.len());
    let count = match all.len() {
        0 => "there are no PersistentVolumes".to_string(),
        n if judged.first().is_some_and(|(_, why)| why.is_empty()) => {
            format!("a PersistentVolume of {n} fits, and the volume binder has not bound it yet")
        }
        1 => "the one PersistentVolume does not fit".to_string(),
        n => format!("none of {n} PersistentVolumes fits"),
    };
    let lead = if lead.is_empty() { count } else { format!("{lead}; {count}") };
    let first = Reason::new("no-volume", lead)
        .seen("PersistentVolumeClaim", case.name(), "spec.resources.requests.storage", &size)
        .help(format!("create a PersistentVolume of at least {size} that fits"));
    let each = judged.iter().filter(|(_, why)| !why.is_empty()).take(EACH).map(|(volume, why)| {
        let name = facts::name(volume);
        Reason::new("volume-mismatch", format!("volume {name} {}", words::list(why, 4))).seen(
            "PersistentVolume",
            name,
            "status.phase",
            dig::text(volume, "status.phase"),
        )
    });
    std::iter::once(first).chain(each).collect()
}

/// What about a volume does not fit a claim; nothing where it could be bound.
pub fn mismatches(claim: &Value, volume: &Value) -> Vec<String> {
    let mut why = Vec::new();
    let (reference, phase) = (dig::at(volume, "spec.claimRef"), dig::text(volume, "status.phase"));
    let ours = dig::text(reference, "name") == facts::name(claim)
        && dig::text(reference, "namespace") == facts::namespace(claim);
    if !reference.is_null() && !ours {
        why.push(format!(
            "belongs to claim {}/{}",
            dig::text(reference, "namespace"),
            dig::text(reference, "name")
        ));
    } else if matches!(phase, "Released" | "Failed") {
        why.push(format!("is {phase}: its former claim is gone and its data is kept"));
    }
    let (has, wants) = (
        dig::quantity(dig::at(volume, "spec.capacity.storage")),
        dig::quantity(dig::at(claim, "spec.resources.requests.storage")),
    );
    if has < wants {
        why.push(format!("has {} of {} asked", bare("storage", &has), bare("storage", &wants)));
    }
    let (class, wanted) =
        (dig::text(volume, "spec.storageClassName"), dig::text(claim, "spec.storageClassName"));
    if class != wanted {
        why.push(format!("is of class {class:?}, not {wanted:?}"));
    }
    let modes = dig::texts(volume, "spec.accessModes");
    let lacking: Vec<&str> =
        dig::texts(claim, "spec.accessModes").into_iter().filter(|mode| !modes.contains(mode)).collect();
    if !lacking.is_empty() {
        why.push(format!("does not allow {}", lacking.join(", ")));
    }
    let mode = |object: &Value| match dig::text(object, "spec.volumeMode") {
        "" => "Filesystem".to_string(),
        mode => mode.to_string(),
    };
    if mode(volume) != mode(claim) {
        why.push(format!("is of volumeMode {}, not {}", mode(volume), mode(claim)));
    }
    let selector = dig::at(claim, "spec.selector");
    if !selector.is_null() && !selects(selector, volume) {
        why.push(format!("is not selected by {}", written(selector)));
    }
    why
}

/// A class that waits for a pod.
fn first_consumer(case: &Case<'_>, class: &Value) -> Finding {
    let uses = |pod: &&Value| {
        dig::items(pod, "spec.volumes").iter().any(|v| {
            dig::text(v, "persistentVolumeClaim.claimName") == case.name()
                || dig::has(v, "ephemeral")
                    && format!("{}-{}", facts::name(pod), dig::text(v, "name")) == case.name()
        })
    };
    let name = facts::name(class);
    let lead = format!(
        "its class {name} binds only when a pod that uses the claim is scheduled (volumeBindingMode WaitForFirstConsumer)"
    );
    let reason = |text| {
        Reason::new("first-consumer", text).seen(
            "StorageClass",
            name,
            "volumeBindingMode",
            "WaitForFirstConsumer",
        )
    };
    if selected_node(case.object).is_some() {
        return Finding::bad("is Pending", provisioning(case, class));
    }
    let pods: Vec<&Value> = case.facts.within("Pod", case.namespace()).filter(uses).collect();
    let Some(pod) = pods.first() else {
        return Finding::waiting(
            "is Pending, as is right",
            vec![reason(format!("{lead}, and no pod uses it")).help("start a pod that mounts it")],
        );
    };
    let cause = pod::explain(&case.about(pod));
    let name = facts::name(pod);
    let text = format!("{lead}; pod {name} uses it and {}", cause.verdict);
    Finding::bad("is Pending", vec![reason(text)]).and(cause.reasons)
}

/// A class with a provisioner that should have made a volume.
fn provisioning(case: &Case<'_>, class: &Value) -> Vec<Reason> {
    let (name, who) = (facts::name(class), dig::text(class, "provisioner"));
    let seen = |text| Reason::new("provisioner", text).seen("StorageClass", name, "provisioner", who);
    if who == "kubernetes.io/no-provisioner" {
        return volumes(case, format!("its class {name} makes no volumes by itself"));
    }
    if let Some(event) = case.event(&["ProvisioningFailed"]) {
        let text = format!(
            "{who} failed to make a volume {} ago: {}",
            case.ago(event_time(event)),
            words::message(dig::text(event, "message"))
        );
        return vec![seen(text).help(format!("see the log of the provisioner {who}"))];
    }
    let since = case.since("metadata.creationTimestamp");
    let text = match case.event(&["Provisioning"]) {
        Some(event) => {
            format!("{who} has begun to make a volume {} ago and is not done", case.ago(event_time(event)))
        }
        None => format!("its class {name} is served by {who}, which has not answered for {since}"),
    };
    vec![seen(text).help(format!("see that the provisioner {who} runs"))]
}
