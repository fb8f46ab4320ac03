//! The REST path: every verb once, for every kind.

use std::sync::Arc;

use http::{HeaderMap, Method};
use machinery::kinds::{Resource, Subresource, split_api_version};
use machinery::status::Status;

use crate::app::App;
use crate::cache::{Collection, collection::join_key};
use crate::http::{self as web, Request, Response};
use crate::request::{Ctx, RequestInfo};
use crate::{proxy, reviews};

pub mod admit;
pub mod binding;
pub mod body;
pub mod component_status;
pub mod convert;
pub mod create;
pub mod current;
pub mod delete;
pub mod encode;
pub mod eviction;
pub mod list;
pub mod members;
pub mod metadata;
pub mod negotiate;
pub mod params;
pub mod patch;
pub mod scale;
pub mod update;
pub mod watch;

pub use params::Query;

/// What a request is about.
#[derive(Clone)]
pub struct Target {
    /// The resource, in the version of the URL.
    pub resource: Arc<Resource>,
    /// The collection behind it; None for what is not stored.
    pub collection: Option<Arc<Collection>>,
    /// Subresource, empty if none.
    pub subresource: String,
    /// Namespace, empty for cluster scope or all namespaces.
    pub namespace: String,
    /// Name, empty for the whole collection.
    pub name: String,
}

impl Target {
    /// What a request's path names; NotFound when nothing like it is served.
    pub fn of(app: &App, info: &RequestInfo) -> Result<Self, Status> {
        let resource = (app.kinds.find(&info.group, &info.version, &info.resource))
            .ok_or_else(Status::generic_not_found)?;
        let unknown_subresource =
            !info.subresource.is_empty() && resource.subresource(&info.subresource).is_none();
        let wrong_scope =
            !resource.namespaced && !info.namespace.is_empty() && resource.plural != "namespaces";
        if unknown_subresource || wrong_scope {
            return Err(Status::generic_not_found());
        }
        let namespace = if resource.namespaced { info.namespace.clone() } else { String::new() };
        Ok(Self {
            collection: app.cache.collection(&resource.group_resource()),
            subresource: info.subresource.clone(),
            namespace,
            name: info.name.clone(),
            resource,
        })
    }

    /// A resource by its names.
    pub fn named(
        app: &App,
        group_version: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Self, Status> {
        let (group, version) = split_api_version(group_version);
        let resource =
            app.kinds.find(group, version, plural).ok_or_else(|| Status::not_found(group, plural, name))?;
        Ok(Self {
            collection: app.cache.collection(&resource.group_resource()),
            subresource: String::new(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            resource,
        })
    }

    /// The same object under a subresource, or without one.
    pub fn with_subresource(&self, subresource: &str) -> Self {
        Self { subresource: subresource.to_owned(), ..self.clone() }
    }

    /// The subresource, if the target is one.
    pub fn subresource(&self) -> Option<&Subresource> {
        self.resource.subresource(&self.subresource)
    }

    /// The subresource's name, if the target is one.
    pub fn sub(&self) -> Option<&str> {
        (!self.subresource.is_empty()).then_some(self.subresource.as_str())
    }

    /// The collection; MethodNotAllowed when the kind is not stored.
    pub fn stored(&self) -> Result<&Arc<Collection>, Status> {
        self.collection.as_ref().ok_or_else(|| self.not_supported("get"))
    }

    /// Full key in the store.
    pub fn key(&self) -> Result<String, Status> {
        Ok(format!("{}{}", self.stored()?.prefix, join_key(&self.namespace, &self.name)))
    }

    /// NotFound for this object.
    pub fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, &self.name)
    }

    /// Conflict about this object.
    pub fn conflict(&self, why: impl std::fmt::Display) -> Status {
        Status::conflict(&self.resource.group, &self.resource.plural, &self.name, why)
    }

    /// MethodNotAllowed for this resource.
    pub fn not_supported(&self, verb: &str) -> Status {
        Status::method_not_supported(&self.resource.group, &self.resource.plural, verb)
    }
}

/// Serves an authenticated and authorised request for a resource.
pub async fn serve(ctx: Ctx, query: Arc<Query>, request: Request) -> Response {
    let target = match Target::of(&ctx.app, &ctx.info) {
        Ok(target) => target,
        Err(_) => return web::text(http::StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    match dispatch(&ctx, target, &query, request).await {
        Ok(response) => response,
        Err(status) => web::status(&status),
    }
}

async fn dispatch(ctx: &Ctx, target: Target, query: &Query, request: Request) -> Result<Response, Status> {
    let method = request.method().clone();
    if proxy::handles(&target.resource.plural, &target.subresource) && target.resource.group.is_empty() {
        return connect(ctx, &target, request).await;
    }
    check_verb(&target, &ctx.info.verb)?;
    ctx.warnings.add(deprecation(&target.resource));
    if method == Method::POST && reviews::handles(&target.resource, &target.subresource) {
        return create::review(ctx, &target, query, request).await;
    }
    if let Some(answer) = component_status::serve(ctx, &target, query, request.headers()).await {
        return answer;
    }
    match ctx.info.verb.as_str() {
        "get" => get(ctx, &target, query, request.headers()).await,
        "list" => list::list(ctx, &target, query, request.headers()).await,
        "watch" => watch::watch(ctx, &target, query, request.headers()).await,
        "create" => create::create(ctx, &target, query, request).await,
        "update" => update::update(ctx, &target, query, request).await,
        "patch" => patch::patch(ctx, &target, query, request).await,
        "delete" => delete::delete(ctx, &target, query, request).await,
        "deletecollection" => delete::delete_collection(ctx, &target, query, request).await,
        verb => Err(target.not_supported(verb)),
    }
}

/// What every request for a deprecated kind is told.
fn deprecation(resource: &Resource) -> &'static str {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "endpoints") => "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        ("", "componentstatuses") => "v1 ComponentStatus is deprecated in v1.19+",
        _ => "",
    }
}

/// Refuses verbs the resource doesn't have, and those that go with a name without one, or the other way round.
fn check_verb(target: &Target, verb: &str) -> Result<(), Status> {
    let misplaced = match verb {
        "update" | "patch" => target.name.is_empty(),
        "create" => !target.name.is_empty() && target.subresource.is_empty(),
        _ => false,
    };
    if misplaced {
        return Err(target.not_supported(verb));
    }
    let has = match target.subresource() {
        Some(sub) => sub.verbs.iter().any(|v| v == verb),
        None => target.resource.has_verb(verb),
    };
    if has { Ok(()) } else { Err(target.not_supported(verb)) }
}

async fn get(ctx: &Ctx, target: &Target, query: &Query, headers: &HeaderMap) -> Result<Response, Status> {
    match target.subresource.as_str() {
        "scale" => scale::get(ctx, target, query, headers).await,
        _ => list::get(ctx, target, query, headers).await,
    }
}

async fn connect(ctx: &Ctx, target: &Target, request: Request) -> Result<Response, Status> {
    if target.subresource != "log" {
        admit::connect(ctx, target, request.uri().query().unwrap_or("")).await?;
    }
    Ok(proxy::connect(ctx.clone(), request).await)
}
