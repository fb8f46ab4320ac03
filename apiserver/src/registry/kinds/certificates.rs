//! Trust bundles and certificates for pods.

use super::certificate_signing_request::signer_name;
use crate::registry::errs::At;
use crate::registry::kind::{Kind, StatusMeta};
use crate::registry::rules::Rule;
use crate::registry::val::{at, s};
use crate::registry::validate::meta::NameRule;
use machinery::names;
use serde_json::Value;

/// Bundles of certificates to trust.
pub const CLUSTER_TRUST_BUNDLE: Kind = Kind {
    name: NameRule::Path,
    unconditional_update: false,
    rules: &[("spec.trustBundle", Rule::Required), ("spec.trustBundle", Rule::MaxLen(1024 * 1024))],
    validate: |new, _, errs| {
        if let Some(spec) = at(new, &["spec"]).filter(|spec| !s(spec, "signerName").is_empty()) {
            signer_name(s(spec, "signerName"), &At::ROOT.f("spec.signerName"), errs);
        }
    },
    fixed: &["spec.signerName"],
    ..Kind::of("certificates.k8s.io", "clustertrustbundles")
};

/// Requests for a pod's own certificate.
pub const POD_CERTIFICATE_REQUEST: Kind = Kind {
    status: true,
    status_meta: StatusMeta::Keep,
    unconditional_update: false,
    rules: &[
        ("spec.podName", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.serviceAccountName", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.nodeName", Rule::Form(names::is_dns1123_subdomain)),
        ("spec.podUID", Rule::Required),
        ("spec.podUID", Rule::MaxLen(128)),
        ("spec.serviceAccountUID", Rule::Required),
        ("spec.nodeUID", Rule::Required),
        ("spec.maxExpirationSeconds", Rule::Range(3600, 7_862_400)),
    ],
    validate: |new, _, errs| {
        let spec = at(new, &["spec"]).unwrap_or(&Value::Null);
        signer_name(s(spec, "signerName"), &At::ROOT.f("spec.signerName"), errs);
    },
    fixed: &["spec"],
    ..Kind::of("certificates.k8s.io", "podcertificaterequests")
};
