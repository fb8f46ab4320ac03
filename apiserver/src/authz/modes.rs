//! The simple modes, RBAC as a mode, and the modes one after another.

use std::sync::Arc;

use async_trait::async_trait;

use super::rbac::{Index, Rule, Verdict, Want};
use super::{Attributes, Authorizer, Decision, RuleSet};
use crate::request::UserInfo;

/// Members of this group may do everything, whatever the modes say.
const MASTERS: &str = "system:masters";

/// What a request asks, as rules see it.
pub fn want_of<'a>(attributes: &Attributes<'a>) -> Want<'a> {
    let info = attributes.info;
    Want {
        verb: &info.verb,
        group: &info.group,
        resource: &info.resource,
        subresource: &info.subresource,
        name: &info.name,
    }
}

fn everything() -> RuleSet {
    let star = || vec!["*".to_owned()];
    let resources = Rule { verbs: star(), groups: star(), resources: star(), ..Rule::default() };
    let urls = Rule { verbs: star(), urls: star(), ..Rule::default() };
    RuleSet { rules: vec![resources, urls], ..RuleSet::default() }
}

/// Allows everything; for tests.
pub struct AlwaysAllow;

#[async_trait]
impl Authorizer for AlwaysAllow {
    async fn authorize(&self, _attributes: &Attributes<'_>) -> (Decision, String) {
        (Decision::Allow, String::new())
    }

    fn rules(&self, _user: &UserInfo, _namespace: &str) -> RuleSet {
        everything()
    }
}

/// Refuses everything; for tests.
pub struct AlwaysDeny;

#[async_trait]
impl Authorizer for AlwaysDeny {
    async fn authorize(&self, _attributes: &Attributes<'_>) -> (Decision, String) {
        (Decision::NoOpinion, "Everything is forbidden.".into())
    }

    fn rules(&self, _user: &UserInfo, _namespace: &str) -> RuleSet {
        RuleSet::default()
    }
}

/// Roles and bindings.
pub struct Rbac(pub Arc<Index>);

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> (Decision, String) {
        let (user, info) = (attributes.user, attributes.info);
        let verdict = if info.is_resource {
            self.0.decide(&user.name, &user.groups, &info.namespace, &want_of(attributes))
        } else {
            self.0.decide_path(&user.name, &user.groups, &info.verb, &info.path)
        };
        match verdict {
            Verdict::Allow(reason) => (Decision::Allow, reason.as_ref().to_owned()),
            Verdict::NoOpinion(reason) => (Decision::NoOpinion, reason),
        }
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> RuleSet {
        let (rules, errors) = self.0.rules_for(&user.name, &user.groups, namespace);
        RuleSet { rules, incomplete: !errors.is_empty(), errors }
    }
}

/// All modes in order. The webhook mode's place is in this list.
pub struct Union {
    /// The modes.
    pub modes: Vec<Arc<dyn Authorizer>>,
    /// Roles and bindings, which guard against escalation whatever the modes.
    pub index: Arc<Index>,
}

#[async_trait]
impl Authorizer for Union {
    async fn authorize(&self, attributes: &Attributes<'_>) -> (Decision, String) {
        if attributes.user.in_group(MASTERS) {
            return (Decision::Allow, String::new());
        }
        let mut reasons = Vec::new();
        for mode in &self.modes {
            match mode.authorize(attributes).await {
                (Decision::NoOpinion, reason) if reason.is_empty() => {}
                (Decision::NoOpinion, reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        (Decision::NoOpinion, reasons.join("\n"))
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> RuleSet {
        // What masters may do is listed by the role bound to them.
        let mut all = RuleSet::default();
        for set in self.modes.iter().map(|m| m.rules(user, namespace)) {
            all.rules.extend(set.rules);
            all.incomplete |= set.incomplete;
            all.errors.extend(set.errors);
        }
        all
    }

    fn rbac(&self) -> Option<Arc<Index>> {
        Some(self.index.clone())
    }
}
