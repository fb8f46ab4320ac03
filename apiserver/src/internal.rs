//! Writes of the server itself: the same path as everybody's, without the network and with every right.

use std::sync::Arc;

use machinery::status::Status;
use serde_json::Value;

use crate::app::App;
use crate::request::Ctx;
use crate::rest;

/// Creates an object (defaults, validation and admission included). `group_version` is `v1` or `apps/v1`.
pub async fn create(
    app: &Arc<App>,
    group_version: &str,
    plural: &str,
    namespace: &str,
    object: Value,
) -> Result<Value, Status> {
    let target = rest::Target::named(app, group_version, plural, namespace, "")?;
    rest::create::create_value(&Ctx::internal(app.clone()), &target, object).await
}

/// Replaces an object; its resourceVersion, if it has one, must be the stored one.
pub async fn update(
    app: &Arc<App>,
    group_version: &str,
    plural: &str,
    namespace: &str,
    object: Value,
) -> Result<Value, Status> {
    let name = machinery::meta::name(&object).to_owned();
    let target = rest::Target::named(app, group_version, plural, namespace, &name)?;
    rest::update::update_value(&Ctx::internal(app.clone()), &target, object).await
}

/// Deletes an object at once; not found is an error like any other.
pub async fn delete(
    app: &Arc<App>,
    group_version: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let target = rest::Target::named(app, group_version, plural, namespace, name)?;
    let options = serde_json::json!({"gracePeriodSeconds": 0});
    rest::delete::delete_object(&Ctx::internal(app.clone()), &target, &options).await.map(|_| ())
}

/// Reads an object from the cache.
pub fn get(app: &Arc<App>, group_resource: &str, namespace: &str, name: &str) -> Option<Value> {
    app.reader.get(group_resource, namespace, name).map(|entry| entry.parse())
}
