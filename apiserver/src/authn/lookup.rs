//! Reading stored objects by those who decide by them; a seam, so that the deciding can be tested without a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::cache::Entry;
use crate::reader::Reader;

/// How long to wait for the store at most.
const CATCH_UP: Duration = Duration::from_secs(1);

/// A view of stored objects. Resources are named `pods` or `leases.coordination.k8s.io`.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// One object; the namespace is empty for cluster-scoped ones.
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All objects of a namespace, or of all when it is empty.
    fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
    /// Labels of one object.
    fn labels(&self, resource: &str, namespace: &str, name: &str) -> Vec<(Box<str>, Box<str>)> {
        let object = self.get(resource, namespace, name);
        let labels = object.as_deref().and_then(machinery::meta::labels);
        let pair =
            |(key, value): (&String, &Value)| Some((Box::from(key.as_str()), Box::from(value.as_str()?)));
        labels.into_iter().flatten().filter_map(pair).collect()
    }
    /// Waits until everything stored by now is seen; not for long.
    async fn caught_up(&self) {}
}

/// What nearly every write is decided by: small and few, so worth keeping parsed.
const OFTEN_READ: [&str; 7] = [
    "namespaces",
    "serviceaccounts",
    "limitranges",
    "resourcequotas",
    "priorityclasses.scheduling.k8s.io",
    "runtimeclasses.node.k8s.io",
    "storageclasses.storage.k8s.io",
];

fn value_of(resource: &str, entry: &Entry) -> Arc<Value> {
    if OFTEN_READ.contains(&resource) { entry.parsed() } else { Arc::new(entry.parse()) }
}

#[async_trait]
impl Lookup for Reader {
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        Reader::get(self, resource, namespace, name).map(|e| value_of(resource, &e))
    }

    fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        Reader::list(self, resource, namespace).iter().map(|e| value_of(resource, e)).collect()
    }

    fn labels(&self, resource: &str, namespace: &str, name: &str) -> Vec<(Box<str>, Box<str>)> {
        let entry = Reader::get(self, resource, namespace, name);
        entry.iter().flat_map(|e| e.labels()).map(|(key, value)| (key.into(), value.into())).collect()
    }

    async fn caught_up(&self) {
        // Without an answer the view of a moment ago has to do.
        let _ = tokio::time::timeout(CATCH_UP, Reader::caught_up(self)).await;
    }
}

/// The text at a pointer, empty when it is absent.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The members of the list at a pointer.
pub fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
pub mod fixture {
    //! A store made of a list.

    use super::*;

    /// Resource and object.
    #[derive(Default)]
    pub struct Fixed(pub Vec<(String, Arc<Value>)>);

    impl Fixed {
        /// With one more object.
        pub fn with(mut self, resource: &str, object: Value) -> Self {
            self.0.push((resource.to_owned(), Arc::new(object)));
            self
        }
    }

    impl Lookup for Fixed {
        fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
            let named =
                |o: &Value| text(o, "/metadata/namespace") == namespace && text(o, "/metadata/name") == name;
            self.0.iter().find(|(r, o)| r == resource && named(o)).map(|(_, o)| o.clone())
        }

        fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
            let inside = |o: &Value| namespace.is_empty() || text(o, "/metadata/namespace") == namespace;
            self.0.iter().filter(|(r, o)| r == resource && inside(o)).map(|(_, o)| o.clone()).collect()
        }
    }
}
