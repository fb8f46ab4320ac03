//! ResourceQuota: a namespace's quotas are charged for what a write adds, or the write is refused.
//!
//! The charge is a conditional write of the quota's status, so two writes can never both take the last of it, whichever
//! servers they come by. What is charged and then not stored is given back by the controller, which counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use machinery::kinds::Resource;
use machinery::meta;
use machinery::quota::{
    Amounts, add, amounts, covers, ignored, in_scope, pretty, subtract, terminating, unsaid, usage,
};
use machinery::status::Status;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Attributes, Operation, Plugin, pods};
use crate::authn::lookup::Lookup;
use crate::request::Ctx;
use crate::rest::Target;
use crate::rest::current::{Current, Written, write};

/// How often a quota that others charge at the same time is tried.
const TRIES: usize = 40;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// The plugin.
pub struct ResourceQuota {
    /// Where quotas are looked up.
    pub objects: Arc<dyn Lookup>,
    /// One write at a time per namespace: what would only disturb another waits.
    pub turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl ResourceQuota {
    /// Over a view of what is stored.
    pub fn new(objects: Arc<dyn Lookup>) -> Self {
        Self { objects, turns: Mutex::default() }
    }

    /// The namespace's turn; those nobody waits for are forgotten.
    fn turn(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        if turns.len() > 1000 {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        turns.entry(namespace.to_owned()).or_default().clone()
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        if !resource.namespaced || ignored(&resource.group, &resource.plural) {
            return false;
        }
        match (op, subresource) {
            (Operation::Create, "") => true,
            (Operation::Update, "") => updates_count(resource),
            (Operation::Update, "resize") => pods::is_pods(resource),
            _ => false,
        }
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let Some(object) = a.object.as_deref() else { return Ok(()) };
        if a.op == Operation::Update && a.subresource.is_empty() && pods::is_pods(a.resource) {
            // Only a pod that begins or ceases to have an end moves from one quota to another.
            if a.old.is_some_and(|old| terminating(old) == terminating(object)) {
                return Ok(());
            }
        }
        let quotas = self.objects.list("resourcequotas", a.namespace);
        if quotas.is_empty() {
            return Ok(());
        }
        let turn = self.turn(a.namespace);
        let _turn = turn.lock().await;
        let wish = Wish::of(a, object);
        let ctx = Ctx::internal(a.app.clone());
        let mut asked = Vec::new();
        // All are asked before any is charged.
        for quota in quotas.iter().filter(|q| !matches!(wish.charge(q), Ok(None))) {
            let target = Target::named(a.app, "v1", "resourcequotas", a.namespace, meta::name(quota))?;
            // The cache may be behind by what was written a moment ago; the store is not.
            let Some(current) = Current::fetch(&ctx, &target).await? else { continue };
            if wish.charge(&current.value).map_err(|why| a.forbidden(why))?.is_some() {
                asked.push((target, current));
            }
        }
        if a.dry_run {
            return Ok(());
        }
        for (target, current) in asked {
            spend(a, &ctx, &wish, &target, current).await?;
        }
        Ok(())
    }
}

/// Kinds whose updates may use more than before.
fn updates_count(resource: &Resource) -> bool {
    matches!(
        (resource.group.as_str(), resource.plural.as_str()),
        ("", "pods" | "services" | "persistentvolumeclaims") | ("resource.k8s.io", "resourceclaims")
    )
}

/// What a write asks of quotas.
struct Wish<'a> {
    group: &'a str,
    plural: &'a str,
    object: &'a Value,
    old: Option<&'a Value>,
    now: Timestamp,
}

impl<'a> Wish<'a> {
    fn of(a: &'a Attributes<'_>, object: &'a Value) -> Self {
        let resource = a.resource;
        let old = a.old.filter(|_| a.op == Operation::Update);
        Self { group: &resource.group, plural: &resource.plural, object, old, now: Timestamp::now() }
    }

    fn used(&self, object: &Value) -> Amounts {
        usage(self.group, self.plural, object, self.now)
    }

    /// What is used more than before, as far as this quota had counted the object.
    fn more(&self, spec: &Value) -> Amounts {
        let mut more = self.used(self.object);
        if let Some(old) = self.old.filter(|old| in_scope(spec, self.group, self.plural, old)) {
            more = subtract(&more, &self.used(old));
        }
        more.retain(|_, amount| !amount.is_zero());
        more
    }

    /// The quota's usage with this write; `None` if it changes nothing there. Errors: why it is refused.
    fn charge(&self, quota: &Value) -> Result<Option<Amounts>, String> {
        let (spec, status) = (&quota["spec"], &quota["status"]);
        let (hard, used) = (amounts(status.get("hard")), amounts(status.get("used")));
        let names: Vec<String> =
            hard.keys().filter(|n| covers(self.group, self.plural, n)).cloned().collect();
        if names.is_empty() || !in_scope(spec, self.group, self.plural, self.object) {
            return Ok(None);
        }
        let name = meta::name(quota);
        if self.group.is_empty()
            && self.plural == "pods"
            && let Some(why) = unsaid(self.object, &names)
        {
            return Err(format!("failed quota: {name}: {why}"));
        }
        if names.iter().any(|n| !used.contains_key(n)) {
            return Err(format!("status unknown for quota: {name}, resources: {}", names.join(",")));
        }
        let mut more = self.more(spec);
        more.retain(|n, _| hard.contains_key(n));
        // What becomes less is left to the controller, which counts.
        if !more.values().any(|amount| amount.sign() > 0) {
            return Ok(None);
        }
        let mut after = used.clone();
        add(&mut after, &more);
        let over = |n: &String| after.get(n).zip(hard.get(n)).is_some_and(|(after, hard)| after > hard);
        let exceeded: Vec<String> = more.keys().filter(|n| over(n)).cloned().collect();
        if exceeded.is_empty() {
            return Ok(Some(after));
        }
        let only = |all: &Amounts| -> String {
            pretty(
                &all.iter()
                    .filter(|(n, _)| exceeded.contains(n))
                    .map(|(n, q)| (n.clone(), q.clone()))
                    .collect(),
            )
        };
        Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            only(&more),
            only(&used),
            only(&hard)
        ))
    }
}

/// Writes the charge into the quota, over whatever others have written there meanwhile.
async fn spend(
    a: &Attributes<'_>,
    ctx: &Ctx,
    wish: &Wish<'_>,
    target: &Target,
    mut current: Current,
) -> Result<(), Status> {
    for _ in 0..TRIES {
        let Some(after) = wish.charge(&current.value).map_err(|why| a.forbidden(why))? else {
            return Ok(());
        };
        let mut charged = current.value.clone();
        for (name, amount) in after {
            charged["status"]["used"][&name] = amount.canonical().into();
        }
        match write(ctx, target, &mut charged, current.entry.rv, None).await? {
            Written::Done(_) | Written::Conflict(None) => return Ok(()),
            Written::Conflict(Some(kv)) => current = Current::from_kv(target, &kv)?,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Status::conflict(
        "",
        "resourcequotas",
        &target.name,
        "the object has been modified; please apply your changes to the latest version and try again",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn quota(hard: Value, used: Value) -> Value {
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
    }

    fn ask(quota: &Value, plural: &str, object: Value, old: Option<Value>) -> String {
        let now = "2026-01-01T10:00:00Z".parse().unwrap();
        let wish = Wish { group: "", plural, object: &object, old: old.as_ref(), now };
        match wish.charge(quota) {
            Ok(Some(after)) => pretty(&after),
            Ok(None) => "nothing".into(),
            Err(why) => why,
        }
    }

    fn pod(cpu: &str) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    #[test]
    fn within_and_beyond() {
        let q = quota(
            json!({"pods": "2", "requests.cpu": "1", "secrets": "1"}),
            json!({"pods": "1", "requests.cpu": "500m", "secrets": "1"}),
        );
        assert_eq!(ask(&q, "pods", pod("500m"), None), "pods=2,requests.cpu=1,secrets=1");
        assert_eq!(
            ask(&q, "pods", pod("600m"), None),
            "exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1"
        );
        assert_eq!(
            ask(&q, "secrets", json!({}), None),
            "exceeded quota: q, requested: secrets=1, used: secrets=1, limited: secrets=1"
        );
        assert_eq!(ask(&q, "configmaps", json!({}), None), "nothing");
    }

    #[test]
    fn what_must_be_said_and_known() {
        let q = quota(json!({"limits.cpu": "2"}), json!({"limits.cpu": "0"}));
        assert_eq!(ask(&q, "pods", pod("1"), None), "failed quota: q: must specify limits.cpu for: c");
        let unknown = quota(json!({"pods": "2", "count/pods": "3"}), json!({}));
        assert_eq!(
            ask(&unknown, "pods", pod("1"), None),
            "status unknown for quota: q, resources: count/pods,pods"
        );
    }

    #[test]
    fn updates_pay_the_difference() {
        let q = quota(json!({"services.nodeports": "3"}), json!({"services.nodeports": "2"}));
        let service = |ports: usize| {
            let ports: Vec<Value> = (0..ports).map(|p| json!({"port": p + 1})).collect();
            json!({"spec": {"type": "NodePort", "ports": ports}})
        };
        assert_eq!(ask(&q, "services", service(3), Some(service(2))), "services.nodeports=3");
        assert_eq!(ask(&q, "services", service(2), Some(service(2))), "nothing");
        assert_eq!(ask(&q, "services", service(1), Some(service(2))), "nothing");
        assert!(ask(&q, "services", service(4), Some(service(2))).starts_with("exceeded quota"));
    }

    #[test]
    fn a_pod_that_comes_into_scope_pays_in_full() {
        let mut q = quota(json!({"pods": "1"}), json!({"pods": "1"}));
        q["spec"]["scopes"] = json!(["Terminating"]);
        let mut ending = pod("1");
        ending["spec"]["activeDeadlineSeconds"] = 5.into();
        assert!(ask(&q, "pods", ending.clone(), Some(pod("1"))).starts_with("exceeded quota"));
        assert_eq!(ask(&q, "pods", pod("1"), Some(ending)), "nothing");
    }
}
