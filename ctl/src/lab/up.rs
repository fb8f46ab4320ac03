//! `lab up`: from nothing, or from whatever an interrupted run left, to a cluster with all nodes Ready.

use std::fs;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client};
use rand::Rng;

use super::spec::{Lab, Publish, Spec};
use super::{cluster, forward, images, machines, network, node, status};
use crate::kubeconfig;

/// How long the whole cluster may take to become Ready.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// Owner of the host's mount points below which nothing is removed when it isn't empty.
const API_PORT: u16 = 6443;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of nodes.
    pub nodes: Option<u8>,
    /// `--publish` as given.
    pub publish: Vec<String>,
    /// How many of them are control planes.
    pub control_planes: Option<u8>,
    /// Machines only, without a cluster.
    pub bare: bool,
    /// Directory of image archives to load into every node.
    pub images: Option<PathBuf>,
    /// Directory of the daemons' programs.
    pub bin_dir: PathBuf,
    /// The user's kubeconfig.
    pub kubeconfig: PathBuf,
}

/// Brings the lab up, or mends it.
///
/// # Errors
/// In words that name the step; the last lines of the component that failed are part of them.
pub async fn up(lab: &Lab, options: &Options) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "a lab needs root: it makes namespaces and mounts");
    let _lock = lab.lock()?;
    let begin = Instant::now();
    let mut spec = plan(lab, options)?;
    let said = Progress::new();
    if !spec.bare
        && spec.nodes.iter().all(|n| node::init_pid(lab, n).is_some())
        && forward::running(lab)
        && all_ready(lab, &spec).await
    {
        kubeconfig_merge(lab, &spec)?;
        println!("Lab {:?} is up: {} nodes Ready, context {}.", lab.name, spec.nodes.len(), spec.context());
        return Ok(());
    }
    said.step("machines", || {
        mount_points(lab, &mut spec)?;
        machines::write_all(lab, &spec)?;
        start_nodes(lab, &spec)
    })?;
    said.step("API server on the host's loopback", || {
        keep_port_free(lab, &mut spec)?;
        forward::start(lab)
    })?;
    if spec.bare {
        load_images(lab, &spec, options)?;
        return machines_up(lab, &spec, begin);
    }
    said.step("init and join, images", || {
        // Images are not needed before the first pod, so they come in while the cluster is made.
        std::thread::scope(|scope| {
            let loading = scope.spawn(|| load_images(lab, &spec, options));
            cluster::make(lab, &spec)?;
            loading.join().unwrap_or_else(|_| bail!("loading images failed"))
        })
    })?;
    let client = client_of(lab, &spec, "admin.conf").await?;
    said.wait("nodes Ready", nodes_ready(lab, &spec, &client)).await?;
    if spec.nodes.len() == 1 {
        take_all(&client, &spec).await?;
    }
    kubeconfig_merge(lab, &spec)?;
    println!(
        "Lab {:?} is up after {:.1} s: {} nodes, context {}, logs in {}.",
        lab.name,
        begin.elapsed().as_secs_f64(),
        spec.nodes.len(),
        spec.context(),
        lab.dir.join("nodes/NODE/logs").display()
    );
    Ok(())
}

/// Alone, the control plane has to answer for addresses of Services too.
async fn take_all(client: &Client, spec: &Spec) -> Result<()> {
    let label = "node.kubernetes.io/exclude-from-external-load-balancers";
    let patch = Patch::Merge(serde_json::json!({"metadata": {"labels": {label: null}}}));
    let api: Api<Node> = Api::all(client.clone());
    let name = &spec.control_plane()?.name;
    api.patch(name, &PatchParams::default(), &patch)
        .await
        .context("letting the node answer for addresses")?;
    Ok(())
}

fn load_images(lab: &Lab, spec: &Spec, options: &Options) -> Result<()> {
    options.images.as_ref().map_or(Ok(()), |dir| images::load_dir(lab, spec, dir))
}

/// A bare lab ends here: what its machines become is for the commands run on them.
fn machines_up(lab: &Lab, spec: &Spec, begin: Instant) -> Result<()> {
    println!(
        "Lab {:?} has {} machines after {:.1} s:",
        lab.name,
        spec.nodes.len(),
        begin.elapsed().as_secs_f64()
    );
    for node in &spec.nodes {
        println!("  {:<16} {}", node.name, node.ip());
    }
    println!("Enter one with `coxctl lab exec --name {} {} -- bash`.", lab.name, spec.control_plane()?.name);
    Ok(())
}

/// The lab's description: the existing one, or a new one, written before anything is made.
fn plan(lab: &Lab, options: &Options) -> Result<Spec> {
    if let Some(mut spec) = lab.load()? {
        if let Some(n) = options.nodes.filter(|n| usize::from(*n) != spec.nodes.len()) {
            bail!(
                "lab {:?} has {} nodes; `coxctl lab down` before making one of {n}",
                lab.name,
                spec.nodes.len()
            );
        }
        spec.bin_dir = options.bin_dir.clone();
        return Ok(spec);
    }
    let count = options.nodes.unwrap_or(3);
    ensure!((1..=200).contains(&count), "--nodes {count}: want 1 to 200");
    let planes = options.control_planes.unwrap_or(1);
    ensure!(
        (1..=count).contains(&planes),
        "--control-planes {planes}: want 1 to {count}, the number of nodes"
    );
    let nodes = if options.bare { Spec::machines(count) } else { Spec::nodes_of(count, planes) };
    let publish = options.publish.iter().map(|p| Publish::parse(p, &nodes)).collect::<Result<Vec<_>>>()?;
    for program in ["kube-apiserver", "kubelet"] {
        ensure!(
            options.bin_dir.join(program).exists(),
            "no {program} in {}; give --bin-dir",
            options.bin_dir.display()
        );
    }
    let spec = Spec {
        name: lab.name.clone(),
        nodes,
        api_port: free_port()?,
        publish,
        kubeconfig: options.kubeconfig.clone(),
        bin_dir: options.bin_dir.clone(),
        bootstrap_token: new_token(),
        certificate_key: hex::encode(rand::random::<[u8; 32]>()),
        bare: options.bare,
        host_paths: Vec::new(),
    };
    lab.save(&spec)?;
    Ok(spec)
}

/// The usual port if it is free, else any other.
fn free_port() -> Result<u16> {
    try_port(API_PORT).or_else(|_| try_port(0)).context("no port is free on 127.0.0.1")
}

fn try_port(port: u16) -> std::io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.local_addr().map(|a| a.port())
}

/// Another may have taken the port since it was chosen; then the API server moves to a free one.
fn keep_port_free(lab: &Lab, spec: &mut Spec) -> Result<()> {
    if forward::running(lab) || try_port(spec.api_port).is_ok() {
        return Ok(());
    }
    spec.api_port = free_port()?;
    lab.save(spec)
}

fn new_token() -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut rng = rand::rng();
    let mut word =
        |n: usize| (0..n).map(|_| LETTERS[rng.random_range(0..LETTERS.len())] as char).collect::<String>();
    format!("{}.{}", word(6), word(16))
}

/// The host's directories over which nodes mount their own must exist; those made here are written down first, so that
/// `lab down` can take them back.
fn mount_points(lab: &Lab, spec: &mut Spec) -> Result<()> {
    let wanted = machines::own(spec).chain(["/var/log/coxswain", "/etc/machine-id"]);
    let mut missing: Vec<PathBuf> = Vec::new();
    for place in wanted {
        let ancestors: Vec<&Path> = Path::new(place).ancestors().take_while(|p| !p.exists()).collect();
        missing.extend(ancestors.into_iter().rev().map(Path::to_path_buf));
    }
    missing.retain(|p| !spec.host_paths.contains(p));
    if !missing.is_empty() {
        spec.host_paths.extend(missing);
        lab.save(spec)?;
    }
    for path in &spec.host_paths {
        match path.ends_with("machine-id") {
            true => drop(fs::File::options().create(true).append(true).open(path)?),
            false => fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?,
        }
    }
    Ok(())
}

fn start_nodes(lab: &Lab, spec: &Spec) -> Result<()> {
    network::bridge_up(lab)?;
    std::thread::scope(|scope| {
        let down = spec.nodes.iter().filter(|n| node::init_pid(lab, n).is_none());
        let jobs: Vec<_> = down.map(|n| scope.spawn(move || start_node(lab, n))).collect();
        jobs.into_iter().try_for_each(|job| job.join().unwrap_or_else(|_| bail!("starting a node failed")))
    })
}

/// Starts a node that is down, or half of one.
///
/// # Errors
/// When what is left of it can't be cleared, or it does not start.
pub fn start_node(lab: &Lab, node: &super::spec::NodeSpec) -> Result<()> {
    node::stop(lab, node)?;
    fs::create_dir_all(lab.node_dir(node).join("run"))?;
    mount_run(lab, node)?;
    node::start(lab, node)
}

/// The node's /run is memory, made outside so that sockets in it are reachable from the host.
fn mount_run(lab: &Lab, node: &super::spec::NodeSpec) -> Result<()> {
    use nix::mount::{MsFlags, mount};
    let place = lab.node_dir(node).join("run");
    mount(Some("coxswain"), &place, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("mounting {}", place.display()))
}

/// A client with the given kubeconfig of the control plane, through the host's loopback.
async fn client_of(lab: &Lab, spec: &Spec, file: &str) -> Result<Client> {
    let document = host_kubeconfig(lab, spec, file)?;
    let config = kube::config::Kubeconfig::from_yaml(&serde_yaml::to_string(&document)?)?;
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
    Ok(Client::try_from(config)?)
}

fn host_kubeconfig(lab: &Lab, spec: &Spec, file: &str) -> Result<serde_json::Value> {
    let path = lab.node_path(spec.control_plane()?, "/etc/kubernetes").join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut document: serde_json::Value = serde_yaml::from_str(&text)?;
    document["clusters"][0]["cluster"]["server"] = format!("https://127.0.0.1:{}", spec.api_port).into();
    Ok(document)
}

fn kubeconfig_merge(lab: &Lab, spec: &Spec) -> Result<()> {
    kubeconfig::merge_into(&spec.kubeconfig, &spec.context(), &host_kubeconfig(lab, spec, "admin.conf")?)
}

async fn all_ready(lab: &Lab, spec: &Spec) -> bool {
    let check =
        async {
            let api: Api<Node> = Api::all(client_of(lab, spec, "admin.conf").await?);
            let nodes = api.list(&Default::default()).await?;
            anyhow::Ok(spec.nodes.iter().all(|n| {
                nodes.iter().any(|x| x.metadata.name.as_ref() == Some(&n.name) && status::is_ready(x))
            }))
        };
    matches!(tokio::time::timeout(Duration::from_secs(5), check).await, Ok(Ok(true)))
}

async fn nodes_ready(lab: &Lab, spec: &Spec, client: &Client) -> Result<()> {
    for node in &spec.nodes {
        let ready = await_condition(Api::all(client.clone()), &node.name, node_is_ready());
        let waited = tokio::time::timeout(READY_LIMIT, ready).await;
        if !matches!(waited, Ok(Ok(_))) {
            let log = fs::read_to_string(lab.node_dir(node).join("logs/kubelet.log")).unwrap_or_default();
            bail!(
                "node {} is not Ready after {READY_LIMIT:?}; kubelet's last words:\n{}",
                node.name,
                node::tail(&log, 8)
            );
        }
    }
    Ok(())
}

fn node_is_ready() -> impl Condition<Node> {
    |node: Option<&Node>| node.is_some_and(status::is_ready)
}

/// One line per step: a spinner on a terminal, a plain line in a pipe.
struct Progress {
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal() }
    }

    fn bar(&self, what: &str) -> indicatif::ProgressBar {
        let bar = if self.terminal {
            indicatif::ProgressBar::new_spinner()
        } else {
            indicatif::ProgressBar::hidden()
        };
        bar.set_message(what.to_string());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    fn done(&self, what: &str, bar: &indicatif::ProgressBar, begin: Instant, good: bool) {
        bar.finish_and_clear();
        let mark = if good { "✓" } else { "✗" };
        eprintln!(" {mark} {what} ({:.1} s)", begin.elapsed().as_secs_f64());
    }

    fn step<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (bar, begin) = (self.bar(what), Instant::now());
        let result = work();
        self.done(what, &bar, begin, result.is_ok());
        result.with_context(|| what.to_string())
    }

    async fn wait<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let (bar, begin) = (self.bar(what), Instant::now());
        let result = work.await;
        self.done(what, &bar, begin, result.is_ok());
        result.with_context(|| what.to_string())
    }
}
