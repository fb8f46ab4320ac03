//! Plugins between decoding and storing: they may change or refuse a write.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::Value;

use crate::app::App;
use crate::config::Config;
use crate::reader::Reader;
use crate::request::{UserInfo, Warnings};

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object (or subresource such as binding and eviction).
    Create,
    /// A changed object.
    Update,
    /// A deletion.
    Delete,
    /// exec, attach, portforward, proxy.
    Connect,
}

/// One write as admission sees it.
pub struct Attributes<'a> {
    /// What is done.
    pub op: Operation,
    /// The kind it is done to.
    pub resource: &'a Resource,
    /// Subresource, empty if none.
    pub subresource: &'a str,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name; empty on a create whose name is yet to be generated.
    pub name: &'a str,
    /// The caller.
    pub user: &'a UserInfo,
    /// The object as it is to be; None on delete.
    pub object: Option<&'a mut Value>,
    /// The object as it was; None on create.
    pub old: Option<&'a Value>,
    /// CreateOptions, UpdateOptions, DeleteOptions as sent.
    pub options: &'a Value,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// Collector of `Warning` headers.
    pub warnings: &'a Warnings,
    /// The server.
    pub app: &'a Arc<App>,
}

/// One admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Whether the plugin wants to see such a write at all.
    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool;

    /// The mutating phase; may change the object.
    async fn admit(&self, _attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }

    /// The validating phase; the object is final.
    async fn validate(&self, _attributes: &Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}

/// The plugins that are on, in upstream's order.
pub fn plugins(_config: &Config, _reader: &Reader) -> anyhow::Result<Vec<Arc<dyn Plugin>>> {
    Ok(Vec::new())
}
