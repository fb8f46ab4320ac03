//! ClusterRoles with an aggregation rule hold the rules of the roles they select.

use std::sync::Arc;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

use crate::kit::meta::{name, selects};
use crate::kit::{Context, Plan, Write};

/// Starts the controller.
pub fn start(context: Context) {
    let roles: Cache<ClusterRole> = context.caches.of();
    let queue: Queue<Key> = Queue::new();
    let (q, all) = (queue.clone(), roles.clone());
    roles.handle(move |event| {
        let same = |a: &ClusterRole, b: &ClusterRole| {
            (&a.rules, &a.aggregation_rule, &a.metadata.labels)
                == (&b.rules, &b.aggregation_rule, &b.metadata.labels)
        };
        if event.old.as_ref().zip(event.new.as_ref()).is_some_and(|(old, new)| same(old, new)) {
            return;
        }
        // Whoever selects it is looked at; a role may select by labels it had or has.
        all.list().iter().filter(|r| r.aggregation_rule.is_some()).for_each(|r| q.add(Key::of(&**r)));
    });
    let workers = context.config.workers("clusterrole-aggregation", 5);
    let room = Arc::new((context.clone(), roles));
    context.run(Options::new("clusterrole-aggregation-controller", workers), queue, move |key| {
        let room = room.clone();
        async move { sync(&room.0, &room.1, &key).await }
    });
}

async fn sync(context: &Context, roles: &Cache<ClusterRole>, key: &Key) -> Outcome {
    let Some(role) = roles.get_key(key) else { return Ok(None) };
    let all = roles.list();
    plan(&role, all.iter().map(|r| &**r)).apply(context).await
}

/// The rules of the selected roles: selectors in their order, roles by name, none twice.
fn gathered<'a>(role: &ClusterRole, all: impl Iterator<Item = &'a ClusterRole>) -> Vec<PolicyRule> {
    let mut others: Vec<&ClusterRole> = all.filter(|r| r.metadata.name != role.metadata.name).collect();
    others.sort_by_key(|r| name(&r.metadata));
    let mut rules: Vec<PolicyRule> = Vec::new();
    let selectors = role.aggregation_rule.iter().flat_map(|a| a.cluster_role_selectors.iter().flatten());
    for selector in selectors {
        for other in others.iter().filter(|r| selects(selector, r.metadata.labels.as_ref())) {
            for rule in other.rules.iter().flatten().filter(|r| !r.verbs.is_empty()) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

fn plan<'a>(role: &ClusterRole, all: impl Iterator<Item = &'a ClusterRole>) -> Plan {
    if role.aggregation_rule.is_none() || role.metadata.deletion_timestamp.is_some() {
        return Plan::nothing("aggregates nothing");
    }
    let rules = gathered(role, all);
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Plan::nothing("holds the rules it should");
    }
    let mut plan = Plan::because("the rules of the selected roles changed");
    let note = format!("{} rules", rules.len());
    let mut changed = role.clone();
    changed.rules = Some(rules);
    plan.vanishing(Write::update(&changed).note(note));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(text: &str) -> ClusterRole {
        serde_yaml::from_str(text).expect("a role")
    }

    fn rule(resource: &str) -> String {
        format!("{{verbs: [get], apiGroups: [''], resources: [{resource}]}}")
    }

    fn plain(name: &str, label: &str, resources: &[&str]) -> ClusterRole {
        let rules: Vec<String> = resources.iter().map(|r| rule(r)).collect();
        role(&format!(
            "{{metadata: {{name: {name}, labels: {{{label}: 'true'}}}}, rules: [{}]}}",
            rules.join(", ")
        ))
    }

    fn resources(rules: &[PolicyRule]) -> Vec<String> {
        rules.iter().flat_map(|r| r.resources.clone().unwrap_or_default()).collect()
    }

    #[test]
    fn rules_in_order_and_once() {
        let all = [
            plain("z", "one", &["pods", "nodes"]),
            plain("a", "one", &["secrets", "pods"]),
            plain("b", "two", &["events"]),
            plain("c", "three", &["leases"]),
            plain("own", "one", &["jobs"]),
        ];
        let own = role(
            "{metadata: {name: own, labels: {one: 'true'}}, aggregationRule: {clusterRoleSelectors: [{matchLabels: {two: 'true'}}, {matchLabels: {one: 'true'}}]}}",
        );
        let rules = gathered(&own, all.iter());
        assert_eq!(resources(&rules), ["events", "secrets", "pods", "nodes"]);
        let mut kept = own.clone();
        kept.rules = Some(rules);
        assert!(plan(&kept, all.iter()).steps.is_empty());
        let first = plan(&own, all.iter());
        assert_eq!(
            first.to_string(),
            "why: the rules of the selected roles changed\nupdate clusterroles own: 4 rules\n"
        );
        kept.aggregation_rule = None;
        kept.rules = None;
        assert!(plan(&kept, all.iter()).steps.is_empty());
    }

    #[test]
    fn rules_go_with_their_role() {
        let own = role(&format!(
            "{{metadata: {{name: own}}, aggregationRule: {{clusterRoleSelectors: [{{matchLabels: {{one: 'true'}}}}]}}, rules: [{}]}}",
            rule("pods")
        ));
        let plan = plan(&own, std::iter::empty());
        assert_eq!(
            plan.to_string(),
            "why: the rules of the selected roles changed\nupdate clusterroles own: 0 rules\n"
        );
    }
}
