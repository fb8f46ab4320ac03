//! The server: whom it lets in, and what it answers.

use std::sync::Arc;

use daemon::authorities::Watched;
use daemon::delegated::{Attributes, Delegated, User};
use daemon::health::Health;
use daemon::serving::{Body, Handler, PeerCert, full, healthz};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use machinery::selector::{FieldSelector, LabelSelector};
use machinery::status::Status;
use serde_json::Value;

use crate::accept::{Encoding, Form, Shape, chosen};
use crate::discovery::{self, GROUP, Resource, VERSION};
use crate::metrics::Metrics;
use crate::objects::{Amount, Answer, Body as Used, Container, Meta, Object, Time, Window};
use crate::scrape::Scraper;
use crate::store::Store;
use crate::table;
use crate::watch::{Seen, labels};

const JSON: &str = "application/json";
const FORMS: [&str; 3] = [JSON, "application/yaml", codec::proto::MEDIA_TYPE];
/// Paths that anyone may read.
const OPEN: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// All the server needs.
pub struct Api {
    /// Nodes and pods there are.
    pub seen: Seen,
    /// What they use.
    pub store: Arc<Store>,
    /// For its health.
    pub scraper: Arc<Scraper>,
    /// Its own.
    pub metrics: Metrics,
    /// Who may ask what.
    pub guard: Delegated,
    /// Whether it knows whom to trust.
    pub authorities: Arc<Watched>,
}

/// What was asked for, by the path.
#[derive(Debug, PartialEq)]
enum Asked<'a> {
    /// `/apis/metrics.k8s.io/v1beta1/...`; an empty name is all.
    Metrics { resource: &'a str, namespace: &'a str, name: &'a str },
    /// Anything else.
    Path,
}

impl<'a> Asked<'a> {
    fn by(path: &'a str) -> Self {
        let mut parts = path.trim_matches('/').split('/');
        if (parts.next(), parts.next(), parts.next()) != (Some("apis"), Some(GROUP), Some(VERSION)) {
            return Self::Path;
        }
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        match rest {
            [] => Self::Path,
            [resource] => Self::Metrics { resource, namespace, name: "" },
            [resource, name] => Self::Metrics { resource, namespace, name },
            // Deeper there is nothing, but who asks is checked as for what it looks like
            [resource, name, ..] => Self::Metrics { resource, namespace, name },
        }
    }
}

/// The parameters of a query that mean something here.
#[derive(Debug, Default, PartialEq)]
struct Query {
    labels: String,
    fields: String,
    watch: bool,
    include: String,
    verbose: bool,
}

impl Query {
    fn of(uri: &Uri) -> Self {
        let mut query = Self::default();
        for pair in uri.query().unwrap_or_default().split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value);
            match key {
                "labelSelector" => query.labels = value,
                "fieldSelector" => query.fields = value,
                "includeObject" => query.include = value,
                "watch" => query.watch = matches!(value.as_str(), "1" | "true" | "True" | "TRUE" | "t" | "T"),
                "verbose" => query.verbose = true,
                _ => {}
            }
        }
        query
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (digit(rest.next()).unwrap_or(0), digit(rest.next()).unwrap_or(0));
                u8::try_from(high * 16 + low).unwrap_or_default()
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Api {
    /// As a route of all paths.
    pub fn handler(self: Arc<Self>) -> Handler {
        Arc::new(move |request, _| {
            let api = self.clone();
            Box::pin(async move { api.answer(request).await })
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().trim_end_matches('/').to_string();
        if OPEN
            .iter()
            .any(|open| path == *open || path.strip_prefix(open).is_some_and(|rest| rest.starts_with('/')))
        {
            return self.health(&path, Query::of(request.uri()).verbose);
        }
        let asked = Asked::by(&path);
        let query = Query::of(request.uri());
        if let Err(refusal) = self.admit(&request, &asked, &query).await {
            return said(&refusal);
        }
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match asked {
            _ if !read => said(&Status::method_not_allowed()),
            Asked::Metrics { resource, .. } if query.watch => {
                said(&Status::method_not_supported(GROUP, resource, "watch"))
            }
            Asked::Metrics { resource, namespace, name } => match Resource::named(resource) {
                Some(resource) if depth(&path) <= depth_of(resource, namespace, name) => {
                    self.tell(resource, namespace, name, &query, request.headers())
                }
                _ => nothing(),
            },
            Asked::Path => self.about(&path, request.headers()),
        }
    }

    /// Live is who scrapes in time; ready who knows something to tell, and whom to tell it.
    fn health(&self, path: &str, verbose: bool) -> Response<Body> {
        let health = Health::default();
        health.set("metric-collection-timely", self.scraper.timely());
        if !path.starts_with("/livez") {
            let known = |known: bool| if known { Ok(()) } else { Err("not synced yet".to_string()) };
            health.set("metric-storage-ready", self.scraper.ready());
            health.set("metadata-informer-sync", known(self.seen.is_synced()));
            health.set("authorities", known(self.authorities.current().is_some()));
        }
        healthz(&health, path, verbose).unwrap_or_else(nothing)
    }

    async fn admit(
        &self,
        request: &Request<Incoming>,
        asked: &Asked<'_>,
        query: &Query,
    ) -> Result<(), Status> {
        let peer = request.extensions().get::<PeerCert>().and_then(|peer| peer.0.clone());
        let headers = request.headers();
        let user = match self.guard.authenticate(headers, peer.as_deref()).await {
            Some(user) => user,
            None if peer.is_none() && !headers.contains_key(header::AUTHORIZATION) => User::anonymous(),
            None => return Err(Status::unauthorized()),
        };
        let attributes = attributes(request.method(), request.uri().path(), asked, query);
        match self.guard.authorize(&user, &attributes).await {
            true => Ok(()),
            false => Err(forbidden(&user, &attributes)),
        }
    }

    fn about(&self, path: &str, headers: &HeaderMap) -> Response<Body> {
        let document = match path {
            "" => discovery::paths(),
            "/version" => discovery::version(),
            "/apis" => {
                return match chosen(headers, &[Shape::Object, Shape::Discovery]) {
                    Some((_, Shape::Discovery)) => {
                        let media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                        bytes(StatusCode::OK, media, json(&discovery::aggregated()))
                    }
                    _ => bytes(StatusCode::OK, JSON, json(&discovery::groups())),
                };
            }
            "/apis/metrics.k8s.io" => discovery::group(),
            "/apis/metrics.k8s.io/v1beta1" => discovery::resources(),
            "/openapi/v2" => discovery::openapi_v2(),
            "/openapi/v3" => discovery::openapi_v3(),
            "/openapi/v3/apis/metrics.k8s.io/v1beta1" => discovery::openapi_v3_group(),
            "/metrics" => {
                let text = self.metrics.registry().encode();
                return bytes(StatusCode::OK, daemon::metrics::CONTENT_TYPE, text.into_bytes());
            }
            _ => return nothing(),
        };
        bytes(StatusCode::OK, JSON, json(&document))
    }

    fn tell(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        query: &Query,
        headers: &HeaderMap,
    ) -> Response<Body> {
        let shapes = [Shape::Object, Shape::Table("v1"), Shape::Table("v1beta1"), Shape::Partial];
        let Some(form) = chosen(headers, &shapes) else { return said(&Status::not_acceptable(&FORMS)) };
        let answer = match (name, resource) {
            ("", _) => self.list(resource, namespace, query),
            (_, Resource::Nodes) => self.node(name).map(Answer::One),
            (_, Resource::Pods) => self.pod(namespace, name).map(Answer::One),
        };
        match answer {
            Ok(answer) => {
                self.note(&answer);
                written(&answer, resource.kind(), form, &query.include)
            }
            Err(status) => said(&status),
        }
    }

    fn note(&self, answer: &Answer) {
        let now = machinery::time::now_unix();
        for object in answer.objects() {
            let age = u64::try_from(now - object.timestamp.0).unwrap_or_default();
            self.metrics.told(std::time::Duration::from_secs(age));
        }
    }

    fn node(&self, name: &str) -> Result<Object, Status> {
        let node = self.seen.nodes.get("", name).ok_or_else(|| Status::not_found("", "nodes", name))?;
        self.node_object(&node.metadata).ok_or_else(|| Status::not_found(GROUP, "nodemetrics", name))
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Object, Status> {
        let pod = self.seen.pods.get(namespace, name).ok_or_else(|| Status::not_found("", "pods", name))?;
        let unknown = || Status::not_found(GROUP, "podmetrics", &format!("{namespace}/{name}"));
        self.pod_object(&pod.metadata).ok_or_else(unknown)
    }

    fn list(&self, resource: Resource, namespace: &str, query: &Query) -> Result<Answer, Status> {
        let wanted = Wanted::read(query)?;
        let mut objects: Vec<Object> = match resource {
            Resource::Nodes => {
                let nodes = self.seen.nodes.list();
                nodes
                    .iter()
                    .filter(|n| wanted.has(&n.metadata))
                    .filter_map(|n| self.node_object(&n.metadata))
                    .collect()
            }
            Resource::Pods => {
                let pods = if namespace.is_empty() {
                    self.seen.pods.list()
                } else {
                    self.seen.pods.by_namespace(namespace)
                };
                pods.iter()
                    .filter(|p| wanted.has(&p.metadata))
                    .filter_map(|p| self.pod_object(&p.metadata))
                    .collect()
            }
        };
        let place = |object: &Object| (object.metadata.namespace.clone(), object.metadata.name.clone());
        objects.sort_by_cached_key(place);
        Ok(Answer::List(objects))
    }

    fn node_object(&self, meta: &kube::core::ObjectMeta) -> Option<Object> {
        let usage = self.store.node(meta.name.as_deref()?)?;
        let body = Used::Usage(Amount::from(&usage));
        Some(object(meta, usage.time, usage.window, body))
    }

    fn pod_object(&self, meta: &kube::core::ObjectMeta) -> Option<Object> {
        let usage = self.store.pod(meta.namespace.as_deref()?, meta.name.as_deref()?)?;
        let container =
            |(name, usage): &(Box<str>, _)| Container { name: name.to_string(), usage: Amount::from(usage) };
        let body = Used::Containers(usage.containers.iter().map(container).collect());
        Some(object(meta, usage.time, usage.window, body))
    }
}

fn object(meta: &kube::core::ObjectMeta, time: i64, window: i64, body: Used) -> Object {
    let metadata = Meta {
        name: meta.name.clone().unwrap_or_default(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        creation_timestamp: Time(machinery::time::now_unix()),
        labels: labels(meta).clone(),
    };
    Object { metadata, timestamp: Time(time.div_euclid(1_000_000_000)), window: Window(window), body }
}

/// The selectors of a list.
struct Wanted {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Wanted {
    fn read(query: &Query) -> Result<Self, Status> {
        let labels = LabelSelector::parse(&query.labels).map_err(Status::bad_request)?;
        let fields = FieldSelector::parse(&query.fields).map_err(Status::bad_request)?;
        let unknown =
            fields.terms.iter().find(|t| !matches!(t.field.as_str(), "metadata.name" | "metadata.namespace"));
        match unknown {
            Some(term) => Err(Status::bad_request(format!(
                "{:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                term.field
            ))),
            None => Ok(Self { labels, fields }),
        }
    }

    fn has(&self, meta: &kube::core::ObjectMeta) -> bool {
        let field = |name: &str| match name {
            "metadata.name" => meta.name.as_deref().unwrap_or_default(),
            _ => meta.namespace.as_deref().unwrap_or_default(),
        };
        self.labels.matches(labels(meta)) && self.fields.matches(field)
    }
}

fn depth(path: &str) -> usize {
    path.trim_matches('/').split('/').count()
}

/// How many parts the path of such a request has; nodes are in no namespace.
fn depth_of(resource: Resource, namespace: &str, name: &str) -> usize {
    let named = usize::from(!name.is_empty());
    match (resource, namespace) {
        (Resource::Nodes, "") | (Resource::Pods, "") if named == 0 => 4,
        (Resource::Nodes, "") => 5,
        (Resource::Pods, namespace) if !namespace.is_empty() => 6 + named,
        _ => 0,
    }
}

fn attributes(method: &Method, path: &str, asked: &Asked<'_>, query: &Query) -> Attributes {
    let Asked::Metrics { resource, namespace, name } = asked else { return Attributes::path(method, path) };
    let verb = match (method.as_str(), name.is_empty()) {
        ("GET" | "HEAD", _) if query.watch => "watch",
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => "",
    };
    Attributes::Resource {
        verb: verb.into(),
        group: GROUP.into(),
        version: VERSION.into(),
        resource: (*resource).into(),
        subresource: String::new(),
        namespace: (*namespace).into(),
        name: (*name).into(),
    }
}

fn forbidden(user: &User, attributes: &Attributes) -> Status {
    match attributes {
        Attributes::Path { verb, path } => {
            let text = format!("User {:?} cannot {verb} path {path:?}", user.name);
            Status::forbidden("", "", "", text)
        }
        Attributes::Resource { verb, group, resource, namespace, name, .. } => {
            let place = match namespace.as_str() {
                "" => "at the cluster scope".to_string(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            let text = format!(
                "User {:?} cannot {verb} resource {resource:?} in API group {group:?} {place}",
                user.name
            );
            Status::forbidden(group, resource, name, text)
        }
    }
}

fn written(answer: &Answer, kind: &str, (encoding, shape): Form, include: &str) -> Response<Body> {
    let document: Option<Value> = match shape {
        Shape::Table(version) => Some(table::render(answer, kind, version, include)),
        Shape::Partial => Some(table::partial_answer(answer)),
        Shape::Object | Shape::Discovery => None,
    };
    let text = || document.as_ref().map_or_else(|| answer.json(kind).unwrap_or_default(), json);
    match encoding {
        Encoding::Json => bytes(StatusCode::OK, JSON, text()),
        Encoding::Protobuf => bytes(StatusCode::OK, codec::proto::MEDIA_TYPE, answer.protobuf(kind)),
        Encoding::Yaml => {
            let value: Value = serde_json::from_slice(&text()).unwrap_or_default();
            bytes(
                StatusCode::OK,
                "application/yaml",
                serde_yaml::to_string(&value).unwrap_or_default().into_bytes(),
            )
        }
    }
}

fn json(document: &Value) -> Vec<u8> {
    let mut text = document.to_string().into_bytes();
    text.push(b'\n');
    text
}

fn bytes(status: StatusCode, media: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

fn said(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    bytes(code, JSON, json(&status.to_value()))
}

fn nothing() -> Response<Body> {
    daemon::serving::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_who_may_ask() {
        let table = "
            GET    /apis/metrics.k8s.io/v1beta1/nodes                    list nodes - -
            GET    /apis/metrics.k8s.io/v1beta1/nodes/a                  get nodes - a
            GET    /apis/metrics.k8s.io/v1beta1/pods                     list pods - -
            GET    /apis/metrics.k8s.io/v1beta1/pods?watch=1             watch pods - -
            GET    /apis/metrics.k8s.io/v1beta1/namespaces/n/pods        list pods n -
            GET    /apis/metrics.k8s.io/v1beta1/namespaces/n/pods/p      get pods n p
            POST   /apis/metrics.k8s.io/v1beta1/namespaces/n/pods        create pods n -
            DELETE /apis/metrics.k8s.io/v1beta1/namespaces/n/pods/p      delete pods n p
            GET    /apis/metrics.k8s.io/v1beta1/namespaces/n/pods/p/log  get pods n p
            GET    /apis/metrics.k8s.io/v1beta1                          get
            GET    /metrics                                              get";
        for line in table.lines().skip(1) {
            let mut words = line.split_whitespace();
            let method: Method = words.next().unwrap().parse().unwrap();
            let uri: Uri = words.next().unwrap().parse().unwrap();
            let want: Vec<&str> = words.map(|word| if word == "-" { "" } else { word }).collect();
            match attributes(&method, uri.path(), &Asked::by(uri.path()), &Query::of(&uri)) {
                Attributes::Path { verb, .. } => assert_eq!(want, [verb], "{line}"),
                Attributes::Resource { verb, resource, namespace, name, .. } => {
                    assert_eq!(want, [verb, resource, namespace, name], "{line}");
                }
            }
        }
    }

    #[test]
    fn only_what_there_is_has_a_path() {
        for (path, there) in [
            ("nodes", true),
            ("nodes/a", true),
            ("nodes/a/status", false),
            ("namespaces/n/nodes", false),
            ("pods", true),
            ("pods/p", false),
            ("namespaces/n/pods", true),
            ("namespaces/n/pods/p", true),
            ("namespaces/n/pods/p/log", false),
        ] {
            let path = format!("/apis/metrics.k8s.io/v1beta1/{path}");
            let Asked::Metrics { resource, namespace, name } = Asked::by(&path) else { panic!("{path}") };
            let resource = Resource::named(resource).unwrap();
            assert_eq!(depth(&path) <= depth_of(resource, namespace, name), there, "{path}");
        }
    }

    #[test]
    fn selectors() {
        let query = |text: &str| Query::of(&format!("/x?{text}").parse().unwrap());
        let meta = kube::core::ObjectMeta {
            name: Some("p".into()),
            namespace: Some("n".into()),
            labels: Some([("app".to_string(), "x y".to_string())].into()),
            ..Default::default()
        };
        for (text, want) in [
            ("", Ok(true)),
            ("labelSelector=app", Ok(true)),
            ("labelSelector=app+in+%28a%2Cb%29", Ok(false)),
            ("fieldSelector=metadata.name%3Dp", Ok(true)),
            ("fieldSelector=metadata.name%21%3Dp", Ok(false)),
            ("fieldSelector=metadata.namespace%3Dn,metadata.name%3Dq", Ok(false)),
            ("fieldSelector=spec.nodeName%3Da", Err(400)),
            ("labelSelector=%2C%2C%3D", Err(400)),
        ] {
            let got =
                Wanted::read(&query(text)).map(|wanted| wanted.has(&meta)).map_err(|status| status.code);
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn strangers_hear_why() {
        let asked = Asked::Metrics { resource: "pods", namespace: "n", name: "" };
        let status = forbidden(&User::anonymous(), &attributes(&Method::GET, "", &asked, &Query::default()));
        assert_eq!(
            (status.code, status.message.as_str()),
            (
                403,
                r#"pods.metrics.k8s.io is forbidden: User "system:anonymous" cannot list resource "pods" in API group "metrics.k8s.io" in the namespace "n""#
            )
        );
        let status = forbidden(&User::anonymous(), &Attributes::path(&Method::GET, "/metrics"));
        assert_eq!(status.message, r#"forbidden: User "system:anonymous" cannot get path "/metrics""#);
    }
}
