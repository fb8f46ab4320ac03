//! From flags and kubeconfig files to a client.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, header};
use kube::config::{AuthInfo, Cluster as ClusterInfo, Context, KubeConfigOptions, Kubeconfig};
use kube::config::{NamedAuthInfo, NamedCluster, NamedContext};

use crate::{Cluster, Error, Globals, Result, kubeconfig};

/// The address used when nothing names a server, as kubectl's.
const NOWHERE: &str = "http://localhost:8080";
/// Names of the entries the flags make when the kubeconfig has none.
const OWN: &str = "";

impl Globals {
    /// The cluster that flags, environment and files describe. Nothing is sent yet.
    pub async fn connect(&self) -> Result<Cluster> {
        daemon::init_crypto();
        let merged = kubeconfig::merged(self)?;
        let (config, chosen) = match in_cluster(self, &merged) {
            Some(config) => (config, None),
            None => from_files(self, merged).await?,
        };
        build(self, config, chosen)
    }

    /// The deadline of one request, none when it is 0.
    pub fn deadline(&self) -> Result<Option<Duration>> {
        let text = self.request_timeout.trim();
        if text.is_empty() || text == "0" {
            return Ok(None);
        }
        if let Ok(seconds) = text.parse::<u64>() {
            return Ok(Some(Duration::from_secs(seconds)).filter(|limit| !limit.is_zero()));
        }
        crate::out::go_duration(text).map(Some).ok_or_else(|| {
            Error::message("Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)")
        })
    }
}

/// The service account's configuration, where no kubeconfig says anything and we run in a pod.
fn in_cluster(globals: &Globals, merged: &Kubeconfig) -> Option<kube::Config> {
    let empty = merged.contexts.is_empty() && merged.clusters.is_empty() && merged.current_context.is_none();
    if !empty || globals.server.is_some() || globals.context.is_some() {
        return None;
    }
    kube::Config::incluster_env().ok()
}

async fn from_files(globals: &Globals, mut merged: Kubeconfig) -> Result<(kube::Config, Option<String>)> {
    let name =
        globals.context.clone().filter(|name| !name.is_empty()).or_else(|| merged.current_context.clone());
    let context = ensure_context(globals, &mut merged, name.as_deref())?;
    ensure_cluster(globals, &mut merged, &context)?;
    ensure_user(globals, &mut merged, &context)?;
    let options = KubeConfigOptions {
        context: Some(name.unwrap_or_else(|| OWN.into())),
        cluster: Some(context.cluster.clone()),
        user: context.user.clone(),
    };
    let proxied = merged.clusters.iter().filter(|entry| entry.name == context.cluster).any(|entry| {
        entry
            .cluster
            .as_ref()
            .and_then(|cluster| cluster.proxy_url.as_deref())
            .is_some_and(|url| !url.is_empty())
    });
    let mut config = kube::Config::from_custom_kubeconfig(merged, &options)
        .await
        .map_err(|cause| Error::message(cause.to_string()))?;
    if !proxied {
        // Only a kubeconfig's own proxy is meant; the environment's is for other programs' traffic.
        config.proxy_url = None;
    }
    Ok((config, context.namespace))
}

/// The chosen context with the flags' cluster and user put in; made when no file has one.
fn ensure_context(globals: &Globals, merged: &mut Kubeconfig, name: Option<&str>) -> Result<Context> {
    let wanted = name.unwrap_or(OWN);
    let found = merged
        .contexts
        .iter_mut()
        .find(|entry| entry.name == wanted)
        .and_then(|entry| entry.context.as_mut());
    let mut context = match (found, globals.context.is_some()) {
        (Some(context), _) => context.clone(),
        (None, true) => {
            return Err(Error::Plain(format!(
                "Error in configuration: context was not found for specified context: {wanted}"
            )));
        }
        (None, false) => {
            let made = Context { cluster: OWN.into(), user: Some(OWN.into()), ..Context::default() };
            merged.contexts.push(NamedContext {
                name: wanted.into(),
                context: Some(made.clone()),
                ..NamedContext::default()
            });
            made
        }
    };
    if let Some(cluster) = given(&globals.cluster) {
        context.cluster = cluster.clone();
    }
    if let Some(user) = given(&globals.user) {
        context.user = Some(user.clone());
    }
    Ok(context)
}

fn ensure_cluster(globals: &Globals, merged: &mut Kubeconfig, context: &Context) -> Result<()> {
    if !merged.clusters.iter().any(|entry| entry.name == context.cluster && entry.cluster.is_some()) {
        if given(&globals.cluster).is_some() {
            return Err(Error::message(format!("no server found for cluster {}", quote(&context.cluster))));
        }
        let made = ClusterInfo { server: Some(NOWHERE.into()), ..ClusterInfo::default() };
        merged.clusters.push(NamedCluster {
            name: context.cluster.clone(),
            cluster: Some(made),
            ..NamedCluster::default()
        });
    }
    for entry in merged.clusters.iter_mut().filter(|entry| entry.name == context.cluster) {
        if let Some(cluster) = &mut entry.cluster {
            override_cluster(globals, &context.cluster, cluster)?;
        }
    }
    Ok(())
}

fn override_cluster(globals: &Globals, name: &str, cluster: &mut ClusterInfo) -> Result<()> {
    if let Some(server) = &globals.server {
        let complete = server.contains("://");
        cluster.server = Some(if complete { server.clone() } else { format!("http://{server}") });
    }
    if let Some(file) = &globals.certificate_authority {
        readable("certificate-authority", file, name)?;
        cluster.certificate_authority = Some(file.clone());
        cluster.certificate_authority_data = None;
        cluster.insecure_skip_tls_verify = None;
    }
    if globals.insecure_skip_tls_verify {
        cluster.insecure_skip_tls_verify = Some(true);
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = None;
    }
    if globals.tls_server_name.is_some() {
        cluster.tls_server_name = globals.tls_server_name.clone();
    }
    Ok(())
}

fn ensure_user(globals: &Globals, merged: &mut Kubeconfig, context: &Context) -> Result<()> {
    let name = context.user.clone().unwrap_or_default();
    if !merged.auth_infos.iter().any(|entry| entry.name == name && entry.auth_info.is_some()) {
        if given(&globals.user).is_some() {
            return Err(Error::message(format!("auth info {} does not exist", quote(&name))));
        }
        merged.auth_infos.push(NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(AuthInfo::default()),
            ..NamedAuthInfo::default()
        });
    }
    for entry in merged.auth_infos.iter_mut().filter(|entry| entry.name == name) {
        if let Some(user) = &mut entry.auth_info {
            override_user(globals, &name, user)?;
        }
    }
    Ok(())
}

fn override_user(globals: &Globals, name: &str, user: &mut AuthInfo) -> Result<()> {
    if let Some(token) = &globals.token {
        user.token = Some(token.clone().into());
        user.token_file = None;
    }
    if let Some(name) = &globals.username {
        user.username = Some(name.clone());
        user.password = Some(globals.password.clone().unwrap_or_default().into());
    }
    if let Some(file) = &globals.client_certificate {
        readable("client-cert", file, name)?;
        user.client_certificate = Some(file.clone());
        user.client_certificate_data = None;
    }
    if let Some(file) = &globals.client_key {
        readable("client-key", file, name)?;
        user.client_key = Some(file.clone());
        user.client_key_data = None;
    }
    impersonate(globals, name, user)
}

fn impersonate(globals: &Globals, name: &str, user: &mut AuthInfo) -> Result<()> {
    let others =
        !globals.as_group.is_empty() || globals.as_uid.is_some() || !globals.as_user_extra.is_empty();
    if globals.as_user.is_none() {
        return match others {
            true => Err(Error::message(format!(
                "requesting uid, groups or user-extra for {name} without impersonating a user"
            ))),
            false => Ok(()),
        };
    }
    user.impersonate = globals.as_user.clone();
    if !globals.as_group.is_empty() {
        user.impersonate_groups = Some(globals.as_group.clone());
    }
    user.impersonate_uid = globals.as_uid.clone().or(user.impersonate_uid.take());
    if !globals.as_user_extra.is_empty() {
        let mut extra: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in globals.as_user_extra.iter().filter_map(|pair| pair.split_once('=')) {
            extra.entry(key.into()).or_default().push(value.into());
        }
        user.impersonate_user_extra = Some(extra);
    }
    Ok(())
}

fn build(globals: &Globals, mut config: kube::Config, context_namespace: Option<String>) -> Result<Cluster> {
    let agent = format!("coxctl/{} ({}/{})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, go_arch());
    let agent = HeaderValue::try_from(agent).map_err(|cause| Error::message(cause.to_string()))?;
    config.headers.push((header::USER_AGENT, agent));
    // Retrying is Cluster::send's: only where the server says when to come again.
    config.default_retry = false;
    let given = globals.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = given.clone().or(context_namespace.filter(|namespace| !namespace.is_empty()));
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let server = config.cluster_url.to_string().trim_end_matches('/').to_string();
    let client = kube::Client::try_from(config).map_err(|cause| Error::message(error_text(&cause)))?;
    Ok(Cluster {
        client,
        namespace,
        namespace_given: given.is_some(),
        server,
        deadline: globals.deadline()?,
        warnings_as_errors: globals.warnings_as_errors,
        cache_dir: cache_dir(globals),
        discovered: Arc::default(),
        warned: Arc::new(Mutex::new(Vec::new())),
    })
}

fn error_text(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn cache_dir(globals: &Globals) -> Option<PathBuf> {
    let named = globals
        .cache_dir
        .clone()
        .or_else(|| std::env::var("KUBECACHEDIR").ok())
        .filter(|dir| !dir.is_empty());
    let home = || std::env::var("HOME").ok().map(|home| PathBuf::from(home).join(".kube").join("cache"));
    Some(named.map(PathBuf::from).or_else(home)?.join("coxctl"))
}

/// The machine's architecture as Go spells it.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A flag's value, none when it is empty.
fn given(flag: &Option<String>) -> Option<&String> {
    flag.as_ref().filter(|value| !value.is_empty())
}

/// A file that a flag names must be readable.
fn readable(what: &str, file: &str, of: &str) -> Result<()> {
    match std::fs::File::open(file) {
        Ok(_) => Ok(()),
        Err(cause) => Err(Error::message(format!(
            "unable to read {what} {file} for {of} due to open {file}: {}",
            crate::files::os_text(&cause)
        ))),
    }
}

fn quote(text: &str) -> String {
    format!("{text:?}")
}
