//! The scale subresource: autoscaling/v1 Scale over deployments, replicasets, statefulsets and replicationcontrollers.

use http::{HeaderMap, StatusCode};
use machinery::field::{FieldError, Path};
use machinery::meta;
use machinery::selector::LabelSelector;
use machinery::status::Status;
use serde_json::{Value, json};

use super::create::Made;
use super::list::read;
use super::negotiate::{Format, View};
use super::params::{Query, version};
use super::patch::Patch;
use super::update::{Preconditions, main_strategy, modify};
use super::{Target, encode};
use crate::http::Response;
use crate::request::Ctx;

/// Serves a get of a scale.
pub async fn get(ctx: &Ctx, target: &Target, query: &Query, headers: &HeaderMap) -> Result<Response, Status> {
    let format = Format::from_headers(headers, query, true)?;
    let entry = read(ctx, target, version(query.get("resourceVersion"), true)?).await?;
    let scale = scale_of(&encode::entry_value(target, &entry)?);
    answer(target, &format, query.get("includeObject"), scale)
}

/// Serves an update of a scale.
pub async fn update(
    ctx: &Ctx,
    target: &Target,
    scale: Value,
    options: &Value,
    format: &Format,
) -> Result<Response, Status> {
    let wanted = Preconditions {
        version: meta::resource_version(&scale).to_owned(),
        uid: meta::uid(&scale).to_owned(),
        must_have_version: false,
    };
    let change = |old: &Value| with_replicas(target, old, &scale);
    set(ctx, target, &wanted, options, format, &change).await
}

/// Serves a patch of a scale.
pub async fn patch(
    ctx: &Ctx,
    target: &Target,
    patch: &Patch,
    options: &Value,
    format: &Format,
) -> Result<Response, Status> {
    let change = |old: &Value| {
        let scale = patch.apply(ctx, target, &scale_of(old))?;
        with_replicas(target, old, &scale)
    };
    set(ctx, target, &Preconditions::default(), options, format, &change).await
}

async fn set(
    ctx: &Ctx,
    target: &Target,
    wanted: &Preconditions,
    options: &Value,
    format: &Format,
    change: super::update::Change<'_>,
) -> Result<Response, Status> {
    let strategy = main_strategy(target);
    let made = modify(ctx, target, &*strategy, wanted, options, change).await?;
    let object = match made {
        Made::Stored(entry) => encode::entry_value(target, &entry)?,
        Made::Dry(object) => object,
    };
    answer(target, format, "", scale_of(&object))
}

fn answer(target: &Target, format: &Format, include: &str, scale: Value) -> Result<Response, Status> {
    let shown = match format.view {
        View::Whole => scale,
        View::Partial => encode::partial(&scale, format),
        View::Table => {
            let meta = json!({"resourceVersion": meta::resource_version(&scale)});
            encode::table(target, format, include, &[scale], meta)
        }
    };
    encode::value(target, format, StatusCode::OK, shown)
}

fn with_replicas(target: &Target, old: &Value, scale: &Value) -> Result<Value, Status> {
    let version = meta::resource_version(scale);
    if !version.is_empty() && version != meta::resource_version(old) {
        return Err(target.conflict(
            "the object has been modified; please apply your changes to the latest version and try again",
        ));
    }
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let at = Path::new("spec").child("replicas");
        let error = FieldError::invalid(&at, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", &target.name, vec![error]));
    }
    let mut new = old.clone();
    new["spec"]["replicas"] = replicas.into();
    Ok(new)
}

/// The scale of an object.
pub fn scale_of(object: &Value) -> Value {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{key}")) {
            metadata[key] = value.clone();
        }
    }
    let mut spec = json!({});
    if let Some(replicas) = object["spec"]["replicas"].as_i64().filter(|r| *r != 0) {
        spec["replicas"] = replicas.into();
    }
    let mut status = json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    let selector = selector_text(object);
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec, "status": status})
}

fn selector_text(object: &Value) -> String {
    let selector = &object["spec"]["selector"];
    match selector.as_object() {
        None => String::new(),
        // A replication controller selects by a plain map.
        Some(map) if meta::kind(object) == "ReplicationController" => {
            LabelSelector::from_map(map).to_string()
        }
        Some(_) => LabelSelector::from_json(selector).map(|s| s.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_of_a_deployment() {
        let object = json!({"kind": "Deployment", "metadata": {"name": "d", "namespace": "n", "labels": {"x": "y"}, "resourceVersion": "5"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a", "b": "c"}}}, "status": {"replicas": 2}});
        let scale = scale_of(&object);
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=a,b=c"}));
        assert!(scale["metadata"].get("labels").is_none());
    }
}
