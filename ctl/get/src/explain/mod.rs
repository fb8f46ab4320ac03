//! `explain`: what a field means, from the server's OpenAPI documents.

mod schema;
mod text;

use clap::Args;
use coxctl_kit::{Call, Cluster, Error, Globals, Kind, Result, out};
use serde_json::Value;

/// The flags of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// TYPE[.field...]
    pub words: Vec<String>,
    /// When true, print the name of all the fields recursively
    #[arg(long)]
    pub recursive: bool,
    /// Use given api-version (group/version) of the resource
    #[arg(long = "api-version", default_value = "")]
    pub api_version: String,
    /// Format in which to render the schema: plaintext or plaintext-openapiv2
    #[arg(short = 'o', long, default_value = "plaintext")]
    pub output: String,
}

/// Prints the explanation.
pub async fn run(args: &ExplainArgs, globals: &Globals) -> Result<i32> {
    let word = match args.words.as_slice() {
        [word] => word,
        [] => {
            return Err(Error::message(
                "You must specify the type of resource to explain. Use \"coxctl api-resources\" for a complete list of supported resources.",
            ));
        }
        _ => {
            return Err(Error::message(
                "We accept only this format: explain RESOURCE\nSee 'coxctl explain -h' for help and examples",
            ));
        }
    };
    let cluster = globals.connect().await?;
    let (kind, path) = resolve(&cluster, word, &args.api_version).await?;
    if !matches!(args.output.as_str(), "plaintext" | "plaintext-openapiv2") {
        return Err(Error::message(format!("unrecognized format: {}", args.output)));
    }
    let document = document(&cluster, &kind).await?;
    let text = text::render(&document, &kind, &path, args.recursive);
    out::put(&text.0);
    text.1.map_or(Ok(0), Err)
}

/// The names of the fields at a path such as `pod.spec`, for completion.
///
/// # Errors
/// Unknown kinds and paths have none; other failures are the server's.
pub async fn fields(cluster: &Cluster, path: &str) -> Result<Vec<String>> {
    let (kind, path) = resolve(cluster, path, "").await?;
    let document = document(cluster, &kind).await?;
    let Some(mut schema) = schema::of_kind(&document, &kind) else { return Ok(Vec::new()) };
    for name in &path {
        schema = &schema::inner(&document, schema)["properties"][name.as_str()];
    }
    let fields = schema::inner(&document, schema)["properties"].as_object();
    Ok(fields.into_iter().flat_map(|fields| fields.keys().cloned()).collect())
}

/// The kind and the names of the fields below it. A word may hold a group: `deployments.apps.spec` is tried first.
async fn resolve(cluster: &Cluster, word: &str, api_version: &str) -> Result<(Kind, Vec<String>)> {
    let parts: Vec<String> = word.trim_end_matches('.').split('.').map(str::to_string).collect();
    let (name, fields) = parts.split_first().ok_or_else(|| Error::message("no resource named"))?;
    let kind = cluster.kind(name).await.map_err(|error| match error {
        Error::Message(text) => Error::Plain(text),
        other => other,
    })?;
    if api_version.is_empty() || kind.api_version() == api_version {
        return Ok((kind, fields.to_vec()));
    }
    let discovery = cluster.discovery().await?;
    let other =
        discovery.kinds().find(|other| other.plural == kind.plural && other.api_version() == api_version);
    let other = other.cloned().ok_or_else(|| {
        Error::message(format!("couldn't find resource for \"{api_version}, Resource={}\"", kind.plural))
    })?;
    Ok((other, fields.to_vec()))
}

/// The OpenAPI document of the kind's group and version.
async fn document(cluster: &Cluster, kind: &Kind) -> Result<Value> {
    let index = cluster.send(Call::get("/openapi/v3").query("timeout", "32s")).await?.json()?;
    let name = kind.root().trim_start_matches('/').to_string();
    let path = index["paths"][&name]["serverRelativeURL"].as_str();
    let path = path.ok_or_else(|| {
        Error::message(format!(
            "couldn't find resource for \"{}, Resource={}\"",
            kind.api_version(),
            kind.plural
        ))
    })?;
    cluster.send(Call::get(path).query("timeout", "32s")).await?.json()
}
