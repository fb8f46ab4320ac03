//! `set image|resources|selector|serviceaccount|subject`.

use super::{Common, Words, finish};
use crate::create::policy::resource_list;
use crate::create::rbac::Subjects;
use crate::flags::{DryRun, error, write};
use crate::output::Printer;
use crate::target::{Target, each, select};
use crate::template::pod_spec_mut;
use anyhow::Result;
use coxctl_kit::{Globals, PatchType};
use machinery::selector::{LabelSelector, Operator};
use serde_json::{Map, Value, json};

/// `set image`.
#[derive(clap::Args, Clone, Debug)]
pub struct Image {
    /// TYPE NAME CONTAINER=IMAGE…
    pub args: Vec<String>,
    #[command(flatten)]
    pub common: Common,
}

/// Runs `set image`.
pub async fn image(flags: &Image, globals: &Globals) -> Result<i32> {
    let (resources, pairs): (Vec<String>, Vec<String>) =
        flags.args.iter().cloned().partition(|a| !a.contains('='));
    let images: Vec<(String, String)> =
        pairs.iter().filter_map(|p| p.split_once('=')).map(|(a, b)| (a.to_string(), b.to_string())).collect();
    if resources.is_empty() && flags.common.files.is_empty() {
        return Err(nothing_named());
    }
    if images.is_empty() {
        // What the other words mean is complained about first.
        let cluster = globals.connect().await?;
        let found = select(&cluster, &flags.common.select(&resources)).await?;
        found.into_iter().collect::<Result<Vec<Target>, _>>()?;
        return Err(error("at least one image update is required"));
    }
    let words = Words {
        done: "image updated",
        failed: "failed to patch image update to pod template:",
        silent: true,
    };
    change(&flags.common, globals, &resources, &words, |target| {
        let mut after = target.object.clone();
        let spec = pod_spec_mut(&mut after).ok_or_else(|| no_template(target))?;
        match super::resources::set_images(spec, &images).as_slice() {
            [] => Ok(after),
            missing => {
                let texts: Vec<String> =
                    missing.iter().map(|name| format!("unable to find container named {name:?}")).collect();
                Err(error(texts.join("\nerror: ")))
            }
        }
    })
    .await
}

/// `set resources`.
#[derive(clap::Args, Clone, Debug)]
pub struct Resources {
    /// TYPE NAME
    pub args: Vec<String>,
    /// The names of containers in the selected pod templates to change, all containers are selected by default.
    #[arg(short, long, default_value = "*")]
    pub containers: String,
    /// The resource requirement limits for this container.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub limits: String,
    /// The resource requirement requests for this container.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub requests: String,
    #[command(flatten)]
    pub common: Common,
}

/// Runs `set resources`.
pub async fn resources(flags: &Resources, globals: &Globals) -> Result<i32> {
    if flags.limits.is_empty() && flags.requests.is_empty() {
        return Err(error(
            "you must specify an update to requests or limits (in the form of --requests/--limits)",
        ));
    }
    let (limits, requests) = (resource_list(&flags.limits)?, resource_list(&flags.requests)?);
    let words = Words {
        done: "resource requirements updated",
        failed: "failed to patch resources update to pod template",
        silent: true,
    };
    change(&flags.common, globals, &flags.args, &words, |target| {
        let mut after = target.object.clone();
        let spec = pod_spec_mut(&mut after).ok_or_else(|| no_template(target))?;
        if super::resources::edit(spec, &flags.containers, &limits, &requests) {
            return Ok(after);
        }
        Err(error(format!("unable to find container named {}", flags.containers)))
    })
    .await
}

/// `set serviceaccount`.
#[derive(clap::Args, Clone, Debug)]
pub struct ServiceAccount {
    /// TYPE NAME SERVICE_ACCOUNT
    pub args: Vec<String>,
    #[command(flatten)]
    pub common: Common,
}

/// Runs `set serviceaccount`.
pub async fn service_account(flags: &ServiceAccount, globals: &Globals) -> Result<i32> {
    let Some((account, resources)) = flags.args.split_last() else {
        return Err(error("serviceaccount is required"));
    };
    let words =
        Words { done: "serviceaccount updated", failed: "failed to patch ServiceAccountName", silent: false };
    if resources.is_empty() && flags.common.files.is_empty() {
        return Err(nothing_named());
    }
    change(&flags.common, globals, resources, &words, |target| {
        let mut after = target.object.clone();
        let spec = pod_spec_mut(&mut after).ok_or_else(|| no_template(target))?;
        spec["serviceAccountName"] = json!(account);
        Ok(after)
    })
    .await
}

/// `set subject`.
#[derive(clap::Args, Clone, Debug)]
pub struct Subject {
    /// TYPE NAME
    pub args: Vec<String>,
    #[command(flatten)]
    pub subjects: Subjects,
    #[command(flatten)]
    pub common: Common,
}

/// Runs `set subject`.
pub async fn subject(flags: &Subject, globals: &Globals) -> Result<i32> {
    let wanted = flags.subjects.build()?;
    if wanted.is_empty() {
        return Err(error("you must specify at least one value of user, group or serviceaccount"));
    }
    let words =
        Words { done: "subjects updated", failed: "failed to patch subjects to rolebinding:", silent: true };
    change(&flags.common, globals, &flags.args, &words, |target| {
        if !target.kind.kind.ends_with("RoleBinding") {
            let name = target.plural_name();
            return Err(error(format!(
                "{name} setting subjects is only supported for RoleBinding/ClusterRoleBinding"
            )));
        }
        let mut after = target.object.clone();
        let mut subjects = after["subjects"].as_array().cloned().unwrap_or_default();
        subjects.extend(wanted.iter().filter(|w| !subjects.contains(w)).cloned().collect::<Vec<_>>());
        after["subjects"] = Value::Array(subjects);
        Ok(after)
    })
    .await
}

/// `set selector`.
#[derive(clap::Args, Clone, Debug)]
pub struct Selector {
    /// TYPE NAME EXPRESSION
    pub args: Vec<String>,
    /// If non-empty, the update will only succeed if this is the current resource-version for the object.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub resource_version: String,
    #[command(flatten)]
    pub common: Common,
}

/// Runs `set selector`.
pub async fn selector(flags: &Selector, globals: &Globals) -> Result<i32> {
    let split =
        flags.args.split_last().filter(|(_, rest)| !rest.is_empty() || !flags.common.files.is_empty());
    let Some((text, resources)) = split else { return Err(nothing_named()) };
    let wanted = match_labels(text)?;
    let common = &flags.common;
    let dry = common.dry_run.parse()?;
    let printer = Printer::new(&common.out, dry)?.typed();
    let cluster = globals.connect().await?;
    let found = select(&cluster, &common.select(resources)).await?;
    each(found, async |target| {
        if target.kind.kind != "Service" {
            return Err(error("setting a selector is only supported for Services"));
        }
        let mut after = target.object.clone();
        after["spec"]["selector"] = Value::Object(wanted.clone());
        if dry == DryRun::Client || common.local {
            return printer.done(&after, "selector updated");
        }
        let mut patch = super::difference(&target.object, &after)?;
        if !flags.resource_version.is_empty() {
            patch["metadata"] = json!({"resourceVersion": flags.resource_version});
        }
        let write = write(&common.field_manager, dry, None);
        let (kind, how) = (&target.kind, PatchType::Strategic);
        let patched = cluster.patch(kind, target.ns(), &target.name, None, how, &patch, &write).await?;
        printer.done(&patched, "selector updated")
    })
    .await
}

fn match_labels(text: &str) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for requirement in LabelSelector::parse(text).map_err(error)?.requirements {
        // `a in (b)` reads like `a=b` but is an expression, which Services don't have.
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::In, [value]) if !text.contains(" in ") => {
                out.insert(requirement.key, json!(value));
            }
            (operator, values) => {
                let values = values.join(" ");
                let shown = format!("{{{} {operator:?} [{values}]}}", requirement.key);
                return Err(error(format!("match expression [{shown}] not supported on this object")));
            }
        }
    }
    Ok(out)
}

/// Changes each object of a command line with a pure function.
async fn change(
    common: &Common,
    globals: &Globals,
    args: &[String],
    words: &Words,
    edit: impl Fn(&Target) -> Result<Value>,
) -> Result<i32> {
    let dry = common.dry_run.parse()?;
    let printer = Printer::new(&common.out, dry)?.typed();
    let cluster = globals.connect().await?;
    let found = select(&cluster, &common.select(args)).await?;
    each(found, async |target| {
        let after = edit(&target)?;
        finish(common, dry, &cluster, &printer, &target, after, words).await
    })
    .await
}

/// What kinds without pods are told.
pub(super) fn no_template(target: &Target) -> anyhow::Error {
    let ty = crate::typed::of(&target.object)
        .map_or_else(|| "unstructured.Unstructured".into(), |ty| ty.go_name());
    let name = target.plural_name();
    error(format!("{name} the object is not a pod or does not have a pod template: *{ty}"))
}

/// The complaint of a command line that names no object.
pub fn nothing_named() -> anyhow::Error {
    error(super::NOTHING_NAMED)
}
