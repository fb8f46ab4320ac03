//! Nodes: not ready, under pressure, cordoned.

use coxctl_kit::dig;
use machinery::quantity::{Format, Quantity};
use serde_json::Value;

use crate::amount::{self, bare};
use crate::case::{self, Case};
use crate::finding::{Finding, Reason};
use crate::fit::{holds_room, taint_written};
use crate::{leaving, words};

const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "it is short of memory: the kubelet evicts pods that use more than they asked for"),
    ("DiskPressure", "it is short of disk: the kubelet removes images and evicts pods"),
    ("PIDPressure", "it is short of process numbers: the kubelet evicts pods"),
    ("NetworkUnavailable", "its network is not set up, so no pods come"),
];

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    let ready = case.condition("Ready");
    let is_ready = ready.is_some_and(|c| dig::text(c, "status") == "True");
    let mut reasons: Vec<Reason> = Vec::new();
    if !is_ready {
        reasons.push(not_ready(case, ready));
    }
    reasons.extend(pressures(case));
    let bad = !reasons.is_empty();
    reasons.extend(cordoned(case));
    reasons.extend(taints(case));
    let since = ready.map(|c| case.ago(dig::moment(c, "lastTransitionTime"))).unwrap_or_default();
    match (is_ready, bad) {
        (false, _) => Finding::bad(format!("is not Ready since {since}"), reasons),
        (true, true) => Finding::bad("is Ready, but in trouble", reasons),
        (true, false) if dig::flag(case.object, "spec.unschedulable") => {
            Finding::bad("is Ready and cordoned", reasons)
        }
        (true, false) => Finding::well(format!("is Ready since {since}: {}", figures(case))).and(reasons),
    }
}

fn not_ready(case: &Case<'_>, ready: Option<&Value>) -> Reason {
    let name = case.name();
    let Some(ready) = ready else {
        return Reason::new("node-not-ready", "its kubelet has never said how it is")
            .help(format!("start the kubelet on {name}"));
    };
    let (status, message) = (dig::text(ready, "status"), words::message(dig::text(ready, "message")));
    let lease = case
        .facts
        .find("Lease", "kube-node-lease", name)
        .and_then(|lease| dig::moment(lease, "spec.renewTime"));
    let seen = |rule, text: String| {
        Reason::new(rule, text).seen("Node", name, "status.conditions.Ready.status", status)
    };
    if status == "Unknown" {
        let last = lease.or_else(|| dig::moment(ready, "lastHeartbeatTime"));
        let text = format!(
            "its kubelet has not been heard of for {}: the machine is off or cut off, or the kubelet has stopped",
            case.ago(last)
        );
        return seen("kubelet-silent", text)
            .help(format!("see the machine and `systemctl status kubelet` on {name}"));
    }
    let help = match () {
        () if message.contains("cni")
            || message.contains("network plugin")
            || message.contains("NetworkPluginNotReady")
            || message.contains("NetworkReady") =>
        {
            format!("see the network daemon on {name}; it writes /etc/cni/net.d")
        }
        () if message.contains("container runtime") => format!("see `systemctl status containerd` on {name}"),
        () => format!("see the kubelet's log on {name}"),
    };
    seen("node-not-ready", format!("its kubelet says: {message}")).help(help)
}

fn pressures(case: &Case<'_>) -> Vec<Reason> {
    let on = PRESSURES.iter().filter(|(kind, _)| case::is(case.object, kind, "True"));
    on.map(|(kind, text)| {
        let since =
            case.condition(kind).map(|c| case.ago(dig::moment(c, "lastTransitionTime"))).unwrap_or_default();
        Reason::new("pressure", format!("{kind} since {since}: {text}")).seen(
            "Node",
            case.name(),
            "status.conditions",
            format!("{kind}=True"),
        )
    })
    .collect()
}

fn cordoned(case: &Case<'_>) -> Option<Reason> {
    dig::flag(case.object, "spec.unschedulable").then(|| {
        let n = i64::try_from(pods(case).len()).unwrap_or_default();
        let text = format!(
            "spec.unschedulable is true: no new pods come, {} {}",
            words::count(n, "pod"),
            if n == 1 { "stays" } else { "stay" }
        );
        Reason::new("cordoned", text)
            .seen("Node", case.name(), "spec.unschedulable", true)
            .help(format!("`coxctl uncordon {}`", case.name()))
    })
}

fn taints(case: &Case<'_>) -> Option<Reason> {
    let own = |taint: &&Value| !dig::text(taint, "key").starts_with("node.kubernetes.io/");
    let taints: Vec<String> = case.items("spec.taints").iter().filter(own).map(taint_written).collect();
    (!taints.is_empty()).then(|| {
        Reason::new("taints", format!("it takes only pods that tolerate {}", words::list(&taints, 4))).seen(
            "Node",
            case.name(),
            "spec.taints",
            taints.join(","),
        )
    })
}

fn pods<'a>(case: &Case<'a>) -> Vec<&'a Value> {
    case.facts
        .all("Pod")
        .filter(|pod| holds_room(pod) && dig::text(pod, "spec.nodeName") == case.name())
        .collect()
}

/// `12 of 110 pods, 0.8 of 4 CPU and 1Gi of 8Gi memory asked for`.
fn figures(case: &Case<'_>) -> String {
    let pods = pods(case);
    let all = amount::read(dig::at(case.object, "status.allocatable"));
    let mut asked = amount::Amounts::new();
    for pod in &pods {
        amount::add(&mut asked, &amount::requests(pod));
    }
    let zero = Quantity::zero(Format::DecimalSi);
    let of = |resource: &str| {
        let amount = |map: &amount::Amounts| bare(resource, map.get(resource).unwrap_or(&zero));
        format!("{} of {} {}", amount(&asked), amount(&all), amount::title(resource))
    };
    let most = all.get("pods").map(|most| most.value().to_string()).unwrap_or_default();
    format!("{} of {most} pods, {} and {} asked for", pods.len(), of("cpu"), of("memory"))
}
