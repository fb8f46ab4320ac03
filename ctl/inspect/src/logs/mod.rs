//! `logs`: what containers have printed.

mod query;
mod read;

use crate::dig;
use crate::target::{self, Order};
use coxctl_kit::{Call, Cluster, Error, Globals, ListOptions, Result, out};
use serde_json::Value;
use std::time::Duration;

/// Print the logs for a container in a pod
#[derive(clap::Args, Clone, Debug)]
pub struct Logs {
    /// POD or TYPE/NAME, and a container
    #[arg(value_name = "POD | TYPE/NAME")]
    pub target: Vec<String>,
    /// Get all containers' logs in the pod(s)
    #[arg(long)]
    pub all_containers: bool,
    /// Get logs from all pod(s). Sets prefix to true
    #[arg(long)]
    pub all_pods: bool,
    /// Specify if the logs should be streamed
    #[arg(short, long)]
    pub follow: bool,
    /// Include timestamps on each line in the log output
    #[arg(long)]
    pub timestamps: bool,
    /// Maximum bytes of logs to return. Defaults to no limit
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub limit_bytes: i64,
    /// Print the logs for the previous instance of the container in a pod if it exists
    #[arg(short, long)]
    pub previous: bool,
    /// Lines of recent log file to display. All of them, or 10 when a selector is given
    #[arg(long, allow_negative_numbers = true)]
    pub tail: Option<i64>,
    /// If watching / following pod logs, allow for any errors that occur to be non-fatal
    #[arg(long)]
    pub ignore_errors: bool,
    /// Only return logs after a specific date (RFC3339)
    #[arg(long)]
    pub since_time: Option<String>,
    /// Only return logs newer than a relative duration like 5s, 2m, or 3h
    #[arg(long)]
    pub since: Option<String>,
    /// Print the logs of this container
    #[arg(short, long)]
    pub container: Option<String>,
    /// Skip verifying the identity of the kubelet that logs are requested from
    #[arg(long)]
    pub insecure_skip_tls_verify_backend: bool,
    /// How long to wait until at least one pod is running (like 5s, 2m, or 3h)
    #[arg(long, default_value = "20s")]
    pub pod_running_timeout: String,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Maximum number of concurrent logs to follow when using a selector
    #[arg(long, default_value_t = 5)]
    pub max_log_requests: usize,
    /// Prefix each log line with the log source (pod name and container name)
    #[arg(long)]
    pub prefix: bool,
}

/// One log to be read.
#[derive(Clone, Debug)]
struct Source {
    call: Call,
    prefix: String,
}

/// Runs the verb.
///
/// # Errors
/// As kubectl's.
pub async fn run(mut args: Logs, globals: &Globals) -> Result<()> {
    let selector = args.selector.clone().filter(|selector| !selector.is_empty());
    query::check_words(&args, selector.is_some())?;
    let named = args.container.is_some();
    if let [_, container] = args.target.as_slice() {
        args.container = Some(container.clone());
    }
    args.prefix |= args.all_pods;
    let wait = target::duration("logs", "pod-running-timeout", &args.pod_running_timeout)?;
    let query = query::query(&args, selector.is_some())?;
    let cluster = globals.connect().await?;
    let subjects = subjects(&cluster, &args, selector.as_deref()).await?;
    query::check(&args, named)?;
    let mut sources = Vec::new();
    for subject in subjects {
        for pod in pods(&cluster, subject, &args, wait).await? {
            sources.extend(of_pod(&pod, &args, &query)?);
        }
    }
    read::read(&cluster, sources, &args, wait).await
}

/// The objects whose logs are meant.
async fn subjects(cluster: &Cluster, args: &Logs, selector: Option<&str>) -> Result<Vec<Value>> {
    if let Some(selector) = selector {
        let options = ListOptions { labels: Some(selector.into()), limit: 0, ..ListOptions::default() };
        let pods = cluster.items(&target::pods(), Some(&cluster.namespace), &options).await?;
        if pods.is_empty() {
            out::note(&format!("No resources found in {} namespace.", cluster.namespace));
        }
        return Ok(pods);
    }
    match target::object(cluster, &args.target[..1]).await {
        Ok(object) => Ok(vec![object]),
        Err(error) if error.is_not_found() => {
            let namespace = &cluster.namespace;
            Err(Error::message(format!("error from server (NotFound): {error} in namespace {namespace:?}")))
        }
        Err(error) => Err(error),
    }
}

/// The pods of an object: one of them, unless all are wanted.
async fn pods(cluster: &Cluster, object: Value, args: &Logs, wait: Duration) -> Result<Vec<Value>> {
    if dig::text(&object, "kind") == "Pod" {
        return Ok(vec![object]);
    }
    let mut pods = target::pods_of(cluster, &object, Order::Logs, wait).await?;
    if !args.all_pods {
        if let (Some(first), 2..) = (pods.first(), pods.len()) {
            out::note(&format!("Found {} pods, using pod/{}", pods.len(), dig::text(first, "metadata.name")));
        }
        pods.truncate(1);
    }
    Ok(pods)
}

fn of_pod(pod: &Value, args: &Logs, query: &[(&str, String)]) -> Result<Vec<Source>> {
    let names: Vec<&str> = match args.all_containers {
        true => ["initContainers", "containers", "ephemeralContainers"]
            .iter()
            .flat_map(|list| dig::items(&pod["spec"], list))
            .map(|container| dig::text(container, "name"))
            .collect(),
        false => vec![chosen(pod, args)?],
    };
    let pod_name = dig::text(pod, "metadata.name");
    let source = |name: &str| {
        let call = Call::get(crate::exec::path(pod, "log")).query("container", name);
        let call = query.iter().fold(call, |call, (key, value)| call.query(key, value));
        let prefix = if args.prefix { format!("[pod/{pod_name}/{name}] ") } else { String::new() };
        Source { call, prefix }
    };
    Ok(names.into_iter().map(source).collect())
}

/// The container whose log is meant, when it isn't all of them.
fn chosen<'a>(pod: &'a Value, args: &'a Logs) -> Result<&'a str> {
    let pod_name = dig::text(pod, "metadata.name");
    let named = args.container.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = named {
        let missing = || Error::message(format!("container {name} is not valid for pod {pod_name}"));
        return target::container(pod, name).map(|_| name).ok_or_else(missing);
    }
    if let Some(preferred) =
        pod["metadata"]["annotations"][target::DEFAULT_CONTAINER].as_str().filter(|name| !name.is_empty())
    {
        if target::container(pod, preferred).is_some() {
            return Ok(preferred);
        }
        out::note(&format!("Default container name {preferred:?} not found in pod {pod_name}"));
    }
    let first = dig::items(pod, "spec.containers").first();
    let name = first.map(|container| dig::text(container, "name")).unwrap_or_default();
    if !args.all_pods {
        target::say_default(pod, name);
    }
    Ok(name)
}

/// Prints the log of one container as it is now.
///
/// # Errors
/// What the server says.
pub async fn print(cluster: &Cluster, pod: &Value, container: &str) -> Result<()> {
    let call = Call::get(crate::exec::path(pod, "log")).query("container", container);
    out::put_bytes(&cluster.send(call).await?.body);
    Ok(())
}
