//! The generators' flags, and which object each makes.

use super::CreateKind;
use super::config::{self, Registry, Sources};
use super::generate::{Generated, Options};
use super::rbac::{self, ClusterRules, Rules, Subjects, Wanted};
use super::service::{self, Flavour, Ports};
use super::{ingress, policy, workload};
use crate::flags::{error, one_name, require};
use anyhow::Result;
use coxctl_kit::{Globals, out};
use serde_json::{Value, json};

macro_rules! generator {
    ($(#[$doc:meta])* $name:ident { $($(#[$flag:meta])* $field:ident: $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(clap::Args, Clone, Debug)]
        #[group(skip)]
        pub struct $name {
            /// NAME
            #[arg(value_name = "NAME")]
            pub names: Vec<String>,
            $($(#[$flag])* pub $field: $ty,)*
            #[command(flatten)]
            pub options: Options,
        }
    };
}

generator! {
    /// `create clusterrole`.
    ClusterRole { #[command(flatten)] rules: ClusterRules }
}
generator! {
    /// `create clusterrolebinding`.
    ClusterRoleBinding {
        /// ClusterRole this ClusterRoleBinding should reference.
        #[arg(long, default_value = "", hide_default_value = true)] clusterrole: String,
        #[command(flatten)] subjects: Subjects,
    }
}
generator! {
    /// `create configmap`.
    ConfigMap { #[command(flatten)] sources: Sources }
}
generator! {
    /// `create cronjob`.
    CronJob { #[command(flatten)] flags: workload::CronJob }
}
generator! {
    /// `create deployment`.
    Deployment { #[command(flatten)] flags: workload::Deployment }
}
generator! {
    /// `create ingress`.
    Ingress { #[command(flatten)] flags: ingress::Ingress }
}
generator! {
    /// `create job`.
    Job { #[command(flatten)] flags: workload::Job }
}
generator! {
    /// `create namespace`.
    Namespace {}
}
generator! {
    /// `create poddisruptionbudget`.
    Budget { #[command(flatten)] flags: policy::Budget }
}
generator! {
    /// `create priorityclass`.
    Priority { #[command(flatten)] flags: policy::Priority }
}
generator! {
    /// `create quota`.
    Quota { #[command(flatten)] flags: policy::Quota }
}
generator! {
    /// `create role`.
    Role { #[command(flatten)] rules: Rules }
}
generator! {
    /// `create rolebinding`.
    RoleBinding {
        /// ClusterRole this RoleBinding should reference.
        #[arg(long, default_value = "", hide_default_value = true)] clusterrole: String,
        /// Role this RoleBinding should reference.
        #[arg(long, default_value = "", hide_default_value = true)] role: String,
        #[command(flatten)] subjects: Subjects,
    }
}
generator! {
    /// `create serviceaccount`.
    ServiceAccount {}
}
generator! {
    /// `create secret generic`.
    GenericSecret {
        #[command(flatten)] sources: Sources,
        /// The type of secret to create.
        #[arg(long = "type", default_value = "", hide_default_value = true)] kind: String,
    }
}
generator! {
    /// `create secret tls`.
    TlsSecret {
        /// Path to PEM encoded public key certificate.
        #[arg(long, default_value = "", hide_default_value = true)] cert: String,
        /// Path to private key associated with given certificate.
        #[arg(long, default_value = "", hide_default_value = true)] key: String,
        /// Append a hash of the secret to its name.
        #[arg(long)] append_hash: bool,
    }
}
generator! {
    /// `create secret docker-registry`.
    RegistrySecret { #[command(flatten)] flags: Registry }
}
generator! {
    /// `create service clusterip`.
    ClusterIp {
        #[command(flatten)] ports: Ports,
        /// Assign your own ClusterIP or set to 'None' for a 'headless' service (no loadbalancing).
        #[arg(long, default_value = "", hide_default_value = true)] clusterip: String,
    }
}
generator! {
    /// `create service nodeport`.
    NodePort {
        #[command(flatten)] ports: Ports,
        /// Port used to expose the service on each node in a cluster.
        #[arg(long, default_value_t = 0)] node_port: i64,
    }
}
generator! {
    /// `create service loadbalancer`.
    LoadBalancer { #[command(flatten)] ports: Ports }
}
generator! {
    /// `create service externalname`.
    ExternalName {
        #[command(flatten)] ports: Ports,
        /// External name of service.
        #[arg(long, default_value = "", hide_default_value = true)] external_name: String,
    }
}

/// `create secret TYPE`.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Secret {
    /// Create a secret for use with a Docker registry.
    DockerRegistry(RegistrySecret),
    /// Create a secret from a local file, directory, or literal value.
    Generic(GenericSecret),
    /// Create a TLS secret.
    Tls(TlsSecret),
}

/// `create service TYPE`.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Service {
    /// Create a ClusterIP service.
    #[command(name = "clusterip")]
    ClusterIp(ClusterIp),
    /// Create an ExternalName service.
    #[command(name = "externalname")]
    ExternalName(ExternalName),
    /// Create a LoadBalancer service.
    #[command(name = "loadbalancer")]
    LoadBalancer(LoadBalancer),
    /// Create a NodePort service.
    #[command(name = "nodeport")]
    NodePort(NodePort),
}

/// Makes the object and sends it.
pub async fn run(kind: CreateKind, globals: &Globals) -> Result<i32> {
    use CreateKind as K;
    let (options, made) = match kind {
        K::ClusterRole(f) => cluster_role(f, globals).await?,
        K::ClusterRoleBinding(f) => {
            require(&[("clusterrole", !f.clusterrole.is_empty())])?;
            let name = one_name(&f.names, "create clusterrolebinding")?;
            let subjects = f.subjects.build()?;
            let made = rbac::binding("ClusterRoleBinding", name, ("ClusterRole", &f.clusterrole), subjects);
            (f.options, Generated::new(made, "failed to create clusterrolebinding:"))
        }
        K::ConfigMap(f) => {
            let name = one_name(&f.names, "create configmap")?;
            let made = config::config_map(name, globals.namespace.as_deref(), &f.sources)?;
            (f.options, Generated::new(made, "failed to create configmap:"))
        }
        K::CronJob(f) => {
            require(&[("image", !f.flags.image.is_empty()), ("schedule", !f.flags.schedule.is_empty())])?;
            let made = f.flags.build(one_name(&f.names, "create cronjob")?);
            (f.options, Generated::new(made, "failed to create cronjob:"))
        }
        K::Deployment(f) => {
            require(&[("image", !f.flags.image.is_empty())])?;
            let made = f.flags.build(one_name(&f.names, "create deployment")?)?;
            (f.options, Generated::new(made, "failed to create deployment:"))
        }
        K::Ingress(f) => {
            let made = f.flags.build(one_name(&f.names, "create ingress")?, None)?;
            (f.options, Generated::new(made, "failed to create ingress:"))
        }
        K::Job(f) => job(f, globals).await?,
        K::Namespace(f) => {
            let name = one_name(&f.names, "create namespace")?;
            let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            (f.options, Generated::new(made, ""))
        }
        K::PodDisruptionBudget(f) => {
            let made = f.flags.build(one_name(&f.names, "create poddisruptionbudget")?)?;
            (f.options, Generated::new(made, "failed to create poddisruptionbudgets:"))
        }
        K::PriorityClass(f) => {
            let made = f.flags.build(one_name(&f.names, "create priorityclass")?);
            (f.options, Generated::new(made, "failed to create priorityclass:"))
        }
        K::Quota(f) => {
            let made = f.flags.build(one_name(&f.names, "create quota")?)?;
            (f.options, Generated::new(made, "failed to create quota:"))
        }
        K::Role(f) => role(f, globals).await?,
        K::RoleBinding(f) => role_binding(f)?,
        K::Secret(f) => secret(f, globals)?,
        K::Service(f) => service(f)?,
        K::ServiceAccount(f) => {
            let name = one_name(&f.names, "create serviceaccount")?;
            let made = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
            (f.options, Generated::new(made, "failed to create serviceaccount:"))
        }
        K::Token(_) => return Ok(0),
    };
    options.finish(globals, made).await.map(|_| 0)
}

type Made = Result<(Options, Generated)>;

async fn job(f: Job, globals: &Globals) -> Made {
    f.flags.check()?;
    let name = one_name(&f.names, "create job")?;
    let failed = "failed to create job:";
    if f.flags.from.is_empty() {
        return Ok((f.options.clone(), Generated::new(f.flags.build(name), failed)));
    }
    let cluster = globals.connect().await?;
    let args = [f.flags.from.clone()];
    let chosen = crate::target::Select { args: &args, ..Default::default() };
    let mut found = crate::target::select(&cluster, &chosen).await?;
    let Some(from) = found.pop() else { return Err(error("from must be an existing cronjob")) };
    let from = from?;
    if from.kind.kind != "CronJob" {
        return Err(error("from must be an existing cronjob"));
    }
    Ok((f.options, Generated::new(workload::job_of_cron_job(name, &from.object), failed)))
}

/// Looks each resource up on the server, so that rules hold its group and plural name.
async fn resolve(wanted: Vec<Wanted>, globals: &Globals) -> Result<Vec<Wanted>> {
    if wanted.iter().all(|w| w.resource == "*") {
        return Ok(wanted);
    }
    let cluster = globals.connect().await?;
    let mut out = Vec::new();
    for one in wanted {
        if one.resource == "*" {
            out.push(one);
            continue;
        }
        let dot = if one.group.is_empty() { "" } else { "." };
        let kind = cluster.kind(&format!("{}{dot}{}", one.resource, one.group)).await;
        let kind =
            kind.map_err(|e| if e.status().is_none() { coxctl_kit::Error::Plain(e.to_string()) } else { e })?;
        out.push(Wanted { group: kind.group, resource: kind.plural, subresource: one.subresource });
    }
    Ok(out)
}

async fn role(f: Role, globals: &Globals) -> Made {
    let name = one_name(&f.names, "create role")?;
    let warnings = f.rules.check()?;
    let resolved = resolve(rbac::wanted(&f.rules.resource), globals).await?;
    warnings.iter().for_each(|w| out::note(w));
    Ok((f.options, Generated::new(rbac::role("Role", name, f.rules.build(&resolved)), "")))
}

async fn cluster_role(f: ClusterRole, globals: &Globals) -> Made {
    let name = one_name(&f.names, "create clusterrole")?;
    let warnings = f.rules.check()?;
    let resolved = resolve(rbac::wanted(&f.rules.rules.resource), globals).await?;
    warnings.iter().for_each(|w| out::note(w));
    Ok((f.options, Generated::new(f.rules.build(name, &resolved), "")))
}

fn role_binding(f: RoleBinding) -> Made {
    let name = one_name(&f.names, "create rolebinding")?;
    let role = match (f.role.as_str(), f.clusterrole.as_str()) {
        (role, "") if !role.is_empty() => ("Role", role),
        ("", role) if !role.is_empty() => ("ClusterRole", role),
        _ => return Err(error("exactly one of clusterrole or role must be specified")),
    };
    let made = rbac::binding("RoleBinding", name, role, f.subjects.build()?);
    Ok((f.options, Generated::new(made, "failed to create rolebinding:")))
}

fn secret(command: Secret, globals: &Globals) -> Made {
    let namespace = globals.namespace.as_deref();
    let (options, made): (Options, Value) = match command {
        Secret::Generic(f) => {
            let name = one_name(&f.names, "create secret generic")?;
            (f.options.clone(), config::secret(name, namespace, &f.kind, &f.sources)?)
        }
        Secret::Tls(f) => {
            let name = one_name(&f.names, "create secret tls")?;
            (f.options.clone(), config::tls_secret(name, namespace, &f.cert, &f.key, f.append_hash)?)
        }
        Secret::DockerRegistry(f) => {
            let name = one_name(&f.names, "create secret docker-registry")?;
            (f.options.clone(), config::registry_secret(name, namespace, &f.flags)?)
        }
    };
    Ok((options, Generated::new(made, "failed to create secret")))
}

fn service(command: Service) -> Made {
    let (options, names, ports, flavour, failed) = match &command {
        Service::ClusterIp(f) => (
            &f.options,
            &f.names,
            &f.ports,
            Flavour::ClusterIp(&f.clusterip),
            "failed to create ClusterIP service:",
        ),
        Service::NodePort(f) => (
            &f.options,
            &f.names,
            &f.ports,
            Flavour::NodePort(f.node_port),
            "failed to create NodePort service:",
        ),
        Service::LoadBalancer(f) => {
            (&f.options, &f.names, &f.ports, Flavour::LoadBalancer, "failed to create LoadBalancer service:")
        }
        Service::ExternalName(f) => {
            require(&[("external-name", !f.external_name.is_empty())])?;
            (
                &f.options,
                &f.names,
                &f.ports,
                Flavour::ExternalName(&f.external_name),
                "failed to create ExternalName service:",
            )
        }
    };
    let made = service::build(one_name(names, "create service")?, ports, &flavour)?;
    Ok((options.clone(), Generated::new(made, failed)))
}
