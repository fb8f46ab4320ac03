//! The grammar of the commands about machines and clusters, and which function answers each. Everyday verbs are in
//! [`crate::everyday`].

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::lab::spec::{Lab, NodeSpec, Spec};
use crate::lab::{down, forward, images, init, node, status, up};
use crate::{image, kubeconfig};

/// Makes Kubernetes clusters and looks after them.
#[derive(Debug, Parser)]
#[command(name = "coxctl", version, arg_required_else_help = true)]
pub struct Machine {
    #[command(subcommand)]
    command: MachineCommand,
}

/// Commands about machines and the clusters made of them: kubeadm's, and the lab.
#[derive(Debug, Subcommand)]
enum MachineCommand {
    #[command(flatten)]
    Cluster(coxctl_cluster::ClusterCommand),
    /// A cluster of several nodes on this machine
    #[command(subcommand)]
    Lab(LabCommand),
    /// Archives for installs without the internet
    #[command(subcommand)]
    Bundle(coxctl_machine::bundle::BundleCommand),
    /// Container images from local files
    #[command(subcommand)]
    Image(ImageCommand),
    /// Keep this machine's daemons running (where there is no systemd)
    #[command(hide = true)]
    Supervise(coxctl_machine::supervisor::Supervise),
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Make the lab, or mend it
    Up(UpArgs),
    /// Take the lab back, whole
    Down(Name),
    /// Show nodes, daemons and restarts
    Status(Name),
    /// Load an image archive into every node
    LoadImage {
        /// Archives as `docker save` or `coxctl image pack` write them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        name: Name,
    },
    /// Stop a node as a power cut does; its disk stays
    Stop {
        #[command(flatten)]
        name: Name,
        /// The node's name
        node: String,
    },
    /// Start a node that was stopped
    Start {
        #[command(flatten)]
        name: Name,
        /// The node's name
        node: String,
    },
    /// Run a command inside a node
    Exec {
        #[command(flatten)]
        name: Name,
        /// The node's name
        node: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Become a node (used by `lab up`)
    #[command(hide = true)]
    NodeStart {
        #[command(flatten)]
        name: Name,
        node: String,
    },
    /// Be a node's first process (used by `lab up`)
    #[command(hide = true)]
    NodeInit { dir: PathBuf },
    /// Forward ports to the host's loopback (used by `lab up`)
    #[command(hide = true)]
    Forward(Name),
}

#[derive(Debug, Args)]
struct Name {
    /// The lab's name; its context is coxswain-NAME
    #[arg(long = "name", env = "COXSWAIN_LAB", default_value = "lab")]
    name: String,
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    name: Name,
    /// Number of nodes, the first of them the control plane [default: 3]
    #[arg(long)]
    nodes: Option<u8>,
    /// How many of the nodes are control planes [default: 1]
    #[arg(long)]
    control_planes: Option<u8>,
    /// Machines with containerd only, for `coxctl init` and `coxctl join` to make a cluster of
    #[arg(long)]
    bare: bool,
    /// Make a node's port reachable on 127.0.0.1, as [HOSTPORT:[NODE:]]PORT; may be repeated
    #[arg(long)]
    publish: Vec<String>,
    /// Directory of image archives to load
    #[arg(long)]
    images: Option<PathBuf>,
    /// Directory of the daemons' programs
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// The kubeconfig to merge the context into [default: as kubectl chooses]
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Write an image archive from local files
    Pack {
        /// Full reference, such as registry/name:tag; may be repeated
        #[arg(long, required = true)]
        tag: Vec<String>,
        /// The archive to write
        #[arg(long)]
        out: PathBuf,
        /// Add the machine's static busybox with its applets
        #[arg(long)]
        busybox: bool,
        /// Add the shared libraries the files need
        #[arg(long)]
        libraries: bool,
        /// A word of the command that runs; repeat for each
        #[arg(long)]
        entrypoint: Vec<String>,
        /// A word of its default arguments; repeat for each
        #[arg(long)]
        cmd: Vec<String>,
        /// User it runs as, uid[:gid]
        #[arg(long, default_value = "")]
        user: String,
        /// Files, each SRC[:DEST]
        files: Vec<String>,
    },
}

impl Machine {
    /// Whether the command line is one of these: by its first word, and for `config`, which everyday verbs have too, by
    /// its second.
    pub fn is_meant(words: &[String]) -> bool {
        use clap::CommandFactory;
        let first = words.get(1).map(String::as_str).unwrap_or_default();
        let command = Self::command();
        let Some(found) = command.get_subcommands().find(|c| c.get_name() == first) else { return false };
        let second = words.get(2).map(String::as_str).unwrap_or_default();
        first != "config" || found.get_subcommands().any(|c| c.get_name() == second)
    }
}

/// Runs the parsed command; the exit code is what is returned.
///
/// # Errors
/// In a sentence for the user.
pub fn run(cli: Machine) -> Result<i32> {
    match cli.command {
        MachineCommand::Lab(command) => lab(command),
        MachineCommand::Supervise(args) => coxctl_machine::supervisor::supervise(args),
        MachineCommand::Image(ImageCommand::Pack {
            tag,
            out,
            busybox,
            libraries,
            entrypoint,
            cmd,
            user,
            files,
        }) => {
            let files = files.iter().map(|f| source(f)).collect();
            image::pack(
                &image::Recipe { tags: tag, files, busybox, libraries, entrypoint, cmd, user },
                &out,
            )?;
            Ok(0)
        }
        MachineCommand::Cluster(command) => block_on(coxctl_cluster::run(command)),
        MachineCommand::Bundle(command) => block_on(coxctl_machine::bundle::run(command)),
    }
}

/// Runs a command that waits for others, on two threads.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(work);
    // A look-up of a name that was given up goes on in a thread of its own; nobody waits for it.
    runtime.shutdown_background();
    result
}

fn source(text: &str) -> (PathBuf, String) {
    let (from, to) = text.split_once(':').unwrap_or((text, ""));
    let name = Path::new(from).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    (from.into(), if to.is_empty() { name } else { to.to_string() })
}

fn lab(command: LabCommand) -> Result<i32> {
    match command {
        LabCommand::Up(args) => lab_up(args)?,
        LabCommand::Down(name) => down::down(&name.lab()?)?,
        LabCommand::Status(name) => return Ok(if status::print(&name.lab()?)? { 0 } else { 1 }),
        LabCommand::LoadImage { files, name } => images::load(&name.lab()?, &name.lab()?.require()?, &files)?,
        LabCommand::Exec { name, node: wanted, command } => {
            let lab = name.lab()?;
            node::exec(&lab, find(&lab.require()?, &wanted)?, &command)?;
        }
        LabCommand::Stop { name, node: wanted } => {
            let lab = name.lab()?;
            node::stop(&lab, find(&lab.require()?, &wanted)?)?;
        }
        LabCommand::Start { name, node: wanted } => {
            let lab = name.lab()?;
            let spec = lab.require()?;
            let node = find(&spec, &wanted)?;
            if node::init_pid(&lab, node).is_none() {
                up::start_node(&lab, node)?;
            }
        }
        LabCommand::NodeStart { name, node: wanted } => node::become_node(&name.lab()?, &wanted)?,
        LabCommand::NodeInit { dir } => init::run(&dir)?,
        LabCommand::Forward(name) => forward::run(&name.lab()?)?,
    }
    Ok(0)
}

fn lab_up(args: UpArgs) -> Result<()> {
    let lab = args.name.lab()?;
    let home = install_dir()?;
    let options = up::Options {
        nodes: args.nodes,
        control_planes: args.control_planes,
        bare: args.bare,
        publish: args.publish,
        images: args.images.or_else(|| (!args.bare).then(|| home.join("images"))),
        bin_dir: args.bin_dir.unwrap_or(home),
        kubeconfig: args.kubeconfig.unwrap_or_else(kubeconfig::user_path),
    };
    block_on(up::up(&lab, &options))
}

/// Where the daemons' programs and images lie: beside the program itself, or in the library directory of its prefix.
fn install_dir() -> Result<PathBuf> {
    let me = std::env::current_exe().context("finding coxctl")?;
    let beside = me.parent().context("coxctl has no directory")?;
    let library = beside.join("../lib/coxswain");
    Ok(if library.join("kubelet").exists() { library.canonicalize()? } else { beside.to_path_buf() })
}

impl Name {
    fn lab(&self) -> Result<Lab> {
        Lab::named(&self.name)
    }
}

fn find<'a>(spec: &'a Spec, name: &str) -> Result<&'a NodeSpec> {
    let names: Vec<&str> = spec.nodes.iter().map(|n| n.name.as_str()).collect();
    spec.nodes
        .iter()
        .find(|n| n.name == name)
        .with_context(|| format!("no node is named {name:?}; there are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        use clap::CommandFactory;
        Machine::command().debug_assert();
        assert!(Machine::try_parse_from(["coxctl", "lab", "exec", "worker-1", "--", "ip", "route"]).is_ok());
        assert!(Machine::try_parse_from(["coxctl", "lab", "exec", "worker-1"]).is_err());
    }

    #[test]
    fn config_belongs_to_two_grammars() {
        let meant = |line: &str| Machine::is_meant(&line.split(' ').map(str::to_string).collect::<Vec<_>>());
        assert!(meant("coxctl init") && meant("coxctl config print init-defaults"));
        assert!(!meant("coxctl config view") && !meant("coxctl get pods") && !meant("coxctl"));
    }

    #[test]
    fn files_go_to_their_own_name_unless_told() {
        assert_eq!(source("/a/b"), ("/a/b".into(), "b".into()));
        assert_eq!(source("/a/b:/c/d"), ("/a/b".into(), "/c/d".into()));
    }
}
