//! Defaults, attached to types. A walker goes through an object along its schema and lets each type that has
//! defaults fill its own members, so a container's defaults hold in pods and in every pod template alike. Which
//! branches of which type lead to a type with defaults is worked out once; the rest of an object is never looked at.

mod admission;
mod apps;
mod batch;
mod core;
mod pod;
mod rest;
mod service;
mod storage;

use super::val::Obj;
use machinery::schema::{Card, Field, FieldKind, Type};
pub use pod::VOLUME_SOURCES;
use serde_json::Value;
pub use service::externally_accessible;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Fills in the defaults of one type's own members. Runs before the members are visited.
pub type Fill = fn(&mut Obj);

struct Branch {
    json: &'static str,
    card: Card,
    /// None: the members of an inlined type appear in the same object.
    inline: bool,
    to: usize,
}

#[derive(Default)]
struct Node {
    fill: Option<Fill>,
    branches: Vec<Branch>,
}

/// For every type from which a default can be reached, what to fill and where to go on.
struct Plan {
    nodes: Vec<Node>,
    by_name: HashMap<&'static str, usize>,
}

/// Applies the defaults of `ty` and of everything in it.
pub fn apply(ty: &'static Type, object: &mut Value) {
    let plan = plan_for(ty);
    if let (Some(index), Some(members)) = (plan.by_name.get(ty.name), object.as_object_mut()) {
        visit(plan, *index, members, 0);
    }
}

/// Schemas nest without bound (a JSON schema in a custom resource definition); objects that deep are refused
/// earlier, this is only a floor under the stack.
const DEEPEST: usize = 128;

fn visit(plan: &Plan, index: usize, members: &mut Obj, depth: usize) {
    let Some(node) = plan.nodes.get(index).filter(|_| depth < DEEPEST) else { return };
    if let Some(fill) = node.fill {
        fill(members);
    }
    for branch in &node.branches {
        if branch.inline {
            visit(plan, branch.to, members, depth + 1);
        } else if let Some(value) = members.get_mut(branch.json) {
            descend(plan, branch, value, depth + 1);
        }
    }
}

fn descend(plan: &Plan, branch: &Branch, value: &mut Value, depth: usize) {
    match (branch.card, value) {
        (Card::One, Value::Object(members)) => visit(plan, branch.to, members, depth),
        (Card::List, Value::Array(items)) => {
            items.iter_mut().filter_map(Value::as_object_mut).for_each(|m| visit(plan, branch.to, m, depth));
        }
        (Card::Map, Value::Object(entries)) => {
            entries
                .values_mut()
                .filter_map(Value::as_object_mut)
                .for_each(|m| visit(plan, branch.to, m, depth));
        }
        _ => {}
    }
}

fn plan_for(_ty: &'static Type) -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(build)
}

/// Every type reachable from a served kind, pruned to the branches that matter.
fn build() -> Plan {
    let mut types: Vec<&'static Type> = Vec::new();
    let mut ids: HashMap<&'static str, usize> = HashMap::new();
    let roots = machinery::kinds::builtin().iter().filter_map(|r| r.object_type);
    let mut queue: Vec<&'static Type> =
        roots.chain(EXTRA_ROOTS.iter().filter_map(|n| machinery::schema::type_named(n))).collect();
    while let Some(ty) = queue.pop() {
        if ids.contains_key(ty.name) {
            continue;
        }
        ids.insert(ty.name, types.len());
        types.push(ty);
        queue.extend(children(ty).map(|(_, child)| child));
    }
    let mut nodes: Vec<Node> = types.iter().map(|ty| node(ty, &ids)).collect();
    prune(&mut nodes);
    let by_name = ids.into_iter().filter(|(_, i)| !is_dead(&nodes[*i])).collect();
    Plan { nodes, by_name }
}

/// Types that arrive as a request body of their own although no kind holds them.
const EXTRA_ROOTS: &[&str] = &["io.k8s.api.authentication.v1.TokenRequest"];

fn children(ty: &'static Type) -> impl Iterator<Item = (&'static Field, &'static Type)> {
    ty.fields.iter().filter(|f| f.kind == FieldKind::Message).filter_map(|f| Some((f, f.ty()?)))
}

fn node(ty: &'static Type, ids: &HashMap<&'static str, usize>) -> Node {
    let branches = children(ty).filter_map(|(f, child)| {
        Some(Branch { json: f.json, card: f.card, inline: f.inline, to: *ids.get(child.name)? })
    });
    Node { fill: fill_of(ty.name), branches: branches.collect() }
}

fn is_dead(node: &Node) -> bool {
    node.fill.is_none() && node.branches.is_empty()
}

/// Cuts branches from which no default can be reached.
fn prune(nodes: &mut [Node]) {
    let mut live: Vec<bool> = nodes.iter().map(|n| n.fill.is_some()).collect();
    loop {
        let more: Vec<usize> =
            (0..nodes.len()).filter(|i| !live[*i] && nodes[*i].branches.iter().any(|b| live[b.to])).collect();
        if more.is_empty() {
            break;
        }
        more.into_iter().for_each(|i| live[i] = true);
    }
    for node in nodes.iter_mut() {
        node.branches.retain(|b| live[b.to]);
    }
}

/// The areas in turn; a type belongs to one of them.
fn fill_of(name: &str) -> Option<Fill> {
    let (group, kind) = name.rsplit_once('.')?;
    let areas: &[fn(&str, &str) -> Option<Fill>] = &[
        pod::fill,
        service::fill,
        core::fill,
        storage::fill,
        apps::fill,
        batch::fill,
        admission::fill,
        rest::fill,
    ];
    areas.iter().find_map(|area| area(group, kind))
}
