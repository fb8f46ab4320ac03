//! Every resource as data: routes, discovery, printing, garbage collection and storage are driven by these.
//!
//! Built-in resources come from the tables in `data/`; custom resources make the same [`Resource`] at run time.

use crate::schema::{self, Type, full_name, type_named};
use std::sync::{Arc, LazyLock};

/// A group, a version and a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gvk {
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

impl Gvk {
    /// From parts.
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// `version` or `group/version`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }
}

/// `version` for the core group, else `group/version`.
pub fn api_version(group: &str, version: &str) -> String {
    match group.is_empty() {
        true => version.to_string(),
        false => format!("{group}/{version}"),
    }
}

/// Splits an `apiVersion` into group and version.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// A subresource of a resource.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Name, such as `status` or `scale`.
    pub name: String,
    /// Kind of its request and response bodies.
    pub gvk: Gvk,
    /// Verbs it takes.
    pub verbs: Vec<String>,
    /// Type of its bodies, when it has one.
    pub object_type: Option<&'static Type>,
}

/// A printed column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// OpenAPI type: string, integer, number, boolean or date.
    pub type_: String,
    /// OpenAPI format; `name` marks the object's name.
    pub format: String,
    /// Description.
    pub description: String,
    /// 0 in the normal view, above that only with `-o wide`.
    pub priority: i32,
    /// JSON path of the cell; custom resources only.
    pub json_path: Option<String>,
}

/// A field selector label a resource takes.
#[derive(Clone, Debug)]
pub struct FieldLabel {
    /// Label in the selector.
    pub label: String,
    /// Dotted path of the value in the object.
    pub path: String,
    /// False when objects never have the value: the label then only matches the empty string.
    pub present: bool,
}

/// One resource in one version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind of the objects.
    pub kind: String,
    /// Kind of the lists, such as `PodList`.
    pub list_kind: String,
    /// Resource name in paths.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Lives in namespaces.
    pub namespaced: bool,
    /// Verbs it takes, sorted.
    pub verbs: Vec<String>,
    /// Short names for command lines.
    pub short_names: Vec<String>,
    /// Categories such as `all`.
    pub categories: Vec<String>,
    /// Schema of built-in kinds.
    pub object_type: Option<&'static Type>,
    /// Key prefix in etcd, ending in `/`; empty when not stored.
    pub etcd_prefix: String,
    /// Version and kind objects are stored in; `None` when not stored.
    pub storage_version: Option<Gvk>,
    /// Served without `--runtime-config`.
    pub default_enabled: bool,
    /// Release the version appeared in, such as `1.9`; empty when not known.
    pub introduced: String,
    /// Release the version goes away in; empty when not planned.
    pub removed: String,
    /// Subresources, sorted.
    pub subresources: Vec<Subresource>,
    /// Printed columns; empty means Name and Created At.
    pub columns: Vec<Column>,
    /// Field selector labels.
    pub field_labels: Vec<FieldLabel>,
}

impl Resource {
    /// Group, version and kind.
    pub fn gvk(&self) -> Gvk {
        Gvk::new(&self.group, &self.version, &self.kind)
    }

    /// `apiVersion` of the objects.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// `plural` or `plural.group`, as in error messages and CRD names.
    pub fn group_resource(&self) -> String {
        match self.group.is_empty() {
            true => self.plural.clone(),
            false => format!("{}.{}", self.plural, self.group),
        }
    }

    /// True when the resource takes the verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// True when objects are kept in etcd.
    pub fn is_stored(&self) -> bool {
        self.storage_version.is_some()
    }

    /// The version objects are stored in, or the resource's own.
    pub fn storage_api_version(&self) -> String {
        self.storage_version.as_ref().map_or_else(|| self.api_version(), Gvk::api_version)
    }

    /// Schema of the stored form.
    pub fn storage_type(&self) -> Option<&'static Type> {
        let gvk = self.storage_version.as_ref()?;
        by_kind(&gvk.group, &gvk.version, &gvk.kind).and_then(|r| r.object_type).or(self.object_type)
    }

    /// Path prefix of the group version: `/api/v1` or `/apis/apps/v1`.
    pub fn base_path(&self) -> String {
        match self.group.is_empty() {
            true => format!("/api/{}", self.version),
            false => format!("/apis/{}/{}", self.group, self.version),
        }
    }
}

/// A group version in discovery order.
#[derive(Clone, Debug)]
pub struct GroupVersion {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Preferred version of its group.
    pub preferred: bool,
    /// Served without `--runtime-config`.
    pub default_enabled: bool,
}

struct Tables {
    resources: Vec<Arc<Resource>>,
    groups: Vec<GroupVersion>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    resources: read_resources(include_str!("../data/resources.txt")),
    groups: read_groups(include_str!("../data/groups.txt")),
});

/// All built-in resources of all versions, in discovery order within their group version.
pub fn builtin() -> &'static [Arc<Resource>] {
    &TABLES.resources
}

/// The built-in resource with this plural name.
pub fn find(group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
    builtin().iter().find(|r| r.plural == plural && r.version == version && r.group == group).cloned()
}

/// The built-in resource of a kind.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
    builtin().iter().find(|r| r.kind == kind && r.version == version && r.group == group).cloned()
}

/// All group versions in discovery order.
pub fn groups() -> &'static [GroupVersion] {
    &TABLES.groups
}

/// The schema of any kind of the table, helper kinds (`Scale`, `Eviction`, `DeleteOptions`, lists) included.
pub fn type_of(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    if let Some(found) = BY_GVK.get(&(group.to_string(), version.to_string(), kind.to_string())) {
        return Some(found);
    }
    type_named(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"))
        .filter(|t| t.is_kind() && is_meta_kind(kind))
}

/// Kinds of meta.k8s.io/v1 that are registered in every group version.
fn is_meta_kind(kind: &str) -> bool {
    const KINDS: [&str; 9] = [
        "WatchEvent",
        "ListOptions",
        "GetOptions",
        "DeleteOptions",
        "CreateOptions",
        "UpdateOptions",
        "PatchOptions",
        "Status",
        "Table",
    ];
    const OTHERS: [&str; 7] = [
        "PartialObjectMetadata",
        "PartialObjectMetadataList",
        "APIGroup",
        "APIGroupList",
        "APIResourceList",
        "APIVersions",
        "List",
    ];
    KINDS.contains(&kind) || OTHERS.contains(&kind)
}

static BY_GVK: LazyLock<ahash::AHashMap<(String, String, String), &'static Type>> = LazyLock::new(|| {
    let mut map = ahash::AHashMap::new();
    for ty in schema::all_types().iter().filter(|t| t.is_kind()) {
        for (group, version, kind) in gvks_of(ty) {
            map.insert((group, version, kind), ty);
        }
    }
    map
});

/// The kinds a type is published as; option types are placed by their package.
fn gvks_of(ty: &'static Type) -> Vec<(String, String, String)> {
    let listed = ty.gvk.split(',').filter_map(|gvk| {
        let mut parts = gvk.rsplitn(3, '/');
        let (kind, version, group) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
        (version != "*").then(|| (group.to_string(), version.to_string(), kind.to_string()))
    });
    let mut all: Vec<_> = listed.collect();
    if let Some((group, version)) = package_group(ty.name) {
        all.push((group.to_string(), version.to_string(), ty.short_name().to_string()));
    }
    all
}

/// Group and version of a type's package.
fn package_group(name: &str) -> Option<(&'static str, &str)> {
    let mut parts = name.rsplit('.').skip(1);
    let (version, package) = (parts.next()?, parts.next()?);
    let group = match package {
        "core" => "",
        "apps" => "apps",
        "batch" => "batch",
        "autoscaling" => "autoscaling",
        "policy" => "policy",
        "admission" => "admission.k8s.io",
        "admissionregistration" => "admissionregistration.k8s.io",
        "apidiscovery" => "apidiscovery.k8s.io",
        "apiextensions" => "apiextensions.k8s.io",
        "apiregistration" => "apiregistration.k8s.io",
        "apiserverinternal" => "internal.apiserver.k8s.io",
        "authentication" => "authentication.k8s.io",
        "authorization" => "authorization.k8s.io",
        "certificates" => "certificates.k8s.io",
        "coordination" => "coordination.k8s.io",
        "discovery" => "discovery.k8s.io",
        "events" => "events.k8s.io",
        "flowcontrol" => "flowcontrol.apiserver.k8s.io",
        "metrics" => "metrics.k8s.io",
        "networking" => "networking.k8s.io",
        "node" => "node.k8s.io",
        "rbac" => "rbac.authorization.k8s.io",
        "resource" => "resource.k8s.io",
        "scheduling" => "scheduling.k8s.io",
        "storage" => "storage.k8s.io",
        "storagemigration" => "storagemigration.k8s.io",
        _ => return None,
    };
    Some((group, version))
}

fn read_groups(text: &str) -> Vec<GroupVersion> {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| {
        let cell = cells(line);
        GroupVersion {
            group: cell(0).into(),
            version: cell(1).into(),
            preferred: cell(2) == "1",
            default_enabled: cell(3) == "1",
        }
    })
    .collect()
}

fn read_resources(text: &str) -> Vec<Arc<Resource>> {
    let mut resources: Vec<Resource> = Vec::with_capacity(100);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("+\t") {
            None => resources.push(read_resource(line)),
            Some(rest) => {
                if let Some(resource) = resources.last_mut() {
                    let sub = read_subresource(rest);
                    resource.subresources.push(sub);
                }
            }
        }
    }
    read_columns(include_str!("../data/columns.txt"), &mut resources);
    read_labels(include_str!("../data/field-labels.txt"), &mut resources);
    resources.into_iter().map(Arc::new).collect()
}

/// Access to the cells of a row; missing ones are empty.
fn cells<'a>(line: &'a str) -> impl Fn(usize) -> &'a str {
    let parts: Vec<&'a str> = line.split('\t').collect();
    move |at| parts.get(at).copied().unwrap_or_default()
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_string).collect()
}

fn read_resource(line: &str) -> Resource {
    let cell = cells(line);
    Resource {
        group: cell(0).into(),
        version: cell(1).into(),
        kind: cell(2).into(),
        list_kind: format!("{}List", cell(2)),
        plural: cell(3).into(),
        singular: cell(4).into(),
        namespaced: cell(5) == "1",
        verbs: list(cell(6)),
        short_names: list(cell(7)),
        categories: list(cell(8)),
        object_type: type_named(&full_name(cell(9))),
        storage_version: read_gvk(cell(10)),
        default_enabled: cell(11) == "1",
        etcd_prefix: cell(12).into(),
        introduced: cell(13).into(),
        removed: cell(14).into(),
        subresources: Vec::new(),
        columns: Vec::new(),
        field_labels: Vec::new(),
    }
}

fn read_gvk(text: &str) -> Option<Gvk> {
    let mut parts = text.rsplitn(3, '/');
    let (kind, version) = (parts.next()?, parts.next()?);
    Some(Gvk::new(parts.next().unwrap_or_default(), version, kind))
}

fn read_subresource(line: &str) -> Subresource {
    let cell = cells(line);
    let (api_version, kind) = cell(1).split_once(' ').unwrap_or_default();
    let (group, version) = split_api_version(api_version);
    Subresource {
        name: cell(0).into(),
        gvk: Gvk::new(group, version, kind),
        verbs: list(cell(2)),
        object_type: type_of(group, version, kind),
    }
}

/// Columns hold for every version of a kind.
fn read_columns(text: &str, resources: &mut [Resource]) {
    let mut kind = (String::new(), String::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('\t') {
            Some(rest) if !rest.is_empty() && is_column(rest) => {
                let column = read_column(rest);
                let owners = resources.iter_mut().filter(|r| r.group == kind.0 && r.kind == kind.1);
                owners.for_each(|r| r.columns.push(column.clone()));
            }
            _ => {
                let cell = cells(line);
                kind = (cell(0).into(), cell(1).into());
            }
        }
    }
}

/// A column row has a type in its second cell; a row of a core kind also starts with a tab but has one cell.
fn is_column(rest: &str) -> bool {
    rest.contains('\t')
}

fn read_column(line: &str) -> Column {
    let cell = cells(line);
    Column {
        name: cell(0).into(),
        type_: cell(1).into(),
        format: cell(2).into(),
        description: String::new(),
        priority: cell(3).parse().unwrap_or_default(),
        json_path: None,
    }
}

/// Printed columns of a kind that is no resource, such as `autoscaling` `Scale` or `meta` `Status`.
pub fn columns_of(group: &str, kind: &str) -> Vec<Column> {
    let mut stand_in = vec![read_resource(&format!("{group}\t\t{kind}"))];
    read_columns(include_str!("../data/columns.txt"), &mut stand_in);
    stand_in.pop().map(|r| r.columns).unwrap_or_default()
}

fn read_labels(text: &str, resources: &mut [Resource]) {
    let mut owner: Option<usize> = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("\t=") {
            Some(rest) => {
                if let Some(resource) = owner.and_then(|at| resources.get_mut(at)) {
                    resource.field_labels.push(read_label(rest));
                }
            }
            None => {
                let cell = cells(line);
                let is_owner =
                    |r: &Resource| r.group == cell(0) && r.version == cell(1) && r.plural == cell(2);
                owner = resources.iter().position(is_owner);
            }
        }
    }
}

fn read_label(line: &str) -> FieldLabel {
    let cell = cells(line);
    let path = if cell(1).is_empty() { cell(0) } else { cell(1) };
    FieldLabel { label: cell(0).into(), path: path.into(), present: cell(2) != "-" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_complete() {
        assert_eq!(builtin().len(), 95);
        assert_eq!(builtin().iter().map(|r| r.subresources.len()).sum::<usize>(), 55);
        assert_eq!(groups().len(), 36);
        assert!(builtin().iter().all(|r| r.object_type.is_some()));
        assert!(builtin().iter().all(|r| !r.field_labels.is_empty() || !r.has_verb("list")));
        assert!(builtin().iter().all(|r| r.columns.len() >= 2 || !r.has_verb("list")));
    }

    #[test]
    fn pods() {
        let pods = find("", "v1", "pods").expect("pods");
        assert_eq!((pods.kind.as_str(), pods.etcd_prefix.as_str()), ("Pod", "/registry/pods/"));
        assert_eq!(pods.subresource("eviction").map(|s| s.gvk.api_version()), Some("policy/v1".into()));
        assert!(pods.subresources.iter().all(|s| s.object_type.is_some()));
        assert_eq!(pods.columns.len(), 9);
        let label = pods.field_labels.iter().find(|l| l.label == "spec.host").expect("label");
        assert_eq!((label.path.as_str(), label.present), ("spec.nodeName", true));
        assert!(type_of("apps", "v1", "DeleteOptions").is_some());
        assert!(type_of("apps", "v1", "DeploymentList").is_some());
        assert_eq!(columns_of("autoscaling", "Scale").len(), 4);
        assert_eq!(columns_of("meta", "Status").len(), 3);
    }

    #[test]
    fn every_list_has_a_type() {
        for r in builtin().iter().filter(|r| r.has_verb("list")) {
            assert!(type_of(&r.group, &r.version, &r.list_kind).is_some(), "{}", r.list_kind);
        }
    }
}
