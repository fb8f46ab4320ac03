//! `exec`: a command in a container.

use crate::channels::{self, Streams};
use crate::dig;
use crate::target;
use crate::terminal;
use coxctl_kit::{Call, Cluster, Error, Globals, Result};
use serde_json::Value;

/// Execute a command in a container
#[derive(clap::Args, Clone, Debug)]
pub struct Exec {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD | TYPE/NAME")]
    pub target: Vec<String>,
    /// Container name. If omitted, the pod's default container or its first one
    #[arg(short, long)]
    pub container: Option<String>,
    /// Pass stdin to the container
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Stdin is a TTY
    #[arg(short, long)]
    pub tty: bool,
    /// Only print output from the remote session
    #[arg(short, long)]
    pub quiet: bool,
    /// File that names the resource to exec into
    #[arg(short, long)]
    pub filename: Vec<String>,
    /// How long to wait until at least one pod is running (like 5s, 2m, or 3h)
    #[arg(long, default_value = "1m0s")]
    pub pod_running_timeout: String,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// As kubectl's, among them the command's exit code.
pub async fn run(args: Exec, globals: &Globals) -> Result<()> {
    if args.target.len() > 1 {
        let text = "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead";
        return Err(crate::usage("exec", text));
    }
    if args.target.is_empty() && args.filename.is_empty() {
        return Err(Error::message("pod, type/name or --filename must be specified"));
    }
    if args.command.is_empty() {
        return Err(Error::message("you must specify at least one command for the container"));
    }
    let cluster = globals.connect().await?;
    let wait = target::duration("exec", "pod-running-timeout", &args.pod_running_timeout)?;
    let object = match args.filename.is_empty() {
        true => target::object(&cluster, &args.target).await?,
        false => target::in_files(&cluster, &args.filename).await?,
    };
    let pod = target::pod(&cluster, object, wait).await?;
    check_phase(&pod, "exec into")?;
    let container = match args.container.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => dig::text(target::choose(&pod, None, args.quiet)?, "name"),
    };
    let raw = terminal::wanted(args.stdin, args.tty, args.quiet);
    let call = call(&pod, container, &args.command, args.stdin, raw);
    interact(&cluster, &call, args.stdin, raw, false).await
}

/// Pods that have ended have nothing to run a command in.
pub fn check_phase(pod: &Value, what: &str) -> Result<()> {
    match dig::text(pod, "status.phase") {
        phase @ ("Succeeded" | "Failed") => Err(Error::message(format!(
            "cannot {what} a container in a completed pod; current phase is {phase}"
        ))),
        _ => Ok(()),
    }
}

/// The request for a command in a container.
pub fn call(pod: &Value, container: &str, command: &[String], stdin: bool, tty: bool) -> Call {
    let path = path(pod, "exec");
    let call = command.iter().fold(Call::get(path), |call, word| call.query("command", word));
    streams(call, container, stdin, tty)
}

/// The path of a subresource of a pod.
pub fn path(pod: &Value, subresource: &str) -> String {
    let (namespace, name) = (dig::text(pod, "metadata.namespace"), dig::text(pod, "metadata.name"));
    target::pods().path(Some(namespace), Some(name), Some(subresource))
}

/// Names the streams of a request.
pub fn streams(call: Call, container: &str, stdin: bool, tty: bool) -> Call {
    let on = |on: bool| on.then_some("true");
    call.query("container", container)
        .query_some("stderr", on(!tty))
        .query_some("stdin", on(stdin))
        .query("stdout", "true")
        .query_some("tty", on(tty))
}

/// A session with the streams of this program: raw where a terminal is wanted.
///
/// # Errors
/// As [`channels::session`].
pub async fn interact(cluster: &Cluster, call: &Call, stdin: bool, raw: bool, nudge: bool) -> Result<()> {
    let (socket, closes) = channels::open(cluster, call).await?;
    let mode = if raw { terminal::Raw::enter() } else { None };
    let streams = Streams {
        stdin: stdin.then(terminal::typed),
        stdout: terminal::stdout(),
        stderr: terminal::stderr(),
        sizes: if raw { terminal::sizes(nudge) } else { None },
    };
    let ended = until_told(channels::session(socket, closes, streams)).await;
    drop(mode);
    ended
}

/// A signal ends the session, not the program at once: the terminal must not stay raw.
async fn until_told(session: impl Future<Output = Result<()>>) -> Result<()> {
    let token = daemon::signal::shutdown();
    tokio::select! {
        ended = session => ended,
        () = token.cancelled() => Err(Error::Exit(1)),
    }
}

/// What a command prints, for other verbs: (standard output's bytes go to `stdout`).
///
/// # Errors
/// As [`channels::session`].
pub async fn pipe(cluster: &Cluster, call: &Call, streams: Streams) -> Result<()> {
    let (socket, closes) = channels::open(cluster, call).await?;
    channels::session(socket, closes, streams).await
}
