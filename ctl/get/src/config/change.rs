//! The commands that change kubeconfig files.

use coxctl_kit::print::gotext::quote;
use coxctl_kit::{Error, Globals, Result, out};
use serde_json::{Map, Value, json};

use super::store::{Section, Store};
use super::view::embedded;
use super::{SetClusterArgs, SetContextArgs, SetCredentialsArgs};

pub fn use_context(name: &str, globals: &Globals) -> Result<i32> {
    let mut store = Store::load(globals)?;
    if store.body(Section::Contexts, name).is_none() {
        return Err(Error::message(format!("no context exists with the name: {}", quote(name))));
    }
    store.change_top("current-context", |config| config["current-context"] = name.into())?;
    out::line(&format!("Switched to context {}.", quote(name)));
    Ok(0)
}

pub fn set_context(args: &SetContextArgs, globals: &Globals) -> Result<i32> {
    let mut store = Store::load(globals)?;
    let current = store.merged()["current-context"].as_str().unwrap_or_default().to_string();
    let name = match (&args.name, args.current) {
        (Some(_), true) => {
            return Err(Error::message("you cannot specify both a context name and --current"));
        }
        (Some(name), false) => name.clone(),
        (None, true) if current.is_empty() => return Err(Error::message("no current context is set")),
        (None, true) => current,
        (None, false) => {
            return Err(Error::message("you must specify a non-empty context name or --current"));
        }
    };
    let there = store.change(Section::Contexts, &name, |context| {
        put(context, "cluster", globals.cluster.as_deref());
        put(context, "user", globals.user.as_deref());
        put(context, "namespace", globals.namespace.as_deref());
        for required in ["cluster", "user"] {
            context.entry(required).or_insert_with(|| "".into());
        }
    })?;
    out::line(&format!("Context {} {}.", quote(&name), if there { "modified" } else { "created" }));
    Ok(0)
}

/// Sets a text; an empty one takes the field away.
fn put(body: &mut Map<String, Value>, key: &str, value: Option<&str>) {
    match value {
        Some("") => drop(body.remove(key)),
        Some(value) => drop(body.insert(key.into(), value.into())),
        None => {}
    }
}

/// A file by its path, or by its content.
fn put_file(body: &mut Map<String, Value>, key: &str, path: Option<&str>, embed: bool) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let data = format!("{key}-data");
    if embed {
        body.insert(data, embedded(path)?.into());
        body.remove(key);
    } else {
        let absolute =
            std::path::absolute(path).map(|path| path.display().to_string()).unwrap_or_else(|_| path.into());
        put(body, key, Some(if path.is_empty() { "" } else { &absolute }));
        body.remove(&data);
    }
    Ok(())
}

pub fn set_cluster(args: &SetClusterArgs, globals: &Globals) -> Result<i32> {
    let mut store = Store::load(globals)?;
    let mut body = store
        .body(Section::Clusters, &args.name)
        .and_then(|body| body.as_object().cloned())
        .unwrap_or_default();
    put(&mut body, "server", globals.server.as_deref());
    put(&mut body, "tls-server-name", globals.tls_server_name.as_deref());
    put(&mut body, "proxy-url", args.proxy_url.as_deref());
    if globals.insecure_skip_tls_verify {
        body.insert("insecure-skip-tls-verify".into(), true.into());
        body.remove("certificate-authority");
        body.remove("certificate-authority-data");
    }
    if globals.certificate_authority.is_some() {
        body.remove("insecure-skip-tls-verify");
    }
    put_file(&mut body, "certificate-authority", globals.certificate_authority.as_deref(), args.embed_certs)?;
    body.entry("server").or_insert_with(|| "".into());
    store.change(Section::Clusters, &args.name, |entry| *entry = body)?;
    out::line(&format!("Cluster {} set.", quote(&args.name)));
    Ok(0)
}

pub fn set_credentials(args: &SetCredentialsArgs, globals: &Globals) -> Result<i32> {
    let mut store = Store::load(globals)?;
    let mut body =
        store.body(Section::Users, &args.name).and_then(|body| body.as_object().cloned()).unwrap_or_default();
    if globals.token.is_some() && globals.username.is_some() {
        return Err(Error::message(
            "you cannot specify more than one authentication method at the same time: token, basic",
        ));
    }
    put_file(&mut body, "client-certificate", globals.client_certificate.as_deref(), args.embed_certs)?;
    put_file(&mut body, "client-key", globals.client_key.as_deref(), args.embed_certs)?;
    put(&mut body, "token", globals.token.as_deref());
    put(&mut body, "username", globals.username.as_deref());
    put(&mut body, "password", globals.password.as_deref());
    plugin(args, &mut body);
    store.change(Section::Users, &args.name, |entry| *entry = body)?;
    out::line(&format!("User {} set.", quote(&args.name)));
    Ok(0)
}

fn plugin(args: &SetCredentialsArgs, body: &mut Map<String, Value>) {
    let pairs = |list: &[String]| -> Vec<(String, String)> {
        list.iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    };
    if let Some(name) = &args.auth_provider {
        let config: Map<String, Value> =
            pairs(&args.auth_provider_arg).into_iter().map(|(key, value)| (key, value.into())).collect();
        body.insert("auth-provider".into(), json!({"name": name, "config": config}));
    }
    let Some(command) = &args.exec_command else { return };
    let mut exec = body
        .get("exec")
        .filter(|exec| exec.is_object())
        .cloned()
        .unwrap_or_else(|| json!({"args": null, "env": null, "provideClusterInfo": false}));
    exec["command"] = command.as_str().into();
    if let Some(version) = &args.exec_api_version {
        exec["apiVersion"] = version.as_str().into();
    }
    if let Some(mode) = &args.exec_interactive_mode {
        exec["interactiveMode"] = mode.as_str().into();
    }
    if args.exec_provide_cluster_info {
        exec["provideClusterInfo"] = true.into();
    }
    if !args.exec_arg.is_empty() {
        exec["args"] = json!(args.exec_arg);
    }
    if !args.exec_env.is_empty() {
        exec["env"] = pairs(&args.exec_env)
            .into_iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
    }
    body.insert("exec".into(), exec);
}

pub fn rename(old: &str, new: &str, globals: &Globals) -> Result<i32> {
    let mut store = Store::load(globals)?;
    let file = store.default_file();
    if store.body(Section::Contexts, old).is_none() {
        return Err(Error::message(format!(
            "cannot rename the context {}, it's not in {}",
            quote(old),
            file.display()
        )));
    }
    if store.body(Section::Contexts, new).is_some() {
        return Err(Error::message(format!(
            "cannot rename the context {}, the context {} already exists in {}",
            quote(old),
            quote(new),
            file.display()
        )));
    }
    let body = store.remove(Section::Contexts, old)?.unwrap_or_else(|| json!({}));
    store.change(Section::Contexts, new, |entry| *entry = body.as_object().cloned().unwrap_or_default())?;
    if store.merged()["current-context"] == old {
        store.change_top("current-context", |config| config["current-context"] = new.into())?;
    }
    out::line(&format!("Context {} renamed to {}.", quote(old), quote(new)));
    Ok(0)
}

pub fn delete(section: Section, name: &str, globals: &Globals) -> Result<i32> {
    let mut store = Store::load(globals)?;
    let file = store.default_file();
    let what = section.keys().1;
    if section == Section::Contexts
        && store.merged()["current-context"] == name
        && store.body(section, name).is_some()
    {
        out::note(
            "warning: this removed your active context, use \"kubectl config use-context\" to select a different one",
        );
    }
    if store.remove(section, name)?.is_none() {
        return Err(Error::message(format!("cannot delete {what} {name}, not in {}", file.display())));
    }
    out::line(&format!("deleted {what} {name} from {}", file.display()));
    Ok(0)
}
