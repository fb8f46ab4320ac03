//! `attach`: the streams of a process that runs already.

use crate::dig;
use crate::exec;
use crate::target;
use crate::terminal;
use coxctl_kit::{Call, Cluster, Error, Globals, Result, out};
use serde_json::Value;

const RECORDED: &str = "All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt.";

/// Attach to a running container
#[derive(clap::Args, Clone, Debug)]
pub struct Attach {
    /// POD, TYPE/NAME or TYPE NAME
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
    /// How long to wait until at least one pod is running (like 5s, 2m, or 3h)
    #[arg(long, default_value = "1m0s")]
    pub pod_running_timeout: String,
}

/// Runs the verb.
///
/// # Errors
/// As kubectl's.
pub async fn run(args: Attach, globals: &Globals) -> Result<()> {
    match args.target.len() {
        0 => return Err(Error::message("at least 1 argument is required for attach")),
        1 | 2 => {}
        many => {
            let words = args.target.join(" ");
            return Err(Error::message(format!(
                "expected POD, TYPE/NAME, or TYPE NAME, (at most 2 arguments) saw {many}: [{words}]"
            )));
        }
    }
    let wait = target::duration("attach", "pod-running-timeout", &args.pod_running_timeout)?;
    if wait.is_zero() {
        return Err(Error::message("--pod-running-timeout must be higher than zero"));
    }
    let cluster = globals.connect().await?;
    let object = target::object(&cluster, &args.target).await?;
    let pod = target::pod(&cluster, object, wait).await?;
    exec::check_phase(&pod, "attach")?;
    let wishes = Wishes { stdin: args.stdin, tty: args.tty, quiet: args.quiet };
    to(&cluster, &pod, args.container.as_deref(), wishes).await
}

/// What of a session is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    pub stdin: bool,
    pub tty: bool,
    pub quiet: bool,
}

/// Attaches to a container of a pod until its process ends.
///
/// # Errors
/// As kubectl's.
pub async fn to(cluster: &Cluster, pod: &Value, name: Option<&str>, wishes: Wishes) -> Result<()> {
    let Wishes { stdin, tty, quiet } = wishes;
    let container = target::choose(pod, name, quiet)
        .map_err(|error| Error::message(format!("cannot attach to the container: {error}")))?;
    let name = dig::text(container, "name");
    let has_terminal = dig::flag(container, "tty");
    if tty && !has_terminal && !quiet {
        out::note(&format!("error: Unable to use a TTY - container {name} did not allocate one"));
    }
    // A process that writes to a terminal writes one stream, asked for or not.
    let raw = terminal::wanted(stdin, has_terminal, quiet);
    if !quiet {
        out::note(RECORDED);
        out::note("If you don't see a command prompt, try pressing enter.");
    }
    let call = exec::streams(Call::get(exec::path(pod, "attach")), name, stdin, raw);
    exec::interact(cluster, &call, stdin, raw, true).await?;
    if stdin && raw && !quiet {
        out::line(&farewell(pod, name));
    }
    Ok(())
}

fn farewell(pod: &Value, container: &str) -> String {
    let (name, namespace) = (dig::text(pod, "metadata.name"), dig::text(pod, "metadata.namespace"));
    let again = format!("'coxctl attach {name} -c {container} -n {namespace} -i -t'");
    match target::container(pod, container) {
        Some((_, "ephemeralContainers")) => format!(
            "Session ended, the ephemeral container will not be restarted but may be reattached using {again} if it is still running"
        ),
        _ => format!("Session ended, resume using {again} command when the pod is running"),
    }
}
