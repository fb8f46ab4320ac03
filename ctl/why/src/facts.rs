//! What was read from the API.

use std::collections::{BTreeMap, HashMap};

use coxctl_kit::dig;
use serde_json::Value;

/// Objects by kind, namespace and name; what could not be read is said too.
#[derive(Debug, Default)]
pub struct Facts {
    lists: HashMap<String, BTreeMap<(String, String), Value>>,
    /// Why a kind could not be read.
    refused: BTreeMap<String, String>,
    /// What is left in a namespace that is being deleted, of all kinds.
    remains: Vec<Value>,
    /// The last lines a container wrote, by namespace, pod and container.
    logs: HashMap<(String, String, String), String>,
}

impl Facts {
    /// Takes objects in; the kind counts as read even without any.
    pub fn take(&mut self, kind: &str, objects: Vec<Value>) {
        let list = self.lists.entry(kind.to_string()).or_default();
        for mut object in objects {
            let key = (namespace(&object).to_string(), name(&object).to_string());
            if let Some(map) = object.as_object_mut() {
                map.insert("kind".into(), kind.into());
            }
            list.insert(key, object);
        }
    }

    /// Remembers that a kind could not be read.
    pub fn refuse(&mut self, kind: &str, why: String) {
        self.refused.insert(kind.into(), why);
    }

    /// Remembers the last lines of a container.
    pub fn take_log(&mut self, namespace: &str, pod: &str, container: &str, text: String) {
        self.logs.insert((namespace.into(), pod.into(), container.into()), text);
    }

    /// Remembers an object that is left in a namespace that is being deleted.
    pub fn take_remains(&mut self, objects: Vec<Value>) {
        self.remains.extend(objects);
    }

    /// What is left in a namespace.
    pub fn remains<'a>(&'a self, of: &'a str) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.remains.iter().filter(move |object| namespace(object) == of)
    }

    /// The last lines of a container, if they were read.
    pub fn log(&self, pod: &Value, container: &str) -> Option<&str> {
        let key = (namespace(pod).to_string(), name(pod).to_string(), container.to_string());
        self.logs.get(&key).map(String::as_str)
    }

    /// Whether a kind was read: only then does a missing object mean that there is none.
    pub fn knows(&self, kind: &str) -> bool {
        self.lists.contains_key(kind)
    }

    /// Kinds that could not be read, and why.
    pub fn refused(&self) -> &BTreeMap<String, String> {
        &self.refused
    }

    /// All objects of a kind, by namespace and name.
    pub fn all<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Value> + Clone + use<'a> {
        self.lists.get(kind).into_iter().flat_map(BTreeMap::values)
    }

    /// The objects of a kind in a namespace.
    pub fn within<'a>(
        &'a self,
        kind: &str,
        of: &'a str,
    ) -> impl Iterator<Item = &'a Value> + Clone + use<'a> {
        self.all(kind).filter(move |object| namespace(object) == of)
    }

    /// One object; the namespace is empty for cluster-wide kinds.
    pub fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.lists.get(kind)?.get(&(namespace.to_string(), name.to_string()))
    }

    /// The objects of a kind that this one controls.
    pub fn children<'a>(&'a self, kind: &str, owner: &'a Value) -> Vec<&'a Value> {
        let uid = dig::text(owner, "metadata.uid");
        let owned = |object: &&Value| dig::controller(object).is_some_and(|o| dig::text(o, "uid") == uid);
        self.within(kind, namespace(owner)).filter(owned).collect()
    }
}

/// An object's name.
pub fn name(object: &Value) -> &str {
    dig::text(object, "metadata.name")
}

/// An object's namespace; empty outside namespaces.
pub fn namespace(object: &Value) -> &str {
    dig::text(object, "metadata.namespace")
}
