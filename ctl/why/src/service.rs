//! Services: where their traffic goes, and why nowhere.

use std::collections::BTreeSet;

use coxctl_kit::dig;
use machinery::selector::LabelSelector;
use serde_json::{Map, Value};

use crate::case::{self, Case, event_time};
use crate::facts;
use crate::finding::{Finding, Reason};
use crate::workload::troubles;
use crate::{leaving, words};

const NAME: &str = "kubernetes.io/service-name";

pub fn explain(case: &Case<'_>) -> Finding {
    if let Some(finding) = leaving::explain(case) {
        return finding;
    }
    if case.text("spec.type") == "ExternalName" {
        return Finding::well(format!(
            "is an alias of {}: it has no endpoints of its own",
            case.text("spec.externalName")
        ));
    }
    let (ready, unready) = endpoints(case);
    let balancer = balancer(case);
    if !ready.is_empty() {
        let n = i64::try_from(ready.len()).unwrap_or_default();
        let addresses: Vec<&str> = ready.iter().map(String::as_str).collect();
        let rest = if unready.is_empty() { String::new() } else { format!(", {} not ready", unready.len()) };
        let figures = format!("{} ready ({}){rest}", words::count(n, "endpoint"), words::list(&addresses, 4));
        return match balancer {
            Some(reason) => Finding::bad(
                format!("has no address of a load balancer; inside the cluster it has {figures}"),
                vec![reason],
            ),
            None => Finding::well(format!("is well: {figures}{}", outside(case)))
                .and(ports(case, &selected(case))),
        };
    }
    let reasons: Vec<Reason> = causes(case).into_iter().chain(balancer).collect();
    Finding::bad("has no ready endpoints, so nobody answers", reasons)
}

fn outside(case: &Case<'_>) -> String {
    let entries = case.items("status.loadBalancer.ingress").iter();
    let addresses: Vec<&str> = entries
        .map(|i| if dig::has(i, "ip") { dig::text(i, "ip") } else { dig::text(i, "hostname") })
        .collect();
    if addresses.is_empty() {
        String::new()
    } else {
        format!(", reached from outside at {}", addresses.join(", "))
    }
}

/// The addresses of its slices: ready ones, and the others.
fn endpoints(case: &Case<'_>) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut ready, mut unready) = (BTreeSet::new(), BTreeSet::new());
    let own = |slice: &&Value| {
        dig::at(slice, "metadata.labels").get(NAME).and_then(Value::as_str) == Some(case.name())
    };
    for slice in case.facts.within("EndpointSlice", case.namespace()).filter(own) {
        // A port the pods do not name leaves a slice without ports, to which nothing can be sent.
        let portless = dig::items(slice, "ports").is_empty() && !case.items("spec.ports").is_empty();
        for endpoint in dig::items(slice, "endpoints") {
            let good = dig::at(endpoint, "conditions.ready").as_bool().unwrap_or(true) && !portless;
            let list = if good { &mut ready } else { &mut unready };
            list.extend(dig::texts(endpoint, "addresses").into_iter().map(str::to_string));
        }
    }
    (ready, unready)
}

fn selector(case: &Case<'_>) -> Option<Map<String, Value>> {
    dig::at(case.object, "spec.selector").as_object().filter(|map| !map.is_empty()).cloned()
}

fn selected<'a>(case: &Case<'a>) -> Vec<&'a Value> {
    let Some(map) = selector(case) else { return Vec::new() };
    let selector = LabelSelector::from_map(&map);
    let labels = |pod: &Value| dig::at(pod, "metadata.labels").as_object().cloned().unwrap_or_default();
    case.facts
        .within("Pod", case.namespace())
        .filter(|pod| {
            selector.matches(&labels(pod))
                && !matches!(dig::text(pod, "status.phase"), "Succeeded" | "Failed")
        })
        .collect()
}

fn causes(case: &Case<'_>) -> Vec<Reason> {
    let Some(map) = selector(case) else {
        return vec![
            Reason::new("no-selector", "it has no spec.selector, so somebody else must make its EndpointSlices, and there are none with a ready address")
                .seen("Service", case.name(), "spec.selector", "")
                .help("set spec.selector to the labels of its pods"),
        ];
    };
    let pods = selected(case);
    if pods.is_empty() {
        return vec![nothing(case, &map)];
    }
    let wrong: Vec<Reason> = ports(case, &pods).into_iter().collect();
    let n = i64::try_from(pods.len()).unwrap_or_default();
    let ready = pods.iter().filter(|pod| case::is(pod, "Ready", "True")).count();
    if ready > 0 && wrong.is_empty() {
        let text = format!(
            "{ready} of {} it selects {} ready, and no EndpointSlice says so yet",
            words::count(n, "pod"),
            words::is(i64::try_from(ready).unwrap_or_default())
        );
        return vec![Reason::new("slices", text).help("see whether kube-controller-manager runs")];
    }
    if ready > 0 {
        return wrong;
    }
    let text = match n {
        1 => format!(
            "the one pod it selects ({}) is not ready",
            facts::name(pods.first().copied().unwrap_or(&Value::Null))
        ),
        n => format!("it selects {n} pods ({}), and none of them is ready", written(&map)),
    };
    let first =
        Reason::new("pods-not-ready", text).seen("Service", case.name(), "spec.selector", written(&map));
    std::iter::once(first).chain(troubles(case, &pods)).chain(wrong).collect()
}

fn written(map: &Map<String, Value>) -> String {
    map.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
}

/// The selector matches no pod: which pods come near, and by which label they differ.
fn nothing(case: &Case<'_>, map: &Map<String, Value>) -> Reason {
    let differs = |pod: &Value| -> Vec<String> {
        let labels = dig::at(pod, "metadata.labels");
        map.iter()
            .filter(|(key, value)| labels.get(key.as_str()) != Some(value))
            .map(|(key, _)| {
                labels
                    .get(key.as_str())
                    .map_or(format!("no {key}"), |v| format!("{key}={}", v.as_str().unwrap_or_default()))
            })
            .collect()
    };
    let has_key =
        |pod: &&Value| map.keys().any(|key| dig::at(pod, "metadata.labels").get(key.as_str()).is_some());
    let text = format!("its selector {} matches no pod in {}", written(map), case.namespace());
    let reason = Reason::new("selector", text).seen("Service", case.name(), "spec.selector", written(map));
    let near =
        case.facts.within("Pod", case.namespace()).filter(has_key).min_by_key(|pod| differs(pod).len());
    match near {
        Some(pod) => {
            let own = differs(pod).join(", ");
            let mut reason = reason.help(format!(
                "correct spec.selector, or the pods' labels: pod {} has {own}",
                facts::name(pod)
            ));
            reason.evidence.push(crate::finding::evidence("Pod", facts::name(pod), "metadata.labels", own));
            reason
        }
        None => reason.help(format!("start pods with the labels {}", written(map))),
    }
}

/// Target ports by a name that no container of the pods has.
fn ports(case: &Case<'_>, pods: &[&Value]) -> Option<Reason> {
    let names = |pod: &Value| -> Vec<String> {
        let containers =
            dig::items(pod, "spec.containers").iter().chain(dig::items(pod, "spec.initContainers"));
        containers
            .flat_map(|c| dig::items(c, "ports"))
            .map(|p| dig::text(p, "name").to_string())
            .filter(|n| !n.is_empty())
            .collect()
    };
    let known: BTreeSet<String> = pods.iter().flat_map(|pod| names(pod)).collect();
    let wanted = case.items("spec.ports").iter().map(|port| dig::text(port, "targetPort"));
    let missing = wanted.filter(|name| !name.is_empty()).find(|name| !known.contains(*name))?;
    if pods.is_empty() {
        return None;
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let has = if known.is_empty() {
        "its pods name no ports".to_string()
    } else {
        format!("its pods name {}", words::list(&known, 5))
    };
    Some(
        Reason::new(
            "target-port",
            format!(
                "its targetPort is {missing:?} and no container of its pods has a port of that name; {has}"
            ),
        )
        .seen("Service", case.name(), "spec.ports.targetPort", missing)
        .help("name the container's port so, or use its number as targetPort"),
    )
}

/// A load balancer that has no address yet.
fn balancer(case: &Case<'_>) -> Option<Reason> {
    if case.text("spec.type") != "LoadBalancer" || !case.items("status.loadBalancer.ingress").is_empty() {
        return None;
    }
    let class = case.text("spec.loadBalancerClass");
    let whose = if class.is_empty() {
        "the cloud provider".to_string()
    } else {
        format!("the provider of loadBalancerClass {class}")
    };
    let text = match case.event(&[
        "SyncLoadBalancerFailed",
        "CreatingLoadBalancerFailed",
        "EnsuringLoadBalancerFailed",
        "AllocationFailed",
    ]) {
        Some(event) => format!(
            "{whose} could not make its load balancer {} ago: {}",
            case.ago(event_time(event)),
            words::message(dig::text(event, "message"))
        ),
        None => format!("{whose} has given it no address for {}", case.since("metadata.creationTimestamp")),
    };
    Some(
        Reason::new("load-balancer", text)
            .seen("Service", case.name(), "status.loadBalancer.ingress", "")
            .help("see that a cloud-controller-manager runs and has addresses left, or use type NodePort"),
    )
}
