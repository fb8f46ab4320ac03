//! /metrics and its siblings, in the Prometheus text format.

use super::Server;
use super::stats::sample::{ContainerUse, Cpu, Memory, Sample};
use crate::context::Context;
use daemon::serving::{Body, text};
use http::{HeaderValue, Response, StatusCode, header};
use std::fmt::Write;

/// The exposition format we write.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

fn exposition(body: String) -> Response<Body> {
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    response
}

/// The kubelet's own metrics.
pub fn own(ctx: &Context) -> Response<Body> {
    let mut out = Exposition::default();
    out.family("kubelet_started_pods_total", "counter", "Cumulative number of pods started");
    out.sample("kubelet_started_pods_total", &[], ctx.metrics.started_pods.get() as f64, None);
    exposition(out.text)
}

/// Results of probes.
pub fn probes(_ctx: &Context) -> Response<Body> {
    exposition(String::new())
}

/// Health as metrics.
pub fn slis(ctx: &Context) -> Response<Body> {
    let ok = super::health::answer(ctx, None, &[]).status() == StatusCode::OK;
    let mut out = Exposition::default();
    out.family("kubernetes_healthcheck", "gauge", "This metric records the result of a single healthcheck.");
    let value = if ok { 1.0 } else { 0.0 };
    out.sample("kubernetes_healthcheck", &[("name", "syncloop"), ("type", "healthz")], value, None);
    exposition(out.text)
}

/// CPU and memory of node, pods and containers: what metrics-server reads.
pub async fn resource(server: &Server) -> Response<Body> {
    match server.stats.sample(&server.ctx).await {
        Ok(sample) => exposition(render_resource(&sample)),
        Err(error) => {
            tracing::warn!(%error, "resource metrics");
            let mut out = Exposition::default();
            scrape_error(&mut out, 1.0);
            exposition(out.text)
        }
    }
}

/// The families of cAdvisor that dashboards and autoscalers use most.
pub async fn cadvisor(server: &Server) -> Response<Body> {
    match server.stats.sample(&server.ctx).await {
        Ok(sample) => exposition(render_cadvisor(&sample)),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn scrape_error(out: &mut Exposition, value: f64) {
    for name in ["resource_scrape_error", "scrape_error"] {
        out.family(name, "gauge", "1 if there was an error while getting container metrics, 0 otherwise");
        out.sample(name, &[], value, None);
    }
}

/// (family suffix, type, help)
type Family = (&'static str, &'static str, &'static str);
const CPU: Family = ("cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in core-seconds");
const MEMORY: Family = ("memory_working_set_bytes", "gauge", "Current working set in bytes");

fn render_resource(sample: &Sample) -> String {
    let mut out = Exposition::default();
    let containers = || {
        sample.pods.iter().flat_map(|p| {
            p.containers.iter().map(move |c| (vec![&*c.name, &*p.namespace, &*p.name], c.cpu, c.memory))
        })
    };
    let pods = || sample.pods.iter().map(|p| (vec![&*p.namespace, &*p.name], p.cpu, p.memory));
    let node = || std::iter::once((vec![], Some(sample.node.cpu), Some(sample.node.memory)));
    usage(&mut out, "container", &["container", "namespace", "pod"], containers);
    start_times(&mut out, sample);
    usage(&mut out, "node", &[], node);
    usage(&mut out, "pod", &["namespace", "pod"], pods);
    scrape_error(&mut out, 0.0);
    out.text
}

fn usage<'a, I>(out: &mut Exposition, what: &str, labels: &[&str], all: impl Fn() -> I)
where
    I: Iterator<Item = (Vec<&'a str>, Option<Cpu>, Option<Memory>)>,
{
    let named = |values: &[&'a str]| labels.iter().copied().zip(values.iter().copied()).collect::<Vec<_>>();
    let name = format!("{what}_{}", CPU.0);
    out.family(&name, CPU.1, CPU.2);
    for (values, cpu) in all().filter_map(|(v, cpu, _)| Some((v, cpu?))) {
        out.sample(&name, &named(&values), cpu.total as f64 / 1e9, Some(cpu.time / 1_000_000));
    }
    let name = format!("{what}_{}", MEMORY.0);
    out.family(&name, MEMORY.1, MEMORY.2);
    for (values, memory) in all().filter_map(|(v, _, memory)| Some((v, memory?))) {
        out.sample(&name, &named(&values), memory.working_set as f64, Some(memory.time / 1_000_000));
    }
}

fn start_times(out: &mut Exposition, sample: &Sample) {
    let name = "container_start_time_seconds";
    out.family(name, "gauge", "Start time of the container since unix epoch in seconds");
    for pod in &sample.pods {
        for c in &pod.containers {
            let labels = [("container", &*c.name), ("namespace", &*pod.namespace), ("pod", &*pod.name)];
            out.sample(name, &labels, c.started as f64 / 1e9, None);
        }
    }
}

/// Name, type, help and value of one cAdvisor family.
type Cadvisor = (&'static str, &'static str, &'static str, fn(&ContainerUse) -> Option<f64>);

const CADVISOR: &[Cadvisor] = &[
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", |c| {
        c.cpu.map(|c| c.total as f64 / 1e9)
    }),
    (
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        |c| Some(c.rootfs.0 as f64),
    ),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |c| c.memory.map(|m| m.rss as f64)),
    ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory.", |c| {
        c.memory.map(|m| m.usage as f64)
    }),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |c| {
        c.memory.map(|m| m.working_set as f64)
    }),
    (
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
        |c| Some((c.started / 1_000_000_000) as f64),
    ),
];

fn render_cadvisor(sample: &Sample) -> String {
    let mut out = Exposition::default();
    for (name, kind, help, value) in CADVISOR {
        out.family(name, kind, help);
        for pod in &sample.pods {
            for c in &pod.containers {
                let labels = [
                    ("container", &*c.name),
                    ("id", &*c.id),
                    ("image", &*c.image),
                    ("namespace", &*pod.namespace),
                    ("pod", &*pod.name),
                ];
                if let Some(value) = value(c) {
                    out.sample(name, &labels, value, Some(sample.time / 1_000_000));
                }
            }
        }
    }
    network(&mut out, sample);
    out.text
}

fn network(out: &mut Exposition, sample: &Sample) {
    let families: [(&str, fn(&super::stats::sample::Interface) -> u64); 2] = [
        ("container_network_receive_bytes_total", |i| i.rx),
        ("container_network_transmit_bytes_total", |i| i.tx),
    ];
    for (name, value) in families {
        out.family(name, "counter", "Cumulative count of bytes on the pod's interface.");
        for pod in &sample.pods {
            if let Some(main) = pod.network.first() {
                let labels =
                    [("interface", &*main.name), ("namespace", &*pod.namespace), ("pod", &*pod.name)];
                out.sample(name, &labels, value(main) as f64, Some(sample.time / 1_000_000));
            }
        }
    }
}

/// Text of the Prometheus format, written line by line.
#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// `time` in Unix milliseconds.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64, time: Option<i64>) {
        self.text.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let before = if i == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = write!(self.text, "{close} {value}");
        if let Some(time) = time {
            let _ = write!(self.text, " {time}");
        }
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::stats::sample::PodUse;
    use super::*;

    #[test]
    fn resource_metrics_read_as_upstreams() {
        let cpu = Some(Cpu { time: 5_000_000_000, total: 1_500_000_000, rate: None });
        let memory = Some(Memory { time: 5_000_000_000, working_set: 4096, ..Default::default() });
        let container =
            ContainerUse { name: "c".into(), started: 3_000_000_000, cpu, memory, ..Default::default() };
        let pod = PodUse {
            name: "p\"".into(),
            namespace: "ns".into(),
            cpu,
            memory,
            containers: vec![container],
            ..Default::default()
        };
        let text = render_resource(&Sample { pods: vec![pod], ..Default::default() });
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"ns\",pod=\"p\\\"\"} 1.5 5000",
            "container_start_time_seconds{container=\"c\",namespace=\"ns\",pod=\"p\\\"\"} 3",
            "pod_memory_working_set_bytes{namespace=\"ns\",pod=\"p\\\"\"} 4096 5000",
            "node_cpu_usage_seconds_total 0 0",
            "# TYPE pod_cpu_usage_seconds_total counter",
            "scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
