//! ResourceQuota: a namespace's quotas are charged for what a write adds, or the write is refused.
//!
//! The charge is written with the object in one transaction, on condition that the quota is as it was judged: no two
//! writes can take the last of it, whichever servers they come by and however late they are, and nothing is charged
//! that is not stored.

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
use crate::rest::current::{Current, stored_bytes};
use crate::storage::Along;

/// How often a quota that others charge at the same time is tried.
const TRIES: u32 = 40;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// The charge of a request, from admission until its object is written.
#[derive(Clone, Default)]
pub struct Charges(Arc<Mutex<Option<Charge>>>);

impl Charges {
    /// The charge, which the caller now has to see to.
    pub fn take(&self) -> Option<Charge> {
        self.0.lock().take()
    }

    fn put(&self, charge: Charge) {
        *self.0.lock() = Some(charge);
    }
}

/// What storing an object takes from quotas.
pub struct Charge {
    wish: Wish,
    quotas: Vec<Charged>,
    tries: u32,
    /// The namespace's turn, until this is over.
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

/// A quota, and its usage with what is asked.
struct Charged {
    target: Target,
    current: Current,
    after: Amounts,
}

impl Charge {
    /// The quotas as they are to be written along with the object.
    pub fn along(&self) -> Result<Vec<Along>, Status> {
        self.quotas.iter().map(Charged::along).collect()
    }

    /// Judges anew by the quotas as they are now.
    pub async fn renew(&mut self, ctx: &Ctx) -> Result<(), Status> {
        self.tries += 1;
        if self.tries > TRIES {
            let why =
                "the object has been modified; please apply your changes to the latest version and try again";
            let name = self.quotas.first().map(|q| q.target.name.as_str()).unwrap_or_default();
            return Err(Status::conflict("", "resourcequotas", name, why));
        }
        tokio::time::sleep(PAUSE).await;
        let targets: Vec<Target> = self.quotas.drain(..).map(|q| q.target).collect();
        self.quotas = self.wish.judge(&Ctx::internal(ctx.app.clone()), targets).await?;
        Ok(())
    }
}

impl Charged {
    fn along(&self) -> Result<Along, Status> {
        let mut quota = self.current.value.clone();
        for (name, amount) in &self.after {
            quota["status"]["used"][name] = amount.canonical().into();
        }
        let value = stored_bytes(&self.target, &mut quota)?;
        Ok(Along { key: self.target.key()?, value, expected: self.current.entry.rv })
    }
}

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
        // Of a try before this one, which came to nothing.
        drop(a.charges.take());
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
        let wish = Wish::of(a, object);
        let concerned = quotas.iter().filter(|q| !matches!(wish.charge(q), Ok(None)));
        let named =
            concerned.map(|q| Target::named(a.app, "v1", "resourcequotas", a.namespace, meta::name(q)));
        let targets = named.collect::<Result<Vec<_>, _>>()?;
        if targets.is_empty() {
            return Ok(());
        }
        let turn = self.turn(a.namespace).lock_owned().await;
        // What is cached may be behind by what was written a moment ago; the store is not.
        let quotas = wish.judge(&Ctx::internal(a.app.clone()), targets).await?;
        if !a.dry_run && !quotas.is_empty() {
            a.charges.put(Charge { wish, quotas, tries: 0, _turn: turn });
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
struct Wish {
    group: String,
    plural: String,
    /// As a refusal names it.
    name: String,
    object: Value,
    old: Option<Value>,
    now: Timestamp,
}

impl Wish {
    fn of(a: &Attributes<'_>, object: &Value) -> Self {
        Self {
            group: a.resource.group.clone(),
            plural: a.resource.plural.clone(),
            name: a.shown_name(),
            object: object.clone(),
            old: a.old.filter(|_| a.op == Operation::Update).cloned(),
            now: Timestamp::now(),
        }
    }

    /// What is charged to quotas as the store has them, or the refusal.
    async fn judge(&self, ctx: &Ctx, targets: Vec<Target>) -> Result<Vec<Charged>, Status> {
        let mut charged = Vec::new();
        for target in targets {
            let Some(current) = Current::fetch(ctx, &target).await? else { continue };
            let asked = self.charge(&current.value);
            let refused = |why| Status::forbidden(&self.group, &self.plural, &self.name, why);
            if let Some(after) = asked.map_err(refused)? {
                charged.push(Charged { target, current, after });
            }
        }
        Ok(charged)
    }

    fn used(&self, object: &Value) -> Amounts {
        usage(&self.group, &self.plural, object, self.now)
    }

    /// What is used more than before, as far as this quota had counted the object.
    fn more(&self, spec: &Value) -> Amounts {
        let mut more = self.used(&self.object);
        if let Some(old) = self.old.as_ref().filter(|old| in_scope(spec, &self.group, &self.plural, old)) {
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
            hard.keys().filter(|n| covers(&self.group, &self.plural, n)).cloned().collect();
        if names.is_empty() || !in_scope(spec, &self.group, &self.plural, &self.object) {
            return Ok(None);
        }
        let name = meta::name(quota);
        if self.group.is_empty()
            && self.plural == "pods"
            && let Some(why) = unsaid(&self.object, &names)
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
            pretty(&all.iter().filter(|(n, _)| exceeded.contains(n)).map(|(n, q)| (n.clone(), *q)).collect())
        };
        Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            only(&more),
            only(&used),
            only(&hard)
        ))
    }
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
        let (group, plural, name) = (String::new(), plural.into(), "x".into());
        let wish = Wish { group, plural, name, object, old, now };
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
