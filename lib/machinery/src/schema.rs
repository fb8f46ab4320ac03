//! Every API type as data.
//!
//! `data/types.txt` is parsed once, on first use, into tables that live as long as the process: the JSON decoder,
//! the protobuf codec, strategic merge, OpenAPI and defaulting all walk these tables.

use ahash::AHashMap;
use std::sync::OnceLock;

/// What a field holds, or what the items of its list or map hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A UTF-8 string.
    String,
    /// A 32-bit signed integer.
    Int32,
    /// A 64-bit signed integer.
    Int64,
    /// A boolean.
    Bool,
    /// A 64-bit float.
    Double,
    /// Bytes, base64 in JSON.
    Bytes,
    /// Another type of the table, see [`Field::ty`].
    Message,
    /// Any JSON value.
    Any,
}

/// How many values a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// One value.
    One,
    /// A list.
    List,
    /// A map with string keys.
    Map,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    Atomic,
    /// Items identified by [`Field::list_keys`].
    Map,
    /// Items are unique scalars.
    Set,
}

/// `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    /// Replaced as a whole.
    Atomic,
    /// Merged key by key.
    Granular,
}

/// How a type looks in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonForm {
    /// An object with the members of [`Type::fields`].
    Object,
    /// RFC 3339 with whole seconds, or null.
    Time,
    /// RFC 3339 with microseconds, or null.
    MicroTime,
    /// A quantity string; a number is accepted.
    Quantity,
    /// A number or a string.
    IntOrString,
    /// A Go duration string.
    Duration,
    /// Any object, kept as it is.
    Raw,
    /// The managed fields set, an object kept as it is.
    FieldsV1,
    /// Any JSON value.
    Json,
    /// An array of strings (a wrapper message in protobuf).
    Strings,
    /// A JSON schema or an array of them.
    SchemaOrArray,
    /// A JSON schema or a boolean.
    SchemaOrBool,
    /// A JSON schema or an array of strings.
    SchemaOrStrings,
}

/// Index of a type in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(u16);

/// One field of a type.
#[derive(Clone, Debug)]
pub struct Field {
    /// JSON name; empty for inlined structs.
    pub json: &'static str,
    /// Protobuf field number; 0 when the field has no protobuf form.
    pub tag: u32,
    /// Kind of the value, of the items or of the map's values.
    pub kind: FieldKind,
    /// One, list or map.
    pub card: Card,
    /// Type of the value for [`FieldKind::Message`].
    pub type_ref: Option<TypeId>,
    /// Listed under `required` in OpenAPI.
    pub required: bool,
    /// The members of the value sit in the parent's JSON object.
    pub inline: bool,
    /// Presence is kept: unset differs from zero.
    pub ptr: bool,
    /// Zero scalars and empty lists and maps are left out of JSON.
    pub omit_empty: bool,
    /// Zero structs are left out of JSON too.
    pub omit_zero: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-list-map-keys`.
    pub list_keys: &'static [&'static str],
    /// `x-kubernetes-map-type`.
    pub map_type: Option<MapType>,
    /// `x-kubernetes-patch-strategy`, such as `merge` or `merge,retainKeys`.
    pub patch_strategy: &'static str,
    /// `x-kubernetes-patch-merge-key`.
    pub patch_key: Option<&'static str>,
    /// Default published in OpenAPI, as JSON text.
    pub default: Option<&'static str>,
    /// OpenAPI format.
    pub format: Option<&'static str>,
    /// Published enumeration; empty when there is none.
    pub enum_values: &'static [&'static str],
    /// Go type where the derived one would be wrong, for messages of type errors.
    go_type: Option<&'static str>,
}

/// One API type.
#[derive(Debug)]
pub struct Type {
    /// Full name, such as `io.k8s.api.core.v1.PodSpec`.
    pub name: &'static str,
    id: TypeId,
    /// Its form in JSON.
    pub form: JsonForm,
    /// Fields by field number, inlined ones included as they are.
    pub fields: Vec<Field>,
    /// In the published OpenAPI document.
    pub served: bool,
    /// `group/version/kind` entries separated by commas, for kinds.
    pub gvk: &'static str,
    /// `x-kubernetes-map-type` of the struct.
    pub map_type: Option<MapType>,
    /// `discriminator:member,member` of unions, else empty.
    pub unions: &'static str,
}

/// The tables, built once.
struct Tables {
    types: &'static [Type],
    /// All JSON members of a type, inlined ones included, sorted by name.
    members: Vec<Vec<(&'static str, &'static Field)>>,
    /// The members that are in the canonical JSON even when empty.
    emitted: Vec<Vec<(&'static str, &'static Field)>>,
    by_name: AHashMap<&'static str, TypeId>,
}

const SOURCE: &str = include_str!("../data/types.txt");

/// Package prefixes of the table's short names.
const PACKAGES: [(&str, &str); 5] = [
    ("@", "io.k8s.api."),
    ("#", "io.k8s.apimachinery.pkg.apis.meta.v1."),
    ("%", "io.k8s.apimachinery.pkg."),
    ("$", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions."),
    ("&", "io.k8s.kube-aggregator.pkg.apis.apiregistration."),
];

impl Type {
    /// The member with this JSON name, inlined structs' members included.
    pub fn field(&self, json: &str) -> Option<&'static Field> {
        let members = self.members();
        let at = members.binary_search_by(|(name, _)| (*name).cmp(json)).ok()?;
        members.get(at).map(|(_, field)| *field)
    }

    /// All JSON members sorted by name, inlined structs' members included.
    pub fn members(&self) -> &'static [(&'static str, &'static Field)] {
        tables().members.get(usize::from(self.id.0)).map_or(&[], Vec::as_slice)
    }

    /// The members that upstream prints even when they are empty: see [`Field::emitted_empty`].
    pub fn emitted(&self) -> &'static [(&'static str, &'static Field)] {
        tables().emitted.get(usize::from(self.id.0)).map_or(&[], Vec::as_slice)
    }

    /// Index of the type.
    pub fn id(&self) -> TypeId {
        self.id
    }

    /// True when the Go type is a struct, which `omitempty` never leaves out.
    pub fn is_struct(&self) -> bool {
        !matches!(self.form, JsonForm::Strings)
    }

    /// Last segment of the name, such as `PodSpec`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// Name as Go prints it, such as `v1.PodSpec`.
    pub fn go_name(&self) -> String {
        let mut parts = self.name.rsplit('.');
        let last = parts.next().unwrap_or_default();
        format!("{}.{last}", parts.next().unwrap_or_default())
    }

    /// True when the type is a top-level kind, so that it has `apiVersion` and `kind`.
    pub fn is_kind(&self) -> bool {
        self.fields.first().is_some_and(|f| f.inline && f.tag == 0)
    }
}

impl Field {
    /// The type of the value, of the items or of the map's values.
    pub fn ty(&self) -> Option<&'static Type> {
        self.type_ref.map(type_by_id)
    }

    /// Go type as it is spelled in type errors, such as `int32`, `[]v1.Container` or `map[string]string`.
    pub fn go_type(&self) -> String {
        if let Some(given) = self.go_type {
            return given.to_string();
        }
        let item = match self.kind {
            FieldKind::String => "string".to_string(),
            FieldKind::Int32 => "int32".to_string(),
            FieldKind::Int64 => "int64".to_string(),
            FieldKind::Bool => "bool".to_string(),
            FieldKind::Double => "float64".to_string(),
            FieldKind::Bytes => "[]uint8".to_string(),
            FieldKind::Any => "interface {}".to_string(),
            FieldKind::Message => self.ty().map(Type::go_name).unwrap_or_default(),
        };
        match self.card {
            Card::One => item,
            Card::List => format!("[]{item}"),
            Card::Map => format!("map[string]{item}"),
        }
    }

    /// Go type of one item of a list or map.
    pub fn go_item_type(&self) -> String {
        let whole = self.go_type();
        let item = whole.strip_prefix("[]").or_else(|| whole.strip_prefix("map[string]"));
        match (self.card, item) {
            (Card::One, _) | (_, None) => whole,
            (_, Some(item)) => item.to_string(),
        }
    }

    /// True when the Go encoder writes the member even if it is unset: value structs without `omitzero`, and
    /// scalars, lists and maps without `omitempty`. Unset pointers are written as null only without `omitempty`;
    /// readers take that for absent, so they are left out here.
    pub fn emitted_empty(&self) -> bool {
        self.emits_with(self.ty())
    }

    fn emits_with(&self, ty: Option<&Type>) -> bool {
        if self.ptr || self.omit_zero || self.inline || self.json.is_empty() {
            return false;
        }
        match (self.card, self.kind) {
            (Card::One, FieldKind::Message) => ty.is_some_and(Type::is_struct) || !self.omit_empty,
            _ => !self.omit_empty,
        }
    }

    /// True when strategic merge patches merge this list or map item by item.
    pub fn merges(&self) -> bool {
        self.patch_strategy.split(',').any(|s| s == "merge")
    }

    /// True when the patch strategy has `retainKeys`.
    pub fn retains_keys(&self) -> bool {
        self.patch_strategy.split(',').any(|s| s == "retainKeys")
    }
}

/// The type with this full name.
pub fn type_named(name: &str) -> Option<&'static Type> {
    let tables = tables();
    tables.by_name.get(name).and_then(|id| tables.types.get(usize::from(id.0)))
}

/// The type behind an id.
pub fn type_by_id(id: TypeId) -> &'static Type {
    &tables().types[usize::from(id.0)]
}

/// All types, sorted by name.
pub fn all_types() -> &'static [Type] {
    tables().types
}

/// The list type of a kind, such as `…v1.PodList` for `…v1.Pod`.
pub fn list_type_of(item: &Type) -> Option<&'static Type> {
    type_named(&format!("{}List", item.name))
}

/// Spells a short table name in full.
pub(crate) fn full_name(short: &str) -> String {
    for (mark, package) in PACKAGES {
        if let Some(rest) = short.strip_prefix(mark) {
            return format!("{package}{rest}");
        }
    }
    short.to_string()
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(build)
}

fn build() -> Tables {
    let by_name = read_names();
    let types: &'static [Type] = Box::leak(read_types(&by_name).into_boxed_slice());
    let members: Vec<_> = types.iter().map(|ty| members_of(types, ty)).collect();
    let emitted = members.iter().map(|m| emitted_of(types, m)).collect();
    Tables { types, members, emitted, by_name }
}

/// First pass: the names, so that fields can refer to types further down.
fn read_names() -> AHashMap<&'static str, TypeId> {
    let names = lines().filter(|line| !line.starts_with('\t'));
    let named = names.enumerate().map(|(at, line)| {
        let short = line.split('\t').next().unwrap_or_default();
        (leak(full_name(short)), TypeId(at as u16))
    });
    named.collect()
}

fn lines() -> impl Iterator<Item = &'static str> {
    SOURCE.lines().filter(|line| !line.starts_with("# "))
}

fn read_types(by_name: &AHashMap<&'static str, TypeId>) -> Vec<Type> {
    let short: AHashMap<&'static str, TypeId> = lines()
        .filter(|line| !line.starts_with('\t'))
        .enumerate()
        .map(|(at, line)| (line.split('\t').next().unwrap_or_default(), TypeId(at as u16)))
        .collect();
    let mut types: Vec<Type> = Vec::with_capacity(by_name.len());
    for line in lines() {
        match line.strip_prefix('\t') {
            None => types.push(read_type(line, types.len(), by_name)),
            Some(rest) => {
                if let Some(ty) = types.last_mut() {
                    ty.fields.push(read_field(rest, &short));
                }
            }
        }
    }
    types
}

fn read_type(line: &'static str, at: usize, by_name: &AHashMap<&'static str, TypeId>) -> Type {
    let mut cells = line.split('\t');
    let full = full_name(cells.next().unwrap_or_default());
    let name = by_name.get_key_value(full.as_str()).map_or("", |(name, _)| *name);
    Type {
        name,
        id: TypeId(at as u16),
        form: form(cells.next().unwrap_or_default()),
        fields: Vec::new(),
        served: cells.next().unwrap_or_default().is_empty(),
        gvk: cells.next().unwrap_or_default(),
        map_type: map_type(cells.next().unwrap_or_default()),
        unions: cells.next().unwrap_or_default(),
    }
}

fn form(word: &str) -> JsonForm {
    match word {
        "time" => JsonForm::Time,
        "micro-time" => JsonForm::MicroTime,
        "quantity" => JsonForm::Quantity,
        "int-or-string" => JsonForm::IntOrString,
        "duration" => JsonForm::Duration,
        "raw" => JsonForm::Raw,
        "fields" => JsonForm::FieldsV1,
        "json" => JsonForm::Json,
        "strings" => JsonForm::Strings,
        "schema-or-array" => JsonForm::SchemaOrArray,
        "schema-or-bool" => JsonForm::SchemaOrBool,
        "schema-or-strings" => JsonForm::SchemaOrStrings,
        _ => JsonForm::Object,
    }
}

fn map_type(word: &str) -> Option<MapType> {
    match word {
        "atomic" => Some(MapType::Atomic),
        "granular" => Some(MapType::Granular),
        _ => None,
    }
}

fn list_type(word: &str) -> Option<ListType> {
    match word {
        "atomic" => Some(ListType::Atomic),
        "map" => Some(ListType::Map),
        "set" => Some(ListType::Set),
        _ => None,
    }
}

fn read_field(line: &'static str, short: &AHashMap<&'static str, TypeId>) -> Field {
    let mut cells = line.split('\t');
    let json = cells.next().unwrap_or_default();
    let tag = cells.next().and_then(|t| t.parse().ok()).unwrap_or_default();
    let code = cells.next().unwrap_or_default();
    let type_ref = cells.next().and_then(|name| short.get(name).copied());
    let mut field = blank_field(json, tag, code, type_ref);
    for extra in cells {
        read_extra(&mut field, extra);
    }
    field
}

fn blank_field(json: &'static str, tag: u32, code: &str, type_ref: Option<TypeId>) -> Field {
    let (kind, card) = kind_and_card(code);
    let flag = |letter: char| code.chars().skip(2).any(|c| c == letter);
    Field {
        json,
        tag,
        kind,
        card,
        type_ref,
        required: flag('r'),
        inline: flag('i'),
        ptr: flag('p'),
        omit_empty: flag('e'),
        omit_zero: flag('z'),
        list_type: None,
        list_keys: &[],
        map_type: None,
        patch_strategy: "",
        patch_key: None,
        default: None,
        format: None,
        enum_values: &[],
        go_type: None,
    }
}

fn kind_and_card(code: &str) -> (FieldKind, Card) {
    let mut letters = code.chars();
    let kind = match letters.next() {
        Some('i') => FieldKind::Int32,
        Some('l') => FieldKind::Int64,
        Some('b') => FieldKind::Bool,
        Some('d') => FieldKind::Double,
        Some('y') => FieldKind::Bytes,
        Some('m') => FieldKind::Message,
        Some('a') => FieldKind::Any,
        _ => FieldKind::String,
    };
    let card = match letters.next() {
        Some('l') => Card::List,
        Some('m') => Card::Map,
        _ => Card::One,
    };
    (kind, card)
}

fn read_extra(field: &mut Field, extra: &'static str) {
    let Some((letter, value)) = extra.split_at_checked(1) else { return };
    match letter {
        "L" => field.list_type = list_type(value),
        "K" => field.list_keys = words(value),
        "M" => field.map_type = map_type(value),
        "S" => field.patch_strategy = value,
        "P" => field.patch_key = Some(value),
        "D" => field.default = Some(value),
        "F" => field.format = Some(value),
        "E" => field.enum_values = words(value),
        "G" => field.go_type = Some(value),
        _ => {}
    }
}

fn words(list: &'static str) -> &'static [&'static str] {
    Box::leak(list.split(',').collect::<Vec<_>>().into_boxed_slice())
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Flattens inlined structs into one sorted member list. An outer member hides an inner one of the same name.
fn members_of(types: &'static [Type], ty: &'static Type) -> Vec<(&'static str, &'static Field)> {
    let mut members = Vec::with_capacity(ty.fields.len());
    collect_members(types, ty, &mut members);
    members.sort_by_key(|(name, _)| *name);
    members.dedup_by_key(|(name, _)| *name);
    members
}

/// Works on the slice because the table itself is still being built.
fn emitted_of(
    types: &'static [Type],
    members: &[(&'static str, &'static Field)],
) -> Vec<(&'static str, &'static Field)> {
    let type_of = |f: &Field| f.type_ref.and_then(|id| types.get(usize::from(id.0)));
    members.iter().copied().filter(|(_, f)| f.emits_with(type_of(f))).collect()
}

fn collect_members(
    types: &'static [Type],
    ty: &'static Type,
    into: &mut Vec<(&'static str, &'static Field)>,
) {
    into.extend(ty.fields.iter().filter(|f| !f.inline && !f.json.is_empty()).map(|f| (f.json, f)));
    for inner in ty.fields.iter().filter(|f| f.inline) {
        if let Some(id) = inner.type_ref {
            collect_members(types, &types[usize::from(id.0)], into);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_complete() {
        assert_eq!(all_types().len(), 851);
        assert_eq!(all_types().iter().map(|t| t.fields.len()).sum::<usize>(), 3230);
        let dangling = all_types().iter().flat_map(|t| &t.fields);
        assert_eq!(dangling.filter(|f| f.kind == FieldKind::Message && f.ty().is_none()).count(), 0);
    }

    #[test]
    fn inlined_members_are_found() {
        let volume = type_named("io.k8s.api.core.v1.Volume").expect("volume");
        assert_eq!(volume.field("emptyDir").map(|f| f.go_type()), Some("v1.EmptyDirVolumeSource".into()));
        let pod = type_named("io.k8s.api.core.v1.Pod").expect("pod");
        assert!(pod.is_kind() && pod.field("kind").is_some());
        assert!(!volume.is_kind());
        let spec = type_named("io.k8s.api.core.v1.PodSpec").expect("spec");
        let containers = spec.field("containers").expect("containers");
        assert_eq!((containers.patch_key, containers.merges()), (Some("name"), true));
        assert_eq!(containers.go_type(), "[]v1.Container");
        assert_eq!(spec.field("restartPolicy").map(|f| f.go_type()), Some("v1.RestartPolicy".into()));
    }

    #[test]
    fn names_do_not_repeat_within_a_type() {
        for ty in all_types() {
            let own: Vec<_> = ty.fields.iter().map(|f| f.json).filter(|name| !name.is_empty()).collect();
            let unique: std::collections::BTreeSet<_> = own.iter().collect();
            assert_eq!(own.len(), unique.len(), "{}", ty.name);
        }
    }
}
