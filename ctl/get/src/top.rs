//! `top`: what nodes and pods use, from the Metrics API.

use clap::{Args, Subcommand};
use coxctl_kit::print::tab::TabWriter;
use coxctl_kit::{Call, Cluster, Error, Globals, Kind, Result, out};
use machinery::quantity::Quantity;
use serde_json::Value;

/// What `top` can show.
#[derive(Clone, Debug, Subcommand)]
pub enum TopCommand {
    /// Display resource (CPU/memory) usage of nodes
    #[command(visible_alias = "nodes", alias = "no")]
    Node(NodeArgs),
    /// Display resource (CPU/memory) usage of pods
    #[command(visible_alias = "pods", alias = "po")]
    Pod(PodArgs),
}

/// What both have.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    pub name: Option<String>,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// If non-empty, sort list using specified field: cpu or memory
    #[arg(long = "sort-by", default_value = "")]
    pub sort_by: String,
    /// If present, print output without headers
    #[arg(long = "no-headers")]
    pub no_headers: bool,
    /// Enables using protocol-buffers to access Metrics API; JSON is used either way
    #[arg(long = "use-protocol-buffers")]
    pub use_protocol_buffers: bool,
    /// Print what is used of swap memory too
    #[arg(long = "show-swap")]
    pub show_swap: bool,
}

#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    #[command(flatten)]
    pub top: TopArgs,
    /// Print node resources based on Capacity instead of Allocatable
    #[arg(long = "show-capacity")]
    pub show_capacity: bool,
}

#[derive(Args, Clone, Debug)]
pub struct PodArgs {
    #[command(flatten)]
    pub top: TopArgs,
    /// Selector (field query) to filter on
    #[arg(long = "field-selector")]
    pub field_selector: Option<String>,
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long = "all-namespaces")]
    pub all_namespaces: bool,
    /// If present, print usage of containers within a pod
    #[arg(long)]
    pub containers: bool,
    /// Print the sum of the resource usage
    #[arg(long)]
    pub sum: bool,
}

/// CPU in billionths, since sums are made before they are rounded; memory and swap in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    cpu: i128,
    memory: i64,
    swap: i64,
}

impl Usage {
    fn read(usage: &Value) -> Usage {
        let quantity = |key: &str| usage[key].as_str().and_then(|text| Quantity::parse(text).ok());
        Usage {
            cpu: quantity("cpu").map(|q| q.nanos()).unwrap_or_default(),
            memory: quantity("memory").map(|q| q.value()).unwrap_or_default(),
            swap: quantity("swap").map(|q| q.value()).unwrap_or_default(),
        }
    }

    fn plus(self, other: Usage) -> Usage {
        Usage { cpu: self.cpu + other.cpu, memory: self.memory + other.memory, swap: self.swap + other.swap }
    }

    /// Thousandths of a core, rounded up.
    fn milli(self) -> i64 {
        let up = self.cpu.div_euclid(1_000_000) + i128::from(self.cpu.rem_euclid(1_000_000) > 0);
        i64::try_from(up).unwrap_or(i64::MAX)
    }

    fn cells(self) -> [String; 3] {
        [format!("{}m", self.milli()), mebibytes(self.memory), mebibytes(self.swap)]
    }
}

fn mebibytes(bytes: i64) -> String {
    format!("{}Mi", bytes / (1024 * 1024))
}

/// Runs the verb.
pub async fn run(command: &TopCommand, globals: &Globals) -> Result<i32> {
    let (args, selector) = match command {
        TopCommand::Node(args) => (&args.top, "--selector"),
        TopCommand::Pod(args) => (&args.top, "selector"),
    };
    if !matches!(args.sort_by.as_str(), "" | "cpu" | "memory") {
        return Err(Error::message("--sort-by accepts only cpu or memory"));
    }
    if args.name.is_some() && args.selector.is_some() {
        return Err(Error::message(format!("only one of NAME or {selector} can be provided")));
    }
    let cluster = globals.connect().await?;
    let discovery = cluster.rediscover().await?;
    let metrics = |plural: &str| {
        discovery.kinds().find(|kind| kind.group == "metrics.k8s.io" && kind.plural == plural).cloned()
    };
    let word = if matches!(command, TopCommand::Node(_)) { "nodes" } else { "pods" };
    let kind = metrics(word).ok_or_else(|| Error::message("Metrics API not available"))?;
    match command {
        TopCommand::Node(args) => nodes(args, &cluster, &kind).await,
        TopCommand::Pod(args) => pods(args, &cluster, &kind).await,
    }
}

async fn fetch(
    args: &TopArgs,
    cluster: &Cluster,
    kind: &Kind,
    namespace: Option<&str>,
    fields: Option<&String>,
) -> Result<Vec<Value>> {
    let call = Call::get(kind.path(namespace, args.name.as_deref(), None))
        .query_some("labelSelector", args.selector.clone())
        .query_some("fieldSelector", fields.cloned());
    let answer = cluster.send(call).await?.json()?;
    if args.name.is_some() {
        return Ok(vec![answer]);
    }
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    if items.is_empty() && kind.plural == "nodes" {
        return Err(Error::message("metrics not available yet"));
    }
    Ok(items)
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_string()
}

/// By the wanted resource, most first, else by name.
fn sort<T>(rows: &mut [T], by: &str, usage: impl Fn(&T) -> Usage, name: impl Fn(&T) -> String) {
    rows.sort_by(|a, b| match by {
        "cpu" => usage(b).milli().cmp(&usage(a).milli()),
        "memory" => usage(b).memory.cmp(&usage(a).memory),
        _ => name(a).cmp(&name(b)),
    });
}

/// Every cell ends with a tab, the last too.
fn row(out: &mut TabWriter, cells: &[String]) {
    cells.iter().for_each(|cell| out.put(&format!("{cell}\t")));
    out.put("\n");
}

async fn nodes(node: &NodeArgs, cluster: &Cluster, kind: &Kind) -> Result<i32> {
    let args = &node.top;
    let mut metrics = fetch(args, cluster, kind, None, None).await?;
    let core = Kind { version: "v1".into(), plural: "nodes".into(), ..Kind::default() };
    let call = Call::get(core.path(None, None, None)).query_some("labelSelector", args.selector.clone());
    let known = cluster.send(call).await?.json()?;
    let room = if node.show_capacity { "capacity" } else { "allocatable" };
    let rooms = |wanted: &str| {
        let node = known["items"].as_array().into_iter().flatten().find(|node| name(node) == wanted);
        let swap = |node: &Value| node.pointer("/status/nodeInfo/swap/capacity").and_then(Value::as_i64);
        let read =
            |node: &Value| Usage { swap: swap(node).unwrap_or(0), ..Usage::read(&node["status"][room]) };
        node.map(read).unwrap_or_default()
    };
    sort(&mut metrics, &args.sort_by, |node| Usage::read(&node["usage"]), name);
    let mut table = TabWriter::remembering();
    if !args.no_headers {
        let head = ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)", "SWAP(bytes)", "SWAP(%)"];
        node_row(args, &mut table, head.map(String::from));
    }
    for node in &metrics {
        let (used, all) = (Usage::read(&node["usage"]), rooms(&name(node)));
        let [cpu, memory, swap] = used.cells();
        let (of_cpu, of_memory) = (percent(used.milli(), all.milli()), percent(used.memory, all.memory));
        let of_swap = percent(used.swap, all.swap);
        node_row(args, &mut table, [name(node), cpu, of_cpu, memory, of_memory, swap, of_swap]);
    }
    if args.name.is_none() {
        silent(&known, &metrics).for_each(|name| {
            let mut cells = ["<unknown>"; 7].map(String::from);
            cells[0] = name;
            node_row(args, &mut table, cells);
        });
    }
    out::put(&table.flush());
    Ok(0)
}

/// A node's cells, those of swap only when asked for.
fn node_row(args: &TopArgs, table: &mut TabWriter, cells: [String; 7]) {
    let [own @ .., _, _] = &cells;
    row(table, if args.show_swap { &cells } else { own });
}

/// The nodes nothing is known of.
fn silent<'a>(known: &'a Value, metrics: &'a [Value]) -> impl Iterator<Item = String> + 'a {
    let names = known["items"].as_array().into_iter().flatten().map(name);
    names.filter(|wanted| !metrics.iter().any(|node| name(node) == *wanted))
}

fn percent(used: i64, all: i64) -> String {
    if all == 0 { "<unknown>".into() } else { format!("{}%", (used as f64 / all as f64 * 100.0) as i64) }
}

async fn pods(args: &PodArgs, cluster: &Cluster, kind: &Kind) -> Result<i32> {
    let namespace = (!args.all_namespaces).then_some(cluster.namespace.as_str());
    let mut metrics = fetch(&args.top, cluster, kind, namespace, args.field_selector.as_ref()).await?;
    if metrics.is_empty() {
        out::note(&namespace.map_or_else(
            || "No resources found".into(),
            |namespace| format!("No resources found in {namespace} namespace."),
        ));
        return Ok(0);
    }
    sort(&mut metrics, &args.top.sort_by, total, |pod| {
        format!("{}/{}", pod["metadata"]["namespace"].as_str().unwrap_or_default(), name(pod))
    });
    let mut table = TabWriter::remembering();
    if !args.top.no_headers {
        row(
            &mut table,
            &front(
                args,
                "NAMESPACE",
                "POD",
                "NAME",
                ["CPU(cores)", "MEMORY(bytes)", "SWAP(bytes)"].map(String::from),
            ),
        );
    }
    let mut sum = Usage::default();
    for pod in &metrics {
        let space = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        if args.containers {
            for container in pod["containers"].as_array().into_iter().flatten() {
                let own = container["name"].as_str().unwrap_or_default();
                row(
                    &mut table,
                    &front(args, space, &name(pod), own, Usage::read(&container["usage"]).cells()),
                );
            }
        } else {
            row(&mut table, &front(args, space, "", &name(pod), total(pod).cells()));
        }
        sum = sum.plus(total(pod));
    }
    if args.sum {
        row(&mut table, &front(args, "", "", "", ["________"; 3].map(String::from)));
        row(&mut table, &front(args, "", "", "", sum.cells()));
    }
    out::put(&table.flush());
    Ok(0)
}

fn front(args: &PodArgs, namespace: &str, pod: &str, name: &str, usage: [String; 3]) -> Vec<String> {
    let mut cells = Vec::new();
    if args.all_namespaces {
        cells.push(namespace.to_string());
    }
    if args.containers {
        cells.push(pod.to_string());
    }
    cells.push(name.to_string());
    cells.extend(usage.into_iter().take(if args.top.show_swap { 3 } else { 2 }));
    cells
}

fn total(pod: &Value) -> Usage {
    pod["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .fold(Usage::default(), |sum, container| sum.plus(Usage::read(&container["usage"])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sums_are_made_before_they_are_rounded() {
        let pod = json!({"containers": [
            {"usage": {"cpu": "1200001n", "memory": "1536Ki"}}, {"usage": {"cpu": "1200u", "memory": "600Ki"}}]});
        assert_eq!(total(&pod).cells(), ["3m", "2Mi", "0Mi"]);
        assert_eq!(Usage::read(&json!({"cpu": "1200001n"})).milli(), 2);
    }
}
