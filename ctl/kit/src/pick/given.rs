//! Objects from files, given their kind and namespace.

use serde_json::Value;

use super::Wanted;
use crate::files::Document;
use crate::print::gotext::quote;
use crate::{Cluster, Error, Result};

/// A file's object with its kind and namespace; a namespace of its own must not contradict `-n`.
pub(super) async fn given(cluster: &Cluster, document: Document) -> Result<Wanted> {
    let Document { mut object, source } = document;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let name = text(&object["metadata"]["name"]);
    let kind =
        cluster.kind_of(&api_version, &kind).await.map_err(|error| unmapped(error, &object, &source))?;
    let own = text(&object["metadata"]["namespace"]);
    if !kind.namespaced {
        return Ok(Wanted::Given { kind, namespace: None, name, object, source });
    }
    if !own.is_empty() && cluster.namespace_given && own != cluster.namespace {
        return Err(Error::message(format!(
            "the namespace from the provided object {} does not match the namespace {}. You must pass '--namespace={own}' to perform this operation.",
            quote(&own),
            quote(&cluster.namespace)
        )));
    }
    let namespace = if own.is_empty() { cluster.namespace.clone() } else { own };
    if let Some(map) = object.as_object_mut() {
        let metadata = map.entry("metadata").or_insert_with(|| Value::Object(Default::default()));
        metadata["namespace"] = namespace.clone().into();
    }
    Ok(Wanted::Given { kind, namespace: Some(namespace), name, object, source })
}

fn unmapped(error: Error, object: &Value, source: &str) -> Error {
    let Error::Message(text) = &error else { return error };
    if !text.starts_with("no matches for kind") {
        return error;
    }
    let field = |key: &str| quote(object["metadata"][key].as_str().unwrap_or_default());
    Error::message(format!(
        "resource mapping not found for name: {} namespace: {} from {}: {text}",
        field("name"),
        field("namespace"),
        quote(source)
    ))
}
