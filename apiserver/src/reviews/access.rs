//! Access reviews: may somebody (the caller, or whoever the review names) do something.

use std::collections::BTreeMap;

use machinery::field::{FieldError, Path};
use machinery::status::Status;
use serde_json::{Value, json};

use crate::authn::lookup::{items, text};
use crate::authz::{Attributes, Authorizer, Decision};
use crate::request::{Ctx, RequestInfo, UserInfo};

/// The three forms of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// SubjectAccessReview.
    Any,
    /// LocalSubjectAccessReview.
    Local,
    /// SelfSubjectAccessReview.
    Own,
}

impl Form {
    fn kind(self) -> &'static str {
        match self {
            Form::Any => "SubjectAccessReview",
            Form::Local => "LocalSubjectAccessReview",
            Form::Own => "SelfSubjectAccessReview",
        }
    }
}

/// Answers a review. Errors: Invalid when it is not one clear question.
pub async fn review(ctx: &Ctx, form: Form, mut body: Value) -> Result<Value, Status> {
    if form == Form::Local && text(&body, "/metadata/namespace") != ctx.info.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let errors = validate(form, &body);
    if !errors.is_empty() {
        return Err(Status::invalid(super::AUTHZ, form.kind(), "", errors));
    }
    let subject = if form == Form::Own { (*ctx.user).clone() } else { subject(&body) };
    body["status"] = answer(&*ctx.app.authorizer, &subject, &body).await;
    Ok(body)
}

fn validate(form: Form, body: &Value) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let resource = body.pointer("/spec/resourceAttributes").filter(|v| !v.is_null());
    let path = body.pointer("/spec/nonResourceAttributes").filter(|v| !v.is_null());
    let mut errors = Vec::new();
    match (resource, path) {
        (Some(_), Some(p)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid(&spec.child("nonResourceAttributes"), p.clone(), why));
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&spec.child("resourceAttributes"), Value::Null, why));
        }
        _ => {}
    }
    if form != Form::Own
        && text(body, "/spec/user").is_empty()
        && items(body, "/spec/groups").next().is_none()
    {
        errors.push(FieldError::invalid(
            &spec.child("user"),
            "",
            "at least one of user or group must be specified",
        ));
    }
    if form == Form::Local {
        errors.extend(validate_local(body, &spec));
    }
    errors
}

fn validate_local(body: &Value, spec: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let namespace = text(body, "/spec/resourceAttributes/namespace");
    if namespace != text(body, "/metadata/namespace") {
        let field = spec.child("resourceAttributes").child("namespace");
        errors.push(FieldError::invalid(&field, namespace, "must match metadata.namespace"));
    }
    if let Some(path) = body.pointer("/spec/nonResourceAttributes").filter(|v| !v.is_null()) {
        let field = spec.child("nonResourceAttributes");
        errors.push(FieldError::invalid(&field, path.clone(), "disallowed on this kind of request"));
    }
    errors
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    items(value, pointer).filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn subject(body: &Value) -> UserInfo {
    let extra = body.pointer("/spec/extra").and_then(Value::as_object);
    let extra: BTreeMap<String, Vec<String>> =
        extra.into_iter().flatten().map(|(k, v)| (k.to_lowercase(), texts(v, ""))).collect();
    UserInfo {
        name: text(body, "/spec/user").into(),
        uid: text(body, "/spec/uid").into(),
        groups: texts(body, "/spec/groups"),
        extra,
    }
}

/// The request a review asks about.
fn question(body: &Value) -> RequestInfo {
    let Some(r) = body.pointer("/spec/resourceAttributes").filter(|v| !v.is_null()) else {
        return RequestInfo {
            path: text(body, "/spec/nonResourceAttributes/path").into(),
            verb: text(body, "/spec/nonResourceAttributes/verb").into(),
            ..RequestInfo::default()
        };
    };
    RequestInfo {
        is_resource: true,
        verb: text(r, "/verb").into(),
        group: text(r, "/group").into(),
        version: text(r, "/version").into(),
        namespace: text(r, "/namespace").into(),
        resource: text(r, "/resource").into(),
        subresource: text(r, "/subresource").into(),
        name: text(r, "/name").into(),
        field_selector: selector(r, "/fieldSelector"),
        label_selector: selector(r, "/labelSelector"),
        ..RequestInfo::default()
    }
}

/// A selector as text. Requirements that cannot be written so are left out, which only narrows what is allowed.
fn selector(attributes: &Value, pointer: &str) -> String {
    let raw = text(attributes, &format!("{pointer}/rawSelector"));
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let requirements = items(attributes, &format!("{pointer}/requirements"));
    let parts: Vec<String> = requirements
        .filter_map(|r| {
            let (key, values) = (text(r, "/key"), texts(r, "/values"));
            match (text(r, "/operator"), values.as_slice()) {
                ("In", [one]) => Some(format!("{key}={one}")),
                ("NotIn", [one]) => Some(format!("{key}!={one}")),
                _ => None,
            }
        })
        .collect();
    parts.join(",")
}

async fn answer(authorizer: &dyn Authorizer, user: &UserInfo, body: &Value) -> Value {
    let info = question(body);
    let (decision, reason) = authorizer.authorize(&Attributes { user, info: &info }).await;
    let mut status = json!({"allowed": decision == Decision::Allow});
    if decision == Decision::Deny {
        status["denied"] = json!(true);
    }
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::modes::Rbac;
    use crate::authz::rbac::{Index, Kind};

    fn resource(namespace: &str) -> Value {
        json!({"namespace": namespace, "verb": "get", "resource": "pods"})
    }

    #[test]
    fn unclear_questions() {
        let path = json!({"path": "/x", "verb": "get"});
        for (form, spec, good) in [
            (Form::Own, json!({"resourceAttributes": resource("a")}), true),
            (Form::Own, json!({"nonResourceAttributes": path}), true),
            (Form::Own, json!({}), false),
            (Form::Own, json!({"resourceAttributes": resource("a"), "nonResourceAttributes": path}), false),
            (Form::Any, json!({"resourceAttributes": resource("a")}), false),
            (Form::Any, json!({"resourceAttributes": resource("a"), "user": "x"}), true),
            (Form::Any, json!({"resourceAttributes": resource("a"), "groups": ["x"]}), true),
            (Form::Local, json!({"resourceAttributes": resource("a"), "user": "x"}), true),
            (Form::Local, json!({"resourceAttributes": resource("b"), "user": "x"}), false),
            (Form::Local, json!({"nonResourceAttributes": path, "user": "x"}), false),
        ] {
            let body = json!({"metadata": {"namespace": "a"}, "spec": spec});
            assert_eq!(validate(form, &body).is_empty(), good, "{form:?} {body}");
        }
    }

    #[tokio::test]
    async fn answers() {
        let index = Index::new();
        index.put(Kind::ClusterRole, &json!({"metadata": {"name": "r"}, "rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]}));
        index.put(Kind::ClusterRoleBinding, &json!({"metadata": {"name": "b"},
            "subjects": [{"kind": "User", "name": "alice"}], "roleRef": {"kind": "ClusterRole", "name": "r"}}));
        let rbac = Rbac(std::sync::Arc::new(index));
        for (user, spec, allowed) in [
            ("alice", json!({"resourceAttributes": resource("a")}), true),
            ("bob", json!({"resourceAttributes": resource("a")}), false),
            ("alice", json!({"nonResourceAttributes": {"path": "/x", "verb": "get"}}), true),
            ("alice", json!({"nonResourceAttributes": {"path": "/y", "verb": "get"}}), false),
        ] {
            let mut body = json!({"spec": spec});
            body["spec"]["user"] = json!(user);
            let status = answer(&rbac, &subject(&body), &body).await;
            assert_eq!(status["allowed"], allowed, "{body}");
        }
    }

    #[test]
    fn selectors() {
        let r = json!({"fieldSelector": {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n"]},
            {"key": "a", "operator": "NotIn", "values": ["b"]}, {"key": "c", "operator": "Exists"}]}});
        assert_eq!(selector(&r, "/fieldSelector"), "spec.nodeName=n,a!=b");
        assert_eq!(selector(&json!({"fieldSelector": {"rawSelector": "x=y"}}), "/fieldSelector"), "x=y");
    }
}
