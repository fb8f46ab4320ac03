//! One table or case for each rule.

mod behaviour;
mod decisions;
mod replicas;

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;

use super::Settings;
use super::plan::Target;
use super::replicas::{Sample, Samples};
use crate::testing::{pod, time};

pub fn settings() -> Settings {
    Settings {
        period: Duration::from_secs(15),
        tolerance: 0.1,
        downscale: Duration::from_secs(300),
        cpu_initialization: SignedDuration::from_mins(5),
        initial_readiness: SignedDuration::from_secs(30),
    }
}

pub fn scaler(spec: &str) -> HorizontalPodAutoscaler {
    let text = format!(
        "{{metadata: {{name: h, namespace: ns}}, spec: {{scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: d}}, {spec}}}}}"
    );
    serde_yaml::from_str(&text).expect("an autoscaler")
}

pub fn target(spec: i32) -> Target {
    Target { spec, status: spec, selector: "app=d".into() }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `name phase ...` as [`pod`] reads it, with `start=T`, `unready=T`, `req=Q` per container (`-` for one without),
/// `use=Q`, `at=T` of the sample. A pod that is ready began long ago.
fn scene_of(lines: &str) -> (Vec<Pod>, Samples) {
    let (mut pods, mut samples) = (Vec::new(), Samples::new());
    for line in lines.split(';').map(str::trim).filter(|l| !l.is_empty()) {
        let own = ["start=", "unready=", "req=", "use=", "at="];
        let (mine, rest): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|w| own.iter().any(|o| w.starts_with(o)));
        let value = |key: &str| mine.iter().find_map(|w| w.strip_prefix(key));
        let mut pod = pod(&rest.join(" "));
        let requests = value("req=").unwrap_or("100m").split(',').enumerate().map(|(i, q)| {
            let name = if i == 0 { "app".to_string() } else { format!("side{i}") };
            let requests = if q == "-" { "{}".into() } else { format!("{{cpu: {q}}}") };
            serde_yaml::from_str(&format!("{{name: {name}, resources: {{requests: {requests}}}}}")).unwrap()
        });
        pod.spec.as_mut().unwrap().containers = requests.collect();
        let status = pod.status.as_mut().unwrap();
        status.start_time = match value("start=").unwrap_or("2026-01-01T09:00:00Z") {
            "-" => None,
            at => Some(time(at)),
        };
        if let Some(at) = value("unready=") {
            status.conditions.as_mut().unwrap()[0].last_transition_time = Some(time(at));
        }
        if let Some(used) = value("use=") {
            let value = machinery::quantity::Quantity::parse(used).unwrap().milli_value();
            let at = time(value_or(&mine, "at=", "2026-01-01T09:59:50Z")).0;
            let sample = Sample { value, at, window: SignedDuration::from_secs(30) };
            samples.insert(pod.metadata.name.clone().unwrap(), sample);
        }
        pods.push(pod);
    }
    (pods, samples)
}

fn value_or<'a>(words: &[&'a str], key: &str, default: &'a str) -> &'a str {
    words.iter().find_map(|w| w.strip_prefix(key)).unwrap_or(default)
}
