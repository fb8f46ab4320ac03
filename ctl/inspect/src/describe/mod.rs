//! `describe`: objects and what belongs to them, for people.

mod autoscaler;
mod claim;
mod config;
mod container;
mod csr;
mod env;
mod events;
mod gather;
mod generic;
mod ingress;
mod job;
mod list;
mod namespace;
mod network_policy;
mod node;
mod node_resources;
mod page;
mod pod;
mod pod_resources;
mod policy;
mod probe;
mod qos;
mod rbac;
mod service;
mod storage;
mod subject;
mod tabs;
mod template;
mod volume;
mod volume_sources;
mod volumes_of_clusters;
mod volumes_of_pods;
mod workload;

#[cfg(test)]
mod tests;

use coxctl_kit::files::FileArgs;
use coxctl_kit::pick::{Item, Pick};
use coxctl_kit::{Cluster, Error, Globals, Result, out};
use gather::Settings;

/// Show details of a specific resource or group of resources
#[derive(clap::Args, Clone, Debug)]
pub struct Describe {
    /// TYPE, TYPE NAME_PREFIX or TYPE/NAME
    #[arg(value_name = "TYPE [NAME_PREFIX] | TYPE/NAME")]
    pub words: Vec<String>,
    #[command(flatten)]
    pub files: FileArgs,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// List the requested objects across all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Display events related to the described object. Defaults to true for one object, false for several
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub show_events: Option<bool>,
    /// Return large lists in chunks rather than all at once; 0 for all at once
    #[arg(long, default_value_t = 500)]
    pub chunk_size: u32,
}

/// Runs the verb.
///
/// # Errors
/// As kubectl's.
pub async fn run(args: Describe, globals: &Globals) -> Result<()> {
    let cluster = globals.connect().await?;
    let picked = pick(&args, args.words.clone(), args.files.clone()).items(&cluster, true).await?;
    let (items, mut errors) = (picked.items, picked.errors);
    let one = items.len() <= 1 && errors.is_empty();
    let settings = Settings { show_events: args.show_events.unwrap_or(one), chunk: args.chunk_size };
    if let ([kind, prefix], Some(error)) =
        (args.words.as_slice(), errors.iter().find(|error| error.is_not_found()))
    {
        return matching(&cluster, &args, kind, prefix, settings, error.clone()).await;
    }
    if items.is_empty() && errors.is_empty() {
        out::note(&nothing(&args, &cluster));
    }
    let mut first = true;
    for item in items {
        match page(&cluster, item, settings).await {
            Ok(text) if first => {
                first = false;
                out::put(&text);
            }
            Ok(text) => out::put(&format!("\n\n{text}")),
            Err(error) if errors.iter().any(|known| known.to_string() == error.to_string()) => {}
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::many(errors)) }
}

fn pick(args: &Describe, words: Vec<String>, files: FileArgs) -> Pick {
    let missing = "You must specify the type of resource to describe. Use \"coxctl api-resources\" for a complete list of supported resources.\n";
    Pick {
        words,
        files,
        selector: args.selector.clone(),
        all_namespaces: args.all_namespaces,
        bare_types: true,
        chunk: args.chunk_size,
        nothing_named: Some(missing.into()),
        ..Pick::default()
    }
}

fn nothing(args: &Describe, cluster: &Cluster) -> String {
    match args.all_namespaces {
        true => "No resources found".into(),
        false => format!("No resources found in {} namespace.", cluster.namespace),
    }
}

/// No object has that name: all whose names begin so.
async fn matching(
    cluster: &Cluster,
    args: &Describe,
    kind: &str,
    prefix: &str,
    settings: Settings,
    missing: Error,
) -> Result<()> {
    if coxctl_kit::pick::kinds(cluster, kind).await?.len() > 1 {
        return Err(Error::message("you may only specify a single resource type"));
    }
    let mut all = pick(args, vec![kind.into()], FileArgs::default());
    all.selector = None;
    let mut found = false;
    for item in all.items(cluster, true).await?.all()? {
        if item.name.starts_with(prefix) {
            found = true;
            out::line(&page(cluster, item, settings).await?);
        }
    }
    if found { Ok(()) } else { Err(missing) }
}

/// The description of one object.
async fn page(cluster: &Cluster, item: Item, settings: Settings) -> Result<String> {
    let describer = list::find(&item.kind.group, &item.kind.kind);
    let object = item.object.unwrap_or_default();
    let subject = gather::subject(cluster, object, describer.reads, settings).await?;
    describer.page(&subject).map_err(Error::message)
}
