//! What a request is once its path and its caller are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::admission::resource_quota::Charges;
use crate::app::App;

/// Who calls: the outcome of authentication (and of impersonation).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// User name, e.g. `system:node:worker-1`.
    pub name: String,
    /// Unique id of the user, often empty.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Further attributes of the authenticator.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// The API server itself: used for objects it keeps of its own accord.
    pub fn apiserver() -> Self {
        Self {
            name: "system:apiserver".into(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
            ..Self::default()
        }
    }

    /// Somebody without credentials.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Self::default()
        }
    }

    /// Whether the user is a member of `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// A request path taken apart, and the verb it means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path names a resource (as opposed to `/healthz` and the like).
    pub is_resource: bool,
    /// The path as sent, without the query.
    pub path: String,
    /// get, list, watch, create, update, patch, delete, deletecollection, proxy; the lower-case HTTP method for paths that are no resource.
    pub verb: String,
    /// `api` or `apis`; empty for paths that are no resource.
    pub api_prefix: String,
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty when cluster-scoped or for all namespaces.
    pub namespace: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, empty if none.
    pub subresource: String,
    /// Object name, empty for collections. Lists and watches selecting `metadata.name=x` carry x here.
    pub name: String,
    /// The path segments from the resource on: resource, name, subresource, rest.
    pub parts: Vec<String>,
    /// Label selector of the query, as sent (for authorisation).
    pub label_selector: String,
    /// Field selector of the query, as sent (for authorisation).
    pub field_selector: String,
}

impl RequestInfo {
    /// `resource` or `resource/subresource`.
    pub fn resource_path(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// Whether the request only reads.
    pub fn is_read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }

    /// Whether the request may run on without a deadline.
    pub fn is_long_running(&self) -> bool {
        matches!(self.verb.as_str(), "watch" | "proxy")
            || (self.is_resource
                && matches!(self.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward"))
    }
}

/// Warnings collected for the response's `Warning` headers, without repeats.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds one warning text.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock();
        if !text.is_empty() && !all.contains(&text) {
            all.push(text);
        }
    }

    /// All texts so far, in order.
    pub fn list(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// Everything a handler, strategy or plugin may know of the request it serves.
#[derive(Clone)]
pub struct Ctx {
    /// The caller, after impersonation.
    pub user: Arc<UserInfo>,
    /// The request's path and verb.
    pub info: Arc<RequestInfo>,
    /// The server.
    pub app: Arc<App>,
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `fieldManager`, or the first word of the user agent.
    pub field_manager: String,
    /// Collector of `Warning` headers.
    pub warnings: Warnings,
    /// What storing the object costs its namespace's quotas.
    pub charges: Charges,
}

impl Ctx {
    /// A context for the server's own work, with every right.
    pub fn internal(app: Arc<App>) -> Self {
        Self {
            user: Arc::new(UserInfo::apiserver()),
            info: Arc::new(RequestInfo::default()),
            app,
            dry_run: false,
            field_manager: "kube-apiserver".into(),
            warnings: Warnings::default(),
            charges: Charges::default(),
        }
    }
}
