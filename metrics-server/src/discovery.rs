//! What the server says of itself: groups, resources, OpenAPI.

use serde_json::{Value, json};

use crate::objects::API_VERSION;

/// The group.
pub const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

/// A resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Nodes,
    Pods,
}

impl Resource {
    /// By its name in paths.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "nodes" => Some(Self::Nodes),
            "pods" => Some(Self::Pods),
            _ => None,
        }
    }

    /// The name in paths, which is that of what is measured.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }

    /// The kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetrics",
            Self::Pods => "PodMetrics",
        }
    }
}

const RESOURCES: [Resource; 2] = [Resource::Nodes, Resource::Pods];

/// `/apis/metrics.k8s.io/v1beta1`.
pub fn resources() -> Value {
    let resource = |r: Resource| json!({"name": r.plural(), "singularName": "", "namespaced": r == Resource::Pods, "kind": r.kind(), "verbs": ["get", "list"]});
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": RESOURCES.map(resource)})
}

/// `/apis/metrics.k8s.io`.
pub fn group() -> Value {
    let version = json!({"groupVersion": API_VERSION, "version": VERSION});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version})
}

/// `/apis`.
pub fn groups() -> Value {
    let mut group = group();
    if let Some(group) = group.as_object_mut() {
        group.remove("kind");
        group.remove("apiVersion");
    }
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})
}

/// `/apis`, all in one.
pub fn aggregated() -> Value {
    let resource = |r: Resource| {
        json!({
            "resource": r.plural(),
            "responseKind": {"group": "", "version": "", "kind": r.kind()},
            "scope": if r == Resource::Pods { "Namespaced" } else { "Cluster" },
            "singularResource": "",
            "verbs": ["get", "list"],
        })
    };
    let version = json!({"version": VERSION, "resources": RESOURCES.map(resource), "freshness": "Current"});
    let item = json!({"metadata": {"name": GROUP, "creationTimestamp": null}, "versions": [version]});
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [item]})
}

/// `/`.
pub fn paths() -> Value {
    json!({"paths": ["/apis", "/apis/metrics.k8s.io", "/apis/metrics.k8s.io/v1beta1", "/healthz", "/livez", "/metrics",
        "/openapi/v2", "/openapi/v3", "/openapi/v3/apis/metrics.k8s.io/v1beta1", "/readyz", "/version"]})
}

/// `/version`.
pub fn version() -> Value {
    json!({"major": "0", "minor": "8", "gitVersion": format!("v{}", env!("CARGO_PKG_VERSION")), "platform": "linux/amd64"})
}

const PACKAGE: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";

/// `/openapi/v3`.
pub fn openapi_v3() -> Value {
    json!({"paths": {"apis/metrics.k8s.io/v1beta1": {
        "serverRelativeURL": format!("/openapi/v3/apis/metrics.k8s.io/v1beta1?hash={}", env!("CARGO_PKG_VERSION"))}}})
}

/// `/openapi/v3/apis/metrics.k8s.io/v1beta1`.
pub fn openapi_v3_group() -> Value {
    let mut paths = serde_json::Map::new();
    for (path, kind) in routes() {
        let schema = json!({"$ref": format!("#/components/schemas/{PACKAGE}.{kind}")});
        let answer = json!({"description": "OK", "content": {"application/json": {"schema": schema}}});
        paths
            .insert(path.into(), json!({"get": {"tags": ["metrics_v1beta1"], "responses": {"200": answer}}}));
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes metrics-server", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths, "components": {"schemas": schemas("#/components/schemas")}})
}

/// `/openapi/v2`.
pub fn openapi_v2() -> Value {
    let mut paths = serde_json::Map::new();
    for (path, kind) in routes() {
        let schema = json!({"$ref": format!("#/definitions/{PACKAGE}.{kind}")});
        let get = json!({"tags": ["metrics_v1beta1"], "produces": ["application/json"],
            "responses": {"200": {"description": "OK", "schema": schema}}});
        paths.insert(path.into(), json!({"get": get}));
    }
    json!({"swagger": "2.0", "info": {"title": "Kubernetes metrics-server", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths, "definitions": schemas("#/definitions")})
}

fn routes() -> [(&'static str, &'static str); 5] {
    [
        ("/apis/metrics.k8s.io/v1beta1/nodes", "NodeMetricsList"),
        ("/apis/metrics.k8s.io/v1beta1/nodes/{name}", "NodeMetrics"),
        ("/apis/metrics.k8s.io/v1beta1/pods", "PodMetricsList"),
        ("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods", "PodMetricsList"),
        ("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods/{name}", "PodMetrics"),
    ]
}

fn schemas(root: &str) -> Value {
    let usage = json!({"type": "object", "description": "What is used, by resource", "additionalProperties": {"type": "string"}});
    let list = |kind: &str| json!({"type": "array", "items": {"$ref": format!("{root}/{PACKAGE}.{kind}")}});
    let own = |kind: &str, key: &str, value: Value| {
        let mut schema = json!({
            "type": "object",
            "description": format!("{kind}: resource usage, measured"),
            "required": ["timestamp", "window", key],
            "properties": {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                "timestamp": {"type": "string", "format": "date-time", "description": "When it was measured"},
                "window": {"type": "string", "description": "Time before the timestamp over which it was measured"},
            },
            "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": kind}],
        });
        schema["properties"][key] = value;
        schema
    };
    let all = |kind: &str| {
        json!({
            "type": "object", "description": format!("A list of {kind}"), "required": ["items"],
            "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}, "items": list(kind)},
            "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": format!("{kind}List")}],
        })
    };
    json!({
        format!("{PACKAGE}.ContainerMetrics"): {"type": "object", "description": "Resource usage of a container",
            "required": ["name", "usage"], "properties": {"name": {"type": "string"}, "usage": usage}},
        format!("{PACKAGE}.NodeMetrics"): own("NodeMetrics", "usage", usage.clone()),
        format!("{PACKAGE}.PodMetrics"): own("PodMetrics", "containers", list("ContainerMetrics")),
        format!("{PACKAGE}.NodeMetricsList"): all("NodeMetrics"),
        format!("{PACKAGE}.PodMetricsList"): all("PodMetrics"),
    })
}
