//! The flags of `debug`, and which of them don't go together.

use coxctl_kit::{Error, Result, out};
use std::path::PathBuf;

/// Create debugging sessions for troubleshooting workloads and nodes
#[derive(clap::Args, Clone, Debug)]
pub struct Debug {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD | TYPE/NAME")]
    pub targets: Vec<String>,
    /// Files that name what to debug
    #[arg(short, long)]
    pub filename: Vec<String>,
    /// Everything after -- becomes the arguments of the container instead of its command
    #[arg(long)]
    pub arguments_only: bool,
    /// Wait for the container to run and attach to it. The default with -i
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub attach: Option<bool>,
    /// Container name to use for debug container
    #[arg(short, long, default_value = "")]
    pub container: String,
    /// Create a copy of the target Pod with this name
    #[arg(long, default_value = "")]
    pub copy_to: String,
    /// When used with --copy-to, delete the original Pod
    #[arg(long)]
    pub replace: bool,
    /// Environment variables to set in the container
    #[arg(long, value_delimiter = ',', value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Container image to use for debug container
    #[arg(long, default_value = "")]
    pub image: String,
    /// Keep the original pod labels in a copy
    #[arg(long)]
    pub keep_labels: bool,
    /// Keep the original pod annotations in a copy
    #[arg(long)]
    pub keep_annotations: bool,
    /// Keep the original liveness probes in a copy
    #[arg(long)]
    pub keep_liveness: bool,
    /// Keep the original readiness probes in a copy
    #[arg(long)]
    pub keep_readiness: bool,
    /// Keep the original startup probes in a copy
    #[arg(long)]
    pub keep_startup: bool,
    /// Run the init containers of the pod in a copy
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    pub keep_init_containers: bool,
    /// With --copy-to, new images of containers, * for all
    #[arg(long, value_delimiter = ',', value_name = "NAME=IMAGE")]
    pub set_image: Vec<String>,
    /// The image pull policy for the container
    #[arg(long, default_value = "")]
    pub image_pull_policy: String,
    /// Keep stdin open on the container(s) in the pod, even if nothing is attached
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Suppress informational messages
    #[arg(short, long)]
    pub quiet: bool,
    /// With --copy-to, schedule the copy on the same node
    #[arg(long)]
    pub same_node: bool,
    /// With --copy-to, enable process namespace sharing in the copy
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub share_processes: Option<bool>,
    /// Target processes in this container name, when using an ephemeral container
    #[arg(long, default_value = "")]
    pub target: String,
    /// Allocate a TTY for the debugging container
    #[arg(short, long)]
    pub tty: bool,
    /// Options are "legacy", "general", "baseline", "netadmin", "restricted" or "sysadmin"
    #[arg(long, default_value = "legacy")]
    pub profile: String,
    /// JSON or YAML file with a partial container spec to customize the profile
    #[arg(long)]
    pub custom: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Checks the flags.
///
/// # Errors
/// As kubectl's.
pub fn check(args: &Debug) -> Result<()> {
    if let Some(text) = contradiction(args) {
        return Err(Error::message(text));
    }
    if args.targets.is_empty() && args.filename.is_empty() {
        return Err(Error::message("NAME or filename is required for debug"));
    }
    if !["", "Always", "IfNotPresent", "Never"].contains(&args.image_pull_policy.as_str()) {
        return Err(Error::message(format!("invalid image pull policy: {}", args.image_pull_policy)));
    }
    if !args.target.is_empty() {
        if !args.copy_to.is_empty() {
            return Err(Error::message(
                "--target is incompatible with --copy-to. Use --share-processes instead.",
            ));
        }
        if !args.quiet {
            out::line(&format!(
                "Targeting container {:?}. If you don't see processes from this container it may be because the container runtime doesn't support this feature.",
                args.target
            ));
        }
    }
    if args.tty && !args.stdin {
        return Err(Error::message("-i/--stdin is required for containers with -t/--tty=true"));
    }
    if args.profile == "legacy" {
        out::note(
            "--profile=legacy is deprecated and will be removed in the future. It is recommended to explicitly specify a profile, for example \"--profile=general\".",
        );
    }
    Ok(())
}

/// What of the flags doesn't go together.
fn contradiction(args: &Debug) -> Option<&'static str> {
    let (copy, image, commanded) =
        (!args.copy_to.is_empty(), !args.image.is_empty(), !args.command.is_empty());
    if args.attach == Some(true) && !image && args.container.is_empty() {
        return Some(
            "you must specify --container or create a new container using --image in order to attach.",
        );
    }
    match copy {
        true if !image && args.set_image.is_empty() && !commanded => {
            Some("you must specify --image, --set-image or command arguments.")
        }
        true if commanded && args.container.is_empty() && !image => {
            Some("you must specify an existing container or a new image when specifying args.")
        }
        true => None,
        false if args.replace => Some("--replace may only be used with --copy-to."),
        false if args.same_node => Some("--same-node may only be used with --copy-to."),
        false if !args.set_image.is_empty() => Some("--set-image may only be used with --copy-to."),
        false if !image => Some("you must specify --image when not using --copy-to."),
        false => None,
    }
}
