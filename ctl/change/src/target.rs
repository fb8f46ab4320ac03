//! The objects a command line means.

use crate::create::generate::builtin;
use anyhow::Result;
use coxctl_kit::{Cluster, Error, FileArgs, Item, Kind, Pick};
use serde_json::Value;

/// One object a verb works on.
#[derive(Clone, Debug)]
pub struct Target {
    pub kind: Kind,
    pub namespace: Option<String>,
    pub name: String,
    /// The live object, or what a file holds.
    pub object: Value,
    /// File or the like that names it.
    pub source: String,
}

impl Target {
    /// The namespace for requests.
    pub fn ns(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// `configmaps/a`: how warnings name it.
    pub fn plural_name(&self) -> String {
        format!("{}/{}", self.kind.plural, self.name)
    }

    /// Whether its kind is one of upstream's own, so that strategic merge patches are understood.
    pub fn is_builtin(&self) -> bool {
        crate::typed::of(&self.object).is_some()
    }

    /// `Resource: "…", GroupVersionKind: "…"` and name, as failed patches print it.
    pub fn described(&self) -> String {
        let Kind { kind, plural, .. } = &self.kind;
        let version = self.kind.api_version();
        let namespace = self.ns().unwrap_or_default();
        format!(
            "Resource: \"{version}, Resource={plural}\", GroupVersionKind: \"{version}, Kind={kind}\"\nName: {:?}, Namespace: {namespace:?}",
            self.name
        )
    }
}

/// What a command line names.
#[derive(Clone, Debug, Default)]
pub struct Select<'a> {
    /// `TYPE NAME…`, `TYPE/NAME…`.
    pub args: &'a [String],
    pub files: Option<&'a FileArgs>,
    pub labels: &'a str,
    pub fields: &'a str,
    pub all: bool,
    pub all_namespaces: bool,
    /// Objects of files as they are there, without asking the server.
    pub local: bool,
    /// Files' objects as they are there; kinds are still looked up.
    pub as_given: bool,
    /// A type alone means all its objects.
    pub bare_types: bool,
    /// Page size of lists, 0 for all at once.
    pub chunk: u32,
    /// The complaint when nothing is named.
    pub nothing: Option<String>,
}

impl Select<'_> {
    fn pick(&self) -> Pick {
        let some = |text: &str| Some(text.to_string()).filter(|t| !t.is_empty());
        Pick {
            words: self.args.to_vec(),
            files: self.files.cloned().unwrap_or_default(),
            selector: some(self.labels),
            field_selector: some(self.fields),
            all: self.all,
            all_namespaces: self.all_namespaces,
            bare_types: self.bare_types,
            chunk: self.chunk,
            nothing_named: self.nothing.clone(),
        }
    }
}

/// The objects, each with what went wrong about it. Named objects come with what the server has.
pub async fn select(cluster: &Cluster, select: &Select<'_>) -> Result<Vec<Result<Target, Error>>> {
    if select.local {
        return local(select).await;
    }
    let picked = select.pick().items(cluster, !select.as_given).await?;
    let mut out: Vec<Result<Target, Error>> = picked.items.into_iter().map(|item| Ok(target(item))).collect();
    out.extend(picked.errors.into_iter().map(Err));
    Ok(out)
}

fn target(item: Item) -> Target {
    let Item { kind, namespace, name, object, source } = item;
    let mut object = object.unwrap_or_default();
    if let Some(map) = object.as_object_mut() {
        map.entry("apiVersion").or_insert_with(|| kind.api_version().into());
        map.entry("kind").or_insert_with(|| kind.kind.clone().into());
    }
    Target { kind, namespace, name, object, source }
}

/// Objects of files, their kinds taken from the objects themselves.
async fn local(select: &Select<'_>) -> Result<Vec<Result<Target, Error>>> {
    let Some(files) = select.files.filter(|files| !files.is_empty()) else {
        return Err(Error::message("one or more files must be specified as -f when --local is used").into());
    };
    let documents = coxctl_kit::files::read(files).await?;
    Ok(documents.into_iter().map(|d| Ok(from_document(d.object, d.source))).collect())
}

/// A target of an object alone.
pub fn from_document(object: Value, source: String) -> Target {
    let kind = builtin(&object).unwrap_or_else(|| guessed(&object));
    let namespace = object["metadata"]["namespace"].as_str().map(str::to_string);
    let name = machinery::meta::name(&object).to_string();
    Target { kind, namespace, name, object, source }
}

fn guessed(object: &Value) -> Kind {
    let (group, version) = machinery::kinds::split_api_version(machinery::meta::api_version(object));
    let kind = machinery::meta::kind(object);
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    Kind {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        plural,
        singular,
        ..Kind::default()
    }
}

/// Does something to each object; failures are collected, so that one does not keep the others from their turn.
pub async fn each(
    found: Vec<Result<Target, Error>>,
    mut work: impl AsyncFnMut(Target) -> Result<()>,
) -> Result<i32> {
    let mut errors = Vec::new();
    for target in found {
        match target {
            Ok(target) => {
                if let Err(error) = work(target).await {
                    errors.push(kit_error(error));
                }
            }
            Err(error) => errors.push(error),
        }
    }
    finish(errors)
}

/// Success, or all failures as one.
pub fn finish(errors: Vec<Error>) -> Result<i32> {
    if errors.is_empty() { Ok(0) } else { Err(Error::many(errors).into()) }
}

/// A failure as the kit knows them.
pub fn kit_error(error: anyhow::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::message(format!("{error:#}")),
    }
}
