//! `tree`: an object, what owns it and what it owns, with how each of them is.

mod draw;
mod state;

use std::collections::HashMap;

use clap::Args;
use coxctl_kit::{Cluster, Error, Globals, Item, Kind, ListOptions, Pick, Result, out};
use futures::StreamExt;
use serde_json::Value;

/// How many lists are asked for at the same time.
const AT_ONCE: usize = 8;
/// Kinds that own nothing and are owned by nothing worth showing.
const LEFT_OUT: &[&str] = &["events", "events.events.k8s.io", "componentstatuses", "endpoints"];

/// The flags of `tree`.
#[derive(Args, Clone, Debug)]
pub struct TreeArgs {
    /// TYPE NAME or TYPE/NAME
    pub words: Vec<String>,
    /// Leave the owners out and begin with the object itself
    #[arg(long = "no-owners")]
    pub no_owners: bool,
}

/// Objects by their uid, and who owns whom.
#[derive(Default)]
pub struct Forest {
    objects: HashMap<String, Value>,
    children: HashMap<String, Vec<String>>,
}

/// Prints the tree of each object named.
pub async fn run(args: &TreeArgs, globals: &Globals) -> Result<i32> {
    let cluster = globals.connect().await?;
    let items = Pick { words: args.words.clone(), ..Pick::default() }.items(&cluster, true).await?.all()?;
    for item in &items {
        let forest = Forest::load(&cluster, item).await?;
        let object = item.object.as_ref().ok_or_else(|| Error::message("nothing to show"))?;
        let uid = uid(object);
        let root = if args.no_owners { uid.clone() } else { forest.top(&uid) };
        out::put(&draw::tree(&forest, &root, &uid, globals.colours()));
    }
    Ok(0)
}

pub(crate) fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_string()
}

impl Forest {
    /// All objects of the object's namespace; of all namespaces and none for an object outside namespaces.
    async fn load(cluster: &Cluster, item: &Item) -> Result<Forest> {
        let discovery = cluster.discovery().await?;
        let everywhere = item.namespace.is_none();
        let shown = |kind: &&Kind| {
            kind.can("list")
                && kind.can("watch")
                && (everywhere || kind.namespaced)
                && !LEFT_OUT.contains(&kind.group_resource().as_str())
        };
        let kinds: Vec<Kind> = discovery.preferred().into_iter().filter(shown).cloned().collect();
        let namespace = item.namespace.as_deref();
        let options = ListOptions::default();
        let lists = futures::stream::iter(&kinds)
            .map(|kind| cluster.items(kind, namespace, &options))
            .buffered(AT_ONCE);
        // What one may not see is left out of the picture.
        let objects: Vec<Value> = lists
            .filter_map(async |list| list.ok())
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .flatten()
            .collect();
        let mut forest = Forest::grow(objects.into_iter().chain(item.object.clone()));
        forest.owners_outside(cluster, item).await;
        Ok(forest)
    }

    fn grow(objects: impl Iterator<Item = Value>) -> Forest {
        let mut forest = Forest::default();
        for object in objects {
            let own = uid(&object);
            for owner in object["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
                let list =
                    forest.children.entry(owner["uid"].as_str().unwrap_or_default().to_string()).or_default();
                if !list.contains(&own) {
                    list.push(own.clone());
                }
            }
            forest.objects.insert(own, object);
        }
        forest
    }

    /// Owners that live outside the namespace, such as the node of a static pod.
    async fn owners_outside(&mut self, cluster: &Cluster, item: &Item) {
        let mut missing: Vec<Value> = Vec::new();
        for owner in item
            .object
            .iter()
            .flat_map(|object| object["metadata"]["ownerReferences"].as_array().into_iter().flatten())
        {
            if !self.objects.contains_key(owner["uid"].as_str().unwrap_or_default()) {
                missing.push(owner.clone());
            }
        }
        for owner in missing {
            let text = |key: &str| owner[key].as_str().unwrap_or_default().to_string();
            let Ok(kind) = cluster.kind_of(&text("apiVersion"), &text("kind")).await else { continue };
            if let Ok(Some(object)) = cluster.find(&kind, item.namespace.as_deref(), &text("name")).await {
                self.objects.insert(uid(&object), object);
            }
        }
    }

    /// The first owner, its first owner, and so on, the controller before others.
    fn owner(&self, of: &str) -> Option<&Value> {
        let owners = self.objects.get(of)?["metadata"]["ownerReferences"].as_array()?;
        let known = |owner: &&Value| self.objects.contains_key(owner["uid"].as_str().unwrap_or_default());
        let chosen = owners
            .iter()
            .filter(known)
            .find(|owner| owner["controller"] == true)
            .or_else(|| owners.iter().find(known))?;
        self.objects.get(chosen["uid"].as_str()?)
    }

    fn top(&self, of: &str) -> String {
        let mut path = vec![of.to_string()];
        while let Some(owner) = self.owner(path.last().map(String::as_str).unwrap_or_default()) {
            let uid = uid(owner);
            if path.contains(&uid) {
                break;
            }
            path.push(uid);
        }
        path.pop().unwrap_or_default()
    }
}
