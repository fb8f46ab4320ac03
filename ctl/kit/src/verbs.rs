//! The usual verbs on objects.

use http::Method;
use serde_json::Value;

use crate::{Call, Cluster, Error, Kind, ListOptions, PatchType, Result, Write};

impl Cluster {
    /// One object or subresource.
    pub async fn get(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
    ) -> Result<Value> {
        self.send(Call::get(kind.path(namespace, Some(name), subresource))).await?.json()
    }

    /// One object; where its namespace is what is missing, the error says that.
    pub async fn fetch(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<Value> {
        match self.get(kind, namespace, name, None).await {
            Err(error) => Err(self.missing(error, namespace).await),
            found => found,
        }
    }

    /// Of an object that wasn't found, whether it is the namespace that isn't there.
    pub async fn missing(&self, error: Error, namespace: Option<&str>) -> Error {
        let Some(namespace) =
            namespace.filter(|name| error.is_not_found() && !name.is_empty() && *name != "default")
        else {
            return error;
        };
        match self.send(Call::get(format!("/api/v1/namespaces/{}", crate::kind::escape(namespace)))).await {
            Err(other) if other.is_not_found() => other,
            _ => error,
        }
    }

    /// One object, or none where there is none.
    pub async fn find(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<Option<Value>> {
        match self.get(kind, namespace, name, None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All pages of a list as one List object; `namespace` None means all of them.
    pub async fn list(&self, kind: &Kind, namespace: Option<&str>, options: &ListOptions) -> Result<Value> {
        let path = kind.path(namespace, None, None);
        let mut whole: Option<Value> = None;
        let mut next: Option<String> = None;
        loop {
            let mut page = self.send(list_call(&path, options, next.as_deref())).await?.json()?;
            let rest =
                page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()).map(str::to_string);
            match &mut whole {
                None => whole = Some(page),
                Some(whole) => extend(whole, &mut page),
            }
            match rest {
                Some(token) => next = Some(token),
                None => return Ok(cleaned(whole.unwrap_or_default())),
            }
        }
    }

    /// The items of a list, each with the `apiVersion` and `kind` the server leaves out.
    pub async fn items(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<Vec<Value>> {
        let mut list = self.list(kind, namespace, options).await?;
        Ok(take_items(&mut list, kind))
    }

    pub async fn create(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        object: &Value,
        write: &Write,
    ) -> Result<Value> {
        let call = Call::new(Method::POST, kind.path(namespace, None, None)).json(object);
        self.send(write.onto(call)).await?.json()
    }

    /// Creates through a subresource of an object: eviction, token, binding.
    pub async fn create_sub(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        object: &Value,
        write: &Write,
    ) -> Result<Value> {
        let call = Call::new(Method::POST, kind.path(namespace, Some(name), Some(subresource))).json(object);
        self.send(write.onto(call)).await?.json()
    }

    pub async fn update(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        object: &Value,
        write: &Write,
    ) -> Result<Value> {
        let call = Call::new(Method::PUT, kind.path(namespace, Some(name), subresource)).json(object);
        self.send(write.onto(call)).await?.json()
    }

    pub async fn patch(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        how: PatchType,
        patch: &Value,
        write: &Write,
    ) -> Result<Value> {
        let body = patch.to_string().into_bytes();
        let call = Call::new(Method::PATCH, kind.path(namespace, Some(name), subresource))
            .body(how.content_type(), body);
        self.send(write.onto(call)).await?.json()
    }

    /// Deletes with the given DeleteOptions (without kind and apiVersion, as kubectl sends them).
    pub async fn delete(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        options: &Value,
    ) -> Result<Value> {
        self.send(Call::new(Method::DELETE, kind.path(namespace, Some(name), None)).json(options))
            .await?
            .json()
    }
}

fn list_call(path: &str, options: &ListOptions, next: Option<&str>) -> Call {
    let mut call = Call::get(path)
        .query_some("continue", next)
        .query_some("fieldSelector", options.fields.clone().filter(|text| !text.is_empty()))
        .query_some("labelSelector", options.labels.clone().filter(|text| !text.is_empty()))
        .query_some("limit", (options.limit > 0).then(|| options.limit.to_string()));
    call.query.extend(options.extra.iter().cloned());
    call.accept = options.accept.clone();
    call
}

/// Takes a list's items out, filling in what kind they are.
pub fn take_items(list: &mut Value, kind: &Kind) -> Vec<Value> {
    let items = list.get_mut("items").map(Value::take).unwrap_or_default();
    let Value::Array(mut items) = items else { return Vec::new() };
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.entry("apiVersion").or_insert_with(|| kind.api_version().into());
        item.entry("kind").or_insert_with(|| kind.kind.clone().into());
    }
    items
}

fn extend(whole: &mut Value, page: &mut Value) {
    for key in ["items", "rows"] {
        let Some(Value::Array(more)) = page.get_mut(key).map(Value::take) else { continue };
        if let Some(Value::Array(all)) = whole.get_mut(key) {
            all.extend(more);
        }
    }
    whole["metadata"]["resourceVersion"] = page["metadata"]["resourceVersion"].clone();
}

/// A list put together from pages has nothing left to continue with.
fn cleaned(mut list: Value) -> Value {
    if let Some(metadata) = list.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("continue");
        metadata.remove("remainingItemCount");
    }
    list
}
