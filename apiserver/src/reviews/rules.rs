//! SelfSubjectRulesReview: what the caller may do in a namespace, as far as it can be listed.

use machinery::status::Status;
use serde_json::{Value, json};

use crate::authn::lookup::text;
use crate::authz::RuleSet;
use crate::request::Ctx;

/// Answers the review. Errors: BadRequest without a namespace.
pub fn review(ctx: &Ctx, mut body: Value) -> Result<Value, Status> {
    let namespace = text(&body, "/spec/namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    body["status"] = status(&ctx.app.authorizer.rules(&ctx.user, namespace));
    Ok(body)
}

fn status(set: &RuleSet) -> Value {
    let (paths, resources): (Vec<_>, Vec<_>) = set.rules.iter().partition(|r| !r.urls.is_empty());
    let list =
        |rules: Vec<&crate::authz::rbac::Rule>| rules.into_iter().map(|r| r.to_json()).collect::<Vec<_>>();
    let mut status = json!({
        "resourceRules": list(resources),
        "nonResourceRules": list(paths),
        "incomplete": set.incomplete,
    });
    if !set.errors.is_empty() {
        status["evaluationError"] = json!(set.errors.join(", "));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::rbac::Rule;

    #[test]
    fn sorted_by_sort() {
        let one = |s: &str| vec![s.to_owned()];
        let rules = vec![
            Rule { verbs: one("get"), groups: one(""), resources: one("pods"), ..Rule::default() },
            Rule { verbs: one("get"), urls: one("/healthz"), ..Rule::default() },
        ];
        let got = status(&RuleSet { rules, incomplete: false, errors: vec![] });
        assert_eq!(
            got,
            json!({"incomplete": false,
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]})
        );
    }
}
