//! `logs`: what containers have printed.

use crate::dig;
use crate::target::{self, Order};
use coxctl_kit::{Call, Cluster, Error, Globals, ListOptions, Result, out};
use futures::AsyncBufReadExt;
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines shown of each log when pods are chosen by a selector.
const SELECTED_TAIL: i64 = 10;
/// How often a container that is to be followed but doesn't run yet is asked for.
const AGAIN: Duration = Duration::from_secs(1);
const USAGE: &str = "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command";

/// Print the logs for a container in a pod
#[derive(clap::Args, Clone, Debug)]
pub struct Logs {
    /// POD or TYPE/NAME, and a container
    #[arg(value_name = "POD | TYPE/NAME")]
    pub target: Vec<String>,
    /// Get all containers' logs in the pod(s)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub all_containers: bool,
    /// Get logs from all pod(s). Sets prefix to true
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub all_pods: bool,
    /// Specify if the logs should be streamed
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub follow: bool,
    /// Include timestamps on each line in the log output
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub timestamps: bool,
    /// Maximum bytes of logs to return. Defaults to no limit
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub limit_bytes: i64,
    /// Print the logs for the previous instance of the container in a pod if it exists
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub previous: bool,
    /// Lines of recent log file to display. All of them, or 10 when a selector is given
    #[arg(long, allow_negative_numbers = true)]
    pub tail: Option<i64>,
    /// If watching / following pod logs, allow for any errors that occur to be non-fatal
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
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
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
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
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
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
    check_words(&args, selector.is_some())?;
    let named = args.container.is_some();
    if let [_, container] = args.target.as_slice() {
        args.container = Some(container.clone());
    }
    args.prefix |= args.all_pods;
    let wait = target::duration("pod-running-timeout", &args.pod_running_timeout)?;
    let query = query(&args, selector.is_some())?;
    let cluster = globals.connect().await?;
    let subjects = subjects(&cluster, &args, selector.as_deref()).await?;
    check(&args, named)?;
    let mut sources = Vec::new();
    for subject in subjects {
        for pod in pods(&cluster, subject, &args, wait).await? {
            sources.extend(of_pod(&pod, &args, &query)?);
        }
    }
    read(&cluster, sources, &args, wait).await
}

fn check_words(args: &Logs, selected: bool) -> Result<()> {
    match (args.target.len(), selected) {
        (0, false) | (3.., _) => Err(crate::usage("logs", USAGE)),
        (1, true) => Err(crate::usage("logs", "only a selector (-l) or a POD name is allowed")),
        _ => Ok(()),
    }
}

fn check(args: &Logs, named: bool) -> Result<()> {
    let container = args.container.as_deref().unwrap_or_default();
    let wrong = |text: &str| Err(Error::message(text));
    if args.since_time.is_some() && args.since.as_ref().is_some_and(|since| !is_zero(since)) {
        return wrong("at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if args.all_containers && !container.is_empty() {
        return wrong(&format!(
            "--all-containers=true should not be specified with container name {container}"
        ));
    }
    if named && args.target.len() == 2 {
        return wrong("only one of -c or an inline [CONTAINER] arg is allowed");
    }
    if args.limit_bytes < 0 {
        return wrong("--limit-bytes must be greater than 0");
    }
    if args.since.as_ref().is_some_and(|since| since.starts_with('-')) {
        return wrong("--since must be greater than 0");
    }
    if args.tail.is_some_and(|tail| tail < -1) {
        return wrong("--tail must be greater than or equal to -1");
    }
    Ok(())
}

fn is_zero(duration: &str) -> bool {
    out::go_duration(duration).is_some_and(|duration| duration.is_zero())
}

/// What is asked of every log, the container apart.
fn query(args: &Logs, selected: bool) -> Result<Vec<(&'static str, String)>> {
    let mut query = Vec::new();
    let flags = [
        ("follow", args.follow),
        ("insecureSkipTLSVerifyBackend", args.insecure_skip_tls_verify_backend),
        ("previous", args.previous),
        ("timestamps", args.timestamps),
    ];
    query.extend(flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "true".to_string())));
    if args.limit_bytes != 0 {
        query.push(("limitBytes", args.limit_bytes.to_string()));
    }
    if let Some(since) = args.since.as_deref().filter(|since| !since.starts_with('-') && !is_zero(since)) {
        query.push(("sinceSeconds", seconds(target::duration("since", since)?).to_string()));
    }
    if let Some(time) = args.since_time.as_deref().filter(|time| !time.is_empty()) {
        query.push(("sinceTime", moment(time)?));
    }
    match args.tail {
        Some(-1) => {}
        Some(tail) => query.push(("tailLines", tail.to_string())),
        None if selected => query.push(("tailLines", SELECTED_TAIL.to_string())),
        None => {}
    }
    Ok(query)
}

/// Whole seconds, rounded to the nearest.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_millis() >= 500)
}

fn moment(text: &str) -> Result<String> {
    let layout = "2006-01-02T15:04:05Z07:00";
    let read: Timestamp = text.parse().map_err(|_| {
        Error::message(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""))
    })?;
    Ok(machinery::time::format_seconds(read))
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

async fn read(cluster: &Cluster, sources: Vec<Source>, args: &Logs, wait: Duration) -> Result<()> {
    let (count, most) = (sources.len(), args.max_log_requests);
    if args.follow && count > 1 {
        if count > most {
            return Err(Error::message(format!(
                "you are attempting to follow {count} log streams, but maximum allowed concurrency is {most}, use --max-log-requests to increase the limit"
            )));
        }
        return together(cluster, sources, args, wait).await;
    }
    for source in sources {
        if let Err(error) = copy(cluster, &source, args, wait, None).await {
            forgive(error, args)?;
        }
    }
    Ok(())
}

fn forgive(error: Error, args: &Logs) -> Result<()> {
    if !args.ignore_errors {
        return Err(error);
    }
    out::line(&format!("error: {error}"));
    Ok(())
}

/// Follows logs at the same time; lines stay whole.
async fn together(cluster: &Cluster, sources: Vec<Source>, args: &Logs, wait: Duration) -> Result<()> {
    let (sender, mut lines) = mpsc::channel::<Result<Vec<u8>>>(64);
    for source in sources {
        let (cluster, args, sender) = (cluster.clone(), args.clone(), sender.clone());
        tokio::spawn(async move {
            if let Err(error) = copy(&cluster, &source, &args, wait, Some(&sender)).await {
                let _ = sender.send(Err(error)).await;
            }
        });
    }
    drop(sender);
    while let Some(line) = lines.recv().await {
        match line {
            Ok(line) => out::put_bytes(&line),
            Err(error) => forgive(error, args)?,
        }
    }
    Ok(())
}

/// Copies a log line by line, to standard output or to a channel. A container that is to be followed is waited for while
/// it starts.
async fn copy(
    cluster: &Cluster,
    source: &Source,
    args: &Logs,
    wait: Duration,
    to: Option<&mpsc::Sender<Result<Vec<u8>>>>,
) -> Result<()> {
    let end = tokio::time::Instant::now() + wait;
    let mut reader = loop {
        match cluster.stream(source.call.clone()).await {
            Ok(reader) => break reader,
            Err(error) if args.follow && starts(&error) && tokio::time::Instant::now() < end => {
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    };
    let mut line = source.prefix.clone().into_bytes();
    loop {
        line.truncate(source.prefix.len());
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) => return Ok(()),
            Ok(_) => match to {
                None => out::put_bytes(&line),
                Some(to) if to.send(Ok(line.clone())).await.is_err() => return Ok(()),
                Some(_) => {}
            },
            Err(cause) => return Err(Error::message(cause.to_string())),
        }
    }
}

fn starts(error: &Error) -> bool {
    error.is("BadRequest") && error.to_string().contains("is waiting to start")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded() {
        let table = [("400ms", 0), ("1500ms", 2), ("3m", 180)];
        for (text, wanted) in table {
            assert_eq!(target::duration("since", text).map(seconds).ok(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(moment("2024-05-01T10:00:00+02:00").ok().as_deref(), Some("2024-05-01T08:00:00Z"));
        assert!(moment("yesterday").is_err());
    }
}
