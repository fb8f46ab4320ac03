//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{Attributes, Operation, Plugin};
use crate::authn::lookup::text;
use crate::authz::{self, Authorizer, Decision};
use crate::request::{RequestInfo, UserInfo};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// CertificateApproval: who may approve or deny requests of a signer.
pub struct Approval;

/// CertificateSigning: who may fill in a signer's certificates.
pub struct Signing;

/// CertificateSubjectRestriction: nobody gets into system:masters by a client certificate of ours.
pub struct SubjectRestriction;

fn is_request(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == "certificatesigningrequests"
}

#[async_trait]
impl Plugin for Approval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        op == Operation::Update && is_request(resource) && subresource == "approval"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let signer = signer_of(a.old);
        if may(&*a.app.authorizer, a.user, "approve", signer).await {
            return Ok(());
        }
        Err(a.forbidden(format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

#[async_trait]
impl Plugin for Signing {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        op == Operation::Update && is_request(resource) && subresource == "status"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let signer = signer_of(a.old);
        if !signs(a.old, a.object.as_deref()) || may(&*a.app.authorizer, a.user, "sign", signer).await {
            return Ok(());
        }
        Err(a.forbidden(format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

#[async_trait]
impl Plugin for SubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        op == Operation::Create && is_request(resource) && subresource.is_empty()
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        match a.object.as_deref() {
            Some(request) if asks_for_masters(request) => Err(a.forbidden(format!(
                "use of {CLIENT_SIGNER} signer with system:masters group is not allowed"
            ))),
            _ => Ok(()),
        }
    }
}

fn signer_of(request: Option<&Value>) -> &str {
    request.map(|r| text(r, "/spec/signerName")).unwrap_or_default()
}

/// Whether an update touches what a signer says: the certificate, or its Failed condition.
fn signs(old: Option<&Value>, new: Option<&Value>) -> bool {
    let part = |v: Option<&Value>| {
        let status = v.and_then(|v| v.get("status"));
        let failed = status.and_then(|s| s.get("conditions")).and_then(Value::as_array).into_iter().flatten();
        let failed: Vec<Value> = failed.filter(|c| text(c, "/type") == "Failed").cloned().collect();
        (status.and_then(|s| s.get("certificate")).cloned(), failed)
    };
    part(old) != part(new)
}

/// A right to one signer, or to all of its domain.
async fn may(authorizer: &dyn Authorizer, user: &UserInfo, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or("", |(d, _)| d);
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let info = RequestInfo {
            is_resource: true,
            verb: verb.into(),
            group: GROUP.into(),
            version: "*".into(),
            resource: "signers".into(),
            name,
            ..RequestInfo::default()
        };
        if authorizer.authorize(&authz::Attributes { user, info: &info }).await.0 == Decision::Allow {
            return true;
        }
    }
    false
}

fn asks_for_masters(request: &Value) -> bool {
    if signer_of(Some(request)) != CLIENT_SIGNER {
        return false;
    }
    let pem = STANDARD.decode(text(request, "/spec/request")).unwrap_or_default();
    let der = match rustls_pemfile::read_one_from_slice(&pem) {
        Ok(Some((rustls_pemfile::Item::Csr(der), _))) => der,
        _ => return false,
    };
    let Ok((_, csr)) = X509CertificationRequest::from_der(der.as_ref()) else { return false };
    csr.certification_request_info.subject.iter_organization().any(|o| o.as_str() == Ok("system:masters"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::authz::modes::Rbac;
    use crate::authz::rbac::{Index, Kind};

    fn csr(group: &str, signer: &str) -> Value {
        let mut params = CertificateParams::new(vec![]).expect("params");
        params.distinguished_name.push(DnType::OrganizationName, group);
        let pem =
            params.serialize_request(&KeyPair::generate().expect("key")).expect("csr").pem().expect("pem");
        json!({"spec": {"signerName": signer, "request": STANDARD.encode(pem)}})
    }

    #[test]
    fn no_masters_by_the_back_door() {
        assert!(asks_for_masters(&csr("system:masters", CLIENT_SIGNER)));
        assert!(!asks_for_masters(&csr("dev", CLIENT_SIGNER)));
        assert!(!asks_for_masters(&csr("system:masters", "example.com/x")));
        assert!(!asks_for_masters(&json!({"spec": {"signerName": CLIENT_SIGNER, "request": "rubbish"}})));
    }

    #[tokio::test]
    async fn rights_to_signers() {
        let index = Index::new();
        index.put(
            Kind::ClusterRole,
            &json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["approve"],
            "apiGroups": [GROUP], "resources": ["signers"], "resourceNames": ["a.b/c", "d.e/*"]}]}),
        );
        index.put(
            Kind::ClusterRoleBinding,
            &json!({"metadata": {"name": "b"},
            "subjects": [{"kind": "User", "name": "u"}], "roleRef": {"kind": "ClusterRole", "name": "r"}}),
        );
        let rbac = Rbac(std::sync::Arc::new(index));
        let user = UserInfo { name: "u".into(), ..UserInfo::default() };
        for (verb, signer, good) in [
            ("approve", "a.b/c", true),
            ("approve", "a.b/d", false),
            ("approve", "d.e/any", true),
            ("sign", "a.b/c", false),
        ] {
            assert_eq!(may(&rbac, &user, verb, signer).await, good, "{verb} {signer}");
        }
    }

    #[test]
    fn what_counts_as_signing() {
        let with = |status: Value| json!({"status": status});
        let bare = with(json!({}));
        assert!(signs(Some(&bare), Some(&with(json!({"certificate": "x"})))));
        assert!(signs(Some(&bare), Some(&with(json!({"conditions": [{"type": "Failed"}]})))));
        assert!(!signs(Some(&bare), Some(&with(json!({"conditions": [{"type": "Other"}]})))));
    }
}
