//! Writes to the API server as data.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::ApiResource;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(34);

/// A resource's coordinates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub kind: Cow<'static, str>,
}

impl Kind {
    /// The coordinates of a typed kind.
    pub fn of<T: Resource<DynamicType = ()>>() -> Self {
        Self { group: T::group(&()), version: T::version(&()), plural: T::plural(&()), kind: T::kind(&()) }
    }

    /// The coordinates for a client of objects without a type.
    pub fn dynamic(&self) -> ApiResource {
        ApiResource {
            group: self.group.to_string(),
            version: self.version.to_string(),
            api_version: self.api_version(),
            kind: self.kind.to_string(),
            plural: self.plural.to_string(),
        }
    }

    /// `group/version`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of one object, or of the collection if `name` is empty.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if !namespace.is_empty() {
            path += &format!("/namespaces/{namespace}");
        }
        path += &format!("/{}", self.plural);
        if name.is_empty() { path } else { format!("{path}/{name}") }
    }
}

/// The three patch formats in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Merge,
    Strategic,
    Json,
    Apply,
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Format::Merge => "application/merge-patch+json",
            Format::Strategic => "application/strategic-merge-patch+json",
            Format::Json => "application/json-patch+json",
            Format::Apply => "application/apply-patch+yaml",
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    Update,
    Patch(Format),
    Delete,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub verb: Verb,
    pub kind: Kind,
    pub namespace: String,
    /// Empty when the server makes the name.
    pub name: String,
    pub subresource: &'static str,
    pub body: Value,
    /// Query, such as `fieldManager=x&force=true`.
    pub query: &'static str,
    /// What it does, in short words for tests and logs.
    pub note: String,
}

fn body_of<T: Resource<DynamicType = ()> + Serialize>(object: &T) -> Value {
    let mut body = serde_json::to_value(object).unwrap_or_default();
    body["apiVersion"] = T::api_version(&()).into();
    body["kind"] = T::kind(&()).into();
    body
}

impl Write {
    fn on<T: Resource<DynamicType = ()>>(verb: Verb, meta: &ObjectMeta, body: Value) -> Self {
        Self {
            verb,
            kind: Kind::of::<T>(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            subresource: "",
            body,
            query: "",
            note: String::new(),
        }
    }

    /// Makes an object.
    pub fn create<T: Resource<DynamicType = ()> + Serialize>(object: &T) -> Self {
        Self::on::<T>(Verb::Create, object.meta(), body_of(object))
    }

    /// Replaces an object; its resource version must still be the newest.
    pub fn update<T: Resource<DynamicType = ()> + Serialize>(object: &T) -> Self {
        Self::on::<T>(Verb::Update, object.meta(), body_of(object))
    }

    /// Replaces an object's status.
    pub fn update_status<T: Resource<DynamicType = ()> + Serialize>(object: &T) -> Self {
        Self::update(object).subresource("status")
    }

    /// Patches an object.
    pub fn patch<T: Resource<DynamicType = ()>>(object: &T, format: Format, body: Value) -> Self {
        Self::on::<T>(Verb::Patch(format), object.meta(), body)
    }

    /// Deletes an object if it is still the same one.
    pub fn delete<T: Resource<DynamicType = ()>>(object: &T) -> Self {
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(uid) = &object.meta().uid {
            body["preconditions"] = json!({"uid": uid});
        }
        Self::on::<T>(Verb::Delete, object.meta(), body)
    }

    /// How dependents of a deleted object fare: Background, Foreground or Orphan.
    pub fn policy(mut self, policy: &str) -> Self {
        self.body["propagationPolicy"] = policy.into();
        self
    }

    /// Seconds until a deleted object is gone.
    pub fn grace(mut self, seconds: i64) -> Self {
        self.body["gracePeriodSeconds"] = seconds.into();
        self
    }

    /// Without the precondition that it is the same object.
    pub fn unconditional(mut self) -> Self {
        if let Some(body) = self.body.as_object_mut() {
            body.remove("preconditions");
        }
        self
    }

    /// A subresource of the object.
    pub fn subresource(mut self, subresource: &'static str) -> Self {
        self.subresource = subresource;
        self
    }

    /// Query parameters.
    pub fn query(mut self, query: &'static str) -> Self {
        self.query = query;
        self
    }

    /// Says in words what it does.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn method(&self) -> http::Method {
        match self.verb {
            Verb::Create => http::Method::POST,
            Verb::Update => http::Method::PUT,
            Verb::Patch(_) => http::Method::PATCH,
            Verb::Delete => http::Method::DELETE,
        }
    }

    fn request(&self) -> Result<http::Request<Vec<u8>>, http::Error> {
        let name = if self.verb == Verb::Create && self.subresource.is_empty() { "" } else { &self.name };
        let mut path = self.kind.path(&self.namespace, name);
        if !self.subresource.is_empty() {
            path += &format!("/{}", self.subresource);
        }
        if !self.query.is_empty() {
            path += &format!("?{}", self.query);
        }
        let content = match self.verb {
            Verb::Patch(format) => format.content_type(),
            _ => "application/json",
        };
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        http::Request::builder()
            .method(self.method())
            .uri(path)
            .header(http::header::CONTENT_TYPE, content)
            .header(http::header::ACCEPT, "application/json")
            .body(body)
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch(_) => "patch",
            Verb::Delete => "delete",
        };
        write!(f, "{verb} {}", self.kind.plural)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        let generated = self.body.pointer("/metadata/generateName").and_then(Value::as_str);
        let name = if self.name.is_empty() { generated.unwrap_or_default() } else { &self.name };
        write!(f, " {name}")?;
        if self.note.is_empty() { Ok(()) } else { write!(f, ": {}", self.note) }
    }
}

/// What the server answered, as far as anyone here looks at it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Answer {
    #[serde(default)]
    pub metadata: ObjectMeta,
}

/// Sends writes.
#[derive(Clone)]
pub struct Writer {
    client: kube::Client,
}

impl Writer {
    /// Writes as the identity of `client`.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// The client underneath, for live reads.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Sends one write and waits for its answer.
    pub async fn send(&self, write: &Write) -> Result<Answer, Failure> {
        self.send_as::<Answer>(write).await
    }

    /// As [`Writer::send`], with the answer in a form of the caller's.
    pub async fn send_as<A: serde::de::DeserializeOwned>(&self, write: &Write) -> Result<A, Failure> {
        let request = write.request().map_err(|e| Failure::new(write, kube::Error::HttpError(e)))?;
        tracing::trace!(%write, "write");
        match tokio::time::timeout(DEADLINE, self.client.request::<A>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::new(write, error)),
            Err(_) => Err(Failure {
                what: write.to_string(),
                code: 504,
                reason: "Timeout".into(),
                ..Failure::default()
            }),
        }
    }
}

/// Why a write failed.
#[derive(Debug, Default)]
pub struct Failure {
    what: String,
    /// HTTP status, 0 when there was no answer.
    pub code: u16,
    /// The Status reason.
    pub reason: String,
    /// The server's words.
    pub message: String,
    causes: Vec<String>,
}

impl Failure {
    fn new(write: &Write, error: kube::Error) -> Self {
        let what = write.to_string();
        match error {
            kube::Error::Api(status) => {
                let causes =
                    status.details.iter().flat_map(|d| d.causes.iter().map(|c| c.reason.clone())).collect();
                Self { what, code: status.code, reason: status.reason, message: status.message, causes }
            }
            other => Self { what, message: other.to_string(), ..Self::default() },
        }
    }

    /// A failure of a code, for tests.
    #[cfg(test)]
    pub fn of_code(code: u16) -> Self {
        Self { code, ..Self::default() }
    }

    /// The server said that it did nothing. Otherwise (no answer, or trouble within) nobody knows.
    pub fn is_definite(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// There is no such object.
    pub fn not_found(&self) -> bool {
        self.code == 404
    }

    /// The name is taken.
    pub fn already_exists(&self) -> bool {
        self.code == 409 && self.reason == "AlreadyExists"
    }

    /// Somebody else wrote first.
    pub fn conflict(&self) -> bool {
        self.code == 409 && self.reason == "Conflict"
    }

    /// Nobody knows whether it was done: no answer, or one that the server's own trouble made.
    pub fn uncertain(&self) -> bool {
        self.code == 0 || self.code >= 500
    }

    /// The object is not acceptable.
    pub fn invalid(&self) -> bool {
        self.code == 422
    }

    /// The namespace is going away, so nothing can be made there; not worth an event.
    pub fn namespace_terminating(&self) -> bool {
        self.causes.iter().any(|c| c == "NamespaceTerminating")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.what, self.message, self.reason)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Namespace;

    #[test]
    fn paths_and_words() {
        let mut set = ReplicaSet::default();
        set.metadata.name = Some("a".into());
        set.metadata.namespace = Some("ns".into());
        set.metadata.uid = Some("u".into());
        let write = Write::update_status(&set);
        assert_eq!(write.request().unwrap().uri(), "/apis/apps/v1/namespaces/ns/replicasets/a/status");
        assert_eq!(write.to_string(), "update replicasets/status a");
        let delete = Write::delete(&set).policy("Background");
        assert_eq!(delete.body["preconditions"]["uid"], "u");
        let mut ns = Namespace::default();
        ns.metadata.name = Some("x".into());
        assert_eq!(Write::create(&ns).request().unwrap().uri(), "/api/v1/namespaces");
        assert_eq!(Write::create(&ns).body["kind"], "Namespace");
    }
}
