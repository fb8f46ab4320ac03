//! `run`: one pod from an image.

use crate::delete::{Deletion, delete_and_wait, propagation};
use crate::flags::{DryRun, DryRunFlag, duration, error, usage, write};
use crate::output::Printer;
use crate::overrides::{self, Overrides};
use crate::target::from_document;
use crate::typed;
use anyhow::Result;
use coxctl_kit::print::PrintArgs;
use coxctl_kit::{Cluster, Globals, out};
use serde_json::{Map, Value, json};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Flags of `run`.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// NAME
    pub names: Vec<String>,
    /// Annotations to apply to the pod.
    #[arg(long)]
    pub annotations: Vec<String>,
    /// If true, wait for the Pod to start running, and then attach to the Pod.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub attach: Option<bool>,
    /// The deletion cascading strategy for dependents: "background", "orphan", or "foreground".
    #[arg(long, default_value = "background", num_args = 0..=1, require_equals = true, default_missing_value = "background")]
    pub cascade: String,
    /// If true and extra arguments are present, use them as the 'command' field in the container.
    #[arg(long)]
    pub command: bool,
    #[command(flatten)]
    pub dry_run: DryRunFlag,
    /// Environment variables to set in the container.
    #[arg(long)]
    pub env: Vec<String>,
    /// If true, create a ClusterIP service associated with the pod. Requires `--port`.
    #[arg(long)]
    pub expose: bool,
    /// Name of the manager used to track field ownership.
    #[arg(long, default_value = "kubectl-run")]
    pub field_manager: String,
    /// If true, immediately remove resources from API and bypass graceful deletion.
    #[arg(long)]
    pub force: bool,
    /// Period of time in seconds given to the resource to terminate gracefully.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub grace_period: i64,
    /// The image for the container to run.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub image: String,
    /// The image pull policy for the container.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub image_pull_policy: String,
    /// Comma separated labels to apply to the pod. Will override previous values.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub labels: String,
    /// If the pod is started in interactive mode or with stdin, leave stdin open after the first attach completes.
    #[arg(long)]
    pub leave_stdin_open: bool,
    #[command(flatten)]
    pub overrides: Overrides,
    /// The length of time to wait until at least one pod is running.
    #[arg(long, default_value = "1m0s")]
    pub pod_running_timeout: String,
    /// The port that this container exposes.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub port: String,
    /// If true, run the container in privileged mode.
    #[arg(long)]
    pub privileged: bool,
    /// If true, suppress prompt messages.
    #[arg(short, long)]
    pub quiet: bool,
    /// The restart policy for this Pod. Legal values [Always, OnFailure, Never].
    #[arg(long, default_value = "Always")]
    pub restart: String,
    /// If true, delete the pod after it exits. Only valid when attaching to the container.
    #[arg(long)]
    pub rm: bool,
    /// If true, the configuration of current object will be saved in its annotation.
    #[arg(long)]
    pub save_config: bool,
    /// Keep stdin open on the container in the pod, even if nothing is attached.
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// The length of time to wait before giving up on a delete.
    #[arg(long, default_value = "0s")]
    pub timeout: String,
    /// Allocate a TTY for the container in the pod.
    #[arg(short, long)]
    pub tty: bool,
    /// If true, wait for resources to be gone before returning.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub out: PrintArgs,
    /// Arguments, or with --command the command.
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

/// What is to be attached to.
#[derive(Clone)]
pub struct Attachment {
    pub cluster: Cluster,
    pub namespace: String,
    /// The created pod.
    pub pod: Value,
    pub container: String,
    pub stdin: bool,
    pub tty: bool,
    pub quiet: bool,
    /// How long the pod may take to run.
    pub running_timeout: Duration,
}

/// Waits for the pod to run, joins its streams with ours until it ends, and gives the exit code. Attaching is
/// another crate's work; whoever joins the two hands this in.
pub type Attach = Box<dyn Fn(Attachment) -> Pin<Box<dyn Future<Output = Result<i32>> + Send>> + Send + Sync>;

impl Flags {
    fn attached(&self) -> bool {
        self.attach.unwrap_or(self.stdin)
    }

    fn check(&self, dry: DryRun) -> Result<&str> {
        let usage = |text: &str| usage(text, "run");
        crate::flags::require(&[("image", !self.image.is_empty())])?;
        let name = self.names.first().ok_or_else(|| usage("NAME is required for run"))?;
        if duration(&self.pod_running_timeout)?.is_none() {
            return Err(error("--pod-running-timeout must be higher than zero"));
        }
        if !valid_image(&self.image) {
            return Err(error(format!("Invalid image name {:?}: invalid reference format", self.image)));
        }
        if self.tty && !self.stdin {
            return Err(usage("-i/--stdin is required for containers with -t/--tty=true"));
        }
        if self.expose && self.port.is_empty() {
            return Err(usage("--port must be set when exposing a service"));
        }
        if self.rm && !self.attached() {
            return Err(usage("--rm should only be used for attached containers"));
        }
        if self.attached() && dry != DryRun::None {
            return Err(usage(
                "--dry-run=[server|client] can't be used with attached containers options (--attach, --stdin, or --tty)",
            ));
        }
        if !matches!(self.restart.as_str(), "Always" | "OnFailure" | "Never") {
            return Err(usage(&format!("invalid restart policy: {}", self.restart)));
        }
        if !matches!(self.image_pull_policy.as_str(), "" | "Always" | "IfNotPresent" | "Never") {
            return Err(error(format!("invalid image pull policy: {}", self.image_pull_policy)));
        }
        Ok(name)
    }

    /// The Pod.
    fn build(&self, name: &str) -> Result<Value> {
        let mut metadata = json!({"name": name, "labels": self.labels(name)?});
        let annotations = pairs(&self.annotations, "annotation")?;
        if !annotations.is_empty() {
            metadata["annotations"] = Value::Object(annotations);
        }
        let spec = json!({
            "containers": [self.container(name)?],
            "dnsPolicy": "ClusterFirst",
            "restartPolicy": self.restart,
        });
        Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
    }

    fn labels(&self, name: &str) -> Result<Map<String, Value>> {
        if self.labels.is_empty() {
            return Ok(Map::from_iter([("run".to_string(), json!(name))]));
        }
        let listed: Vec<String> = self.labels.split(',').map(str::to_string).collect();
        pairs(&listed, "label")
    }

    fn container(&self, name: &str) -> Result<Value> {
        let mut container = json!({"name": name, "image": self.image});
        if !self.arguments.is_empty() {
            container[if self.command { "command" } else { "args" }] = json!(self.arguments);
        }
        let env: Vec<Value> = self.env.iter().map(|text| env(text)).collect::<Result<_>>()?;
        if !env.is_empty() {
            container["env"] = Value::Array(env);
        }
        if !self.port.is_empty() {
            container["ports"] = json!([{"containerPort": number(&self.port)?}]);
        }
        if !self.image_pull_policy.is_empty() {
            container["imagePullPolicy"] = json!(self.image_pull_policy);
        }
        if self.privileged {
            container["securityContext"] = json!({"privileged": true});
        }
        if self.stdin {
            container["stdin"] = json!(true);
            container["stdinOnce"] = json!(!self.leave_stdin_open);
        }
        if self.tty {
            container["tty"] = json!(true);
        }
        Ok(container)
    }

    /// The Service of `--expose`.
    fn service(&self, name: &str) -> Result<Value> {
        let port = number(&self.port)?;
        let ports = json!([{"port": port, "protocol": "TCP", "targetPort": port}]);
        let spec = json!({"selector": self.labels(name)?, "ports": ports});
        Ok(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}))
    }
}

fn number(text: &str) -> Result<i32> {
    text.parse().map_err(|_| error(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
}

fn pairs(texts: &[String], what: &str) -> Result<Map<String, Value>> {
    let pair = |text: &String| {
        let split = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = split.ok_or_else(|| error(format!("unexpected {what}: {text}")))?;
        Ok((key.to_string(), json!(value)))
    };
    texts.iter().map(pair).collect()
}

fn env(text: &str) -> Result<Value> {
    let split = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = split.ok_or_else(|| error(format!("invalid env: {text}")))?;
    if !machinery::names::is_env_var_name(key).is_empty() {
        return Err(error(format!("invalid env: {text}")));
    }
    Ok(json!({"name": key, "value": value}))
}

/// Whether text can be an image's name: lower-case segments, then a tag or digest.
fn valid_image(image: &str) -> bool {
    let path = image.split_once('@').map_or(image, |(path, _)| path);
    let (name, tag) = match path.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (path, None),
    };
    let segments: Vec<&str> = name.split('/').collect();
    let plain = |segment: &&str, host: bool| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        !segment.is_empty()
            && segment.chars().all(|c| allowed(c) || (host && (c == ':' || c.is_ascii_uppercase())))
    };
    let last = segments.len().saturating_sub(1);
    let named = segments.iter().enumerate().all(|(at, s)| plain(s, at == 0 && last > 0));
    named
        && tag.is_none_or(|t| {
            !t.is_empty() && t.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        })
}

/// Runs the verb.
pub async fn run(flags: &Flags, globals: &Globals, attach: Option<&Attach>) -> Result<i32> {
    let dry = flags.dry_run.parse()?;
    let name = flags.check(dry)?;
    let printer = Printer::new(&flags.out, dry)?.typed();
    let pod = overrides::apply(&flags.build(name)?, &flags.overrides)?;
    let service = if flags.expose { Some(flags.service(name)?) } else { None };
    let cluster = globals.connect().await?;
    for object in service.iter() {
        let made = create(flags, &cluster, dry, object).await?;
        printer.done(&made, "created")?;
        separate(flags);
    }
    let made = create(flags, &cluster, dry, &pod).await?;
    if !flags.attached() {
        printer.done(&made, "created")?;
        return Ok(0);
    }
    let Some(attach) = attach else { return Err(error("attaching is not possible here")) };
    attach_and_clean(flags, &cluster, made, service, attach).await
}

/// A Service and a pod in YAML are kept apart once more than a printer would.
fn separate(flags: &Flags) {
    if flags.out.output.as_deref() == Some("yaml") {
        out::line("---");
    }
}

async fn create(flags: &Flags, cluster: &Cluster, dry: DryRun, object: &Value) -> Result<Value> {
    let mut object = typed::canonical(object);
    if cluster.namespace_given {
        object["metadata"]["namespace"] = json!(cluster.namespace);
    }
    if flags.save_config {
        let text = typed::compact(&object) + "\n";
        object = crate::annotation::with_last_applied(object, &text);
    }
    if dry == DryRun::Client {
        return Ok(object);
    }
    let kind = crate::create::generate::builtin(&object)
        .ok_or_else(|| error("the overridden object is of no known kind"))?;
    let write = write(&flags.field_manager, dry, None);
    Ok(cluster.create(&kind, Some(&cluster.namespace), &object, &write).await?)
}

async fn attach_and_clean(
    flags: &Flags,
    cluster: &Cluster,
    pod: Value,
    service: Option<Value>,
    attach: &Attach,
) -> Result<i32> {
    let container = pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default().to_string();
    let attachment = Attachment {
        cluster: cluster.clone(),
        namespace: cluster.namespace.clone(),
        pod: pod.clone(),
        container,
        stdin: flags.stdin,
        tty: flags.tty,
        quiet: flags.quiet,
        running_timeout: duration(&flags.pod_running_timeout)?.unwrap_or(Duration::from_secs(60)),
    };
    let ended = attach(attachment).await;
    if flags.rm {
        remove(flags, cluster, [Some(pod), service]).await?;
    }
    ended
}

async fn remove(flags: &Flags, cluster: &Cluster, objects: [Option<Value>; 2]) -> Result<()> {
    let grace = if flags.force && flags.grace_period < 0 { 0 } else { flags.grace_period };
    let options =
        Deletion { propagation: propagation(&flags.cascade)?, grace: Some(grace).filter(|g| *g >= 0) };
    for object in objects.into_iter().flatten() {
        let mut target = from_document(object, String::new());
        target.namespace = Some(cluster.namespace.clone());
        delete_and_wait(cluster, &target, &options, duration(&flags.timeout)?).await?;
        if !flags.quiet {
            let place = format!(" from {} namespace", cluster.namespace);
            out::line(&format!("{} {:?} deleted{place}", target.kind.printed(), target.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        for (image, want) in [
            ("nginx", true),
            ("a/b:1.2", true),
            ("r.io:5000/a/b", true),
            ("a@sha256:00", true),
            ("Bad Image", false),
            ("Nginx", false),
            ("a:", false),
            ("a//b", false),
            ("", false),
        ] {
            assert_eq!(valid_image(image), want, "{image}");
        }
    }

    #[test]
    fn environment() {
        assert_eq!(env("A=b=c").ok(), Some(json!({"name": "A", "value": "b=c"})));
        assert!(env("A").is_err() && env("=a").is_err());
    }
}
