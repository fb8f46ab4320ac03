//! `debug`: a container beside those of a pod, a changed copy of a pod, or a pod on a node, to look around.

mod flags;
mod make;
mod profile;

pub use flags::Debug;

use crate::attach::Wishes;
use crate::dig;
use crate::session;
use crate::target;
use coxctl_kit::files::FileArgs;
use coxctl_kit::pick::Pick;
use coxctl_kit::{Call, Cluster, Error, Globals, PatchType, Result, Write, out};
use make::Target;
use profile::{Keep, Profile};
use serde_json::{Value, json};

/// Runs the verb.
///
/// # Errors
/// As kubectl's.
pub async fn run(args: Debug, globals: &Globals) -> Result<()> {
    let profile = Profile::named(&args.profile)
        .ok_or_else(|| Error::message(format!("unknown profile: {}", args.profile)))?;
    let custom = custom(&args)?;
    flags::check(&args)?;
    let cluster = globals.connect().await?;
    for object in objects(&cluster, &args).await? {
        let work = Work { cluster: &cluster, args: &args, profile, custom: custom.as_ref() };
        let (pod, container) = match dig::text(&object, "kind") {
            "Node" => work.on_node(&object).await?,
            "Pod" if args.copy_to.is_empty() => work.beside(object).await?,
            "Pod" => work.in_a_copy(object).await?,
            kind => return Err(unsupported(dig::text(&object, "apiVersion"), kind)),
        };
        if args.attach.unwrap_or(args.stdin) && !container.is_empty() {
            work.attach(&pod, &container).await?;
        }
    }
    Ok(())
}

fn unsupported(api_version: &str, kind: &str) -> Error {
    let version = if api_version.contains('/') { api_version.to_string() } else { format!("/{api_version}") };
    Error::message(format!("\"{version}, Kind={kind}\" not supported by debug"))
}

async fn objects(cluster: &Cluster, args: &Debug) -> Result<Vec<Value>> {
    if !args.filename.is_empty() {
        let files = FileArgs { filename: args.filename.clone(), ..FileArgs::default() };
        let items = Pick { files, ..Pick::default() }.items(cluster, true).await?.all()?;
        return Ok(items.into_iter().filter_map(|item| item.object).collect());
    }
    let mut objects = Vec::new();
    for word in &args.targets {
        objects.push(target::object(cluster, std::slice::from_ref(word)).await?);
    }
    Ok(objects)
}

/// The partial container of `--custom`.
fn custom(args: &Debug) -> Result<Option<Value>> {
    let Some(path) = &args.custom else { return Ok(None) };
    let named = path.display();
    let text = std::fs::read_to_string(path).map_err(|cause| {
        let why = coxctl_kit::files::os_text(&cause);
        Error::message(format!(
            "must pass a container spec json file for custom profile: open {named}: {why}"
        ))
    })?;
    let spec: Value = serde_yaml::from_str(&text).map_err(|error| {
        Error::message(format!("{named} does not contain a valid container spec: {error}"))
    })?;
    if ["name", "command", "image", "lifecycle", "volumeDevices"].iter().any(|field| dig::has(&spec, field)) {
        let text = "name, command, image, lifecycle and volume devices are not modifiable via custom profile";
        return Err(Error::message(text));
    }
    Ok(Some(spec))
}

struct Work<'a> {
    cluster: &'a Cluster,
    args: &'a Debug,
    profile: Profile,
    custom: Option<&'a Value>,
}

impl Work<'_> {
    fn keep(&self) -> Keep {
        let args = self.args;
        Keep {
            labels: args.keep_labels,
            annotations: args.keep_annotations,
            liveness: args.keep_liveness,
            readiness: args.keep_readiness,
            startup: args.keep_startup,
            init_containers: args.keep_init_containers,
        }
    }

    fn say(&self, text: &str) {
        if !self.args.quiet {
            out::line(text);
        }
    }

    /// The name given, else a new one.
    fn name(&self, pod: &Value) -> String {
        if !self.args.container.is_empty() {
            return self.args.container.clone();
        }
        let name = loop {
            let name = format!("debugger-{}", make::suffix());
            if target::container(pod, &name).is_none() {
                break name;
            }
        };
        self.say(&format!("Defaulting debug container name to {name}."));
        name
    }

    async fn on_node(&self, node: &Value) -> Result<(Value, String)> {
        let name = if self.args.container.is_empty() { "debugger" } else { &self.args.container };
        let node_name = dig::text(node, "metadata.name");
        let pod_name = format!("node-debugger-{node_name}-{}", make::suffix());
        self.say(&format!("Creating debugging pod {pod_name} with container {name} on node {node_name}."));
        let mut pod = make::node_pod(self.args, &pod_name, name, node_name);
        self.profile.apply(&mut pod, name, Target::Node, self.keep());
        make::customize(&mut pod, "containers", name, self.custom)?;
        let made = self.create(&pod, &self.cluster.namespace).await?;
        Ok((made, name.into()))
    }

    async fn create(&self, pod: &Value, namespace: &str) -> Result<Value> {
        self.cluster.create(&target::pods(), Some(namespace), pod, &Write::default()).await
    }

    async fn beside(&self, mut pod: Value) -> Result<(Value, String)> {
        let name = self.name(&pod);
        make::add_ephemeral(&mut pod, make::ephemeral(self.args, &name));
        self.profile.apply(&mut pod, &name, Target::Ephemeral, self.keep());
        make::customize(&mut pod, "ephemeralContainers", &name, self.custom)?;
        make::warn(&pod, &name);
        let container =
            target::container(&pod, &name).map(|(container, _)| container).unwrap_or(&Value::Null);
        let patch = json!({"spec": {"ephemeralContainers": [container]}});
        let (namespace, pod_name) = (dig::text(&pod, "metadata.namespace"), dig::text(&pod, "metadata.name"));
        let (kind, how, sub) = (target::pods(), PatchType::Strategic, Some("ephemeralcontainers"));
        let patched =
            self.cluster.patch(&kind, Some(namespace), pod_name, sub, how, &patch, &Write::default()).await;
        let patched = patched.map_err(|error| match error.status() {
            Some(status)
                if error.is_not_found() && status.details["name"].as_str().unwrap_or_default().is_empty() =>
            {
                Error::message(format!(
                    "ephemeral containers are disabled for this cluster (error from server: {:?})",
                    status.message
                ))
            }
            _ => error,
        })?;
        Ok((patched, name))
    }

    async fn in_a_copy(&self, pod: Value) -> Result<(Value, String)> {
        let mut copy = make::copy(self.args, &pod);
        let mut name = self.args.container.clone();
        if target::container(&copy, &name).is_none() {
            if self.args.image.is_empty() && !self.args.set_image.is_empty() {
                name.clear();
            } else if self.args.image.is_empty() {
                return Err(Error::message("you must specify image when creating new container"));
            } else {
                name = self.name(&copy);
                make::add_container(&mut copy, &name);
            }
        }
        if !name.is_empty() {
            make::set_container(&mut copy, &name, self.args);
            self.profile.apply(&mut copy, &name, Target::Copy, self.keep());
            make::customize(&mut copy, "containers", &name, self.custom)?;
            make::warn(&copy, &name);
        }
        let namespace = dig::text(&pod, "metadata.namespace");
        let made = self.create(&copy, namespace).await?;
        if self.args.replace {
            let path = target::pods().path(Some(namespace), Some(dig::text(&pod, "metadata.name")), None);
            self.cluster
                .send(Call::new(http::Method::DELETE, path).json(&json!({"gracePeriodSeconds": 0})))
                .await?;
        }
        Ok((made, name))
    }

    async fn attach(&self, pod: &Value, container: &str) -> Result<()> {
        let (namespace, name) = (dig::text(pod, "metadata.namespace"), dig::text(pod, "metadata.name"));
        let started = |pod: &Value| {
            let state = make::state(pod, container);
            let message = dig::text(&state, "waiting.message");
            if !self.args.quiet && !message.is_empty() {
                out::note(&format!("Warning: container {container}: {message}"));
            }
            dig::has(&state, "running") || dig::has(&state, "terminated")
        };
        let pod = session::wait(self.cluster, namespace, name, None, started).await?;
        let over = dig::has(&make::state(&pod, container), "terminated");
        let wishes = Wishes { stdin: self.args.stdin, tty: self.args.tty, quiet: self.args.quiet };
        session::attach_or_print(self.cluster, &pod, Some(container), wishes, over).await
    }
}
