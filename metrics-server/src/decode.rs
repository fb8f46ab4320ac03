//! What a kubelet says, read from Prometheus' text form: only the families that are needed, each line once.

use ahash::AHashMap;

/// A reading of something that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Start of the container, Unix nanoseconds; 0 when unknown.
    pub start: i64,
    /// When it was read, Unix nanoseconds.
    pub time: i64,
    /// Nanoseconds of core time since the start.
    pub cpu: u64,
    /// Working set, bytes.
    pub memory: u64,
}

/// `namespace/name` of a pod.
pub type PodKey = std::sync::Arc<str>;

/// All of one node.
#[derive(Debug, Default, PartialEq)]
pub struct Reading {
    /// The node itself; none when it is incomplete.
    pub node: Option<Point>,
    /// Containers by pod; pods of which a container is incomplete are left out.
    pub pods: AHashMap<PodKey, Vec<(Box<str>, Point)>>,
}

/// Reads a whole answer. `now` stands for the time of samples without one (Unix nanoseconds).
pub fn decode(text: &str, now: i64) -> Reading {
    let mut reading = Reading::default();
    let mut node = Point::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(sample) = Sample::parse(line) else { continue };
        match sample.name.split_once('_') {
            Some(("node", what)) => set(&mut node, what, &sample, now),
            Some(("container", what)) => {
                if let Some(point) = container(&mut reading, &sample) {
                    set(point, what, &sample, now);
                }
            }
            _ => {}
        }
    }
    reading.node = Some(node).filter(complete);
    reading.pods.retain(|_, containers| {
        containers.retain(|(_, point)| point.time != 0);
        !containers.is_empty() && containers.iter().all(|(_, point)| complete(point))
    });
    reading
}

/// What uses nothing at all is not running yet, or no more.
fn complete(point: &Point) -> bool {
    point.time != 0 && point.cpu != 0 && point.memory != 0
}

fn set(point: &mut Point, what: &str, sample: &Sample<'_>, now: i64) {
    let time = sample.time.map_or(now, |milliseconds| milliseconds.saturating_mul(1_000_000));
    match what {
        "cpu_usage_seconds_total" => {
            point.cpu = (sample.value * 1e9) as u64;
            // The rate is the processor's, and so is the time it is taken over
            point.time = time;
        }
        "memory_working_set_bytes" => {
            point.memory = sample.value as u64;
            if point.time == 0 {
                point.time = time;
            }
        }
        "start_time_seconds" => point.start = (sample.value * 1e9) as i64,
        _ => {}
    }
}

fn container<'a>(reading: &'a mut Reading, sample: &Sample<'_>) -> Option<&'a mut Point> {
    let (mut name, mut pod, mut namespace) = (None, None, None);
    for (label, value) in sample.labels() {
        match label {
            "container" => name = Some(value),
            "pod" => pod = Some(value),
            "namespace" => namespace = Some(value),
            _ => {}
        }
    }
    let (name, key) = (name?, format!("{}/{}", namespace?, pod?));
    let containers = reading.pods.entry(key.into()).or_default();
    let at = containers.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
        containers.push((name, Point::default()));
        containers.len() - 1
    });
    containers.get_mut(at).map(|(_, point)| point)
}

/// `name{labels} value milliseconds`, the last optional.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
    time: Option<i64>,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim();
        let (name, labels, rest) = match line.find(['{', ' ']) {
            Some(at) if line.as_bytes().get(at) == Some(&b'{') => {
                let inner = line.get(at + 1..)?;
                let end = end_of_labels(inner)?;
                (line.get(..at)?, inner.get(..end)?, inner.get(end + 1..)?)
            }
            Some(at) => (line.get(..at)?, "", line.get(at..)?),
            None => return None,
        };
        let mut words = rest.split_whitespace();
        let value: f64 = words.next()?.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0)?;
        Some(Self { name, labels, value, time: words.next().and_then(|text| text.parse().ok()) })
    }

    fn labels(&self) -> impl Iterator<Item = (&'a str, Box<str>)> {
        let mut rest = self.labels;
        std::iter::from_fn(move || {
            let (name, after) = rest.split_once("=\"")?;
            let end = end_of_value(after)?;
            let value = unescaped(after.get(..end)?);
            rest = after.get(end + 1..)?;
            Some((name.trim_matches([',', ' ']), value))
        })
    }
}

/// Where the brace that closes the labels is; one in a value does not.
fn end_of_labels(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        let next = rest.find(['"', '}'])?;
        if rest.as_bytes().get(next) == Some(&b'}') {
            return Some(at + next);
        }
        let begin = at + next + 1;
        at = begin + end_of_value(text.get(begin..)?)? + 1;
    }
}

/// Where the quote that closes a value is.
fn end_of_value(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

fn unescaped(text: &str) -> Box<str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            (letter, false) => out.push(letter),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="web",namespace="default",pod="a"} 4.710169 1633253812125
container_cpu_usage_seconds_total{container="side",namespace="default",pod="a"} 0.5 1633253812126
container_cpu_usage_seconds_total{container="idle",namespace="default",pod="b"} 0 1633253812126
container_memory_working_set_bytes{container="web",namespace="default",pod="a"} 1.253376e+06 1633253812125
container_memory_working_set_bytes{container="side",namespace="default",pod="a"} 4096 1633253812126
container_memory_working_set_bytes{container="idle",namespace="default",pod="b"} 4096 1633253812126
container_start_time_seconds{container="web",namespace="default",pod="a"} 1.633253500e+09
container_start_time_seconds{container="gone",namespace="default",pod="a"} 1.633253500e+09
node_cpu_usage_seconds_total 357.35491 1633253809720
node_memory_working_set_bytes 1.616273408e+09 1633253809720
pod_cpu_usage_seconds_total{namespace="default",pod="a"} 5.2 1633253812125
scrape_error 0
"#;

    #[test]
    fn a_kubelets_answer() {
        let reading = decode(TEXT, 1);
        let node = reading.node.unwrap();
        assert_eq!(
            (node.cpu, node.memory, node.time),
            (357_354_910_000, 1_616_273_408, 1_633_253_809_720_000_000)
        );
        assert_eq!(
            reading.pods.len(),
            1,
            "a pod with a container that uses nothing is incomplete: {reading:?}"
        );
        let containers = &reading.pods["default/a"];
        assert_eq!(containers.len(), 2, "one of which only the start is known is none");
        let (name, web) = &containers[0];
        assert_eq!((&**name, web.cpu, web.memory), ("web", 4_710_169_000, 1_253_376));
        assert_eq!((web.start, web.time), (1_633_253_500_000_000_000, 1_633_253_812_125_000_000));
    }

    #[test]
    fn labels_with_anything_in_them() {
        let line =
            r#"container_cpu_usage_seconds_total{container="a}\"b\\",x="", namespace="n",pod="p"} 1 2000"#;
        let sample = Sample::parse(line).unwrap();
        let labels: Vec<(&str, String)> = sample.labels().map(|(k, v)| (k, v.into())).collect();
        let want = [("container", "a}\"b\\"), ("x", ""), ("namespace", "n"), ("pod", "p")];
        assert_eq!(labels, want.map(|(k, v)| (k, v.to_string())));
        assert_eq!((sample.value, sample.time), (1.0, Some(2000)));
    }

    #[test]
    fn rubbish_is_passed_over() {
        for line in ["", "x", "x{", "x{a=\"b", "x{a=\"b\"}", "x NaN", "x -1", "x +Inf 3", "{} 1", "é{ü=\"\\"]
        {
            assert!(Sample::parse(line).is_none_or(|sample| sample.labels().count() == 0), "{line}");
        }
        assert_eq!(
            decode("container_cpu_usage_seconds_total{pod=\"x\"} 3\nnode_cpu_usage_seconds_total 1", 5).node,
            None
        );
    }
}
