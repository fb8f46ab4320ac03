//! `cp`: files and directories into and out of containers, as archives that `tar` in the container packs and unpacks.

mod pack;
mod paths;
mod unpack;

use crate::channels::Streams;
use crate::dig;
use crate::exec;
use crate::target;
use crate::terminal;
use coxctl_kit::{Cluster, Error, Globals, Result, out};
use paths::Spec;
use serde_json::Value;
use std::path::Path;

/// Copy files and directories to and from containers
#[derive(clap::Args, Clone, Debug)]
pub struct Copy {
    /// What and where to, one of them as [[namespace/]pod:]file/path
    #[arg(value_name = "FILE-SPEC")]
    pub specs: Vec<String>,
    /// Container name. If omitted, the pod's default container or its first one
    #[arg(short, long)]
    pub container: Option<String>,
    /// The copied file/directory's ownership and permissions will not be preserved in the container
    #[arg(long)]
    pub no_preserve: bool,
    /// Number of retries to complete a copy from a container; 0 for none, negative for as many as needed
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub retries: i64,
}

/// Runs the verb.
///
/// # Errors
/// As kubectl's.
pub async fn run(args: Copy, globals: &Globals) -> Result<()> {
    let [from, to] = args.specs.as_slice() else {
        return Err(Error::message("source and destination are required"));
    };
    let (from, to) = (Spec::read(from)?, Spec::read(to)?);
    if !from.pod.is_empty() && !to.pod.is_empty() {
        return Err(Error::message("one of src or dest must be a local file specification"));
    }
    if from.file.is_empty() || to.file.is_empty() {
        return Err(Error::message("filepath can not be empty"));
    }
    if from.pod.is_empty() && to.pod.is_empty() {
        return Err(Error::message("one of src or dest must be a remote file specification"));
    }
    let cluster = globals.connect().await?;
    match from.pod.is_empty() {
        true => upload(&cluster, &args, &from.file, &to).await,
        false => unpack::download(&cluster, &args, &from, Path::new(&to.file)).await,
    }
}

/// The far end of a copy: a pod, and which of its containers.
struct Far {
    pod: Value,
    container: String,
}

/// Where it is said which container was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Note {
    Nowhere,
    Out,
    Err,
}

async fn far(cluster: &Cluster, args: &Copy, spec: &Spec, note: Note) -> Result<Far> {
    let namespace = if spec.namespace.is_empty() { &cluster.namespace } else { &spec.namespace };
    let pod = cluster.get(&target::pods(), Some(namespace), &spec.pod, None).await?;
    exec::check_phase(&pod, "exec into")?;
    let container = match args.container.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => name.to_string(),
        None => dig::text(target::choose(&pod, None, note != Note::Err)?, "name").to_string(),
    };
    if let (Note::Out, None, Some(text)) = (note, &args.container, target::default_note(&pod, &container)) {
        out::line(&text);
    }
    Ok(Far { pod, container })
}

async fn upload(cluster: &Cluster, args: &Copy, from: &str, to: &Spec) -> Result<()> {
    let local = paths::without_last_slash(from);
    if std::fs::metadata(local).is_err() {
        return Err(Error::message(format!("{local} doesn't exist in local filesystem")));
    }
    let mut remote = paths::remote(&to.file);
    if is_directory(cluster, args, to, &remote).await {
        remote = paths::join(&remote, paths::base(&paths::clean(local)));
    }
    let far = far(cluster, args, to, Note::Err).await?;
    let mut command = vec!["tar"];
    if args.no_preserve {
        command.extend(["--no-same-permissions", "--no-same-owner"]);
    }
    let directory = paths::directory(&remote);
    command.extend(["-xmf", "-", "-C", &directory]);
    let command: Vec<String> = command.into_iter().map(str::to_string).collect();
    let call = exec::call(&far.pod, &far.container, &command, true, false);
    let (archive, packed) = pack::start(local, paths::base(&paths::clean(&remote)));
    let streams =
        Streams { stdin: Some(archive), stdout: terminal::stdout(), stderr: terminal::stderr(), sizes: None };
    exec::pipe(cluster, &call, streams).await?;
    match packed.await {
        Ok(result) => result.map_err(|cause| Error::message(cause.to_string())),
        Err(_) => Ok(()),
    }
}

/// Whether a directory is there already, into which the copy goes then. Whatever goes wrong here goes wrong again.
async fn is_directory(cluster: &Cluster, args: &Copy, spec: &Spec, path: &str) -> bool {
    let Ok(far) = far(cluster, args, spec, Note::Nowhere).await else { return false };
    let command = ["test", "-d", path].map(str::to_string);
    let call = exec::call(&far.pod, &far.container, &command, false, false);
    let nowhere = || -> crate::channels::Write { Box::new(|_| Ok(())) };
    let streams = Streams { stdin: None, stdout: nowhere(), stderr: nowhere(), sizes: None };
    exec::pipe(cluster, &call, streams).await.is_ok()
}
