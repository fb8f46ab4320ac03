//! Which objects a command line means: files, `TYPE NAME…`, `TYPE/NAME…`, or types with selectors.

mod given;
mod refused;

use serde_json::Value;

use crate::files::{self, FileArgs};
use crate::{Cluster, Error, Kind, ListOptions, Result};
use given::given;
pub use refused::listing;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    /// The positional arguments.
    pub words: Vec<String>,
    pub files: FileArgs,
    pub selector: Option<String>,
    pub field_selector: Option<String>,
    /// `--all`.
    pub all: bool,
    pub all_namespaces: bool,
    /// A type alone means all its objects (get); elsewhere a name or a selector is needed.
    pub bare_types: bool,
    /// Page size of lists; 0 asks for all at once.
    pub chunk: u32,
    /// The verb's sentence when nothing is named at all.
    pub nothing_named: Option<String>,
}

/// One thing to ask the server for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A list, of one namespace or of all.
    List {
        kind: Kind,
        namespace: Option<String>,
    },
    Named {
        kind: Kind,
        namespace: Option<String>,
        name: String,
    },
    /// An object from a file.
    Given {
        kind: Kind,
        namespace: Option<String>,
        name: String,
        object: Value,
        source: String,
    },
}

/// An object a verb works on.
#[derive(Clone, Debug)]
pub struct Item {
    pub kind: Kind,
    pub namespace: Option<String>,
    pub name: String,
    /// The live object; for files the file's, for names only when it was fetched.
    pub object: Option<Value>,
    /// The file it comes from, empty otherwise.
    pub source: String,
}

impl Item {
    /// `deployment.apps/x`.
    pub fn printed(&self) -> String {
        format!("{}/{}", self.kind.printed(), self.name)
    }
}

/// What was found, and what went wrong on the way; verbs work on what they got and report the rest at the end.
#[derive(Clone, Debug, Default)]
pub struct Picked {
    pub items: Vec<Item>,
    pub errors: Vec<Error>,
    /// Whether exactly one object was named, so that it stands alone and not in a List.
    pub single: bool,
}

impl Picked {
    /// The items if nothing went wrong.
    pub fn all(self) -> Result<Vec<Item>> {
        if self.errors.is_empty() { Ok(self.items) } else { Err(Error::many(self.errors)) }
    }
}

const MIXED: &str = "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'";

impl Pick {
    /// What to ask for; only discovery is asked here. Errors about single files' objects are collected.
    pub async fn plan(&self, cluster: &Cluster) -> Result<(Vec<Wanted>, Vec<Error>)> {
        let selecting = self.selector.as_deref().is_some_and(|text| !text.is_empty())
            || self.field_selector.as_deref().is_some_and(|text| !text.is_empty());
        if self.all && selecting {
            return Err(Error::message("setting 'all' parameter but found a non empty selector. "));
        }
        if !self.files.is_empty() {
            if !self.words.is_empty() {
                return Err(Error::message(
                    "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
                ));
            }
            return self.in_files(cluster).await;
        }
        let selecting = selecting || self.all;
        let namespace = (!self.all_namespaces).then(|| cluster.namespace.clone());
        let tuples = self.words.iter().any(|word| word.contains('/'));
        let wanted = match (tuples, self.words.as_slice()) {
            (_, []) => return Err(self.nothing(selecting)),
            (true, words) => self.tuples(cluster, words, selecting).await?,
            (false, [types]) if selecting || self.bare_types => lists(cluster, types, namespace).await?,
            (false, [types]) => {
                kinds(cluster, types).await?;
                return Err(Error::message("resource(s) were provided, but no name was specified"));
            }
            (false, [types, names @ ..]) => self.named(cluster, types, names, selecting).await?,
        };
        Ok((wanted, Vec::new()))
    }

    fn nothing(&self, selecting: bool) -> Error {
        if let Some(sentence) = &self.nothing_named {
            return Error::message(sentence.clone());
        }
        match selecting {
            true => Error::message("at least one resource must be specified to use a selector"),
            false => Error::message(
                "you must provide one or more resources by argument or filename (.json|.yaml|.yml|stdin)",
            ),
        }
    }

    async fn tuples(&self, cluster: &Cluster, words: &[String], selecting: bool) -> Result<Vec<Wanted>> {
        let mut pairs = Vec::new();
        for word in words {
            let parts: Vec<&str> = word.split('/').collect();
            match parts.as_slice() {
                [_] => return Err(Error::message(MIXED)),
                [kind, name] if !kind.is_empty() && !name.is_empty() && !kind.contains(',') => {
                    pairs.push((*kind, *name))
                }
                [_, _] => {
                    return Err(Error::message(
                        "arguments in resource/name form must have a single resource and name",
                    ));
                }
                _ => {
                    return Err(Error::message(
                        "arguments in resource/name form may not have more than one slash",
                    ));
                }
            }
        }
        if selecting {
            return Err(Error::message(
                "selectors and the all flag cannot be used when passing resource/name arguments",
            ));
        }
        let mut wanted = Vec::new();
        for (kind, name) in pairs {
            let kind = cluster.kind(kind).await?;
            wanted.push(self.one(cluster, kind, name)?);
        }
        Ok(wanted)
    }

    async fn named(
        &self,
        cluster: &Cluster,
        types: &str,
        names: &[String],
        selecting: bool,
    ) -> Result<Vec<Wanted>> {
        if selecting {
            return Err(Error::message("name cannot be provided when a selector is specified"));
        }
        let kinds = kinds(cluster, types).await?;
        let pairs = kinds.iter().flat_map(|kind| names.iter().map(move |name| (kind.clone(), name)));
        pairs.map(|(kind, name)| self.one(cluster, kind, name)).collect()
    }

    fn one(&self, cluster: &Cluster, kind: Kind, name: &str) -> Result<Wanted> {
        if self.all_namespaces {
            return Err(Error::message("a resource cannot be retrieved by name across all namespaces"));
        }
        if name.is_empty() {
            return Err(Error::message("resource name may not be empty"));
        }
        let namespace = kind.namespaced.then(|| cluster.namespace.clone());
        Ok(Wanted::Named { kind, namespace, name: name.into() })
    }

    async fn in_files(&self, cluster: &Cluster) -> Result<(Vec<Wanted>, Vec<Error>)> {
        let (mut wanted, mut errors) = (Vec::new(), Vec::new());
        let documents = match files::read(&self.files).await {
            Ok(documents) => documents,
            // kubectl counts a document it can't read among the objects that failed.
            Err(Error::Message(text)) if text.starts_with("unable to decode") => {
                return Ok((wanted, vec![Error::Message(text)]));
            }
            Err(error) => return Err(error),
        };
        for document in documents {
            match given(cluster, document).await {
                Ok(one) => wanted.push(one),
                Err(error) => errors.push(error),
            }
        }
        Ok((wanted, errors))
    }

    /// The objects themselves. Lists are always fetched; named objects and files' objects when `fetch` says so.
    pub async fn items(&self, cluster: &Cluster, fetch: bool) -> Result<Picked> {
        let (wanted, errors) = self.plan(cluster).await?;
        let single = matches!(wanted.as_slice(), [Wanted::Named { .. } | Wanted::Given { .. }]);
        let mut picked = Picked { items: Vec::new(), errors, single };
        for one in wanted {
            match self.fetch(cluster, one, fetch).await {
                Ok(items) => picked.items.extend(items),
                Err(error) => picked.errors.push(error),
            }
        }
        Ok(picked)
    }

    async fn fetch(&self, cluster: &Cluster, wanted: Wanted, fetch: bool) -> Result<Vec<Item>> {
        match wanted {
            Wanted::List { kind, namespace } => {
                let options = ListOptions {
                    labels: self.selector.clone(),
                    fields: self.field_selector.clone(),
                    limit: self.chunk,
                    ..ListOptions::default()
                };
                let objects = cluster
                    .items(&kind, namespace.as_deref(), &options)
                    .await
                    .map_err(|error| listing(error, &kind, &options))?;
                Ok(objects.into_iter().map(|object| listed(&kind, object)).collect())
            }
            Wanted::Named { kind, namespace, name } => {
                let object =
                    if fetch { Some(cluster.fetch(&kind, namespace.as_deref(), &name).await?) } else { None };
                Ok(vec![Item { kind, namespace, name, object, source: String::new() }])
            }
            Wanted::Given { kind, namespace, name, object, source } => {
                let object =
                    if fetch { cluster.fetch(&kind, namespace.as_deref(), &name).await? } else { object };
                Ok(vec![Item { kind, namespace, name, object: Some(object), source }])
            }
        }
    }
}

fn listed(kind: &Kind, object: Value) -> Item {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_string();
    let namespace = kind.namespaced.then(|| text("namespace"));
    Item { kind: kind.clone(), namespace, name: text("name"), object: Some(object), source: String::new() }
}

/// The kinds of `a,b,c`, categories taken apart.
pub async fn kinds(cluster: &Cluster, types: &str) -> Result<Vec<Kind>> {
    let mut out: Vec<Kind> = Vec::new();
    for word in types.split(',') {
        let category: Vec<Kind> = cluster.discovery().await?.category(word).into_iter().cloned().collect();
        let found = if category.is_empty() { vec![cluster.kind(word).await?] } else { category };
        for kind in found {
            if !out.contains(&kind) {
                out.push(kind);
            }
        }
    }
    Ok(out)
}

async fn lists(cluster: &Cluster, types: &str, namespace: Option<String>) -> Result<Vec<Wanted>> {
    let kinds = kinds(cluster, types).await?;
    let list = |kind: Kind| Wanted::List { namespace: namespace.clone().filter(|_| kind.namespaced), kind };
    Ok(kinds.into_iter().map(list).collect())
}
