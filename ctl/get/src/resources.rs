//! `api-resources` and `api-versions`: what discovery says.

use clap::Args;
use coxctl_kit::print::tab::TabWriter;
use coxctl_kit::{Error, Globals, Kind, Result, out};

/// The flags of `api-resources`.
#[derive(Args, Clone, Debug)]
pub struct ResourcesArgs {
    #[arg(hide = true)]
    pub words: Vec<String>,
    /// Limit to resources in the specified API group
    #[arg(long = "api-group")]
    pub api_group: Option<String>,
    /// Limit to resources that support the specified verbs
    #[arg(long, value_delimiter = ',')]
    pub verbs: Vec<String>,
    /// Limit to resources that belong to the specified categories
    #[arg(long, value_delimiter = ',')]
    pub categories: Vec<String>,
    /// If false, only non-namespaced resources will be returned, if true, only namespaced ones
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub namespaced: Option<bool>,
    /// When using the default or custom-column output format, don't print headers
    #[arg(long = "no-headers")]
    pub no_headers: bool,
    /// If non-empty, sort list of resources using specified field: name or kind
    #[arg(long = "sort-by", default_value = "")]
    pub sort_by: String,
    /// Output format: wide or name
    #[arg(short = 'o', long, default_value = "")]
    pub output: String,
    /// Use the cached list of resources if available
    #[arg(long)]
    pub cached: bool,
}

/// The flags of `api-versions`.
#[derive(Args, Clone, Debug)]
pub struct VersionsArgs {
    #[arg(hide = true)]
    pub words: Vec<String>,
}

/// Prints the kinds of the server.
pub async fn resources(args: &ResourcesArgs, globals: &Globals) -> Result<i32> {
    no_words(&args.words, "api-resources")?;
    if !matches!(args.output.as_str(), "" | "wide" | "name") {
        return Err(Error::message(format!("--output {} is not available", args.output)));
    }
    if !matches!(args.sort_by.as_str(), "" | "name" | "kind") {
        return Err(Error::message("--sort-by accepts only name or kind"));
    }
    let cluster = globals.connect().await?;
    let discovery = if args.cached { cluster.discovery().await? } else { cluster.rediscover().await? };
    let mut kinds: Vec<&Kind> = discovery.preferred().into_iter().filter(|kind| args.shows(kind)).collect();
    sort(&mut kinds, &args.sort_by);
    out::put(&args.text(&kinds));
    discovery.stale().map_or(Ok(0), Err)
}

pub(crate) fn no_words(words: &[String], verb: &str) -> Result<()> {
    if words.is_empty() {
        return Ok(());
    }
    Err(Error::message(format!(
        "unexpected arguments: [{}]\nSee 'coxctl {verb} -h' for help and examples",
        words.join(" ")
    )))
}

fn sort(kinds: &mut [&Kind], by: &str) {
    match by {
        "kind" => kinds.sort_by_key(|kind| kind.kind.clone()),
        "name" => kinds.sort_by_key(|kind| kind.plural.clone()),
        _ => kinds.sort_by_key(|kind| (kind.group.clone(), kind.plural.clone())),
    }
}

impl ResourcesArgs {
    fn shows(&self, kind: &Kind) -> bool {
        !kind.verbs.is_empty()
            && self.api_group.as_ref().is_none_or(|group| *group == kind.group)
            && self.namespaced.is_none_or(|namespaced| namespaced == kind.namespaced)
            && self.verbs.iter().all(|verb| kind.can(verb))
            && self.categories.iter().all(|category| kind.categories.contains(category))
    }

    fn text(&self, kinds: &[&Kind]) -> String {
        if self.output == "name" {
            return kinds.iter().map(|kind| kind.group_resource() + "\n").collect();
        }
        let wide = self.output == "wide";
        let mut out = TabWriter::remembering();
        if !self.no_headers {
            let names = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS", "CATEGORIES"];
            out.row(&names[..if wide { 7 } else { 5 }]);
        }
        for kind in kinds {
            let mut cells = vec![
                kind.plural.clone(),
                kind.short_names.join(","),
                kind.api_version(),
                kind.namespaced.to_string(),
                kind.kind.clone(),
            ];
            if wide {
                cells.extend([kind.verbs.join(","), kind.categories.join(",")]);
            }
            out.row(&cells);
        }
        out.flush()
    }
}

/// Prints the versions of all groups.
pub async fn versions(args: &VersionsArgs, globals: &Globals) -> Result<i32> {
    no_words(&args.words, "api-versions")?;
    let discovery = globals.connect().await?.rediscover().await?;
    let name = |group: &str, version: &str| {
        if group.is_empty() { version.to_string() } else { format!("{group}/{version}") }
    };
    let mut all: Vec<String> = discovery
        .groups
        .iter()
        .flat_map(|group| group.versions.iter().map(|version| name(&group.name, &version.name)))
        .collect();
    all.sort();
    out::put(&all.iter().map(|version| format!("{version}\n")).collect::<String>());
    Ok(0)
}
