//! `cluster-info`: where the control plane and the cluster's own services are.

use clap::{Args, Subcommand};
use coxctl_kit::print::{PrintArgs, output::OBJECT_FORMATS, typed};
use coxctl_kit::{Call, Cluster, Globals, Kind, ListOptions, Printer, Result, out};
use serde_json::Value;

/// The flags of `cluster-info`.
#[derive(Args, Clone, Debug)]
pub struct ClusterInfoArgs {
    #[command(subcommand)]
    pub command: Option<ClusterInfoCommand>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ClusterInfoCommand {
    /// Dump relevant information for debugging and diagnosis
    Dump(DumpArgs),
}

#[derive(Args, Clone, Debug)]
pub struct DumpArgs {
    /// If true, dump all namespaces
    #[arg(short = 'A', long = "all-namespaces")]
    pub all_namespaces: bool,
    /// A comma separated list of namespaces to dump
    #[arg(long, value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Where to output the files; standard output if empty or '-'
    #[arg(long = "output-directory", default_value = "")]
    pub output_directory: String,
    /// How long to wait until a pod's logs can be read
    #[arg(long = "pod-running-timeout", default_value = "20s")]
    pub pod_running_timeout: String,
    #[command(flatten)]
    pub print: PrintArgs,
}

/// Prints the addresses, or dumps.
pub async fn run(args: &ClusterInfoArgs, globals: &Globals) -> Result<i32> {
    let cluster = globals.connect().await?;
    match &args.command {
        Some(ClusterInfoCommand::Dump(args)) => dump(args, &cluster).await,
        None => addresses(&cluster, globals).await,
    }
}

async fn addresses(cluster: &Cluster, globals: &Globals) -> Result<i32> {
    let path = "/api/v1/namespaces/kube-system/services";
    let services = cluster
        .send(Call::get(path).query("labelSelector", "kubernetes.io/cluster-service=true"))
        .await?
        .json()?;
    let paint = |text: &str, colour: &str| {
        if globals.colours() { format!("\u{1b}[0;{colour}m{text}\u{1b}[0m") } else { text.to_string() }
    };
    let line = |name: &str, link: &str| {
        out::line(&format!("{} is running at {}", paint(name, "32"), paint(link, "33")))
    };
    line("Kubernetes control plane", &cluster.server);
    for service in services["items"].as_array().into_iter().flatten() {
        let metadata = &service["metadata"];
        let name = metadata["labels"]["kubernetes.io/name"]
            .as_str()
            .filter(|name| !name.is_empty())
            .or(metadata["name"].as_str());
        line(name.unwrap_or_default(), &link(&cluster.server, service));
    }
    out::line("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.");
    Ok(0)
}

/// Where a service is reached: its load balancer, else through the API server.
fn link(server: &str, service: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let ports: Vec<&Value> = service["spec"]["ports"].as_array().into_iter().flatten().collect();
    let ingress = &service["status"]["loadBalancer"]["ingress"][0];
    if ingress.is_object() {
        let host =
            if text(&ingress["ip"]).is_empty() { text(&ingress["hostname"]) } else { text(&ingress["ip"]) };
        return ports.iter().map(|port| format!("http://{host}:{} ", port["port"])).collect();
    }
    let mut name = text(&service["metadata"]["name"]);
    if let Some(port) = ports.first() {
        let secure = port["name"] == "https" || port["port"] == 443;
        name = joined(if secure { "https" } else { "" }, &name, &text(&port["name"]));
    }
    format!("{server}/api/v1/namespaces/{}/services/{name}/proxy", text(&service["metadata"]["namespace"]))
}

/// `scheme:name:port`, without what is empty.
fn joined(scheme: &str, name: &str, port: &str) -> String {
    match (scheme, port) {
        ("", "") => name.into(),
        ("", port) => format!("{name}:{port}"),
        (scheme, port) => format!("{scheme}:{name}:{port}"),
    }
}

const DUMPED: &[(&str, &str)] = &[
    ("events", "events"),
    ("replicationcontrollers", "replication-controllers"),
    ("services", "services"),
    ("daemonsets.apps", "daemonsets"),
    ("deployments.apps", "deployments"),
    ("replicasets.apps", "replicasets"),
    ("pods", "pods"),
];

async fn dump(args: &DumpArgs, cluster: &Cluster) -> Result<i32> {
    let mut form = Form::of(args)?;
    let nodes = cluster.list(&cluster.kind("nodes").await?, None, &ListOptions::default()).await?;
    write(args, &format!("nodes.{}", form.ending), form.text(&nodes)?)?;
    for namespace in namespaces(args, cluster).await? {
        for (word, file) in DUMPED {
            let list =
                cluster.list(&cluster.kind(word).await?, Some(&namespace), &ListOptions::default()).await?;
            write(args, &format!("{namespace}/{file}.{}", form.ending), form.text(&list)?)?;
            if *word == "pods" {
                logs(args, cluster, &namespace, &list).await?;
            }
        }
    }
    if !to_stdout(args) {
        out::line(&format!("Cluster info dumped to {}", args.output_directory));
    }
    Ok(0)
}

/// How lists are written, JSON where nothing is said.
struct Form {
    printer: Option<Printer>,
    ending: &'static str,
    managed: bool,
}

impl Form {
    fn of(args: &DumpArgs) -> Result<Form> {
        let managed = args.print.show_managed_fields;
        let other = |ending| Ok(Form { printer: args.print.printer(OBJECT_FORMATS)?, ending, managed });
        match args.print.output.as_deref() {
            None | Some("" | "json") => Ok(Form { printer: None, ending: "json", managed }),
            Some("yaml") => other("yaml"),
            Some(_) => other("txt"),
        }
    }

    fn text(&mut self, list: &Value) -> Result<String> {
        match &mut self.printer {
            Some(printer) => printer.text(list, None),
            None => Ok(typed::pretty(list, self.managed) + "\n"),
        }
    }
}

async fn namespaces(args: &DumpArgs, cluster: &Cluster) -> Result<Vec<String>> {
    if args.all_namespaces {
        let items = cluster.items(&cluster.kind("namespaces").await?, None, &ListOptions::default()).await?;
        return Ok(items
            .iter()
            .filter_map(|item| item["metadata"]["name"].as_str().map(str::to_string))
            .collect());
    }
    if !args.namespaces.is_empty() {
        return Ok(args.namespaces.clone());
    }
    let mut names = vec!["kube-system".to_string(), cluster.namespace.clone()];
    names.dedup();
    Ok(names)
}

async fn logs(args: &DumpArgs, cluster: &Cluster, namespace: &str, pods: &Value) -> Result<()> {
    let kind = Kind { version: "v1".into(), plural: "pods".into(), namespaced: true, ..Kind::default() };
    for pod in pods["items"].as_array().into_iter().flatten() {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let mut text = String::new();
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            let container = container["name"].as_str().unwrap_or_default();
            text.push_str(&format!(
                "==== START logs for container {container} of pod {namespace}/{name} ====\n"
            ));
            let call =
                Call::get(kind.path(Some(namespace), Some(name), Some("log"))).query("container", container);
            match cluster.send(call).await {
                Ok(answer) => text.push_str(&answer.text()),
                Err(error) => text.push_str(&format!("Request log error: {error}\n")),
            }
            text.push_str(&format!(
                "==== END logs for container {container} of pod {namespace}/{name} ====\n"
            ));
        }
        write(args, &format!("{namespace}/{name}/logs.txt"), text)?;
    }
    Ok(())
}

fn to_stdout(args: &DumpArgs) -> bool {
    args.output_directory.is_empty() || args.output_directory == "-"
}

fn write(args: &DumpArgs, file: &str, text: String) -> Result<()> {
    if to_stdout(args) {
        out::put(&text);
        return Ok(());
    }
    let path = std::path::Path::new(&args.output_directory).join(file);
    let dir = path.parent().map(std::fs::create_dir_all).unwrap_or(Ok(()));
    dir.and_then(|()| std::fs::write(&path, text))
        .map_err(|cause| coxctl_kit::Error::message(format!("{}: {cause}", path.display())))
}
